"""Documents that hypothesis makes, written by other programs than those that read them, and read back.

What a reader sees of the document must be in the text: each word and number on its line, each cell under the
names of its column, each number of a list. What is struck or hidden must be counted. ``EXAMPLES=new`` draws
300 documents for each of the seven writers.
"""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from email.message import EmailMessage
from html import escape
from itertools import pairwise, zip_longest
from string import ascii_lowercase
from typing import Any

import hypothesis.strategies as st
from docx import Document as new_docx
from docx.opc.constants import RELATIONSHIP_TYPE
from docx.oxml import parse_xml
from docx.oxml.ns import nsdecls
from hypothesis import Phase, given, settings
from xlsxwriter import Workbook

from assistant.documents.formats import convert
from assistant.documents.page import (
    Block,
    Cell,
    Heading,
    Item,
    List,
    Page,
    Paragraph,
    Run,
    Runs,
    Shift,
    Table,
    plain,
    text_of,
)
from assistant.documents.parsing.html import read_html
from assistant.documents.parsing.markdown import read_markdown
from assistant.documents.parsing.render import render
from assistant.domain.documents import ParsedDocument, UnitKind

HELD = settings(phases=(Phase.explicit, Phase.reuse, Phase.generate))
"""Without shrinking, which takes minutes: an example has six blocks at most. ``-p no:schemathesis`` shows it:
that plugin leaves examples out of pytest's report."""

# --- what hypothesis draws --------------------------------------------------------------------------------
LETTERS = st.text("abcdefghijklmnoprstuvwxyzäéßøčžβμЖд", min_size=1, max_size=7)
WORDS = LETTERS | st.sampled_from(
    [
        "Amlodipine",
        "µg",
        "mg/kg",
        "don\u2019t",
        "β-blocker",
        "R&D",
        "A*B",
        "x_y",
        "C++",
        "[sic]",
        "a|b",
        "~home",
        "`id`",
    ]
)
NUMBERS = st.one_of(
    st.integers(0, 99_999).map(str),
    st.decimals(0, 999, places=2).map(str),
    st.integers(1_000, 9_999_999).map("{:,}".format),
    st.decimals("0.01", 9_999, places=2).map("${:,}".format),
    st.integers(1, 999).map("{:05}".format),
    st.integers(1, 999).map("-{}".format),
    st.sampled_from(["12.5%", "2\u20134", "½", "1/2", "3½", "≥65", "<5", "€1.200,50", "30.11.2026", "08:30"]),
)
PHRASES = st.lists(WORDS | NUMBERS, min_size=1, max_size=4).map(" ".join)
SIMPLE = st.lists(LETTERS | NUMBERS, min_size=1, max_size=3).map(" ".join)
"""Without signs that a format has to escape."""
NAMES = st.lists(LETTERS, min_size=1, max_size=2).map(" ".join)
LINKS = st.sampled_from(
    ["https://care.example.org/a?b=1&c=2", "https://example.org/x_(y)", "mailto:desk@example.org"]
)
RAISED = st.tuples(
    NUMBERS | LETTERS, st.integers(1, 99).map(str), st.sampled_from(["", "/L", " mg", ", then"])
).map(lambda parts: (Run(parts[0]), Run(parts[1], Shift.RAISED), *plain(parts[2])))
REPLACED = st.tuples(NUMBERS, NUMBERS, NUMBERS).map(
    lambda parts: (Run(parts[0]), Run(parts[1], is_struck=True), Run(parts[2]))
)
"""A number inside others is struck, without a space around it."""
LOWERED = st.just((Run("H"), Run("2", Shift.LOWERED), Run("O")))


@dataclass(frozen=True, slots=True)
class Holds:
    """What a format can hold of the page model."""

    marks: tuple[str, ...] = ("raised", "lowered", "struck", "hidden", "link")
    has_prose: bool = True
    """Headings, paragraphs and lists, besides tables."""
    has_headings: bool = True
    has_line_breaks: bool = True
    numerals: str = "1aAiI"
    markers: tuple[str, ...] = ("{}.",)
    has_spans: bool = True
    header_rows: tuple[int, ...] = (0, 1, 2)
    are_names_told: bool = True
    """Whether the format says which rows are headers. Else they must look like ones: filled, different names
    without numbers, and under them at least two values in each row."""
    has_tables: bool = True
    texts: st.SearchStrategy[str] = PHRASES


