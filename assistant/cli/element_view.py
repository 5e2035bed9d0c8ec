"""Prints live elements on the terminal: the value in place of its label, with source and time.

What is printed cannot be changed, so text waits at a label for its value, as long as ``answer_on`` allows. A
value that comes later is printed below the text.
"""

from __future__ import annotations

import re
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from rich.table import Table
from rich.text import Text

from assistant.cli.terminal import plain, styled, table
from assistant.domain.elements import Element, ElementData, ElementProblem, ElementState, ElementValue

_MAYBE_LABEL = re.compile(r"\[(?!\d+\])[^\[\]\n]{1,120}\]")
"""Brackets around words, not around the number of a source."""
_TONES = {"neutral": "bold", "good": "bold green", "warning": "bold yellow", "bad": "bold red"}
_PROBLEMS = {
    ElementProblem.NOT_ALLOWED: "not allowed",
    ElementProblem.NOT_FOUND: "not found in {source}",
    ElementProblem.SYSTEM_UNAVAILABLE: "{source} did not answer",
    ElementProblem.SYSTEM_LATE: "{source} did not answer in time",
    ElementProblem.SYSTEM_INVALID: "{source} sent data that cannot be shown",
    ElementProblem.SWITCHED_OFF: "{source} is switched off",
    ElementProblem.CANCELLED: "the answer ended before {source} answered",
}
"""Short enough for a line of text. What is missing here, such as what to ask for, the service says itself."""


def shown_element(element: Element, *, label: str = "") -> Text:
    """Return the values with source and time, "Delayed (orders, 14:02)"; or the label and what happened."""
    if element.state is ElementState.READY and element.data is not None:
        return Text(" · ").join(_values(element.data)).append_text(_origin(element))
    words = _PROBLEMS.get(element.problem) if element.problem else None
    reason = words.format(source=element.source) if words else element.detail
    return plain(label).append_text(_remark(reason, style="yellow"))


def _origin(element: Element) -> Text:
    """Return source, time and what it is about: "(orders, 14:02, order 4471-2208)"."""
    parts = (element.source, _time(element), element.about)
    return _remark(", ".join(part for part in parts if part), style="dim")


def _values(data: ElementData) -> Iterator[Text]:
    several = len(data.values) > 1
    for value in data.values:
        name = f"{_line(value.label)} " if several and value.label else ""
        yield styled((name, ""), (_line(value.text), _TONES[value.tone]))
    for row in data.rows:
        cells = ", ".join(_cell(value, data.columns) for value in row.values)
        yield styled((f"{_line(row.title)}: ", ""), (cells, "bold"))
    if data.url:
        yield plain(_line(data.url), style="underline")


def _cell(value: ElementValue, columns: Sequence[ElementValue]) -> str:
    label = next((column.label for column in columns if column.name == value.name), value.label)
    return _line(f"{label} {value.text}")


def _time(element: Element) -> str:
    at = element.as_of
    if at is None:
        return ""
    return f"{at.astimezone():%H:%M}" if isinstance(at, datetime) else at.isoformat()


def _remark(words: str, *, style: str) -> Text:
    return plain(f" ({_line(words)})", style=style)


def _line(text: str) -> str:
    """Return untrusted text on one line."""
    return " ".join(text.split())


def is_in_text(element: Element, text: str) -> bool:
    """Return whether the words that a table stands in for have all that it shows, so that they are enough."""
    if element.data is None or not element.data.rows:
        return False
    said = _line(text[element.display.start : element.display.end])
    rows = element.data.rows
    return all(
        _line(shown) in said for row in rows for shown in (row.title, *(value.text for value in row.values))
    )


def below_the_text(elements: Sequence[Element]) -> Iterator[Text | Table]:
    """Yield what to print for the elements that have no place in the printed text: a line, or a table."""
    for one in elements:
        if one.state is ElementState.READY and one.data is not None and one.data.rows:
            yield styled(("\n", ""), (_line(one.title), "bold cyan")).append_text(_origin(one))
            yield _table(one.data)
        else:
            yield plain(f"  {_line(one.title)}: ").append_text(shown_element(one))


def _table(data: ElementData) -> Table:
    names = [column.name for column in data.columns]
    cells = ({value.name: value for value in row.values} for row in data.rows)
    rows = (
        (plain(_line(row.title), style="bold"), *(_shown(named.get(name)) for name in names))
        for row, named in zip(data.rows, cells, strict=True)
    )
    return table("", *(_line(column.label) for column in data.columns), rows=rows)


def _shown(value: ElementValue | None) -> Text:
    return Text() if value is None else plain(_line(value.text), style=_TONES[value.tone].replace("bold", ""))


@dataclass(frozen=True, slots=True)
class _Piece:
    shown: Text
    text: str
    start: int
    """Of ``text`` in the answer. A mark between two texts is a piece without text."""

    @property
    def end(self) -> int:
        return self.start + len(self.text)


@dataclass(slots=True)
class LiveText:
    """Writes the pieces of an answer in their order, each when its labels have their values."""

    write: Callable[[Text], None]
    _queue: deque[_Piece] = field(default_factory=deque[_Piece])
    _elements: dict[str, Element] = field(default_factory=dict[str, Element])
    _in_text: set[str] = field(default_factory=set[str])
    """Ids of the elements whose values were written in the text."""
    _known_to: int = 0

    def add(self, shown: Text, *, text: str = "", start: int = 0) -> None:
        """Add a piece: ``text`` as it came and where it starts in the answer; a mark has none."""
        self._queue.append(_Piece(shown, text, start))
        self._write_ready()

    def know(self, end: int) -> None:
        """Say that all elements before ``end`` have been announced: they come before the next token."""
        self._known_to = end
        self._write_ready()

    def take(self, element: Element) -> None:
        """Take the present state of an element."""
        self._elements[element.id] = element
        self._write_ready()

    @property
    def is_waiting(self) -> bool:
        return bool(self._queue)

    @property
    def has_elements(self) -> bool:
        return bool(self._elements)

    def release(self) -> None:
        """Write what waits, with the labels of values that have not come."""
        while self._queue:
            self.write(self._filled(self._queue.popleft()))

    def end(self) -> list[Element]:
        """Write what waits, and return the elements whose values are not in the text."""
        self._known_to = sys.maxsize
        self.release()
        return [one for one in self._elements.values() if one.id not in self._in_text]

    def _write_ready(self) -> None:
        while self._queue and not self._waits(self._queue[0]):
            self.write(self._filled(self._queue.popleft()))

    def _waits(self, piece: _Piece) -> bool:
        if piece.end > self._known_to and _MAYBE_LABEL.search(piece.text):
            return True
        return any(one.state is ElementState.PENDING for one in self._inside(piece))

    def _inside(self, piece: _Piece) -> list[Element]:
        inside = (
            one
            for one in self._elements.values()
            if piece.start <= one.display.start < one.display.end <= piece.end
        )
        return sorted(inside, key=lambda one: one.display.start)

    def _filled(self, piece: _Piece) -> Text:
        filled, rest = Text(), piece.shown
        for one in self._inside(piece):
            label = piece.text[one.display.start - piece.start : one.display.end - piece.start]
            at = rest.plain.find(label)
            if one.state is ElementState.PENDING or at < 0:
                continue
            self._in_text.add(one.id)
            filled.append_text(rest[:at]).append_text(shown_element(one, label=label))
            rest = rest[at + len(label) :]
        return filled.append_text(rest)
