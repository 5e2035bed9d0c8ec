"""Tables in memory with DynamoDB's operations on them, so that afterwards every record can be found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from assistant.settings.deployed_names import PARTITION, SORT, TABLES
from benchmarks.load.dynamodb_expressions import Expression, Item

Request = Mapping[str, Any]
Key = tuple[str, str]
_INSERT = re.compile(r"""\s*INSERT\s+INTO\s+"?([\w.-]+)"?\s+VALUE\s*\{(.*)\}\s*$""", re.IGNORECASE)
_FIELD = re.compile(r"""\s*['"]([^'"]+)['"]\s*:\s*\?\s*,?""")
_INDEXES = {table.index.name: table.index for table in TABLES if table.index is not None}


class RefusedError(Exception):
    """DynamoDB refuses; the message is its error's code."""

    def __init__(self, code: str, **fields: Any) -> None:
        super().__init__(code)
        self.fields = fields


class Table:
    """Items by partition and sort key, and by the partition of each index that holds them."""

    def __init__(self) -> None:
        self._partitions: dict[str, dict[str, Item]] = {}
        self._indexes: dict[tuple[str, str], dict[Key, Item]] = {}
        self.count = 0

    def get(self, key: Key) -> Item | None:
        return self._partitions.get(key[0], {}).get(key[1])

    def put(self, item: Item) -> None:
        key = key_of(item)
        self.delete(key)
        self._partitions.setdefault(key[0], {})[key[1]] = item
        self.count += 1
        for place in _index_places(item):
            self._indexes.setdefault(place, {})[key] = item

    def delete(self, key: Key) -> None:
        old = self._partitions.get(key[0], {}).pop(key[1], None)
        if old is not None:
            self.count -= 1
            for place in _index_places(old):
                self._indexes[place].pop(key, None)

    def query(self, request: Request) -> list[Item]:
        """Return the items of a partition that the key condition lets through, in the order of their sort
        keys."""
        condition = Expression(request["KeyConditionExpression"], request)
        index = _INDEXES.get(request.get("IndexName", ""))
        sort = index.sort if index else SORT
        values = [value["S"] for value in request["ExpressionAttributeValues"].values() if "S" in value]
        found: dict[Key, Item] = {}
        for value in dict.fromkeys(values):  # one of them is the partition
            if index is not None:
                found |= self._indexes.get((index.name, value), {})
            else:
                found |= {(value, sk): item for sk, item in self._partitions.get(value, {}).items()}
        kept = [item for item in found.values() if condition.holds(item)]
        return sorted(
            kept, key=lambda item: item[sort]["S"], reverse=request.get("ScanIndexForward") is False
        )


