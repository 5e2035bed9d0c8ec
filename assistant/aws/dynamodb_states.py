"""States of one tenant's documents in DynamoDB, and the lock on writing its index.

All rows are in one partition, in order of document_id, so that a page is one query. A partition takes
1,000 writes a second, and DynamoDB splits a hot one; the worker writes fewer than 200.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from assistant.aws.dynamodb import IS_FREE, DynamoDbStore, Item, Key, partition_query, typed_key
from assistant.domain.clock import Clock, Deadline
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import DependencyError
from assistant.knowledge.connectors import SourceRun

_PARTITION = "documents"
_RUNS = "source-runs"
_PUT_ATTEMPTS = 8
"""About 3 s with the waits between them: throttling of an on-demand table passes."""
_WRITES_AT_ONCE = 16
_LAST = "\U0010ffff"
"""Sorts after every document id."""
_LOCK_KEY = ("write-turn", "index")
_MARGIN_S = 15.0
_LONGEST_FUNCTION_S = 900.0
"""Between the end of a holder's time and that of its lock: for clocks that differ and calls in flight."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5


class DynamoDbDocumentStates(DynamoDbStore):
    """``DocumentStates`` in ``table``; ``client`` is an aiobotocore DynamoDB client. Raises DependencyError.

    ``count_by_state`` and ``list`` of certain states read an index that may lag by a moment; ``list`` then
    reads its rows from the table.
    """

    unavailable = DependencyError

    def __init__(self, client: Any, *, table: str, clock: Clock | None = None) -> None:
        super().__init__(client, table=table, clock=clock)
        self._writers = asyncio.Semaphore(_WRITES_AT_ONCE)

    async def get(self, document_id: str) -> DocumentStatus | None:
        item = await self._table.get(_key(document_id))
        return None if item is None else _status(item)

    async def get_many(self, document_ids: Sequence[str]) -> Mapping[str, DocumentStatus]:
        items = await self._table.get_many([_key(document_id) for document_id in document_ids])
        return {key[1]: _status(item) for key, item in items.items()}

    async def put_many(self, statuses: Sequence[DocumentStatus]) -> None:
        newest = {status.document_id: status for status in statuses}
        items = [_item(status) for status in newest.values()]
        await self._table.put_many(items, attempts=_PUT_ATTEMPTS)

    async def advance_many(self, statuses: Sequence[DocumentStatus]) -> frozenset[str]:
        written = await asyncio.gather(*(self._advance(status) for status in statuses))
        return frozenset(status.document_id for status, done in zip(statuses, written, strict=True) if done)

    async def list(
        self,
        *,
        states: Sequence[DocumentState] = (),
        after: str | None = None,
        until: str | None = None,
        limit: int = 100,
    ) -> list[DocumentStatus]:
        if not states:
            request = partition_query(
                "pk = :pk AND sk BETWEEN :after AND :until", pk=_PARTITION, **_bounds(after, until)
            )
            return [_status(item) async for item in self._table.query(request, limit=limit)]
        statuses: list[DocumentStatus] = []
        async for document_ids in self._pages_of(states, after=after, until=until, limit=limit):
            rows = await self.get_many(document_ids)
            statuses += [rows[name] for name in document_ids if name in rows and rows[name].state in states]
            if len(statuses) >= limit:
                break
        return statuses[:limit]

    async def count_by_state(
        self, *, after: str | None = None, until: str | None = None
    ) -> Mapping[DocumentState, int]:
        bounds = _bounds(after, until)
        counts = await asyncio.gather(
            *(self._table.count(_state_query(state, bounds)) for state in DocumentState)
        )
        return {state: count for state, count in zip(DocumentState, counts, strict=True) if count}

    async def _advance(self, status: DocumentStatus) -> bool:
        # On a retry after a lost response the condition still holds: the row then has what is to be written.
        values: Item = {
            ":content": {"S": status.content_hash},
            ":received": {"S": status.received_at.isoformat()},
        }
        condition, names = "content_hash = :content AND received_at = :received", {}
        if status.state is not DocumentState.WITHDRAWN:
            condition, names = f"{condition} AND #state <> :withdrawn", {"#state": "state"}
            values[":withdrawn"] = {"S": DocumentState.WITHDRAWN.value}
        async with self._writers:
            return await self._table.put_if(_item(status), condition=condition, names=names, values=values)

    async def _pages_of(
        self, states: Sequence[DocumentState], *, after: str | None, until: str | None, limit: int
    ) -> AsyncIterator[list[str]]:
        """Yield the ids that the index has under any of the states, in order, until there are no more."""
        last = after
        while True:
            bounds = _bounds(last, until)
            by_state = await asyncio.gather(*(self._ids(state, bounds, limit) for state in set(states)))
            document_ids = sorted({name for ids in by_state for name in ids}, key=str.encode)[:limit]
            if not document_ids:
                return
            yield document_ids
            last = document_ids[-1]

    async def _ids(self, state: DocumentState, bounds: Mapping[str, str], limit: int) -> list[str]:
        request = _state_query(state, bounds)
        return [str(item["sk"]["S"]) async for item in self._table.query(request, limit=limit)]


