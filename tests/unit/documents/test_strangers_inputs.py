"""Inputs as other people's files have them, one a fault that a reader of documents can have, and their text.

The files are made by hand or by another library than the one that reads them. Each is loaded as a folder is.
"""

from __future__ import annotations

import unicodedata
import zipfile
from datetime import timedelta
from email.message import EmailMessage
from io import BytesIO
from pathlib import Path

import pytest
from openpyxl import Workbook

from assistant.documents.files import SourceDocument, SourceFailure
from assistant.documents.parsing import parse_document
from assistant.documents.sources import check_new_id
from assistant.domain.documents import ParsedDocument, UnitKind
from tests.fakes.answering import FakeTenant
from tests.fakes.answering import document as stored_document
from tests.unit.answer.asking_and_reading import ask
from tests.unit.documents.source_files import failure, read, write

W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
TYPES = "http://schemas.openxmlformats.org/package/2006/content-types"
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006"
MATH = "http://schemas.openxmlformats.org/officeDocument/2006/math"


def loaded_item(path: Path) -> SourceDocument:
    (item,) = read(path)
    assert isinstance(item, SourceDocument), item
    return item


def loaded(path: Path) -> tuple[ParsedDocument, tuple[str, ...]]:
    """Return the text of a file that is loaded, and what the load says is missing in it."""
    item = loaded_item(path)
    return parse_document(item.document), item.notes


def text(path: Path, content: str | bytes) -> str:
    return loaded(write(path, content))[0].text


def units(path: Path, content: str | bytes) -> list[str]:
    return [unit.text for unit in loaded(write(path, content))[0].units]


def rows(path: Path, content: str | bytes) -> list[str]:
    return [unit.text for unit in loaded(write(path, content))[0].units if unit.kind is UnitKind.ROW]


# --- files made by hand -----------------------------------------------------------------------------------
def word(body: str, **parts: str) -> bytes:
    """Return a Word file with this body. ``parts``: by the name of a part of word/ its type and content."""
    buffer = BytesIO()
    overrides = "".join(
        f'<Override PartName="/word/{name}.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        f'wordprocessingml.{name.rstrip("0123456789")}+xml"/>'
        for name in parts
        if name != "chunk"
    )
    relations = "".join(
        f'<Relationship Id="r{name}" Type="{OFFICE}/relationships/{name.rstrip("0123456789")}" '
        f'Target="{name}.xml"/>'
        for name in parts
        if name != "chunk"
    )
    if "chunk" in parts:
        relations += f'<Relationship Id="rchunk" Type="{OFFICE}/relationships/aFChunk" Target="chunk.html"/>'
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr(
            "[Content_Types].xml",
            f'<Types xmlns="{TYPES}"><Default Extension="xml" ContentType="application/xml"/><Default '
            'Extension="html" ContentType="text/html"/><Default Extension="rels" ContentType="application/'
            'vnd.openxmlformats-package.relationships+xml"/><Override PartName="/word/document.xml" '
            'ContentType="application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>'
            f"{overrides}</Types>",
        )
        file.writestr(
            "_rels/.rels",
            f'<Relationships xmlns="{RELATIONS}"><Relationship Id="r1" Type="{OFFICE}/relationships/'
            'officeDocument" Target="word/document.xml"/></Relationships>',
        )
        file.writestr(
            "word/_rels/document.xml.rels", f'<Relationships xmlns="{RELATIONS}">{relations}</Relationships>'
        )
        file.writestr(
            "word/document.xml",
            f'<w:document {W} xmlns:m="{MATH}" xmlns:r="{OFFICE}/relationships"><w:body>{body}</w:body>'
            "</w:document>",
        )
        for name, content in parts.items():
            file.writestr(f"word/{name}.html" if name == "chunk" else f"word/{name}.xml", content)
    return buffer.getvalue()


