"""Tells what the keys of an export mean, by the shape of their values in all of its entries.

An export of a help desk calls its keys as its maker likes::

    {"ref": "BD-41", "head": "Dog tax", "txt": "<p>1st dog 96, 2nd 144.", "stage": "archived", "hits": 3}
    {"ref": "BD-42", "head": "Lost badge", "txt": "<p>A new one costs 12.", "stage": "live", "hits": 8}

The body is the key of the longest texts ("txt"), the id the first of words that all differ ("ref"), the title
one of short texts that differ ("head"), the state one of few words such as "archived" ("stage"). "hits" is a
count, which no reader needs. What is left over is shown in lines (docs/decisions/0163).
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from typing import cast

import orjson

from assistant.documents import files, front_matter
from assistant.documents.page import Block, Cell, Heading, Page, Paragraph, Table, plain
from assistant.domain.errors import DocumentInvalidError
from assistant.text.editions import is_over, says_in_force, says_state
from assistant.text.language import letters_of, word_groups

Entry = Mapping[str, object]
"""An object of an export, by its keys."""
OWN_BODIES = ("text", "answer", "markdown")
OWN_KEYS = frozenset({*front_matter.KEYS, *files.UNSHOWN_KEYS, "question", *OWN_BODIES})
_FEWEST_BODY_WORDS, _LONGEST_TITLE_WORDS, LONGEST_CELL_WORDS = 5, 15, 30
"""Words of most bodies, of a title, and of what may stand in a cell of a table."""
_TOKEN = re.compile(r"(?!\d{4}-\d\d-)[\w.-]{1,64}")
_NO_TITLE = re.compile(r"://|[@\n]|\.\Z|\A\d{4}-\d\d-")
_OF_SYSTEM = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S{0,20}|\d{10}|\d{13}|[a-z]{2}[-_][A-Za-z]{2}")
"""A moment at which a system did something, or a locale; a rule names a day."""
_NAME_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_OF_SYSTEM_NAME = re.compile(
    r"avatar|count|hash|hits|icon|id|image|logo|order|position|rank|score|slug|sum|views|votes"
)
"""Word in the name of a key whose numbers, codes or addresses say something of the system."""
_ID_NAME = re.compile(
    r"art|article|case|code|ean|gtin|id|isbn|key|nr|num|number|pzn|ref|reference|sku|slug|uu?id"
)
"""Word in the name of a key whose values name entries."""
_UNIT_NAMES = ("unit", "uom", "currency", "unit code", "currency code")
"""Name of a key whose text says what a number beside it counts."""
_INNER_TEXTS = ("rendered", "html", "value", "text", "content", "children")
"""Keys of a text inside of a key: ``"title": {"rendered": "Fees"}``, as WordPress has it."""


@dataclass(frozen=True, slots=True)
class ExportKeys:
    """What the keys of a file's entries mean."""

    read: Mapping[str, str]
    """Their key by ours: {"id": "ref", "title": "head", "text": "txt", "status": "stage"}."""
    unshown: frozenset[str] = frozenset()
    """Keys of the system, as counts and ids of other entries."""
    gaps: frozenset[str] = frozenset()
    """Keys that have a value in some entries and null in others, where it says "none"."""
    repeated: frozenset[str] = frozenset()
    """Titles (``title_in``) of several entries: an id needs the line too."""


# Files


def entries_of(content: bytes, *, sample: str | None) -> list[tuple[bytes, ExportKeys]]:
    """Return the entries, each as a line of JSON, and what their keys mean; none for a JSON file that is one
    document (``page_of``).

    ``content`` is a block of lines of a file that begins with ``sample``, or without it a JSON file. Raises
    DocumentInvalidError for a JSON file that is neither.
    """
    if sample is not None:
        keys = _keys_of_sample(sample)
        return [(line, keys) for line in content.split(b"\n")]
    entries, about = _entries_of(data_of(content))
    keys = _keys_of(entries)
    return [(json.dumps({**entry, **about, **entry}).encode(), keys) for entry in entries]


def data_of(content: bytes) -> object:
    """Return the value of a JSON file. Raises DocumentInvalidError."""
    try:
        return json.loads(content.removeprefix(b"\xef\xbb\xbf"), object_pairs_hook=files.unique_keys)
    except ValueError as error:
        raise DocumentInvalidError(f"not JSON: {error}") from None
    except RecursionError:
        raise DocumentInvalidError("it has too many objects inside each other") from None


