"""The parts of an answer's record, and the task that writes it while its store fails."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import datetime

import structlog

from assistant.answer.quote import KEPT_CANDIDATES
from assistant.answer.rank_documents import Evidence
from assistant.answer.read import PreparedAnswer
from assistant.domain.answers import AnswerRecord, ApprovedUse, CandidateDocument, PassageUse
from assistant.domain.errors import AssistantError, ConflictError
from assistant.stores.ports import AnswerRecords


def candidates_of(evidence: Evidence) -> tuple[CandidateDocument, ...]:
    """Return the best ranked documents with their features, rounded."""
    return tuple(
        CandidateDocument(
            document_id=candidate.document_id,
            score=round(candidate.score, 4),
            features={name: round(value, 4) for name, value in candidate.features.items()},
        )
        for candidate in evidence.ranked[:KEPT_CANDIDATES]
    )


def approved_uses(prepared: PreparedAnswer) -> tuple[ApprovedUse, ...]:
    """Return the approved answers that were quoted, each once."""
    served = (part.answer.use for part in prepared.quote.evidence if part.answer is not None)
    return tuple({use.item_id: use for use in served if use is not None}.values())


def begun_record(prepared: PreparedAnswer) -> AnswerRecord:
    """Return what is known of an answer before its first text: who asked what, and its sources."""
    return prepared.record.model_copy(update={"passages": uses_of_passages(prepared)})


def uses_of_passages(prepared: PreparedAnswer) -> tuple[PassageUse, ...]:
    """Return what the record keeps of each source: its text only by hash."""
    read = {document.n for document in prepared.prompt.documents} if prepared.prompt else ()
    return tuple(
        PassageUse(
            passage_id=passage.passage_id,
            document_id=passage.document_id,
            content_hash=passage.content_hash,
            text_hash=hashlib.sha256(passage.text.encode()).hexdigest(),
            n=n,
            rank=ranked.rank,
            fused_score=ranked.fused_score,
            lexical_rank=ranked.lexical_rank,
            lexical_score=ranked.lexical_score,
            vector_rank=ranked.vector_rank,
            cosine=ranked.cosine,
            in_prompt=n in read,
            title=passage.title,
            span=(passage.span.start, passage.span.end),
            url=passage.url,
            source=passage.source,
        )
        for n, ranked in enumerate(prepared.numbers.passages, start=1)
        for passage in [ranked.passage]
    )


_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 15.0
_BEGIN_WAIT_S = 0.1
MAX_WAITING = 1_000
"""Records that wait for their store: some 20 MiB. Above this the newest record is dropped and logged."""
_log = structlog.get_logger(__name__)


class RecordWriter:
    """Writes each record in its own task, which outlives the task that requested it.

    While the store fails, writing is retried with growing pauses until the process ends.
    """

    def __init__(self, records: AnswerRecords, *, timeout_s: float) -> None:
        self._records = records
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[bool]] = set()
        self._retries: set[asyncio.Task[None]] = set()

    async def write(self, record: AnswerRecord) -> bool:
        """Write one record within the timeout; return whether it is written. An error of the store is logged,
        never raised: the agent has the answer, and the record follows. Cancelling this wait does not cancel
        the write."""
        task = asyncio.create_task(self._write(record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def begin(self, record: AnswerRecord, *, until: datetime) -> None:
        """Write what is known of an answer that begins. Return when it is written, or after 0.1 s: a slower
        store delays the agent by no more. An error is logged: the answer goes on without."""
        task = asyncio.create_task(self._begin(record, until))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait((task,), timeout=_BEGIN_WAIT_S)

    async def settle(self, *, within_s: float) -> int:
        """Wait for writes in progress; return how many records are still not written."""
        waiting: set[asyncio.Task[bool] | asyncio.Task[None]] = {*self._tasks, *self._retries}
        if not waiting:
            return 0
        _, pending = await asyncio.wait(waiting, timeout=within_s)
        for task in self._retries & pending:
            task.cancel()
        if pending:
            _log.error("answer_records_lost", records=len(pending))
        return len(pending)

    async def _begin(self, record: AnswerRecord, until: datetime) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._records.begin_answer(record, until=until)
        except Exception as error:  # noqa: BLE001 - an edge, as in ``_put``
            code = error.code if isinstance(error, AssistantError) else type(error).__name__
            _log.warning("beginning_not_recorded", answer_id=record.answer_id, code=code)
            return False
        return True

    async def _write(self, record: AnswerRecord) -> bool:
        if await self._put(record):
            return True
        if len(self._retries) >= MAX_WAITING:
            _log.error("answer_record_lost", answer_id=record.answer_id)
            return False
        task = asyncio.create_task(self._retry(record))
        self._retries.add(task)
        task.add_done_callback(self._retries.discard)
        return False

    async def _retry(self, record: AnswerRecord) -> None:
        pause_s = _FIRST_RETRY_S
        while True:
            await asyncio.sleep(pause_s)
            if await self._put(record):
                _log.info("answer_record_followed", answer_id=record.answer_id)
                return
            pause_s = min(2 * pause_s, _LONGEST_RETRY_S)

    async def _put(self, record: AnswerRecord) -> bool:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._records.put_answer(record)
        except ConflictError:
            return True  # an earlier attempt, whose response was lost, has written it
        except AssistantError as error:
            _log.warning("answer_record_waits", answer_id=record.answer_id, code=error.code)
            return False
        except Exception as error:  # noqa: BLE001 - an edge: an error of the store must not cost the agent the answer
            # The message may quote the record, so only the kind of error is logged.
            _log.warning("answer_record_waits", answer_id=record.answer_id, error=type(error).__name__)
            return False
        return True
