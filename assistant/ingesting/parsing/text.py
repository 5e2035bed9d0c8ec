"""Builds a document's plain text block by block and remembers which section each part stands in."""

from __future__ import annotations

import re

from assistant.domain.documents import ParsedDocument, Section, Span

_SPACES = re.compile(r"[^\S\n]+")
_AROUND_NEWLINE = re.compile(r" ?\n ?")
_BLANK_LINES = re.compile(r"\n{3,}")


def normalize(text: str) -> str:
    """Collapse runs of spaces and of blank lines; control characters (but newlines) become spaces."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if not text.replace("\n", "").isprintable():
        text = "".join(char if char.isprintable() or char == "\n" else " " for char in text)
    text = _AROUND_NEWLINE.sub("\n", _SPACES.sub(" ", text))
    return _BLANK_LINES.sub("\n\n", text).strip()


class TextBuilder:
    """Headings and blocks in reading order → ParsedDocument. A section runs from heading to heading."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self._length = 0
        self._headings: list[tuple[int, str]] = []
        self._sections: list[Section] = []
        self._section_start: int | None = None
        self._section_end = 0
        self._last_was_line = False

    def heading(self, level: int, text: str) -> None:
        """A heading closes those of its own level and below; it stands in the text, outside sections."""
        text = normalize(text).replace("\n", " ")
        if not text:
            return
        self._end_section()
        self._headings = [(above, name) for above, name in self._headings if above < level]
        self._headings.append((level, text))
        self._append(text, "\n\n")
        self._last_was_line = False

    def block(self, text: str) -> None:
        """A paragraph: blank lines around it."""
        self._body(text, "\n\n")
        self._last_was_line = False

    def line(self, text: str) -> None:
        """A list item or a table row: directly under the one before."""
        self._body(text, "\n" if self._last_was_line else "\n\n")
        self._last_was_line = True

    def gap(self) -> None:
        """The list or the table ends: the next line is not under it."""
        self._last_was_line = False

    def build(self) -> ParsedDocument:
        self._end_section()
        return ParsedDocument(text="".join(self._parts), sections=tuple(self._sections))

    def _body(self, text: str, separator: str) -> None:
        text = normalize(text)
        if not text:
            return
        start = self._append(text, separator)
        if self._section_start is None:
            self._section_start = start
        self._section_end = self._length

    def _append(self, text: str, separator: str) -> int:
        if self._parts:
            self._parts.append(separator)
            self._length += len(separator)
        start = self._length
        self._parts.append(text)
        self._length += len(text)
        return start

    def _end_section(self) -> None:
        if self._section_start is not None:
            span = Span(self._section_start, self._section_end)
            self._sections.append(Section(headings=tuple(name for _, name in self._headings), span=span))
            self._section_start = None


def table_lines(rows: list[list[str]], *, has_header: bool) -> list[str]:
    """Return one line a row. Under a header each cell is named, so that a row makes sense alone."""
    cells = [[normalize(cell).replace("\n", " ") for cell in row] for row in rows]
    if not has_header or len(cells) < 2:
        return [" | ".join(cell for cell in row if cell) for row in cells]
    header, *body = cells
    return ["; ".join(_named(header, row)) for row in body]


def _named(header: list[str], row: list[str]) -> list[str]:
    names = [*header, *[""] * (len(row) - len(header))]
    return [f"{name}: {cell}" if name else cell for name, cell in zip(names, row, strict=False) if cell]
