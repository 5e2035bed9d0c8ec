"""What a source gives: documents, and what could not be read, each named by file and line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from pydantic import ValidationError

from assistant.domain.documents import Document
from assistant.domain.errors import DocumentInvalidError, TooLargeError

LARGEST_DOCUMENT_BYTES = 5_000_000


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """One document as read."""

    document: Document
    origin: str
    """``<file>`` or ``<file>:<line>``"""


@dataclass(frozen=True, slots=True)
class SourceFailure:
    """Something that is not a document. It stops nothing else."""

    origin: str
    code: str
    reason: str


SourceItem = SourceDocument | SourceFailure


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
