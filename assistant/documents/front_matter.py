"""Reads a document's front matter in YAML or TOML: id, title, labels, withdrawal and other keys.

    ---
    title: Fees of 2026
    labels: [controlled]
    valid until: 2026-12-31
    ---
    # Fees

The keys of ``KEYS`` are the document's fields; every other one ("valid until") is metadata. If a document has
no labels, the source's ``access`` decides who reads it (``sources``). All values of YAML are texts: "NO" is
not false and "2026-01-01" is no date.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from assistant.domain.documents import ItemFacts
from assistant.domain.errors import DocumentInvalidError

TEXT_KEYS = (
    *("id", "title", "source", "type", "url", "owner", "effective_date", "review_after"),
    *("labels", "questions", "withdrawn"),
)
"""Keys whose value can be a text, so that a ``<meta>`` of HTML can have them, too."""
KEYS = (*TEXT_KEYS, "item")
LONGEST_CHARACTERS = 64_000
"""Characters between the fences; a longer block is refused."""
_LABELS = "labels"
_WITHDRAWN = "withdrawn"
_ITEM = "item"
_SHARED_KEYS = ("url", "questions")
"""Keys that other publishers use too, in other forms: a ``url`` that is a path, or ``questions`` that are
mappings, are metadata and no error."""
RESTRICTING_KEYS = (_LABELS, _WITHDRAWN)
"""Keys that hide a document from readers."""
_ITEM_FIELDS = frozenset({"category", "brand", "price", "currency", "rating", "item number"})
"""Names of the lines that the data sheet of every item has. A property with such a name would add a second
line of that name, and tables would show the first line's value for it."""
_BOOLEANS = {"true": True, "false": False}
_ID_LINE = re.compile(r"(?m)^id:[ \t]*(?P<quote>[\"']?)(?P<id>[^\s\"'/?#]{1,256})(?P=quote)[ \t]*\r?$")
"""The line of the id, also in front matter that cannot be parsed: ``id: "fees-2026"``."""
_FENCE = re.compile(r"(---|\+\+\+)[ \t]*")
"""A line before and after front matter: --- for YAML, +++ for TOML."""
_KEY = re.compile(r"""[\w"'{][^:\n]{0,200}:(?:\s|$)|\?\s""")
"""A line that begins a mapping of YAML: "title: Fees", or "? " before a long key."""
_RESTRICTS = re.compile(rf"""["']?(?:{"|".join(RESTRICTING_KEYS)})["']?[ \t]*:""", re.I)
"""A line that restricts the readers: "labels: …" or "withdrawn: …", in any case and with quotes."""
_TITLE = re.compile(
    r"^(?P<key>(?:title|source|owner|type):[ \t]+)(?P<text>[^\s\"'\[{|>&*!%@`#][^\n]*)$", re.MULTILINE
)
"""A text that people write without quotes although it has a colon, which is not YAML: "title: Fees: night
desk". ``_quoted`` adds the quotes."""
LABEL_PATTERN = r"^\w[\w.:@/-]{0,63}$"
_LABEL = re.compile(LABEL_PATTERN)
_ADDRESS = re.compile(r"(https?://\S+)?")
"""An address, or an empty text: a key without a value."""
_LONGEST_FACT = 80
"""Characters of a value that readers see as a fact: longer ones are descriptions."""
_PLACE = re.compile(r"\S*/[^\d\s]")
"""The begin of an address or a path: "docs/fees.md", but not "10/2026"."""
_NULL = ("", "~", "null", "Null", "NULL")
"""How YAML writes no value, without quotes."""


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """A file's front matter and body."""

    meta: Mapping[str, object]
    """Value of each key of ``KEYS``: a text, texts, or None for an empty one; ``ItemFacts`` for ``item``."""
    metadata: dict[str, tuple[str, ...]]
    """Every other key, with all texts below it."""
    body: str
    facts: tuple[str, ...] = ()
    """Other keys with one short text that is no address, for readers: "valid until: 2026-12-31"."""


