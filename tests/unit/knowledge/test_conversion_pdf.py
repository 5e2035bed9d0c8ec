"""PDF as pages: reading order, headings, tables, pages, and bad files.

The files of ``tests/data`` are invented texts, printed by Chromium.
"""

from __future__ import annotations

import io
from pathlib import Path

import pypdfium2
import pytest

from assistant.domain.documents import UnitKind
from assistant.domain.errors import DocumentInvalidError
from assistant.knowledge.conversion import convert
from assistant.knowledge.conversion.page_layout import page_blocks
from assistant.knowledge.conversion.page_words import Box, PageContent, Word
from assistant.knowledge.conversion.pdf import MOST_PAGES
from assistant.knowledge.conversion.ruled_tables import Table
from assistant.knowledge.page import Heading, Page, text_of
from assistant.knowledge.parsing import parse_document
from assistant.knowledge.parsing.render import render
from tests.unit.knowledge.source_files import failure, one, write

DATA = Path(__file__).parents[2] / "data"


def converted(name: str) -> Page:
    return convert(name, (DATA / name).read_bytes())


def units(file: Page, kind: UnitKind) -> list[tuple[str, str]]:
    return [(unit.heading, unit.text) for unit in render(file).parsed.units if unit.kind is kind]


def headings(file: Page, *, of_pages: bool = False) -> list[tuple[str, str]]:
    found = [block for block in file.blocks if isinstance(block, Heading) and bool(block.place) is of_pages]
    return [(str(one.place.number if one.place else one.level), text_of(one.runs)) for one in found]


def saved(document: pypdfium2.PdfDocument) -> bytes:
    buffer = io.BytesIO()
    document.save(buffer)
    return buffer.getvalue()


def refusal(raw: bytes) -> str:
    with pytest.raises(DocumentInvalidError) as error:
        convert("a.pdf", raw)
    return error.value.message


# --- order and headings -----------------------------------------------------------------------------------
def test_two_columns_are_read_one_after_the_other_between_lines_across_the_page() -> None:
    file = converted("columns.pdf")
    text = render(file).parsed.text
    order = [
        "This guide explains",
        "in all shops and on all lines.",
        "A bill is late",
        "An agent may waive",
        "A refund goes back",
        "Nothing is refunded",
        "A customer may dispute",
        "Questions about this guide",
    ]
    places = [text.index(words) for words in order]
    assert places == sorted(places)
    assert file.title == "Billing guide for care agents"
    assert headings(file) == [
        ("3", "Billing guide for care agents"),
        ("4", "Late payment"),
        ("4", "Refunds"),
        ("4", "Disputes"),
    ]


def test_divided_words_and_paragraphs_are_joined() -> None:
    text = render(converted("columns.pdf")).parsed.text
    assert "The first reminder is free" in text  # divided at the end of a line
    assert "Cash payments are refunded by cheque" in text  # divided at the end of a column
    assert "or by e-mail," in text


def test_each_page_is_a_heading_and_names_the_section_that_goes_on() -> None:
    file = converted("tariff.pdf")
    assert headings(file, of_pages=True) == [
        ("1", "Page 1"),
        ("2", "Page 2: Calls abroad"),
        ("3", "Page 3: Steps at a change of plan"),
    ]
    above = {unit.text: unit.heading for unit in render(file).parsed.units}
    assert above["Roaming is free in all countries of the list."].startswith("Page 3: ")
    assert above["Roaming is free in all countries of the list."].endswith(" > Roaming")


def test_running_headers_and_footers_leave() -> None:
    text = render(converted("tariff.pdf")).parsed.text
    assert "internal" not in text
    assert "Tariff book of 2026" not in text


def test_numbered_lines_are_steps() -> None:
    assert [text for _, text in units(converted("tariff.pdf"), UnitKind.STEP)] == [
        "1. Check the notice period of the old plan.",
        "2. Tell the customer the day on which the new plan begins.",
        "3. Send the confirmation.",
    ]


# --- tables -----------------------------------------------------------------------------------------------
def test_a_table_with_lines_repeats_merged_cells_and_joins_names_above_each_other() -> None:
    rows = [text for heading, text in units(converted("tariff.pdf"), UnitKind.ROW) if "Monthly" in heading]
    assert rows == [
        "Plan: Basic; Fee private: $9.00; Fee business: $12.00; Minutes: 100",
        "Plan: Family; Fee private: $19.00; Fee business: $24.00; Minutes: unlimited",
        "Plan: World; Fee private: $39.00; Fee business: $44.00; Minutes: unlimited",
    ]


def test_a_table_without_lines_is_read_by_its_columns() -> None:
    rows = [text for heading, text in units(converted("tariff.pdf"), UnitKind.ROW) if "abroad" in heading]
    assert rows == [
        "Country: Norway; Landline: 4 cents; Mobile: 11 cents",
        "Country: Portugal; Landline: 5 cents; Mobile: 14 cents",
        "Country: Japan; Landline: 9 cents; Mobile: 17 cents",
    ]


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_a_rotated_page_is_read_upright(rotation: int) -> None:
    document = pypdfium2.PdfDocument(DATA / "rotated.pdf")
    document[0].set_rotation(rotation)
    file = convert("a.pdf", saved(document))
    assert file.title == "Opening hours"
    assert "The shop in Harbour Street opens at nine and closes at six." in render(file).parsed.text
    assert [text for _, text in units(file, UnitKind.ROW)] == [
        "Shop: Harbour Street; Saturday: 9 to 4",
        "Shop: Mill Lane; Saturday: closed",
    ]
    document = pypdfium2.PdfDocument(DATA / "columns.pdf")
    document[0].set_rotation(rotation)
    assert convert("a.pdf", saved(document)).blocks == converted("columns.pdf").blocks


