"""Pages that hypothesis makes, written as HTML and Markdown, and read back.

What a reader sees of the document must be in the text: each word and number on its line, each cell under the
names of its column, each number of a list. What is struck or hidden must be counted. ``EXAMPLES=new`` draws
300 documents for each of the two writers.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape
from itertools import pairwise, zip_longest
from string import ascii_lowercase

import hypothesis.strategies as st
from hypothesis import Phase, given, settings

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
    """What a format can hold of ordered lists."""

    numerals: str
    markers: tuple[str, ...]


def runs(*, has_line_breaks: bool = True) -> st.SearchStrategy[Runs]:
    """Return texts of which the first word is in force."""
    words = PHRASES.map(plain)
    struck = PHRASES.map(lambda text: (Run(text, is_struck=True),)) | REPLACED
    hidden = PHRASES.map(lambda text: (Run(text, is_hidden=True),))
    link = st.builds(lambda text, link: (Run(text, link=link),), PHRASES, LINKS)
    piece = st.one_of(words, RAISED, LOWERED, struck, hidden, link)
    gaps = st.sampled_from([" ", " ", ": ", "\n", ""] if has_line_breaks else [" ", " ", ": "])
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
    paragraph = st.builds(Paragraph, runs(has_line_breaks=False))
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
    start = min(start, 23) if numeral in "aA" else start
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
def tables(draw: st.DrawFn) -> Table:
    width, height, depth = draw(st.integers(2, 4)), draw(st.integers(1, 4)), draw(st.integers(0, 2))
    names = iter(draw(st.lists(NAMES, min_size=3 * width, max_size=3 * width, unique_by=str.casefold)))
    header = _header(draw, names, width, depth)
    if depth == 1 and draw(st.booleans()):
        header = [[Cell(()), *header[0][1:]]]
    texts = st.builds(Paragraph, runs() | NUMBERS.map(plain))
    cells = st.lists(texts, min_size=1, max_size=2).map(tuple)
    rows: list[list[Cell]] = []
    free = [0] * width
    """Rows below that a cell above covers, by column."""
    for number in range(height):
        row: list[Cell] = []
        at = 0
        while at < width:
            if free[at]:
                free[at] -= 1
                at += 1
                continue
            widest = 1
            while at + widest < width and not free[at + widest]:
                widest += 1
            spans = number > 0 and draw(st.integers(0, 3)) == 0
            columns = draw(st.integers(1, widest)) if spans else 1
            below = draw(st.integers(1, min(2, height - number))) if spans else 1
            is_empty = not spans and draw(st.integers(0, 2)) == 0
            is_first = number == at == 0 and not depth
            text = (Paragraph(plain("12")),) if is_first else () if is_empty else draw(cells)
            row.append(Cell(text, below, columns))
            free[at : at + columns] = [below - 1] * columns
            at += columns
        rows.append(row)
    return Table(tuple(map(tuple, [*header, *rows])), depth)


def _header(draw: st.DrawFn, names: Iterator[str], width: int, depth: int) -> list[list[Cell]]:
    """Return rows of names; of two rows the first has groups, of which each has as many parts as columns."""

    def named(rows: int = 1, columns: int = 1) -> Cell:
        return Cell((Paragraph(plain(next(names))),), rows, columns)

    if depth < 2:
        return [[named() for _ in range(width)]] * depth
    upper, lower = [named(rows=2)], list[Cell]()
    at = 1
    while at < width:
        columns = min(width - at, draw(st.integers(1, 3)))
        upper.append(named(rows=2) if columns == 1 else named(columns=columns))
        lower += [named() for _ in range(columns)] if columns > 1 else []
        at += columns
    if lower:
        return [upper, lower]
    return [[replace(cell, rows=1) for cell in upper], [named() for _ in range(width)]]


def pages(holds: Holds) -> st.SearchStrategy[Page]:
    heading = st.builds(Heading, st.integers(1, 6), st.builds(plain, NAMES))
    paragraph = st.builds(Paragraph, runs())
    blocks = st.lists(st.one_of(heading, paragraph, lists(holds), tables()), max_size=5)
    return st.builds(lambda first, rest: Page((first, *rest)), paragraph, blocks)


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
    shown = Seen([], [], [])
    for block in page.blocks:
        shown.add(block)
    return shown


# --- HTML -------------------------------------------------------------------------------------------------
HTML = Holds("1aAiI", ("{}.",))
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
MARKDOWN = Holds("1", ("{}.", "{})"))
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


# --- written and read back --------------------------------------------------------------------------------
CHANCES = st.randoms(use_true_random=False)


def check(page: Page, read: Page) -> None:
    """Fail unless a page that was read back shows what the page shows."""
    expected, rendered = seen(page), render(Page.from_bytes(read.to_bytes()))
    parsed = rendered.parsed
    assert [line for line in map(tokens, parsed.text.split("\n")) if line] == expected.lines
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
