"""The grammar by which a document or a model names a live element, and its parser.

::

    tag  = "{{" blank [ kind blank ] name blank "}}"
    kind = "card" | "status" | "table" | "link"
    name = system "." element                            as in ``orders.status``

``blank`` is up to four spaces. A tag without a kind is shown as its connector says; a kind is a claim that
the parser's caller checks. Tags do not nest: a "{{" inside a tag begins another one, and the first is text.
What is not a whole tag, or is not known to the caller, is text as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

from assistant.domain.live import MOST_ELEMENTS, ElementKind

LONGEST_TAG_CHARACTERS = 105
"""Longest tag with its blanks: more than this is never held back."""
_KINDS = "|".join(ElementKind)
_SYSTEM, _ELEMENT = "[a-z][a-z0-9_-]{0,30}", "[a-z][a-z0-9_]{0,40}"
_TAG = re.compile(rf"\{{\{{ {{0,4}}(?:({_KINDS}) {{1,4}})?({_SYSTEM}\.{_ELEMENT}) {{0,4}}\}}\}}")
_NAME_BEGUN = rf"{_SYSTEM}(?:\.(?:{_ELEMENT} {{0,4}}\}}?)?)?"
_BEGUN = re.compile(
    rf"\{{(?:\{{ {{0,4}}(?:(?:[a-z]{{1,6}}|(?:{_KINDS}) {{1,4}}(?:{_NAME_BEGUN})?)|{_NAME_BEGUN})?)?\Z"
)
"""Text that may become a tag when more of it comes."""


@dataclass(frozen=True, slots=True)
class Tag:
    """One tag, whole and well formed."""

    name: str
    """``<system>.<element>``"""
    kind: ElementKind | None
    written: str

    @property
    def key(self) -> str:
        """The tag without its blanks and braces: ``orders.status`` or ``status orders.status``."""
        return self.name if self.kind is None else f"{self.kind} {self.name}"


Known = Callable[[Tag], bool]
"""Says whether a tag names an element that may stand here."""


class MarkupParser:
    """Parses one text while it is written, part by part. What it finds does not depend on the cuts.

    Only what may begin a tag is held back, at most ``LONGEST_TAG_CHARACTERS``. The time is linear.
    """

    __slots__ = ("_held", "_known", "_left")

    def __init__(self, known: Known, *, most: int = MOST_ELEMENTS) -> None:
        """``most``: tags that are taken as such; those after them are text."""
        self._known = known
        self._left = most
        self._held = ""

    def push(self, text: str) -> list[str | Tag]:
        """Take the next part; return what is decided, texts and tags in their order."""
        whole, self._held = self._held + text, ""
        pieces: list[str | Tag] = []
        done = at = 0
        while (at := whole.find("{", at)) >= 0:
            if matched := _TAG.match(whole, at):
                kind = ElementKind(matched[1]) if matched[1] else None
                tag = Tag(matched[2], kind, matched[0])
                if self._left and self._known(tag):
                    self._left -= 1
                    if at > done:
                        pieces.append(whole[done:at])
                    pieces.append(tag)
                    done = matched.end()
                at = matched.end()
            elif len(whole) - at < LONGEST_TAG_CHARACTERS and _BEGUN.match(whole, at):
                self._held = whole[at:]
                whole = whole[:at]
                break
            else:
                at += 1
        if len(whole) > done:
            pieces.append(whole[done:])
        return pieces

    def flush(self) -> list[str | Tag]:
        """Return what was held back, at the end of the text."""
        rest, self._held = self._held, ""
        return [rest] if rest else []


def tags_in(text: str, known: Known, *, most: int = MOST_ELEMENTS) -> Iterator[str | Tag]:
    """Yield texts and tags of a whole text."""
    parser = MarkupParser(known, most=most)
    yield from parser.push(text)
    yield from parser.flush()


# Marks and labels: a tag is one character while its text is cleaned, and words where it is shown


MOST_MARKS = 64
"""Tags of one text that can have a mark."""
_FIRST_MARK = 0xE000
_MARKS = re.compile(f"[{chr(_FIRST_MARK)}-{chr(_FIRST_MARK + MOST_MARKS - 1)}]")
_MARK_LIKE = re.compile("[\ue000-\ue0ff]")
WORD_OR_MARK = re.compile(rf"[^\W_]|{_MARKS.pattern}")
_NO_LABEL = re.compile(r"[^\w '-]+")
_LONGEST_LABEL = 60
_JOINS = ("(", "[", ":")
"""After a closing bracket these would make it a link or a definition of one."""


def mark(number: int) -> str:
    """Return the character that stands for the tag of this number, 0 to ``MOST_MARKS`` - 1."""
    return chr(_FIRST_MARK + number)


def without_marks(text: str, *, instead: str = "") -> str:
    """Return a text without the characters of marks, for a text of a document or model may hold some."""
    return text if text.isascii() else _MARK_LIKE.sub(instead, text)


@lru_cache(maxsize=1_000)
def label_of(title: str) -> str:
    """Return the words that stand for an element in the text: "[order status]" for "Order status"."""
    words = " ".join(_NO_LABEL.sub(" ", title).split())[:_LONGEST_LABEL].strip() or "live data"
    return f"[{words[:1].lower()}{words[1:]}]"


@dataclass(frozen=True, slots=True)
class Labelled:
    """A text with labels in place of tags."""

    text: str
    places: tuple[tuple[int, int, int], ...] = ()
    """Number of the mark, and [start, end) of its label in the text."""


def with_marks(text: str, labels: Iterable[str]) -> tuple[str, tuple[Tag, ...]]:
    """Return the text with marks in place of the tags whose ``key`` is among the labels, and those tags."""
    if "{{" not in text:
        return text, ()
    keys = frozenset(labels)
    tags: list[Tag] = []
    parts: list[str] = []
    for part in tags_in(without_marks(text), lambda tag: tag.key in keys, most=MOST_MARKS):
        if isinstance(part, Tag):
            parts.append(mark(len(tags)))
            tags.append(part)
        else:
            parts.append(part)
    return ("".join(parts), tuple(tags)) if tags else (text, ())


def with_labels(marked: str, labels: Mapping[int, str]) -> Labelled:
    """Return the text with labels in place of its marks, by number. A mark without a label is removed."""
    text = ""
    places: list[tuple[int, int, int]] = []
    done = 0
    for found in _MARKS.finditer(marked):
        number = ord(found[0]) - _FIRST_MARK
        text += marked[done : found.start()]
        done = found.end()
        if label := labels.get(number):
            places.append((number, len(text), len(text) + len(label)))
            text += f"{label} " if marked.startswith(_JOINS, done) else label
    return Labelled(text + marked[done:], tuple(places))
