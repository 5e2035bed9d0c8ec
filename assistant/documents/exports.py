"""Tells what the keys of an export mean, by the shape of their values in all of its entries.

An export of a help desk calls its keys as its maker likes::

    {"ref": "BD-41", "head": "Dog tax", "txt": "<p>1st dog 96, 2nd 144.", "stage": "archived", "hits": 3}
    {"ref": "BD-42", "head": "Lost badge", "txt": "<p>A new one costs 12.", "stage": "live", "hits": 8}

The body is the key of the longest texts ("txt"), the title one of short texts that differ ("head"), the id
one of words that all differ ("ref"), the state one of few words such as "archived" ("stage"). Usual names
come before shapes (``items``). "hits" is a count, which no reader needs. What is left over is shown in lines.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, cast

from assistant.documents.files import ExportKeys, text_field
from assistant.documents.front_matter import RESTRICTING_KEYS
from assistant.domain.errors import DocumentInvalidError
from assistant.text.editions import is_over, says_in_force
from assistant.text.language import letters_of

Entry = Mapping[str, object]
_FEWEST_BODY_WORDS, _LONGEST_TITLE_WORDS = 4, 15
"""Words of the longest text of a body, and of a title on average."""
_DIFFERENT = 0.6
"""Share of the titles that differ: an archived entry has the title of its successor."""
_MOST_STATES = 8
_TOKEN = re.compile(r"[\w.-]{1,64}")
_DAY = re.compile(r"\d{4}-\d\d-\d\d|\d{1,2}[./]\d{1,2}[./]\d{2,4}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d\S{0,20}|\d{10}|\d{13}")
"""When a system did something; a rule names a day."""
_NO_TITLE = re.compile(rf"://|@|^(?:{_DAY.pattern})")
_OF_FILE = re.compile(rf"://|^(?:{_DAY.pattern}|[a-z]+$|[\d.]+$)")
"""A text beside the entries that is not about them."""
_LOCALE = re.compile(r"[a-z]{2}(?:[-_][A-Za-z]{2})?")
_NAME_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
_OF_SYSTEM = re.compile(
    r"avatar|count|hash|hits|icon|id|image|logo|order|position|rank|score|slug|sum|views|votes"
)
"""Word in the name of a key whose numbers, codes or addresses say something of the system."""
_INNER_TEXTS = ("rendered", "html", "value", "text")
"""Keys of a text inside of a key: ``"title": {"rendered": "Fees"}``, as WordPress has it."""
_OF_BLOCKS = frozenset(["type", "kind", "id", "style", "level", "attrs", "marks", "align", "version"])
"""Keys of a block of text that say what it is."""


def entries_in(data: object) -> list[list[Entry]]:
    """Return the lists of entries in the data of a JSON file; an object with a text is one entry."""
    found = _lists_in(data)
    if found or not isinstance(data, Mapping):
        return found
    fields = cast(Entry, data)
    has_text = any(len(text_in(value).split()) >= _FEWEST_BODY_WORDS for value in fields.values())
    return [[fields]] if has_text else []


def _lists_in(data: object) -> list[list[Entry]]:
    """Return the lists of objects in data, and objects by their ids as such a list. An object with a long
    text is an entry, whose lists are not looked at. Texts beside a list are about its entries.

    Raises DocumentInvalidError for labels beside entries: they may be meant to restrict all of them.
    """
    if isinstance(data, list):
        entries = [cast(Entry, each) for each in cast("list[object]", data) if isinstance(each, Mapping)]
        return [entries] if entries else []
    fields: Entry = cast(Entry, data) if isinstance(data, Mapping) else {}
    texts = {key: value for key, value in fields.items() if isinstance(value, str)}
    if any(len(text.split()) >= _LONGEST_TITLE_WORDS for text in texts.values()):
        return []
    if len(fields) > 1 and all(isinstance(value, Mapping) for value in fields.values()):
        return [[{"id": key, **cast(Entry, value)} for key, value in fields.items()]]
    about = {key: text for key, text in texts.items() if not _OF_FILE.search(text)}
    found = [entries for value in fields.values() for entries in _lists_in(value)]
    for key in fields if found else ():
        if letters_of(key) in RESTRICTING_KEYS:
            raise DocumentInvalidError(f'"{key:.60}" is beside the entries. Write it in each entry.')
    return [[{**entry, "about": about} for entry in entries] for entries in found] if about else found


def keys_of(entries: Sequence[Entry], known: Callable[[Entry], Mapping[str, str]]) -> ExportKeys:
    """Return what the keys of entries mean. ``known``: those of one entry that its names tell, by ours."""
    named = [known(entry) for entry in entries]
    taken = {key for keys in named for key in keys.values()}
    values = defaultdict[str, list[object]](list)
    for key, value in chain.from_iterable(entry.items() for entry in entries):
        if key not in taken and not says_in_force(key) and value not in (None, "", [], {}):
            values[key].append(value)
    shapes = {key: _Shape.of(texts) for key, texts in values.items()}
    most = max(map(len, values.values()), default=0)
    read: dict[str, str] = {}
    for ours, others, fit, least in _CHOICES:
        are_known = sum(not keys.keys().isdisjoint((ours, *others)) for keys in named)
        fits = {
            key: fit(shape)
            for key, shape in shapes.items()
            if key not in read.values() and len(values[key]) >= least * most
        }
        if 2 * are_known < len(entries) and any(fits.values()):
            read[ours] = max(fits, key=lambda key: fits[key])
    keys = [{**read, **each} for each in named]
    ids, titles = (
        [text_in(entry.get(each.get(ours, ""))) for entry, each in zip(entries, keys, strict=True)]
        for ours in ("id", "title")
    )
    unshown = [key for key, each in values.items() if _is_of_system(key, each, {*ids} - {""})]
    by_title: Literal["title", "place"] = "title" if len({*titles}) == len(entries) else "place"
    return ExportKeys(read, tuple(unshown), "id" if any(ids) else by_title)


@dataclass(frozen=True, slots=True)
class _Shape:
    """What the values of a key have in common, over all entries that have it. A number says how well it
    fits."""

    body: int
    title: int
    id: int
    state: int

    @classmethod
    def of(cls, values: Sequence[object]) -> _Shape:
        texts = [text_in(value) for value in values]
        words, different = [len(text.split()) for text in texts], len({*texts})
        is_flat = all(isinstance(value, str | int | Mapping) and value is not True for value in values)
        are_tokens = all(map(_TOKEN.fullmatch, texts)) and not any(map(_DAY.match, texts))
        is_title = (
            is_flat
            and sum(words) <= _LONGEST_TITLE_WORDS * len(words)
            and different >= _DIFFERENT * len(texts)
            and all(any(map(str.isalpha, text)) and not _NO_TITLE.search(text) for text in texts)
            and 2 * sum(text.endswith(".") for text in texts) <= len(texts)
        )
        has_digits = all(any(map(str.isdigit, text)) for text in texts)
        is_id = is_flat and are_tokens and different == len(texts)
        return cls(
            body=sum(words) if max(words) >= _FEWEST_BODY_WORDS else 0,
            # rather of several words than of one, and rather of one than a code
            title=is_title
            * (1 + 2 * (2 * sum(" " in text for text in texts) > len(texts)) + (not has_digits)),
            id=is_id * (1 + has_digits),
            state=are_tokens and different <= _MOST_STATES and any(map(is_over, texts)),
        )


_CHOICES: tuple[tuple[str, tuple[str, ...], Callable[[_Shape], int], float], ...] = (
    ("text", ("answer", "markdown"), lambda shape: shape.body, 0.0),
    ("title", ("question",), lambda shape: shape.title, 0.5),
    ("id", (), lambda shape: shape.id, 1.0),
    ("status", (), lambda shape: shape.state, 0.0),
)
"""A key of ours, those that are in its place, how well a shape fits it, and the least share of entries with
it."""


def _is_of_system(key: str, values: Sequence[object], ids: set[str]) -> bool:
    """Return whether a key says something of the system and nothing of the subject: a count, the id of
    another entry, a moment, a language, a switch that is the same in all."""
    lists = (cast("list[object]", value) if isinstance(value, list) else [value] for value in values)
    texts = [text_in(part) for parts in lists for part in parts]
    is_named = any(_OF_SYSTEM.fullmatch(word.lower()) for word in _NAME_WORDS.findall(key))
    is_switch = len(values) > 1 and (values == [True] * len(values) or values == [False] * len(values))
    return (
        key.startswith("_")
        or is_switch
        or (is_named and all(any(map(str.isdigit, text)) and " " not in text for text in texts))
        or all(_MOMENT.fullmatch(text) or text in ids for text in texts)
        or all(map(_LOCALE.fullmatch, texts))
    )


# Texts and lines of values


def text_in(value: object) -> str:
    """Return the text of a value: of a text or a number, of an object around one, or of a list of blocks,
    each on its lines; "" for none."""
    if isinstance(value, Mapping):
        fields = cast(Entry, value)
        inner = next((text for key in _INNER_TEXTS if (text := text_in(fields.get(key)))), "")
        below = (text_in(part) for key, part in fields.items() if key not in _OF_BLOCKS)
        return inner or "\n".join(filter(None, below))
    if not isinstance(value, list):
        return text_field(value) or ""
    parts = cast("list[object]", value)
    texts = [text_in(part) for part in parts]
    if parts and all(isinstance(part, Mapping) and cast(Entry, part).get("type") == "text" for part in parts):
        return "".join(str(cast(Entry, part).get("text") or "") for part in parts)  # words of one line
    if any(isinstance(part, list) for part in parts):  # rows of a table
        return "\n".join(
            f"| {' | '.join(map(text_in, cast('list[object]', row)))} |"
            for row in parts
            if isinstance(row, list)
        )
    return "\n".join(filter(None, texts))


def lines_of(name: str, value: object) -> Iterator[str]:
    """Yield what a key says in lines: "plans > Base: sessions: 6; copay eur: 14" of {"plans": {"Base":
    {"sessions": 6, "copay_eur": 14}}}. A value that is null in an object is "none"."""
    parts: list[tuple[str, object]] = [("", value)]
    if isinstance(value, Mapping):
        parts = [(key.replace("_", " "), part) for key, part in cast(Entry, value).items()]
    elif isinstance(value, list):
        parts = [("", part) for part in cast("list[object]", value)]
    flat = [(key, _written(part)) for key, part in parts if not isinstance(part, Mapping | list)]
    if flat:
        texts = (f"{key}: {text}" if key else text for key, text in flat)
        yield f"{name.replace('_', ' ')}: {('; ' if isinstance(value, Mapping) else ', ').join(texts)}"
    for key, part in parts:
        if isinstance(part, Mapping | list):
            yield from lines_of(f"{name} > {key}" if key else name, cast(object, part))


def _written(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return str(value).strip()
