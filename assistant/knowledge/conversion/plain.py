"""Converts plain text, and decodes text of any format."""

from __future__ import annotations

import codecs
import re
from itertools import groupby

from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.conversion.markup import title_of
from assistant.knowledge.page import Block, Item, List, Page, Paragraph, plain

_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_WITHOUT_MARK = ("utf-8", "cp1252")
"""UTF-8 first: text of Windows-1252 with a letter above ASCII is almost never valid UTF-8."""
_BLANK = re.compile(r"\n[^\S\n]*\n")
_LINE = re.compile(
    r"(?:(?:(?P<bullet>[-*\u2022\u25aa\u25cf\u2013])|(?P<step>\d{1,3}[.)]))[ \t]+(?=\S))?(?P<words>.*)",
    re.DOTALL,
)
"""A line of plain text, as an item of a list where it begins with a marker."""


def decoded(raw: bytes) -> str:
    """Return text by its byte order mark, else as UTF-8, else as Windows-1252.

    Raises DocumentInvalidError for bytes that are none of these.
    """
    marked = [encoding for mark, encoding in _MARKS if raw.startswith(mark)]
    if marked or b"\0" not in raw:
        for encoding in marked or _WITHOUT_MARK:
            try:
                return raw.decode(encoding)
            except UnicodeDecodeError:
                continue
    problem = "its encoding is unknown: not UTF-8, UTF-16 or Windows-1252"
    raise DocumentInvalidError(f"{problem}. Save it as UTF-8.")


def convert_txt(raw: bytes) -> Page:
    """Return plain text; its first line is the title. Raises DocumentInvalidError."""
    text = decoded(raw)
    first = next((line for line in text.splitlines() if line.strip()), "")
    return Page(text_blocks(text), title_of(first))


def text_blocks(text: str) -> tuple[Block, ...]:
    """Return the blocks of plain text: blank lines separate paragraphs, and lines with a bullet or a number
    are list items."""
    blocks: list[Block] = []
    for part in _BLANK.split(text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = filter(None, map(str.strip, part.split("\n")))
        for kind, group in groupby((_LINE.match(line) for line in lines), key=_marker_kind):
            found = [line for line in group if line]
            if kind:
                items = (Item(line["step"] or "-", (Paragraph(plain(line["words"])),)) for line in found)
                blocks.append(List(tuple(items), is_ordered=kind == "step"))
            else:
                blocks.append(Paragraph(plain("\n".join(line[0] for line in found))))
    return tuple(blocks)


def _marker_kind(line: re.Match[str] | None) -> str:
    return next((kind for kind in ("step", "bullet") if line and line[kind]), "")
