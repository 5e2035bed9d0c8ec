"""The kinds of files that are read here. A reader is imported when a file of its kind comes."""

from assistant.documents.formats import ConvertedKind

_MOST_BYTES = 50_000_000
"""For a file whose text is packed or lies beside images. Its text has the limit of other documents."""
_FORMATS = "assistant.options.office.formats"

KINDS = {
    ".pdf": ConvertedKind(_MOST_BYTES, f"{_FORMATS}.pdf:convert_pdf", has_scans=True),
    **dict.fromkeys((".docx", ".docm"), ConvertedKind(_MOST_BYTES, f"{_FORMATS}.word:convert_docx")),
    **dict.fromkeys((".pptx", ".pptm"), ConvertedKind(_MOST_BYTES, f"{_FORMATS}.slides:convert_pptx")),
    **dict.fromkeys((".xlsx", ".xlsm"), ConvertedKind(_MOST_BYTES, f"{_FORMATS}.sheets:convert_xlsx")),
    ".eml": ConvertedKind(_MOST_BYTES, f"{_FORMATS}.mail:convert_eml"),
}
"""Readers of PDF, Word, PowerPoint, Excel and e-mails."""