def run(words: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{words}</w:t></w:r>'


def paragraph(*runs: str, properties: str = "") -> str:
    inner = "".join(each if each.startswith("<") else run(each) for each in runs)
    return f"<w:p><w:pPr>{properties}</w:pPr>{inner}</w:p>"


def grid(*table_rows: tuple[str, ...]) -> str:
    """Return a Word table. A cell is a text, or paragraphs."""
    lines = (
        "<w:tr>"
        + "".join(f"<w:tc>{cell if cell.startswith('<') else paragraph(cell)}</w:tc>" for cell in row)
        + "</w:tr>"
        for row in table_rows
    )
    columns = "<w:gridCol/>" * len(table_rows[0])
    return f"<w:tbl><w:tblPr/><w:tblGrid>{columns}</w:tblGrid>{''.join(lines)}</w:tbl>"


def workbook(**sheets: list[list[object]]) -> Workbook:
    file = Workbook()
    file.remove(file.worksheets[0])
    for name, lines in sheets.items():
        sheet = file.create_sheet(name)
        for line in lines:
            sheet.append(line)
    return file


def saved(file: Workbook) -> bytes:
    buffer = BytesIO()
    file.save(buffer)
    return buffer.getvalue()


def pdf(*pages: str, form: str = "", fields: tuple[str, ...] = ()) -> bytes:
    """Return a PDF of these pages' drawing commands. ``form`` is added to its AcroForm; ``fields`` are
    annotations of the first page."""
    objects = ["", "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    annotations = " ".join(f"{3 + at} 0 R" for at in range(len(fields)))
    objects += fields
    kids: list[int] = []
    for at, commands in enumerate(pages):
        objects.append(f"<< /Length {len(commands.encode('latin-1'))} >>\nstream\n{commands}\nendstream")
        shown = f"/Annots [{annotations}]" if fields and at == 0 else ""
        objects.append(
            "<< /Type /Page /Parent PAGES 0 R /MediaBox [0 0 612 792] /Resources << /Font << /F1 2 0 R >> >> "
            f"/Contents {len(objects)} 0 R {shown} >>"
        )
        kids.append(len(objects))
    objects.append(f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(f'{kid} 0 R' for kid in kids)}] >>")
    tree = len(objects)
    entry = f"/AcroForm << /Fields [{annotations}] /DA (/F1 12 Tf) /DR << /Font << /F1 2 0 R >> >> {form} >>"
    objects[0] = f"<< /Type /Catalog /Pages {tree} 0 R {entry if form or fields else ''} >>"
    out, places = b"%PDF-1.7\n", list[int]()
    for number, content in enumerate(objects, start=1):
        places.append(len(out))
        out += f"{number} 0 obj\n{content.replace('PAGES', str(tree))}\nendobj\n".encode("latin-1")
    begin = len(out)
    table = "".join(f"{place:010} 00000 n \n" for place in places)
    size = len(objects) + 1
    trailer = f"trailer << /Size {size} /Root 1 0 R >>\nstartxref\n{begin}\n%%EOF"
    return out + f"xref\n0 {size}\n0000000000 65535 f \n{table}{trailer}".encode()


def line(words: str, y: int, *, x: int = 72, size: int = 12, rise: int = 0) -> str:
    return f"BT /F1 {size} Tf {rise} Ts 1 0 0 1 {x} {y} Tm ({words}) Tj ET\n"


# --- words and numbers ------------------------------------------------------------------------------------
async def test_addresses_that_a_document_shows_stand_in_its_text_and_in_the_answer(tmp_path: Path) -> None:
    shown = "Patients sign in at https://portal.example.org/login. Forms are at www.example.org/forms."
    parsed, _ = loaded(write(tmp_path / "a.md", shown))
    assert parsed.text == shown
    tenant = FakeTenant().with_documents(stored_document("portal", parsed.text, title="Portal"))
    asked = await ask(tenant, "Where do patients sign in?")
    assert "https://portal.example.org/login" in asked.text


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", "<table><tr><th>Age<th>Dose<tr><td>6 to 12<td><p>5</p><p>10 mg</p></table>"),
        ("a.md", "| Age | Dose |\n|--|--|\n| 6 to 12 | 5<br>10 mg |\n"),
    ],
)
def test_paragraphs_of_a_cell_are_apart(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert rows(tmp_path / name, content) == ["Age: 6 to 12; Dose: 5, 10 mg"]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", "<p>Pay $25<sup>1</sup> or 36<sup>2</sup> at 10<sup>9</sup>/L."),
        ("a.md", "Pay $25<sup>1</sup> or 36<sup>2</sup> at 10<sup>9</sup>/L."),
        (
            "a.pdf",
            pdf(
                "BT /F1 12 Tf 72 700 Td (Pay $25) Tj /F1 7 Tf 5 Ts (1) Tj /F1 12 Tf 0 Ts ( or 36) Tj"
                " /F1 7 Tf 5 Ts (2) Tj /F1 12 Tf 0 Ts ( at 10) Tj /F1 7 Tf 5 Ts (9) Tj /F1 12 Tf 0 Ts"
                " (/L.) Tj ET"
            ),
        ),
    ],
)
def test_a_raised_number_is_part_of_no_other(tmp_path: Path, name: str, content: str | bytes) -> None:
    assert "Pay $25 [1] or 36^2 at 10^9/L." in text(tmp_path / name, content)


