"""The review desk of one tenant in DynamoDB: revisions are put once; pointers move by conditional puts.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``item#KIND#ID`` | ``revision#N`` | one revision |
| ``item#KIND#ID`` | ``part#HASH#N`` | parts of a body that is too large for one item |
| ``newest#KIND`` | ``ID`` | number and, where it fits, body of the newest revision |
| ``version`` | ``version`` | the number of puts of every kind that is served |

One transaction writes revisions, their pointers and the version, each on its own condition, so ``PutItem`` is
the only action that writes: nothing is updated or deleted. A rewritten revision is put again, and the parts
of its former body are put without content. Cases are listed by an index, latest first, which may lag by a
moment; the kinds that serving reads are listed consistently.

A pointer's ``listed`` is ``case#LIST``, one of ``CASE_LISTS``, so a query has the cases of one state alone.
Releases before had ``case`` there. Each list of cases reads that partition too, and puts some of its pointers
again, until it is empty (docs/decisions/0089-cases-of-the-desk.md).
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from assistant.aws.dynamodb import (
    DynamoDbRefusal,
    DynamoDbStore,
    Item,
    Outcome,
    back_off,
    key_of,
    part_names,
    partition_query,
    prefix_query,
    sortable,
    store_row,
    typed_key,
)
from assistant.domain.desk import CASE_LISTS, NOT_SERVED, Case, DeskItem, DeskKind
from assistant.domain.errors import RecordsUnavailableError
from assistant.twins import follows_newest

_VERSION_KEY = ("version", "version")
_IS_THERE = "attribute_exists(pk)"
_ATTEMPTS = 8
"""Of a put: another put at the same moment moves the version, and this one then reads it again."""
_FORMER_LIST = DeskKind.CASE.value
"""Value of ``listed`` that releases before gave every case."""
_LISTED_ANEW = 100
"""Pointers of that list that one call puts again: less than a second."""


class DynamoDbDeskStore(DynamoDbStore):
    """``DeskStore`` in ``table``; ``client`` is an aiobotocore DynamoDB client."""

    async def version(self) -> int:
        row = await self._table.get(_VERSION_KEY)
        return 0 if row is None else int(row["n"]["N"])

    async def put(self, *items: DeskItem) -> None:
        bodies = [store_row(item) for item in items]
        for item, body in zip(items, bodies, strict=True):
            for name, part in body.parts:  # a part is named by its content: a repeat changes nothing
                await self._table.put_if(typed_key((_partition(item.kind, item.item_id), name)) | part)
        for attempt in range(_ATTEMPTS):
            if attempt:
                await back_off(attempt)
            puts: list[dict[str, Any]] = []
            for item, body in zip(items, bodies, strict=True):
                same, newest = await self._revision(item), await self.get(item.kind, item.item_id)
                if follows_newest(item, same=same, newest=newest):
                    puts += self._puts(item, body.attributes, before=item.revision - 1)
            if not puts or await self._transact([*puts, *await self._version_puts(*items)]):
                return
        raise RecordsUnavailableError("Many writes reach the desk at once. Retry.")

    async def rewrite(self, item: DeskItem) -> None:
        partition, body = _partition(item.kind, item.item_id), store_row(item)
        for name, part in body.parts:
            await self._table.put_if(typed_key((partition, name)) | part)
        for attempt in range(_ATTEMPTS):
            if attempt:
                await back_off(attempt)
            row = await self._table.get(_revision_key(item.kind, item.item_id, item.revision))
            newest = await self._table.get((_pointers(item.kind), item.item_id))
            if row is None or newest is None:
                return
            revision, pointer = self._puts(item, body.attributes, before=item.revision)
            former = [typed_key((partition, name)) for name in part_names(row)]
            puts = [revision | {"ConditionExpression": _IS_THERE}, *await self._version_puts(item)]
            puts += [self._table.put_of(part, condition=_IS_THERE) for part in former]
            is_newest = newest["revision"]["N"] == str(item.revision)
            if await self._transact([*puts, pointer] if is_newest else puts):
                return
        raise RecordsUnavailableError("Many writes reach the desk at once. Retry.")

    async def get(self, kind: DeskKind, item_id: str) -> DeskItem | None:
        pointer = await self._table.get((_pointers(kind), item_id))
        return None if pointer is None else (await self._of_pointers([pointer]))[0]

    async def list(self, kind: DeskKind, *, listed: str | None = None, limit: int = 5_000) -> list[DeskItem]:
        """As the port says; of cases the index may lag by a moment."""
        if kind is DeskKind.CASE:
            return await self._cases(CASE_LISTS if listed is None else (listed,), limit=limit)
        pointers = [one async for one in self._table.query(partition_query("pk = :pk", pk=_pointers(kind)))]
        items = await self._of_pointers(pointers)
        return sorted(items, key=lambda item: item.at, reverse=True)[:limit]

    async def history(self, kind: DeskKind, item_id: str) -> list[DeskItem]:
        request = prefix_query(_partition(kind, item_id), prefix="revision#")
        return await self._items([one async for one in self._table.query(request)])

    async def _cases(self, lists: Sequence[str], *, limit: int) -> list[DeskItem]:
        # The former list first: a case that leaves it meanwhile is met twice, and never missed.
        former = await self._listed(_FORMER_LIST)
        cases = [Case.model_validate_json(item.body) for item in await self._of_pointers(former)]
        both = list(zip(former, cases, strict=True))
        await asyncio.gather(*(self._list_anew(pointer, case) for pointer, case in both[:_LISTED_ANEW]))
        rows = [pointer for pointer, case in both if case.listed in lists]
        for name in lists:
            rows += await self._listed(_list_of(name), limit=limit)
        pointers = {key_of(row): row for row in rows}.values()
        latest = sorted(pointers, key=lambda row: str(row["listed_at"]["S"]), reverse=True)
        return await self._of_pointers(latest[:limit])

    async def _listed(self, name: str, *, limit: int | None = None) -> list[Item]:
        query = partition_query("listed = :listed", listed=name)
        request = {"IndexName": "listed", "ScanIndexForward": False, **query}
        return [one async for one in self._table.query(request, limit=limit)]

    async def _list_anew(self, pointer: Item, case: Case) -> None:
        """Put a pointer into the list of its case, unless it moved meanwhile."""
        put = pointer | {"listed": {"S": _list_of(case.listed)}}
        names, values = {"#number": "revision"}, {":before": pointer["revision"]}
        await self._table.put_if(put, condition="#number = :before", names=names, values=values)

    async def _revision(self, item: DeskItem) -> DeskItem | None:
        row = await self._table.get(_revision_key(item.kind, item.item_id, item.revision))
        return None if row is None else (await self._items([row]))[0]

    async def _of_pointers(self, pointers: Sequence[Item]) -> list[DeskItem]:
        """Return the newest revisions; those too large for a pointer are read by their own keys."""
        keys = {
            place: (pointer["item"]["S"], pointer["revision_key"]["S"])
            for place, pointer in enumerate(pointers)
            if "revision_key" in pointer
        }
        whole = await self._table.get_many(list(keys.values()))
        return await self._items(
            [whole[keys[place]] if place in keys else pointer for place, pointer in enumerate(pointers)]
        )

    async def _items(self, rows: Sequence[Item]) -> list[DeskItem]:
        return [DeskItem.model_validate_json(body) for body in await self._table.bodies(rows)]

    def _puts(self, item: DeskItem, body: Item, *, before: int) -> list[dict[str, Any]]:
        """Return the writes of a revision and its pointer, which stands at ``before``."""
        key, number = _revision_key(item.kind, item.item_id, item.revision), {"N": str(item.revision)}
        pointer: Item = typed_key((_pointers(item.kind), item.item_id)) | {"revision": number}
        if part_names(body):
            pointer |= {"item": {"S": key[0]}, "revision_key": {"S": key[1]}}
        else:
            pointer |= body
        if item.kind is DeskKind.CASE:
            listed_at = f"{sortable(item.at)}#{item.item_id}"
            listed = _list_of(Case.model_validate_json(item.body).listed)
            pointer |= {"listed": {"S": listed}, "listed_at": {"S": listed_at}}
        return [
            self._table.put_of(typed_key(key) | body),
            self._next(pointer, attribute="revision", before=before),
        ]

    async def _version_puts(self, *items: DeskItem) -> list[dict[str, Any]]:
        """Return the write of the version, where one of the items is served."""
        if all(item.kind in NOT_SERVED for item in items):
            return []
        number_before = await self.version()
        version: Item = typed_key(_VERSION_KEY) | {"n": {"N": str(number_before + 1)}}
        return [self._next(version, attribute="n", before=number_before)]

    def _next(self, item: Item, *, attribute: str, before: int) -> dict[str, Any]:
        """Return the put on the condition that the number stands at ``before``; 0 is no item yet."""
        if before == 0:
            return self._table.put_of(item)
        names, values = {"#number": attribute}, {":before": {"N": str(before)}}
        return self._table.put_of(item, condition="#number = :before", names=names, values=values)

    async def _transact(self, puts: Sequence[dict[str, Any]]) -> bool:
        """Write all or nothing; return False where a condition did not hold or another write came between."""
        try:
            return set(await self._table.transact(puts)) == {Outcome.WRITTEN}
        except DynamoDbRefusal as refusal:
            raise RecordsUnavailableError(f"DynamoDB refused a write ({refusal.code}).") from refusal


def _partition(kind: DeskKind, item_id: str) -> str:
    return f"item#{kind.value}#{item_id}"


def _list_of(name: str) -> str:
    return f"{DeskKind.CASE.value}#{name}"


def _pointers(kind: DeskKind) -> str:
    return f"newest#{kind.value}"


def _revision_key(kind: DeskKind, item_id: str, revision: int) -> tuple[str, str]:
    return _partition(kind, item_id), f"revision#{revision:08d}"
