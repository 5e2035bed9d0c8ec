"""Reads files and folders into the items of a source: documents, withdrawals and failures.

This process only opens the files. The parsing process reads what is in them (``formats``). The service
imports this module, so it must not need the parsers of the ``worker`` extra.
"""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import posixpath
import re
import stat
import unicodedata
import zlib
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain, count, product
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, BinaryIO, cast
from urllib.parse import unquote

from pydantic import Field, TypeAdapter, ValidationError

from assistant.documents.formats import LARGEST_DOCUMENT_BYTES, converted_kinds
from assistant.documents.page import Loss
from assistant.documents.parsing_process import (
    MALFORMED,
    Parsing,
    ParsingProcess,
    ParsingRequest,
    read_answer,
)
from assistant.domain.documents import Document, OriginalFile, id_prefix_of
from assistant.domain.errors import DocumentInvalidError, NotFoundError, ParsingStoppedError, TooLargeError


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document as read from its source."""

    document: Document
    origin: str
    """``<file>`` or ``<file>:<line>``; empty for a document that came without a file."""
    metadata: dict[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    """Keys of the file that are not read, each with every text below it."""
    losses: tuple[Loss, ...] = ()
    """What of the file is not in its text: struck words, a hidden sheet, a scanned page."""
    lost_share: float = 0.0
    """Share of its words that are not in its text, of those that could be counted."""
    file: Path | None = None
    """Where ``document.original`` lies; None of a document without one."""
    text: str = ""
    """Text that readers see; only of a document that is read again."""
    shown: tuple[str, ...] = ()
    """Keys of ``metadata`` whose values are in the text."""


@dataclass(frozen=True, slots=True)
class SourceWithdrawal:
    """A document whose file or line says ``withdrawn: true``."""

    own_id: str
    """The id within its source."""
    origin: str


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """A file or line that is not a valid document. It does not stop the others."""

    origin: str
    code: str
    reason: str
    own_id: str | None = None
    """The id, within its source, of the document that was meant. That document is withheld."""
    is_named_by_file: bool = False
    """Whether ``own_id`` was derived from the file's name, because the file's own id is unreadable."""


SourceItem = SourceDocument | SourceFailure | SourceWithdrawal
_ITEMS: TypeAdapter[list[SourceItem]] = TypeAdapter(
    list[Annotated[SourceItem, Field(union_mode="left_to_right")]]
)
"""Items as the parsing process sends them. Failures come first: they have the fields of a withdrawal too."""


def write_items(items: list[SourceItem]) -> bytes:
    """Return the items as JSON for ``read_items``. Fields that a document does not set stay unset."""
    return _ITEMS.dump_json(items, exclude_unset=True)


def read_items(answer: bytes | ParsingStoppedError) -> list[SourceItem] | ParsingStoppedError:
    """Return the items that ``write_items`` wrote; an error for an answer that is none."""
    return read_answer(_ITEMS, answer)


def as_item(origin: str, fields: Mapping[str, object], *, metadata: dict[str, tuple[str, ...]]) -> SourceItem:
    """Return a document with these fields, or a failure that names the invalid fields."""
    try:
        return SourceDocument(Document.model_validate(dict(fields)), origin, metadata)
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return invalid(origin, "; ".join(reasons))


def file_of(origin: str) -> str | None:
    """Return the file of an origin; None for an origin without one."""
    file, colon, line = origin.rpartition(":")
    return (file if colon and line.isdecimal() else origin) or None


def invalid(origin: str, reason: str) -> SourceFailure:
    return SourceFailure(origin, DocumentInvalidError.code, reason)


def too_large(origin: str, limit_bytes: int) -> SourceFailure:
    return SourceFailure(origin, TooLargeError.code, f"larger than {limit_bytes:,} bytes")


def refuse_duplicate_keys(json_text: bytes) -> None:
    """Raise DocumentInvalidError for a duplicate key in an object, and ValueError for no JSON."""
    try:
        json.loads(json_text, object_pairs_hook=unique_keys, parse_int=str)
    except RecursionError:
        raise DocumentInvalidError("it has too many objects inside each other") from None


def unique_keys(pairs: Sequence[tuple[str, object]]) -> dict[str, object]:
    """Return the object of these pairs. Raises DocumentInvalidError for a duplicate key.

    JSON parsers keep the last value of a key, so the first ``labels`` would be ignored.
    """
    for key, times in Counter(key for key, _ in pairs).items():
        if times > 1:
            raise DocumentInvalidError(f'it says "{key:.60}" twice')
    return dict(pairs)


def text_field(value: object) -> str | None:
    """Return a trimmed text, or a number as text. Return None for an empty text or another type."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


