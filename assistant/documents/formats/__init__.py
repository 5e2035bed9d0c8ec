"""Converts files of other formats into the page model: PDF, Office files, tables, e-mails and plain text.

It runs in the parsing process. Each library is imported only when a file of its format comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePath
from warnings import catch_warnings

from assistant.documents.formats.mail import convert_eml
from assistant.documents.formats.plain import convert_txt
from assistant.documents.formats.separated_values import convert_csv
from assistant.documents.formats.sheets import convert_xlsx
from assistant.documents.formats.slides import convert_pptx
from assistant.documents.formats.word import convert_docx
from assistant.documents.page import Page
from assistant.domain.errors import DocumentInvalidError

__all__ = ["convert"]

_READERS = {
    **dict.fromkeys((".docx", ".docm"), convert_docx),
    **dict.fromkeys((".pptx", ".pptm"), convert_pptx),
    **dict.fromkeys((".xlsx", ".xlsm"), convert_xlsx),
    **dict.fromkeys((".csv", ".tsv"), convert_csv),
    ".eml": convert_eml,
    ".txt": convert_txt,
}


def convert(name: str, raw: bytes, *, ocr: Sequence[str] = ()) -> Page:
    """Return a file as a page, by the suffix of its name. ``ocr``: languages in which scans are read, as
    tesseract calls them.

    Raises DocumentInvalidError for an encrypted, truncated, hostile or oversized file, for one without text,
    and for an unknown suffix.
    """
    with catch_warnings(action="ignore"):  # of libraries, about parts of a file that they do not read
        page = _page(PurePath(name).suffix.lower(), raw, ocr)
    if not page.blocks:
        raise DocumentInvalidError(". ".join(["there is no text in it", *map(str, page.losses)]))
    return page


def _page(suffix: str, raw: bytes, ocr: Sequence[str]) -> Page:
    if suffix == ".pdf":
        from assistant.documents.formats.pdf import convert_pdf

        return convert_pdf(raw, ocr=ocr)
    if suffix not in _READERS:
        raise DocumentInvalidError(f'files with the suffix "{suffix:.20}" are not read. Convert it.')
    return _READERS[suffix](raw)
