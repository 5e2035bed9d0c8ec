"""Converts files of other formats into the page model: plain text and tables of text here, others in options.

It runs in the parsing process. A reader is imported only when a file of its kind comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from pkgutil import resolve_name
from warnings import catch_warnings

from assistant.documents.page import Page
from assistant.domain.errors import DocumentInvalidError
from assistant.option import installed

LARGEST_DOCUMENT_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class ConvertedKind:
    """A kind of file that is converted into a page."""

    most_bytes: int
    """Limit for a file."""
    reader: str
    """The function that returns the page of a file's bytes, as "module:function": it is imported when a file
    comes, so in the parsing process alone."""
    has_scans: bool = False
    """Whether it reads scans, in the languages of its argument ``ocr``."""

    def read(self, raw: bytes, ocr: Sequence[str]) -> Page:
        """Return the page of a file's bytes."""
        read: Callable[..., Page] = resolve_name(self.reader)
        return read(raw, ocr=ocr) if self.has_scans else read(raw)


_TEXT_FILES = "assistant.documents.formats.text_files"
_KINDS = {
    **dict.fromkeys((".csv", ".tsv"), ConvertedKind(LARGEST_DOCUMENT_BYTES, f"{_TEXT_FILES}:convert_csv")),
    ".txt": ConvertedKind(LARGEST_DOCUMENT_BYTES, f"{_TEXT_FILES}:convert_txt"),
}


@cache
def converted_kinds() -> Mapping[str, ConvertedKind]:
    """Return the kinds of files that are converted here, by suffix."""
    kinds = dict(_KINDS)
    for option in installed():
        kinds |= option.kinds_of_files()
    return kinds


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
    with catch_warnings(action="ignore"):  # of libraries, about parts of a file that they do not read
        page = kind.read(raw, ocr)
    if not page.blocks:
        raise DocumentInvalidError(". ".join(["there is no text in it", *map(str, page.losses)]))
    return page