class FrontMatterError(DocumentInvalidError):
    """Front matter is invalid; ``line`` is the file's line."""

    def __init__(self, message: str, *, line: int) -> None:
        super().__init__(message)
        self.line = line


def read_front_matter(content: str) -> FrontMatter:
    """Split a Markdown file into front matter and body; without front matter, all of it is the body.

    Raises FrontMatterError, with the line of the file.
    """
    lines = re.split(r"\r\n|\r|\n", content)
    first = next((at for at, line in enumerate(lines) if line.strip()), None)
    fence = None if first is None else _FENCE.fullmatch(lines[first])
    if first is None or fence is None:
        return FrontMatter({}, {}, "\n".join(lines))
    after = range(first + 1, len(lines))
    end = next((at for at in after if lines[at].rstrip(" \t") == fence[1]), None)
    block = "\n".join(lines[first + 1 : end])
    if fence[1] == "---" and _is_body(lines[first + 1 : end]):
        return FrontMatter({}, {}, "\n".join(lines))
    if end is None:
        raise FrontMatterError(f"the front matter has no closing line of {fence[1]}", line=first + 1)
    if len(block) > LONGEST_CHARACTERS:
        too_long = f"the front matter is longer than {LONGEST_CHARACTERS:,} characters"
        raise FrontMatterError(too_long, line=first + 1)
    node = _yaml(block, line=first + 2) if fence[1] == "---" else _toml(block, line=first + 2)
    meta, metadata = _read_keys(node, line=first + 2)
    return FrontMatter(meta, metadata, "\n".join(lines[end + 1 :]), tuple(_facts(node, metadata)))


def _is_body(block: Sequence[str]) -> bool:
    """Return whether the lines after a first line of --- are text, so that this line is a rule and no fence.

    They are if the first of them has no key. A line of labels or ``withdrawn`` decides against it: a
    restriction must not be read as text.
    """
    first = next((line for line in block if line.strip() and line[0] != "#"), "")
    return bool(first) and not _KEY.match(first) and not any(_RESTRICTS.match(line.strip()) for line in block)


def labels_of(fields: Mapping[str, object]) -> Mapping[str, tuple[str, ...]]:
    """Return ``{"labels": …}``, sorted and without duplicates, from a list of texts or a text with commas.

    Return an empty mapping for a document without the key: that differs from an empty list of labels. Raises
    DocumentInvalidError for another type: an unreadable restriction must not count as none.
    """
    if _LABELS not in fields:
        return {}
    value = fields[_LABELS]
    value = value.split(",") if isinstance(value, str) else value
    parts = cast("Iterable[object]", value) if isinstance(value, list | tuple) else [value]
    labels = [part.strip() if isinstance(part, str) else part for part in parts]
    for label in labels:
        if not isinstance(label, str) or not _LABEL.fullmatch(label):
            problem = f"{label!r:.60} is no label. Write a list of names such as [controlled]"
            raise DocumentInvalidError(f"labels: {problem}, or [] for a document that every agent may read.")
    return {_LABELS: tuple(sorted({str(label) for label in labels}))}


def is_withdrawn(fields: Mapping[str, object]) -> bool:
    """Return the value of ``withdrawn``, by default False. Raises DocumentInvalidError."""
    value = fields.get(_WITHDRAWN, False)
    if isinstance(value, str) and value in _BOOLEANS:
        return _BOOLEANS[value]
    if isinstance(value, bool):
        return value
    problem = f"{value!r:.60} is neither true nor false"
    raise DocumentInvalidError(f"withdrawn: {problem}. Write withdrawn: true, or leave the key out.")


def item_of(fields: Mapping[str, object]) -> ItemFacts | None:
    """Return the field ``item``; None without it. Raises DocumentInvalidError, which names the fields."""
    value = fields.get(_ITEM)
    if value is None or isinstance(value, ItemFacts):
        return value
    try:
        item = ItemFacts.model_validate(value)
    except ValidationError as error:
        raise DocumentInvalidError("; ".join(_reason(fault) for fault in error.errors())) from None
    for _, fault in _names_taken(item):
        raise DocumentInvalidError(fault)
    return item