def questions_field(value: object) -> tuple[str, ...]:
    """Return the different questions, in order, from a text or a list of texts.

    Raises DocumentInvalidError for another type and for an empty item.
    """
    if value is None or value == "":
        return ()
    if not isinstance(value, str | list | tuple):
        problem = f"{value!r:.60} is neither a text nor a list of texts"
        raise DocumentInvalidError(f"questions: {problem}. Write a list of questions.")
    items = cast("list[Any]", [value] if isinstance(value, str) else value)
    for number, item in enumerate(items, start=1):
        if not isinstance(item, str) or not item.strip():
            problem = f"item {number} is {item!r:.60}, not a text"
            raise DocumentInvalidError(f"questions: {problem}. Write a question or remove the item.")
    return tuple(dict.fromkeys(" ".join(item.split()) for item in items))


# Files and folders

LONGEST_LINE_BYTES = 2 * LARGEST_DOCUMENT_BYTES
LARGEST_FILE_BYTES = 4_000_000_000
"""Limit for all lines of a file together, decompressed: a gzip file of 4 MB can contain this much."""
LARGEST_LINES_BYTES = 256 * 1024 * 1024
"""Limit for a file of JSON lines that is sent to us, as it is sent: about twenty thousand documents."""
_LINES, _JSON = (".jsonl", ".jsonl.gz"), ".json"
_BLOCK_BYTES = 1 << 18
"""Lines that are read together, well within the limits of a request. The first ones of a file tell what its
keys mean (``exports``)."""
_MARKDOWN = (".md", ".markdown", ".mdx", ".md.erb")
UNSHOWN_KEYS = ("metadata", "focus", "source_id")
"""Keys of a JSON line that readers do not see; MedQuAD's lines have the last two."""
PAGES = (*_MARKDOWN, ".html", ".htm")


def kinds_read() -> tuple[str, ...]:
    """Return the endings of names of files that are read."""
    return (*_LINES, _JSON, *PAGES, *converted_kinds())


_LONGEST_FILE_NAME = 255
_OCR_WALL_S = 900.0
"""Limit for a file whose scans are read: hundreds of pages. The parsing process's CPU time leaves out
tesseract's."""
_UNSAFE_IN_ID = re.compile(r"[^\w.-]+")
_LINE_ID = re.compile(rb'"(id|document_id)"\s{0,9}:\s{0,9}"([^"\\\\\s/?#]{1,256})"')

_Entries = Iterator[ParsingRequest | SourceFailure]
"""What a file holds, in its order: requests to parse it, and failures that need no parsing."""


def read_sources(
    paths: Sequence[Path], *, parsing: Parsing | None = None, ocr: Sequence[str] = ()
) -> Iterator[SourceItem]:
    """Yield the items of files, and of the files below folders in order of their names.

    In a folder, hidden files and files of other kinds are skipped (``skipped_files`` names these); links that
    lead out of the folder and special files are failures. A file that is named itself always yields
    something. Without ``parsing`` a parsing process is started for this call. Scans are read in the languages
    ``ocr``. Raises NotFoundError when a path does not exist.
    """
    for path in paths:
        if not path.exists():
            raise NotFoundError(f"{path}: there is no such file or folder.")
    yield from _parse(_requests(paths, ocr), parsing)


def is_read(path: Path) -> bool:
    """Return whether files of this name are read; not the "~$fees.docx" of a file that is open in Office."""
    return path.name.lower().endswith(kinds_read()) and not path.name.startswith("~$")


def largest_bytes(name: str) -> int:
    """Return the limit in bytes for a file of this name. Raises DocumentInvalidError for a kind that is not
    read."""
    low = name.lower()
    if low.endswith(_LINES):
        return LARGEST_LINES_BYTES
    if low.endswith((*PAGES, _JSON)):
        return LARGEST_DOCUMENT_BYTES
    kind = converted_kinds().get(PurePosixPath(low).suffix)
    if kind is None:
        raise DocumentInvalidError(f"{name:.200}: not one of {', '.join(kinds_read())}")
    return kind.most_bytes


def skipped_files(paths: Sequence[Path]) -> list[str]:
    """Return the files below folders that are not read because of their kind, by their paths there, in order.

    Hidden files are none of them.
    """
    return sorted(
        _shown_name(file.relative_to(path).as_posix())
        for path in paths
        if path.is_dir()
        for file in _files_below(path)
        if not is_read(file)
    )