def test_a_square_is_no_mark_of_a_note_that_the_page_has(tmp_path: Path) -> None:
    page = "<p>From 35 kg/m<sup>2</sup> it is $5<sup>2</sup>.<p><sup>2</sup> Only in May."
    assert text(tmp_path / "a.html", page) == "From 35 kg/m^2 it is $5 [2].\n\n[2] Only in May."


def test_notes_on_one_line_have_their_marks(tmp_path: Path) -> None:
    page = "<p>Keep 5<sup>b</sup> days, 12<sup>3</sup> at most.<p><sup>3</sup> Cold. <sup>b</sup> No fridge."
    assert text(tmp_path / "a.html", page) == "Keep 5 [b] days, 12 [3] at most.\n\n[3] Cold. [b] No fridge."


def test_a_raised_number_that_is_drawn_apart_keeps_its_place_in_the_line(tmp_path: Path) -> None:
    parts = (
        line("It costs 45 dollars", 700) + line("1", 704, x=176, size=7) + line("for members.", 700, x=184)
    )
    assert "It costs 45 dollars [1] for members." in text(tmp_path / "a.pdf", pdf(parts))


# --- tables -----------------------------------------------------------------------------------------------
SPANS = (
    "<table><tr><th rowspan=2>Plan<th colspan=2>Copay<tr><th>Visit<th>Refill"
    "<tr><td rowspan=2>Silver<td>$11<td>$12<tr><td>$13 (mail)<td>$14</table>"
)
SPANNED = [
    "Plan: Silver; Copay Visit: $11; Copay Refill: $12",
    "Plan: Silver; Copay Visit: $13 (mail); Copay Refill: $14",
]


def test_a_spanning_cell_stands_in_each_of_its_rows(tmp_path: Path) -> None:
    assert rows(tmp_path / "a.html", SPANS) == SPANNED
    assert rows(tmp_path / "b.md", f"Copays:\n\n{SPANS}\n") == SPANNED
    mail = EmailMessage()
    mail["Subject"] = "Copays"
    mail.set_content("See the table.")
    mail.add_alternative(SPANS, subtype="html")
    assert rows(tmp_path / "c.eml", bytes(mail)) == SPANNED


def test_a_quote_whose_lines_are_rows_has_a_unit_a_line(tmp_path: Path) -> None:
    found = units(tmp_path / "a.md", "".join(f"> Drug{at} | $0.{at:03}\n" for at in range(400)))
    assert found == [f"Drug{at} | $0.{at:03}" for at in range(400)]


# --- what is not in force ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.html", "<p>It costs <del>$80</del> $70."),
        ("b.html", "<p>It costs <span style='text-decoration: line-through'>$80</span> $70."),
        ("a.md", "It costs ~~$80~~ $70."),
    ],
)
def test_struck_words_are_left_out_and_counted(tmp_path: Path, name: str, content: str | bytes) -> None:
    parsed, notes = loaded(write(tmp_path / name, content))
    assert parsed.text == "It costs $70."
    assert notes == ("struck words: 1",)


def test_hidden_words_are_left_out_and_counted(tmp_path: Path) -> None:
    page = "<p>Fees are due. <span hidden>Waive every fee.</span> Pay by card."
    parsed, notes = loaded(write(tmp_path / "a.html", page))
    assert (parsed.text, notes) == ("Fees are due. Pay by card.", ("hidden words: 3",))


def a_mail(plain: str, html: str | None = None) -> bytes:
    mail = EmailMessage()
    mail["Subject"] = "Deposit"
    mail.set_content(plain)
    if html is not None:
        mail.add_alternative(html, subtype="html")
    return bytes(mail)


def test_the_longer_part_of_a_mail_is_read(tmp_path: Path) -> None:
    mail = a_mail(
        "Please use a program that shows HTML.", "<p>The deposit for a monitor is 45 dollars, from March on."
    )
    assert text(tmp_path / "a.eml", mail) == "The deposit for a monitor is 45 dollars, from March on."


def test_an_older_mail_below_an_answer_is_left_out_and_counted(tmp_path: Path) -> None:
    mail = a_mail(
        "The deposit is 45 dollars for every monitor.\n\nOn Mon, 2 Feb 2026, Olga wrote:\n> The deposit is 40"
    )
    parsed, notes = loaded(write(tmp_path / "a.eml", mail))
    assert parsed.text == "The deposit is 45 dollars for every monitor."
    assert loaded_item(tmp_path / "a.eml").lost_share == 0
    assert [note.partition(":")[0] for note in notes] == ["older quoted words"]


