"""The kinds of files that are read here. A parser is imported when a file of its kind comes."""

from collections.abc import Sequence

from assistant.documents.formats import ConvertedKind
from assistant.documents.page import Page

_MOST_BYTES = 50_000_000
"""For a file whose text is packed or lies beside images. Its text has the limit of other documents."""


def _read_pdf(raw: bytes, ocr: Sequence[str]) -> Page:
    from assistant.options.office.formats.pdf import convert_pdf

    return convert_pdf(raw, ocr=ocr)


def _read_word(raw: bytes, _ocr: Sequence[str]) -> Page:
    from assistant.options.office.formats.word import convert_docx

    return convert_docx(raw)


def _read_slides(raw: bytes, _ocr: Sequence[str]) -> Page:
    from assistant.options.office.formats.slides import convert_pptx

    return convert_pptx(raw)


def _read_sheets(raw: bytes, _ocr: Sequence[str]) -> Page:
    from assistant.options.office.formats.sheets import convert_xlsx

    return convert_xlsx(raw)


def _read_mail(raw: bytes, _ocr: Sequence[str]) -> Page:
    from assistant.options.office.formats.mail import convert_eml

    return convert_eml(raw)


KINDS = {
    ".pdf": ConvertedKind(_MOST_BYTES, _read_pdf, has_scans=True),
    **dict.fromkeys((".docx", ".docm"), ConvertedKind(_MOST_BYTES, _read_word)),
    **dict.fromkeys((".pptx", ".pptm"), ConvertedKind(_MOST_BYTES, _read_slides)),
    **dict.fromkeys((".xlsx", ".xlsm"), ConvertedKind(_MOST_BYTES, _read_sheets)),
    ".eml": ConvertedKind(_MOST_BYTES, _read_mail),
}
