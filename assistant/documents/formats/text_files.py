"""Decodes text of any encoding, and converts plain text and separated values (CSV).

The encoding is that of the mark, else what the text declares, else UTF-8, else judged: of nine encodings, the
one with the fewest signs out of place is taken: the apostrophe of a Mac is "Õ" inside a word in Windows-1252.
docs/decisions/0108 has what was tried.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby, islice, pairwise

from assistant.documents.formats.regions import MOST_CELLS, Row, is_number, region_blocks, text_cell
from assistant.documents.page import Block, Item, List, Page, Paragraph, Place, plain, title_of
from assistant.domain.errors import DocumentInvalidError

_MARKS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
_DECLARATION = re.compile(
    rb"""<\?xml[^>]{0,200}?\bencoding\s*=\s*["']([\w.:-]{1,40})|<meta\b[^>]{0,300}?\bcharset\s*=\s*["']?\s*([\w.:-]{1,40})""",
    re.I,
)
_DECLARED_WITHIN = 4096
"""Bytes. The HTML standard looks at 1,024; real pages put scripts before it."""
_TEXT_ENCODING = re.compile(r"ascii|big5|cp\d|euc|gb|hz|iso|johab|koi8|mac|shift|tis|utf-(8|16|32)")
"""Python has encodings that are none of texts, as "unicode_escape"."""
_JUDGED = ("cp1252", "mac_roman", "cp1251", "cp1250", "iso8859_15", "iso8859_2", "koi8_r", "cp1253", "cp1254")
"""Encodings that are tried where none is declared; of two that are as plausible, the first is taken."""
_MOST_WORDS = 20_000
"""Words with signs above ASCII that are judged."""
_MOST_STRANGE = 0.2
"""Share of the words with signs above ASCII that may have one out of place."""
_KINDS = {
    "!": "\u00a4\u00a6\u00ac\u00b4\u00b8\ufb01\ufb02",  # in no text: spacing accents, broken bars, ligatures
    "'": "\u2019\u2018\u2010\u2011\u2013\u2014\u2026\u00ad\u00a0\u00b5",
    ".": "\u201c\u201d\u201a\u201e\u2022\u2122\u00ae\u00a9\u00b0\u00b2\u00b3\u00b9\u00b7\u00a1\u00bf",
    "Y": "\u00c0\u00c9\u00d3\u00c5\u00d6",  # capitals that are words
    "9": "\u00aa\u00ba",  # ordinals
}
"""Signs that are inside words ("'"), beside words (".")."""
_CATEGORIES = dict[str, str](Cc="!", Co="!", Lm="!", Sk="!", Sm="%", So="%", Po="%")
_STRANGE = re.compile(
    "!"
    "|(?<=[aecg])[EYCG]|(?<=[a-zA-Z])[EYCG](?=[aecg])|(?<![a-zA-Z])[ECG](?![a-zA-Z])"  # capitals
    "|(?<=0)[EYCGecg](?![a-zA-Z])|(?<![a-zA-Z])[EYCGecg](?=0)"  # a letter beside a digit
    "|(?<=[CGcg])[EYe]|[EYe](?=[CGcg])|(?<=[AEYGaeg])[Cc]|[Cc](?=[AEYGaeg])|(?<=[AEYCaec])[Gg]|[Gg](?=[AEYCaec])"
    "|(?<=[EYe]{4})[EYe]|(?<=[a-zA-Z])[9%]|%(?=[a-zA-Z])|(?<=[a-zA-Z])[,.](?=[a-zA-Z])"
)
"""Signs above ASCII that are out of place, by their kinds."""
_RARE = frozenset("\u0160\u0161\u017d\u017e\u0192\u0152\u0153\u0178")
"""Letters of Windows-1252 that a Mac's encoding has as "ä", "ö", "é" or "û"."""


class _Kind(dict[int, str]):
    """The kind of each sign: a letter's script and case, a digit, a sign by where it stands.

    A letter is "a" (ASCII), "e" (Latin), "c" (Cyrillic), "g" (Greek) or "z", a capital one "A", "E", "C", "G"
    or "Z". The word "it\u2019s" is "aa'a". A Mac's bytes of it, read as Windows-1252, are "it\u00d5s" and
    "aaEa": a capital inside a word, which ``_STRANGE`` finds.
    """

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        category, script = unicodedata.category(sign), unicodedata.name(sign, "").partition(" ")[0]
        if sign.isascii():
            kind = "a" if sign.isalpha() else "0" if sign.isdigit() else " "
        elif sign.isalpha() and category != "Lm":
            kind = {"LATIN": "e", "CYRILLIC": "c", "GREEK": "g"}.get(script, "z")
        else:
            kind = _CATEGORIES.get(category, ",")
        return self.setdefault(code, kind.upper() if sign.isupper() else kind)


