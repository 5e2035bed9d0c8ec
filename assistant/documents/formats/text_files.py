"""Decodes text of any encoding, and converts plain text and separated values (CSV).

The encoding is that of the byte order mark, else the declared one, else UTF-8, else guessed: of nine
encodings, the one that gives the smallest share of words with a sign out of place. The bytes that a Mac
writes for "it\u2019s" are "it\u00d5s" in Windows-1252: a capital inside a word is out of place, so the Mac's
encoding wins. docs/decisions/0108 has the alternatives.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from html.entities import html5
from itertools import islice, pairwise, zip_longest

from assistant.documents.aligned import GAP, ITEM, delimited_blocks, text_parts
from assistant.documents.formats.regions import region_blocks
from assistant.documents.page import (
    Block,
    Loss,
    Page,
    Paragraph,
    Place,
    first_of,
    plain,
    title_of,
)
from assistant.documents.parsing.html import with_markup_read
from assistant.documents.tables import MOST_CELLS, Row, is_number, text_row
from assistant.domain.errors import DocumentInvalidError

_BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_DECLARATION = re.compile(
    rb"""<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([\w.:-]{1,40})|<meta\b[^>]{0,300}?\bcharset\s*=\s*["']?\s*([\w.:-]{1,40})""",
    re.I,
)
"""Where XML or HTML declares its encoding, which is group 1 or 2: ``<?xml version="1.0" encoding="UTF-8"?>``,
``<meta charset="utf-8">``."""
_DECLARED_WITHIN = 4096
"""Bytes. The HTML standard looks at 1,024; real pages put scripts before it."""
_TEXT_ENCODING = re.compile(r"ascii|big5|cp\d|euc|gb|hz|iso|johab|koi8|mac|shift|tis|utf-(8|16|32)")
"""Names of Python's encodings of texts. Others, such as "unicode_escape", do not encode a language."""
_TRIED = ("cp1252", "mac_roman", "cp1251", "cp1250", "iso8859_15", "iso8859_2", "koi8_r", "cp1253", "cp1254")
"""Encodings that are tried where none is declared; of two that are equally plausible, the first is taken."""
_MOST_WORDS = 20_000
"""Different words with signs above ASCII that are judged at most; it bounds the time for a large file."""
_MOST_STRANGE = 0.2
"""Largest share of the words with signs above ASCII in which one may be out of place (decision 0108)."""
_SIGNS_BY_KIND = {
    "!": "\u00a4\u00a6\u00ac\u00b4\u00b8\ufb01\ufb02",  # in no text: spacing accents, broken bars, ligatures
    "'": "\u2019\u2018\u2010\u2011\u2013\u2014\u2026\u00ad\u00a0\u00b5",
    ".": "\u201c\u201d\u201a\u201e\u2022\u2122\u00ae\u00a9\u00b0\u00b2\u00b3\u00b9\u00b7\u00a1\u00bf",
    "Y": "\u00c0\u00c9\u00d3\u00c5\u00d6",  # capitals that are words
    "9": "\u00aa\u00ba",  # ordinals
}
"""Signs by their kind: "!" in no text, "'" inside words or beside them, "." beside words only. ``_KindTable``
has the kinds of all other signs."""
_CATEGORY_KINDS = dict[str, str](Cc="!", Co="!", Lm="!", Sk="!", Sm="%", So="%", Po="%")
"""Kind of a sign by its Unicode category: controls, private use and modifiers are in no text ("!")."""
_STRANGE = re.compile(
    "!"
    "|(?<=[aecg])[EYCG]|(?<=[a-zA-Z])[EYCG](?=[aecg])|(?<![a-zA-Z])[ECG](?![a-zA-Z])"  # capitals
    "|(?<=0)[EYCGecg](?![a-zA-Z])|(?<![a-zA-Z])[EYCGecg](?=0)"  # a letter beside a digit
    "|(?<=[CGcg])[EYe]|[EYe](?=[CGcg])|(?<=[AEYGaeg])[Cc]|[Cc](?=[AEYGaeg])|(?<=[AEYCaec])[Gg]|[Gg](?=[AEYCaec])"
    "|(?<=[EYe]{4})[EYe]|(?<=[a-zA-Z])[9%]|%(?=[a-zA-Z])|(?<=[a-zA-Z])[,.](?=[a-zA-Z])"
)
"""Signs above ASCII that are out of place, in a word that is written as kinds (see ``_KindTable``).

"aaEa" (a capital inside a word) and "aCa" (a Cyrillic capital between Latin letters) match; "aa'a" does not.
"""
_RARE = frozenset("\u0160\u0161\u017d\u017e\u0192\u0152\u0153\u0178")
"""Rare letters of Windows-1252 whose bytes are frequent letters in a Mac's encoding: the byte of "š" is
"ö"."""


