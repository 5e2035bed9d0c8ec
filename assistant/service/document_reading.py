"""Reading stored documents: labels are enforced, and each read is recorded before anything is given out."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.answering.ports import AnswerRecords
from assistant.domain.answers import AccessEntry
from assistant.domain.clock import Clock
from assistant.domain.documents import Document, ParsedDocument
from assistant.domain.errors import NotFoundError
from assistant.ingesting.ports import DocumentStates, DocumentStore
from assistant.service.problems import NOT_FOUND
from assistant.service.wire import DocumentSection, DocumentText


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, and what a link says of the passage to show."""

    agent: str
    labels: frozenset[str]
    cited_content: str | None = None
    cited_span: tuple[int, int] | None = None


class ReadDocument:
    """Gives the documents of one tenant to readers."""

    def __init__(
        self, *, documents: DocumentStore, states: DocumentStates, records: AnswerRecords, clock: Clock
    ) -> None:
        self._documents = documents
        self._states = states
        self._records = records
        self._clock = clock

    async def text(self, document_id: str, *, reader: Reader) -> DocumentText:
        """Return the parsed text, of the cited content while it is kept, else of the one that answers now.

        Raises NotFoundError (unknown, withdrawn, never parsed, or not for this reader's labels),
        RecordsUnavailableError.
        """
        document = await self._allowed(document_id, reader=reader)
        content_hash, parsed = await self._parsed(document_id, cited=reader.cited_content)
        is_cited = reader.cited_content in (None, content_hash)
        await self._record(document_id, reader=reader)
        return _document_text(
            document,
            parsed,
            content_hash=content_hash,
            span=reader.cited_span if is_cited else None,
            is_cited_version=is_cited,
        )

    async def original(self, document_id: str, *, reader: Reader) -> str:
        """Return the newest content as it was brought. Raises as ``text`` does."""
        document = await self._allowed(document_id, reader=reader)
        await self._record(document_id, reader=reader)
        return document.content

    async def _allowed(self, document_id: str, *, reader: Reader) -> Document:
        document = await self._documents.get(document_id)
        if document is None or (document.labels and reader.labels.isdisjoint(document.labels)):
            raise NotFoundError(NOT_FOUND)
        return document

    async def _parsed(self, document_id: str, *, cited: str | None) -> tuple[str, ParsedDocument]:
        status = await self._states.get(document_id)
        live = status.live_content_hash if status is not None else None
        for content_hash in (cited, live):
            if content_hash is None:
                continue
            parsed = await self._documents.get_parsed(document_id, content_hash)
            if parsed is not None:
                return content_hash, parsed
        raise NotFoundError(NOT_FOUND)

    async def _record(self, document_id: str, *, reader: Reader) -> None:
        entry = AccessEntry(at=self._clock.now(), agent=reader.agent, kind="document", subject_id=document_id)
        await self._records.record_access(entry)


def _document_text(
    document: Document,
    parsed: ParsedDocument,
    *,
    content_hash: str,
    span: tuple[int, int] | None,
    is_cited_version: bool,
) -> DocumentText:
    return DocumentText(
        document_id=document.document_id,
        title=document.title,
        url=document.url,
        source=document.source,
        type=document.type,
        owner=document.owner,
        effective_date=document.effective_date,
        media_type=document.media_type,
        question=document.question,
        text=parsed.text,
        sections=tuple(
            DocumentSection(headings=section.headings, start=section.span.start, end=section.span.end)
            for section in parsed.sections
        ),
        content_hash=content_hash,
        span=span,
        is_cited_version=is_cited_version,
    )
