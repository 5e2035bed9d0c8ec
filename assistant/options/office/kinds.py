"""The kinds of files that are read here, and by what. No parser is imported for this."""

from assistant.documents.files import ConvertedKind

_FORMATS = "assistant.options.office.formats"
_MOST_BYTES = 50_000_000
"""For a file whose text is packed or lies beside images. Its text has the limit of other documents."""
KINDS = {
    ".pdf": ConvertedKind(_MOST_BYTES, f"{_FORMATS}.pdf:convert_pdf", has_scans=True),
    **dict.fromkeys((".docx", ".docm"), ConvertedKind(_MOST_BYTES, f"{_FORMATS}.word:convert_docx")),
    **dict.fromkeys((".pptx", ".pptm"), ConvertedKind(_MOST_BYTES, f"{_FORMATS}.slides:convert_pptx")),
    **dict.fromkeys((".xlsx", ".xlsm"), ConvertedKind(_MOST_BYTES, f"{_FORMATS}.sheets:convert_xlsx")),
    ".eml": ConvertedKind(_MOST_BYTES, f"{_FORMATS}.mail:convert_eml"),
}
