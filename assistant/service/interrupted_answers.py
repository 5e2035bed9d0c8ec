"""What is kept of an answer whose owner died before it wrote the record."""

from __future__ import annotations

import asyncio
from datetime import datetime

import structlog

from assistant.answering.events import SentenceEnded, Token
from assistant.answering.ports import AnswerLog, AnswerRecords, LogReading
from assistant.domain.answers import AnswerRecord, Sentence
from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError
from assistant.service.event_encoding import decode_event

_TIMEOUT_S = 3.0
_log = structlog.get_logger(__name__)


def record_of_interrupted(reading: LogReading, *, now: datetime) -> AnswerRecord:
    """Return the record that the opening holds, with the text and sentences that were logged."""
    frames = [frame for batch in reading.batches for frame in batch.frames]
    events = [event for frame in frames if (event := decode_event(frame)) is not None]
    sentences = [event for event in events if isinstance(event, SentenceEnded)]
    return AnswerRecord.model_validate_json(reading.opening.context).model_copy(
        update={
            "finished_at": now,
            "text": "".join(event.text for event in events if isinstance(event, Token)),
            "sentences": tuple(Sentence(**sentence.model_dump()) for sentence in sentences),
        }
    )


async def keep_interrupted(answer_id: str, *, log: AnswerLog, records: AnswerRecords, clock: Clock) -> None:
    """Keep what the log knows, within 3 s; a store that fails is logged. The owner's own record, should it
    still come, stands above it."""
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reading = await log.read(answer_id)
            if reading is not None:
                await records.put_interrupted(record_of_interrupted(reading, now=clock.now()))
    except (AssistantError, TimeoutError) as error:
        _log.warning("interrupted_answer_not_recorded", answer_id=answer_id, error=type(error).__name__)
