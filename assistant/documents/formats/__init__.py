"""Converts files of other formats into the page model: plain text and tables of text here, others in options.

It runs in the parsing process. A reader is imported only when a file of its kind comes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import PurePath
from warnings import catch_warnings

from assistant.documents.files import converted_kinds
from assistant.documents.page import Page
from assistant.domain.errors import DocumentInvalidError
from assistant.option import imported


def convert(name: str, raw: bytes, *, ocr: Sequence[str] = ()) -> Page:
    """Return a file as a page, by the suffix of its name. ``ocr``: languages in which scans are read, as
    tesseract calls them.

    Raises DocumentInvalidError for an encrypted, truncated, hostile or oversized file, for one without text,
    and for an unknown suffix.
    """
    suffix = PurePath(name).suffix.lower()
    kind = converted_kinds().get(suffix)
    if kind is None:
        raise DocumentInvalidError(f'files with the suffix "{suffix:.20}" are not read. Convert it.')
    read: Callable[..., Page] = imported(kind.reader)
    with catch_warnings(action="ignore"):  # of libraries, about parts of a file that they do not read
        page = read(raw, ocr=ocr) if kind.has_scans else read(raw)
    if not page.blocks:
        raise DocumentInvalidError(". ".join(["there is no text in it", *map(str, page.losses)]))
    return page