@lru_cache(maxsize=1)
def _keys_of_sample(lines: str) -> ExportKeys:
    """Return what the keys of the entries in the first lines of a file mean. All blocks of the file ask for
    it, and each line of a block that stopped the process."""
    with suppress(RecursionError):  # of a line with too many objects inside each other
        return _keys_of([*_entries_in(lines)])
    return ExportKeys({})


def _entries_in(lines: str) -> Iterator[Entry]:
    """Yield the objects in lines. Other lines are refused when they are read."""
    for line in lines.split("\n"):
        with suppress(orjson.JSONDecodeError):
            if isinstance(data := orjson.loads(line.removeprefix("\ufeff")), dict):
                yield cast(Entry, data)


def _entries_of(data: object) -> tuple[list[Entry], Entry]:
    """Return the entries of a JSON file, and what stands beside them and belongs to each.

    They are those of a list of objects, or of the only such list that an object has; an object of texts alone
    is an entry. An object with several lists, or with objects in it, is one document, and has no entries.

    Raises DocumentInvalidError for articles beside other lists, of which nothing says what belongs to what,
    and for labels beside entries: they may be meant to restrict all of them.
    """
    fields: Entry = cast(Entry, data) if isinstance(data, Mapping) else {"": data}
    lists = {key: entries for key, value in fields.items() if (entries := _objects_in(value))}
    about = {key: value for key, value in fields.items() if key not in lists and says_something(value)}
    if isinstance(data, Mapping) and not any(map(_is_nested, fields.values())):
        return [fields], {}
    if len(lists) != 1 or any(isinstance(value, Mapping) for value in about.values()):
        if not isinstance(data, Mapping) or _has_articles(fields):
            raise DocumentInvalidError("it is not one list of entries, each with a title and a text")
        return [], {}
    for key in about:
        if letters_of(key) in front_matter.RESTRICTING_KEYS:
            raise DocumentInvalidError(f'"{key:.60}" is beside the entries. Write it in each entry.')
    dated = {key: about.pop(key) for key in [*about] if says_in_force(key) and not says_state(key)}
    return next(iter(lists.values())), {**dated, "about": about} if about else dated


def _has_articles(value: object) -> bool:
    """Return whether most objects of a list in a value have a long text: they are documents, and no rows."""
    rows = _objects_in(value)
    parts = cast(Entry, value).values() if isinstance(value, Mapping) else rows
    longest = (max((len(text_in(text).split()) for text in row.values()), default=0) for row in rows)
    is_own = 2 * sum(words > LONGEST_CELL_WORDS for words in longest) > len(rows)
    return is_own or any(map(_has_articles, parts))


def _objects_in(value: object) -> list[Entry]:
    """Return the objects of a list that has nothing else."""
    each = cast("list[object]", value) if isinstance(value, list) else []
    return [cast(Entry, part) for part in each] if all(isinstance(part, Mapping) for part in each) else []


def page_of(data: Entry) -> Page:
    """Return the page of a JSON file that is one document: what is in an object or a list below its key as a
    heading, a list of objects as a table, everything else in lines.

    Raises DocumentInvalidError for a key that may be meant to restrict the readers of a part.
    """
    blocks: list[Block] = []
    for key, value in sorted(data.items(), key=lambda pair: _is_nested(pair[1])):  # lines before headings
        if _is_nested(value):
            blocks.append(Heading(2, plain(key.replace("_", " "))))
        if (rows := _objects_in(value)) and (table := _table_of(rows)):
            blocks.append(table)
        else:
            blocks += [Paragraph(plain(line)) for line in lines_of(key, value)]
    if restricting := _restricting_in(data):
        raise DocumentInvalidError(f'"{restricting:.60}" is in a part of it. Write a list of entries.')
    return Page(tuple(blocks))


def _table_of(rows: Sequence[Entry]) -> Table | None:
    """Return the table of objects with the same keys, which are its names; None where they have few in
    common."""
    names = {key: None for row in rows for key in row}
    if 2 * sum(map(len, rows)) < len(names) * len(rows):
        return None
    texts = [[key.replace("_", " ") for key in names]]
    texts += [["; ".join(lines_of("", row[key])) if key in row else "" for key in names] for row in rows]
    cells = (tuple(Cell((Paragraph(plain(text)),) if text else ()) for text in row) for row in texts)
    return Table(tuple(cells), header_rows=1)


