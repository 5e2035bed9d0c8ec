"""What a slide shows, and what it does not, as the reader's text."""

from __future__ import annotations

import io
from typing import Any

import pytest
from pptx import Presentation
from pptx.chart.data import CategoryChartData
from pptx.enum.chart import XL_CHART_TYPE
from pptx.enum.shapes import MSO_SHAPE
from pptx.oxml import parse_xml
from pptx.util import Inches

from assistant.documents.formats import convert
from assistant.documents.page import Page
from assistant.documents.parsing.render import render
from tests.options.office.writers import NAMES

FULL = {"left": Inches(1), "top": Inches(3), "width": Inches(4), "height": Inches(1)}


def a_presentation(*titles: str) -> Any:
    file: Any = Presentation()
    for title in titles:
        file.slides.add_slide(file.slide_layouts[5]).shapes.title.text = title
    return file


def converted(file: Any) -> Page:
    buffer = io.BytesIO()
    file.save(buffer)
    return convert("a.pptx", buffer.getvalue())


def texts(page: Page) -> list[str]:
    return [line for line in render(page).parsed.text.split("\n") if line]


def lost(page: Page) -> list[str]:
    return list(map(str, render(page).losses))


def paragraphs(shape: Any, *written: str) -> None:
    """Replace the paragraphs of a shape by ones that are written as XML."""
    body = shape.text_frame._txBody
    for paragraph in list(body.p_lst):
        body.remove(paragraph)
    for xml in written:
        body.append(parse_xml(f"<a:p {NAMES}>{xml}</a:p>"))


def run(text: str, properties: str = "") -> str:
    return f"<a:r><a:rPr {properties}/><a:t>{text}</a:t></a:r>"


def test_a_raised_number_of_a_slide_is_no_part_of_another_and_struck_words_are_counted() -> None:
    file = a_presentation("Fee")
    box = file.slides[0].shapes.add_textbox(**FULL)
    raised, struck = run("2", 'baseline="30000"'), run("forty", 'strike="sngStrike"')
    paragraphs(box, run("36") + raised + run(" or ") + struck + run("$50") + run("1", 'baseline="30000"'))
    paragraphs(file.slides[0].shapes.title, run("10") + run("9", 'baseline="30000"'), run("cells"))
    page = converted(file)
    assert texts(page) == ["Slide 1: 10^9 cells", "36^2 or $50 [1]"]
    assert lost(page) == ["struck words (slide 1): 1"]


def test_items_of_a_slide_have_their_numbers_and_levels() -> None:
    file = a_presentation("Steps")
    box = file.slides[0].shapes.add_textbox(**FULL)
    counted = '<a:pPr lvl="{}"><a:buAutoNum type="{}" startAt="{}"/></a:pPr>'.format
    paragraphs(
        box,
        counted(0, "arabicPeriod", 3) + run("Open."),
        counted(1, "alphaLcParenR", 1) + run("Left."),
        counted(1, "alphaLcParenR", 1) + run("Right."),
        counted(0, "arabicPeriod", 3) + run("Close."),
        run("Wait."),
        counted(0, "romanUcPeriod", 4) + run("Leave."),
    )
    assert texts(converted(file))[1:] == [
        "3. Open.",
        "a) Left.",
        "b) Right.",
        "4. Close.",
        "- Wait.",
        "IV. Leave.",
    ]


def test_line_breaks_and_formulas_of_a_slide_stay_apart() -> None:
    file = a_presentation("Dose")
    box = file.slides[0].shapes.add_textbox(**FULL)
    square = "<m:sSup><m:e><m:r><m:t>w</m:t></m:r></m:e><m:sup><m:r><m:t>2</m:t></m:r></m:sup></m:sSup>"
    formula = f"<mc:AlternateContent><mc:Choice><m:oMath>{square}</m:oMath></mc:Choice></mc:AlternateContent>"
    paragraphs(box, run("1") + "<a:br/>" + run("6 at most, ") + formula)
    assert texts(converted(file))[1:] == ["1", "6 at most, w^2"]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ((("Stock", "7714"), ("Till", "7722")), ["Stock | 7714", "Till | 7722"]),
        ((("Trainees", "yes"), ("Over 67", "yes, card")), ["Trainees | yes", "Over 67 | yes, card"]),
        (
            (("Case", "First"), ("Loss", "Ann"), ("Fire", "Bob")),
            ["Case: Loss; First: Ann", "Case: Fire; First: Bob"],
        ),
    ],
)
def test_a_first_row_like_the_others_names_no_columns(
    rows: tuple[tuple[str, str], ...], expected: list[str]
) -> None:
    """PowerPoint declares the first row of each new table as names."""
    file = a_presentation("Codes")
    grid = file.slides[0].shapes.add_table(len(rows), 2, **FULL).table
    for at, row in enumerate(rows):
        for place, text in enumerate(row):
            grid.cell(at, place).text = text
    assert texts(converted(file))[1:] == expected


