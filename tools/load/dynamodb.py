"""A stand-in for DynamoDB that knows the calls that an answer makes, and no others.

Tables are in memory. Another operation, condition or field raises UnknownCallError: then this module must
learn it, or the adapter is wrong. Why moto, which serves the tests, does not serve the load:
docs/decisions/0066-one-load-generator.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from assistant.aws.dynamodb import Item, Key, key_of

_FREE = "attribute_not_exists(pk)"
_COUNTED = "ADD readers :value SET expires_at = :expiry"
_KEY_CONDITIONS: Mapping[str, Callable[[Item, Mapping[str, str]], bool]] = {
    "pk = :pk": lambda _, __: True,
    "pk = :pk AND begins_with(sk, :prefix)": lambda item, values: item["sk"]["S"].startswith(
        values[":prefix"]
    ),
    "pk = :pk AND sk BETWEEN :first AND :head": lambda item, values: (
        values[":first"] <= item["sk"]["S"] <= values[":head"]
    ),
    "#state = :state AND sk BETWEEN :after AND :until": lambda item, values: (
        item["state"]["S"] == values[":state"] and values[":after"] <= item["sk"]["S"] <= values[":until"]
    ),
}
_QUERY_FIELDS = {
    *("TableName", "KeyConditionExpression", "ExpressionAttributeNames", "ExpressionAttributeValues"),
    *("IndexName", "Select", "ConsistentRead"),
}
_PUT_FIELDS = {"TableName", "Item", "ConditionExpression"}
Body = Mapping[str, Any]


class UnknownCallError(Exception):
    """A call that this stand-in does not know."""


class RefusedError(Exception):
    """DynamoDB refuses the call; the message is its error's code, ``fields`` the rest of its body."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code)
        self.fields = fields


class Tables:
    """All tables of the account; one is made when it is first named."""

    def __init__(self) -> None:
        self.items: dict[str, dict[str, dict[str, Item]]] = defaultdict(lambda: defaultdict(dict))
        """By table, partition key and sort key."""
        self._done: set[str] = set()
        self._operations: Mapping[str, Callable[[Body], Body]] = {
            "PutItem": self._put,
            "GetItem": lambda call: _found("Item", self._get(call["TableName"], call["Key"])),
            "UpdateItem": self._count,
            "Query": self._query,
            "BatchGetItem": self._batch_get,
            "BatchWriteItem": self._batch_write,
            "TransactWriteItems": self._transact,
        }

    def apply(self, operation: str, call: Body) -> Body:
        """Return the response's fields. Raises RefusedError, UnknownCallError."""
        if operation not in self._operations:
            raise UnknownCallError(operation)
        return self._operations[operation](call)

    def count(self, table: str, *, sort: str) -> int:
        """Return how many items of a table have this sort key."""
        return sum(sort in partition for partition in self.items[table].values())

    def _get(self, table: str, key: Item) -> Item | None:
        partition, sort = key_of(key)
        return self.items[table][partition].get(sort)

    def _keep(self, table: str, item: Item) -> None:
        partition, sort = key_of(item)
        self.items[table][partition][sort] = item

    def _may_put(self, put: Body) -> bool:
        _know(put, _PUT_FIELDS)
        if put.get("ConditionExpression", _FREE) != _FREE:
            raise UnknownCallError(put["ConditionExpression"])
        return "ConditionExpression" not in put or self._get(put["TableName"], put["Item"]) is None

    def _put(self, call: Body) -> Body:
        if not self._may_put(call):
            raise RefusedError("ConditionalCheckFailedException")
        self._keep(call["TableName"], call["Item"])
        return {}

    def _count(self, call: Body) -> Body:
        if call["UpdateExpression"] != _COUNTED:
            raise UnknownCallError(call["UpdateExpression"])
        values = call["ExpressionAttributeValues"]
        item = self._get(call["TableName"], call["Key"]) or {}
        readers = int(item.get("readers", {"N": "0"})["N"]) + int(values[":value"]["N"])
        changed = {"readers": {"N": str(readers)}, "expires_at": values[":expiry"]}
        self._keep(call["TableName"], {**call["Key"], **item, **changed})
        return {}

    def _query(self, call: Body) -> Body:
        _know(call, _QUERY_FIELDS)
        if (condition := call["KeyConditionExpression"]) not in _KEY_CONDITIONS:
            raise UnknownCallError(condition)
        values = {name: value["S"] for name, value in call["ExpressionAttributeValues"].items()}
        table, matches = self.items[call["TableName"]], _KEY_CONDITIONS[condition]
        partitions = [table[values[":pk"]]] if ":pk" in values else [*table.values()]
        items = [item for partition in partitions for item in partition.values() if matches(item, values)]
        return {"Items": sorted(items, key=key_of), "Count": len(items)}

    def _batch_get(self, call: Body) -> Body:
        responses: dict[str, list[Item]] = {}
        for table, wanted in call["RequestItems"].items():
            items = [self._get(table, key) for key in wanted["Keys"]]
            responses[table] = [item for item in items if item is not None]
        return {"Responses": responses, "UnprocessedKeys": {}}

    def _batch_write(self, call: Body) -> Body:
        for table, writes in call["RequestItems"].items():
            for write in writes:
                _know(write, {"PutRequest"})
                self._keep(table, write["PutRequest"]["Item"])
        return {"UnprocessedItems": {}}

    def _transact(self, call: Body) -> Body:
        """Put all items or none. The same token twice is one transaction."""
        if call["ClientRequestToken"] in self._done:
            return {}
        puts: list[Body] = []
        for action in call["TransactItems"]:
            _know(action, {"Put"})
            puts.append(action["Put"])
        keys: list[Key] = [key_of(put["Item"]) for put in puts]
        if len(set(keys)) < len(keys):
            raise RefusedError("ValidationException")
        allowed = [self._may_put(put) for put in puts]
        if not all(allowed):
            reasons = [{"Code": "None" if may else "ConditionalCheckFailed"} for may in allowed]
            raise RefusedError("TransactionCanceledException", CancellationReasons=reasons)
        for put in puts:
            self._keep(put["TableName"], put["Item"])
        self._done.add(call["ClientRequestToken"])
        return {}


def _found(name: str, value: Item | None) -> Body:
    return {} if value is None else {name: value}


def _know(call: Body, fields: set[str]) -> None:
    if unknown := set(call) - fields:
        raise UnknownCallError(f"the fields {sorted(unknown)}")