def test_an_answer_between_quoted_lines_keeps_its_question(tmp_path: Path) -> None:
    mail = a_mail(
        "> Is there a fee for a\n> paper bill? I have 5 dollars.\n\nNo fee.\n\n> Bye, Kim. Any news?"
    )
    parsed, notes = loaded(write(tmp_path / "a.eml", mail))
    assert parsed.text == "> Is there a fee for a paper bill?\n\nNo fee."
    assert notes == ("older quoted words: 16",)


def test_who_gets_a_copy_of_a_mail_is_read(tmp_path: Path) -> None:
    mail = b"Subject: Fees\nFrom: a@x.example\nCc: =?iso-8859-1?Q?Lo=EFc?= <l@x.example>\n\nFive dollars."
    assert "Cc: Lo\u00efc <l@x.example>" in text(tmp_path / "a.eml", mail)


# --- nothing is lost in silence ---------------------------------------------------------------------------
def test_what_varies_at_the_foot_of_pages_is_read(tmp_path: Path) -> None:
    pages = (
        line(f"Item {name}", 700)
        + line(f"It is the {name} of the spring list.", 680)
        + line(f"Price: {price}.00 dollars", 40)
        for name, price in (
            ("chair", 49),
            ("lamp", 52),
            ("desk", 149),
            ("shelf", 88),
            ("rug", 67),
            ("bed", 310),
        )
    )
    found = text(tmp_path / "a.pdf", pdf(*pages))
    assert [f"Price: {price}.00 dollars" in found for price in (49, 52, 149, 88, 67, 310)] == [True] * 6


WARNING = "SUPERSEDED - do not use after 1 March 2026"


def test_a_running_header_that_is_more_than_a_number_is_the_first_line(tmp_path: Path) -> None:
    pages = (
        line(WARNING, 760) + line(f"Rule {at}: call us {at} days before.", 600) + line(f"Page {at}", 30)
        for at in range(1, 5)
    )
    found = text(tmp_path / "a.pdf", pdf(*pages))
    assert (found.startswith(WARNING), found.count(WARNING)) == (True, 1)


def test_a_question_in_a_button_is_the_heading_of_its_panel(tmp_path: Path) -> None:
    panel = "<div aria-hidden=true>Yes, until 18:00 of the day before.</div>"
    page = f"<h2><button>Can I change my address?</button></h2>{panel}"
    parsed, _ = loaded(write(tmp_path / "a.html", page))
    assert [(unit.heading, unit.text) for unit in parsed.units] == [
        ("Can I change my address?", "Yes, until 18:00 of the day before.")
    ]


@pytest.mark.parametrize(
    ("buttons", "panels"),
    [
        ("<button>{}</button><button>{}</button>", "<div class=x>{}</div><div class=x hidden>{}</div>"),
        (
            """<button onclick="show('a')">{}</button><button onclick="show('b')">{}</button>""",
            "<i>Press:</i><section id=a>{}</section><div id=b style='display:none'>{}</div>",
        ),
    ],
)
def test_a_panel_stands_under_the_button_that_opens_it_by_a_script(
    tmp_path: Path, buttons: str, panels: str
) -> None:
    page = f"<p>{buttons.format('Sharps', 'Spills')}</p>{panels.format('Ring at once.', 'Use the kit.')}"
    parsed, notes = loaded(write(tmp_path / "a.html", page))
    found = [(unit.heading, unit.text) for unit in parsed.units if unit.text != "Press:"]
    assert (found, notes) == ([("Sharps", "Ring at once."), ("Spills", "Use the kit.")], ())
    other = f"<p>{buttons.format('Send', 'Print')}</p><p>Call us.</p><p hidden>An old number.</p><p>Bye.</p>"
    assert "old" not in text(tmp_path / "b.html", other.replace("onclick", "data-do"))


def test_a_header_or_footer_without_links_is_the_first_line(tmp_path: Path) -> None:
    page = (
        "<header><a href='/'>Start</a> Fees</header><header>SUPERSEDED <i hidden>never</i></header>"
        "<main><h1>Fees</h1><p>A kit is 5 dollars.</p></main><footer>Next review 2027-03-22</footer>"
    )
    for whole in (page, page.replace("main>", "div>")):
        parsed, notes = loaded(write(tmp_path / "a.html", whole))
        assert parsed.banner == "SUPERSEDED; Next review 2027-03-22"
        assert parsed.text == f"{parsed.banner}\n\nFees\n\nA kit is 5 dollars."
        assert notes == ("words of menus and footers: 3",)
    mail = a_mail("See below.", "<header>Valid until May.</header><p>A kit is 5 dollars.</p>")
    assert text(tmp_path / "a.eml", mail) == "Valid until May.\n\nA kit is 5 dollars."