class _KindTable(dict[int, str]):
    """The kind of each sign by its code point, for ``str.translate``; kinds are computed when first needed.

    A letter is "a" (ASCII), "e" (Latin), "c" (Cyrillic), "g" (Greek) or "z", a capital one "A", "E", "C", "G"
    or "Z"; an ASCII digit is "0", other ASCII a space. The word "it\u2019s" is "aa'a". A Mac's bytes of it,
    read as Windows-1252, are "it\u00d5s" and "aaEa": a capital inside a word, which ``_STRANGE`` finds.
    """

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        category, script = unicodedata.category(sign), unicodedata.name(sign, "").partition(" ")[0]
        if sign.isascii():
            kind = "a" if sign.isalpha() else "0" if sign.isdigit() else " "
        elif sign.isalpha() and category != "Lm":
            kind = {"LATIN": "e", "CYRILLIC": "c", "GREEK": "g"}.get(script, "z")
        else:
            kind = _CATEGORY_KINDS.get(category, ",")
        return self.setdefault(code, kind.upper() if sign.isupper() else kind)


_KIND = _KindTable((ord(sign), kind) for kind, signs in _SIGNS_BY_KIND.items() for sign in signs)


def decoded(raw: bytes, *, declared: str | None = None) -> str:
    """Return the text of bytes, by their byte order mark, else as ``declared``, else as UTF-8, else as
    guessed.

    A declaration is ignored if its text has too many signs out of place. Raises DocumentInvalidError if no
    encoding is plausible, or two are.
    """
    bom = next((encoding for mark, encoding in _BOMS.items() if raw.startswith(mark)), None)
    text = _decoded_as(raw, bom or _text_encoding(declared))
    if text is None or (not bom and _strange_share(text) > _MOST_STRANGE):
        text = _guessed(raw) if (utf8 := _decoded_as(raw, "utf-8")) is None else utf8
    if text is None or "\0" in text:
        problem = "its encoding is unknown or cannot be told from another one"
        raise DocumentInvalidError(f"{problem}. Save it as UTF-8.")
    return text


def decoded_page(raw: bytes) -> str:
    """Return the text of a page that may declare its encoding, as HTML and XML do. Raises
    DocumentInvalidError."""
    declaration = _DECLARATION.search(raw[:_DECLARED_WITHIN])
    declared = (declaration[1] or declaration[2]).decode() if declaration else None
    # A declaration that could be read as ASCII is not in UTF-16, whatever it says.
    is_wide = declared is not None and declared.lower().startswith("utf-16")
    return decoded(raw, declared=None if is_wide else declared)


def _text_encoding(declared: str | None) -> str | None:
    """Return the encoding that browsers use for a declared one ("latin1" → "cp1252"); None if it is
    unknown."""
    try:
        name = codecs.lookup(declared or "").name
    except LookupError:
        return None
    return "cp1252" if name in ("iso8859-1", "ascii") else name if _TEXT_ENCODING.match(name) else None


