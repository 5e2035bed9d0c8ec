"""Scanned pages, read by the real tesseract (Debian: apt-get install tesseract-ocr) in the parsing process.

``notice_scanned.pdf`` is a text that Chromium printed, as a picture of 200 dots per inch, 0.4 degrees turned.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pypdfium2
import pytest

from assistant.documents.files import SourceDocument, SourceFailure, read_sources
from assistant.documents.parsing import parse_document
from assistant.options.office.formats.pdf import MOST_PAGES
from tests.stage.programs import require
from tests.unit.documents.scene import read

DATA = Path(__file__).parents[2] / "data"
SCAN = DATA / "notice_scanned.pdf"
PRINTED = (DATA / "notice_printed.txt").read_text(encoding="utf-8")


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text)


@pytest.fixture
def _tesseract() -> None:
    require("tesseract")


@pytest.mark.usefixtures("_tesseract")
def test_the_words_of_a_scan_are_read_and_its_page_is_known() -> None:
    (item,) = read_sources([SCAN], ocr=("eng",))
    assert isinstance(item, SourceDocument), item
    parsed = parse_document(item.document)
    found, printed = Counter(words(parsed.text)), Counter(words(PRINTED))
    assert (found & printed).total() >= 0.97 * printed.total()
    assert found.total() <= 1.05 * printed.total()
    assert parsed.page_at(len(parsed.text) - 1) == 1
    assert item.losses == ()


@pytest.mark.usefixtures("_tesseract")
def test_text_beside_a_scan_keeps_its_headings(tmp_path: Path) -> None:
    both = pypdfium2.PdfDocument(DATA / "tariff.pdf")
    both.import_pages(pypdfium2.PdfDocument(SCAN))
    path = tmp_path / "both.pdf"
    both.save(path)
    assert len(both) < MOST_PAGES
    (item,) = read_sources([path], ocr=("eng",))
    assert isinstance(item, SourceDocument), item
    parsed = parse_document(item.document)
    assert [number for number, _ in parsed.pages] == [1, 2, 3, 4]
    assert item.document.title == "Tariff book"
    assert "opening hours of the repair desk" in parsed.text.lower()


def test_without_ocr_a_scan_is_refused_as_one() -> None:
    (item,) = read(SCAN)
    assert isinstance(item, SourceFailure)
    assert (
        item.reason == "it has no text: its pages are scans. Say ocr = true in its source, or add the text."
    )


@pytest.mark.usefixtures("_tesseract")
def test_a_missing_program_and_a_missing_language_say_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item,) = read_sources([SCAN], ocr=("eng", "xyz"))
    assert isinstance(item, SourceFailure)
    assert item.reason.startswith("ocr_languages of its source names xyz, which tesseract does not have here")
    monkeypatch.setenv("PATH", str(tmp_path))
    items = list(read_sources([SCAN, DATA / "tariff.pdf"], ocr=("eng",)))
    assert isinstance(items[0], SourceFailure)
    assert "apt-get install tesseract-ocr" in items[0].reason
    assert isinstance(items[1], SourceDocument)