_KIND = _Kind((ord(sign), kind) for kind, signs in _KINDS.items() for sign in signs)


def decoded(raw: bytes, *, declared: str | None = None) -> str:
    """Return a text by its mark, else as ``declared``, else as UTF-8, else as judged.

    Raises DocumentInvalidError for bytes whose encoding cannot be told.
    """
    marked = next((encoding for mark, encoding in _MARKS.items() if raw.startswith(mark)), None)
    text = _read(raw, marked or _known(declared))
    if text is None or (not marked and _strange_share(text) > _MOST_STRANGE):
        text = _judged(raw) if (utf_8 := _read(raw, "utf-8")) is None else utf_8
    if text is None or "\0" in text:
        problem = "its encoding is unknown or cannot be told from another one"
        raise DocumentInvalidError(f"{problem}. Save it as UTF-8.")
    return text


def decoded_page(raw: bytes) -> str:
    """Return the text of a page that may declare its encoding, as HTML and XML do. Raises
    DocumentInvalidError."""
    found = _DECLARATION.search(raw[:_DECLARED_WITHIN])
    declared = (found[1] or found[2]).decode() if found else None
    is_wide = declared is not None and declared.lower().startswith("utf-16")  # then it would not be readable
    return decoded(raw, declared=None if is_wide else declared)


def _known(declared: str | None) -> str | None:
    """Return the encoding that browsers take for a declared one; None for one that is unknown."""
    try:
        name = codecs.lookup(declared or "").name
    except LookupError:
        return None
    return "cp1252" if name in ("iso8859-1", "ascii") else name if _TEXT_ENCODING.match(name) else None


def _read(raw: bytes, encoding: str | None) -> str | None:
    try:
        return raw.decode(encoding) if encoding else None
    except UnicodeError:
        return None


def _judged(raw: bytes) -> str | None:
    readings = {text: _strange_share(text) for name in _JUDGED if (text := _read(raw, name))}
    best, mac = min(readings, key=readings.__getitem__, default=""), _read(raw, "mac_roman") or ""
    is_open = readings.get(mac) == readings.get(best) and not _RARE.isdisjoint(set(best) - set(mac))
    return None if is_open or readings.get(best, 1) > _MOST_STRANGE else best


def _strange_share(text: str) -> float:
    """Return the share of the words with signs above ASCII that have such a sign out of place."""
    words = set(islice((word for word in text.split() if not word.isascii()), _MOST_WORDS))
    opening = {sign for sign, end in ("\u00a1!", "\u00bf?") if end not in text}  # without its end
    strange = sum(
        not opening.isdisjoint(word) or _STRANGE.search(word.translate(_KIND)) is not None for word in words
    )
    return strange / max(1, len(words))


# Plain text

_BLANK = re.compile(r"\n[^\S\n]*\n")
_LINE = re.compile(
    r"(?:(?:(?P<bullet>[-*\u2022\u25aa\u25cf\u2013])|(?P<step>\d{1,3}[.)]))[ \t]+(?=\S))?(?P<words>.*)",
    re.DOTALL,
)
"""A line of plain text, as an item of a list where it begins with a marker."""
_FEWEST_DELIMITERS = {"\t": 1, ";": 1, "|": 1, ",": 2}
"""How many of each a line of a table has at least: prose has commas, too."""
_FEWEST_ROWS = 3
_SENTENCE_ENDS = (".", "!", "?", ":")


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
        if rows := _table_rows(lines):
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


def _table_rows(lines: Sequence[str]) -> list[Row]:
    """Return the lines as rows of a table; none for other text."""
    if len(lines) < _FEWEST_ROWS or any(line.rstrip().endswith(_SENTENCE_ENDS) for line in lines):
        return []
    for delimiter, fewest in _FEWEST_DELIMITERS.items():
        counts = {line.count(delimiter) for line in lines}
        if len(counts) == 1 and counts.pop() >= fewest:
            parts = ([part.strip().strip('"') for part in line.split(delimiter)] for line in lines)
            cells = ({at: text_cell(text) for at, text in enumerate(row, start=1) if text} for row in parts)
            return [Row(at, row, at) for at, row in enumerate(cells, start=1) if row]
    return []


def _marker_kind(line: re.Match[str] | None) -> str:
    return next((kind for kind in ("step", "bullet") if line and line[kind]), "")


