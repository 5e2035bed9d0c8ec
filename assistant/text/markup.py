"""The grammar by which a document or a model names a live element (a value of another system).

"Your order is {{ status orders.status }}." has one tag, of the element ``orders.status`` in the form of a
status::

    tag  = "{{" blank [ kind blank ] name blank "}}"
    kind = "card" | "status" | "table" | "link"
    name = system "." element                            as in ``orders.status``

``blank`` is up to four spaces. A tag without a kind is shown as its connector says; whether a kind is right
is for the caller to check. Tags do not nest: a "{{" inside a tag begins another one, and the first
is text. Other text, incomplete tags and tags that the caller does not know stay as they were written.

A text goes through three forms: with tags, with marks (``with_marks``: each tag is one private-use character,
which checks and cleaning leave alone), and with labels (``with_labels``: "[order status]").
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from assistant.domain.live import MOST_ELEMENTS, ElementKind
from assistant.text.marks import ELEMENTS, LIKE_ELEMENTS

_KINDS = "|".join(ElementKind)
_SYSTEM, _ELEMENT = "[a-z][a-z0-9_-]{0,30}", "[a-z][a-z0-9_]{0,40}"
_TAG = re.compile(rf"\{{\{{ {{0,4}}(?:({_KINDS}) {{1,4}})?({_SYSTEM}\.{_ELEMENT}) {{0,4}}\}}\}}")


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag, whole and well formed."""

    name: str
    """``<system>.<element>``"""
    kind: ElementKind | None
    """None for a tag without a kind."""
    written: str
    """The tag as it was written, with braces."""

    @property
    def key(self) -> str:
        """The tag without its blanks and braces: ``orders.status`` or ``status orders.status``."""
        return self.name if self.kind is None else f"{self.kind} {self.name}"


Known = Callable[[Tag], bool]
"""Returns whether a tag names an element that may be shown in this text; other tags are text."""


def tags_in(text: str, known: Known, *, most: int = MOST_ELEMENTS) -> Iterator[str | Tag]:
    """Yield the texts and known tags of a text, in order. ``most``: number of known tags; further ones are
    text."""
    given = 0
    for match in _TAG.finditer(text):
        tag = Tag(match[2], ElementKind(match[1]) if match[1] else None, match[0])
        if most and known(tag):
            most -= 1
            if match.start() > given:
                yield text[given : match.start()]
            yield tag
            given = match.end()
    if given < len(text):
        yield text[given:]


# Marks and labels: a tag is one character while its text is checked and cleaned, and words where it is shown


_MARKS = re.compile(f"[{ELEMENTS.characters}]")
_MARK_LIKE = re.compile(f"[{LIKE_ELEMENTS}]")
_NOT_IN_LABEL = re.compile(r"[^\w '-]+")
_LONGEST_LABEL = 60
_LINK_SIGNS = ("(", "[", ":")
"""Signs that, right after a label's closing bracket, would make it a Markdown link or the definition of
one."""


def without_marks(text: str, *, instead: str = "") -> str:
    """Return a text without characters that look like marks: documents and models may write some."""
    return text if text.isascii() else _MARK_LIKE.sub(instead, text)


@lru_cache(maxsize=1_000)
def label_of(title: str) -> str:
    """Return the words that are shown for an element in a text: "[order status]" for the title "Order
    status"."""
    words = " ".join(_NOT_IN_LABEL.sub(" ", title).split())[:_LONGEST_LABEL].strip() or "live data"
    return f"[{words[:1].lower()}{words[1:]}]"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text with labels in place of tags."""

    text: str
    places: tuple[tuple[int, int, int], ...] = ()
    """For each label: number of its mark, and [start, end) of the label in the text."""


def with_marks(text: str, labels: Iterable[str]) -> tuple[str, tuple[Tag, ...]]:
    """Return the text with marks in place of the tags whose ``key`` is among ``labels``, and those tags by
    mark's number.

    "It is {{ orders.status }}." with the label "orders.status" is "It is \\ue000.".
    """
    if "{{" not in text:
        return text, ()
    keys = frozenset(labels)
    tags: list[Tag] = []
    parts: list[str] = []
    for part in tags_in(without_marks(text), lambda tag: tag.key in keys, most=len(ELEMENTS)):
        if isinstance(part, Tag):
            parts.append(ELEMENTS.mark(len(tags)))
            tags.append(part)
        else:
            parts.append(part)
    return ("".join(parts), tuple(tags)) if tags else (text, ())


def with_labels(marked: str, labels: Mapping[int, str]) -> Labelled:
    """Return the text with labels in place of its marks: ``labels`` has them by mark's number. A mark without
    a label is removed."""
    text = ""
    places: list[tuple[int, int, int]] = []
    done = 0
    for match in _MARKS.finditer(marked):
        number = ELEMENTS.number(match[0])
        text += marked[done : match.start()]
        done = match.end()
        if label := labels.get(number):
            places.append((number, len(text), len(text) + len(label)))
            text += f"{label} " if marked.startswith(_LINK_SIGNS, done) else label
    return Labelled(text + marked[done:], tuple(places))