def _decoded_as(raw: bytes, encoding: str | None) -> str | None:
    """Return the text in this encoding; None without an encoding, or if the bytes are invalid in it."""
    try:
        return raw.decode(encoding) if encoding else None
    except UnicodeError:
        return None


def _guessed(raw: bytes) -> str | None:
    """Return the most plausible text; None if none is, or if a Mac's is as plausible and the best one has a
    rare letter: the same bytes are "Dušan" in Windows-1252 and "Duöan" on a Mac."""
    shares = {text: _strange_share(text) for name in _TRIED if (text := _decoded_as(raw, name))}
    best, mac = min(shares, key=shares.__getitem__, default=""), _decoded_as(raw, "mac_roman") or ""
    is_tie = shares.get(mac) == shares.get(best) and not _RARE.isdisjoint(set(best) - set(mac))
    return None if is_tie or shares.get(best, 1) > _MOST_STRANGE else best


def _strange_share(text: str) -> float:
    """Return the share of the words with signs above ASCII that have such a sign out of place."""
    words = set(islice((word for word in text.split() if not word.isascii()), _MOST_WORDS))
    opening = {sign for sign, end in ("\u00a1!", "\u00bf?") if end not in text}  # Spanish without its end
    strange = sum(
        not opening.isdisjoint(word) or _STRANGE.search(word.translate(_KIND)) is not None for word in words
    )
    return strange / max(1, len(words))


# Plain text

_NARROWEST = 40
"""Characters: the narrowest width at which lines may have been wrapped."""
_ENDS = (".", "!", "?", ":", ";")
_MARKED = re.compile(r"[^\w\s(\"']|\w{1,3}[.)]\s|\w{1,20}:\s")
"""The begin of an item, a field ("to: "), or of another line with a mark."""


def convert_txt(raw: bytes) -> Page:
    """Return plain text; its first line is the title. Raises DocumentInvalidError."""
    text = decoded(raw)
    first = next((line for line in text.splitlines() if any(map(str.isalnum, line))), "")
    return Page(text_blocks(text), title_of(first))


def text_blocks(text: str) -> tuple[Block, ...]:
    """Return the blocks of plain text: blank lines separate paragraphs, and three or more lines with the same
    number of one delimiter are rows of a table."""
    blocks: list[Block] = []
    for part, tables in text_parts(text.replace("\r\n", "\n").replace("\r", "\n")):
        lines = part.split("\n")
        has_items = any(map(ITEM.match, lines))
        paragraph = Paragraph(plain(_unwrapped(lines)), is_plain=has_items)
        blocks += tables or delimited_blocks(lines) or [paragraph]
    return tuple(blocks)


def _unwrapped(lines: Sequence[str]) -> str:
    """Return lines as a text in which a sentence has no line break.

    A line goes on with the one above that ends in a comma; and where it begins with a small letter, as the
    first line does not, with one that has no end and no room for its first word.
    """
    text, width = lines[0], max(_NARROWEST, *map(len, lines))
    is_small = lines[0].strip()[:1].islower()
    for above, line in pairwise(lines):
        shown = line.strip()
        is_full = len(above) + len(shown.split(" ")[0]) >= width and not above.endswith(_ENDS)
        goes_on = above.endswith(",") or (is_full and not is_small and shown[:1].islower())
        is_apart = _MARKED.match(line.lstrip()) or above.isupper() or GAP.search(above) or GAP.search(line)
        is_apart = is_apart or shown[:2] == above.strip()[:2]  # "o Coat", "o Hat"
        text += f" {shown}" if goes_on and not is_apart else f"\n{line}"
    return text