def readable_id(content: str) -> str | None:
    """Return the id of a file with invalid front matter: from its only line ``id: …``, if there is one."""
    head = content[:LONGEST_CHARACTERS]
    ids = {line["id"] for line in _ID_LINE.finditer(head)}
    return ids.pop() if len(ids) == 1 else None


def _yaml(block: str, *, line: int) -> yaml.Node | None:
    """Return the root node; None for an empty block. ``line``: the file's line of the block's first line.

    Raises FrontMatterError.
    """
    try:
        try:
            return yaml.compose(block, Loader=_LoaderWithoutAliases)
        except yaml.MarkedYAMLError:
            if (quoted := _TITLE.sub(_quoted, block)) == block:
                raise
            return yaml.compose(quoted, Loader=_LoaderWithoutAliases)
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark.line if error.problem_mark else 0
        raise FrontMatterError(f"the front matter is not YAML: {error.problem}", line=line + at) from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise FrontMatterError(f"the front matter cannot be read: {error}", line=line) from None


def _quoted(line: re.Match[str]) -> str:
    return f"{line['key']}{json.dumps(line['text'].rstrip(), ensure_ascii=False)}"


def _toml(block: str, *, line: int) -> yaml.Node | None:
    """Return TOML as a YAML node, by way of JSON, which is YAML too. JSON has one line, so errors in the
    values give the block's first line."""
    try:
        fields = tomllib.loads(block)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FrontMatterError(f"the front matter is not TOML: {error}", line=line) from None
    return _yaml(json.dumps(fields, ensure_ascii=False, default=str), line=line)


def _read_keys(node: yaml.Node | None, *, line: int) -> tuple[dict[str, object], dict[str, tuple[str, ...]]]:
    """Return the values of ``KEYS``, and all texts below each other key (``FrontMatter.meta``,
    ``.metadata``).

    Raises FrontMatterError for no mapping, and for a key of ``KEYS`` that occurs twice.
    """
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise FrontMatterError("the front matter is not a mapping of keys to values", line=line)
    meta: dict[str, object] = {}
    metadata: dict[str, tuple[str, ...]] = {}
    for key_node, value in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else " ".join(texts_below(key_node))
        if key not in KEYS or (key in _SHARED_KEYS and not _is_ours(key, value)):
            metadata[key] = (*metadata.get(key, ()), *texts_below(value))
        elif key in meta:
            at = line + key_node.start_mark.line
            raise FrontMatterError(f'the front matter says "{key}" twice', line=at)
        else:
            meta[key] = _item(value, line=line) if key == _ITEM else _texts(key, value, line=line)
    return meta, metadata


def _facts(node: Any, metadata: Mapping[str, object]) -> Iterator[str]:
    """Yield "valid until: 2026-12-31" for each key of ``metadata`` with one short text
    (``FrontMatter.facts``)."""
    for key, value in node.value if node is not None else ():
        is_text = isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
        text = " ".join(value.value.split()) if is_text and key.value in metadata else ""
        if text and len(text) <= _LONGEST_FACT and not _PLACE.match(text):
            yield f"{key.value}: {text}".replace("_", " ")


def _is_ours(key: str, value: yaml.Node) -> bool:
    """Return whether the value of a key of ``_SHARED_KEYS`` has our form: an address, a text or texts."""
    if key == "url":
        return isinstance(value, yaml.ScalarNode) and is_address(value.value)
    parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
    return all(isinstance(part, yaml.ScalarNode) for part in parts)


def is_address(text: str) -> bool:
    """Return whether a text is a whole http(s) address, or empty. Publishers also write paths ("/fees")."""
    return _ADDRESS.fullmatch(text.strip()) is not None


def texts_below(value: object) -> Iterator[str]:
    """Yield every text, also each part between commas, in a YAML node or a JSON value, keys included."""
    inner = value.value if isinstance(value, yaml.Node) else value
    if isinstance(inner, Mapping):
        inner = list(cast("Mapping[object, object]", inner).items())
    if isinstance(inner, list | tuple):
        for part in cast("Sequence[object]", inner):
            yield from texts_below(part)
    elif inner is not None:
        yield from (part.strip() for part in str(inner).split(","))