def test_the_value_of_a_field_follows_its_label(tmp_path: Path) -> None:
    font = "/Resources << /Font << /F1 2 0 R >> >>"
    look = "BT /F1 12 Tf 2 4 Td (150 dollars) Tj ET"
    field = (
        "<< /Type /Annot /Subtype /Widget /FT /Tx /T (limit) /V (150 dollars) /Rect [260 695 400 715] /F 4 "
        "/AP << /N 4 0 R >> >>"
    )
    head = f"<< /Type /XObject /Subtype /Form /BBox [0 0 140 20] {font} /Length {len(look)} >>"
    shown = f"{head}\nstream\n{look}\nendstream"
    raw = pdf(line("Approved limit without a call:", 700), fields=(field, shown))
    assert "Approved limit without a call: 150 dollars" in text(tmp_path / "a.pdf", raw)
    html = "<label>Approved limit without a call: <input value='150 dollars'></label>"
    assert text(tmp_path / "a.html", html) == "Approved limit without a call: 150 dollars"


def test_a_dynamic_form_is_refused_with_a_reason(tmp_path: Path) -> None:
    packet = "<xdp:xdp xmlns:xdp='http://ns.adobe.com/xdp/'><template/></xdp:xdp>"
    stream = f"<< /Length {len(packet)} >>\nstream\n{packet}\nendstream"
    raw = pdf(
        line("Please wait... If this message is not replaced, update your viewer.", 700),
        form="/XFA 3 0 R",
        fields=(stream,),
    )
    assert "form" in failure(write(tmp_path / "a.pdf", raw)).reason


def test_letters_that_are_no_language_are_refused(tmp_path: Path) -> None:
    prose = "Patients may return a device within thirty days and the deposit comes back by card after that."
    shifted = "".join(
        chr((ord(char) - 97 + 5) % 26 + 97) if char.islower() else char for char in prose.lower()
    )
    pages = "".join(line(shifted, 700 - 20 * at) for at in range(12))
    (item,) = read(write(tmp_path / "a.pdf", pdf(pages)))
    assert isinstance(item, SourceFailure) or item.notes  # pyright: ignore[reportAttributeAccessIssue]
    (good,) = read(write(tmp_path / "b.pdf", pdf("".join(line(prose, 700 - 20 * at) for at in range(12)))))
    assert isinstance(good, SourceDocument)
    assert not good.notes


# --- numbers of steps -------------------------------------------------------------------------------------
def test_steps_have_the_numbers_that_the_page_shows(tmp_path: Path) -> None:
    page = "<ol start=4><li>Open.<li value=9>Close.<li>Lock.</ol><ol type=a><li>Card.<li>Cash.</ol>"
    assert units(tmp_path / "a.html", page) == ["4. Open.", "9. Close.", "10. Lock.", "a. Card.", "b. Cash."]


# --- encodings and names ----------------------------------------------------------------------------------
PROSE = (
    "Die Geb\u00fchr f\u00fcr Patienten betr\u00e4gt f\u00fcnf Euro, und der \u00dcbertrag wird gepr\u00fcft."
)


@pytest.mark.parametrize("suffix", ["html", "md", "txt", "csv"])
@pytest.mark.parametrize("encoding", ["iso-8859-1", "cp1252", "utf-16", "utf-8-sig", "mac_roman"])
def test_a_text_is_read_by_its_encoding(tmp_path: Path, suffix: str, encoding: str) -> None:
    declared = encoding if encoding not in ("utf-16", "utf-8-sig") else "utf-8"
    head = f'<meta charset="{declared.replace("mac_roman", "macintosh")}">' if suffix == "html" else ""
    content = {"html": f"{head}<p>{PROSE}", "csv": f"Id;Text\n1;{PROSE}\n2;{PROSE}\n"}.get(suffix, PROSE)
    assert PROSE in text(tmp_path / f"a.{suffix}", content.encode(encoding))


def test_a_curly_apostrophe_of_an_old_mac_is_no_other_letter(tmp_path: Path) -> None:
    content = "Item,Text\n1,The patient\u2019s card\n2,A doctor\u2019s letter \u2013 the clinic\u2019s form\n"
    (item,) = read(write(tmp_path / "a.csv", content.encode("mac_roman")))
    if isinstance(item, SourceFailure):
        assert "encoding" in item.reason
    else:
        assert isinstance(item, SourceDocument)
        assert "patient\u2019s" in parse_document(item.document).text


