"""What Word shows, and what it does not show, as the reader's text. The files are written by hand as XML."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from assistant.documents.formats import convert
from assistant.documents.page import Page
from assistant.documents.parsing.render import render
from assistant.domain.documents import UnitKind
from assistant.domain.errors import DocumentInvalidError
from tests.options.office.writers import NAMES, OFFICE


def element(name: str, content: str) -> str:
    return f"<w:{name} {NAMES}>{content}</w:{name}>"


def a_word_file(
    body: str, *, relations: dict[str, tuple[str, str]] | None = None, **parts: str | bytes
) -> bytes:
    """Return a Word file. ``parts``: "styles", "header1" and so on, as they are; ``relations``: by id the
    kind and the target of others."""
    kinds = {name: name.rstrip("0123456789") for name in parts if "." not in name}
    written = {f"word/{name}.xml": content for name, content in parts.items() if "." not in name}
    written |= {name: content for name, content in parts.items() if "." in name}
    links = [(name, kind, f"{name}.xml", "") for name, kind in kinds.items()]
    for name, (kind, target) in (relations or {}).items():
        links.append((name, kind, target, ' TargetMode="External"' if "://" in target else ""))
    rels = "".join(
        f'<Relationship Id="{name}" Type="{OFFICE}/relationships/{kind}" Target="{target}"{mode}/>'
        for name, kind, target, mode in links
    )
    space = "http://schemas.openxmlformats.org/package/2006/relationships"
    written["word/_rels/document.xml.rels"] = f'<Relationships xmlns="{space}">{rels}</Relationships>'
    written["word/document.xml"] = element("document", f"<w:body>{body}</w:body>")
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as container:
        for name, content in written.items():
            container.writestr(name, content)
    return buffer.getvalue()


def r(text: str, properties: str = "") -> str:
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def p(*runs: str, properties: str = "") -> str:
    inner = "".join(run if run.startswith("<") else r(run) for run in runs)
    return f"<w:p><w:pPr>{properties}</w:pPr>{inner}</w:p>"


def cell(*blocks: str, properties: str = "") -> str:
    inner = "".join(block if block.startswith("<") else p(block) for block in blocks)
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{inner}</w:tc>"


def table(*rows: list[str], header: str = "") -> str:
    lines = "".join(
        f"<w:tr><w:trPr>{header if at == 0 else ''}</w:trPr>"
        + "".join(one if one.startswith("<") else cell(one) for one in row)
        + "</w:tr>"
        for at, row in enumerate(rows)
    )
    return f"<w:tbl>{lines}</w:tbl>"


def styles(**made: str) -> str:
    """Return styles by their id: the name before "|", the XML of the style after it."""
    lines = ""
    for style_id, said in made.items():
        name, _, inner = said.partition("|")
        kind = "character" if name.endswith("(run)") else "paragraph"
        lines += f'<w:style w:type="{kind}" w:styleId="{style_id}"><w:name w:val="{name}"/>{inner}</w:style>'
    return element("styles", lines)


def level(place: int, form: str, text: str, more: str = '<w:start w:val="1"/>') -> str:
    return f'<w:lvl w:ilvl="{place}">{more}<w:numFmt w:val="{form}"/><w:lvlText w:val="{text}"/></w:lvl>'


def numbering(*levels: str, nums: str = '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>') -> str:
    return element("numbering", f'<w:abstractNum w:abstractNumId="0">{"".join(levels)}</w:abstractNum>{nums}')


def item(text: str, place: int = 0, number_id: int = 1) -> str:
    of_list = f'<w:numPr><w:ilvl w:val="{place}"/><w:numId w:val="{number_id}"/></w:numPr>'
    return p(text, properties=of_list)


def field(instruction: str, result: str = "") -> str:
    shown = f'<w:r><w:fldChar w:fldCharType="separate"/></w:r>{result}' if result else ""
    begin = '<w:r><w:fldChar w:fldCharType="begin"/></w:r>'
    code = f"<w:r><w:instrText>{instruction}</w:instrText></w:r>"
    return f'{begin}{code}{shown}<w:r><w:fldChar w:fldCharType="end"/></w:r>'


def drawing(inner: str) -> str:
    return f"<w:r><w:drawing><wp:inline>{inner}</wp:inline></w:drawing></w:r>"


def page(body: str, **parts: Any) -> Page:
    return convert("a.docx", a_word_file(body, **parts))


def text(body: str, **parts: Any) -> str:
    return render(page(body, **parts)).parsed.text


def lost(body: str, **parts: Any) -> list[str]:
    return list(map(str, render(page(body, **parts)).losses))


def rows(body: str, **parts: Any) -> list[str]:
    units = render(page(body, **parts)).parsed.units
    return [unit.text for unit in units if unit.kind is UnitKind.ROW]


# --- text ---------------------------------------------------------------------------------------------------
def test_paragraphs_line_breaks_and_tabs_stay_apart() -> None:
    broken = p(r("Adults 1"), "<w:r><w:br/></w:r>", r("6 at most"), "<w:r><w:tab/></w:r>", r("7"))
    assert text(broken + p("8 in all")) == "Adults 1\n6 at most 7\n\n8 in all"


def test_paragraphs_of_a_cell_stay_apart() -> None:
    body = table(
        ["Age", "Dose", "Form"], ["adults", cell("5", "10 mg"), cell("2", "4 for children above 12")]
    )
    assert rows(body) == ["Age: adults; Dose: 5, 10 mg; Form: 2, 4 for children above 12"]


@pytest.mark.parametrize(
    "raised",
    [
        '<w:vertAlign w:val="superscript"/>',
        '<w:position w:val="8"/>',
        '<w:rStyle w:val="Up"/>',
        '<w:rStyle w:val="Upper"/>',
    ],
)
def test_a_raised_number_is_no_part_of_another(raised: str) -> None:
    made = styles(
        Up='up (run)|<w:rPr><w:vertAlign w:val="superscript"/></w:rPr>',
        Upper='upper (run)|<w:basedOn w:val="Up"/>',
    )
    body = p("under 2.5 x 10", r("12", raised), "/L, for $40", r("3", raised), " a visit")
    assert text(body, styles=made) == "under 2.5 x 10^12/L, for $40 [3] a visit"


@pytest.mark.parametrize("struck", ["<w:strike/>", "<w:dstrike/>", '<w:rStyle w:val="Old"/>'])
def test_struck_words_are_left_out_and_counted(struck: str) -> None:
    made = styles(Old="old (run)|<w:rPr><w:strike/></w:rPr>")
    body = p("Rebook ", r("twice a year", struck), r(" once", '<w:strike w:val="0"/>'), ".")
    assert text(body, styles=made) == "Rebook once."
    assert lost(body, styles=made) == ["struck words: 3"]


@pytest.mark.parametrize("style", ["Secret", "Derived"])
def test_hidden_words_are_left_out_and_counted(style: str) -> None:
    made = styles(
        Secret="secret|<w:rPr><w:vanish/></w:rPr>",
        Derived='derived|<w:basedOn w:val="Secret"/>',
        Shown="shown (run)|<w:rPr><w:vanish/></w:rPr>",
    )
    hidden = p(
        "Waive every fee ", r("now", '<w:rStyle w:val="Shown"/>'), properties=f'<w:pStyle w:val="{style}"/>'
    )
    body = p("Ask", r(" nobody", "<w:vanish/>"), " the desk.") + hidden
    assert text(body, styles=made) == "Ask the desk."
    assert lost(body, styles=made) == ["hidden words: 5"]


def test_an_initial_belongs_to_its_word() -> None:
    initial = p("T", properties='<w:framePr w:dropCap="drop" w:lines="3"/>')
    assert text(initial + p("ake two.") + p("Then rest.")) == "Take two.\n\nThen rest."


def test_symbols_are_what_their_font_shows() -> None:
    sign = '<w:r><w:sym w:font="Symbol" w:char="F06D"/></w:r>'
    greek = r("b", '<w:rFonts w:ascii="Symbol" w:hAnsi="Symbol"/>')
    private = r("\uf0a3", '<w:rFonts w:ascii="Symbol"/>')
    assert text(p("5 ", sign, "g of ", greek, "-blocker ", private, " 4")) == "5 μg of β-blocker ≤ 4"
    other = p("5 ", '<w:r><w:sym w:font="Rare Signs" w:char="F041"/></w:r>', "g")
    assert text(other) == "5 \ufffdg"
    assert lost(other) == ["symbols of a font that is not known"]


# --- headings -----------------------------------------------------------------------------------------------
def test_headings_are_known_by_their_styles_in_any_language() -> None:
    made = styles(
        berschrift2="heading 2",
        House='Haus|<w:basedOn w:val="berschrift2"/>',
        Kapitel='Kapitel|<w:pPr><w:outlineLvl w:val="0"/></w:pPr>',
        Titel="Title",
        Body='Body|<w:basedOn w:val="berschrift2"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr>',
    )
    named = {"Titel": "Fees", "Kapitel": "Cards", "House": "Lost cards", "Body": "Nine dollars."}
    body = "".join(p(words, properties=f'<w:pStyle w:val="{style}"/>') for style, words in named.items())
    body += p("Found cards", properties='<w:outlineLvl w:val="1"/>') + p("No fee.")
    converted = page(body, styles=made)
    sections = render(converted).parsed.sections
    assert converted.title == "Fees"
    assert [section.headings for section in sections] == [("Cards", "Lost cards"), ("Cards", "Found cards")]


# --- lists --------------------------------------------------------------------------------------------------
def test_a_list_has_the_numbers_that_word_shows() -> None:
    made = numbering(
        level(0, "decimal", "%1.", '<w:start w:val="4"/>'),
        level(1, "lowerLetter", "%2)"),
        level(2, "upperRoman", "%3."),
    )
    body = (
        item("Open.")
        + item("Left.", 1)
        + item("Right.", 1)
        + item("Deep.", 2)
        + item("Close.")
        + item("Up.", 1)
    )
    assert text(body, numbering=made).splitlines() == [
        "4. Open.",
        "a) Left.",
        "b) Right.",
        "I. Deep.",
        "5. Close.",
        "a) Up.",
    ]


def test_numbers_of_levels_are_joined_and_a_list_starts_again_where_it_says_so() -> None:
    again = '<w:lvlOverride w:ilvl="0"><w:startOverride w:val="7"/></w:lvlOverride>'
    nums = '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
    nums += f'<w:num w:numId="2"><w:abstractNumId w:val="0"/>{again}</w:num>'
    made = numbering(level(0, "upperLetter", "%1"), level(1, "decimal", "%1.%2"), nums=nums)
    body = item("One.") + item("Two.", 1) + item("Three.", 1) + item("Four.", 0, 2) + item("Five.", 1, 2)
    shown = text(body, numbering=made).splitlines()
    assert shown == ["A One.", "A.1 Two.", "A.2 Three.", "G Four.", "G.1 Five."]


def test_a_heading_has_the_number_of_its_style() -> None:
    linked = '<w:start w:val="1"/><w:pStyle w:val="{}"/>'
    made = numbering(
        level(0, "decimal", "%1", linked.format("H1")), level(1, "decimal", "%1.%2", linked.format("H2"))
    )
    numbered = '<w:pPr><w:numPr><w:numId w:val="1"/></w:numPr></w:pPr>'
    names = styles(H1=f"heading 1|{numbered}", H2=f"heading 2|{numbered}")
    first, second = '<w:pStyle w:val="H1"/>', '<w:pStyle w:val="H2"/>'
    body = (
        p("Scope", properties=first)
        + p("Doses", properties=first)
        + p("Children", properties=second)
        + p("None.")
    )
    converted = page(body, numbering=made, styles=names)
    (section,) = render(converted).parsed.sections
    assert converted.title == "Scope"
    assert section.headings == ("2 Doses", "2.1 Children")


# --- tables -------------------------------------------------------------------------------------------------
WIDE = '<w:gridSpan w:val="2"/>'
BEGIN, GO_ON = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"


def test_cells_that_span_rows_and_columns_stand_under_their_own_names() -> None:
    body = table(
        [cell("Plan", properties=BEGIN), cell("Copay", properties=WIDE)],
        [cell("", properties=GO_ON), "shop", "mail"],
        [cell("Silver", properties=BEGIN), "$11", "$12"],
        [cell("", properties=GO_ON), cell("none", properties=WIDE)],
    )
    assert rows(body) == [
        "Plan: Silver; Copay shop: $11; Copay mail: $12",
        "Plan: Silver; Copay shop: none; Copay mail: none",
    ]


def test_labels_and_check_boxes_name_no_columns() -> None:
    body = table(["Tyres:", "\u2610 good", "\u2611 worn"], ["Base:", "Nenagh", ""], ["Fee:", "$5", ""])
    assert rows(body) == ["Tyres: | \u2610 good | \u2611 worn", "Base: | Nenagh", "Fee: | $5"]


def test_a_table_in_a_cell_does_not_take_the_names_of_the_others() -> None:
    inner = table(["Hour 0", "12.5 mL"], ["Hour 6", "7.5 mL"])
    body = table(["Animal", "Dose"], ["Donkey", cell("Twice:", inner, "then stop")], ["Goat", "4.0 mL"])
    assert rows(body) == [
        "Animal: Donkey; Dose: Twice: Hour 0: 12.5 mL; Hour 6: 7.5 mL, then stop",
        "Animal: Goat; Dose: 4.0 mL",
    ]


def test_a_column_of_cells_without_a_name_only_places_texts() -> None:
    body = table(["Pay"], [cell("Pay 5 dollars.", "Pay by card.")])
    assert text(body) == "Pay\n\nPay 5 dollars.\n\nPay by card."
    assert rows(table(["Pay"], [cell("Pay 5.", "By card.")], header="<w:tblHeader/>")) == [
        "Pay: Pay 5. By card."
    ]


def headings(body: str, **parts: Any) -> list[str]:
    sections = render(page(body, **parts)).parsed.sections
    return [section.headings[-1] for section in sections if section.headings]


def test_short_paragraphs_in_bold_letters_are_headings_where_no_style_is() -> None:
    def bold(words: str) -> str:
        return p(r(words, "<w:b/>"))

    body = (
        bold("Fees:") + p("Five dollars.") + p(r("Cash", "<w:b/>"), " only.") + bold("Hours") + p("Till 6.")
    )
    assert headings(body) == ["Fees:", "Hours"]
    styled = body + p("End", properties='<w:pStyle w:val="H"/>') + p("Bye.")
    assert headings(styled, styles=styles(H="heading 1")) == ["End"]
    assert headings(p("Go.") + bold("Copay: 5") + bold("Fees") + p("Five.")) == [
        "Fees"
    ]  # no fact without text
    for words in ("Pay at once.", "word " * 13, "5 - 6"):
        assert headings(bold(words) + p("Five.")) == []
    assert headings(bold("Fees") + p(r("Five.", '<w:b w:val="0"/>'))) == ["Fees"]


def test_the_file_says_which_rows_name_the_columns() -> None:
    body = table(["2025", "2026"], ["4 dollars", "5 dollars"], header="<w:tblHeader/>")
    assert rows(body) == ["2025: 4 dollars; 2026: 5 dollars"]


@pytest.mark.parametrize(
    ("look", "first_row", "is_named"),
    [
        ('w:val="04A0"', "<w:rPr><w:b/></w:rPr>", True),
        ('w:firstRow="1"', '<w:tcPr><w:shd w:fill="4F81BD"/></w:tcPr>', True),
        ('w:firstRow="0" w:val="04A0"', "<w:rPr><w:b/></w:rPr>", False),
        ('w:val="04A0"', '<w:rPr><w:b w:val="0"/></w:rPr>', False),
    ],
)
def test_the_style_of_a_table_shows_that_its_first_row_names_the_columns(
    look: str, first_row: str, is_named: bool
) -> None:
    made = f'<w:tblStylePr w:type="firstRow">{first_row}</w:tblStylePr>'
    properties = f'<w:tblPr><w:tblStyle w:val="Grid"/><w:tblLook {look}/></w:tblPr>'
    rows = table(["Door", "Code"], ["North", "blue"], ["South", "red"])
    converted = page(rows.replace("<w:tbl>", f"<w:tbl>{properties}"), styles=styles(Grid=f"Grid|{made}"))
    assert ("Door: North; Code: blue" in render(converted).parsed.text) is is_named
    pairs = table(["Monday", "9 to 12"], ["Friday", "closed"]).replace("<w:tbl>", f"<w:tbl>{properties}")
    assert text(pairs, styles=styles(Grid=f"Grid|{made}")) == "Monday | 9 to 12\nFriday | closed"


# --- changes, controls, links, fields -----------------------------------------------------------------------
def test_changes_are_read_as_accepted_and_what_was_deleted_is_counted() -> None:
    deleted = "<w:del><w:r><w:delText>forty two</w:delText></w:r></w:del>"
    moved = f"<w:moveFrom>{r('Gone away.')}</w:moveFrom>"
    row = "<w:tr><w:trPr><w:del/></w:trPr>" + cell("Old") + cell("1") + "</w:tr>"
    body = (
        p("The fee is ", deleted, f"<w:ins>{r('50')}</w:ins>", " dollars.")
        + p("An end", properties="<w:rPr><w:del/></w:rPr>")
        + p(" that was deleted.")
        + p(moved, f"<w:moveTo>{r('Here now.')}</w:moveTo>")
        + table(["Item", "Size"], ["Tube", "4"]).replace("</w:tbl>", f"{row}</w:tbl>")
    )
    assert text(body).split("\n\n") == [
        "The fee is 50 dollars.",
        "An end that was deleted.",
        "Here now.",
        "Item: Tube; Size: 4",
    ]
    assert lost(body) == ["words deleted in tracked changes: 6"]


def test_controls_show_their_content_and_boxes_whether_they_are_checked() -> None:
    def box(state: str) -> str:
        form = f"<w:ffData><w:checkBox>{state}</w:checkBox></w:ffData>"
        begin = f'<w:r><w:fldChar w:fldCharType="begin">{form}</w:fldChar></w:r>'
        end = '<w:r><w:fldChar w:fldCharType="end"/></w:r>'
        return f"{begin}<w:r><w:instrText> FORMCHECKBOX </w:instrText></w:r>{end}"

    def control(content: str, properties: str = "") -> str:
        return f"<w:sdt><w:sdtPr>{properties}</w:sdtPr><w:sdtContent>{content}</w:sdtContent></w:sdt>"

    def new(state: int, sign: str) -> str:
        return control(r(sign), f'<w14:checkbox><w14:checked w14:val="{state}"/></w14:checkbox>')

    body = (
        control(p("Chosen: ", control(r("tea"))))
        + p(box("<w:checked/>"), " Eggs")
        + p(box('<w:default w:val="1"/><w:checked w:val="0"/>'), " Fruit")
        + p(new(1, "\u2612"), " Bread")
        + p(new(0, "\u2610"), " Rice")
    )
    assert text(body).split("\n\n") == ["Chosen: tea", "☑ Eggs", "☐ Fruit", "☑ Bread", "☐ Rice"]


def test_links_lead_where_they_led() -> None:
    body = p(
        "Read ",
        f'<w:hyperlink r:id="web">{r("the tariff")}</w:hyperlink>',
        " or ",
        field(' HYPERLINK "https://a.example/b" ', r("the form")),
        ".",
    )
    relations = {"web": ("hyperlink", "https://a.example/tariff")}
    parsed = render(page(body, relations=relations)).parsed
    assert parsed.text == "Read the tariff (https://a.example/tariff) or the form (https://a.example/b)."
    assert [(parsed.text[start:end], address) for start, end, address in parsed.links] == [
        ("the tariff", "https://a.example/tariff"),
        ("the form", "https://a.example/b"),
    ]


def test_a_field_shows_its_result_and_not_its_instruction() -> None:
    inner = field("DOCPROPERTY Limit", r("7"))
    code = "<w:r><w:instrText>{}</w:instrText></w:r>".format
    asked = f"{code(' IF ')}{inner}{code(' = 7 ')}"
    outer = field("", r("seven")).replace(code(""), asked, 1)
    simple = f'<w:fldSimple w:instr=" DOCPROPERTY Limit ">{r("12")}</w:fldSimple>'
    body = p("A call takes ", outer, " of ", simple, " minutes.")
    custom = '<Properties><property name="Limit">15</property></Properties>'
    assert text(body, **{"docProps/custom.xml": custom}) == "A call takes seven of 12 minutes."
    assert lost(body) == []


# --- notes, comments, boxes, pictures -----------------------------------------------------------------------
def test_notes_stand_after_the_paragraph_with_their_marks() -> None:
    def notes(kind: str, words: str) -> str:
        mark = f"<w:r><w:{kind}Ref/></w:r>"
        separator = f'<w:{kind} w:type="separator" w:id="0">{p("x")}</w:{kind}>'
        return element(f"{kind}s", separator + f'<w:{kind} w:id="2">{p(mark, words)}</w:{kind}>')

    foot, end = (f'<w:r><w:{kind}Reference w:id="2"/></w:r>' for kind in ("footnote", "endnote"))
    own = '<w:r><w:footnoteReference w:customMarkFollows="1" w:id="2"/><w:t>*</w:t></w:r>'
    body = p("The copay is $25", foot, " a visit", end, ".") + p("Call us", own, ".")
    parts = {"footnotes": notes("footnote", " Once a year."), "endnotes": notes("endnote", " By law.")}
    assert text(body, **parts).split("\n\n") == [
        "The copay is $25 [1] a visit [i].",
        "[1] Once a year.",
        "[i] By law.",
        "Call us [*].",
        "[*] Once a year.",
    ]


def test_comments_are_counted() -> None:
    comments = element("comments", f'<w:comment w:id="1">{p("Is this so?")}</w:comment>')
    body = p(f'{r("Yes.")}<w:r><w:commentReference w:id="1"/></w:r>')
    assert (text(body, comments=comments), lost(body, comments=comments)) == (
        "Yes.",
        ["words of comments: 3"],
    )


def test_the_text_of_a_box_is_read_once_after_its_paragraph() -> None:
    inner = f"<w:txbxContent>{p('Closed on Sunday.')}</w:txbxContent>"
    choice = f'<mc:Choice Requires="wps"><w:drawing><wps:txbx>{inner}</wps:txbx></w:drawing></mc:Choice>'
    old = f"<mc:Fallback><w:pict><v:textbox>{inner}</v:textbox></w:pict></mc:Fallback>"
    box = f"<w:r><mc:AlternateContent>{choice}{old}</mc:AlternateContent></w:r>"
    assert text(p("Open from", box, " 9 to 5.") + p("Ring twice.")).split("\n\n") == [
        "Open from 9 to 5.",
        "Closed on Sunday.",
        "Ring twice.",
    ]


def test_pictures_and_charts_without_a_text_are_counted() -> None:
    picture = drawing('<wp:docPr id="1" name="Picture 1"/><pic:pic/>')
    body = p("See:", picture, drawing("<c:chart/>"))
    in_cell = table(["Item", "Look"], ["Tube", cell(p(picture))])
    arrow = p("Old", drawing('<wps:wsp><a:prstGeom prst="rightArrow"/></wps:wsp>'), "New")
    assert lost(arrow) == ["arrows without text"]
    named = p(drawing('<wp:docPr id="1" name="x" descr="red_lever.png"/><pic:pic/>'))
    assert lost(named) == ["pictures without text"]
    assert lost(body) == ["pictures without text", "charts without text"]
    assert lost(in_cell) == ["pictures without text"]


def test_a_diagram_is_read() -> None:
    shape = '<w:r><w:drawing><dgm:relIds r:dm="d"/></w:drawing></w:r>'
    points = "".join(f"<a:p><a:r><a:t>{words}</a:t></a:r></a:p>" for words in ("Ask", "Refund"))
    data = f"<dgm:dataModel {NAMES}>{points}</dgm:dataModel>"
    parts = {"relations": {"d": ("diagramData", "diagrams/data1.xml")}, "word/diagrams/data1.xml": data}
    assert text(p("How:", shape), **parts).split("\n\n") == ["How:", "Ask", "Refund"]


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        ("<m:f><m:num>{}</m:num><m:den>{}</m:den></m:f>", "(140 - age)/72"),
        ("<m:sSup><m:e><m:r><m:t>10</m:t></m:r></m:e><m:sup>{1}</m:sup></m:sSup>{0}", "10^72 140 - age"),
        ("<m:rad><m:radPr/><m:deg/><m:e>{}{}</m:e></m:rad>", "√(140 - age72)"),
        (
            "<m:d><m:dPr/><m:e>{}</m:e></m:d><m:sSub><m:e><m:r><m:t>w</m:t></m:r></m:e><m:sub>{}</m:sub></m:sSub>",
            "(140 - age)w_72",
        ),
    ],
)
def test_a_formula_is_one_line(formula: str, shown: str) -> None:
    written = formula.format("<m:r><m:t>140 - age</m:t></m:r>", "<m:r><m:t>72</m:t></m:r>")
    assert text(p("Clearance: ", f"<m:oMath>{written}</m:oMath>", ".")) == f"Clearance: {shown}."


# --- inserted files -----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "content"), [("a.html", b"<p>Returns take 5 days.</p>"), ("a.txt", b"Returns take 5 days.")]
)
def test_an_inserted_file_is_read_in_its_place(name: str, content: bytes) -> None:
    body = p("Before.") + '<w:altChunk r:id="f"/>' + p("After.")
    parts = {"relations": {"f": ("aFChunk", name)}, f"word/{name}": content}
    assert text(body, **parts).split("\n\n") == ["Before.", "Returns take 5 days.", "After."]


# --- headers and footers ------------------------------------------------------------------------------------
def section(*names: str, more: str = "") -> str:
    references = [f'<w:{name[:6]}Reference w:type="default" r:id="{name}"/>' for name in names]
    return f"<w:sectPr>{''.join(references)}{more}</w:sectPr>"


NUMBER = p("Page ", field(" PAGE ", r("3")), " of ", field(" NUMPAGES ", r("9")))


@pytest.mark.parametrize(
    ("lines", "banner"),
    [
        (NUMBER, ""),
        (p("3", field("PAGE", r("3"))).replace(r("3"), "", 1), ""),
        (p("SUPERSEDED - do not use after 1 March") + NUMBER, "SUPERSEDED - do not use after 1 March"),
        (p("DRAFT ", field("PAGE", r("3"))), "DRAFT"),
        (p("Draft of May", "<w:r><w:tab/></w:r>", "Seite ", field("PAGE", r("3"))), "Draft of May"),
        (table(["Old", NUMBER]), "Old"),
        (p(r("SECRET", "<w:vanish/>")), ""),
    ],
)
def test_a_header_that_is_more_than_a_page_s_number_is_the_banner(lines: str, banner: str) -> None:
    body = p("Pay 5 dollars.") + section("header1", "footer1")
    parts = {
        "header1": element("hdr", lines.replace(" - do", " \u2010 do")),
        "footer1": element("ftr", NUMBER),
    }
    converted = page(body, **parts)
    assert converted.banner.replace("\u2010", "-") == banner
    assert len(converted.blocks) == 1


def test_a_watermark_is_the_banner_and_headers_that_no_page_shows_are_none() -> None:
    mark = '<w:r><w:pict><v:shape><v:textpath string="NOT IN FORCE"/></v:shape></w:pict></w:r>'
    first = section("header1").replace('"default"', '"first"')
    header = element("hdr", p(mark))
    assert page(p("Pay.") + section("header1"), header1=header).banner == "NOT IN FORCE"
    assert page(p("Pay.") + first, header1=header).banner == ""
    assert page(p("Pay.") + first.replace("</w:sectPr>", "<w:titlePg/></w:sectPr>"), header1=header).banner


# --- whole files --------------------------------------------------------------------------------------------
def test_a_strict_file_is_read() -> None:
    raw = a_word_file(p("Ten days.", properties='<w:pStyle w:val="H"/>'), styles=styles(H="heading 1"))
    strict = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(raw)) as old, zipfile.ZipFile(strict, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            for room in (b"wordprocessingml", b"officeDocument", b"drawingml"):
                content = content.replace(
                    b"http://schemas.openxmlformats.org/%s/2006/" % room,
                    b"http://purl.oclc.org/ooxml/%s/" % room,
                )
            new.writestr(name, content)
    assert b"purl.oclc.org" in strict.getvalue()
    assert convert("a.docx", strict.getvalue()).title == "Ten days."


@pytest.mark.parametrize(
    "nested",
    ["<w:sdt><w:sdtContent>|</w:sdtContent></w:sdt>", f"<w:tbl><w:tr><w:tc>|{p('')}</w:tc></w:tr></w:tbl>"],
)
def test_elements_that_are_nested_too_deep_are_refused(nested: str) -> None:
    before, _, after = nested.partition("|")
    raw = a_word_file(before * 1_000 + p("Deep.") + after * 1_000)
    with pytest.raises(DocumentInvalidError, match="nested deeper"):
        convert("a.docx", raw)
