"""What a source gives: documents, and what could not be read, each named by file and line."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import orjson
from pydantic import TypeAdapter, ValidationError

from assistant.domain.documents import Document
from assistant.domain.errors import DocumentInvalidError, TooLargeError

LARGEST_DOCUMENT_BYTES = 5_000_000
_STRING = rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"'
_JSON_TOKEN = re.compile(
    rb"(?P<key>" + _STRING + rb")\s*+:|" + _STRING + rb"|(?P<opens>[{\[])|(?P<closes>[}\]])", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document as read."""

    document: Document
    origin: str
    """``<file>`` or ``<file>:<line>``; empty where no file brought it."""


@dataclass(frozen=True, slots=True)
class SourceWithdrawal:
    """A document that says of itself that it is withdrawn."""

    own_id: str
    origin: str


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """Something that is not a document. It stops nothing else."""

    origin: str
    code: str
    reason: str
    own_id: str | None = None
    """What its source calls the document that it was meant to be: that one is withheld."""
    is_named_by_file: bool = False
    """Whether ``own_id`` follows from the file's name, for the file does not say it readably."""


SourceItem = SourceDocument | SourceWithdrawal | SourceFailure


@dataclass(frozen=True, slots=True)
class _Written:
    """An item on its way from the parsing process: one of the three."""

    origin: str = ""
    fields: Mapping[str, object] | None = None
    """Those that the document says: what it does not say stays unsaid."""
    withdrawn_id: str | None = None
    failure: SourceFailure | None = None


_WRITTEN = TypeAdapter(_Written)


def write_item(item: SourceItem) -> bytes:
    match item:
        case SourceDocument():
            fields = item.document.model_dump(mode="json", exclude_unset=True)
            return orjson.dumps(_Written(item.origin, fields=fields))
        case SourceWithdrawal():
            return orjson.dumps(_Written(item.origin, withdrawn_id=item.own_id))
        case SourceFailure():
            return orjson.dumps(_Written(failure=item))


def read_item(body: bytes) -> SourceItem:
    """Read what ``write_item`` wrote."""
    written = _WRITTEN.validate_json(body)
    if written.failure is not None:
        return written.failure
    if written.withdrawn_id is not None:
        return SourceWithdrawal(written.withdrawn_id, written.origin)
    return as_item(written.origin, written.fields or {})


def file_of(origin: str) -> str | None:
    """Return the file of an origin; None where there is none."""
    file, colon, line = origin.rpartition(":")
    return (file if colon and line.isdecimal() else origin) or None


def as_item(origin: str, fields: Mapping[str, object]) -> SourceItem:
    """Return a document of these fields, or why they make none."""
    try:
        return SourceDocument(Document.model_validate(dict(fields)), origin)
    except ValidationError as error:
        reasons = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors()]
        return SourceFailure(origin, DocumentInvalidError.code, "; ".join(reasons))


def invalid(origin: str, reason: str) -> SourceFailure:
    return SourceFailure(origin, DocumentInvalidError.code, reason)


def too_large(origin: str, limit_bytes: int) -> SourceFailure:
    return SourceFailure(origin, TooLargeError.code, f"larger than {limit_bytes:,} bytes")


def refuse_double_keys(json_text: bytes) -> None:
    """Raise DocumentInvalidError where the object that the text is has a key twice. The text is JSON already.

    Readers of JSON keep the last of them: the first ``labels`` would not count.
    """
    depth = 0
    seen: set[str] = set()
    for token in _JSON_TOKEN.finditer(json_text):
        if token["opens"]:
            depth += 1
        elif token["closes"]:
            depth -= 1
        elif depth == 1 and token["key"]:
            key = str(orjson.loads(token["key"]))
            if key in seen:
                raise DocumentInvalidError(f'it says "{key:.60}" twice')
            seen.add(key)


def text_field(value: object) -> str | None:
    """Return a trimmed text; numbers as text; anything else, and the empty text, as absent."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(value).strip() or None


def questions_field(value: object) -> tuple[str, ...]:
    """Return questions from a text or a list of texts, each once, in order.

    Raises DocumentInvalidError for anything else and for an empty item.
    """
    if value is None or value == "":
        return ()
    if not isinstance(value, str | list | tuple):
        raise DocumentInvalidError(
            f"questions: {value!r:.60} is neither a text nor a list of texts. Write a list of questions."
        )
    items: Sequence[object] = (value,) if isinstance(value, str) else cast("Sequence[object]", value)
    for number, item in enumerate(items, start=1):
        if not isinstance(item, str) or not item.strip():
            raise DocumentInvalidError(
                f"questions: item {number} is {item!r:.60}, not a text. Write a question or remove the item."
            )
    return tuple(dict.fromkeys(" ".join(str(item).split()) for item in items))


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file for reading; a pipe, a socket or a device is refused, and never waited for.

    Raises OSError.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "not a regular file")
    return os.fdopen(descriptor, "rb")
