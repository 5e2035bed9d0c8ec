"""PDF as pages: reading order, headings, tables, pages, and bad files.

The files of ``tests/data`` are invented texts, printed by Chromium.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pypdfium2
import pytest

from assistant.documents.formats import convert
from assistant.documents.page import Heading, Page, all_runs, text_of
from assistant.documents.parsing import parse_document
from assistant.documents.parsing.render import render
from assistant.domain.documents import UnitKind
from assistant.domain.errors import DocumentInvalidError
from assistant.options.office.formats.page_layout import Grid, page_blocks
from assistant.options.office.formats.page_words import Box, PageContent, Word
from assistant.options.office.formats.pdf import MOST_PAGES
from tests.options.office.writers import pdf, shown
from tests.unit.documents.scene import failure, one, write

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


def test_a_word_whose_letters_overlap_is_one() -> None:
    assert "Bus yarrow BU-123" in render(converted("kerned.pdf")).parsed.text


def test_each_page_is_a_heading() -> None:
    file = converted("tariff.pdf")
    assert headings(file, of_pages=True) == [("1", "Page 1"), ("2", "Page 2"), ("3", "Page 3")]
    above = {unit.text: unit.heading for unit in render(file).parsed.units}
    assert above["Roaming is free in all countries of the list."] == "Page 3 > Roaming"


def test_running_headers_and_footers_stand_once_as_the_banner() -> None:
    file = converted("tariff.pdf")
    assert file.banner == "Fernhill Telephone \u00b7 internal; Tariff book of 2026"
    assert render(file).parsed.text.count("internal") == 1


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


def texts(table: Grid) -> list[list[str]]:
    return [[" ".join(map(text_of, all_runs(cell.blocks))) for cell in row] for row in table.rows]


def test_a_further_line_of_a_cell_belongs_to_its_row() -> None:
    lines = ("Plan | Rule", "Basic | no calls", "| abroad at all", "World | all calls", "Last words here.")
    table, rest = page_blocks(PageContent(words(*lines), []))
    assert isinstance(table, Grid)
    assert texts(table) == [["Plan", "Rule"], ["Basic", "no calls abroad at all"], ["World", "all calls"]]
    assert not isinstance(rest, Grid)


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
    assert not any(isinstance(block, Grid) for block in page_blocks(framed))


def test_rows_without_lines_between_them_are_told_apart_inside_a_grid() -> None:
    held = words("Plan | Fee", "Basic | $1", "Family | $2", "World | $3")
    rules = [*frame(45, 98, 300, 111), *frame(45, 111, 300, 160), Box(140, 98, 140, 160)]
    (table,) = page_blocks(PageContent(held, rules))
    assert isinstance(table, Grid)
    assert texts(table) == [["Plan", "Fee"], ["Basic", "$1"], ["Family", "$2"], ["World", "$3"]]


def test_the_lines_of_a_drawing_are_no_table() -> None:
    across = [Box(0, 8.0 * number, 800, 8.0 * number) for number in range(100)]
    down = [Box(8.0 * number, 0, 8.0 * number, 800) for number in range(100)]
    drawing = PageContent(words("A | plan", "of | a house"), [*across, *down])
    assert not any(isinstance(block, Grid) for block in page_blocks(drawing))


# --- files of our own writer ------------------------------------------------------------------------------
def text_of_file(raw: bytes) -> str:
    return render(convert("a.pdf", raw)).parsed.text


def losses_of(raw: bytes) -> list[str]:
    return [str(loss) for loss in render(convert("a.pdf", raw)).losses]


def page_of(*lines: str, top: float = 700) -> str:
    """Return a page; a line that begins with "#" is a heading."""
    return "".join(
        shown(50, top - 20 * at, line.removeprefix("#"), size=18 if line.startswith("#") else 11)
        for at, line in enumerate(lines)
    )


def headings_above(raw: bytes, *texts: str) -> list[str]:
    above = {unit.text: unit.heading for unit in render(convert("a.pdf", raw)).parsed.units}
    return [above[text] for text in texts]


WORD_FONT = "<</Type /FontDescriptor /FontName /{0} /Flags 32 /StemV {1}>>"


@pytest.mark.parametrize(
    "fonts", [(), (WORD_FONT.format("Calibri", 52), WORD_FONT.format("Calibri-Bold", 53))]
)
def test_bold_is_told_by_a_font_s_name_where_its_stems_do_not_tell(fonts: Sequence[str]) -> None:
    lines = [("F1", "Write to the desk"), ("F2", "Lost cards"), ("F1", "A new card costs 3 dollars.")]
    page = "".join(shown(50, 700 - 13 * at, text, font=font) for at, (font, text) in enumerate(lines))
    raw = pdf(page, objects=fonts)
    for number, name in enumerate(("Helvetica-Bold", "Helvetica") if fonts else ()):
        calibri = f"Calibri{'-Bold' * (not number)} /FontDescriptor {12 - number} 0 R "
        raw = raw.replace(f"/{name} ".encode(), f"/{calibri}".encode())
    assert headings_above(raw, "Write to the desk", lines[2][1]) == ["Page 1", "Page 1 > Lost cards"]


SHOPS = ["Ash", "Birch", "Cedar", "Damson"]
BODY = [f"The shop has lot {n} of its goods on shelf {n}." for n in range(28)]


@pytest.mark.parametrize(
    "pages",
    [
        [page_of(f"Phone {n}55 10{n}.", f"#{name}", "Ask inside.") for n, name in enumerate(SHOPS, start=1)],
        [page_of(f"Phone {n}55 10{n}.", f"#{name}", *BODY) for n, name in enumerate(SHOPS, start=1)],
        [
            page_of("#The shops", "There are four."),
            *(
                page_of(*["By car."] * (n % 2), f"Phone {n}55 10{n}.", f"#{name}", *BODY)
                for n, name in enumerate(SHOPS, start=1)
            ),
        ],
    ],
)
def test_a_text_above_each_page_s_title_belongs_to_it(pages: list[str]) -> None:
    found = headings_above(pdf(*pages), *(f"Phone {n}55 10{n}." for n in range(1, 5)))
    assert [heading.rpartition(" > ")[2] for heading in found] == SHOPS


@pytest.mark.parametrize(
    ("price", "is_kept"),
    [("Price: {}9.00 dollars", True), ("Room {} opens at 9", True), ("Page {} of 5", False)],
)
def test_a_line_at_the_foot_that_varies_is_content(price: str, is_kept: bool) -> None:
    numbers = range(1, 6) if not is_kept else (4, 4, 4, 5, 7)
    pages = [
        shown(60, 700, f"The pump of kind {name} is rented by the week.")
        + shown(60, 40, price.format(number))
        for name, number in zip("abcde", numbers, strict=True)
    ]
    file = convert("a.pdf", pdf(*pages))
    text = render(file).parsed.text
    assert [text.count(price.format(number)) for number in numbers] == [
        numbers.count(number) if is_kept else 0 for number in numbers
    ]
    assert file.banner == ""


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("after", ["", " - page {n} of 4", " | {n}"])
def test_a_running_header_with_words_is_the_first_line(count: int, after: str) -> None:
    header = "WITHDRAWN on 3 May 2026 - ask the desk"
    pages = [
        shown(60, 800, header + after.format(n=n))
        + shown(60, 700, f"Fee number {n} is {n}5 dollars.")
        + shown(290, 30, f"Page {n}")
        for n in range(1, count + 1)
    ]
    file = convert("a.pdf", pdf(*pages))
    assert file.banner == header
    assert render(file).parsed.text.count("WITHDRAWN") == 1
    assert "Page 2\n\nFee number 2 is 25 dollars." in render(file).parsed.text


def test_a_watermark_is_the_first_line() -> None:
    mark = "BT 0.9 g /F2 60 Tf .707 .707 -.707 .707 150 250 Tm (DRAFT, NOT VALID) Tj ET\n"
    file = convert("a.pdf", pdf(mark + "0 g " + shown(60, 700, "The deposit for a monitor is 45 dollars.")))
    assert file.banner == "DRAFT, NOT VALID"
    assert render(file).parsed.text.endswith("The deposit for a monitor is 45 dollars.")


def test_a_watermark_of_some_pages_is_in_their_headings() -> None:
    mark = "BT 0.9 g /F2 60 Tf .707 .707 -.707 .707 150 250 Tm (VOID) Tj ET\n0 g "
    file = convert("a.pdf", pdf(shown(60, 700, "The fee is 40 euros."), mark + shown(60, 700, "It was 35.")))
    assert file.banner == ""
    assert render(file).parsed.text == "Page 1\n\nThe fee is 40 euros.\n\nPage 2: VOID\n\nIt was 35."


@pytest.mark.parametrize(
    ("parts", "text"),
    [
        (
            "(The copay is $25) Tj 4 Ts /F1 7 Tf (1) Tj 0 Ts /F1 11 Tf ( a visit.) Tj",
            "The copay is $25 [1] a visit.",
        ),
        (
            "(under 1.5 x 10) Tj 4 Ts /F1 7 Tf (9) Tj 0 Ts /F1 11 Tf (/L of blood) Tj",
            "under 1.5 x 10^9/L of blood",
        ),
        ("(The fee is 36) Tj 5 Ts (2) Tj 0 Ts ( dollars.) Tj", "The fee is 36^2 dollars."),
        ("(Drink H) Tj -2 Ts /F1 7 Tf (2) Tj 0 Ts /F1 11 Tf (O only.) Tj", "Drink H2O only."),
    ],
)
def test_raised_and_lowered_characters_are_apart_from_numbers(parts: str, text: str) -> None:
    assert text_of_file(pdf(f"BT /F1 11 Tf 60 700 Td {parts} ET")).endswith(text)


def test_struck_words_are_left_out_and_counted() -> None:
    strike = "60 703.3 m 121 703.3 l S\n"
    raw = pdf(
        shown(60, 700, "Waive once.")
        + strike
        + shown(125, 700, "Never waive it.")
        + "60 678 m 300 678 l S\n"
        + shown(60, 680, "This line is underlined.")
    )
    assert text_of_file(raw).endswith("Never waive it. This line is underlined.")
    assert losses_of(raw) == ["struck words (page 1): 2"]


def test_struck_words_of_an_annotation_are_left_out() -> None:
    raw = pdf(
        shown(60, 700, "The fee is $80") + shown(140, 700, "$70 a week."),
        annotations=[
            "<</Subtype /StrikeOut /Rect [111 698 130 711] /QuadPoints [111 711 130 711 111 698 130 698]>>"
        ],
    )
    assert text_of_file(raw).endswith("The fee is $70 a week.")


def test_the_address_of_a_link_is_behind_its_words() -> None:
    lines = ("The form HM-31 is", "over here. Or write", "to ask@x.example now.")
    uri = "/Subtype /Link /A <</S /URI /URI (https://x.example/f/31)>>"
    raw = pdf(
        "".join(shown(60, 700 - 12 * at, line) for at, line in enumerate(lines)),
        annotations=[
            f"<<{uri} /Rect [140 697 170 711]>>",
            f"<<{uri} /Rect [58 685 110 699]>>",
            "<</Subtype /Link /A <</S /URI /URI (mailto:ask@x.example)>> /Rect [70 673 150 687]>>",
        ],
    )
    assert text_of_file(raw).endswith(
        "The form HM-31 is over here (https://x.example/f/31). Or write to ask@x.example now."
    )


def test_hidden_words_are_left_out_and_counted() -> None:
    parts = [
        shown(60, 700, "Fees are due at the visit."),
        "1 g " + shown(60, 680, "INTERNAL waive every fee") + "0 g ",
        shown(60, 900, "outside"),
        shown(60, 660, "unseen layer", before="3 Tr"),
        "0 0.2 0.5 rg 55 600 200 30 re f 1 g " + shown(60, 610, "White on blue is seen."),
    ]
    raw = pdf("".join(parts))
    text = text_of_file(raw)
    assert text.endswith("Fees are due at the visit.\n\nWhite on blue is seen.")
    assert losses_of(raw) == ["hidden words (page 1): 7"]


def test_a_layer_that_is_switched_off_is_hidden() -> None:
    raw = pdf(
        f"/OC /L1 BDC {shown(60, 700, 'Old terms.')} EMC "
        + f"/OC /L2 BDC {shown(60, 680, 'New terms.')} EMC 0 0.2 0.5 rg 55 600 200 30 re f "
        + f"/OC /L3 BDC {shown(60, 610, 'Words of a scan.', before='3 Tr')} EMC",
        root="/OCProperties <</OCGs [11 0 R 12 0 R 13 0 R] /D <</OFF [11 0 R]>>>>",
        objects=[f"<</Type /OCG /Name ({name})>>" for name in ("old", "new", "scan")],
    ).replace(b"/Resources <<", b"/Resources <</Properties <</L1 11 0 R /L2 12 0 R /L3 13 0 R>> ")
    assert text_of_file(raw) == "Page 1\n\nNew terms.\n\nWords of a scan."
    assert losses_of(raw) == ["hidden words (page 1): 2"]


def test_an_accent_that_is_drawn_over_a_letter_is_a_part_of_it() -> None:
    drawn = "BT /F1 11 Tf 60 700 Td [(Su me) 444.5 (\xb4) -111.5 (dico, l\xb4eau)] TJ ET"
    assert text_of_file(pdf(drawn)).endswith("Su m\xe9dico, l\xb4eau")


def test_a_short_list_of_labels_with_values_names_no_columns() -> None:
    def drawn(*rows: tuple[str, str]) -> str:
        places = enumerate(rows)
        return "".join(
            shown(60, 700 - 14 * at, label) + shown(200, 700 - 14 * at, value)
            for at, (label, value) in places
        )

    labels = drawn(("Patient", "Ada Quist"), ("Chart", "30-7742"), ("Reaction", "after 37 minutes"))
    expected = "Patient | Ada Quist\nChart | 30-7742\nReaction | after 37 minutes"
    assert text_of_file(pdf(labels)).endswith(expected)
    prices = drawn(("Item", "Fee"), ("Tea", "$5"), ("Oil", "$7"), ("Ice", "$1"))
    assert text_of_file(pdf(prices)).endswith("Item: Tea; Fee: $5\nItem: Oil; Fee: $7\nItem: Ice; Fee: $1")


def test_a_table_goes_on_on_the_next_page_with_its_names_title_and_first_cell() -> None:
    def drawn(*rows: tuple[str, ...]) -> str:
        return "".join(
            shown(60 + 130 * column, 700 - 16 * at, text)
            for at, row in enumerate(rows)
            for column, text in enumerate(row)
            if text
        )

    names = ("Plant", "Place", "Care")
    first = drawn(names, ("Indoor",), ("Fern", "hall", "weekly"), ("", "roof", "never"), ("Moss", "desk"))
    last = drawn(("", "door", "daily"), ("Palm", "lobby", "rarely"), ("Outdoor",), ("Oak", "yard", "never"))
    rows = [text for _, text in units(convert("a.pdf", pdf(first, last)), UnitKind.ROW)]
    assert [row for row in rows if " > " in row] == [
        "Indoor > Plant: Fern; Place: hall; Care: weekly",
        "Indoor > Plant: Fern; Place: roof; Care: never",
        "Indoor > Plant: Moss; Place: desk",
        "Indoor > Plant: Moss; Place: door; Care: daily",
        "Indoor > Plant: Palm; Place: lobby; Care: rarely",
        "Outdoor > Plant: Oak; Place: yard; Care: never",
    ]


def drawn(
    *rows: Sequence[str] | str, top: float = 790, lines: bool = False, right: bool = False, left: float = 60
) -> str:
    """Return rows of a table, each column 130 points wide. A row that begins with "#" is bold, a text is a
    row across. ``lines``: around cells. ``right``: numbers end at the right of their column."""
    shapes = list[str]()
    for at, row in enumerate(rows):
        cells = [row] if isinstance(row, str) else row
        y, width = top - 16 * at, 390 if isinstance(row, str) else 130
        for column, text in enumerate(cells):
            x = left + 130 * column
            end = x + 120 - 6.12 * sum(map(str.isalnum, text)) - 3.06 * text.count(".")
            is_right = right and column > 0 and (text[0].isdigit() or not lines)
            font = "F2" if cells[0].startswith("#") else "F1"
            shapes.append(shown(end if is_right else x + 3, y, text.removeprefix("#"), font=font))
            shapes.append(f"{x} {y - 4} {width} 16 re S\n" * lines)
    return "".join(shapes)


NAMES = ("#Room", "Hour", "Day")
HALLS = [(f"Hall {name}", f"{n * n}.50", f"{n**5}.00") for n, name in enumerate("ABCDEFG", start=2)]
AS_NAMED = [f"Room: {name}; Hour: {hour}; Day: {day}" for name, hour, day in HALLS]
PAGE_1 = shown(50, 820, "Halls", size=16)


def rows_and_sections(*pages: str) -> dict[str, str]:
    """Return the section of each row of a file whose second page ends with the heading "Keys"."""
    keys = shown(50, 500, "Keys", size=16) + shown(50, 480, "Keys are at the gate.")
    found = units(convert("a.pdf", pdf(*pages[:-1], pages[-1] + keys)), UnitKind.ROW)
    return {text: heading.rpartition(" > ")[2] for heading, text in found}


@pytest.mark.parametrize("is_again", [False, True])
@pytest.mark.parametrize("lines", [False, True])
@pytest.mark.parametrize("right", [False, True])
@pytest.mark.parametrize("count", [1, 4, 6])
def test_a_table_goes_on_above_the_next_page_s_heading(
    is_again: bool, lines: bool, right: bool, count: int
) -> None:
    foot = "".join(shown(x, 30, text) for x, text in ((50, "Form 67-3"), (480, "Page {} of 2")))
    head = "".join(shown(x, 812, text) for x, text in ((50, "Tarn Town Hall"), (480, "internal")))
    first = drawn(NAMES, *HALLS[:-count], lines=lines, right=right) + foot.format(1)
    last = drawn(*[NAMES] * is_again, *HALLS[-count:], lines=lines, right=right, left=40) + foot.format(2)
    note = shown(50, 600, "Halls go on on page 2.") + shown(50, 580, "Ask at desk 3.")
    expected = dict.fromkeys(AS_NAMED, "Halls")
    assert rows_and_sections(head + PAGE_1 + first + note, head + last) == expected


@pytest.mark.parametrize("lines", [False, True])
def test_a_further_part_of_a_table_may_lack_a_column_and_begin_with_a_title(lines: bool) -> None:
    first = PAGE_1 + drawn(NAMES, "#Old", *HALLS[:4], lines=lines)
    last = drawn("#New", *((name, "", day) for name, _, day in HALLS[4:]), lines=lines)
    found = rows_and_sections(first, last)
    assert found["New > Room: Hall G; Day: 32768.00"] == "Halls"
    assert found[f"Old > {AS_NAMED[0]}"] == "Halls"


def test_another_table_at_the_top_of_a_page_is_no_further_part() -> None:
    first = PAGE_1 + drawn(NAMES, *HALLS[:4], lines=True)
    last = drawn(("#Bike", "Morning", "Evening"), ("City", "3.00", "5.00"), lines=True)
    assert rows_and_sections(first, last)["Bike: City; Morning: 3.00; Evening: 5.00"] == "Page 2"


@pytest.mark.parametrize("shift", [-4, 0, 4])
def test_a_name_in_the_middle_of_several_columns_is_above_all_of_them(shift: int) -> None:
    upper = ((70, "Plan"), (205 + shift, "Cover in euros"), (370, "Limit"))
    names = "".join(shown(x, 700, text, font="F2") for x, text in upper)
    lower = "".join(shown(x, 685, text, font="F2") for x, text in ((170, "ward"), (230, "two"), (290, "one")))
    values = "".join(
        shown(x, 670 - 15 * at, text)
        for at, plan in enumerate(("Amber", "Beryl", "Cobalt"))
        for x, text in ((70, plan), (172, f"5{at}"), (232, f"7{at}"), (292, f"9{at}"), (372, f"30{at}"))
    )
    found = [text for _, text in units(convert("a.pdf", pdf(names + lower + values)), UnitKind.ROW)]
    assert found[0] == (
        "Plan: Amber; Cover in euros ward: 50; Cover in euros two: 70; Cover in euros one: 90; Limit: 300"
    )


def test_names_above_the_lines_of_a_table_are_its_names_and_a_caption_is_not() -> None:
    above = drawn(NAMES, top=790) + drawn(*HALLS, top=772, lines=True)
    assert [*rows_and_sections(PAGE_1 + above)] == AS_NAMED
    plain = ("Room", "Hour", "Day")
    caption = (
        shown(63, 800, "Table 3") + shown(323, 800, "in EUR") + drawn(plain, *HALLS, top=780, lines=True)
    )
    assert [*rows_and_sections(PAGE_1 + caption)] == AS_NAMED


FIELDS = (
    "<</FT /Tx /T (limit) /V (150 dollars) /Rect [220 695 330 712]",
    "<</FT /Btn /T (tea) /V /Yes /AS /Yes /Rect [60 668 72 680] /AP <</N <</Yes 15 0 R>>>>",
    "<</FT /Btn /T (milk) /V /Off /AS /Off /Rect [140 668 152 680] /AP <</N <</Yes 15 0 R>>>>",
    "<</FT /Tx /Ff 8192 /T (pin) /V (4711) /Rect [220 635 330 652]",
)
MARK = "<</Type /XObject /Subtype /Form /BBox [0 0 9 9] /Length 0>>\nstream\n\nendstream"


def test_the_values_of_a_form_stand_after_their_labels() -> None:
    parts = [
        shown(60, 700, "Approved limit without a call:"),
        shown(76, 670, "Tea"),
        shown(156, 670, "Milk"),
        shown(60, 640, "Pin of the desk:"),
        shown(60, 600, "Ask the desk for more."),
    ]
    raw = pdf(
        "".join(parts),
        root="/AcroForm <</Fields [11 0 R 12 0 R 13 0 R 14 0 R]>>",
        objects=[*(f"{field} /Type /Annot /Subtype /Widget /DA (/F1 11 Tf)>>" for field in FIELDS), MARK],
        annotations=["11 0 R", "12 0 R", "13 0 R", "14 0 R"],
    )
    text = " ".join(text_of_file(raw).split())
    assert "Approved limit without a call: 150 dollars \u2611 Tea \u2610 Milk Pin of the desk: Ask" in text


@pytest.mark.parametrize("needs", ["", "/NeedsRendering true"])
def test_a_dynamic_form_is_refused(needs: str) -> None:
    raw = pdf(
        shown(60, 700, "Please wait... If this message stays, your viewer cannot show this document."),
        root=f"/AcroForm <</Fields [] /XFA 11 0 R>> {needs}",
        objects=["<</Length 7>>\nstream\n<xdp />\nendstream"],
    )
    assert refusal(raw).startswith("it is a dynamic form (XFA)")


SENTENCE = "Refunds for returned devices are paid within five working days to the card that was used."


def shifted(text: str, by: int) -> str:
    return "".join(chr((ord(char) - 97 + by) % 26 + 97) if char.islower() else char for char in text)


@pytest.mark.parametrize("by", [1, 20])
def test_unreadable_letters_are_refused(by: int) -> None:
    raw = pdf(shown(60, 700, shifted(SENTENCE, by)))
    assert refusal(raw).startswith("its letters are not those that its fonts show. Say ocr = true")


def test_letters_of_like_frequency_that_are_exchanged_are_refused() -> None:
    exchanged = str.maketrans("etaoinsrhldcumfpgwyb", "noisetarcuhldpmgfbwy")
    lines = [
        SENTENCE,
        "Ask for the name on the card if it is not that of the customer, and note it in the case.",
    ]
    raw = pdf(shown(60, 700, lines[0].translate(exchanged)))
    assert refusal(raw).startswith("its letters are not those that its fonts show.")
    names = "Quetiapine Zolpidem Ziprasidone Oxazepam Quinapril Zaleplon Fluvoxamine"
    page = "".join(shown(60, 700 - 20 * at, line) for at, line in enumerate([*lines, names]))
    assert losses_of(pdf(page)) == []
    mixed = page + shown(60, 600, lines[1].translate(exchanged), font="F2")
    assert losses_of(pdf(mixed)) == ["words in unreadable letters (page 1): 21"]


@pytest.mark.parametrize(
    ("first", "second", "text"),
    [
        ("After a 48-", "hour pause", "After a 48-hour pause"),
        ("the standard-", "of-care plan", "the standard-of-care plan"),
        ("of anticoag-", "ulants", "of anticoagulants"),
        ("a week-", "long trial", "a week-long trial"),
        ("from 30-", "40 ml", "from 30-40 ml"),
        ("the consul-", "tation", "the consultation"),
        ("a 2.5-", "fold dose", "a 2.5-fold dose"),
    ],
)
def test_a_hyphen_at_a_line_s_end_stays_where_its_words_make_none_together(
    first: str, second: str, text: str
) -> None:
    raw = pdf(shown(60, 700, f"It is here {first}") + shown(60, 687, f"{second} for each."))
    assert text_of_file(raw).endswith(f"It is here {text} for each.")


def test_lists_keep_their_numbers() -> None:
    lines = [
        "Do this first:",
        "4. Open the case.",
        "5. Close the case.",
        "A word about it between the steps here.",
        "6. Go back to step 4.",
        "a) By mail",
        "b) By phone",
    ]
    text = text_of_file(pdf("".join(shown(60, 700 - 20 * n, line) for n, line in enumerate(lines))))
    assert text.endswith(
        "\n\n".join(
            [
                "Do this first:",
                "4. Open the case.\n5. Close the case.",
                lines[3],
                "6. Go back to step 4.\na) By mail\nb) By phone",
            ]
        )
    )


# --- bad input --------------------------------------------------------------------------------------------
def test_a_scanned_page_is_named() -> None:
    assert tuple(map(str, render(converted("scan.pdf")).losses)) == ("scans without text (page 2): 1",)


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


@pytest.mark.parametrize("kept", [0, 5_000])
def test_a_truncated_file_is_refused_with_advice(kept: int) -> None:
    raw = (DATA / "tariff.pdf").read_bytes()[:kept]
    assert refusal(raw).startswith("it is not a whole PDF: truncated or damaged.")


def test_a_pdf_is_a_document_whose_pages_open(tmp_path: Path) -> None:
    document = one(write(tmp_path / "tariff.pdf", (DATA / "tariff.pdf").read_bytes()))
    assert (document.document_id, document.title) == ("tariff.pdf", "Tariff book")
    assert [number for number, _ in parse_document(document).pages] == [1, 2, 3]
    assert failure(write(tmp_path / "b.pdf", ENCRYPTED)).own_id == "b.pdf"