class Tables:
    """All tables of the account; one is made when it is first named."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self._done: set[str] = set()
        self._operations: Mapping[str, Callable[[Request], dict[str, Any]]] = {
            "PutItem": self._put,
            "GetItem": self._get,
            "UpdateItem": self._update,
            "DeleteItem": self._delete,
            "Query": self._query,
            "BatchGetItem": self._batch_get,
            "BatchWriteItem": self._batch_write,
            "TransactWriteItems": self._transact,
            "ExecuteStatement": self._execute,
            "BatchExecuteStatement": self._batch_execute,
            "DescribeTable": self._describe,
        }

    def apply(self, operation: str, request: Request) -> dict[str, Any]:
        """Return the response's fields. Raises RefusedError, ExpressionError."""
        if operation not in self._operations:
            raise RefusedError("UnknownOperationException")
        return self._operations[operation](request)

    def _table(self, name: str) -> Table:
        return self.tables.setdefault(name.rpartition("/")[2], Table())

    def _put(self, request: Request) -> dict[str, Any]:
        table, item = self._table(request["TableName"]), request["Item"]
        _check(request, table.get(key_of(item)))
        table.put(item)
        return {}

    def _get(self, request: Request) -> dict[str, Any]:
        item = self._table(request["TableName"]).get(key_of(request["Key"]))
        return {} if item is None else {"Item": item}

    def _update(self, request: Request) -> dict[str, Any]:
        table, key = self._table(request["TableName"]), key_of(request["Key"])
        present = table.get(key)
        _check(request, present)
        changed = Expression(request["UpdateExpression"], request).update(present or dict(request["Key"]))
        table.put(changed)
        return {"Attributes": changed} if request.get("ReturnValues", "NONE") != "NONE" else {}

    def _delete(self, request: Request) -> dict[str, Any]:
        table, key = self._table(request["TableName"]), key_of(request["Key"])
        _check(request, table.get(key))
        table.delete(key)
        return {}

    def _query(self, request: Request) -> dict[str, Any]:
        found = self._table(request["TableName"]).query(request)
        start = request.get("ExclusiveStartKey")
        if start is not None:
            places = [key_of(item) for item in found]
            found = found[places.index(key_of(start)) + 1 :] if key_of(start) in places else []
        page = found[: request.get("Limit", len(found))]
        more = {"LastEvaluatedKey": _key_attributes(page[-1])} if len(page) < len(found) and page else {}
        return {"Items": page, "Count": len(page), "ScannedCount": len(page)} | more

    def _batch_get(self, request: Request) -> dict[str, Any]:
        found: dict[str, list[Item]] = {}
        for name, wanted in request["RequestItems"].items():
            items = [self._table(name).get(key_of(key)) for key in wanted["Keys"]]
            found[name] = [item for item in items if item is not None]
        return {"Responses": found, "UnprocessedKeys": {}}

    def _batch_write(self, request: Request) -> dict[str, Any]:
        for name, writes in request["RequestItems"].items():
            for write in writes:
                if "PutRequest" in write:
                    self._table(name).put(write["PutRequest"]["Item"])
                else:
                    self._table(name).delete(key_of(write["DeleteRequest"]["Key"]))
        return {"UnprocessedItems": {}}

    def _transact(self, request: Request) -> dict[str, Any]:
        """Put all items or none. The same token twice is one transaction."""
        token = request.get("ClientRequestToken", "")
        if token in self._done:
            return {}
        puts = [action["Put"] for action in request["TransactItems"]]
        keys = [key_of(put["Item"]) for put in puts]
        if len(set(keys)) < len(keys):
            raise RefusedError("ValidationException")
        present = [self._table(put["TableName"]).get(key) for put, key in zip(puts, keys, strict=True)]
        allowed = [_holds(put, item) for put, item in zip(puts, present, strict=True)]
        if not all(allowed):
            reasons = [{"Code": "None" if good else "ConditionalCheckFailed"} for good in allowed]
            raise RefusedError("TransactionCanceledException", CancellationReasons=reasons)
        for put in puts:
            self._table(put["TableName"]).put(put["Item"])
        if token:
            self._done.add(token)
        return {}

    def _execute(self, request: Request) -> dict[str, Any]:
        if not self._insert(request):
            raise RefusedError("DuplicateItemException")
        return {"Items": []}

    def _batch_execute(self, request: Request) -> dict[str, Any]:
        duplicate = {"Error": {"Code": "DuplicateItem", "Message": "Duplicate primary key exists in table"}}
        return {
            "Responses": [{} if self._insert(statement) else duplicate for statement in request["Statements"]]
        }

    def _insert(self, statement: Request) -> bool:
        """Insert an item by PartiQL; say whether there was none."""
        found = _INSERT.match(statement["Statement"])
        if found is None:
            raise RefusedError("ValidationException")
        names = _FIELD.findall(found[2])
        item: Item = dict(zip(names, statement["Parameters"], strict=True))
        table = self._table(found[1])
        if table.get(key_of(item)) is not None:
            return False
        table.put(item)
        return True

    def _describe(self, request: Request) -> dict[str, Any]:
        return {"Table": {"TableName": request["TableName"], "TableStatus": "ACTIVE"}}


def key_of(item: Item) -> Key:
    return item[PARTITION]["S"], item[SORT]["S"]


def _key_attributes(item: Item) -> Item:
    return {name: item[name] for name in (PARTITION, SORT)}


def _index_places(item: Item) -> list[tuple[str, str]]:
    """Return the index partitions that hold an item: those whose two attributes it has."""
    return [
        (name, item[index.partition]["S"])
        for name, index in _INDEXES.items()
        if index.partition in item and index.sort in item
    ]


def _check(request: Request, present: Item | None) -> None:
    if not _holds(request, present):
        raise RefusedError("ConditionalCheckFailedException")


def _holds(request: Request, present: Item | None) -> bool:
    condition = request.get("ConditionExpression")
    return condition is None or Expression(condition, request).holds(present or {})
