"""The counted days of one tenant: finished days are stored, today's numbers are counted when asked for.

A day is counted one hour after its end, again a day later (a record may follow late), and whenever one of its
answers was marked or sent since. Several tasks may count the same day: they store the same numbers.

| item of the desk's table | |
| --- | --- |
| ``overview#days``, ``2026-11-20`` | a counted day |
| ``overview#acts``, ``until`` | time up to which marks and sent texts were looked at |
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import structlog

from assistant.domain.clock import Clock
from assistant.domain.errors import AssistantError
from assistant.options.overview.counting import CountDay, CountedDay, end_of
from assistant.options.overview.section import OverviewSection
from assistant.stores.desk import DESK_TABLE
from assistant.stores.documents import StoredStates
from assistant.stores.formats import bodies_of, store_text
from assistant.stores.records import StoredRecords
from assistant.stores.store import Store
from assistant.stores.table import Range, Table, keyed, sortable

if TYPE_CHECKING:
    from assistant.service.served import ServedTenant
    from assistant.stores.opened import StoreChoice

MOST_DAYS = 92
"""Days of one request at most, and days back from today that are counted."""
_NEAR_COSINE = 0.34
"""From which on an unanswered question has a near document. Of the messages without a certain answer that a
document answers half are as near, of those that none answers 48 % (pharmacy) and 6 % (clinic;
docs/decisions/0106)."""
_SETTLE_EVERY_S = 900.0
_AFTER_END = timedelta(hours=1)
"""Time after its end at which a day is counted first."""
_FOLLOWED = timedelta(hours=25)
"""Time after its end at which a day is counted a second time, with records that came late."""
_LAG = timedelta(minutes=5)
"""Acts of so long before the last look are read again, as they may have been recorded late."""
_AGAIN_AFTER_S = 60.0
"""Least time between two counts of an unfinished day."""
_SHARE_OF_TIME = 10
"""An unfinished day is counted again after ten times the time that counting took: a tenth of the time at
most."""
_PARTITION, _ACTS = "overview#days", ("overview#acts", "until")
_log = structlog.get_logger(__name__)


class StoredDays:
    """Counted days in the desk's table, which the service may put items into. Raises
    RecordsUnavailableError."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def put(self, day: CountedDay) -> None:
        """Store a day, in place of an earlier count. A large one is split; the item that names its parts is
        written last."""
        body = store_text(day.model_dump_json(exclude_defaults=True))
        for name, part in body.parts:
            await self._table.put(keyed((_PARTITION, name), **part))
        await self._table.put(keyed((_PARTITION, str(day.day)), **body.attributes))

    async def between(self, first: date, last: date) -> dict[date, CountedDay]:
        """Return the stored days from ``first`` to ``last``, both included."""
        items = await self._table.query(Range(_PARTITION, str(first), str(last)))
        days = map(CountedDay.model_validate_json, await bodies_of(self._table, items))
        return {day.day: day for day in days}

    async def acts_until(self) -> datetime | None:
        """Return the time up to which marks and sent texts were looked at; None before the first time."""
        item = await self._table.get(_ACTS)
        return None if item is None else datetime.fromisoformat(item["at"])

    async def put_acts_until(self, at: datetime) -> None:
        await self._table.put(keyed(_ACTS, at=sortable(at)))


DAYS = Store(DESK_TABLE, lambda table, _: StoredDays(table))


@dataclass(frozen=True, slots=True)
class _Kept:
    """An unfinished day in memory. ``until_s``: monotonic time at which it is counted again."""

    day: CountedDay
    until_s: float


