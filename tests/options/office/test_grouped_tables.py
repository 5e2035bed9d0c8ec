"""Tables with titles, names in two rows, names again, and empty cells that mean "as above", in seven formats.

Each value must be read below its own titles and names. The files are written by other libraries than those
that read them, or by hand; python-pptx alone does both.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Literal

import docx
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st
from pptx import Presentation
from pptx.util import Inches

from assistant.documents.formats import convert
from assistant.documents.page import Page
from assistant.documents.parsing.html import read_html
from assistant.documents.parsing.markdown import read_markdown
from assistant.documents.parsing.render import render
from assistant.domain.documents import UnitKind
from tests.options.office.writers import pdf, shown

KEYS = ("Fern", "Oak", "Ginkgo", "Moss", "Ivy", "Palm", "Reed", "Sedge", "Birch", "Cedar", "Elm", "Thyme")
PARTS = ("leaf", "root", "seed", "bark", "stem", "bulb")
TITLES = ("Indoor", "Outdoor", "Rare plants", "On request", "Without pots", "For schools")
NAMES = ("Price", "Deposit", "Stock", "Care", "Light", "Soil", "Weeks")
GROUPS = ("Members", "Guests", "Staff")
SPLITS = (("Summer", "Winter"), ("2030", "2031"), ("Small", "Large"))
WORDS = ("open", "shut", "on call", "by post", "never", "weekly")
AMOUNTS = ("${}", "{} mg", "{}", "{}.50", "{} EUR", "{} weeks")


@dataclass(frozen=True)
class Line:
    """A row as it is written."""

    kind: Literal["title", "names", "values"]
    texts: tuple[str, ...]
    spans: tuple[int, ...] = ()
    """Columns of each text of a row of names over other names, where it is merged; else each is one."""


@dataclass(frozen=True)
class Drawn:
    lines: tuple[Line, ...]
    expected: tuple[str, ...]
    """The rows of values as they must be read."""
    title: Literal["merged", "bold", "bare"]
    is_bold: bool
    """Whether the names are bold."""
    has_names: bool


@st.composite
def tables(draw: st.DrawFn) -> Drawn:
    has_names = draw(st.booleans()) or draw(st.booleans())
    has_titles, above = draw(st.booleans()), draw(st.booleans())
    again = draw(st.sampled_from(("no", "same", "other"))) if has_names and has_titles else "no"
    is_split = has_names and again != "other" and draw(st.booleans())
    leading = 2 if above else 1
    kinds = draw(st.lists(st.sampled_from((*AMOUNTS, "words")), min_size=2 if is_split else 1, max_size=2))
    if is_split:
        kinds = [kind for kind in kinds for _ in range(2)]
    if not has_names or not any(kind != "words" for kind in kinds):
        kinds[-1] = draw(st.sampled_from(AMOUNTS))
    columns = leading + len(kinds)
    firsts = ("Plant", "Part")[:leading]

    def named() -> tuple[tuple[Line, ...], tuple[str, ...]]:
        if not has_names:
            return (), ()
        if not is_split:
            names = draw(st.permutations(NAMES))[: len(kinds)]
            return (Line("names", (*firsts, *names)),), (*firsts, *names)
        groups, split = draw(st.permutations(GROUPS))[: len(kinds) // 2], draw(st.sampled_from(SPLITS))
        upper = Line("names", (*firsts, *(text for group in groups for text in (group, ""))))
        upper = Line("names", upper.texts, (*(1 for _ in firsts), *(2 for _ in groups)))
        lower = Line("names", (*("" for _ in firsts), *(name for _ in groups for name in split)))
        return (upper, lower), (*firsts, *(f"{group} {name}" for group in groups for name in split))

    head, names = named()
    # In two columns a title differs from a row without a value only if the rows below it are the same.
    keys = draw(st.permutations(KEYS))[:3] if columns == 2 else []
    lines, expected = [*head] if again == "no" else [], list[str]()
    for number, title in enumerate(
        draw(st.permutations(TITLES))[: draw(st.integers(2, 3))] if has_titles else ("",)
    ):
        lines += [Line("title", (title,))] if title else []
        if again != "no":
            head, names = named() if again == "other" and number else (head, names)
            lines += head
        for key in keys or draw(st.permutations(KEYS))[: draw(st.integers(3, 4))]:
            for at, part in enumerate(
                draw(st.permutations(PARTS))[: draw(st.integers(1, 3)) if above else 1]
            ):
                values = [
                    draw(st.sampled_from(WORDS)) if kind == "words" else kind.format(draw(st.integers(1, 99)))
                    for kind in kinds
                ]
                row = (key, part, *values) if above else (key, *values)
                lines.append(Line("values", ("" if at else key, *row[1:])))
                pairs = zip(names, row, strict=True) if names else ()
                shown_row = "; ".join(f"{name}: {value}" for name, value in pairs) or " | ".join(row)
                expected.append(f"{title} > {shown_row}" if title else shown_row)
    assert columns == len(lines[-1].texts)
    title = draw(st.sampled_from(("merged", "bold", "bare")))
    return Drawn(tuple(lines), tuple(expected), title, draw(st.booleans()), has_names)


# Writers


def width(drawn: Drawn) -> int:
    return max(len(line.texts) for line in drawn.lines)


def padded(line: Line, columns: int) -> list[str]:
    return [*line.texts, *[""] * (columns - len(line.texts))]


def is_bold(drawn: Drawn, line: Line) -> bool:
    return (line.kind == "names" and drawn.is_bold) or (line.kind == "title" and drawn.title == "bold")


def csv_file(drawn: Drawn) -> Page:
    rows = (padded(line, width(drawn)) for line in drawn.lines)
    return convert("a.csv", "\n".join(",".join(row) for row in rows).encode())


def xlsx_file(drawn: Drawn) -> Page:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer) as book:
        sheet, bold = book.add_worksheet("Plants"), book.add_format({"bold": True})
        for at, line in enumerate(drawn.lines):
            style = bold if is_bold(drawn, line) else None
            if line.kind == "title" and drawn.title == "merged":
                sheet.merge_range(at, 0, at, width(drawn) - 1, line.texts[0])
                continue
            place = 0
            for text, span in spanned(line):
                if span > 1:
                    sheet.merge_range(at, place, at, place + span - 1, text, style)
                elif text:
                    sheet.write_string(at, place, text, style)
                place += span
    return convert("a.xlsx", buffer.getvalue())


def spanned(line: Line) -> list[tuple[str, int]]:
    """Return the texts of a row with the columns that each spans."""
    spans = line.spans or (1,) * len(line.texts)
    places = [sum(spans[:at]) for at in range(len(spans))]
    return [(line.texts[place], span) for place, span in zip(places, spans, strict=True)]


def fill(drawn: Drawn, cell: Callable[[int, int], Any], write: Callable[[Any, str, bool], None]) -> None:
    """Fill a grid of cells that can be merged. ``write`` takes the cell, its text, and whether it is bold."""
    for at, line in enumerate(drawn.lines):
        if line.kind == "title" and drawn.title == "merged":
            cell(at, 0).merge(cell(at, width(drawn) - 1))
        place = 0
        for text, span in spanned(line):
            if span > 1:
                cell(at, place).merge(cell(at, place + span - 1))
            if text:
                write(cell(at, place), text, is_bold(drawn, line))
            place += span


def docx_file(drawn: Drawn) -> Page:
    document = docx.Document()
    table = document.add_table(len(drawn.lines), width(drawn))

    def write(cell: Any, text: str, bold: bool) -> None:
        cell.paragraphs[0].add_run(text).bold = bold or None

    fill(drawn, table.cell, write)
    buffer = io.BytesIO()
    document.save(buffer)
    return convert("a.docx", buffer.getvalue())


def pptx_file(drawn: Drawn) -> Page:
    file = Presentation()
    slide = file.slides.add_slide(file.slide_layouts[5])
    shape = slide.shapes.add_table(len(drawn.lines), width(drawn), Inches(1), Inches(1), Inches(8), Inches(5))
    shape.table.first_row = drawn.has_names and drawn.lines[0].kind == "names"

    def write(cell: Any, text: str, bold: bool) -> None:
        run = cell.text_frame.paragraphs[0].add_run()
        run.text, run.font.bold = text, bold or None

    fill(drawn, shape.table.cell, write)
    buffer = io.BytesIO()
    file.save(buffer)
    return convert("a.pptx", buffer.getvalue())


def html_file(drawn: Drawn) -> Page:
    rows = ""
    for line in drawn.lines:
        tag = "th" if is_bold(drawn, line) else "td"
        if line.kind == "title" and drawn.title == "merged":
            rows += f"<tr><th colspan={width(drawn)}>{escape(line.texts[0])}</th></tr>"
            continue
        missing = width(drawn) - sum(span for _, span in spanned(line))
        texts = [*spanned(line), *[("", 1)] * missing]
        rows += (
            "<tr>"
            + "".join(f"<{tag} colspan={span}>{escape(text)}</{tag}>" for text, span in texts)
            + "</tr>"
        )
    return read_html(f"<table>{rows}</table>")


def markdown_file(drawn: Drawn) -> Page:
    lines = list[str]()
    if not drawn.has_names:
        lines += ["| " * width(drawn) + "|", "|---" * width(drawn) + "|"]
    for line in drawn.lines:
        bold = line.kind == "title" and drawn.title != "bare"
        texts = [f"**{text}**" if bold and text else text for text in padded(line, width(drawn))]
        lines.append(f"| {' | '.join(texts)} |")
        if len(lines) == 1:
            lines.append("|---" * width(drawn) + "|")
    return read_markdown("\n".join(lines))


def pdf_file(drawn: Drawn) -> Page:
    pages, drawing = list[str](), ""
    for at, line in enumerate(drawn.lines):
        font = "F2" if is_bold(drawn, line) else "F1"
        for place, text in enumerate(line.texts):
            if text:
                drawing += shown(40 + 85 * place, 760 - 16 * at, text, size=9, font=font)
    pages.append(drawing)
    return convert("a.pdf", pdf(*pages))


WRITERS: dict[str, Callable[[Drawn], Page]] = {
    "csv": csv_file,
    "xlsx": xlsx_file,
    "docx": docx_file,
    "pptx": pptx_file,
    "html": html_file,
    "markdown": markdown_file,
    "pdf": pdf_file,
}


def rows_of(page: Page, titles: Sequence[str]) -> list[str]:
    """Return the rows of values."""
    units = render(page).parsed.units
    return [unit.text for unit in units if unit.kind is UnitKind.ROW and unit.text not in titles]


@pytest.mark.parametrize("kind", WRITERS)
@settings(deadline=None, max_examples=int(os.environ.get("GROUPED_TABLES", "25")))
@given(drawn=tables())
def test_each_value_is_read_below_its_own_titles_and_names(kind: str, drawn: Drawn) -> None:
    assert rows_of(WRITERS[kind](drawn), TITLES) == [*drawn.expected]
