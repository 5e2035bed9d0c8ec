"""Reading stored documents: labels are enforced, and each read is recorded before anything is given out."""

from __future__ import annotations

from dataclasses import dataclass

from assistant.answering.ports import AnswerRecords
from assistant.api.problems import NOT_FOUND
from assistant.api.wire import DocumentSection, DocumentText
from assistant.domain.answers import AccessEntry
from assistant.domain.clock import Clock
from assistant.domain.documents import Document, ParsedDocument
from assistant.domain.errors import NotFoundError
from assistant.knowledge.ports import DocumentStates, DocumentStore
from assistant.knowledge.reading import ReadableDocument, ReadableDocuments


@dataclass(frozen=True, slots=True)
class Reader:
    """Who reads, and which passage is to be shown."""

    agent: str
    labels: frozenset[str]
    cited_content: str | None = None
    cited_span: tuple[int, int] | None = None


class ReadDocument:
    """Gives the documents of one tenant to readers."""

    def __init__(
        self, *, documents: DocumentStore, states: DocumentStates, records: AnswerRecords, clock: Clock
    ) -> None:
        self._readable = ReadableDocuments(documents, states=states)
        self._records = records
        self._clock = clock

    async def text(self, document_id: str, *, reader: Reader) -> DocumentText:
        """Return the parsed text, of the cited content while it is kept, else of the one that answers now.

        Raises NotFoundError (unknown, withdrawn, withheld, never parsed, or not for this reader's labels),
        RecordsUnavailableError.
        """
        found = await self._allowed(document_id, reader=reader)
        content_hash, parsed = await self._parsed(found, reader=reader)
        is_cited = reader.cited_content in (None, content_hash)
        await self._record(document_id, reader=reader)
        return _document_text(
            found.document,
            parsed,
            content_hash=content_hash,
            span=_within(reader.cited_span, parsed) if is_cited else None,
            is_cited_version=is_cited,
        )

    async def original(self, document_id: str, *, reader: Reader) -> str:
        """Return the newest content as it was brought. Raises as ``text`` does."""
        found = await self._allowed(document_id, reader=reader)
        await self._record(document_id, reader=reader)
        return found.document.content

    async def _allowed(self, document_id: str, *, reader: Reader) -> ReadableDocument:
        found = await self._readable.document(document_id, labels=reader.labels)
        if found is None:
            raise NotFoundError(NOT_FOUND)
        return found

    async def _parsed(self, found: ReadableDocument, *, reader: Reader) -> tuple[str, ParsedDocument]:
        for content_hash in (reader.cited_content, found.status.live_content_hash):
            if content_hash is not None:
                parsed = await self._readable.text_of(found, content_hash, labels=reader.labels)
                if parsed is not None:
                    return content_hash, parsed
        raise NotFoundError(NOT_FOUND)

    async def _record(self, document_id: str, *, reader: Reader) -> None:
        entry = AccessEntry(
            at=self._clock.now(),
            agent=reader.agent,
            kind="document",
            subject_id=document_id,
            documents=(document_id,),
        )
        await self._records.record_access(entry)


def _within(span: tuple[int, int] | None, parsed: ParsedDocument) -> tuple[int, int] | None:
    """Return the span if the text has it."""
    return span if span is not None and span[0] <= span[1] <= len(parsed.text) else None


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
