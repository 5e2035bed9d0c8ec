"""The turn to write a tenant's index, kept in the table of states: functions that ingest and withdraw run at
once, in processes that know nothing of each other.

A turn ends by itself ``lasts_s`` after it was taken, when its holder died; a living holder is stopped before.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from typing import Any

from assistant.aws.dynamodb_calls import DynamoDbCalls, DynamoDbRefusal
from assistant.aws.dynamodb_reading import typed_key
from assistant.domain.clock import Clock, Deadline, SystemClock
from assistant.domain.errors import DependencyError

_KEY = ("write-turn", "index")
_MARGIN_S = 15.0
"""Between the end of a holder's time and that of its turn: for clocks that differ and calls on their way."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5


class DynamoDbWriteTurn:
    """One ``WriteTurn`` in ``table``; ``client`` is an aiobotocore client of DynamoDB."""

    def __init__(
        self,
        client: Any,
        *,
        table: str,
        clock: Clock | None = None,
        lasts_s: float = 90.0,
        waits_s: float = 60.0,
    ) -> None:
        self._calls = DynamoDbCalls(client, unavailable=DependencyError)
        self._table = table
        self._clock = clock or SystemClock()
        self._lasts_s = lasts_s
        self._waits_s = waits_s
        self._owner = uuid.uuid4().hex
        self._here = asyncio.Lock()
        self._time_left: asyncio.Timeout | None = None

    async def close(self) -> None:
        await self._calls.close()

    async def __aenter__(self) -> None:
        await self._here.acquire()
        try:
            await self._take()
        except BaseException:
            self._here.release()
            raise
        self._time_left = asyncio.timeout(self._lasts_s - _MARGIN_S)
        await self._time_left.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        assert self._time_left is not None  # noqa: S101 (for the type checker)
        try:
            await self._time_left.__aexit__(kind, error, trace)
        except TimeoutError:
            raise DependencyError("The passage index took too long to be written; try again.") from None
        finally:
            try:
                await self._give_back()
            finally:
                self._here.release()

    async def _take(self) -> None:
        deadline = Deadline.after(self._waits_s, clock=self._clock)
        pause_s = _FIRST_PAUSE_S
        while not await self._put(until_s=self._now_s() + self._lasts_s):
            if deadline.remaining_s() <= pause_s:
                raise DependencyError("The passage index is being written by others; try again.")
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _give_back(self) -> None:
        """End the turn at once. One that was lost is somebody else's, and stays."""
        await self._put(until_s=0.0)

    async def _put(self, *, until_s: float) -> bool:
        request: dict[str, Any] = {
            "TableName": self._table,
            "Item": typed_key(_KEY) | {"owner": {"S": self._owner}, "until_ms": _milliseconds(until_s)},
            "ConditionExpression": "attribute_not_exists(pk) OR until_ms < :now OR #owner = :me",
            "ExpressionAttributeNames": {"#owner": "owner"},
            "ExpressionAttributeValues": {":now": _milliseconds(self._now_s()), ":me": {"S": self._owner}},
        }
        try:
            await self._calls.call("PutItem", request)
        except DynamoDbRefusal as refusal:
            if refusal.code != "ConditionalCheckFailedException":
                raise DependencyError(f"DynamoDB refused PutItem ({refusal.code}).") from refusal
            return False
        return True

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _milliseconds(seconds: float) -> dict[str, str]:
    return {"N": str(int(seconds * 1000))}
