"""Whole reads: every page of a query, every key of a batch."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Any

from assistant.aws.dynamodb_bodies import load_body, part_names
from assistant.aws.dynamodb_calls import DynamoDbCalls, Item, back_off
from assistant.domain.errors import DependencyError

Key = tuple[str, str]
"""Values of ``pk`` and ``sk``."""
_MOST_KEYS = 100
_ATTEMPTS_WITHOUT_PROGRESS = 4


class DynamoDbTable:
    """Reading one table, always consistently."""

    def __init__(self, calls: DynamoDbCalls, *, name: str, unavailable: type[DependencyError]) -> None:
        self._calls = calls
        self._name = name
        self._unavailable = unavailable

    async def get(self, key: Key) -> Item | None:
        request = {"TableName": self._name, "Key": typed_key(key), "ConsistentRead": True}
        return (await self._calls.ask("GetItem", request)).get("Item")

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Return the items that are there. Raises ``unavailable`` when DynamoDB leaves some out for long."""
        distinct = list(dict.fromkeys(keys))
        chunks = [distinct[start : start + _MOST_KEYS] for start in range(0, len(distinct), _MOST_KEYS)]
        found: dict[Key, Item] = {}
        for items in await asyncio.gather(*(self._get_chunk(chunk) for chunk in chunks)):
            found |= {(item["pk"]["S"], item["sk"]["S"]): item for item in items}
        return found

    async def query(self, request: Mapping[str, Any], *, limit: int | None = None) -> AsyncGenerator[Item]:
        """Yield the items of a query over all its pages, ``limit`` at most.

        ``request`` has what DynamoDB's Query takes, without the table.
        """
        asked: dict[str, Any] = {"TableName": self._name, **request}
        if "IndexName" not in asked:
            asked["ConsistentRead"] = True
        while limit is None or limit > 0:
            if limit is not None:
                asked["Limit"] = limit
            page = await self._calls.ask("Query", asked)
            items: list[Item] = page.get("Items", [])
            for item in items:
                yield item
            if "LastEvaluatedKey" not in page:
                return
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]
            limit = None if limit is None else limit - len(items)

    async def count(self, request: Mapping[str, Any]) -> int:
        """Return how many items a query has, over all its pages."""
        asked: dict[str, Any] = {"TableName": self._name, "Select": "COUNT", **request}
        counted = 0
        while True:
            page = await self._calls.ask("Query", asked)
            counted += int(page["Count"])
            if "LastEvaluatedKey" not in page:
                return counted
            asked["ExclusiveStartKey"] = page["LastEvaluatedKey"]

    async def bodies(self, items: Sequence[Item]) -> list[bytes]:
        """Return the bodies of items of this table, parts fetched."""
        keys = [[(item["pk"]["S"], name) for name in part_names(item)] for item in items]
        parts = await self.get_many([key for of_item in keys for key in of_item])
        try:
            return [
                load_body(item, [parts[key] for key in of_item])
                for item, of_item in zip(items, keys, strict=True)
            ]
        except KeyError:
            raise self._unavailable("A part of a stored body is missing.") from None

    async def _get_chunk(self, keys: Sequence[Key]) -> list[Item]:
        wanted: list[Item] = [typed_key(key) for key in keys]
        items: list[Item] = []
        fruitless = 0
        while wanted and fruitless < _ATTEMPTS_WITHOUT_PROGRESS:
            if fruitless:
                await back_off(fruitless)
            request = {"RequestItems": {self._name: {"Keys": wanted, "ConsistentRead": True}}}
            response = await self._calls.ask("BatchGetItem", request)
            items += response.get("Responses", {}).get(self._name, [])
            left: list[Item] = response.get("UnprocessedKeys", {}).get(self._name, {}).get("Keys", [])
            fruitless = fruitless + 1 if len(left) == len(wanted) else 0
            wanted = left
        if wanted:
            raise self._unavailable("DynamoDB throttles reads. Try again.")
        return items


def typed_key(key: Key) -> Item:
    return {"pk": {"S": key[0]}, "sk": {"S": key[1]}}


def partition_request(partition: str, *, prefix: str) -> dict[str, Any]:
    """Return the query for the items of a partition whose sort key begins with ``prefix``."""
    return {
        "KeyConditionExpression": "pk = :pk AND begins_with(sk, :prefix)",
        "ExpressionAttributeValues": {":pk": {"S": partition}, ":prefix": {"S": prefix}},
    }