# Separated values (CSV) by the standard library: any usual delimiter, and several tables in a file

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 50
_SAMPLE_CHARACTERS = 20_000
"""The first characters decide on the delimiter. The limit bounds the search for the end of each quote."""
_DECLARED_DELIMITER = re.compile(r'"?sep=(.|\\t)"?[ \t]*(?:\r\n|\r|\n|$)', re.I)
"""The first line "sep=;", which names the delimiter for Excel."""
_GUARDED_TEXT = re.compile(r'\A="([^"]*)"\Z')
"""A text that Excel must not read as a number: ="00731"."""
_ESCAPED = re.compile(r'\\([\\"])')
"""A quote or backslash after a backslash, as databases export them."""
_REFERENCE = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z]\w{1,31});")
_REFERENCE_END = "\ue000"
"""A sign of no text. It stands for the semicolon of a character reference, "&#10060;", which delimits
nothing."""
_QUOTED = r'(?:^|(?<=[{0}])) *"((?:[^"{1}]|""|"(?! *(?:[{0}\r\n]|\Z)))*+)" *(?=[{0}\r\n]|\Z)'
"""Pattern of a cell in quotes; {0}: the delimiters, {1}: what the cell must not contain. Quotes inside it may
be doubled or not: "a ""b"" c" or "a "b" c"."""
_TEXT_AFTER_QUOTE = "text follows the quote that ends a cell. Write a quote inside a cell twice"
_MOST_NOTED = 10


@dataclass(frozen=True, slots=True)
class _Reading:
    """Separated values as one dialect reads them."""

    rows: list[Row]
    """Those with a value; where there is an error, those before it."""
    suspects: list[int]
    """Lines of the file in which rows begin that have a cell like rows: its quote may be a lost one."""
    error: str = ""
    """Why the text is not of this dialect."""


def convert_csv(raw: bytes) -> Page:
    """Return the tables of separated values.

    Quotes inside a cell are doubled, or have a backslash before them. Only a text that neither way is valid
    is read with lone quotes in its cells. A valid cell that looks like rows of the table is read, and told.
    Raises DocumentInvalidError.
    """
    text = decoded(raw)
    unescaped = _ESCAPED.sub(lambda sign: '""' if sign[1] == '"' else sign[1], text)
    readings = [_read(text), *([_read(unescaped)] if '\\"' in text else ())]
    reading = min(readings, key=lambda reading: (reading.error != "", len(reading.suspects)))
    if reading.error and (reading := _read(text, may_be_lone=True)).error:
        raise DocumentInvalidError(f"it is not CSV: {readings[0].error}, or export the file again.")
    told = {
        "a cell in quotes looks like rows of the table: check where its quote ends": reading.suspects,
        "a row has more cells than those around it: check the quotes of its cells": _wide_rows(reading.rows),
    }
    losses = tuple(
        Loss(f"{what} (line {first_of([f'{line:,}' for line in lines], most=_MOST_NOTED)}).")
        for what, lines in told.items()
        if lines
    )
    page = Page(tuple(region_blocks(reading.rows, Place("line"))), losses=losses)
    return with_markup_read(page)


def _read(text: str, *, may_be_lone: bool = False) -> _Reading:
    """Return the rows of values whose quotes are doubled; ``may_be_lone``: or stand alone inside a cell.

    Raises DocumentInvalidError for too many cells.
    """
    declared = _DECLARED_DELIMITER.match(text)
    skipped = 1 if declared else 0
    text = text[declared.end() :] if declared else text
    text = _REFERENCE.sub(_held_together, text)
    delimiter = declared[1].replace("\\t", "\t") if declared else _delimiter(text)
    count = text.count(delimiter) + text.count("\n")
    if count > MOST_CELLS:
        problem = f"it has {count:,} cells; at most {MOST_CELLS:,} are read"
        raise DocumentInvalidError(f"{problem}. Split the file.")
    if may_be_lone:
        lone = re.compile(_QUOTED.format(re.escape(delimiter), r"\n"), re.M)
        text = lone.sub(lambda cell: '"{}"'.format(cell[1].replace('""', '"').replace('"', '""')), text)
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    reader = csv.reader(
        io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True, strict=True
    )
    reading = _Reading([], [])
    row_number, first_line, width = 1, 1 + skipped, 0
    while True:
        try:
            values = next(reader, None)
        except csv.Error:  # of two kinds: text after the quote that ends a cell, or the file's end before it
            is_of_lines = reader.line_num + skipped > first_line
            cause = "a quote has no end. Close it" if is_of_lines else _TEXT_AFTER_QUOTE
            return replace(reading, error=f"in the row that begins in line {first_line:,}, {cause}")
        if values is None:
            return reading
        inner = [part for value in values if "\n" in value for part in value.split("\n")]
        if inner and (len(values) != width > 1 or _holds_rows(inner[1:-1], delimiter, width)):
            reading.suspects.append(first_line)
        width = len(values) if len(values) > 1 else width
        shown = (_GUARDED_TEXT.sub(r"\1", value.strip()).replace(_REFERENCE_END, ";") for value in values)
        row = replace(text_row(shown, row_number, first_line), width=len(values))
        if row.cells:
            reading.rows.append(row)
        first_line = reader.line_num + 1 + skipped
        row_number += 1


