"""Office files and e-mails as pages, and as the units that a search finds."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime, time, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any, cast

import pytest
from docx import Document as new_docx
from openpyxl import Workbook
from openpyxl.cell.rich_text import CellRichText, TextBlock
from openpyxl.cell.text import InlineFont
from openpyxl.comments import Comment
from openpyxl.styles import Font, PatternFill
from openpyxl.utils.datetime import CALENDAR_MAC_1904
from pptx import Presentation
from pptx.util import Inches
from xlsxwriter import Workbook as WrittenWorkbook

from assistant.documents.files import SourceDocument
from assistant.documents.formats import convert
from assistant.documents.page import Page
from assistant.documents.parsing_process import ParsingProcess, ParsingRequest
from assistant.domain.documents import UnitKind
from assistant.options.office.formats.sheets import shown_value
from tests.processes.documents.requests import item_of
from tests.unit.documents.scene import TABLES, lost, one, parsed, refusal, units, write


def saved(file: Any) -> bytes:
    buffer = io.BytesIO()
    file.save(buffer)
    return buffer.getvalue()


# --- Word -------------------------------------------------------------------------------------------------
def a_word_file() -> bytes:
    file = new_docx()
    file.core_properties.title = "draft_final_2.docx"
    file.add_heading("Returns", level=0)
    file.add_heading("Deadlines", level=1)
    file.add_paragraph("A device may come back within 30 days.")
    file.add_paragraph("Print the label.", style="List Number")
    file.add_paragraph("Call the courier.", style="List Number")
    file.add_paragraph("Keep the box.", style="List Bullet")
    table = file.add_table(rows=4, cols=3)
    cells = [["Item", "Days", "Fee"], ["Phone", "30", "$5"], ["", "14", "$9"], ["Case", "no return", ""]]
    for row, texts in zip(table.rows, cells, strict=True):
        for cell, text in zip(row.cells, texts, strict=True):
            cell.text = text
    table.cell(1, 0).merge(table.cell(2, 0))
    table.cell(3, 1).merge(table.cell(3, 2))
    return saved(file)


def test_a_word_file_has_its_headings_lists_and_merged_cells() -> None:
    converted = convert("returns.docx", a_word_file())
    document = parsed(converted)
    assert converted.title == "Returns"
    assert [section.headings for section in document.sections] == [("Deadlines",)]
    assert units(converted, UnitKind.STEP) == ["1. Print the label.", "2. Call the courier."]
    assert units(converted, UnitKind.ITEM) == ["- Keep the box."]
    assert units(converted, UnitKind.ROW) == [
        "Item: Phone; Days: 30; Fee: $5",
        "Item: Phone; Days: 14; Fee: $9",
        "Item: Case; Days: no return; Fee: no return",
    ]


def test_a_converted_file_is_a_document_without_labels(tmp_path: Path) -> None:
    document = one(write(tmp_path / "returns.docx", a_word_file()))
    assert (document.document_id, document.title, document.media_type) == (
        "returns.docx",
        "Returns",
        "application/vnd.page+json",
    )
    assert "labels" not in document.model_fields_set


# --- slides -------------------------------------------------------------------------------------------------
def a_presentation() -> bytes:
    file: Any = Presentation()
    for title, texts in (("Refunds", ["Ask for the receipt.", "Refund to the card."]), ("Archive", ["Old."])):
        slide = file.slides.add_slide(file.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text_frame.text = "\n".join(texts)
    file.slides[1].element.set("show", "0")
    first = file.slides[0]
    first.notes_slide.notes_text_frame.text = "Cash needs a manager."
    table = first.shapes.add_table(2, 2, Inches(1), Inches(5), Inches(4), Inches(1)).table
    for place, text in enumerate(["Amount", "Who approves", "Over $100", "the manager"]):
        table.cell(place // 2, place % 2).text = text
    return saved(file)


def test_a_slide_has_its_title_items_table_and_notes() -> None:
    converted = convert("refunds.pptx", a_presentation())
    assert converted.title == "Refunds"
    assert parsed(converted).sections[0].headings == ("Slide 1: Refunds",)
    assert units(converted) == [
        "- Ask for the receipt.",
        "- Refund to the card.",
        "Amount: Over $100; Who approves: the manager",
        "Cash needs a manager.",
    ]
    assert lost(converted) == ("hidden slides (slide 2): 1",)


# --- sheets -------------------------------------------------------------------------------------------------
def a_workbook(**sheets: list[list[object]]) -> Workbook:
    file = Workbook()
    file.remove(file.worksheets[0])
    for name, rows in sheets.items():
        sheet = file.create_sheet(name)
        for row in rows:
            sheet.append(row)
    return file


PLANS: list[list[object]] = [
    ["Plans of 2026", None, None],
    ["Plan", "Copay", "Share"],
    ["Basic", 20, 0.2],
    ["Plus", 12.5, 0.125],
]


def test_a_row_of_a_sheet_is_a_unit_with_its_headers_and_number_formats() -> None:
    file = a_workbook(Plans=PLANS)
    for row in (3, 4):
        file["Plans"][f"B{row}"].number_format = '"$"#,##0.00'
        file["Plans"][f"C{row}"].number_format = "0.0%"
    converted = convert("plans.xlsx", saved(file))
    assert parsed(converted).sections[0].headings == ("Plans",)
    assert units(converted) == [
        "Plans of 2026",
        "Plan: Basic; Copay: $20.00; Share: 20.0%",
        "Plan: Plus; Copay: $12.50; Share: 12.5%",
    ]


def test_hidden_sheets_and_formulas_without_a_value_are_named() -> None:
    file = a_workbook(Plans=[["Plan", "Sum"], ["Basic", "=1+1"]], Old=[["secret"]])
    file["Old"].sheet_state = "hidden"
    converted = convert("plans.xlsx", saved(file))
    assert b"secret" not in converted.to_bytes()
    assert lost(converted) == (
        "hidden sheet Old was not read: 1",
        "formulas without a stored value: Plans!B2. Open and save the file in Excel.",
        "names of empty columns (sheet Plans, row 1): 1",
    )


def test_macros_are_named_and_not_read() -> None:
    buffer = io.BytesIO(saved(a_workbook(Plans=PLANS)))
    with zipfile.ZipFile(buffer, "a") as container:
        container.writestr("xl/vbaProject.bin", b"\0macro")
    assert lost(convert("plans.xlsm", buffer.getvalue())) == ("its macros were not read",)


def test_a_question_stays_in_the_row_of_its_answer() -> None:
    rows: list[list[object]] = [
        ["Answer", "QUESTION", "Team"],
        ["Within 30 days.", "Until when may I return it?", "Desk"],
    ]
    for name, raw in (
        ("faq.xlsx", saved(a_workbook(FAQ=rows))),
        ("faq.csv", "\n".join(";".join(map(str, row)) for row in rows).encode()),
    ):
        row = "Answer: Within 30 days.; QUESTION: Until when may I return it?; Team: Desk"
        assert units(convert(name, raw)) == [row]


def test_a_cell_far_from_the_others_costs_nothing_and_a_range_of_all_cells_is_refused() -> None:
    file = a_workbook(Plans=[["a"]])
    file["Plans"]["XFD1048576"] = "far"
    assert units(convert("a.xlsx", saved(file))) == ["a", "far"]
    file["Plans"].merged_cells.add("A1:XFD1048576")
    assert "has 17,179,869,186 cells; at most 500,000 are read" in refusal("a.xlsx", saved(file))
    diagonal = a_workbook(Plans=[])
    for number in range(1, 800):
        diagonal["Plans"].cell(number, number, "x")
        diagonal["Plans"].cell(number, number + 1, "x")
    assert "its tables have more than 500,000 cells" in refusal("a.xlsx", saved(diagonal))


A_DAY = datetime.fromisoformat("2026-03-04")
SHOWN: list[tuple[object, str, str]] = [
    (1234, "00000", "01234"),
    (2125550187, "(000) 000-0000", "(212) 555-0187"),
    (timedelta(hours=26, minutes=30), "[h]:mm", "26:30"),
    (timedelta(hours=-12), "[h]:mm", "-12:00:00"),
    (-5, "$#,##0.00_);($#,##0.00)", "($5.00)"),
    (0.25, "# ?/?", "1/4"),
    (0.375, "# ?/8", "3/8"),
    (1500000, '0.0,,"M"', "1.5M"),
    (0.125, "0.0%", "12.5%"),
    (1234.5, "#,##0.00\\ [$€-407]", "1,234.50 €"),
    (1234.5, '_-* #,##0.00\\ "€"_-;\\-* #,##0.00\\ "€"_-', "1,234.50 €"),
    (12.5, '_($* #,##0.00_);_($* (#,##0.00);_($* "-"??_);_(@_)', "$12.50"),
    (-12.5, '_($* #,##0.00_);_($* (#,##0.00);_($* "-"??_);_(@_)', "$(12.50)"),
    (0, '0;-0;"none"', "none"),
    (3, '[>100]"high";[<=100]"low"', "low"),
    (5551234, "[<=9999999]###-####;(###) ###-####", "555-1234"),
    (5, '0" mg"', "5 mg"),
    (0.0000001, "0.00E+00", "1.00E-07"),
    (1.005, "0.00", "1.01"),
    (0.5, "0", "1"),
    (1234567890123, "General", "1234567890123"),
    (1 / 3, "General", "0.333333333333333"),
    (0.0000001, "General", "0.0000001"),
    (True, "General", "TRUE"),
    (A_DAY, "yyyy-mm-dd", "2026-03-04"),
    (A_DAY, "d. mmmm yyyy", "4. March 2026"),
    (A_DAY, "[$-409]mmmm d, yyyy;@", "March 4, 2026"),
    (A_DAY, "mm-dd-yy", "2026-03-04"),
    (A_DAY.replace(hour=8, minute=5), "m/d/yy h:mm", "2026-03-04 08:05"),
    (time(8, 5), "h:mm AM/PM", "8:05 AM"),
    (time(8, 5, 45), "h:mm", "08:05:45"),
    (A_DAY.replace(hour=23, minute=58, second=45), "yyyy-mm-dd hh:mm", "2026-03-04 23:58:45"),
    (time(0, 4, 59, 500000), "mm:ss.0", "04:59.5"),
    (0.125, "[$-F800]zzz", "0.125"),
    (-5, '[=0]"none";General', "-5"),
    (2.345, "0.00 boxes", "2.345"),
    ("01234", "@", "01234"),
    ("x", '@" mg"', "x mg"),
]


def test_values_are_shown_as_excel_shows_them_or_as_they_are_stored() -> None:
    assert {(repr(value), form): shown_value(value, form) for value, form, _ in SHOWN} == {
        (repr(value), form): shown for value, form, shown in SHOWN
    }
    file = a_workbook(Plans=[])
    for place, (value, form, _) in enumerate(SHOWN, start=1):
        file["Plans"].cell(place * 2, 1, cast(Any, value)).number_format = form
    assert units(convert("a.xlsx", saved(file))) == [shown for *_, shown in SHOWN]


def test_dates_of_a_mac_s_workbook_are_its_dates() -> None:
    file = a_workbook(Plans=[["From", "Fee"], [A_DAY, 5]])
    file.epoch = CALENDAR_MAC_1904
    file["Plans"]["A2"].number_format = "d mmm yyyy"
    assert units(convert("a.xlsx", saved(file))) == ["From: 4 Mar 2026; Fee: 5"]


def test_raised_struck_and_hidden_parts_of_a_sheet_are_apart_or_left_out_and_named() -> None:
    rows: list[list[object]] = [
        ["Item", "Price", "Cost to us"],
        ["Brace", None, 2],
        ["Brace (old price)", 99, 3],
        ["Sling", 20, 1],
        [None, 30, 4],
    ]
    file = a_workbook(Prices=rows)
    sheet = file["Prices"]
    raised, struck = InlineFont(vertAlign="superscript"), InlineFont(strike=True)
    sheet["B2"] = CellRichText("36", TextBlock(raised, "2"))
    sheet["A5"] = CellRichText("Collar ", TextBlock(struck, "blue"), " red")
    sheet["A4"].font = Font(strike=True)
    sheet["B5"].number_format = ";;;"
    sheet.row_dimensions[3].hidden = True
    sheet.column_dimensions["C"].hidden = True
    sheet["A1"].comment = Comment("[Threaded comment] do not tell", "Olga")
    sheet["B1"].comment = Comment("Without tax.", "Olga")
    converted = convert("a.xlsx", saved(file))
    assert units(converted) == [
        "Item: Brace; Price, Without tax.: 36^2",
        "Item: (struck: Sling); Price, Without tax.: 20",
        "Item: Collar red",
    ]
    assert lost(converted) == (
        "hidden rows (sheet Prices, row 3): 1",
        "words of comments (sheet Prices): 3",
        "words of hidden columns (sheet Prices): 6",
        "struck words (sheet Prices, row 1): 1",
        "hidden words (sheet Prices, row 1): 1",
    )


def test_a_hidden_row_or_column_does_not_move_merged_cells() -> None:
    file = a_workbook(
        Plans=[
            ["Region", "Old", "Plan", "Fee"],
            ["North", 1, "Basic", 5],
            [None, 2, "Plus", 6],
            ["South", 3, "Max", 7],
        ]
    )
    file["Plans"].merge_cells("A2:A3")
    file["Plans"].row_dimensions[2].hidden = True
    file["Plans"].column_dimensions["B"].hidden = True
    assert units(convert("a.xlsx", saved(file))) == [
        "Region: North; Plan: Plus; Fee: 6",
        "Region: South; Plan: Max; Fee: 7",
    ]


def test_a_printed_header_that_is_more_than_a_page_number_is_the_first_line() -> None:
    file = a_workbook(Plans=PLANS)
    sheet = cast(Any, file["Plans"])
    sheet.oddHeader.center.text = "&K00-020SUPERSEDED - do not use"
    sheet.oddFooter.right.text = "Page &P of &N"
    converted = convert("a.xlsx", saved(file))
    assert converted.banner == "SUPERSEDED - do not use"
    assert parsed(converted).text.startswith("SUPERSEDED - do not use\n")


A_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def test_text_boxes_and_what_stands_for_pictures_are_read_and_charts_and_pictures_named() -> None:
    buffer = io.BytesIO()
    picture = io.BytesIO(base64.b64decode(A_DOT))
    with WrittenWorkbook(buffer) as book:
        sheet = book.add_worksheet("Plans")
        sheet.write("A1", "Fee")
        sheet.insert_textbox("B2", "Ask first\nand pay later")
        sheet.insert_image("D2", "a.png", {"image_data": picture, "description": "A card of 5 euros"})
        hidden = book.add_worksheet("Old")
        hidden.insert_textbox("B2", "Never ask")
        hidden.hide()
    converted = convert("a.xlsx", with_part(buffer.getvalue(), "xl/charts/chart9.xml", b"<x/>"))
    assert units(converted) == ["Fee", "Ask first", "and pay later", "A card of 5 euros"]
    assert lost(converted)[:2] == ("charts without text: 1", "pictures without text: 1")


@pytest.mark.parametrize("kind", sorted(TABLES.keys() - {"a narrower table follows at once"}))
def test_each_cell_stands_under_the_names_of_its_own_table(kind: str) -> None:
    """The narrower table looks on a sheet as if cells were left out."""
    lines, expected = TABLES[kind]
    sheet: list[list[object]] = [[value or None for value in line.split(";")] for line in lines]
    assert units(convert("a.xlsx", saved(a_workbook(Plans=sheet)))) == expected


def test_a_note_below_a_table_has_no_name_of_a_column() -> None:
    note = "Counted blind; differences were counted twice."
    table: list[list[object]] = [["Docket", "Credit"], ["000940", 75], [], [note], [], ["000941"]]
    expected = ["Docket: 000940; Credit: 75", note, "Docket: 000941"]
    assert units(convert("a.xlsx", saved(a_workbook(All=table)))) == expected
    lines = "\n".join(",".join(map(str, each)) for each in table)
    assert units(convert("b.csv", lines.encode())) == expected


def test_markup_in_cells_of_a_sheet_is_read_and_colors_that_tell_are_named() -> None:
    file = Workbook()
    sheet = file.active
    assert sheet is not None
    for row in (
        ["Step", "How", "When"],
        ["Label", "<p>At <a href='https://lab.example'>the portal</a></p>", 1],
    ):
        sheet.append(row)
    sheet.append(["Box", "Fold &amp; close", 2])
    plain = convert("a.xlsx", saved(file))
    assert units(plain, UnitKind.ROW) == [
        "Step: Label; How: At the portal (https://lab.example); When: 1",
        "Step: Box; How: Fold & close; When: 2",
    ]
    for place, color in {"B2": "FF0000", "C2": "00FF00", "B3": "00FF00"}.items():
        sheet[place].fill = PatternFill("solid", fgColor=color)
    assert (lost(plain), lost(convert("a.xlsx", saved(file)))) == ((), ("colors of cells (sheet Sheet)",))


# --- mail and text ----------------------------------------------------------------------------------------
def a_mail(*, html: bool) -> bytes:
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "Olga <olga@example.org>", "Change of the refund rule"
    mail["Date"] = "Mon, 02 Mar 2026 09:00:00 +0000"
    if html:
        mail.set_content("<h2>New</h2><p>Refunds take <b>five</b> days.</p>", subtype="html")
    else:
        mail.set_content("Hello,\n\nrefunds take five days:\n- card\n- cash\n")
    mail.add_attachment(b"x", maintype="application", subtype="pdf", filename="tariff.pdf")
    return bytes(mail)


def test_a_mail_has_its_subject_sender_and_text_and_names_its_attachments() -> None:
    converted = convert("a.eml", a_mail(html=False))
    assert (converted.title, lost(converted)) == (
        "Change of the refund rule",
        ("attachment tariff.pdf was not read",),
    )
    assert "From: Olga <olga@example.org>" in parsed(converted).text
    assert units(converted, UnitKind.ITEM) == ["- card", "- cash"]
    assert "Refunds take five days." in units(convert("a.eml", a_mail(html=True)))


def a_mail_of(*parts: str, subject: str = "Re: deposit") -> Page:
    """Return a mail whose parts are alternatives; a part that begins with "<" is HTML."""
    mail = EmailMessage()
    mail["From"], mail["Subject"] = "Olga <olga@example.org>", subject
    mail.set_content(parts[0], subtype="html" if parts[0].startswith("<") else "plain")
    for part in parts[1:]:
        mail.add_alternative(part, subtype="html" if part.startswith("<") else "plain")
    return convert("a.eml", bytes(mail))


def text_of_mail(page: Page) -> str:
    return parsed(page).text.removeprefix("From: Olga <olga@example.org>").strip()


def test_of_two_forms_of_a_mail_the_html_is_read_unless_it_says_much_less() -> None:
    rule = "The deposit for a monitor is 45 dollars since March, and it comes back within 9 days."
    assert text_of_mail(a_mail_of("Please use a program that shows HTML.", f"<p>{rule}")) == rule
    assert text_of_mail(a_mail_of(rule, "<p><a href=x>View it online</a>")) == rule
    assert text_of_mail(a_mail_of("Paid 36² in all", "<p>Paid 36<sup>2</sup> in all")) == "Paid 36^2 in all"


def test_answers_between_quoted_lines_are_new_text_where_html_tells_them_by_color_alone() -> None:
    lead = "On Mon, 2 Mar 2026 at 09:00, Bea Rook <b@x.example> wrote:"
    plain = f"Answers below.\n\n{lead}\n> 1. Is it open?\nNo, from May.\n> And who pays?\nThe clinic."
    red = "<font color=red>No, from May.</font><br>And who pays?<br><font color=red>The clinic.</font>"
    html = f"<p>Answers <b>below</b>.<blockquote>{lead}<br>Is it open?<br>{red}</blockquote>"
    text = text_of_mail(a_mail_of(plain, html))
    assert text.split("\n\n") == [
        *("Answers below.", "> Is it open?", "No, from May.", "> And who pays?", "The clinic.")
    ]


@pytest.mark.parametrize(
    "older",
    [
        "On Mon, 2 Mar 2026 at 09:00, Olga\n<olga@example.org> wrote:\n> The deposit is 40\n> dollars.",
        "On Mon, 2 Mar 2026 Olga wrote:\n\nThe deposit is 40 dollars.",
        "El lun, 2 mar 2026 a las 9:00, Olga\n(<olga@example.org>) escribi\u00f3:\n\nEl dep\u00f3sito es 40.",
        "-----Original Message-----\nFrom: Olga\nSent: Monday\nTo: Karl\n\nThe deposit is 40 dollars.",
        "De: Bea <b@x.example>\nEnviada em: segunda-feira, 2 de março de 2026 9:00\nPara: K\nAssunto: D\n",
        "Pošiljatelj: Bea <b@x.example>\nPoslano: 2. ožujka 2026. 9:00\nPrima: Karl\nPredmet: D\n\nTo je 40.",
        "> The deposit is 40 dollars.",
        "<hr><div id=divRplyFwdMsg>Kwa: Bea<br>Siku: 2 Machi 2026 9:00<br>Somo: D</div><p>Ni 40.",
        "<div style='border:none;border-top:solid #E1E1E1 1.0pt'><p><b>De:</b> Bea<br><b>Enviado:</b> lunes"
        "<br><b>Asunto:</b> D</p></div><p>Son 40.",
        "<div class=gmail_quote><div>On Monday Olga wrote:</div><p>It is 40 dollars.</div>",
        "<blockquote type=cite><p>It is 40 dollars.</blockquote>",
    ],
)
def test_an_older_mail_that_a_mail_quotes_is_left_out_and_counted(older: str) -> None:
    new = "<p>The deposit is 45 dollars.</p>" if older.startswith("<") else "The deposit is 45 dollars.\n\n"
    converted = a_mail_of(new + older)
    assert text_of_mail(converted) == "The deposit is 45 dollars."
    assert [loss.partition(":")[0] for loss in lost(converted)] == ["older quoted words"]


@pytest.mark.parametrize(
    "text",
    [
        "Event: flu day\nWhen: Monday, 4 May 2026 10:00\nWhere: room 4\nContact: eve@x.example\n\nCome.",
        "De: Norte\nA: Sur\nPrecio: 12\n\nCada hora.",
        "-----\n\nA: one\nWhen: 4 May 2026 10:00\nC: three\n\nEnd.",
        "Tarifas: hoy.\nDe: Norte\nPara: Sur\nPrecio: 12",
    ],
)
def test_fields_that_are_no_header_of_a_mail_are_read(text: str) -> None:
    converted = a_mail_of(text)
    assert (text_of_mail(converted), lost(converted)) == (text.removeprefix("-----\n\n"), ())


def test_answers_between_quoted_lines_are_read_below_their_questions() -> None:
    mail = "On Monday Olga wrote:\n> How much?\n45 dollars.\n> How long?\n9 days."
    assert text_of_mail(a_mail_of(mail)) == "> How much?\n\n45 dollars.\n\n> How long?\n\n9 days."


def test_who_gets_a_copy_of_a_mail_and_its_header_are_read() -> None:
    mail = b"Subject: Fees\nFrom: a@x.example\nCc: =?iso-8859-1?Q?Lo=EFc?= <l@x.example>\n\nFive dollars."
    assert "Cc: Lo\u00efc <l@x.example>" in parsed(convert("a.eml", mail)).text
    html = a_mail_of("See below.", "<header>Valid until May.</header><p>A kit is 5 dollars.</p>")
    assert text_of_mail(html) == "Valid until May.\n\nA kit is 5 dollars."


def test_a_forwarded_mail_and_one_of_quoted_words_alone_are_read_but_what_they_quote() -> None:
    fields = "From: Karl\nDate: Monday\nTo: Olga\nSubject: deposit"
    mail = f"---------- Forwarded message ---------\n{fields}\n\nIt is 45 dollars.\n\n{fields}\n\nIt is 40."
    assert text_of_mail(a_mail_of(mail, subject="Fwd: deposit")).endswith(
        "Subject: deposit\n\nIt is 45 dollars."
    )
    assert text_of_mail(a_mail_of("> It is 45 dollars.")) == "It is 45 dollars."


@pytest.mark.parametrize(
    ("subject", "said"),
    [
        ("ENC: D", "Please use this one and not the paper at the counter, Bea."),
        ("[EXT] RV: D", "Adjunto."),
        ("\u8f6c\u53d1: D", "\u8bf7\u770b"),
        ("D", "Dear all, please see below. Bea"),
        ("Re: D", "FYI"),
    ],
)
def test_a_mail_that_points_to_one_below_has_it_below_a_heading(subject: str, said: str) -> None:
    fields = "Pošiljatelj: Bea <b@x.example>\nPrima: Karl\nPoslano: 2. ožujka 2026. 9:00\nPredmet: D"
    mail = f"{said}\n\n{fields}\n\n{'The loan of a chair is 6 dollars a day in each shop. ' * 4}"
    heading = "Pošiljatelj: Bea <b@x.example>, Poslano: 2. ožujka 2026. 9:00"
    assert text_of_mail(a_mail_of(mail, subject=subject)).startswith(f"{said}\n\n{heading}\n\n{fields}")
    answer = a_mail_of(mail.replace(said, "Yes, until Friday.") + "Is it open?", subject="Re: D")
    assert text_of_mail(answer) == "Yes, until Friday."


def test_columns_of_a_mail_keep_their_places_and_deeper_quotes_are_older() -> None:
    table = (
        "            shop    home\nTyre        24      39\nBrake       28      43\nSeat        53      56\n"
    )
    rows = "Tyre; shop: 24; home: 39\nBrake; shop: 28; home: 43\nSeat; shop: 53; home: 56"
    assert text_of_mail(a_mail_of(table)) == rows
    quoted = "".join(f"> {line}\n" for line in f"{table}> It was 20.".splitlines())
    assert text_of_mail(a_mail_of(quoted, subject="Fwd: rates")) == rows


def test_lines_of_a_mail_that_only_look_like_older_ones_are_read() -> None:
    mail = "Open\nFrom: 9:00\nTo: 17:00\n\n> 65 years: 5 mg\n> 80 years: 2 mg"
    assert text_of_mail(a_mail_of(mail)) == mail


def test_a_mail_that_is_attached_is_read_with_its_facts() -> None:
    inner = EmailMessage()
    inner["From"], inner["Subject"] = "Karl <karl@example.org>", "New line"
    inner.set_content("Dial 712-555-0168.")
    mail = EmailMessage()
    mail["Subject"] = "see attached"
    mail.set_content("Please print it.")
    mail.add_attachment(inner)
    assert text_of_mail(convert("a.eml", bytes(mail))).split("\n\n") == [
        "Please print it.",
        "Subject: New line\nFrom: Karl <karl@example.org>",
        "Dial 712-555-0168.",
    ]


def test_flowed_lines_of_a_mail_are_joined() -> None:
    head = b"Subject: x\nContent-Type: text/plain; format=flowed; delsp=%s\n\n"
    assert (
        text_of_mail(convert("a.eml", head % b"no" + b"It is \n5 dollars.\n> old \n> words\n"))
        == "It is 5 dollars."
    )
    assert text_of_mail(convert("a.eml", head % b"yes" + b"It is fif \nteen.\n")) == "It is fifteen."


def test_a_part_of_a_mail_is_read_by_its_declared_encoding() -> None:
    head = b"Subject: x\nContent-Type: text/html; charset=iso-8859-2\n\n"
    assert text_of_mail(convert("a.eml", head + b"<p>Dvo\xf8\xe1k")) == "Dvo\u0159\u00e1k"


def test_all_texts_of_a_mail_of_several_parts_are_read() -> None:
    parts = "".join(
        f"--b\nContent-Type: text/{kind}\n\n{text}\n"
        for kind, text in (("plain", "One."), ("html", "<p>Two."), ("plain", "Three."))
    )
    mail = f"Subject: x\nContent-Type: multipart/mixed; boundary=b\n\n{parts}--b--\n"
    assert text_of_mail(convert("a.eml", mail.encode())) == "One.\n\nTwo.\n\nThree."


# --- bad input --------------------------------------------------------------------------------------------
def with_part(raw: bytes, part: str, content: bytes) -> bytes:
    """Return the container with one part replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as source, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as to:
        for name in source.namelist():
            to.writestr(name, content if name == part else source.read(name))
        if part not in source.namelist():
            to.writestr(part, content)
    return buffer.getvalue()


