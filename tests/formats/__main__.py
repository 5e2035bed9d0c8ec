"""How much of a PDF's text and tables is read right, against truths that other people wrote.

    python -m tests.formats --truth FOLDER [--engine pdfplumber]

FOLDER holds the repositories of ``sources.toml`` as FOLDER/OWNER/NAME, and as FOLDER/rendered what
``tests.formats.rendered`` made.
The runner-up pypdf is measured if it is on the path of Python.
"""

from __future__ import annotations

import argparse
import re
import time
import tomllib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pdfplumber

from assistant.documents.formats import convert
from assistant.documents.page import Block, Heading, List, Paragraph, Place, Table, text_of
from assistant.domain.errors import DocumentInvalidError
from tools.tables import markdown_table

_SOURCES = Path(__file__).with_name("sources.toml")
_WORDS = re.compile(r"[^\W\d_]+|\d+")
_ALONE = re.compile(r"[\W_]+")
_NOT_BODY = {"xref", "fig", "table-wrap", "table", "inline-formula", "disp-formula", "label"}
"""Elements of an article's XML whose text stands elsewhere in the PDF, or not as text."""

Grid = list[list[str]]


@dataclass(frozen=True, slots=True)
class Cell:
    text: str
    rows: range
    columns: range


@dataclass(frozen=True, slots=True)
class TruthTable:
    kind: str
    page: int | None
    """None if the truth does not say it."""
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class Truth:
    path: Path
    kind: str
    is_held_out: bool
    words: list[str] = field(default_factory=list[str])
    """Without words, the truth is about tables only."""
    tables: list[TruthTable] = field(default_factory=list[TruthTable])


@dataclass(frozen=True, slots=True)
class Reading:
    words: list[str]
    tables: list[tuple[int, Grid]]
    """Each with its page."""


# --- truths -----------------------------------------------------------------------------------------------
def truths(folder: Path) -> Iterator[Truth]:
    """Yield the truths of the sources that are in the folder."""
    for source in tomllib.loads(_SOURCES.read_text())["source"]:
        load = {"icdar": _icdar, "xml": _xml}[source["format"]]
        for path in sorted(folder.glob(f"{source['repository']}/{source['files']}")):
            is_held_out = re.search(source["held_out"], path.as_posix()) is not None
            if path.with_suffix(".xml").exists() or source["format"] == "icdar":
                yield load(path, source["kind"], is_held_out)


def _icdar(path: Path, kind: str, is_held_out: bool) -> Truth:
    """Read a truth of the table competition of ICDAR 2013."""
    tables: list[TruthTable] = []
    root = ElementTree.parse(path.with_name(f"{path.stem}-str.xml")).getroot()  # noqa: S314 - pinned by commit
    with pdfplumber.open(path) as document:
        for region in root.iter("region"):
            cells: list[Cell] = []
            for cell in region.iter("cell"):
                top, left = (int(cell.get(f"start-{side}", 0)) for side in ("row", "col"))
                bottom, right = int(cell.get("end-row", top)), int(cell.get("end-col", left))
                text = cell.findtext("content") or ""
                cells.append(Cell(text, range(top, bottom + 1), range(left, right + 1)))
            page = int(region.get("page", 1))
            edges = Counter(edge["orientation"] for edge in document.pages[page - 1].edges)
            lines = "lines" if min(edges["h"], edges["v"]) > 1 else "no lines"
            tables.append(TruthTable(f"{kind}, {lines}{_merged(cells)}", page, cells))
    return Truth(path, kind, is_held_out, tables=tables)


def _merged(cells: Sequence[Cell]) -> str:
    return ", merged cells" if any(len(cell.rows) * len(cell.columns) > 1 for cell in cells) else ""


def _xml(path: Path, kind: str, is_held_out: bool) -> Truth:
    """Read an article of a journal (JATS), or the XHTML of which a PDF was rendered."""
    root = ElementTree.parse(path.with_suffix(".xml")).getroot()  # noqa: S314 - pinned by commit
    parts = [*root.iter("abstract"), *root.iter("body")]
    words = [word for part in parts for text in _texts(part) for word in _words(text)]
    kind = root.get("class", kind)
    tables = [
        TruthTable(f"{kind}{_merged(cells)}", None, cells)
        for table in root.iter("table")
        if (cells := [*_cells([*table.iter("tr")])])
    ]
    return Truth(path, kind, is_held_out, words, tables)