# Separated values (CSV) by the standard library: any usual delimiter, and several tables in a file

_DELIMITERS = ",;\t|"
_SAMPLE_ROWS = 50
_SAMPLE_CHARACTERS = 20_000
"""As much as judges the delimiter: each quote may be looked for to the end of it."""
_DECLARED = re.compile(r'"?sep=(.|\\t)"?[ \t]*(?:\r\n|\r|\n|$)', re.I)
"""The first line, which names the delimiter for Excel."""
_GUARDED = re.compile(r'\A="([^"]*)"\Z')
"""A text that Excel is to take for no number: ="00731"."""
_QUOTED = r'(?:^|(?<=[{0}]))"((?:[^"{1}]|""|"(?![{0}\r\n]|\Z))*+)"(?=[{0}\r\n]|\Z)'
"""A cell in quotes, with the delimiters and what it does not hold; quotes inside may be not doubled."""


def convert_csv(raw: bytes) -> Page:
    """Return the tables of separated values. Raises DocumentInvalidError."""
    text = decoded(raw)
    declared = _DECLARED.match(text)
    if declared:
        delimiter, text = declared[1].replace("\\t", "\t"), text[declared.end() :]
    else:
        # What is in quotes says nothing of the delimiter.
        cells = re.compile(_QUOTED.format(_DELIMITERS, ""), re.M)
        bare = cells.sub(lambda cell: "0" if is_number(cell[1]) else "text", text[:_SAMPLE_CHARACTERS])
        delimiter = max(_DELIMITERS, key=lambda delimiter: _fitness(bare, delimiter))
    count = text.count(delimiter) + text.count("\n")
    if count > MOST_CELLS:
        problem = f"it has {count:,} cells; at most {MOST_CELLS:,} are read"
        raise DocumentInvalidError(f"{problem}. Split the file.")
    rows = list(_rows(text, delimiter, skipped=1 if declared else 0))
    return Page(tuple(region_blocks(rows, Place("line"), level=1)))


def _rows(text: str, delimiter: str, *, skipped: int) -> Iterator[Row]:
    quoted = re.compile(_QUOTED.format(re.escape(delimiter), r"\n"), re.M)
    text = quoted.sub(lambda cell: '"{}"'.format(cell[1].replace('""', '"').replace('"', '""')), text)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    number, line, usual = 1, 1 + skipped, 0
    while True:
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise _not_csv(line, str(error)) from None
        if values is None:
            return
        inner = [line for value in values if "\n" in value for line in value.split("\n")]
        if inner and (len(values) != usual > 1 or _holds_rows(inner[1:-1], delimiter, usual)):
            raise _not_csv(line, "a quote has no end")
        usual = len(values) if len(values) > 1 else usual
        shown = (_GUARDED.sub(r"\1", value.strip()) for value in values)
        filled = {at: text_cell(value) for at, value in enumerate(shown, start=1) if value}
        if filled:
            yield Row(number, filled, line, len(values))
        line = reader.line_num + 1 + skipped
        number += 1


def _holds_rows(lines: Sequence[str], delimiter: str, width: int) -> bool:
    """Return whether lines inside a cell are rows. Those of two cells may be an address with a comma."""
    return width > 2 and any(line.count(delimiter) >= width - 1 for line in lines)


def _not_csv(line: int, problem: str) -> DocumentInvalidError:
    where = f"it is not CSV: in the row that begins in line {line:,}, {problem}"
    return DocumentInvalidError(f"{where}. Correct its quotes, or export it again.")


def _fitness(text: str, delimiter: str) -> tuple[int, int, int]:
    """Return how well a delimiter cuts the first rows: how many have as many cells as a row beside them, less
    the cells that hold another delimiter and are no number; how many cells are numbers, and of all."""
    sample = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        rows = [row for row in islice(sample, _SAMPLE_ROWS) if any(row)]
    except csv.Error:
        return (0, 0, 0)
    cells = [cell for row in rows for cell in row if len(row) > 1]
    others = _DELIMITERS.replace(delimiter, "")
    numbers = sum(map(is_number, cells))
    cut = sum(any(other in cell for other in others) and not is_number(cell) for cell in cells)
    regular = _regular(rows)
    return (regular - cut if regular else -len(rows), numbers, len(cells))


def _regular(rows: Sequence[Sequence[str]]) -> int:
    """Return how many rows have as many cells as a row above or below, and more than one."""
    widths = [len(row) for row in rows]
    alike = {
        at + side
        for at, (above, below) in enumerate(pairwise(widths))
        if above == below > 1
        for side in (0, 1)
    }
    return len(alike)
