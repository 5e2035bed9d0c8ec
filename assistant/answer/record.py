"""Keeps the record of an answer: its beginning before the first text, all of it at the end.

``KeepRecord`` makes the records; ``RecordWriter`` writes them to the store, which may be slow or fail,
without keeping the agent waiting.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta

import structlog

from assistant.answer.check import Sentences
from assistant.answer.choose import Evidence
from assistant.answer.end import Ending
from assistant.answer.prepared import PreparedAnswer
from assistant.answer.quote import KEPT_CANDIDATES, Quote
from assistant.answer.scores import shipped_weights
from assistant.answer.services import TenantServices
from assistant.answer.take import RECORDS_TIMEOUT_S
from assistant.answer.write import ModelText
from assistant.domain.answers import (
    AnswerEnding,
    AnswerRecord,
    ApprovedUse,
    CandidateDocument,
    Mode,
    PassageUse,
    SourceAsked,
    Usage,
)
from assistant.domain.errors import AssistantError, ConflictError
from assistant.stores.records import StoredRecords

_WORST_FIRST = ("failed", "late", "answered", "empty", "not_asked")
"""States of a source of documents: of several questions the first of these counts."""


class KeepRecord:
    """Keeps the records of one tenant's answers.

    Example::

        record = await keep.begin(prepared, quote)  # before the first text
        record, is_written = await keep.run(record, shown, ending, None, prepared)  # after the last
        record.finish_reason, record.mode  # FinishReason.STOP, Mode.QUOTED
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self.writer = RecordWriter(services.records, timeout_s=RECORDS_TIMEOUT_S)
        kinds = ("ranker", "reranker", "reranker_vectors", "units", "unit_vectors")
        self._shipped = {kind: shipped_weights(kind).sha256 for kind in kinds}

    def begun(self, prepared: PreparedAnswer, quote: Quote) -> AnswerRecord:
        """Return what is known of an answer before its first text: who asked what, and its sources."""
        question, prompt, evidence = prepared.question, prepared.prompt, prepared.quote.evidence
        generation, steps = self._services.tenant.generation, prepared.run.scope.steps
        elements = tuple(element.slot.type.name for element in prepared.live.answering)
        most, searched = generation.max_tokens, [part.ranked.hits.searched for part in evidence]
        context = question.context
        return question.begun.model_copy(
            update={
                "customer": context.customer if context else None,
                "chat": next(iter(context.ids.get("chat", ())), None) if context else None,
                "retrieval_question": "\n".join(dict.fromkeys(searched)),
                "reading": prepared.queries.reading.model_copy(update={"elements": elements}),
                "red_flags": tuple(flag.name for flag in prepared.red_flags),
                "unchecked_language": prepared.queries.unchecked_language,
                "follows": question.history[-1].answer_id if question.history else None,
                "asked": self._asked(evidence),
                "live_matches": prepared.live.matches,
                "weights": self._weights(evidence),
                "index_version": evidence[0].ranked.hits.retrieved.index_version,
                "trace_id": steps.trace_id,
                "dropped_passages": prompt.dropped_documents if prompt else 0,
                "prompt_hash": prompt.prompt_hash if prompt else None,
                "parameters": {
                    "max_tokens": min(question.request.max_tokens or most, most),
                    "temperature": generation.temperature,
                    "history_turns": prompt.history_turns if prompt else 0,
                },
                "passages": _uses_of_passages(prepared, quote),
            }
        )

    async def begin(self, prepared: PreparedAnswer, quote: Quote) -> AnswerRecord:
        """Write ``begun`` and return it, so that an agent who read any text is on record, also if this
        process dies. A store slower than ``_BEGIN_WAIT_S`` does not hold the text up: then a death before it
        has written leaves nothing. The store keeps it as in progress until the answer must have ended."""
        record = self.begun(prepared, quote)
        longest_s = prepared.run.scope.deadline.remaining_s() + RECORDS_TIMEOUT_S
        until = self._services.clock.now() + timedelta(seconds=longest_s)
        await self.writer.begin(record, until=until)
        return record

    async def run(
        self,
        begun: AnswerRecord,
        shown: Sentences,
        ending: Ending,
        text: ModelText | None,
        prepared: PreparedAnswer,
    ) -> tuple[AnswerRecord, bool]:
        """End the answer's trace and write its record; return it, and whether it is written already.

        ``begun``: by ``begin`` or ``begun``. ``text``: the model's; None where none was asked.
        """
        steps, quote, details = prepared.run.scope.steps, prepared.quote, ending.details
        first, offered, usage = quote.evidence[0], quote.offered, text.usage if text is not None else Usage()
        steps.end(ending.outcome.value, error_code=ending.error_code)
        record = begun.model_copy(
            update={
                "finished_at": self._services.clock.now(),
                "outcome": ending.outcome,
                "finish_reason": ending.finish_reason,
                "error_code": ending.error_code,
                "sentences": shown.sentences,
                "removed_markers": shown.removed_markers,
                "gate": first.ranked.gate,
                "usage": usage,
                "timings_ms": dict(steps.timings_ms),
                "inference_id": text.inference_id if text else None,
                "variant": text.variant if text else None,
                "offered": ApprovedUse(item_id=offered.item_id, revision=offered.revision)
                if offered
                else None,
                "quoted": shown.quoted,
                "candidates": _candidates_of(first),
                "approved": _approved_uses(quote) if details.mode is Mode.QUOTED else (),
                "elements": prepared.run.hydration.uses(),
                "differing": _differing(quote) if details.mode is not None else (),
                **dict(details),
                **_kept_texts(shown, details, quote),  # after details, whose texts it replaces
            }
        )
        return record, await self.writer.write(record)

    def _weights(self, evidence: Sequence[Evidence]) -> dict[str, str]:
        """Return the SHA-256 of each weights file that shaped the answer, and of the router, by kind."""
        routing = evidence[0].ranked.routing
        router = routing.router if routing is not None else None
        return {**self._shipped, **({} if router is None else {"router": router})}

    def _asked(self, evidence: Sequence[Evidence]) -> tuple[SourceAsked, ...]:
        """Return each source and its part in the answer, in the order of the tenant file; nothing for a
        tenant with one source.

        Of several questions the mean share counts, and the worst state. A live source is "not_asked" here:
        the elements that need it ask it later, and ``Hydration.with_live_states`` adds its state.
        """
        routed = [
            (part.ranked.routing.shares, part.ranked.hits.states)
            for part in evidence
            if part.ranked.routing is not None
        ]
        asked: list[SourceAsked] = []
        for source in self._services.tenant.sources if routed else ():
            name = source.name
            share = round(sum(shares[name] for shares, _ in routed) / len(routed), 4)
            parts = [
                SourceAsked(name=name, kind=source.kind, weight=share, state=states.get(name, "not_asked"))
                for _, states in routed
            ]
            asked.append(min(parts, key=lambda part: _WORST_FIRST.index(part.state)))
        return tuple(asked)