def runs(holds: Holds) -> st.SearchStrategy[Runs]:
    """Return texts of which the first word is in force."""
    marked: dict[str, st.SearchStrategy[Runs]] = {
        "raised": RAISED,
        "lowered": LOWERED,
        "struck": holds.texts.map(lambda text: (Run(text, is_struck=True),)) | REPLACED,
        "hidden": holds.texts.map(lambda text: (Run(text, is_hidden=True),)),
        "link": st.builds(lambda text, link: (Run(text, link=link),), holds.texts, LINKS),
    }
    words = holds.texts.map(plain)
    piece = st.one_of(words, *(marked[mark] for mark in holds.marks)) if holds.marks else words
    gaps = st.sampled_from([" ", " ", ": ", "\n", ""] if holds.has_line_breaks else [" ", " ", ": "])
    return st.builds(_joined, words, st.lists(st.tuples(gaps, piece), max_size=3))


def _joined(first: Runs, rest: Iterable[tuple[str, Runs]]) -> Runs:
    """Return runs with a gap before each of the others. What touches has no mark on one side."""
    made = [*first]
    for gap, piece in rest:
        both_marked = replace(made[-1], text="") != Run("") and replace(piece[0], text="") != Run("")
        made += [*plain(gap or (" " if both_marked or piece[0].shift else "")), *piece]
    merged: list[Run] = []
    for run in made:
        if merged and replace(merged[-1], text="") == replace(run, text=""):
            merged[-1] = replace(run, text=merged[-1].text + run.text)
        else:
            merged.append(run)
    return tuple(merged)


def lists(holds: Holds, *, depth: int = 1) -> st.SearchStrategy[List]:
    paragraph = st.builds(Paragraph, runs(replace(holds, has_line_breaks=False)))
    inner = lists(holds, depth=2).map(lambda block: (block,)) if depth == 1 else st.just(())
    blocks = st.builds(
        lambda first, more: (first, *more), paragraph, st.just(()) | inner | paragraph.map(lambda one: (one,))
    )
    return st.builds(
        _numbered,
        st.lists(blocks, min_size=1, max_size=3),
        st.integers(1, 30),
        st.sampled_from(holds.numerals),
        st.sampled_from(["-", *holds.markers]),
    )


def _numbered(items: Sequence[tuple[Block, ...]], start: int, numeral: str, marker: str) -> List:
    if marker == "-":
        return List(tuple(Item("-", blocks) for blocks in items))
    start = (
        min(start, 23) if numeral in "aA" else start
    )  # after "z" Word shows "aa", "bb", and HTML "aa", "ab"
    numbers = (marker.format(counted(start + at, numeral)) for at in range(len(items)))
    return List(tuple(map(Item, numbers, items)), is_ordered=True)


