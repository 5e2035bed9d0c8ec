"""Writing the records of answers so that neither a leaving reader nor a failing store does harm."""

from __future__ import annotations

import asyncio

import structlog

from assistant.answering.ports import AnswerRecords
from assistant.domain.answers import AnswerRecord
from assistant.domain.errors import AssistantError, ConflictError

_FIRST_RETRY_S = 0.5
_LONGEST_RETRY_S = 15.0
MAX_WAITING = 1_000
"""Records that wait for their store: some 20 MiB. Over it the newest is given up, and the log says so."""
_log = structlog.get_logger(__name__)


class RecordWriting:
    """Writes each record in a task of its own, which outlives the task that asked for it.

    While the store fails, a record is tried again with growing pauses, until the process ends.
    """

    def __init__(self, records: AnswerRecords, *, timeout_s: float) -> None:
        self._records = records
        self._timeout_s = timeout_s
        self._tasks: set[asyncio.Task[bool]] = set()
        self._retries: set[asyncio.Task[None]] = set()

    async def write(self, record: AnswerRecord) -> bool:
        """Write one record, at most for the time-out, and say whether it is written. A store that fails is
        logged, never raised: the agent has the answer, and the record follows. Cancelling this wait does not
        cancel the writing."""
        task = asyncio.create_task(self._write(record))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def settle(self, *, within_s: float) -> int:
        """Wait for the writing in progress; return how many records are still not written."""
        waiting: set[asyncio.Task[bool] | asyncio.Task[None]] = {*self._tasks, *self._retries}
        if not waiting:
            return 0
        _, pending = await asyncio.wait(waiting, timeout=within_s)
        for task in self._retries & pending:
            task.cancel()
        if pending:
            _log.error("answer_records_lost", records=len(pending))
        return len(pending)

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
            return True  # an attempt whose answer was lost had written it
        except AssistantError as error:
            _log.warning("answer_record_waits", answer_id=record.answer_id, code=error.code)
            return False
        except Exception as error:  # noqa: BLE001 - an edge: no defect of a store may cost the agent the answer
            # The message may quote the record, so only the kind of error is logged.
            _log.warning("answer_record_waits", answer_id=record.answer_id, error=type(error).__name__)
            return False
        return True