def _restricting_in(value: object) -> str:
    """Return a key in a value that restricts readers; "" without one."""
    fields: Entry = cast(Entry, value) if isinstance(value, Mapping) else {}
    parts = cast("list[object]", value) if isinstance(value, list) else [*fields.values()]
    keys = (key for key in fields if letters_of(key) in front_matter.RESTRICTING_KEYS)
    inner = (_restricting_in(part) for part in parts)
    return next(filter(None, [*keys, *inner]), "")


# Keys


def _keys_of(entries: Sequence[Entry]) -> ExportKeys:
    """Return what the keys of entries mean."""
    values = defaultdict[str, list[object]](list)
    for entry in entries:
        for key, value in entry.items():
            if says_something(value):
                values[key].append(value)
    texts = {key: [text for value in each if (text := text_in(value))] for key, each in values.items()}
    free = [key for key in texts if key not in OWN_KEYS and not says_in_force(key)]
    left = {key: texts[key] for key in free if 2 * len(texts[key]) >= len(entries)}
    read: dict[str, str] = {}
    for ours, others, rank in _CHOICES:
        ranks = {key: rank(each) for key, each in left.items() if ours != "id" or _may_be_id(key, each)}
        if any(2 * len(values.get(own, ())) >= len(entries) for own in (ours, *others)):
            read[ours] = ours
        elif any(ranks.values()):
            read[ours] = max(ranks, key=lambda key: ranks[key])
            del left[read[ours]]
    ids = {*texts.get(read.get("id", ""), ())}
    unshown = [key for key, each in values.items() if _is_of_system(key, each, ids)]
    unshown += [key for key, each in values.items() if _is_state(key, each, len(entries))]
    gaps = {
        key for entry in entries for key in values if entry.get(key, "") is None and not says_in_force(key)
    }
    titles = Counter(title_in(entry, read) for entry in entries)
    repeated = frozenset(title for title, count in titles.items() if count > 1)
    return ExportKeys(read, frozenset(unshown), frozenset(gaps), repeated)


def title_in(entry: Entry, read: Mapping[str, str]) -> str:
    """Return the title of an entry: below the key that has it, else the begin of its first text."""
    own = (text_in(entry.get(read.get(ours, ours))) for ours in ("title", "question"))
    texts = (value for value in entry.values() if isinstance(value, str) and _has_words(value))
    first = next(texts, "").split()
    more = "…" * (len(first) > _LONGEST_TITLE_WORDS)
    return next(filter(None, own), " ".join(first[:_LONGEST_TITLE_WORDS]) + more)


def _has_words(text: str) -> bool:
    return any(map(str.isalpha, text)) and text not in word_groups("currencies")["codes"]


def _body_rank(texts: Sequence[str]) -> int:
    words = [len(text.split()) for text in texts]
    return sum(words) if 2 * sum(number >= _FEWEST_BODY_WORDS for number in words) > len(words) else 0


def _may_be_id(key: str, texts: Sequence[str]) -> bool:
    """Return whether a key is called as one of ids is, or has codes: bare numbers and words may be facts."""
    is_named = any(_ID_NAME.fullmatch(word.lower()) for word in _NAME_WORDS.findall(key))
    return is_named or all(any(map(str.isalpha, text)) and not text.isalpha() for text in texts)


def _id_rank(texts: Sequence[str]) -> bool:
    return len({*texts}) == len(texts) and all(map(_TOKEN.fullmatch, texts))


def _title_rank(texts: Sequence[str]) -> int:
    """Return 2 for texts of several words, 1 for single words, 0 for no titles. An archived entry may have
    the title of its successor."""
    titles = {*filter(_is_title, texts)}
    are_words = 2 * sum(" " in text for text in titles) > len(titles)
    return (1 + are_words) * (2 * len(titles) >= len(texts))


def _is_title(text: str) -> bool:
    is_short = len(text.split()) <= _LONGEST_TITLE_WORDS
    return is_short and _has_words(text) and not _NO_TITLE.search(text)


def _address_rank(texts: Sequence[str]) -> bool:
    return len({*texts}) == len(texts) and all(map(front_matter.is_address, texts))


def _state_rank(texts: Sequence[str]) -> bool:
    return 2 * len({*texts}) <= len(texts) and any(map(is_over, texts))


_CHOICES: tuple[tuple[str, tuple[str, ...], Callable[[Sequence[str]], int]], ...] = (
    ("text", OWN_BODIES, _body_rank),
    ("id", (), _id_rank),
    ("title", ("question",), _title_rank),
    ("url", (), _address_rank),
    ("status", (), _state_rank),
)
"""A key of ours, those that are in its place, and how well texts of a key fit it: the first best is read."""


