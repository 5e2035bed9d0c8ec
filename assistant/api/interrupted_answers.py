"""What is kept of an answer whose owner died before it wrote the record."""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog

from assistant.answering.events import SentenceEnded, Sources, Token
from assistant.answering.ports import AnswerLog, AnswerRecords, LogReading
from assistant.api.event_encoding import decode_event
from assistant.domain.answers import AnswerRecord, Outcome, PassageUse, Sentence, Source
from assistant.domain.clock import Clock
from assistant.domain.errors import AnswerInterruptedError, AssistantError, NotResumableError

_TIMEOUT_S = 3.0
_log = structlog.get_logger(__name__)


def record_of_interrupted(reading: LogReading, *, now: datetime) -> AnswerRecord:
    """Return the record that the opening holds, with the sources, the text and the sentences that were
    logged: documents' texts stay excerpts."""
    frames = [frame for batch in reading.batches for frame in batch.frames]
    excerpts = {excerpt.mark: excerpt for batch in reading.batches for excerpt in batch.excerpts}
    events = [event for frame in frames if (event := decode_event(frame)) is not None]
    sentences = [event for event in events if isinstance(event, SentenceEnded)]
    sources = [source for event in events if isinstance(event, Sources) for source in event.sources]
    return AnswerRecord.model_validate_json(reading.opening.context).model_copy(
        update={
            "finished_at": now,
            "text": "".join(event.text for event in events if isinstance(event, Token)),
            "sentences": tuple(Sentence(**sentence.model_dump()) for sentence in sentences),
            "passages": tuple(map(_use_of, sources)),
            "excerpts": tuple(excerpts.values()),
        }
    )


def _use_of(source: Source) -> PassageUse:
    """Return what the sources that were sent say of a passage; how it was found is not known any more."""
    return PassageUse(
        passage_id="",
        document_id=source.document_id,
        content_hash=source.content_hash,
        text_hash="",
        n=source.n,
        rank=source.n,
        fused_score=source.score,
        lexical_rank=None,
        lexical_score=None,
        vector_rank=None,
        cosine=None,
        in_prompt=False,
        title=source.title,
        span=source.span,
        url=source.url,
        source=source.source,
    )


async def settle_lapsed(
    answer_id: str, *, log: AnswerLog, records: AnswerRecords, clock: Clock
) -> AssistantError:
    """Return what readers are told of an answer whose owner is gone, once that is kept, within 3 s.

    Where the owner had recorded a whole answer, only its last events are lost: that stands, and its key stays
    its own. Else what the log knows is kept, and the key is freed. A store that fails is logged.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            record = await records.get_answer(answer_id)
            if record is not None and record.outcome is Outcome.DONE:
                return NotResumableError(
                    "The answer is whole, and its last events were lost with the task that wrote it. Read it:"
                    f" GET /v1/answers/{answer_id}."
                )
            reading = await log.read(answer_id)
            if reading is not None:
                await records.put_interrupted(record_of_interrupted(reading, now=clock.now()))
                await log.free_key(reading.opening)
    except (AssistantError, TimeoutError) as error:
        _log.warning("interrupted_answer_not_recorded", answer_id=answer_id, error=type(error).__name__)
    return AnswerInterruptedError(
        "The task that wrote this answer ended before the answer did: nothing follows. Ask again."
    )
