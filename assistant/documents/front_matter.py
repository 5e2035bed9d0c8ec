"""Reads a document's front matter in YAML or TOML: id, title, labels, withdrawal and other keys.

Other keys are metadata. Where a document carries no labels, the source's ``access`` decides (``sources``).
All values of YAML are texts: its types (``NO``, ``2026-01-01``) do not apply.
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

KEYS = (
    *("id", "title", "source", "type", "url", "owner", "effective_date", "review_after"),
    *("labels", "questions", "withdrawn", "item"),
)
LONGEST_CHARACTERS = 64_000
_LABELS = "labels"
_WITHDRAWN = "withdrawn"
_ITEM = "item"
_OFTEN_FOREIGN = ("url", "questions")
"""Keys that other publishers use as well: what is not of our form is metadata."""
RESTRICTING_KEYS = (_LABELS, _WITHDRAWN)
"""Keys that hide a document from readers."""
_OWN_FIELDS = frozenset({"category", "brand", "price", "currency", "rating", "item number"})
"""Names of lines that a data sheet has of the item's own fields. A property of the same name would be a
second line of that name, and tables would show the first one's value for it."""
_BOOLEANS = {"true": True, "false": False}
_ID_LINE = re.compile(r"(?m)^id:[ \t]*(?P<quote>[\"']?)(?P<id>[^\s\"'/?#]{1,256})(?P=quote)[ \t]*\r?$")
_FENCE = re.compile(r"(---|\+\+\+)[ \t]*")
"""A line before and after front matter: --- for YAML, +++ for TOML."""
_KEY = re.compile(r"""[\w"'{][^:\n]{0,200}:(?:\s|$)|\?\s""")
"""A line that begins a mapping of YAML."""
_RESTRICTS = re.compile(rf"""["']?(?:{"|".join(RESTRICTING_KEYS)})["']?[ \t]*:""", re.I)
_TITLE = re.compile(
    r"^(?P<key>(?:title|source|owner|type):[ \t]+)(?P<text>[^\s\"'\[{|>&*!%@`#][^\n]*)$", re.MULTILINE
)
"""A text that people write without quotes, also where it has a colon: "title: Fees: night desk"."""
LABEL_PATTERN = r"^\w[\w.:@/-]{0,63}$"
_LABEL = re.compile(LABEL_PATTERN)
_ADDRESS = re.compile(r"(https?://\S+)?")
_LONGEST_FACT = 80
_PLACE = re.compile(r"\S*/[^\d\s]")
_NULL = ("", "~", "null", "Null", "NULL")


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
    """Split a Markdown file. Raises FrontMatterError."""
    lines = re.split(r"\r\n|\r|\n", content)
    first = next((at for at, line in enumerate(lines) if line.strip()), None)
    fence = None if first is None else _FENCE.fullmatch(lines[first])
    if first is None or fence is None:
        return FrontMatter({}, {}, "\n".join(lines))
    after = range(first + 1, len(lines))
    end = next((at for at in after if lines[at].rstrip(" \t") == fence[1]), None)
    block = "\n".join(lines[first + 1 : end])
    if fence[1] == "---" and _is_text(lines[first + 1 : end]):
        return FrontMatter({}, {}, "\n".join(lines))
    if end is None:
        raise FrontMatterError(f"the front matter has no closing line of {fence[1]}", line=first + 1)
    if len(block) > LONGEST_CHARACTERS:
        too_long = f"the front matter is longer than {LONGEST_CHARACTERS:,} characters"
        raise FrontMatterError(too_long, line=first + 1)
    node = _yaml(block, line=first + 2) if fence[1] == "---" else _toml(block, line=first + 2)
    meta, metadata = _read_keys(node, line=first + 2)
    return FrontMatter(meta, metadata, "\n".join(lines[end + 1 :]), tuple(_facts(node, metadata)))


def _is_text(block: Sequence[str]) -> bool:
    """Return whether the lines after a line of --- are text, and that line a rule: the first says no key, and
    none restricts the document's readers."""
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
    own = _own_field_among(item.properties)
    if own is not None:
        raise DocumentInvalidError(_renamed(own, item))
    return item


def readable_id(content: str) -> str | None:
    """Return the id of a file with invalid front matter: from its only line ``id: …``, if there is one."""
    head = content[:LONGEST_CHARACTERS]
    found = {found["id"] for found in _ID_LINE.finditer(head)}
    return found.pop() if len(found) == 1 else None


def _yaml(block: str, *, line: int) -> yaml.Node | None:
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
    """Return TOML as YAML: as JSON, which is YAML too. All its lines are the first."""
    try:
        fields = tomllib.loads(block)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise FrontMatterError(f"the front matter is not TOML: {error}", line=line) from None
    return _yaml(json.dumps(fields, ensure_ascii=False, default=str), line=line)


