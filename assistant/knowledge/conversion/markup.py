"""The HTML that converted files are written in: tables, paragraphs and lists that ``parse_html`` reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_BULLET = re.compile(r"[-*\u2022\u25aa\u25cf\u2013][ \t]+(?=\S)")
_BLANK = re.compile(r"\n[^\S\n]*\n")
_LONGEST_TITLE = 300
"""Characters of a title that a converter took from the text."""
_DIGIT = re.compile(r"\d")


@dataclass(frozen=True, slots=True)
class Converted:
    """A file as HTML."""

    title: str | None
    """What the file calls itself; None if it does not say."""
    html: str
    notes: tuple[str, ...] = ()
    """What was not read, one line each: a scanned page, a hidden sheet, macros."""


def one_line(text: str) -> str:
    """Return the text without line breaks and repeated spaces."""
    return " ".join(text.split())


def title_of(text: str | None) -> str | None:
    """Return a text as a title: one line, shortened; None for an empty one."""
    line = one_line(text or "")
    return f"{line[: _LONGEST_TITLE - 1]}…" if len(line) > _LONGEST_TITLE else line or None


def heading(level: int, text: str, *, anchor: str | None = None) -> str:
    """Return a heading of level 1 to 6; without text, nothing."""
    name = f' id="{escape(anchor)}"' if anchor else ""
    level = min(level, 6)
    return f"<h{level}{name}>{escape(one_line(text))}</h{level}>\n" if text.strip() else ""


def paragraphs(text: str) -> str:
    """Return plain text as HTML: blank lines separate paragraphs, and lines with a bullet are list items."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(_block(block) for block in _BLANK.split(text))


def _block(block: str) -> str:
    parts: list[str] = []
    lines: list[str] = []
    for line in filter(None, map(str.strip, block.split("\n"))):
        if bullet := _BULLET.match(line):
            parts += [_paragraph(lines), f"<ul><li>{escape(line[bullet.end() :])}</li></ul>\n"]
            lines = []
        else:
            lines.append(line)
    return "".join([*parts, _paragraph(lines)]).replace("</ul>\n<ul>", "\n")


def _paragraph(lines: Sequence[str]) -> str:
    return f"<p>{'<br>'.join(map(escape, lines))}</p>\n" if lines else ""


def table(rows: Sequence[Sequence[str]], *, has_header: bool | None = None) -> str:
    """Return rows of cells as a table; ``has_header`` None judges the first row by ``is_header``.

    A header cell names its column's cells: ``parse_html`` repeats the name in each row's unit.
    """
    filled = [row for row in rows if any(cell.strip() for cell in row)]
    if not filled:
        return ""
    header = is_header(filled) if has_header is None else has_header
    tags = ["th" if header and number == 0 else "td" for number in range(len(filled))]
    lines = (
        "".join(f"<{tag}>{escape(one_line(cell))}</{tag}>" for cell in row)
        for tag, row in zip(tags, filled, strict=True)
    )
    return "<table>\n" + "".join(f"<tr>{line}</tr>\n" for line in lines) + "</table>\n"


def is_header(rows: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row names the columns, of a table that does not say so.

    Names fill the row, differ and have no digits. A table of two columns is more often a list of names with
    values: there a column must have digits in all its other cells.
    """
    first, *others = rows
    names = {cell.strip() for cell in first}
    if not others or len(names) < max(2, len(first)) or "" in names or any(map(_DIGIT.search, names)):
        return False
    columns = ([row[place] for row in others if place < len(row)] for place in range(len(first)))
    return len(first) > 2 or any(all(_DIGIT.search(cell) for cell in column) for column in columns)