def _texts(element: ElementTree.Element) -> Iterator[str]:
    if element.tag not in _NOT_BODY:
        yield element.text or ""
        for child in element:
            yield from _texts(child)
            yield child.tail or ""


def _cells(rows: Sequence[Any]) -> Iterator[Cell]:
    taken: set[tuple[int, int]] = set()
    for number, row in enumerate(rows):
        column = 0
        for cell in [cell for cell in row if cell.tag in ("td", "th")]:
            while (number, column) in taken:
                column += 1
            height, width = int(cell.get("rowspan", 1)), int(cell.get("colspan", 1))
            places = range(number, number + height), range(column, column + width)
            taken |= {(top, left) for top in places[0] for left in places[1]}
            yield Cell(" ".join("".join(cell.itertext()).split()), *places)


# --- readers ----------------------------------------------------------------------------------------------
def _ours(path: Path) -> Reading:
    words: list[str] = []
    tables: list[tuple[int, Grid]] = []
    number = 0
    for block in convert(path.name, path.read_bytes()).blocks:
        match block:
            case Heading(place=Place(number=number)):  # the reader's own, of the page
                continue
            case Table():
                grid = _grid(block)
                tables.append((number, grid))
                words += [word for row in grid for text in row for word in _words(text)]
            case _:
                words += _words(" ".join(_block_texts(block)))
    return Reading(words, tables)


def _block_texts(block: Block) -> Iterator[str]:
    match block:
        case Heading() | Paragraph():
            yield text_of(block.runs)
        case List():
            for item in block.items:
                for inner in item.blocks:
                    yield from (item.marker, *_block_texts(inner))
        case _:
            raise TypeError(block)


def _grid(table: Table) -> Grid:
    """Return the texts of a table; a cell that spans several places has its text in each."""
    taken: dict[tuple[int, int], str] = {}
    for number, row in enumerate(table.rows):
        column = 0
        for cell in row:
            while (number, column) in taken:
                column += 1
            text = " ".join(text for block in cell.blocks for text in _block_texts(block))
            for line in range(number, number + cell.rows):
                taken |= {(line, place): text for place in range(column, column + cell.columns)}
    width = max((column for _, column in taken), default=-1) + 1
    return [[taken.get((line, column), "") for column in range(width)] for line in range(len(table.rows))]


def _pdfplumber(path: Path) -> Reading:
    with pdfplumber.open(path) as document:
        words = _words(" ".join(page.extract_text() for page in document.pages))
        found = [
            (page.page_number, [[cell or "" for cell in row] for row in table])
            for page in document.pages
            for table in page.extract_tables()
        ]
    return Reading(words, found)


def _pypdf(path: Path) -> Reading:
    import pypdf  # pyright: ignore

    document: Any = pypdf.PdfReader(path)  # pyright: ignore
    return Reading(_words(" ".join(page.extract_text() for page in document.pages)), [])


# --- scores -----------------------------------------------------------------------------------------------
def _words(text: str) -> list[str]:
    return _WORDS.findall(unicodedata.normalize("NFKC", text.replace("\u00ad", "")).casefold())


def _plain(text: str) -> str:
    return _ALONE.sub("", unicodedata.normalize("NFKC", text)).casefold()


def _common(left: Sequence[str], right: Sequence[str]) -> int:
    """Return the length of the longest common subsequence (Hyyrö 2004: a bit for each place)."""
    places: dict[str, int] = defaultdict(int)
    for place, text in enumerate(left):
        places[text] |= bool(text) << place
    row = whole = (1 << len(left)) - 1
    for text in right:
        shared = row & places.get(text, 0)
        row = ((row + shared) | (row - shared)) & whole
    return len(left) - row.bit_count()


