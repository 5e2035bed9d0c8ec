"""Documents of a made-up company for corpora: of three formats and two sources, with near-duplicates."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from assistant.documents.sources import KnowledgeSources
from assistant.domain.documents import Document, DocumentState, DocumentStatus
from assistant.tenant.tenant import SourceEntry, TenantConfig

TENANT = TenantConfig(
    schema_version=1,
    name="clinic",
    display_name="Clinic",
    labels=("hr",),
    sources=(
        SourceEntry(name="handbook", namespace="", access="everyone", licence="own texts"),
        SourceEntry(name="wiki", access="everyone"),
    ),
)
SOURCES = KnowledgeSources.of(TENANT)
_WORDS = [f"{first}{last}" for first in "bdfgklmnprst" for last in ("ala", "eno", "iri", "oru", "una", "ate")]
_AT = datetime(2026, 11, 20, tzinfo=UTC)


def documents(count: int) -> Iterator[Document]:
    """Yield as many documents. Of ten, one is a near-duplicate of the one before it, one its copy under
    another id, one has a label, one is too short for a row."""
    words = random.Random(7)  # noqa: S311 - the same texts each time
    text = ""
    for number in range(count):
        kind = number % 10
        if kind == 4:
            text = text.replace(text.split()[3], "changed", 1)
        elif kind == 8:
            text = "Too short"
        elif kind != 6:
            sentences = (" ".join(words.choices(_WORDS, k=12)) for _ in range(words.randrange(6, 14)))
            text = ". ".join(sentences).capitalize() + "."
        source = "wiki:" if number % 3 == 0 else ""
        yield _document(f"{source}d{number:06}", text, number % 3, labels=("hr",) if kind == 2 else ())


def _document(document_id: str, text: str, form: int, *, labels: tuple[str, ...]) -> Document:
    bodies = (
        (text, "text/plain"),
        (f"# About it\n\n{text}\n", "text/markdown"),
        (f"<html><body><h1>About it</h1><p>{text}</p></body></html>", "text/html"),
    )
    content, media_type = bodies[form]
    fields = {"document_id": document_id, "title": f"About {document_id}", "content": content}
    return Document.model_validate({**fields, "media_type": media_type, "labels": labels})


def statuses(found: Iterable[Document], state: DocumentState = DocumentState.LIVE) -> list[DocumentStatus]:
    """Return the rows of documents whose content answers unless the state says otherwise."""
    return [
        DocumentStatus(
            document_id=document.document_id,
            title=document.title,
            state=state,
            content_hash=document.content_hash(),
            live_content_hash=document.content_hash(),
            received_at=_AT,
            updated_at=_AT,
            labels=document.labels,
            live_labels=document.labels,
        )
        for document in found
    ]