def counted(number: int, numeral: str) -> str:
    """Return a number below 40 as a list shows it; in letters, below 27."""
    if numeral in "aA":
        shown = ascii_lowercase[number - 1 : number]
    elif numeral in "iI":
        ones = ["", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix"]
        shown = ["", "x", "xx", "xxx"][number // 10] + ones[number % 10]
    else:
        shown = str(number)
    return shown.upper() if numeral.isupper() else shown


def counting_of(block: List) -> tuple[int, str, str]:
    """Return what a format says of an ordered list: its first number, the kind of its numbers, and the shape
    of its markers. "i" may be the first or the ninth, which the second item tells."""
    first, *more = [item.marker.strip("().") for item in block.items]
    numerals = ((at, kind) for kind in "1iIaA" for at in range(1, 27 if kind in "aA" else 40))
    start, kind = next(
        (at, kind)
        for at, kind in numerals
        if counted(at, kind) == first and more[:1] in ([], [counted(at + 1, kind)])
    )
    return start, kind, block.items[0].marker.replace(first, "{}")


@st.composite
def tables(draw: st.DrawFn, holds: Holds) -> Table:
    width, height = draw(st.integers(2, 4)), draw(st.integers(1, 4))
    depth = draw(st.sampled_from(holds.header_rows))
    if not holds.are_names_told and width < 3:
        depth = min(depth, 1)
    names = iter(draw(st.lists(NAMES, min_size=3 * width, max_size=3 * width, unique_by=str.casefold)))
    header = _header(draw, names, width, depth, least_group=1 if holds.are_names_told else 2)
    if depth == 1 and holds.are_names_told and draw(st.booleans()):
        header = [[Cell(()), *header[0][1:]]]
    texts = st.builds(Paragraph, runs(holds) | NUMBERS.map(plain))
    cells = st.lists(texts, min_size=1, max_size=2 if holds.has_line_breaks else 1).map(tuple)
    rows: list[list[Cell]] = []
    free = [0] * width
    """Rows below that a cell above covers, by column."""
    for number in range(height):
        row: list[Cell] = []
        may_be_empty = holds.are_names_told or (number > 0 and width > 2 and not any(free))
        at = 0
        while at < width:
            if free[at]:
                free[at] -= 1
                at += 1
                continue
            widest, most = 1, width if holds.are_names_told else width - 1
            while at + widest < width and widest < most and not free[at + widest]:
                widest += 1
            spans = holds.has_spans and number > 0 and draw(st.integers(0, 3)) == 0
            columns = draw(st.integers(1, widest)) if spans else 1
            below = draw(st.integers(1, min(2, height - number))) if spans else 1
            is_empty = may_be_empty and not spans and draw(st.integers(0, 2)) == 0
            may_be_empty = may_be_empty and (holds.are_names_told or not (is_empty or spans))
            is_first = number == at == 0 and not depth
            text = (Paragraph(plain("12")),) if is_first else () if is_empty else draw(cells)
            row.append(Cell(text, below, columns))
            free[at : at + columns] = [below - 1] * columns
            at += columns
        rows.append(row)
    return Table(tuple(map(tuple, [*header, *rows])), depth)


def _header(
    draw: st.DrawFn, names: Iterator[str], width: int, depth: int, *, least_group: int
) -> list[list[Cell]]:
    """Return rows of names; of two rows the first has groups, of which each has as many parts as columns."""

    def named(rows: int = 1, columns: int = 1) -> Cell:
        return Cell((Paragraph(plain(next(names))),), rows, columns)

    if depth < 2:
        return [[named() for _ in range(width)]] * depth
    upper, lower = [named(rows=2)], list[Cell]()
    at = 1
    while at < width:
        columns = min(width - at, draw(st.integers(1 if lower else least_group, 3)))
        upper.append(named(rows=2) if columns == 1 else named(columns=columns))
        lower += [named() for _ in range(columns)] if columns > 1 else []
        at += columns
    if lower:
        return [upper, lower]
    return [[replace(cell, rows=1) for cell in upper], [named() for _ in range(width)]]


def pages(holds: Holds) -> st.SearchStrategy[Page]:
    table = tables(holds)
    if not holds.has_prose:
        return st.builds(lambda block: Page((block,)), table)
    heading = st.builds(Heading, st.integers(1, 6), st.builds(plain, NAMES))
    paragraph = st.builds(Paragraph, runs(holds))
    blocks = [paragraph, lists(holds)]
    blocks += [heading] if holds.has_headings else []
    blocks += [table] if holds.has_tables else []
    return st.builds(
        lambda first, rest: Page((first, *rest)), paragraph, st.lists(st.one_of(*blocks), max_size=5)
    )


# --- what a reader sees -----------------------------------------------------------------------------------
_TOKEN = re.compile(r"[-≥≤<>$€]*[^\W_]+(?:[.,:'\u2019][^\W_]+)*%?")


def tokens(text: str) -> list[str]:
    """Return the words and numbers of a text, each with its sign."""
    return _TOKEN.findall(text.replace("^", " "))


def in_force(runs_: Runs) -> str:
    """Return what is shown and valid: raised numbers apart from others."""
    shown = ""
    for run in runs_:
        if run.is_struck or run.is_hidden or run.shift is Shift.RAISED:
            shown += " "
        if run.shift is Shift.RAISED:
            shown += f"{run.text} "
        elif not (run.is_struck or run.is_hidden):
            shown += run.text
    return shown


def lines_of(runs_: Runs) -> Iterator[list[str]]:
    return filter(None, map(tokens, in_force(runs_).split("\n")))


def cell_tokens(cell: Cell) -> list[str]:
    return [
        token
        for block in cell.blocks
        if isinstance(block, Paragraph)
        for token in tokens(in_force(block.runs))
    ]


@dataclass(slots=True)
class Seen:
    """What the document shows: lines of words, tables by their columns' names, and what is not in force."""

    lines: list[list[str]]
    tables: list[tuple[list[list[str]], list[list[list[str]]]]]
    """Names of the columns, and the cells of each row."""
    steps: list[str]
    headings: list[tuple[str, ...]]
    links: set[tuple[str, str]]
    struck: int = 0
    hidden: int = 0
    unused_names: int = 0

    def add(self, block: Block, marker: str = "") -> None:
        match block:
            case Heading():
                self.lines += lines_of(block.runs)
            case Paragraph():
                self._count(block.runs)
                lines = list(lines_of(block.runs))
                self.lines += [[*tokens(marker), *line] if at == 0 else line for at, line in enumerate(lines)]
            case List():
                for item in block.items:
                    self.steps += [item.marker] if block.is_ordered else []
                    for at, inner in enumerate(item.blocks):
                        self.add(inner, item.marker if at == 0 else "")
            case Table():
                self._table(block)
            case _:
                raise AssertionError(block)

    def _count(self, runs_: Runs) -> None:
        self.struck += sum(len(run.text.split()) for run in runs_ if run.is_struck)
        self.hidden += sum(len(run.text.split()) for run in runs_ if run.is_hidden)
        self.links |= {(run.text, run.link) for run in runs_ if run.link}

    def _table(self, block: Table) -> None:
        if not block.header_rows and all(sum(map(bool, map(texts_of, row))) < 2 for row in block.rows):
            for cell in (cell for row in block.rows for cell in row):  # it only places texts
                for text in cell.blocks:
                    self.add(text)
            return
        for cell in (cell for row in block.rows for cell in row):
            for text in texts_of(cell):
                self._count(text)
        grid = filled_grid(block)
        names: list[list[str]] = []
        for column in zip(*grid[: block.header_rows], strict=True):
            own = [cell for at, cell in enumerate(column) if cell not in column[:at]]
            names.append([token for cell in own for token in cell_tokens(cell)])
        used = set[int]()
        rows: list[list[list[str]]] = []
        for row, begun in zip(grid[block.header_rows :], block.rows[block.header_rows :], strict=True):
            if not begun:  # all of it belongs to cells of the row above
                continue
            is_title = all(cell is row[0] for cell in row)
            cells = [cell_tokens(cell) for cell in (row[:1] if is_title else row)]
            if not names and not is_title:  # a cell across columns stands once
                cells = [own if at == 0 or row[at] is not row[at - 1] else [] for at, own in enumerate(cells)]
            if not any(cells):
                continue
            used |= set() if is_title else {at for at, cell in enumerate(cells) if cell}
            rows.append(cells)
            named = zip_longest(cells, [] if is_title else names, fillvalue=list[str]())
            self.lines.append([token for cell, name in named if cell for token in (*name, *cell)])
        if not rows and names:
            self.lines.append([token for name in names for token in name])
            rows, names = [names], []
            used = set()
        self.unused_names += sum(len(name) for at, name in enumerate(names) if at not in used)
        self.tables += [(names, rows)] if rows else []


def texts_of(cell: Cell) -> list[Runs]:
    """Return the paragraphs of a cell."""
    return [block.runs for block in cell.blocks if isinstance(block, Paragraph)]


def filled_grid(table: Table) -> list[list[Cell]]:
    """Return the cell that covers each place."""
    grid: list[dict[int, Cell]] = [{} for _ in table.rows]
    for number, row in enumerate(table.rows):
        for cell in row:
            at = next(place for place in range(100) if place not in grid[number])
            for line in grid[number : number + cell.rows]:
                line |= dict.fromkeys(range(at, at + cell.columns), cell)
    return [[cell for _, cell in sorted(line.items())] for line in grid]


def seen(page: Page) -> Seen:
    shown = Seen([], [], [], [], set())
    for block in page.blocks:
        shown.add(block)
    return shown


# --- HTML -------------------------------------------------------------------------------------------------
HTML = Holds()
_HTML_MARKS = {
    "raised": ["<sup>{}</sup>", '<span style="vertical-align: super">{}</span>'],
    "lowered": ["<sub>{}</sub>"],
    "struck": [
        "<s>{}</s>",
        "<del>{}</del>",
        "<strike>{}</strike>",
        '<i style="text-decoration:line-through">{}</i>',
    ],
    "hidden": ["<span hidden>{}</span>", '<b style="display: none">{}</b>'],
    "plain": ["{}", "{}", "<b>{}</b>", "<span>{}</span>"],
}


def mark_of(run: Run) -> str:
    marks = {"struck": run.is_struck, "hidden": run.is_hidden, "link": run.link, str(run.shift): run.shift}
    return next((name for name, is_on in marks.items() if is_on), "plain")


@dataclass(frozen=True, slots=True)
class HtmlWriter:
    chance: random.Random

    def page(self, page: Page) -> str:
        body = self.blocks(page.blocks)
        around = self.chance.choice(
            ["{}", "<html><body>{}</body></html>", "<main>\n{}</main>", "<div>{}</div>"]
        )
        return "<!doctype html>" + around.format(body)

    def blocks(self, blocks: Iterable[Block]) -> str:
        return "\n".join(map(self.block, blocks))

    def block(self, block: Block) -> str:
        match block:
            case Heading():
                return f"<h{block.level}>{self.runs(block.runs)}</h{block.level}>"
            case Paragraph():
                return f"<p>{self.runs(block.runs)}</p>"
            case List():
                return self.list(block)
            case Table():
                return self.table(block)
            case _:
                raise AssertionError(block)

    def runs(self, runs_: Runs) -> str:
        return "".join(map(self.run, runs_))

    def run(self, run: Run) -> str:
        text = escape(run.text).replace("\n", self.chance.choice(["<br>", "<br />\n"]))
        if run.link:
            return f'<a href="{escape(run.link)}">{text}</a>'
        return self.chance.choice(_HTML_MARKS[mark_of(run)]).format(text)

    def list(self, block: List) -> str:
        items = "\n".join(f"<li>{self._item(item.blocks)}" for item in block.items)
        if not block.is_ordered:
            return f"<ul>\n{items}\n</ul>"
        number, numeral, _ = counting_of(block)
        return f'<ol type="{numeral}" start="{number}">\n{items}\n</ol>'

    def _item(self, blocks: Sequence[Block]) -> str:
        if len(blocks) == 1 and isinstance(blocks[0], Paragraph):
            return self.runs(blocks[0].runs)
        return self.blocks(blocks)

    def table(self, block: Table) -> str:
        tags = ["th"] * block.header_rows + ["td"] * len(block.rows)
        rows = [
            "<tr>" + "".join(self._cell(cell, tag) for cell in row)
            for row, tag in zip(block.rows, tags, strict=False)
        ]
        head, body = rows[: block.header_rows], rows[block.header_rows :]
        if head and self.chance.random() < 0.5:
            rows = ["<thead>", *head, "</thead>", "<tbody>", *body, "</tbody>"]
        return "<table>\n" + "\n".join(rows) + "\n</table>"

    def _cell(self, cell: Cell, tag: str) -> str:
        texts = [*map(self.runs, texts_of(cell))]
        joined = "<br>".join(texts) if self.chance.random() < 0.5 else "".join(map("<p>{}</p>".format, texts))
        spans = f' rowspan="{cell.rows}"' if cell.rows > 1 else ""
        spans += f" colspan={cell.columns}" if cell.columns > 1 else ""
        return f"<{tag}{spans}>{texts[0] if len(texts) == 1 else joined}</{tag}>"


# --- Markdown ---------------------------------------------------------------------------------------------
MARKDOWN = Holds(numerals="1", markers=("{}.", "{})"))
_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")


@dataclass(frozen=True, slots=True)
class MarkdownWriter:
    chance: random.Random

    def page(self, page: Page) -> str:
        return self.blocks(page.blocks)

    def blocks(self, blocks: Sequence[Block]) -> str:
        """Return blocks; a comment ends a list before another one."""
        parts = [self.block(blocks[0])] if blocks else []
        for before, block in pairwise(blocks):
            if isinstance(before, List) and isinstance(block, List):
                parts.append("<!-- -->")
            parts.append(self.block(block))
        return "\n\n".join(parts)

    def block(self, block: Block) -> str:
        match block:
            case Heading():
                return f"{'#' * block.level} {self.runs(block.runs, '<br>')}"
            case Paragraph():
                return self.runs(block.runs, self.chance.choice(["  \n", "\\\n", "<br>", "<br/>\n"]))
            case List():
                return "\n".join(map(self._item, block.items))
            case Table():
                is_plain = block.header_rows == 1 and all(
                    cell.rows == cell.columns == 1 for row in block.rows for cell in row
                )
                return self._table(block) if is_plain else HtmlWriter(self.chance).table(block)
            case _:
                raise AssertionError(block)

    def _item(self, item: Item) -> str:
        marker = f"{item.marker} "
        return marker + self.blocks(item.blocks).replace("\n", "\n" + " " * len(marker))

    def _table(self, block: Table) -> str:
        rows = [f"| {' | '.join(map(self._cell, row))} |" for row in block.rows]
        rows.insert(1, "|" + self.chance.choice([" --- |", ":-:|"]) * len(block.rows[0]))
        return "\n".join(rows)

    def _cell(self, cell: Cell) -> str:
        return "<br>".join(self.runs(text, "<br>") for text in texts_of(cell))

    def runs(self, runs_: Runs, line_break: str) -> str:
        return "".join(self._run(run).replace("\n", line_break) for run in runs_)

    def _run(self, run: Run) -> str:
        text = _PUNCTUATION.sub(r"\\\1", run.text)
        match mark_of(run):
            case "plain":
                return text
            case "link":
                return f"[{text}](<{run.link}>)"
            case "struck" if run.text[0].isalnum() and run.text[-1].isalnum():
                return f"~~{text}~~"
            case mark:
                return self.chance.choice(_HTML_MARKS[mark]).format(text)


# --- separated values -------------------------------------------------------------------------------------
CSV = Holds(marks=(), has_prose=False, has_spans=False, header_rows=(1,), are_names_told=False)


def csv_file(page: Page, chance: random.Random) -> bytes:
    (table,) = page.blocks
    assert isinstance(table, Table)
    rows = [["\n".join(map(text_of, texts_of(cell))) for cell in row] for row in table.rows]
    inside = "".join(text for row in rows for text in row if "\n" in text)  # else a quote might be lost
    out = io.StringIO()
    writer = csv.writer(
        out,
        delimiter=chance.choice([sign for sign in ",;\t|" if sign not in inside]),
        quoting=csv.QUOTE_ALL if chance.random() < 0.5 else csv.QUOTE_MINIMAL,
        lineterminator=chance.choice(["\r\n", "\n"]),
    )
    writer.writerows(rows)
    return out.getvalue().encode(chance.choice(["utf-8", "utf-8-sig", "utf-16"]))


# --- mail -------------------------------------------------------------------------------------------------
PLAIN_MAIL = Holds(
    marks=(),
    has_headings=False,
    has_line_breaks=False,
    numerals="1",
    markers=("{}.", "{})"),
    has_tables=False,
    texts=SIMPLE,
)
HTML_MAIL = Holds()
SENDER = "Claims Desk <desk@example.org>"


def mail(page: Page, chance: random.Random, *, is_plain: bool) -> bytes:
    message = EmailMessage()
    message["From"], message["Subject"] = SENDER, "Wörds and numbers"
    cte = chance.choice(["quoted-printable", "base64", "8bit"])
    if is_plain:
        message.set_content(plain_text(page.blocks), cte=cte)
        return message.as_bytes()
    html = HtmlWriter(chance).page(page)
    if chance.random() < 0.5:
        message.set_content("HTML")
        message.add_alternative(html, subtype="html", cte=cte)
    else:
        message.set_content(html, subtype="html", cte=cte)
    return message.as_bytes()


def plain_text(blocks: Iterable[Block]) -> str:
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Paragraph):
            lines += [text_of(block.runs), ""]
        elif isinstance(block, List):
            for item in block.items:
                first, *more = plain_text(item.blocks).strip().split("\n")
                lines += [f"{item.marker} {first}", *(f"   {line}" for line in more)]
            lines.append("")
    return "\n".join(lines) + "\n"


# --- Word -------------------------------------------------------------------------------------------------
WORD = Holds(markers=("{}.", "{})", "({})", "{}"))
_FORMATS = {"1": "decimal", "a": "lowerLetter", "A": "upperLetter", "i": "lowerRoman", "I": "upperRoman"}


def word_file(page: Page, chance: random.Random) -> bytes:
    return _WordWriter(chance).page(page)


class _WordWriter:
    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._file: Any = new_docx()
        self._lists = 100

    def page(self, page: Page) -> bytes:
        for block in page.blocks:
            self._block(block)
        out = io.BytesIO()
        self._file.save(out)
        return out.getvalue()

    def _block(self, block: Block, level: int = 0) -> None:
        match block:
            case Heading():
                self._runs(self._file.add_heading(level=block.level), block.runs)
            case Paragraph():
                self._runs(self._file.add_paragraph(), block.runs)
            case List():
                self._list(block, level)
            case Table():
                self._table(block)
            case _:
                raise AssertionError(block)

    def _list(self, block: List, level: int) -> None:
        number = self._numbering(block, level)
        for item in block.items:
            first, *more = item.blocks
            assert isinstance(first, Paragraph)
            paragraph = self._file.add_paragraph()
            properties = paragraph._p.get_or_add_pPr().get_or_add_numPr()
            properties.get_or_add_ilvl().val = level
            properties.get_or_add_numId().val = number
            self._runs(paragraph, first.runs)
            for inner in more:
                self._block(inner, level + 1)

    def _numbering(self, block: List, level: int) -> int:
        """Add the definition of a list, and return its number."""
        self._lists += 1
        kind, start, text = "bullet", 1, "\u2022"
        if block.is_ordered:
            start, numeral, shape = counting_of(block)
            kind, text = _FORMATS[numeral], shape.format(f"%{level + 1}")
        levels = "".join(
            f'<w:lvl w:ilvl="{at}"><w:start w:val="{start}"/><w:numFmt w:val="{kind}"/>'
            f'<w:lvlText w:val="{text}"/></w:lvl>'
            for at in range(level + 1)
        )
        root = self._file.part.numbering_part.element
        definition = f'<w:abstractNum {nsdecls("w")} w:abstractNumId="{self._lists}">{levels}</w:abstractNum>'
        root.insert(0, parse_xml(definition))
        number = (
            f'<w:num {nsdecls("w")} w:numId="{self._lists}"><w:abstractNumId w:val="{self._lists}"/></w:num>'
        )
        root.append(parse_xml(number))
        return self._lists

    def _table(self, block: Table) -> None:
        grid = filled_grid(block)
        table = self._file.add_table(rows=len(grid), cols=len(grid[0]))
        for row in table.rows[: block.header_rows] if block.header_rows else ():
            row._tr.get_or_add_trPr().append(parse_xml(f"<w:tblHeader {nsdecls('w')}/>"))
        places: dict[int, list[tuple[int, int]]] = {}
        for line, cells in enumerate(grid):
            for column, cell in enumerate(cells):
                places.setdefault(id(cell), []).append((line, column))
        for cells in block.rows:
            for cell in cells:
                first, last = places[id(cell)][0], places[id(cell)][-1]
                target = table.cell(*first)
                if first != last:
                    target = target.merge(table.cell(*last))
                for at, text in enumerate(texts_of(cell)):
                    self._runs(target.paragraphs[0] if at == 0 else target.add_paragraph(), text)

    def _runs(self, paragraph: Any, runs_: Runs) -> None:
        for run in runs_:
            added = paragraph.add_run()
            for at, line in enumerate(run.text.split("\n")):
                if at:
                    added.add_break()
                added.add_text(line)
            added.bold = self._chance.random() < 0.2 or None
            font = added.font
            match mark_of(run):
                case "raised":
                    font.superscript = True
                case "lowered":
                    font.subscript = True
                case "struck":
                    font.strike, font.double_strike = self._chance.choice([(True, None), (None, True)])
                case "hidden":
                    font.hidden = True
                case "link":
                    target = self._file.part.relate_to(
                        run.link, RELATIONSHIP_TYPE.HYPERLINK, is_external=True
                    )
                    link = parse_xml(f'<w:hyperlink {nsdecls("w", "r")} r:id="{target}"/>')
                    paragraph._p.replace(added._r, link)
                    link.append(added._r)
                case _:
                    pass


# --- Excel ------------------------------------------------------------------------------------------------
EXCEL = Holds(marks=("raised", "struck"), has_prose=False, header_rows=(1, 2), are_names_told=False)
_NUMBER_FORMATS: Sequence[tuple[re.Pattern[str], str, float]] = [
    (re.compile(r"0\d{4}"), "00000", 1),
    (re.compile(r"\d{1,5}"), "General", 1),
    (re.compile(r"\d+\.\d"), "0.0", 1),
    (re.compile(r"\d+\.\d\d"), "0.00", 1),
    (re.compile(r"\d{1,3}(,\d{3})+"), "#,##0", 1),
    (re.compile(r"\$\d{1,3}(,\d{3})*\.\d\d"), "$#,##0.00", 1),
    (re.compile(r"\d+\.\d%"), "0.0%", 0.01),
]
"""By what is shown: the format, and the factor of the stored value."""


def workbooks() -> st.SearchStrategy[Page]:
    """Return pages of sheets: each is a heading with one or two tables below."""
    sheets = st.lists(st.lists(tables(EXCEL), min_size=1, max_size=2), min_size=1, max_size=2)
    return sheets.map(
        lambda drawn: Page(
            tuple(
                block
                for number, found in enumerate(drawn, start=1)
                for block in (Heading(2, plain(f"Prices {number}")), *found)
            )
        )
    )


def excel_file(page: Page, chance: random.Random) -> bytes:
    out = io.BytesIO()
    with Workbook(out, {"in_memory": True}) as book:
        sheets: list[_ExcelSheet] = []
        for block in page.blocks:
            if isinstance(block, Heading):
                sheets.append(_ExcelSheet(book, book.add_worksheet(text_of(block.runs)), chance))
            elif isinstance(block, Table):
                sheets[-1].write(block)
    return out.getvalue()


class _ExcelSheet:
    def __init__(self, book: Any, sheet: Any, chance: random.Random) -> None:
        self._book, self._sheet, self._chance = book, sheet, chance
        self._top, self._left = chance.randint(0, 2), chance.randint(0, 1)
        self._is_bold = chance.random() < 0.7

    def write(self, table: Table) -> None:
        grid = filled_grid(table)
        top, left = self._top, self._left
        self._top += len(grid) + 1
        done = set[int]()
        for line, cells in enumerate(grid):
            for column, cell in enumerate(cells):
                if id(cell) in done:
                    continue
                done.add(id(cell))
                place = top + line, left + column
                if cell.rows * cell.columns > 1:
                    self._sheet.merge_range(*place, place[0] + cell.rows - 1, place[1] + cell.columns - 1, "")
                self._cell(place, cell, {"bold": True} if self._is_bold and line < table.header_rows else {})

    def _cell(self, place: tuple[int, int], cell: Cell, look: dict[str, Any]) -> None:
        runs_ = tuple(
            run for at, text in enumerate(texts_of(cell)) for run in (*plain("\n" if at else ""), *text)
        )
        text = text_of(runs_)
        found = next((made for made in _NUMBER_FORMATS if made[0].fullmatch(text)), None)
        if found and len(runs_) == 1 and mark_of(runs_[0]) == "plain" and self._chance.random() < 0.8:
            value = float(re.sub("[$,%]", "", text)) * found[2]
            self._sheet.write_number(*place, value, self._book.add_format({**look, "num_format": found[1]}))
        elif not runs_:
            self._sheet.write_blank(*place, None, self._book.add_format(look))
        elif len(runs_) == 1:
            self._sheet.write_string(*place, text, self._book.add_format({**look, **self._font(runs_[0])}))
        else:
            pieces = [part for run in runs_ for part in (self._book.add_format(self._font(run)), run.text)]
            self._sheet.write_rich_string(*place, *pieces, self._book.add_format(look))

    @staticmethod
    def _font(run: Run) -> dict[str, Any]:
        return {"raised": {"font_script": 1}, "struck": {"font_strikeout": True}}.get(mark_of(run), {})


# --- written and read back --------------------------------------------------------------------------------
CHANCES = st.randoms(use_true_random=False)


def check(page: Page, read: Page, *, first: Sequence[str] = ()) -> None:
    """Fail unless a page that was read back shows what the page shows. ``first``: lines before it."""
    expected, rendered = seen(page), render(Page.from_bytes(read.to_bytes()))
    parsed = rendered.parsed
    assert [line for line in map(tokens, parsed.text.split("\n")) if line] == [
        *map(tokens, first),
        *expected.lines,
    ]
    assert tables_of(parsed) == expected.tables
    steps = [unit.text.split()[0] for unit in parsed.units if unit.kind is UnitKind.STEP]
    assert steps == expected.steps
    words = dict[str, int].fromkeys(["struck words", "hidden words", "names of empty columns"], 0)
    for loss in rendered.losses:
        words[loss.what] = words.get(loss.what, 0) + loss.words
    assert words == {
        "struck words": expected.struck,
        "hidden words": expected.hidden,
        "names of empty columns": expected.unused_names,
    }


def tables_of(parsed: ParsedDocument) -> list[tuple[list[list[str]], list[list[list[str]]]]]:
    return [
        (
            [tokens(name) for name in table.header],
            [[tokens(parsed.text[cell.start : cell.end]) for cell in row] for row in table.rows],
        )
        for table in parsed.tables
    ]


@HELD
@given(pages(HTML), CHANCES)
def test_html_is_read_back(page: Page, chance: random.Random) -> None:
    check(page, read_html(HtmlWriter(chance).page(page)))


@HELD
@given(pages(MARKDOWN), CHANCES)
def test_markdown_is_read_back(page: Page, chance: random.Random) -> None:
    check(page, read_markdown(MarkdownWriter(chance).page(page)))


@HELD
@given(pages(CSV), CHANCES)
def test_separated_values_are_read_back(page: Page, chance: random.Random) -> None:
    check(page, convert("a.csv", csv_file(page, chance)))


@HELD
@given(pages(PLAIN_MAIL), CHANCES)
def test_a_plain_mail_is_read_back(page: Page, chance: random.Random) -> None:
    check(page, convert("a.eml", mail(page, chance, is_plain=True)), first=[f"From: {SENDER}"])


@HELD
@given(pages(HTML_MAIL), CHANCES)
def test_a_mail_of_html_is_read_back(page: Page, chance: random.Random) -> None:
    check(page, convert("a.eml", mail(page, chance, is_plain=False)), first=[f"From: {SENDER}"])


@HELD
@given(pages(WORD), CHANCES)
def test_a_word_file_is_read_back(page: Page, chance: random.Random) -> None:
    check(page, convert("a.docx", word_file(page, chance)))


@HELD
@given(workbooks(), CHANCES)
def test_a_workbook_is_read_back(page: Page, chance: random.Random) -> None:
    check(page, convert("a.xlsx", excel_file(page, chance)))