class Overview:
    """Reads and keeps the counted days. For one event loop. Raises RecordsUnavailableError,
    DependencyError.

    ``run`` counts finished days and stores them; ``between`` reads them, and counts an unfinished one in
    memory (``_kept``), once for all requests that wait (``_counting``).
    """

    def __init__(
        self,
        days: StoredDays,
        records: StoredRecords,
        *,
        count: CountDay,
        states: StoredStates,
        smallest_group: int,
        clock: Clock,
    ) -> None:
        self._days, self._records, self._count, self._clock = days, records, count, clock
        self.states, self.smallest_group = states, smallest_group
        self._kept: dict[date, _Kept] = {}
        self._counting: dict[date, asyncio.Task[CountedDay]] = {}

    def today(self) -> date:
        return self._clock.now().date()

    async def between(self, first: date, last: date) -> list[CountedDay]:
        """Return the counted days in order. Today and yesterday are counted now if they are not stored, at
        most once a minute. A day that was counted by other rules is left out."""
        days = {day: row for day, row in (await self._days.between(first, last)).items() if self._fits(row)}
        for day in (self.today() - timedelta(days=1), self.today()):
            if first <= day <= last and day not in days:
                days[day] = await self._unfinished(day)
        return [days[day] for day in sorted(days)]

    async def settle(self) -> int:
        """Count and store the days that are due; return their number.

        Due are: days without a count, or one by other rules or of before the second count; and stored days
        with an answer that was marked or sent since the last look.
        """
        now, today = self._clock.now(), self.today()
        stored = await self._days.between(today - timedelta(days=MOST_DAYS), today)
        dated = [today - timedelta(days=back) for back in range(1, MOST_DAYS + 1)]
        due = {day for day in dated if self._is_due(stored.get(day), day, now)}
        since = await self._days.acts_until()
        answer_ids = sorted(await self._records.acted_since(since - _LAG)) if since is not None else []
        for start in range(0, len(answer_ids), 50):
            for answer in (await self._records.find_answers(answer_ids[start : start + 50])).values():
                if (day := answer.record.asked_at.date()) in stored:
                    due.add(day)
        for day in sorted(due, reverse=True):
            await self._days.put(await self._count(day, now=self._clock.now()))
            self._kept.pop(day, None)
        await self._days.put_acts_until(now)
        return len(due)

    async def run(self) -> None:
        """Settle every 15 minutes until cancelled."""
        while True:
            try:
                if counted := await self.settle():
                    _log.info("overview_counted", days=counted)
            except AssistantError as error:
                _log.warning("overview_not_counted", reason=error.code)
            await asyncio.sleep(_SETTLE_EVERY_S)

    def _fits(self, day: CountedDay) -> bool:
        return day.rules == self._count.rules

    def _is_due(self, stored: CountedDay | None, day: date, now: datetime) -> bool:
        if now < end_of(day) + _AFTER_END:
            return False
        followed = end_of(day) + _FOLLOWED
        return stored is None or not self._fits(stored) or stored.counted_at < followed <= now

    async def _unfinished(self, day: date) -> CountedDay:
        """Return the count of a day that is not stored, from memory or counted now."""
        kept = self._kept.get(day)
        if kept is not None and self._clock.monotonic_s() < kept.until_s:
            return kept.day
        if (counting := self._counting.get(day)) is None:
            counting = self._counting[day] = asyncio.create_task(self._count_now(day))
            counting.add_done_callback(lambda task: self._counted(day, task))
        return await asyncio.shield(counting)  # if the caller gives up, the next one finds it counted

    async def _count_now(self, day: date) -> CountedDay:
        began_s = self._clock.monotonic_s()
        counted = await self._count(day, now=self._clock.now())
        ended_s = self._clock.monotonic_s()
        until_s = ended_s + max(_AGAIN_AFTER_S, _SHARE_OF_TIME * (ended_s - began_s))
        # Two days at most are not stored: today and yesterday.
        kept = {**self._kept, day: _Kept(counted, until_s)}
        self._kept = {day: kept[day] for day in sorted(kept)[-2:]}
        return counted

    def _counted(self, day: date, task: asyncio.Task[CountedDay]) -> None:
        self._counting.pop(day, None)
        if not task.cancelled():
            task.exception()  # callers that wait get the error; asyncio logs one that was not retrieved


async def open_overview(served: ServedTenant, stores: StoreChoice) -> Sequence[object]:
    """Return the part of a served tenant that the routes ask for: ``tenant.part(Overview)``."""
    answering = served.answering
    smallest_group = OverviewSection.of(answering.tenant).smallest_group
    count = CountDay(
        answering.records,
        answering.documents.texts,
        near_cosine=_NEAR_COSINE,
        smallest_group=smallest_group,
    )
    overview = Overview(
        await stores.of(DAYS),
        answering.records,
        count=count,
        states=served.knowledge.states,
        smallest_group=smallest_group,
        clock=stores.clock,
    )
    return (overview,)


def run_overview(served: ServedTenant) -> Sequence[Coroutine[Any, Any, None]]:
    """Return the task that counts finished days until it is cancelled."""
    return (served.part(Overview).run(),)