def test_groups_are_read_together_and_alternatives_once() -> None:
    file = a_presentation("Map")
    shapes = file.slides[0].shapes
    group = shapes.add_group_shape()
    group.shapes.add_textbox(**FULL).text_frame.text = "North gate"
    box = shapes.add_textbox(Inches(1), Inches(5), Inches(1), Inches(1))
    box.text_frame.text = "South gate"
    around = box._element.getparent()
    choice = parse_xml(f'<mc:AlternateContent {NAMES}><mc:Choice Requires="a14"/></mc:AlternateContent>')
    around.replace(box._element, choice)
    choice[0].append(box._element)
    assert texts(converted(file))[1:] == ["North gate", "South gate"]


def test_what_a_slide_does_not_say_in_words_is_counted() -> None:
    file = a_presentation("Sales", "Old prices")
    data = CategoryChartData()
    data.categories = ["May"]
    data.add_series("Sold", (3,))
    file.slides[0].shapes.add_chart(XL_CHART_TYPE.PIE, *FULL.values(), data)
    file.slides[1].element.set("show", "0")
    assert lost(converted(file)) == ["hidden slides (slide 2): 1", "charts without text (slide 1)"]


def test_a_footer_and_what_stands_on_the_master_are_the_banner() -> None:
    file = a_presentation("Fee", "Form")
    footer = file.slide_layouts[5].placeholders[2]
    for slide in file.slides:
        slide.shapes.clone_placeholder(footer)
        slide.placeholders[footer.placeholder_format.idx].text_frame.text = "Draft of May"
    master = file.slide_masters[0].shapes
    master._spTree.append(file.slides[0].shapes.add_textbox(**FULL)._element)
    master[-1].text_frame.text = "NOT IN FORCE"
    page = converted(file)
    assert page.banner == "Draft of May; NOT IN FORCE"
    assert texts(page)[1:] == ["Slide 1: Fee", "Slide 2: Form"]


def a_slide(*boxes: tuple[float, float, float, float, str]) -> Any:
    """Return a file with text boxes: left, top, width and height in inches, and the text."""
    file = a_presentation("Plan")
    for left, top, width, height, text in boxes:
        places = (Inches(left), Inches(top), Inches(width), Inches(height))
        file.slides[0].shapes.add_textbox(*places).text_frame.text = text
    return file


@pytest.mark.parametrize(
    ("boxes", "expected"),
    [
        (  # titles above lists, between lines across the slide
            [
                (1, 2, 8, 0.5, "From May"),
                (5, 3, 3, 0.5, "Renew"),
                (1, 3.02, 3, 0.5, "Join"),
                (1, 3.6, 3, 2, "ID\nphoto"),
                (5, 3.5, 3, 2, "card\nfee of 9"),
                (1, 6, 8, 0.5, "Ask Ann"),
            ],
            ["From May", "Join", "- ID", "- photo", "Renew", "- card", "- fee of 9", "Ask Ann"],
        ),
        (  # a name and its value, box by box
            [(1, 3, 3, 0.5, "Dog"), (5, 3, 3, 0.5, "$9"), (1, 4, 3, 0.5, "Cat"), (5, 4, 3, 0.5, "$5")],
            ["Dog", "$9", "Cat", "$5"],
        ),
        (  # names and values, line by line
            [(5, 3, 3, 2, "8 %\n12 %, with a badge\nR$ 5"), (1, 3, 3, 2, "Sibling\nCompany\nTeacher")],
            ["Sibling | 8 %", "Company | 12 %, with a badge", "Teacher | R$ 5"],
        ),
        (
            [(1, 3, 3, 2, "ID\nphoto\ncard"), (5, 3, 3, 2, "dogs\n2 cats\nbikes")],
            ["- ID", "- photo", "- card", "- dogs", "- 2 cats", "- bikes"],
        ),
    ],
    ids=("columns", "boxes", "lines", "lists"),
)
def test_what_is_side_by_side_is_read_by_columns_or_by_rows(
    boxes: list[tuple[float, float, float, float, str]], expected: list[str]
) -> None:
    assert [line.removeprefix("\u2022 ") for line in texts(converted(a_slide(*boxes)))[1:]] == expected


def test_two_tables_side_by_side_are_read_one_after_the_other_below_their_titles() -> None:
    file = a_slide((1, 2, 3, 0.4, "North"), (6, 2, 3, 0.4, "South"))
    for left, fee in ((1, "5"), (6, "7")):
        table = file.slides[0].shapes.add_table(2, 2, Inches(left), Inches(2.5), Inches(3), Inches(2)).table
        for at, text in enumerate(("Who", "Fee", "Dog", fee)):
            table.cell(at // 2, at % 2).text = text
    assert texts(converted(file))[1:] == ["North", "Who: Dog; Fee: 5", "South", "Who: Dog; Fee: 7"]


def test_arrows_between_texts_are_told() -> None:
    file = a_slide((1, 3, 2, 0.5, "Old desk"), (6, 3, 2, 0.5, "New desk"))
    assert lost(converted(file)) == []
    shapes = file.slides[0].shapes
    shapes.add_shape(MSO_SHAPE.RIGHT_ARROW, Inches(4), Inches(3), Inches(1), Inches(0.5))
    shapes.add_shape(MSO_SHAPE.RIGHT_ARROW, Inches(4), Inches(4), Inches(1), Inches(0.5)).text = "then"
    assert lost(converted(file)) == ["arrows without text (slide 1)"]