TARIFF = Path(__file__).parents[2] / "data" / "tariff.pdf"
ENTITIES = b"""<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><a>&c;</a>"""
OFFICE: tuple[tuple[str, str, Callable[[], bytes]], ...] = (
    ("a.docx", "word/document.xml", a_word_file),
    ("a.pptx", "ppt/presentation.xml", a_presentation),
    ("a.xlsx", "xl/workbook.xml", lambda: saved(a_workbook(Plans=PLANS))),
)


@pytest.mark.parametrize(("name", "part", "made"), OFFICE)
def test_entities_in_xml_are_refused(name: str, part: str, made: Callable[[], bytes]) -> None:
    for content in (ENTITIES, ENTITIES.decode().encode("utf-16")):
        assert f"{part} declares a document type" in refusal(name, with_part(made(), part, content))


@pytest.mark.parametrize(
    "declared",
    [
        b'<Override PartName="/Custom/Note.dat" ContentType="application/acme+xml"/>',
        b'<Default Extension="DAT" ContentType="text/xml; charset=utf-8"/>',
    ],
)
@pytest.mark.parametrize(("name", "part", "made"), OFFICE)
def test_entities_in_xml_of_another_suffix_are_refused(
    name: str, part: str, made: Callable[[], bytes], declared: bytes
) -> None:
    raw = with_part(made(), "custom/note.dat", ENTITIES)
    types = zipfile.ZipFile(io.BytesIO(raw)).read("[Content_Types].xml")
    convert(name, raw)  # no list calls it XML, so nothing parses it
    listed = with_part(raw, "[Content_Types].xml", types.replace(b"</Types>", declared + b"</Types>"))
    assert "custom/note.dat declares a document type" in refusal(name, listed)


