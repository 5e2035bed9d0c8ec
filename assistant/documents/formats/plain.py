"""Converts plain text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import groupby

from assistant.documents.formats.encodings import decoded
from assistant.documents.formats.regions import Row, region_blocks, text_cell
from assistant.documents.page import Block, Item, List, Page, Paragraph, Place, plain

_LONGEST_TITLE = 300
"""Characters of a title that a converter took from the text."""
_BLANK = re.compile(r"\n[^\S\n]*\n")
_LINE = re.compile(
    r"(?:(?:(?P<bullet>[-*\u2022\u25aa\u25cf\u2013])|(?P<step>\d{1,3}[.)]))[ \t]+(?=\S))?(?P<words>.*)",
    re.DOTALL,
)
"""A line of plain text, as an item of a list where it begins with a marker."""


_DELIMITERS = {"\t": 1, ";": 1, "|": 1, ",": 2}
"""How many of each a line of a table has at least: prose has commas, too."""
_FEWEST_ROWS = 3
_SENTENCE_ENDS = (".", "!", "?", ":")


def one_line(text: str) -> str:
    """Return the text without line breaks and repeated spaces."""
    return " ".join(text.split())


def title_of(text: str | None) -> str | None:
    """Return a text as a title: one line, shortened; None for an empty one."""
    line = one_line(text or "")
    return f"{line[: _LONGEST_TITLE - 1]}…" if len(line) > _LONGEST_TITLE else line or None


def convert_txt(raw: bytes) -> Page:
    """Return plain text; its first line is the title. Raises DocumentInvalidError."""
    text = decoded(raw)
    first = next((line for line in text.splitlines() if line.strip()), "")
    return Page(text_blocks(text), title_of(first))


def text_blocks(text: str) -> tuple[Block, ...]:
    """Return the blocks of plain text: blank lines separate paragraphs, lines with a bullet or a number are
    list items, and lines that one delimiter cuts into as many parts are rows of a table."""
    blocks: list[Block] = []
    for part in _BLANK.split(text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = [line for line in part.split("\n") if line.strip()]
        if rows := _rows(lines):
            blocks += region_blocks(rows, Place("line"), level=1)
            continue
        lines = map(str.strip, lines)
        for kind, group in groupby((_LINE.match(line) for line in lines), key=_marker_kind):
            found = [line for line in group if line]
            if kind:
                items = (Item(line["step"] or "-", (Paragraph(plain(line["words"])),)) for line in found)
                blocks.append(List(tuple(items), is_ordered=kind == "step"))
            else:
                blocks.append(Paragraph(plain("\n".join(line[0] for line in found))))
    return tuple(blocks)


def _rows(lines: Sequence[str]) -> list[Row]:
    """Return the lines as rows of a table; none for other text."""
    if len(lines) < _FEWEST_ROWS or any(line.rstrip().endswith(_SENTENCE_ENDS) for line in lines):
        return []
    for delimiter, fewest in _DELIMITERS.items():
        counts = {line.count(delimiter) for line in lines}
        if len(counts) == 1 and counts.pop() >= fewest:
            parts = ([part.strip().strip('"') for part in line.split(delimiter)] for line in lines)
            cells = ({at: text_cell(text) for at, text in enumerate(row, start=1) if text} for row in parts)
            return [Row(at, row, at) for at, row in enumerate(cells, start=1) if row]
    return []


def _marker_kind(line: re.Match[str] | None) -> str:
    return next((kind for kind in ("step", "bullet") if line and line[kind]), "")
