"""Every office format is read in the child that has no rights: what a library opens late is there, too."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from docx import Document
from openpyxl import Workbook
from pptx import Presentation
from pptx.util import Inches

from assistant.documents.files import SourceDocument
from assistant.documents.parsing_process import ParsingProcess, ParsingRequest
from tests.processes.documents.requests import item_of

SAID = "An umbrella is lent for nine days."


def workbook() -> bytes:
    book, file = Workbook(), io.BytesIO()
    sheet = book.worksheets[0]
    sheet.append(("Service", "Terms"))
    sheet.append(("Umbrellas", SAID))
    book.save(file)
    return file.getvalue()


def text_document() -> bytes:
    document, file = Document(), io.BytesIO()
    document.add_heading("Umbrellas", 1)
    document.add_paragraph(SAID)
    document.save(file)
    return file.getvalue()


def slides() -> bytes:
    show, file = Presentation(), io.BytesIO()
    slide = show.slides.add_slide(show.slide_layouts[6])
    box = slide.shapes.add_textbox(Inches(1), Inches(1), Inches(6), Inches(1))
    box.text_frame.text = SAID
    show.save(file)
    return file.getvalue()


def pages() -> bytes:
    return (Path(__file__).parents[2] / "data" / "tariff.pdf").read_bytes()


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.xlsx", workbook), ("a.docx", text_document), ("a.pptx", slides), ("a.pdf", pages)],
)
def test_a_file_is_read_by_a_child_without_rights(name: str, content: Callable[[], bytes]) -> None:
    with ParsingProcess() as process:
        (answer,) = process.run([ParsingRequest("file", {"name": name, "ocr": []}, content())])
    assert isinstance(answer, bytes)
    item = item_of(answer)
    assert isinstance(item, SourceDocument), item