@pytest.mark.parametrize(("name", "part", "made"), OFFICE)
def test_a_bomb_is_refused_by_what_it_says_of_its_size(
    name: str, part: str, made: Callable[[], bytes]
) -> None:
    assert "unpacks from" in refusal(name, with_part(made(), part, b"<a>" + b" " * 60_000_000))
    image = with_part(made(), "media/image.bin", b"\0" * 20_000_000)
    assert "media/image.bin unpacks from" in refusal(name, image)


@pytest.mark.parametrize(("name", "part", "made"), OFFICE)
def test_broken_office_files_are_refused_with_advice(name: str, part: str, made: Callable[[], bytes]) -> None:
    raw = made()
    assert "truncated or damaged. Copy or save it again." in refusal(name, raw[: len(raw) // 2])
    assert f"{part} is not XML" in refusal(name, with_part(raw, part, b"<a"))
    assert "encrypted with a password" in refusal(name, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)
    another = refusal(name, with_part(raw, part, b"<a/>"))
    assert another == "there is no text in it" or "and save it again." in another
    assert f'no part "{part}"' in refusal(name, with_part(b"PK\5\6" + b"\0" * 18, "other.xml", b"<a/>"))


@pytest.mark.parametrize(
    ("name", "made"), [*((name, made) for name, _, made in OFFICE), ("a.pdf", TARIFF.read_bytes)]
)
def test_a_file_is_read_by_a_child_without_rights(name: str, made: Callable[[], bytes]) -> None:
    """What a library opens late is there, too."""
    with ParsingProcess() as process:
        (answer,) = process.run([ParsingRequest("file", {"name": name, "ocr": []}, made())])
    assert isinstance(answer, bytes)
    item = item_of(answer)
    assert isinstance(item, SourceDocument), item


def test_texts_that_cannot_be_read_are_refused_with_advice() -> None:
    assert "encoding is unknown" in refusal("a.txt", b"a\0b")
    assert "encoding is unknown" in refusal("a.csv", b"Caf\x81")
    assert "not an e-mail" in refusal("a.eml", b"Just text.")
    assert "has no text" in refusal("a.eml", b"Subject: x\n\n")
    assert "is not CSV" in refusal("a.csv", b'a,b\n"' + b"x" * 200_000)
    assert "are not read" in refusal("a.doc", b"")


def test_the_parsing_process_starts_without_the_libraries_of_other_formats() -> None:
    code = "import sys, assistant.documents.parsing_child; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert {"pypdfium2", "pptx", "openpyxl", "lxml"}.isdisjoint(ran.stdout.split())