def words(*lines: str, left: float = 50.0, top: float = 100.0, pitch: float = 12.0) -> list[Word]:
    """Return the lines' words in a font of 10 points whose letters are 5 points wide; ``|`` is a wide gap."""
    made: list[Word] = []
    for number, line in enumerate(lines):
        x, y = left, top + pitch * number
        for text in line.split():
            if text != "|":
                made.append(Word(text, Box(x, y, x + 5 * len(text), y + 10), size=10.0, is_bold=False))
            x = x + 5 * len(text) + 5 if text != "|" else left + 100 * (1 + (x - left) // 100)
    return made


def test_a_further_line_of_a_cell_belongs_to_its_row() -> None:
    lines = ("Plan | Rule", "Basic | no calls", "| abroad at all", "World | all calls", "Last words here.")
    table, rest = page_blocks(PageContent(words(*lines), []))
    assert isinstance(table, Table)
    assert table.rows == [["Plan", "Rule"], ["Basic", "no calls abroad at all"], ["World", "all calls"]]
    assert not isinstance(rest, Table)


def test_bullets_with_a_wide_gap_are_no_table() -> None:
    bullets = words("• | first of all", "• | second", "• | third")
    assert not any(isinstance(block, Table) for block in page_blocks(PageContent(bullets, [])))


def frame(left: float, top: float, right: float, bottom: float) -> list[Box]:
    return [
        Box(left, top, right, top),
        Box(left, bottom, right, bottom),
        Box(left, top, left, bottom),
        Box(right, top, right, bottom),
    ]


def test_a_frame_around_text_is_no_table() -> None:
    rules = [*frame(40, 90, 400, 123), *frame(40, 123, 400, 300)]
    framed = PageContent(words(*["A line of prose in a frame."] * 9), rules)
    assert not any(isinstance(block, Table) for block in page_blocks(framed))


def test_rows_without_lines_between_them_are_told_apart_inside_a_grid() -> None:
    held = words("Plan | Fee", "Basic | $1", "Family | $2", "World | $3")
    rules = [*frame(45, 98, 300, 111), *frame(45, 111, 300, 160), Box(140, 98, 140, 160)]
    (table,) = page_blocks(PageContent(held, rules))
    assert isinstance(table, Table)
    assert table.rows == [["Plan", "Fee"], ["Basic", "$1"], ["Family", "$2"], ["World", "$3"]]


def test_the_lines_of_a_drawing_are_no_table() -> None:
    across = [Box(0, 8.0 * number, 800, 8.0 * number) for number in range(100)]
    down = [Box(8.0 * number, 0, 8.0 * number, 800) for number in range(100)]
    drawing = PageContent(words("A | plan", "of | a house"), [*across, *down])
    assert not any(isinstance(block, Table) for block in page_blocks(drawing))


# --- bad input --------------------------------------------------------------------------------------------
def test_a_scanned_page_is_named() -> None:
    assert tuple(map(str, render(converted("scan.pdf")).losses)) == ("pages without text (scans): 2",)


def test_a_file_of_scans_is_refused_with_advice() -> None:
    document = pypdfium2.PdfDocument(DATA / "scan.pdf")
    document.del_page(0)
    assert refusal(saved(document)).startswith("it has no text: its pages are scans. Say ocr = true")


def test_a_file_with_too_many_pages_is_refused() -> None:
    document = pypdfium2.PdfDocument.new()
    for _ in range(MOST_PAGES + 1):
        document.new_page(100, 100)
    assert refusal(saved(document)) == "it has 1,001 pages; at most 1,000 are read. Split it."


ENCRYPTED = b"""%%PDF-1.4
1 0 obj <</Type /Catalog /Pages 2 0 R>> endobj
2 0 obj <</Type /Pages /Kids [3 0 R] /Count 1>> endobj
3 0 obj <</Type /Page /Parent 2 0 R /MediaBox [0 0 99 99]>> endobj
4 0 obj <</Filter /Standard /V 1 /R 2 /O <%s> /U <%s> /P -4>> endobj
trailer <</Root 1 0 R /Encrypt 4 0 R /ID [<00> <00>]>>
%%%%EOF""" % (b"11" * 32, b"22" * 32)


def test_an_encrypted_file_is_refused_with_advice() -> None:
    assert refusal(ENCRYPTED) == "it is encrypted with a password. Save it without one."


@pytest.mark.parametrize("kept", [0, 200, 5_000])
def test_a_truncated_file_is_refused_with_advice(kept: int) -> None:
    raw = (DATA / "tariff.pdf").read_bytes()[:kept]
    assert refusal(raw).startswith("it is not a whole PDF: truncated or damaged.")


def test_a_pdf_is_a_document_whose_pages_open(tmp_path: Path) -> None:
    document = one(write(tmp_path / "tariff.pdf", (DATA / "tariff.pdf").read_bytes()))
    assert (document.document_id, document.title) == ("tariff.pdf", "Tariff book")
    assert [number for number, _ in parse_document(document).pages] == [1, 2, 3]
    assert failure(write(tmp_path / "b.pdf", ENCRYPTED)).own_id == "b.pdf"
