"""Moves signals from the answers' store into the feedback store, in groups, by way of the outbox: the rows of
answers, and of what agents did with them, that are still to be moved.

    outbox rows → signals (event and words) → words filtered, then sealed → feedback store → desk → confirm

A group is confirmed last: until then its rows stay in the outbox, and a repeat makes the same events, the
same sealed texts and the same files. So a process may be killed at any point, and any store may be away.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from assistant.answer.excerpts import fill_record, gone_from, read_excerpts
from assistant.domain.answers import AnswerRecord, StoredAct, StoredSent, StoredVerdict
from assistant.domain.clock import Clock, back_off_s, set_within
from assistant.domain.documents import DOCUMENT_SUBJECT
from assistant.domain.errors import AssistantError
from assistant.options.desk.events import FeedbackEvent, FeedbackText, PatientDataFilter, SealedText
from assistant.options.desk.feedback_store import StoredFeedback, seal
from assistant.options.desk.signals import ShownAnswer, Signal, Signals
from assistant.stores.events import StoredErasureKeys
from assistant.stores.formats import bodies_of
from assistant.stores.ports import DocumentTexts
from assistant.stores.records import RECORDS_TABLE, StoredRecords, listed
from assistant.stores.store import Store
from assistant.stores.table import Key, Table, equal, key_of
from assistant.tenant.deployed_names import OUTBOX as PENDING

GROUP_ROWS = 500
"""Rows that are moved and confirmed together; ``StoredFeedback.append`` takes that many events."""
_ROWS_AT_ONCE = 16
"""Rows of a group whose records are read at the same time."""
_LONGEST_PAUSE_S = 30.0
_TRIES = 5
"""How often a row is tried that fails by itself, not for a store that is away. It is then dropped."""
_MODEL_OF = {"verdict": StoredVerdict, "sent": StoredSent, "act": StoredAct}
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class OutboxRow:
    """A row of the answers' store that has not been moved yet."""

    key: Key
    answer_id: str
    stored: StoredVerdict | StoredSent | StoredAct | None
    """What the agent did; None for an answer, whose record is read by its id."""

    @property
    def kind(self) -> str:
        """``answer``, ``verdict``, ``sent`` or ``act``."""
        return _kind_of(self.key)


class StoredOutbox:
    """The rows of the answers' store that the mover has still to take. A row enters it in the same write that
    stores it. All methods raise RecordsUnavailableError.

    The index may lag by a moment: a row that was just confirmed may be pending once more.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def pending(self, *, limit: int = 500) -> list[OutboxRow]:
        """Return rows that were not confirmed, oldest first."""
        items = await self._table.query(listed(PENDING), limit=limit)
        acted = [item for item in items if _kind_of(key_of(item)) in _MODEL_OF]
        bodies = dict(zip(map(key_of, acted), await bodies_of(self._table, acted), strict=True))
        return [_row(key, bodies.get(key)) for key in map(key_of, items)]

    async def confirm(self, rows: Sequence[OutboxRow]) -> None:
        """Take rows out, after their events are in the feedback store. A second call changes nothing."""
        await asyncio.gather(*(self._confirm(row) for row in rows))

    async def _confirm(self, row: OutboxRow) -> None:
        """Take a row out of the index's list "outbox". An answer leaves the index; what an agent did stays
        in it, listed by its kind."""
        is_listed = equal(listed=PENDING)
        if row.stored is None:
            await self._table.change(row.key, remove=["listed", "listed_at"], when=is_listed)
        else:
            await self._table.change(row.key, put={"listed": row.kind}, when=is_listed)


def _kind_of(key: Key) -> str:
    """Return ``answer``, ``verdict``, ``sent`` or ``act``: the partition (``key[0]``) is ``KIND#ID``, with
    the answer's id for an answer."""
    return key[0].partition("#")[0]


def _row(key: Key, body: bytes | None) -> OutboxRow:
    """Return the row of a key. ``body``: the JSON of what the agent did; None for an answer."""
    if body is None:
        return OutboxRow(key, key[0].partition("#")[2], None)
    stored = _MODEL_OF[_kind_of(key)].model_validate_json(body)
    return OutboxRow(key, stored.answer_id, stored)


OUTBOX = Store(RECORDS_TABLE, lambda table, _: StoredOutbox(table))


