"""``LiveReads`` of one tenant in the DynamoDB table of the records.

A read is an item under its day: ``live#<day>``, ``<instant>#<id>``, put once. Nothing changes or deletes it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from assistant.aws.dynamodb import DynamoDbTable, partition_query
from assistant.aws.dynamodb_writes import group_inserts
from assistant.domain.clock import Clock
from assistant.domain.errors import RecordsUnavailableError
from assistant.domain.live import LiveRead

_MOST_DAYS = 400
"""Days of one listing: each is a query."""


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
        at = _instant(read.at)
        item = {
            "pk": {"S": f"live#{at[:10]}"},
            "sk": {"S": f"{at}#{read.read_id}"},
            "body": {"S": read.model_dump_json()},
        }
        await self._inserts.write(item)

    async def list(self, *, since: datetime, until: datetime, limit: int = 1000) -> Sequence[LiveRead]:
        low, high = _instant(since), _instant(until)
        found: list[LiveRead] = []
        for _ in range(_MOST_DAYS):
            if low >= high or len(found) >= limit:
                break
            request = partition_query(
                "pk = :pk AND sk BETWEEN :low AND :high", pk=f"live#{low[:10]}", low=low, high=high
            )
            async for item in self._table.query(request, limit=limit - len(found)):
                found.append(LiveRead.model_validate_json(item["body"]["S"]))
            low = _next_day(low)
        return found


def _next_day(instant: str) -> str:
    day = date.fromisoformat(instant[:10]) + timedelta(days=1)
    return _instant(datetime(day.year, day.month, day.day, tzinfo=UTC))


def _instant(at: datetime) -> str:
    """Return a time that sorts as text."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