def _is_of_system(key: str, values: Sequence[object], ids: set[str]) -> bool:
    """Return whether a key says something of the system and nothing of the subject: a count, the id of
    another entry, a moment, a locale, a switch that is the same in all."""
    texts = [text for value in values for text in front_matter.texts_below(value)]
    is_switch = len(texts) > 1 and {*texts} in ({"True"}, {"False"})
    is_named = any(_OF_SYSTEM_NAME.fullmatch(word.lower()) for word in _NAME_WORDS.findall(key))
    is_code = is_named and all(any(map(str.isdigit, text)) and " " not in text for text in texts)
    is_known = all(text in ids or _OF_SYSTEM.fullmatch(text) for text in texts)
    return key.startswith("_") or is_switch or is_code or is_known


def _is_state(key: str, values: Sequence[object], entries: int) -> bool:
    """Return whether a key says whether a document is in force, and is no state of a thing ("sold out"): it
    is a switch, one of its values is a word such as "archived", or all entries have the same."""
    texts = [*map(text_in, values)]  # "" of a switch
    is_same = len(texts) == entries and len({*texts}) == 1
    return says_state(key) and (is_same or not all(texts) or any(map(is_over, texts)))


# Texts and lines of values


def says_something(value: object) -> bool:
    return value not in (None, "", [], {})


def text_in(value: object) -> str:
    """Return the text of a value: of a text or a number, of an object around one, or of a list of such
    objects, each on its lines; "" for any other value."""
    if isinstance(value, Mapping):
        inner = (text_in(cast(Entry, value).get(key)) for key in _INNER_TEXTS)
        return next(filter(None, inner), "")
    if isinstance(value, list):
        parts = cast("list[object]", value)
        texts = [text_in(cast(Entry, part)) if isinstance(part, Mapping) else "" for part in parts]
        return "\n".join(texts) if all(texts) else ""
    return files.text_field(value) or ""


def lines_of(name: str, value: object) -> Iterator[str]:
    """Yield what a key says in lines: "plans > Base: sessions: 6; copay eur: 14" of {"plans": {"Base":
    {"sessions": 6, "copay_eur": 14}}}. Long texts of an object have lines of their own. A value that is null
    in an object is "none"."""
    is_object = isinstance(value, Mapping) and not _quantity(cast(object, value))
    parts: list[tuple[str, object]] = [("", value)]
    if is_object:
        parts = [(key.replace("_", " "), part) for key, part in cast(Entry, value).items()]
    elif isinstance(value, list) and value:
        parts = [("", part) for part in cast("list[object]", value)]
    name = name.replace("_", " ")
    flat = [(key, _written(part)) for key, part in parts if not _is_nested(part)]
    begin = f"{name}: " if name else ""
    if is_object and any("; " in text or len(text.split()) > _LONGEST_TITLE_WORDS for _, text in flat):
        yield from (f"{name} > {key}: {text}" for key, text in flat)
    elif flat:
        texts = [f"{key}: {text}" if key else text for key, text in flat]
        yield begin + ("; " if is_object or any(", " in text for text in texts) else ", ").join(texts)
    for key, part in parts:
        if _is_nested(part):
            yield from lines_of(" > ".join(filter(None, (name, key))), part)


def _is_nested(value: object) -> bool:
    is_inner = isinstance(value, Mapping | list) and says_something(cast(object, value))
    return is_inner and not _quantity(cast(object, value))


def _quantity(value: object) -> str:
    """Return the number and the unit of an object that has nothing else: "18.5 EUR" of {"amount": 18.5,
    "currency": "EUR"}; "" for any other value."""
    fields: Entry = cast(Entry, value) if isinstance(value, Mapping) else {}
    parts = sorted(fields.items(), key=lambda part: _is_unit(part[0]))
    texts = [f"{text}".strip() for _, text in parts]
    is_one = len(parts) == 2 and isinstance(parts[0][1], int | float) and isinstance(parts[1][1], str)
    return " ".join(texts) if is_one and _is_unit(parts[1][0]) else ""


def _is_unit(name: str) -> bool:
    return f" {name}".casefold().replace("_", " ").endswith(tuple(f" {each}" for each in _UNIT_NAMES))


def _written(value: object) -> str:
    text = _quantity(value) or str(value).strip()
    return {"None": "none", "[]": "none", "{}": "none", "True": "yes", "False": "no"}.get(text, text)