def _held_together(reference: re.Match[str]) -> str:
    """Return a character reference without its semicolon; a name that is none as it is: "AT&T;5"."""
    is_reference = reference[1].startswith("#") or f"{reference[1]};" in html5
    return f"&{reference[1]}{_REFERENCE_END}" if is_reference else reference[0]


def _wide_rows(rows: Sequence[Row]) -> list[int]:
    """Return the lines of rows with more cells than those above, where the row below, if any, has not: a
    delimiter in one of their cells may lack its quotes."""
    lines, widest = list[int](), 0
    for row, below in zip_longest(rows, rows[1:]):
        width = max(row.cells)
        if 1 < widest < width and (below is None or max(below.cells) <= widest):
            lines.append(row.line)
        widest = max(widest, width) if below is None or below.number == row.number + 1 else 0
    return lines


def _holds_rows(lines: Sequence[str], delimiter: str, width: int) -> bool:
    """Return whether lines inside a cell are rows. Those of two cells may be an address with a comma, and a
    sentence has a space after each of its commas."""
    between = re.compile(rf"{re.escape(delimiter)}(?! )")
    return width > 2 and any(len(between.findall(line)) >= width - 1 for line in lines)


def _delimiter(text: str) -> str:
    """Return the delimiter of the first rows. One inside quotes does not count: for this a number in quotes
    becomes 0, another text a word."""
    cells = re.compile(_QUOTED.format(_DELIMITERS, ""), re.M)
    bare = cells.sub(lambda cell: "0" if is_number(cell[1]) else "text", text[:_SAMPLE_CHARACTERS])
    return max(_DELIMITERS, key=lambda delimiter: _fitness(bare, delimiter))


def _fitness(text: str, delimiter: str) -> tuple[int, int, int]:
    """Return how well a delimiter separates the first rows; the largest tuple is the best delimiter.

    First: rows with as many cells as a row above or below, less the cells that contain another delimiter and
    are no number. Then: how many cells are numbers, and how many cells there are.
    """
    sample = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
    try:
        rows = [row for row in islice(sample, _SAMPLE_ROWS) if any(row)]
    except csv.Error:
        return (0, 0, 0)
    cells = [cell for row in rows for cell in row if len(row) > 1]
    others = _DELIMITERS.replace(delimiter, "")
    numbers = sum(map(is_number, cells))
    uncut = sum(any(other in cell for other in others) and not is_number(cell) for cell in cells)
    regular = _regular(rows)
    return (regular - uncut if regular else -len(rows), numbers, len(cells))


def _regular(rows: Sequence[Sequence[str]]) -> int:
    """Return how many rows have as many cells as a row above or below, and more than one."""
    widths = [len(row) for row in rows]
    regular_rows = {
        at + side
        for at, (above, below) in enumerate(pairwise(widths))
        if above == below > 1
        for side in (0, 1)
    }
    return len(regular_rows)