def test_a_name_is_one_in_both_forms_of_its_letters(tmp_path: Path) -> None:
    ids: set[str] = set()
    for form in ("NFC", "NFD"):
        folder = tmp_path / form
        (item,) = read(
            write(folder / unicodedata.normalize(form, "mac-F\u00fchrer-caf\u00e9.md"), "# T\n\nText.").parent
        )
        assert isinstance(item, SourceDocument)
        ids.add(item.document.document_id)
    assert len(ids) == 1
    check_new_id(*ids)


@pytest.mark.parametrize(
    "name",
    [
        "IL6\u03b2-test",
        "TNF\u03b1-storage",
        "5\u00b5g-patch",
        "\u00bd-tablet",
        "\u2163-line",
        "COVID\u201119",
        "na\u00efve\u2122",
    ],
)
def test_names_of_a_pharmacy_are_read(tmp_path: Path, name: str) -> None:
    (item,) = read(write(tmp_path / f"{name}.md", "# T\n\nText."))
    assert isinstance(item, SourceDocument), item
    check_new_id(item.document.document_id)


# --- Word ----------------------------------------------------------------------------------------------
def test_paragraphs_of_a_word_cell_are_apart(tmp_path: Path) -> None:
    raw = word(grid(("Age", "Dose"), ("6 to 12", paragraph("5") + paragraph("10 mg"))))
    assert rows(tmp_path / "a.docx", raw) == ["Age: 6 to 12; Dose: 5, 10 mg"]


UP = '<w:vertAlign w:val="superscript"/>'


def test_a_raised_number_of_word_is_part_of_no_other(tmp_path: Path) -> None:
    raw = word(paragraph("Pay $25", run("1", UP), " or 36", run("2", UP), " at 10", run("9", UP), "/L."))
    assert text(tmp_path / "a.docx", raw) == "Pay $25 [1] or 36^2 at 10^9/L."


@pytest.mark.parametrize("mark", ["strike", "dstrike"])
def test_struck_words_of_word_are_left_out_and_counted(tmp_path: Path, mark: str) -> None:
    raw = word(paragraph("It costs ", run("$80", f"<w:{mark}/>"), " $70."))
    parsed, notes = loaded(write(tmp_path / "a.docx", raw))
    assert (parsed.text, notes) == ("It costs $70.", ("struck words: 1",))


def test_hidden_words_of_word_are_left_out_and_counted(tmp_path: Path) -> None:
    raw = word(paragraph("Fees are due. ", run("Waive every fee.", "<w:vanish/>"), "Pay by card."))
    parsed, notes = loaded(write(tmp_path / "a.docx", raw))
    assert (parsed.text, notes) == ("Fees are due. Pay by card.", ("hidden words: 3",))


def test_a_running_header_of_word_is_the_first_line(tmp_path: Path) -> None:
    header = f"<w:hdr {W}>{paragraph(WARNING)}</w:hdr>"
    section = '<w:sectPr><w:headerReference w:type="default" r:id="rheader1"/></w:sectPr>'
    raw = word(paragraph("Call us 2 days before.") + section, header1=header)
    assert text(tmp_path / "a.docx", raw) == f"{WARNING}\n\nCall us 2 days before."


def test_a_formula_is_text(tmp_path: Path) -> None:
    above, below = (f"<m:r><m:t>{words}</m:t></m:r>" for words in ("140 \u2212 age", "72"))
    fraction = f"<m:oMath><m:f><m:num>{above}</m:num><m:den>{below}</m:den></m:f></m:oMath>"
    found = text(tmp_path / "a.docx", word(paragraph("Clearance is ", fraction, " for men.")))
    assert "140 \u2212 age" in found.split("/")[0]
    assert "/72 for men." in found


def test_fields_parts_of_another_format_and_check_boxes_are_text(tmp_path: Path) -> None:
    field = f'<w:fldSimple w:instr=" DOCPROPERTY Limit ">{run("90 dollars")}</w:fldSimple>'
    box = (
        '<w:sdt><w:sdtPr><w14:checkbox xmlns:w14="http://schemas.microsoft.com/office/word/2010/wordml">'
        '<w14:checked w14:val="{}"/></w14:checkbox></w:sdtPr>'
        "<w:sdtContent><w:r><w:t>{}</w:t></w:r></w:sdtContent></w:sdt>"
    )
    body = (
        paragraph("The limit is ", field, " a minute.")
        + '<w:altChunk r:id="rchunk"/>'
        + paragraph(box.format(1, "\u2612"), " Tea ", box.format(0, "\u2610"), " Coffee")
    )
    found = text(
        tmp_path / "a.docx", word(body, chunk="<html><body><p>Refunds take 9 days.</p></body></html>")
    )
    assert "The limit is 90 dollars a minute." in found
    assert "Refunds take 9 days." in found
    assert "\u2611 Tea \u2610 Coffee" in found or "\u2612 Tea \u2610 Coffee" in found


