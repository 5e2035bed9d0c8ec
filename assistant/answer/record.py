"""Keeps the records of answers: the beginning before the first text, all of it at the end.

The store may be slow or fail, without keeping the agent waiting.
"""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta

import structlog

from assistant.answer.events import Checked
from assistant.domain.answers import AnswerRecord, BegunAnswer, EndedAnswer, Outcome, StoredCheck, Usage
from assistant.domain.clock import Clock
from assistant.domain.errors import AnswerInterruptedError, AssistantError, ConflictError
from assistant.stores.records import StoredRecords

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

    def __init__(self, records: StoredRecords, *, timeout_s: float, clock: Clock) -> None:
        self._records, self._timeout_s, self._clock = records, timeout_s, clock
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

    async def begin(self, begun: BegunAnswer, *, within_s: float) -> None:
        """Write what is known of an answer that begins, as one that was interrupted: that stays true only if
        the process dies before it writes the end. The store keeps it as in progress for ``within_s``, until
        it must have ended.

        Return when it is written, or after 0.1 s: a slower store delays the agent by no more, and a death
        before it has written leaves nothing. An error is logged: the answer goes on without."""
        now = self._clock.now()
        interrupted = EndedAnswer(
            finished_at=begun.asked_at,
            outcome=Outcome.FAILED,
            finish_reason=None,
            error_code=AnswerInterruptedError.code,
            text="",
            sentences=(),
            usage=Usage(),
            timings_ms={},
        )
        record = AnswerRecord.of(begun, interrupted)
        task = asyncio.create_task(self._begin(record, now + timedelta(seconds=within_s)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.wait((task,), timeout=_BEGIN_WAIT_S)

    async def append_check(self, begun: BegunAnswer, checked: Checked) -> None:
        """Store what a model said of an answer's sentences, without the words that it copied. An error of the
        store is logged, never raised: the agent gets the verdicts."""
        stored = StoredCheck(
            answer_id=begun.answer_id,
            agent=begun.agent,
            at=self._clock.now(),
            model_id=checked.by,
            sentences=tuple(one.model_copy(update={"words": ""}) for one in checked.sentences),
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._records.append_check(stored)
        except (AssistantError, TimeoutError) as error:
            _log.warning("check_not_recorded", answer_id=begun.answer_id, error=type(error).__name__)

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