def read_source(
    path: Path, *, name: str, parsing: Parsing | None = None, ocr: Sequence[str] = ()
) -> Iterator[SourceItem]:
    """Yield the items of one file, whose kind is that of ``name``, whatever ``path`` is called. A document
    without an id of its own gets its id from ``name``."""
    yield from _parse(_file_requests(path, name, ocr), parsing)


def read_kept(
    path: Path, *, name: str, parsing: Parsing | None = None, ocr: Sequence[str] = ()
) -> Iterator[SourceItem]:
    """Yield the item, with its text, of what is kept of a document: the file ``name`` that it was converted
    from, else the document in JSON."""
    entries = _file_requests(path, name, ocr)
    if not is_converted(name):
        entries = iter([ParsingRequest("stored", {"name": name}, path.read_bytes())])
    yield from _parse(entries, parsing, with_text=True)


def is_converted(name: str) -> bool:
    """Return whether a file of this name is converted into a page, so that its text is not the file's own."""
    return PurePosixPath(name).suffix.lower() in converted_kinds()


def page_id(name: str) -> str:
    """Return the id of a file without its own: its path below the folder, without the suffix, as a slug.

    A converted file keeps its suffix: a company has ``fees.docx`` beside ``fees.pdf``. A Mac's decomposed
    letters, half signs and Roman numerals are written as ids have them.
    """
    path = Path(name)
    stem = path if is_converted(name) else path.with_suffix("")
    composed = _UNSAFE_IN_ID.sub("-", unicodedata.normalize("NFC", str(stem)))
    return _UNSAFE_IN_ID.sub("-", unicodedata.normalize("NFKC", composed)).strip("-.") or "document"


def title_of(name: str) -> str:
    """Return a title for a file that has none: its name as words."""
    stem = PurePosixPath(name).name.partition(".")[0]
    return " ".join(re.split(r"[\s_-]+", stem)).strip() or name


def named_by_file(failure: SourceFailure, name: str) -> SourceFailure:
    """Return the failure with the id that the file's name gives."""
    return replace(failure, own_id=page_id(name), is_named_by_file=True)


def named_by_line(failure: SourceFailure, line: bytes, *, key: str = "id") -> SourceFailure:
    """Return the failure with the id in broken JSON, if exactly one id can be found in it."""
    named = _LINE_ID.finditer(line[:LONGEST_LINE_BYTES])
    names = {match[2] for match in named if match[1].decode() == key}
    if len(names) != 1:
        return failure
    return replace(failure, own_id=names.pop().decode("utf-8", errors="replace"))


def _requests(paths: Sequence[Path], ocr: Sequence[str]) -> _Entries:
    for file, name, is_inside in files_of(paths):
        if is_inside:
            yield from _file_requests(file, name, ocr)
        else:
            yield invalid(_shown_name(name), "a link to a file outside of its folder; copy the file instead")


def files_of(paths: Sequence[Path]) -> Iterator[tuple[Path, str, bool]]:
    """Yield each file that is read with its name within a source, and whether it is inside of its folder."""
    for path in paths:
        if not path.is_dir():
            yield path, path.name, True
            continue
        folder = path.resolve()
        for file in sorted(filter(is_read, _files_below(path))):
            target = Path(os.path.realpath(file))  # resolve() fails on circular links
            yield file, file.relative_to(path).as_posix(), target.is_relative_to(folder)


