"""Reading answers back, and what agents append to them: verdicts and what was sent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from assistant.answering.excerpts import fill_record, gone_from, read_excerpts, shown_title, shown_url
from assistant.answering.services import TenantServices
from assistant.domain.answers import (
    AccessEntry,
    AnswerRecord,
    Sent,
    Source,
    StoredSent,
    StoredVerdict,
    Verdict,
)
from assistant.domain.documents import Span
from assistant.domain.errors import InvalidRequestError, NotFoundError
from assistant.domain.identity import Identity, Role

_CONVERSATION_LIMIT = 50


@dataclass(frozen=True, slots=True)
class AnswerReading:
    """One answer as its reader may see it."""

    record: AnswerRecord
    """With the documents' texts as they may be read now; a notice stands where they may not."""
    sources: tuple[Source, ...]
    """With fresh links; no snippets, for the record keeps a passage's text only by hash."""
    verdicts: tuple[StoredVerdict, ...]
    sent: tuple[StoredSent, ...]


class ReadAnswers:
    """Gives agents their own answers, auditors any; each read of an auditor is recorded first."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def one(self, answer_id: str, *, identity: Identity) -> AnswerReading:
        """Raises NotFoundError (unknown, or another's: one path for both), RecordsUnavailableError."""
        record = await self._services.records.get_answer(answer_id)
        if record is None or not _may_read(record, identity):
            raise _not_found()
        if record.agent != identity.agent:
            await self._note("answer", answer_id, [record], identity=identity)
        return await self._reading(record, identity=identity)

    async def conversation(self, conversation_id: str, *, identity: Identity) -> list[AnswerReading]:
        """Return a conversation's newest 50 answers, oldest first. Raises as ``one`` does."""
        records = await self._services.records.list_conversation(conversation_id, limit=_CONVERSATION_LIMIT)
        if not records or not all(_may_read(record, identity) for record in records):
            raise _not_found()
        if any(record.agent != identity.agent for record in records):
            await self._note("conversation", conversation_id, records, identity=identity)
        return [await self._reading(record, identity=identity) for record in records]

    async def _note(
        self,
        kind: Literal["answer", "conversation"],
        subject_id: str,
        records: Sequence[AnswerRecord],
        *,
        identity: Identity,
    ) -> None:
        entry = entry_of_read(kind, subject_id, records, reader=identity.agent, at=self._services.clock.now())
        await self._services.records.record_access(entry)

    async def _reading(self, record: AnswerRecord, *, identity: Identity) -> AnswerReading:
        # An auditor sees what the agent saw: by the labels that the agent had, and their own.
        is_own = record.agent == identity.agent
        labels = identity.labels if is_own else identity.labels.union(record.labels)
        shown = await read_excerpts(record.excerpts, self._services.texts, labels=labels)
        return AnswerReading(
            record=fill_record(record, shown),
            sources=self._sources(record, gone=gone_from(record, shown), identity=identity),
            verdicts=tuple(await self._services.records.list_verdicts(record.answer_id)),
            sent=tuple(await self._services.records.list_sent(record.answer_id)),
        )

    def _sources(
        self, record: AnswerRecord, *, gone: frozenset[str], identity: Identity
    ) -> tuple[Source, ...]:
        return tuple(
            Source(
                n=use.n,
                document_id=use.document_id,
                title=shown_title(use.title),
                url=shown_url(use.url),
                source=use.source,
                score=use.fused_score,
                snippet="",
                withdrawn=use.document_id in gone,
                span=use.span,
                content_hash=use.content_hash,
                document_url=self._services.links.link(
                    use.document_id, span=Span(*use.span), identity=identity, content_hash=use.content_hash
                ),
            )
            for use in record.passages
        )


class AppendToAnswer:
    """Lets the agent who asked mark the answer and keep what was sent. Nobody else may, auditors included."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def verdict(self, answer_id: str, verdict: Verdict, *, identity: Identity) -> StoredVerdict:
        """Raises NotFoundError, ConflictError (same id, other content), InvalidRequestError (a wrong
        citation that the answer does not have), RecordsUnavailableError."""
        record = await self._own(answer_id, identity=identity)
        sources = {use.n for use in record.passages}
        if not sources.issuperset(verdict.wrong_citations):
            raise InvalidRequestError(
                f"wrong_citations names a source that the answer does not have; it has {len(sources)}."
            )
        return await self._services.records.append_verdict(answer_id, verdict, agent=identity.agent)

    async def sent(self, answer_id: str, sent: Sent, *, identity: Identity) -> StoredSent:
        """Raises NotFoundError, ConflictError, RecordsUnavailableError."""
        await self._own(answer_id, identity=identity)
        return await self._services.records.append_sent(answer_id, sent, agent=identity.agent)

    async def _own(self, answer_id: str, *, identity: Identity) -> AnswerRecord:
        record = await self._services.records.get_answer(answer_id)
        if record is None or record.agent != identity.agent:
            raise _not_found()
        return record


def entry_of_read(
    kind: Literal["answer", "conversation"],
    subject_id: str,
    records: Sequence[AnswerRecord],
    *,
    reader: str,
    at: datetime,
) -> AccessEntry:
    """Return what is recorded when another's answers are read, with the documents that are seen by it."""
    sights = [record.sight() for record in records]
    return AccessEntry(
        at=at,
        agent=reader,
        kind=kind,
        subject_id=subject_id,
        documents=tuple(dict.fromkeys(name for sight in sights for name in sight.documents)),
        quoted=tuple(dict.fromkeys(name for sight in sights for name in sight.quoted)),
    )


def _may_read(record: AnswerRecord, identity: Identity) -> bool:
    return record.agent == identity.agent or Role.AUDITOR in identity.roles


def _not_found() -> NotFoundError:
    return NotFoundError("There is no such thing, or it is not yours.")