@dataclass(frozen=True, slots=True)
class MoverStores:
    """What the mover reads and writes."""

    outbox: StoredOutbox
    records: StoredRecords
    texts: DocumentTexts
    keys: StoredErasureKeys
    feedback: StoredFeedback
    open_cases: Callable[[Sequence[FeedbackEvent]], Awaitable[None]]
    """``OpenCases.take``, called after the events are stored and before their rows are confirmed."""
    patients: PatientDataFilter | None = None
    """None: no words leave the records, labels alone do."""


@dataclass(frozen=True, slots=True)
class _FilteredSignal:
    """A signal whose words have no patients' data."""

    event: FeedbackEvent
    words: FeedbackText | None
    """None where no words leave the records."""
    subjects: frozenset[str]
    """With whose keys the words are sealed: ``document:ID`` of each document, ``patient:KEYED_HASH`` of each
    member number, else ``tenant:NAME``."""


@dataclass(frozen=True, slots=True)
class _Group:
    """What became of a group of rows."""

    rows: int
    """How many were moved."""
    left: frozenset[Key]
    """Rows that failed in this group or the groups before it: they wait for the next turn."""
    is_last: bool
    """Whether no more rows wait behind it, or as many as a group's have failed."""


class MoveFeedback:
    """Moves one tenant's signals. Of several movers at once each moves the same rows, which does no harm."""

    def __init__(self, stores: MoverStores, *, signals: Signals) -> None:
        self._stores = stores
        self._signals = signals
        self._failures: Counter[Key] = Counter()
        """How often this process failed to read a row that is still pending, by the row's key. A row that is
        in here is not confirmed with its group."""

    async def __call__(self) -> int:
        """Move the oldest rows, one group, and return how many were moved. Raises DependencyError; then
        nothing is lost, and the next call moves them. A row that fails by itself stays pending for a few more
        calls."""
        return (await self._move(frozenset())).rows

    async def _move(self, left: frozenset[Key]) -> _Group:
        """Move the oldest rows but those to be ``left``."""
        pending = await self._stores.outbox.pending(limit=GROUP_ROWS + len(left))
        read = [row for row in pending if row.key not in left][:GROUP_ROWS]
        signals = await self._all_signals(read)
        rows = [row for row in read if row.key not in self._failures]
        if rows:
            events, texts = await self._sealed(signals)
            await self._stores.feedback.append(events, texts)
            await self._stores.open_cases(events)
            await self._stores.outbox.confirm(rows)
            _log.info("feedback_moved", rows=len(rows), events=len(events), texts=len(texts))
        left |= {row.key for row in read} & self._failures.keys()
        return _Group(len(rows), left, is_last=len(read) < GROUP_ROWS or len(left) >= GROUP_ROWS)

    async def drain(self, *, clock: Clock, within_s: float) -> int:
        """Move group after group, each row tried once, until none is left or ``within_s`` is over; return the
        number of rows. A group that was begun is ended, so it takes longer by up to one group."""
        until_s, moved, left = clock.monotonic_s() + within_s, 0, frozenset[Key]()
        while clock.monotonic_s() < until_s:
            group = await self._move(left)
            moved, left = moved + group.rows, group.left
            if group.is_last:
                break
        return moved

    async def oldest_age_s(self, clock: Clock) -> float:
        """Return the seconds since the oldest pending signal was given; 0 without any."""
        for row in await self._stores.outbox.pending(limit=1):  # at most one
            record = await self._stores.records.get_answer(row.answer_id) if row.stored is None else None
            given = row.stored.at if row.stored is not None else record.finished_at if record else clock.now()
            return max(0.0, (clock.now() - given).total_seconds())
        return 0.0

    async def run(self, stopping: asyncio.Event, *, every_s: float = 1.0) -> None:
        """Move until ``stopping`` is set: every ``every_s``, and at once while groups are full. While a store
        is away the pauses double, up to 30 s."""
        failures, left = 0, frozenset[Key]()
        while not stopping.is_set():
            after_failure_s = back_off_s(failures, first_s=2 * every_s, longest_s=_LONGEST_PAUSE_S)
            try:
                group = await self._move(left)
                pause_s, left = (every_s, frozenset[Key]()) if group.is_last else (0.0, group.left)
                failures = -1  # becomes 0 below, where failures are counted
            except AssistantError as error:
                pause_s = after_failure_s
                _log.warning("feedback_waits", code=error.code, retry_after_s=round(pause_s, 1))
            except Exception:  # noqa: BLE001 (the edge of the mover: an unexpected error must not end it)
                pause_s = after_failure_s
                _log.exception("feedback_not_moved", retry_after_s=round(pause_s, 1))
            failures += 1
            await set_within(stopping, pause_s)

    async def _all_signals(self, rows: Sequence[OutboxRow]) -> list[_FilteredSignal]:
        """Return the signals of all rows. A row whose answer is gone is dropped and counted; so is one that
        failed ``_TRIES`` times, which must not hold up the others. A row that failed less often gives no
        signal yet, and stays in ``_failures``.

        Raises AssistantError where a store is away: then no row of the group is moved.
        """
        free = asyncio.Semaphore(_ROWS_AT_ONCE)

        async def of_row(row: OutboxRow) -> list[_FilteredSignal] | None:
            async with free:
                try:
                    signals = await self._signals_of(row)
                except AssistantError:
                    raise
                except Exception as error:  # noqa: BLE001 (the edge of one row; its text may be in the message)
                    return self._failed(row, error)
                self._failures.pop(row.key, None)
                return signals

        signals_of_rows = await asyncio.gather(*map(of_row, rows))
        if dropped := signals_of_rows.count(None):
            _log.warning("feedback_rows_dropped", rows=dropped, of=len(rows))
        return [signal for signals in signals_of_rows for signal in signals or ()]

    def _failed(self, row: OutboxRow, error: Exception) -> list[_FilteredSignal] | None:
        """Count a failure; return no signals yet, or None when the row is given up."""
        self._failures[row.key] += 1
        tries = self._failures[row.key]
        _log.error("feedback_row_failed", answer_id=row.answer_id, error=type(error).__name__, tries=tries)
        if tries < _TRIES:
            return []
        del self._failures[row.key]
        return None

    async def _signals_of(self, row: OutboxRow) -> list[_FilteredSignal] | None:
        """Return the signals of a row; None when there is no record of its answer."""
        record = await self._stores.records.get_answer(row.answer_id)
        if record is None:
            return None
        answer = await self._shown(record)
        if isinstance(row.stored, StoredSent) and row.stored.sent.reply_id is not None:
            reply = await self._stores.records.get_answer(row.stored.sent.reply_id)
            answer = replace(answer, reply=reply and reply.text)
        return await asyncio.to_thread(
            lambda: [self._filtered(signal) for signal in self._signals.of(row.stored, answer)]
        )

    async def _shown(self, record: AnswerRecord) -> ShownAnswer:
        """Return the answer with the documents' texts, as the agent who asked saw it."""
        labels = frozenset(record.labels)
        shown = await read_excerpts(record.excerpts, self._stores.texts, labels=labels)
        return ShownAnswer(record, fill_record(record, shown), is_whole=not gone_from(record, shown))

    def _filtered(self, signal: Signal) -> _FilteredSignal:
        """Return a signal with its words without patients' data; without words where there is no filter of
        such data, or the tenant keeps no texts."""
        patients = self._stores.patients
        if patients is None or not self._signals.keeps_texts:
            return _FilteredSignal(signal.event, None, frozenset())
        texts = {field: text for field, text in signal.words.model_dump().items() if text}
        replaced = {field: patients.replace(text) for field, text in texts.items()}
        numbers = {number for result in replaced.values() for number in result.member_numbers}
        subjects = {f"{DOCUMENT_SUBJECT}{document_id}" for document_id in signal.documents}
        subjects |= {self._signals.patient(number) for number in numbers}
        words = signal.words.model_copy(update={field: result.text for field, result in replaced.items()})
        return _FilteredSignal(signal.event, words, frozenset(subjects or {f"tenant:{signal.event.tenant}"}))

    async def _sealed(
        self, signals: Sequence[_FilteredSignal]
    ) -> tuple[list[FeedbackEvent], list[SealedText]]:
        """Return the events, and the sealed words of those that have any: an event names them by ``text_id``.

        Words are not sealed for an event one of whose subjects has no key any more.
        """
        all_subjects = sorted(frozenset[str]().union(*(signal.subjects for signal in signals)))
        keys = await self._stores.keys.keys_of(all_subjects, create=True)
        events, texts = list[FeedbackEvent](), list[SealedText]()
        for signal in signals:
            event, words = signal.event, signal.words
            text = None if words is None else seal(words, event, subjects=signal.subjects, keys=keys)
            events.append(event.model_copy(update={"text_id": None if text is None else text.text_id}))
            texts += [] if text is None else [text]
        return events, texts