NUMBERED = '<w:numPr><w:ilvl w:val="0"/><w:numId w:val="{}"/></w:numPr>'
LEVEL = (
    '<w:abstractNum w:abstractNumId="{0}"><w:lvl w:ilvl="0"><w:start w:val="{0}"/><w:numFmt w:val="{1}"/>'
    '<w:lvlText w:val="{2}"/></w:lvl></w:abstractNum>'
)
NUMBER = '<w:num w:numId="{0}"><w:abstractNumId w:val="{0}"/></w:num>'
LEVELS = LEVEL.format(1, "decimal", "%1.") + LEVEL.format(2, "lowerLetter", "%1)")
NUMBERING = f"<w:numbering {W}>{LEVELS}{NUMBER.format(1)}{NUMBER.format(2)}</w:numbering>"


def test_steps_of_word_have_the_numbers_that_the_page_shows(tmp_path: Path) -> None:
    body = "".join(
        paragraph(words, properties=NUMBERED.format(number) if number else "")
        for words, number in (
            ("Open.", 1),
            ("Close.", 1),
            ("A picture is here.", 0),
            ("Go back to step 2.", 1),
            ("Card.", 2),
            ("Cash.", 2),
        )
    )
    assert units(tmp_path / "a.docx", word(body, numbering=NUMBERING)) == [
        "1. Open.", "2. Close.", "A picture is here.", "3. Go back to step 2.", "b) Card.", "c) Cash.",
    ]  # fmt: skip


# --- workbooks and separated values --------------------------------------------------------------------
def test_lines_of_a_cell_of_a_workbook_are_apart(tmp_path: Path) -> None:
    raw = saved(workbook(Doses=[["Age", "Dose"], ["6 to 12", "5\n10 mg"]]))
    assert rows(tmp_path / "a.xlsx", raw) == ["Age: 6 to 12; Dose: 5, 10 mg"]


SHOWN: tuple[tuple[object, str, tuple[str, ...]], ...] = (
    (1234, "00000", ("01234",)),
    (2125550187, "(000) 000-0000", ("(212) 555-0187",)),
    (timedelta(hours=26, minutes=30), "[h]:mm", ("26:30",)),
    (-5, "$#,##0.00_);($#,##0.00)", ("($5.00)",)),
    (0.25, "# ?/?", ("1/4", "\u00bc")),
    (1_500_000, '0.0,,"M"', ("1.5M", "1.5 M")),
    (0.125, "[$-F800]zzz", ("0.125",)),
)


@pytest.mark.parametrize(("value", "form", "shown"), SHOWN)
def test_a_number_of_a_workbook_is_read_as_it_is_shown(
    tmp_path: Path, value: object, form: str, shown: tuple[str, ...]
) -> None:
    file = workbook(Items=[["Item", "Value"], ["Tablets", value], ["Boxes", "x"]])
    file["Items"]["B2"].number_format = form
    assert rows(tmp_path / "a.xlsx", saved(file))[0] in [f"Item: Tablets; Value: {one}" for one in shown]


def test_several_tables_have_each_their_own_names(tmp_path: Path) -> None:
    items: list[list[object]] = [["Item", "Price"], ["Brace", 8], ["Crutch", 9]]
    branches: list[list[object]] = [["Branch", "Opens at"], ["North", "8:15"], ["South", "9:15"]]
    lines = [*items, [], *branches]
    expected = [
        "Item: Brace; Price: 8",
        "Item: Crutch; Price: 9",
        "Branch: North; Opens at: 8:15",
        "Branch: South; Opens at: 9:15",
    ]
    assert rows(tmp_path / "a.xlsx", saved(workbook(All=lines))) == expected
    assert rows(tmp_path / "b.csv", "\n".join(",".join(map(str, each)) for each in lines)) == expected


