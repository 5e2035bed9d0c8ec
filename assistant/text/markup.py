"""The grammar by which a document or a model names a live element (a value of another system), and its
parser.

"Your order is {{ status orders.status }}." has one tag, of the element ``orders.status`` in the form of a
status::

    tag  = "{{" blank [ kind blank ] name blank "}}"
    kind = "card" | "status" | "table" | "link"
    name = system "." element                            as in ``orders.status``

``blank`` is up to four spaces. A tag without a kind is shown as its connector says; whether a kind is right
is for the parser's caller to check. Tags do not nest: a "{{" inside a tag begins another one, and the first
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

LONGEST_TAG_CHARACTERS = 105
"""Length of the longest tag with its blanks, and so the most that the parser holds back."""
_KINDS = "|".join(ElementKind)
_SYSTEM, _ELEMENT = "[a-z][a-z0-9_-]{0,30}", "[a-z][a-z0-9_]{0,40}"
_TAG = re.compile(rf"\{{\{{ {{0,4}}(?:({_KINDS}) {{1,4}})?({_SYSTEM}\.{_ELEMENT}) {{0,4}}\}}\}}")
# Begin of a name that may go on, up to the first closing brace: "ord", "orders.", "orders.status }"
_NAME_BEGUN = rf"{_SYSTEM}(?:\.(?:{_ELEMENT} {{0,4}}\}}?)?)?"
_TAG_BEGUN = re.compile(
    rf"\{{(?:\{{ {{0,4}}(?:(?:[a-z]{{1,6}}|(?:{_KINDS}) {{1,4}}(?:{_NAME_BEGUN})?)|{_NAME_BEGUN})?)?\Z"
)
"""The begin of a tag at the end of the text so far, such as "{", "{{ sta" or "{{ orders.status }"."""


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


class MarkupParser:
    """Parses one text while it is written, part by part; the tags do not depend on how it was cut.

        parser = MarkupParser(lambda tag: tag.name == "orders.status")
        parser.push("It is {{ orders.st")  # ["It is "]; the begin of a tag is held back
        parser.push("atus }} now.")  # [Tag("orders.status", None, "{{ orders.status }}"), " now."]
        parser.flush()  # []

    At most LONGEST_TAG_CHARACTERS are held back. The time is linear.
    """

    __slots__ = ("_held", "_known", "_left")

    def __init__(self, known: Known, *, most: int = MOST_ELEMENTS) -> None:
        """``most``: number of known tags; further ones are text."""
        self._known = known
        self._left = most
        self._held = ""

    def push(self, text: str) -> list[str | Tag]:
        """Take the next part; return the texts and tags that are certain now, in their order."""
        whole, self._held = self._held + text, ""
        pieces: list[str | Tag] = []
        given = at = 0
        while (at := whole.find("{", at)) >= 0:
            if match := _TAG.match(whole, at):
                kind = ElementKind(match[1]) if match[1] else None
                tag = Tag(match[2], kind, match[0])
                if self._left and self._known(tag):
                    self._left -= 1
                    if at > given:
                        pieces.append(whole[given:at])
                    pieces.append(tag)
                    given = match.end()
                at = match.end()
            elif len(whole) - at < LONGEST_TAG_CHARACTERS and _TAG_BEGUN.match(whole, at):
                self._held = whole[at:]
                whole = whole[:at]
                break
            else:
                at += 1
        if len(whole) > given:
            pieces.append(whole[given:])
        return pieces

    def flush(self) -> list[str | Tag]:
        """Return the text that was held back; call it once, at the end."""
        rest, self._held = self._held, ""
        return [rest] if rest else []


def tags_in(text: str, known: Known, *, most: int = MOST_ELEMENTS) -> Iterator[str | Tag]:
    """Yield the texts and known tags of a whole text, in order."""
    parser = MarkupParser(known, most=most)
    yield from parser.push(text)
    yield from parser.flush()


# Marks and labels: a tag is one character while its text is checked and cleaned, and words where it is shown


_MARKS = re.compile(f"[{ELEMENTS.characters}]")
_MARK_LIKE = re.compile(f"[{LIKE_ELEMENTS}]")
WORD_OR_MARK = re.compile(rf"[^\W_]|{_MARKS.pattern}")
"""A letter, a digit or a mark: what makes a piece of text a sentence."""
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