def _read_keys(node: yaml.Node | None, *, line: int) -> tuple[dict[str, object], dict[str, tuple[str, ...]]]:
    """Return what is read by its key, and all texts below each other key."""
    if node is None:
        return {}, {}
    if not isinstance(node, yaml.MappingNode):
        raise FrontMatterError("the front matter is not a mapping of keys to values", line=line)
    meta: dict[str, object] = {}
    metadata: dict[str, tuple[str, ...]] = {}
    for key_node, value in node.value:
        key = key_node.value if isinstance(key_node, yaml.ScalarNode) else " ".join(texts_below(key_node))
        if key not in KEYS or (key in _OFTEN_FOREIGN and not _is_ours(key, value)):
            metadata[key] = (*metadata.get(key, ()), *texts_below(value))
        elif key in meta:
            at = line + key_node.start_mark.line
            raise FrontMatterError(f'the front matter says "{key}" twice', line=at)
        else:
            meta[key] = _item(value, line=line) if key == _ITEM else _texts(key, value, line=line)
    return meta, metadata


def _facts(node: Any, metadata: Mapping[str, object]) -> Iterator[str]:
    for key, value in node.value if node is not None else ():
        is_text = isinstance(key, yaml.ScalarNode) and isinstance(value, yaml.ScalarNode)
        text = " ".join(value.value.split()) if is_text and key.value in metadata else ""
        if text and len(text) <= _LONGEST_FACT and not _PLACE.match(text):
            yield f"{key.value}: {text}".replace("_", " ")


def _is_ours(key: str, value: yaml.Node) -> bool:
    if key == "url":
        return isinstance(value, yaml.ScalarNode) and is_address(value.value)
    parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
    return all(isinstance(part, yaml.ScalarNode) for part in parts)


def is_address(text: str) -> bool:
    """Return whether a text is the whole address of an original; publishers also write paths."""
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
    items = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not all(isinstance(item, yaml.ScalarNode) for item in items):
        at = line + node.start_mark.line
        problem = f'"{key}" is neither a text nor a list of texts'
        raise FrontMatterError(f"the front matter's {problem}", line=at)
    texts = [_text(item) for item in items]
    return texts if isinstance(node, yaml.SequenceNode) else texts[0]


def _item(node: yaml.Node, *, line: int) -> ItemFacts:
    """Return the item of the key ``item``. Raises FrontMatterError with the line of what is wrong in it."""
    values, lines = _nested(node, line=line, at=())
    try:
        item = ItemFacts.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = next((lines[path] for path in _prefixes(first["loc"]) if path in lines), line)
        raise FrontMatterError(_reason(first), line=where) from None
    own = _own_field_among(item.properties)
    if own is not None:
        raise FrontMatterError(_renamed(own, item), line=lines.get(("properties", own), line))
    return item


def _nested(
    node: yaml.Node, *, line: int, at: tuple[str, ...]
) -> tuple[dict[str, object], dict[tuple[str, ...], int]]:
    """Return the texts of a mapping and of mappings in it, without empty ones, and the line of each key."""
    name, start = ".".join((_ITEM, *at)), line + node.start_mark.line
    if not isinstance(node, yaml.MappingNode) or len(at) > 1:
        raise FrontMatterError(f'the front matter\'s "{name}" is not a mapping of names to texts', line=start)
    values: dict[str, object] = {}
    lines: dict[tuple[str, ...], int] = {at: start}
    for key_node, value in node.value:
        where = line + key_node.start_mark.line
        key = cast(str, key_node.value) if isinstance(key_node, yaml.ScalarNode) else ""
        if not key or key in values:
            problem = f'says "{key}" twice' if key else "has a key that is no text"
            raise FrontMatterError(f'the front matter\'s "{name}" {problem}', line=where)
        lines[*at, key] = where
        if isinstance(value, yaml.ScalarNode):
            values[key] = _text(value)
        else:
            values[key], inside = _nested(value, line=line, at=(*at, key))
            lines |= inside
    return {key: value for key, value in values.items() if value is not None}, lines


def _prefixes(path: tuple[int | str, ...]) -> Iterator[tuple[str, ...]]:
    """Yield the path to a value, then the paths to what it is in."""
    keys = tuple(map(str, path))
    return (keys[:count] for count in range(len(keys), -1, -1))


def _reason(error: ErrorDetails) -> str:
    return f"{'.'.join((_ITEM, *map(str, error['loc'])))}: {error['msg']}"


def _own_field_among(names: Iterable[str]) -> str | None:
    """Return the first property that has the name of a field of items, like "Category"; None without one."""
    return next((name for name in names if " ".join(name.casefold().split()) in _OWN_FIELDS), None)


def _renamed(name: str, item: ItemFacts) -> str:
    """Return what is wrong with a property of a field's name, and what to do."""
    problem = (
        f'item.properties.{name}: every item has a line "{name}" of its own, so tables would mix up the two'
    )
    remedy = f'Give the property of {item.item_id} another name, like "{name} class"'
    return f"{problem}. {remedy}, in the text as well."


def _text(node: yaml.ScalarNode) -> str | None:
    return None if node.style is None and node.value in _NULL else cast(str, node.value)


class _LoaderWithoutAliases(yaml.BaseLoader):
    """Refuses aliases: a few lines of them can expand to gigabytes."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = cast("Any", self).peek_event()
            raise yaml.MarkedYAMLError(problem="an alias is not supported", problem_mark=event.start_mark)
        return super().compose_node(parent, index)
