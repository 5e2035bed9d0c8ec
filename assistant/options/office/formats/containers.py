"""Checks the zip container of an Office file before a library opens it."""

from __future__ import annotations

import io
import zipfile
from typing import NoReturn
from xml.parsers import expat

from assistant.domain.errors import DocumentInvalidError

MOST_BYTES = 300_000_000
"""Limit for all parts together, unpacked, images too: six times the largest file that is read."""
MOST_XML_BYTES = 100_000_000
"""Limit for one XML part: a tree of it must fit the child's memory."""
MOST_PARTS = 10_000
MOST_RATIO = 200
"""Unpacked to packed bytes of one part. A sheet of equal rows has 14; deflate reaches 1,030."""
_RATIO_FROM_BYTES = 10_000_000
"""Parts below this size may have any ratio."""
BROKEN = (ArithmeticError, AttributeError, LookupError, RecursionError, SyntaxError, TypeError, ValueError)
"""What the libraries raise for a part that is missing or has another content than it should."""
_OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_PROLOG_BYTES = 1 << 16
_CONTENT_TYPES = "[Content_Types].xml"


class _RootReachedError(Exception):
    """The root element began: there was no document type declaration before it."""


def open_container(raw: bytes, *, part: str) -> zipfile.ZipFile:
    """Return the opened container, which is within all limits and has a part of this name.

    Raises DocumentInvalidError for an encrypted, truncated or oversized file, and for XML with a document
    type declaration: Office formats forbid it, and only hostile files use its entities.
    """
    if raw.startswith(_OLE):
        problem = "it is encrypted with a password, or in the format of Office before 2007"
        raise DocumentInvalidError(f"{problem}. Save it without a password in today's format.")
    try:
        container = zipfile.ZipFile(io.BytesIO(raw))
        _check_sizes(container.infolist())
        xml = _xml_parts(container)
        if part not in container.namelist():
            raise DocumentInvalidError(f'it has no part "{part}". Check that its suffix names its format.')
        for entry in container.infolist():
            if entry.filename in xml:
                _check_xml(container, entry)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, OSError, RuntimeError) as error:
        problem = f"its container cannot be opened ({type(error).__name__}): it is truncated or damaged"
        raise DocumentInvalidError(f"{problem}. Copy or save it again.") from None
    return container


def macros(container: zipfile.ZipFile) -> tuple[str, ...]:
    """Return a note if the file has macros. They are never run."""
    projects = [name for name in container.namelist() if name.endswith("vbaProject.bin")]
    return ("its macros were not read",) if projects else ()


def _check_sizes(entries: list[zipfile.ZipInfo]) -> None:
    unpacked = sum(entry.file_size for entry in entries)
    if len(entries) > MOST_PARTS or unpacked > MOST_BYTES:
        problem = f"it unpacks to {len(entries):,} parts of {unpacked:,} bytes"
        limits = f"at most {MOST_PARTS:,} parts of {MOST_BYTES:,} bytes are read"
        raise DocumentInvalidError(f"{problem}; {limits}. Split it.")
    for entry in entries:
        if entry.file_size > max(_RATIO_FROM_BYTES, MOST_RATIO * entry.compress_size):
            raise _too_large(entry)


def _too_large(entry: zipfile.ZipInfo) -> DocumentInvalidError:
    problem = f"its part {entry.filename:.80} unpacks from {entry.compress_size:,} to"
    return DocumentInvalidError(f"{problem} {entry.file_size:,} bytes. Split the document.")


def _xml_parts(container: zipfile.ZipFile) -> set[str]:
    """Return the names of the parts that are parsed as XML.

    A name may end in anything: the file's list of content types says what a part is (ECMA-376 part 2,
    *Content types*), for a suffix or for one name. A picture in SVG is shown by nobody here.
    """
    suffixes, names = {"xml", "rels"}, {_CONTENT_TYPES.lower()}

    def element(_: str, attributes: dict[str, str]) -> None:
        kind = attributes.get("ContentType", "").partition(";")[0].strip().lower()
        if kind.endswith(("/xml", "+xml")) and not kind.startswith("image/"):
            suffixes.add(attributes.get("Extension", "xml").lower())
            names.add(attributes.get("PartName", "").removeprefix("/").lower())

    if _CONTENT_TYPES in container.namelist():
        entry = container.getinfo(_CONTENT_TYPES)
        _check_xml(container, entry)
        parser = expat.ParserCreate()
        parser.StartElementHandler = element
        with container.open(entry) as part:
            try:
                parser.ParseFile(part)
            except expat.ExpatError:
                raise _not_xml(entry) from None
    return {
        name
        for name in container.namelist()
        if name.lower() in names or name.rpartition(".")[2].lower() in suffixes
    }


def _not_xml(entry: zipfile.ZipInfo) -> DocumentInvalidError:
    problem = f"its part {entry.filename:.80} is not XML"
    return DocumentInvalidError(f"{problem}. Open the file in Office and save it again.")


def _check_xml(container: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Raise DocumentInvalidError for a part that is too large, or declares a document type."""
    if entry.file_size > MOST_XML_BYTES:
        raise _too_large(entry)

    def refuse(*_: object) -> NoReturn:
        problem = f"its part {entry.filename:.80} declares a document type (DOCTYPE)"
        raise DocumentInvalidError(f"{problem}, which Office files must not. Save it again in Office.")

    def end(*_: object) -> NoReturn:
        raise _RootReachedError

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.StartElementHandler = end
    with container.open(entry) as part:
        try:
            while chunk := part.read(_PROLOG_BYTES):
                parser.Parse(chunk)
            parser.Parse(b"", True)
        except _RootReachedError:
            return
        except expat.ExpatError:
            raise _not_xml(entry) from None