def _bounds(after: str | None, until: str | None) -> dict[str, str]:
    """Return bounds that DynamoDB includes; no document id contains NUL."""
    return {"after": f"{after}\0" if after else " ", "until": until or _LAST}


def _state_query(state: DocumentState, bounds: Mapping[str, str]) -> dict[str, Any]:
    condition = "#state = :state AND sk BETWEEN :after AND :until"
    return partition_query(condition, state=state.value, **bounds) | {
        "IndexName": "by_state",
        "ExpressionAttributeNames": {"#state": "state"},
    }


def _key(document_id: str) -> Key:
    return _PARTITION, document_id


def _item(status: DocumentStatus) -> Item:
    return typed_key(_key(status.document_id)) | {
        "state": {"S": status.state.value},
        "content_hash": {"S": status.content_hash},
        "received_at": {"S": status.received_at.isoformat()},
        "body": {"S": status.model_dump_json()},
    }


def _status(item: Item) -> DocumentStatus:
    return DocumentStatus.model_validate_json(item["body"]["S"])


class DynamoDbSourceRuns(DynamoDbStore):
    """``SourceRuns`` in ``table``; ``client`` is an aiobotocore DynamoDB client."""

    unavailable = DependencyError

    async def put_run(self, run: SourceRun) -> None:
        item = typed_key((_RUNS, run.key)) | {"body": {"S": run.model_dump_json()}}
        await self._table.put_many([item], attempts=_PUT_ATTEMPTS)

    async def runs(self) -> Sequence[SourceRun]:
        request = partition_query("pk = :pk", pk=_RUNS)
        return [SourceRun.model_validate_json(item["body"]["S"]) async for item in self._table.query(request)]


class DynamoDbWriteTurn(DynamoDbStore):
    """``WriteTurn`` in ``table``: a lock between the functions that write a tenant's index.

    ``client`` is an aiobotocore DynamoDB client. The lock expires ``lasts_s`` after it was taken, in case its
    holder died; a living holder is cancelled before that.
    """

    unavailable = DependencyError

    def __init__(
        self,
        client: Any,
        *,
        table: str,
        clock: Clock | None = None,
        lasts_s: float = 90.0,
        waits_s: float = 60.0,
        key: tuple[str, str] = _LOCK_KEY,
        taken: str = "Another process writes the passage index. Retry.",
    ) -> None:
        """``key``: the row of the lock; ``taken``: the message where it is not free in time."""
        super().__init__(client, table=table, clock=clock)
        self._lasts_s = lasts_s
        self._waits_s = waits_s
        self._key = key
        self._taken = taken
        self._owner = uuid.uuid4().hex
        self._lock_in_process = asyncio.Lock()
        self._timeout = asyncio.Timeout(None)

    @classmethod
    def of_reindex(cls, client: Any, *, table: str, clock: Clock | None = None) -> DynamoDbWriteTurn:
        """Return the lock that lets one reindex of a tenant run; it lasts as long as a function."""
        return cls(
            client,
            table=table,
            clock=clock,
            lasts_s=_LONGEST_FUNCTION_S,
            waits_s=0.0,
            key=("write-turn", "reindex"),
            taken="Another reindex of this tenant runs, or was killed in the last 15 minutes. Retry then.",
        )

    async def __aenter__(self) -> None:
        await self._lock_in_process.acquire()
        try:
            await self._take()
        except BaseException:
            self._lock_in_process.release()
            raise
        self._timeout = asyncio.timeout(self._lasts_s - _MARGIN_S)
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise DependencyError("Writing the passage index took too long. Retry.") from None
        finally:
            try:
                await self._put(until_s=0.0)  # a lock that expired and that another process took stays
            finally:
                self._lock_in_process.release()

    async def _take(self) -> None:
        deadline = Deadline.after(self._waits_s, clock=self._clock)
        pause_s = _FIRST_PAUSE_S
        while not await self._put(until_s=self._now_s() + self._lasts_s):
            if deadline.remaining_s() <= pause_s:
                raise DependencyError(self._taken)
            await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _put(self, *, until_s: float) -> bool:
        """Set the lock's end; return False when another process holds it."""
        return await self._table.put_if(
            typed_key(self._key) | {"owner": {"S": self._owner}, "until_ms": _milliseconds(until_s)},
            condition=f"{IS_FREE} OR until_ms < :now OR #owner = :me",
            names={"#owner": "owner"},
            values={":now": _milliseconds(self._now_s()), ":me": {"S": self._owner}},
        )

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _milliseconds(seconds: float) -> dict[str, str]:
    return {"N": str(int(seconds * 1000))}
