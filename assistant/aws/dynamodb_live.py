"""``LiveReads`` of one tenant in the DynamoDB table of the records.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``live#DAY`` | ``AT#ID`` | a read |
| ``live-of#SUBJECT`` | ``AT#ID`` | the same read, once more for its subject |

Both are put once, together, before the data are shown; nothing changes or deletes them. A global index in
place of the second item would lag, and who may change its attributes could hide a read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from assistant.aws.dynamodb import DynamoDbTable, Item, partition_query
from assistant.aws.dynamodb_writes import group_inserts
from assistant.domain.clock import Clock
from assistant.domain.errors import RecordsUnavailableError
from assistant.domain.live import LiveRead, LiveReadPage, LiveReadQuery, place_of

_DAYS_A_PAGE = 400
"""Days that one page looks at: each is a query, about 5 ms of DynamoDB's. Six years are six pages."""
_DAYS_AT_ONCE = 32
"""At most; a page begins with one day and asks for more at once while they have few reads."""
_ITEMS_A_PAGE = 2000
"""Reads that one page looks at, of all agents: about half a megabyte."""


class DynamoDbLiveReads:
    """``LiveReads`` in ``table``; ``client`` is an aiobotocore DynamoDB client."""

    def __init__(self, client: Any, *, table: str, clock: Clock | None = None) -> None:
        del clock  # reads bring their own times; all adapters have the same signature
        self._table = DynamoDbTable(client, name=table, unavailable=RecordsUnavailableError)
        self._inserts = group_inserts(self._table)

    async def close(self) -> None:
        await self._inserts.close()
        await self._table.close()

    async def record(self, read: LiveRead) -> None:
        place = place_of(read)
        partitions = [_of_day(place), *([] if read.subject is None else [_of_subject(read.subject)])]
        body = {"S": read.model_dump_json()}
        items = [{"pk": {"S": each}, "sk": {"S": place}, "body": body} for each in partitions]
        await asyncio.gather(*(self._inserts.write(item) for item in items))

    async def list(self, query: LiveReadQuery) -> LiveReadPage:
        low, high = max(_instant(query.since), query.after or ""), _instant(query.until)
        if low >= high:
            return LiveReadPage((), None)
        if query.subject is not None:
            items = await self._items(_of_subject(query.subject), low, high)
            return _page(_wanted(items, query), query, after=_end_of(items))
        found: list[LiveRead] = []
        seen = 0
        for days in _groups(low, high):
            parts = await asyncio.gather(*(self._items(_of_day(day), max(low, day), high) for day in days))
            for day, items in zip(days, parts, strict=True):
                found += _wanted(items, query)
                seen += len(items)
                if (end := _end_of(items)) is not None:
                    return _page(found, query, after=end)
                if seen >= _ITEMS_A_PAGE or len(found) >= query.limit:
                    return _page(found, query, after=_day_after(day, high))
        last = _instant_of_day(_day(low) + timedelta(days=_DAYS_A_PAGE))
        return _page(found, query, after=last if last < high else None)

    async def _items(self, partition: str, low: str, high: str) -> list[Item]:
        """Return the first items in (low, high]: a place is its instant with an id, so it is never equal."""
        request = partition_query("pk = :pk AND sk BETWEEN :low AND :high", pk=partition, low=low, high=high)
        items = [item async for item in self._table.query(request, limit=_ITEMS_A_PAGE + 1)]
        return [item for item in items if item["sk"]["S"] != low][:_ITEMS_A_PAGE]


def _wanted(items: Sequence[Item], query: LiveReadQuery) -> list[LiveRead]:
    reads = [LiveRead.model_validate_json(item["body"]["S"]) for item in items]
    return [read for read in reads if query.wants(read)]


def _end_of(items: Sequence[Item]) -> str | None:
    """Return the place of the last item where its partition may have more."""
    return str(items[-1]["sk"]["S"]) if len(items) >= _ITEMS_A_PAGE else None


def _page(found: Sequence[LiveRead], query: LiveReadQuery, *, after: str | None) -> LiveReadPage:
    """Return what fits into a page. ``after``: where the reads end that were looked at, if more follow."""
    if len(found) <= query.limit:
        return LiveReadPage(tuple(found), after)
    return LiveReadPage(tuple(found[: query.limit]), place_of(found[query.limit - 1]))


def _groups(low: str, high: str) -> list[list[str]]:
    """Return the first instants of the days of a page, in groups that are asked for at once."""
    first = _day(low)
    days = [_instant_of_day(first + timedelta(days=number)) for number in range(_DAYS_A_PAGE)]
    days = [day for day in days if day < high]
    groups: list[list[str]] = []
    size = 1
    while days:
        groups.append(days[:size])
        days, size = days[size:], min(2 * size, _DAYS_AT_ONCE)
    return groups


def _day_after(day: str, high: str) -> str | None:
    """Return the day after, or None where the period has ended."""
    following = _instant_of_day(_day(day) + timedelta(days=1))
    return following if following < high else None


def _of_day(instant: str) -> str:
    return f"live#{instant[:10]}"


def _of_subject(subject: str) -> str:
    return f"live-of#{subject}"


def _day(instant: str) -> date:
    return date.fromisoformat(instant[:10])


def _instant_of_day(day: date) -> str:
    return _instant(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _instant(at: datetime) -> str:
    """Return a time that sorts as text."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