def _texts(key: str, node: Any, *, line: int) -> object:
    """Return the text of a key, or its list of texts; None for an empty value. Raises FrontMatterError."""
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not all(isinstance(item, yaml.ScalarNode) for item in items):
        at = line + node.start_mark.line
        problem = f'"{key}" is neither a text nor a list of texts'
        raise FrontMatterError(f"the front matter's {problem}", line=at)
    texts = [_text(item) for item in items]
    return texts if isinstance(node, yaml.SequenceNode) else texts[0]


def _item(node: yaml.Node, *, line: int) -> ItemFacts:
    """Return the item of the key ``item``. Raises FrontMatterError with the line of what is wrong in it."""
    values, lines = _nested(node, line=line, path=())
    try:
        item = ItemFacts.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = next((lines[path] for path in _prefixes(first["loc"]) if path in lines), line)
        raise FrontMatterError(_reason(first), line=where) from None
    for name, fault in _names_taken(item):
        raise FrontMatterError(fault, line=lines.get(("properties", name), line))
    return item


def _nested(
    node: yaml.Node, *, line: int, path: tuple[str, ...]
) -> tuple[dict[str, object], dict[tuple[str, ...], int]]:
    """Return the texts of a mapping and of mappings in it, without empty ones, and the line of each key's
    path.

    {"item_id": "a", "properties": {"size": "2 m"}} has the paths (), ("item_id",), ("properties",) and
    ("properties", "size"). ``path``: where this mapping is in the item, () for the item itself; deeper than
    one key is refused.
    """
    name, start = ".".join((_ITEM, *path)), line + node.start_mark.line
    if not isinstance(node, yaml.MappingNode) or len(path) > 1:
        raise FrontMatterError(f'the front matter\'s "{name}" is not a mapping of names to texts', line=start)
    values: dict[str, object] = {}
    lines: dict[tuple[str, ...], int] = {path: start}
    for key_node, value in node.value:
        at_line = line + key_node.start_mark.line
        key = cast(str, key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
        if not key or key in values:
            problem = f'says "{key}" twice' if key else "has a key that is no text"
            raise FrontMatterError(f'the front matter\'s "{name}" {problem}', line=at_line)
        lines[*path, key] = at_line
        if isinstance(value, yaml.ScalarNode):
            values[key] = _text(value)
        else:
            values[key], inside = _nested(value, line=line, path=(*path, key))
            lines |= inside
    return {key: value for key, value in values.items() if value is not None}, lines


def _prefixes(path: tuple[int | str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the path to a value, then the paths to what contains it: ("a", "b"), ("a",), ()."""
    keys = tuple(map(str, path))
    return (keys[:count] for count in range(len(keys), -1, -1))


def _reason(error: ErrorDetails) -> str:
    """Return "item.price: Field required" for a fault that pydantic found in the key ``item``."""
    return f"{'.'.join((_ITEM, *map(str, error['loc'])))}: {error['msg']}"


def _names_taken(item: ItemFacts) -> Iterator[tuple[str, str]]:
    """Yield each property whose name is in ``_ITEM_FIELDS``, like "Category", and the text of its error."""
    for name in item.properties:
        if " ".join(name.casefold().split()) in _ITEM_FIELDS:
            own = f'every item has a line "{name}" of its own, so tables would mix up the two'
            remedy = f'Give the property of {item.item_id} another name, like "{name} class"'
            yield name, f"item.properties.{name}: {own}. {remedy}, in the text as well."


def _text(node: yaml.ScalarNode) -> str | None:
    """Return the text; None for an unquoted empty value or null (``style`` is None without quotes)."""
    return None if node.style is None and node.value in _NULL else cast(str, node.value)


class _LoaderWithoutAliases(yaml.BaseLoader):
    """Refuses aliases: a few lines of them can expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = cast("Any", self).peek_event()
            raise yaml.MarkedYAMLError(problem="an alias is not supported", problem_mark=event.start_mark)
        return super().compose_node(parent, index)
