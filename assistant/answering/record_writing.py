"""Writing the records of answers so that neither a leaving reader nor a failing store does harm."""

from __future__ import annotations

import asyncio

import structlog

from assistant.answering.ports import AnswerRecords
from assistant.domain.answers import AnswerRecord
from assistant.domain.errors import AssistantError

_log = structlog.get_logger(__name__)


class RecordWriting:
    """Writes each record in a task of its own, which outlives the task that asked for it."""

    def __init__(self, records: AnswerRecords, *, timeout_s: float) -> None:
        self._records = records
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[None]] = set()

    async def write(self, record: AnswerRecord) -> None:
        """Write one record, at most for the time-out. A store that fails is logged, never raised: the
        agent has the answer. Cancelling this wait does not cancel the writing."""
        task = asyncio.create_task(self._put(record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def settle(self, *, within_s: float) -> int:
        """Wait for the writing in progress; return how many records are still not written."""
        if not self._tasks:
            return 0
        _, pending = await asyncio.wait(self._tasks, timeout=within_s)
        return len(pending)

    async def _put(self, record: AnswerRecord) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._records.put_answer(record)
        except AssistantError as error:
            _log.warning("answer_record_lost", answer_id=record.answer_id, code=error.code)
        except Exception as error:  # noqa: BLE001 - an edge: no defect of a store may cost the agent the answer
            # The message may quote the record, so only the kind of error is logged.
            _log.warning("answer_record_lost", answer_id=record.answer_id, error=type(error).__name__)