def _candidates_of(evidence: Evidence) -> tuple[CandidateDocument, ...]:
    """Return the best ranked documents with their features, rounded."""
    return tuple(
        CandidateDocument(
            document_id=candidate.document_id,
            score=round(candidate.score, 4),
            features={name: round(value, 4) for name, value in candidate.features.items()},
        )
        for candidate in evidence.ranked.order[:KEPT_CANDIDATES]
    )


def _approved_uses(quote: Quote) -> tuple[ApprovedUse, ...]:
    """Return the approved answers that were quoted, each once."""
    served = (part.answer.use for part in quote.evidence if part.answer is not None)
    return tuple({use.item_id: use for use in served if use is not None}.values())


def _uses_of_passages(prepared: PreparedAnswer, quote: Quote) -> tuple[PassageUse, ...]:
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
        for n, ranked in enumerate(quote.passages, start=1)
        for passage in [ranked.passage]
    )


def _differing(quote: Quote) -> tuple[str, ...]:
    """Return the ids of the documents that give one thing different values, each once."""
    parts = (part for part in quote.evidence if part.differing)
    sections = (shown for part in parts for shown in (part.section, *part.differing) if shown is not None)
    return tuple(dict.fromkeys(section.document_id for section in sections))


def _kept_texts(shown: Sentences, details: AnswerEnding, quote: Quote) -> dict[str, object]:
    """Return the record's texts, with runs in place of what is shown of documents, and the excerpts of
    these."""
    excerpts = quote.excerpts
    text, also = excerpts.keep(shown.text), excerpts.keep_also(details.also)
    return {"text": text, "also": also, "excerpts": excerpts.used_in(text, *(part.text for part in also))}


_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 15.0
"""Pauses between attempts double from the first to the longest."""
_BEGIN_WAIT_S = 0.1
"""How long the first text waits for the beginning of its record."""
MAX_WAITING = 1_000
"""Records that wait for their store: some 20 MiB. Above this the newest record is dropped and logged."""
_log = structlog.get_logger(__name__)


class RecordWriter:
    """Writes each record in its own task, which outlives the task that requested it: nobody who leaves or
    cancels prevents the record. ``settle`` is called once before the process ends.

    While the store fails, writing is retried with growing pauses until the process ends.
    """

    def __init__(self, records: StoredRecords, *, timeout_s: float) -> None:
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
        """Wait for writes in progress and retries; then give up, log, and return how many records are not
        written."""
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
        """Return whether the record is written; begin to retry where it is not."""
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
        """Return whether one attempt wrote the record. Raises nothing."""
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