def _files_below(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and not path.is_dir():
            yield path


def _file_requests(path: Path, name: str, ocr: Sequence[str]) -> _Entries:
    kind = name.lower()
    if name != (shown := _shown_name(name)):
        yield named_by_file(invalid(shown, "its name is not UTF-8. Rename the file."), shown)
        return
    try:
        if kind.endswith(_LINES):
            yield from _line_requests(path, name)
        elif kind.endswith(_JSON):
            with _open_regular(path) as file:
                raw = file.read(LARGEST_DOCUMENT_BYTES + 1)
            is_large = len(raw) > LARGEST_DOCUMENT_BYTES
            request = ParsingRequest("json", {"name": name}, raw)
            yield too_large(name, LARGEST_DOCUMENT_BYTES) if is_large else request
        elif kind.endswith(PAGES):
            with _open_regular(path) as file:
                raw = file.read(LARGEST_DOCUMENT_BYTES + 1)
            is_markdown = kind.endswith(_MARKDOWN)
            yield ParsingRequest("page", {"name": name, "is_markdown": is_markdown}, raw)
        elif (converted := converted_kinds().get(PurePosixPath(kind).suffix)) is not None:
            with _open_regular(path) as file:
                raw = file.read(converted.most_bytes + 1)
            is_whole = len(raw) <= converted.most_bytes
            scans = list(ocr) if converted.has_scans else []
            header, wall_s = {"name": name, "ocr": scans}, _OCR_WALL_S if scans else None
            request = ParsingRequest("file", header, raw, file=path, wall_s=wall_s)
            yield request if is_whole else too_large(name, converted.most_bytes)
        else:
            yield invalid(name, f"not one of {', '.join(kinds_read())}")
    except OSError as error:
        yield invalid(name, f"cannot be read: {error.strerror}")


def _shown_name(name: str) -> str:
    """Return the name of a file as text: bytes of it that are not UTF-8 as ``\\xff``."""
    return os.fsencode(name).decode("utf-8", errors="backslashreplace")


def _line_requests(path: Path, name: str) -> _Entries:
    """Yield a request for each block of JSON lines, and failures for lines over the limit."""
    sample, first, block = "", 1, b""
    for number, line in enumerate(chain(_lines(path, name), [None]), start=1):
        if block.strip() and not (isinstance(line, bytes) and len(block) + len(line) <= _BLOCK_BYTES):
            sample = sample or block[:_BLOCK_BYTES].decode(errors="replace")
            yield ParsingRequest("lines", {"name": name, "first": first, "sample": sample}, block)
            first, block = number, b""
        if isinstance(line, bytes):
            block += line
        elif line is not None:
            yield line
            first, block = number + 1, b""


def _lines(path: Path, name: str) -> Iterator[bytes | SourceFailure]:
    """Yield each line of a file, or a failure in its place if it is over the limit; last a failure if the
    rest cannot be read."""
    size = 0
    try:
        with _open_regular(path) as raw:
            file = cast(BinaryIO, gzip.GzipFile(fileobj=raw)) if name.lower().endswith(".gz") else raw
            for number in count(1):
                line = file.readline(LONGEST_LINE_BYTES + 1)
                size += len(line)
                if not line:
                    return
                if size > LARGEST_FILE_BYTES:
                    yield too_large(f"{name}:{number}", LARGEST_FILE_BYTES)
                    return
                if len(line) <= LONGEST_LINE_BYTES:
                    yield line
                    continue
                while line and not line.endswith(b"\n"):
                    line = file.readline(LONGEST_LINE_BYTES)
                yield too_large(f"{name}:{number}", LONGEST_LINE_BYTES)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        yield invalid(name, f"not a whole gzip file: {error}")
    except OSError as error:
        yield invalid(name, f"cannot be read: {error.strerror}")


def _open_regular(path: Path) -> BinaryIO:
    """Open a regular file without blocking. Raises OSError for a pipe, a socket or a device."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")


def _parse(entries: _Entries, parsing: Parsing | None, *, with_text: bool = False) -> Iterator[SourceItem]:
    """Yield the answers to the requests, with the failures in their places. The lines of a block that stopped
    the parsing process are read again, each alone, after all others."""
    with nullcontext(parsing) if parsing is not None else ParsingProcess() as process:
        alone: list[ParsingRequest] = []
        yield from _answers(entries, process, alone, with_text=with_text)
        if alone:
            yield from _answers(iter(alone), process, [], with_text=with_text)


def _answers(
    entries: _Entries, parsing: Parsing, alone: list[ParsingRequest], *, with_text: bool
) -> Iterator[SourceItem]:
    """Yield as ``_parse``. Add each line of a block that stopped the parsing process to ``alone``."""
    pending: deque[ParsingRequest | SourceFailure] = deque()

    def requests() -> Iterator[ParsingRequest]:
        for entry in entries:
            pending.append(entry)
            if isinstance(entry, ParsingRequest):
                yield replace(entry, header={**entry.header, "with_text": with_text})

    for answer in parsing.run(requests()):
        while isinstance(entry := pending.popleft(), SourceFailure):
            yield entry
        items = _items_of_request(entry, read_items(answer))
        if not isinstance(items, ParsingStoppedError):
            yield from map(partial(_with_original, entry), items)
        elif lines := _single_lines(entry):
            alone += lines
        else:
            yield _stopped(entry, items)
    yield from (entry for entry in pending if isinstance(entry, SourceFailure))


def _items_of_request(
    request: ParsingRequest, items: list[SourceItem] | ParsingStoppedError
) -> list[SourceItem] | ParsingStoppedError:
    """Return the items if they are of the file that was asked about and name no file of this machine; else an
    error. The parsing process is not trusted: labels are chosen by the path in ``origin``, and originals are
    read from ``file``."""
    if isinstance(items, ParsingStoppedError):
        return items
    are_of_file = all(  # or of lines of it
        request.header["name"] in (item.origin, item.origin.rpartition(":")[0]) for item in items
    )
    name_file = any(isinstance(item, SourceDocument) and item.file is not None for item in items)
    return items if items and are_of_file and not name_file else ParsingStoppedError(MALFORMED)


def _single_lines(request: ParsingRequest) -> list[ParsingRequest]:
    """Return a request for each line of a block of several; [] for another request."""
    first = request.header.get("first")
    numbered = enumerate(request.body.split(b"\n"), start=first) if isinstance(first, int) else ()
    lines = [
        replace(request, header={**request.header, "first": number}, body=line)
        for number, line in numbered
        if line.strip()
    ]
    return lines if len(lines) > 1 else []


def _with_original(request: ParsingRequest, item: SourceItem) -> SourceItem:
    """Return a document with the facts of the file that it was converted from."""
    if request.file is None or not isinstance(item, SourceDocument):
        return item
    name = PurePosixPath(str(request.header["name"])).name[-_LONGEST_FILE_NAME:]
    digest = hashlib.sha256(request.body).hexdigest()
    original = OriginalFile(name=name, sha256=digest, size_bytes=len(request.body))
    return replace(item, document=item.document.model_copy(update={"original": original}), file=request.file)


def read_original(path: Path, original: OriginalFile) -> bytes | None:
    """Return the bytes of an original; None when the file has changed since the document was read from it."""
    try:
        with _open_regular(path) as file:
            content = file.read(original.size_bytes + 1)
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == original.sha256 else None


def _stopped(request: ParsingRequest, error: ParsingStoppedError) -> SourceFailure:
    """Return the failure of a file or line that stopped the parsing process. Its labels are unknown."""
    name = str(request.header["name"])
    if request.operation not in ("lines", "json"):
        return named_by_file(SourceFailure(name, error.code, error.message), name)
    origin = f"{name}:{request.header['first']}" if request.operation == "lines" else name
    return named_by_line(SourceFailure(origin, error.code, error.message), request.body)


# Links

_ELSEWHERE = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,62}:|//")
"""Address of another source or site: "https://…", "mailto:…", "//host/path"."""
_INDEXES = ("index", "README", "_index")
"""Files that the address of a folder opens: on web servers, on GitHub, in Hugo."""


def linked_ids(address: str, *, document_id: str, origin: str) -> Iterator[str]:
    """Yield the ids that a link of a document, which came from the file ``origin``, may mean, the likeliest
    first: the caller takes the first that exists. The ids are of the document's source, whose prefix they get
    from ``document_id``. An address elsewhere, or above the source's root, has none.

    The link "../fees/list.html?year=2026#top" of the file "hr/leave.md", document "wiki:hr-leave", may mean
    "wiki:fees-list", "wiki:fees-list-index", "wiki:fees-list-README" and so on.

    A link is relative to the file's folder, or to its page, on sites that show "hr/leave.md" as "hr/leave/".
    A link from the root, "/fees/list", is below the source's root or below a folder around the file: one of
    them is the root of its site.
    """
    path = unquote(re.split("[?#]", address)[0])
    if not path or _ELSEWHERE.match(address):
        return
    page = _without_suffixes(origin)
    # A site's files may have a suffix before ".md", which ids keep: ".html.md" of "leave.html.md.erb".
    inner_suffix = posixpath.splitext(origin)[0].removeprefix(page)
    for base in _folders_around(origin) if path.startswith("/") else (posixpath.dirname(origin), page):
        target = posixpath.normpath(posixpath.join(base, path.lstrip("/")))
        if target.partition("/")[0] == "..":
            continue
        names = _files_opened(_without_suffixes(target))
        for name, suffix in product(names, dict.fromkeys((inner_suffix, ""))):
            yield id_prefix_of(document_id) + page_id(f"{name}{suffix}.md")


def _files_opened(page: str) -> list[str]:
    """Return the files, without suffixes, that the address of a page or folder may open; "." is the root."""
    indexes = [posixpath.join(page, index) for index in _INDEXES]
    return indexes if page == "." else [page, *indexes]


def _folders_around(origin: str) -> Iterator[str]:
    """Yield the folders around a file: "", "docs" and "docs/hr" of "docs/hr/leave.md"."""
    return (origin[: match.start()] for match in re.finditer(r"(?<!.)|/", origin))


def _without_suffixes(path: str) -> str:
    """Return the path of a page without its suffixes: "hr/leave" of "hr/leave.html.md.erb"."""
    while suffix := next((suffix for suffix in PAGES if path.lower().endswith(suffix)), ""):
        path = path[: -len(suffix)]
    return path