def _aligned(truth: Grid, read: Grid) -> dict[int, int]:
    """Return the read row of each row of the truth: the order-preserving pairs with most texts in common."""
    best = [[(0, -1, -1)] * (len(read) + 1) for _ in range(len(truth) + 1)]
    for i, row in enumerate(truth, start=1):
        for j, other in enumerate(read, start=1):
            score = _common(row, other)
            pair = best[i - 1][j - 1][0] + score
            best[i][j] = max(
                (pair, i - 1, j - 1), (best[i - 1][j][0], i - 1, j), (best[i][j - 1][0], i, j - 1)
            )
    i, j, pairs = len(truth), len(read), dict[int, int]()
    while i > 0 < j:
        score, k, m = best[i][j]
        if k < i and m < j and score > best[k][m][0]:
            pairs[k] = m
        i, j = k, m
    return pairs


def right_cells(table: TruthTable, read: Grid) -> int:
    """Return how many cells of the truth are read in their row and column (as in GriTS, Smock et al. 2022).

    Names above each other that were joined count, if the joined name holds them.
    """
    width = max(map(len, read), default=0)
    other = [[_plain(cell) for cell in row] + [""] * (width - len(row)) for row in read]
    grid = [
        [""] * max(cell.columns.stop for cell in table.cells)
        for _ in range(max(c.rows.stop for c in table.cells))
    ]
    for cell in table.cells:
        for row in cell.rows:
            for column in cell.columns:
                grid[row][column] = _plain(cell.text)
    if not other:
        return 0
    rows = _aligned(grid, other)
    columns = _aligned([*map(list, zip(*grid, strict=True))], [*map(list, zip(*other, strict=True))])
    body = min((row for row, place in rows.items() if place > 0), default=0)
    return sum(
        any(
            column in columns
            and (
                (row in rows and other[rows[row]][columns[column]] == _plain(cell.text))
                or (row < body and _plain(cell.text) in other[0][columns[column]])
            )
            for row in cell.rows
            for column in cell.columns
        )
        for cell in table.cells
        if _plain(cell.text)
    )


def _joined(grids: Sequence[Grid]) -> Iterator[Grid]:
    """Yield the parts of a table that goes on from page to page as one: those with as many columns."""
    widths: dict[int, Grid] = defaultdict(list)
    for grid in grids:
        widths[max(map(len, grid), default=0)] += grid
    yield from widths.values()


def main() -> None:
    """Print the shares of words and cells by kind, and the held-out ones apart."""
    engines: dict[str, Callable[[Path], Reading]] = {
        "this": _ours,
        "pdfplumber": _pdfplumber,
        "pypdf": _pypdf,
    }
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--engine", choices=engines, default="this")
    parser.add_argument("--each", action="store_true", help="print each file")
    options = parser.parse_args()
    sums: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for truth in truths(options.truth):
        begin = time.process_time()
        try:
            reading = engines[options.engine](truth.path)
        except DocumentInvalidError as error:
            print(f"{truth.path}: {error}")
            reading = Reading([], [])
        part = "held out" if truth.is_held_out else "others"
        file = Counter(milliseconds=round(1000 * (time.process_time() - begin)))
        if truth.words:
            order = Counter(
                files=1,
                words=len(truth.words),
                ordered=_common(truth.words, reading.words),
                read=len(reading.words),
            )
            sums[truth.kind, part] += order
            file += order
        for table in truth.tables:
            count = sum(bool(_plain(cell.text)) for cell in table.cells)
            grids = [grid for page, grid in reading.tables if table.page in (None, page)]
            if table.page is None:
                grids += _joined(grids)
            right = max((right_cells(table, grid) for grid in grids), default=0)
            cells = Counter(tables=1, cells=count, right=right)
            sums[table.kind, part] += cells
            file += cells
        if options.each:
            print(truth.path.parent.name, truth.path.stem, dict(file))
    rows = [
        (
            kind,
            part,
            f"{s['files']}",
            _share(s["ordered"], s["words"]),
            _share(s["read"] - s["ordered"], s["read"]),
            f"{s['tables']}",
            f"{s['cells']}",
            _share(s["right"], s["cells"]),
        )
        for (kind, part), s in sorted(sums.items())
    ]
    print(
        markdown_table(
            ("kind", "part", "texts", "words in order", "extra words", "tables", "cells", "cells right"), rows
        )
    )


def _share(count: float, of: float) -> str:
    return f"{count / of:.1%}" if of else ""


if __name__ == "__main__":
    main()