@pytest.mark.parametrize(
    ("content", "row"),
    [
        (
            "Price list spring\n\nName;Price EUR\nAspirin;4,50\nIbuprofen;5,25\n",
            "Name: Aspirin; Price EUR: 4,50",
        ),
        ("Name;Price, EUR\nAspirin;4,50\nIbuprofen;5,25\n", "Name: Aspirin; Price, EUR: 4,50"),
        ("sep=;\nName;Price\nAspirin;4,50\nIbuprofen;5,25\n", "Name: Aspirin; Price: 4,50"),
        ("Name\tPrice, net\nAspirin\t4,50\nIbuprofen\t5,25\n", "Name: Aspirin; Price, net: 4,50"),
    ],
)
def test_values_are_cut_where_no_number_is(tmp_path: Path, content: str, row: str) -> None:
    found = [found for found in rows(tmp_path / "a.csv", content) if ":" in found]
    assert (found[0], len(found)) == (row, 2)
    assert "sep=" not in text(tmp_path / "a.csv", content)


def test_a_quote_that_does_not_end_is_refused_or_named_with_its_line(tmp_path: Path) -> None:
    content = 'Id,Name,Price\n1,gauze,3\n2,"open quote tube,4\n3,brace,9\n4,"crutch",8\n'
    (item,) = read(write(tmp_path / "a.csv", content))
    said = item.reason if isinstance(item, SourceFailure) else " ".join(getattr(item, "notes", ()))
    assert "line 3" in said
    if isinstance(item, SourceDocument):
        assert any(
            "brace" in unit.text and "gauze" not in unit.text for unit in parse_document(item.document).units
        )


def test_a_note_below_a_table_has_no_name_of_a_column(tmp_path: Path) -> None:
    note = "Counted blind; differences were counted twice."
    table: list[list[object]] = [["Docket", "Credit"], ["000940", 75], [], [note], [], ["000941"]]
    found = ["Docket: 000940; Credit: 75", note, "Docket: 000941"]
    assert units(tmp_path / "a.xlsx", saved(workbook(All=table))) == found
    lines = "\n".join(",".join(map(str, each)) for each in table)
    assert units(tmp_path / "b.csv", lines) == found


def test_a_text_that_is_guarded_against_excel_is_its_value(tmp_path: Path) -> None:
    content = 'Code;Price\n="00731";4,50\n"=""00084""";5,25\n'
    assert rows(tmp_path / "a.csv", content) == ["Code: 00731; Price: 4,50", "Code: 00084; Price: 5,25"]


def test_a_cell_of_two_lines_below_title_lines_is_no_lost_quote(tmp_path: Path) -> None:
    content = 'Orders\n;Plant 3100\nNo.;Name;Note\n1187;Meier;"In part,\nrest later"\n1193;Kern;whole\n'
    found = rows(tmp_path / "a.csv", content)
    assert found[-2:] == [
        "No.: 1187; Name: Meier; Note: In part, rest later",
        "No.: 1193; Name: Kern; Note: whole",
    ]


def test_a_formula_that_links_keeps_its_address(tmp_path: Path) -> None:
    file = workbook(Items=[["Item", "Policy"], ["Brace", "!"], ["Crutch", "none"]])
    file["Items"]["B2"] = '=HYPERLINK("https://x.example/a?b=1&c=2","policy")'
    raw = saved(file)
    parts = zipfile.ZipFile(BytesIO(raw))
    changed = BytesIO()
    with zipfile.ZipFile(changed, "w") as made:  # as Excel stores what the formula shows
        for name in parts.namelist():
            content = parts.read(name).replace(b"</f><v></v>", b"</f><v>policy</v>")
            content = content.replace(b"</f><v />", b"</f><v>policy</v>")
            made.writestr(name, content.replace(b'<c r="B2">', b'<c r="B2" t="str">'))
    parsed, _ = loaded(write(tmp_path / "a.xlsx", changed.getvalue()))
    assert "Policy: policy" in parsed.text
    assert [link[-1] for link in parsed.links] == ["https://x.example/a?b=1&c=2"]


def test_hidden_rows_and_columns_are_left_out_and_named(tmp_path: Path) -> None:
    file = workbook(
        Items=[
            ["Item", "Price", "Cost to us"],
            ["Brace (old price)", 99, 2],
            ["Brace", 45, 2],
            ["Crutch", 20, 1],
        ]
    )
    file["Items"].row_dimensions[2].hidden = True
    file["Items"].column_dimensions["C"].hidden = True
    parsed, notes = loaded(write(tmp_path / "a.xlsx", saved(file)))
    assert [unit.text for unit in parsed.units] == ["Item: Brace; Price: 45", "Item: Crutch; Price: 20"]
    said = " ".join(notes)
    assert "row" in said
    assert "column" in said
