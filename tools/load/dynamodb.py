"""A stand-in for DynamoDB: as much of its expressions, operations and JSON protocol as the adapters use.

Tables are in memory, so that afterwards every record can be found; each answer comes after 5 ms.
"""

from __future__ import annotations

import operator
import re
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from assistant.settings.deployed_names import PARTITION, SORT, TABLES
from tools.load.http_server import HttpConnection, Request, response
from tools.load.workload import Pace

Attribute = dict[str, Any]
"""A typed value: ``{"S": "…"}``, ``{"N": "7"}``."""
Item = dict[str, Attribute]
_TOKEN = re.compile(r"\s*(:?#?[\w.\-]+|<>|<=|>=|[=<>(),+\-])")
_CLAUSES = ("SET", "REMOVE", "ADD", "DELETE")


class ExpressionError(Exception):
    """An expression that this stand-in does not understand: it must learn it, or the adapter is wrong."""


def comparable(attribute: Attribute | None) -> Any:
    """Return a value that sorts as DynamoDB sorts it; None for an absent attribute."""
    if attribute is None:
        return None
    (kind, value), *_ = attribute.items()
    return float(value) if kind == "N" else value


class Expression:
    """One expression with the names and values of its request, read against an item."""

    def __init__(self, text: str, request: Mapping[str, Any]) -> None:
        self._tokens = _tokens(text)
        self._at = 0
        self._names: Mapping[str, str] = request.get("ExpressionAttributeNames") or {}
        self._values: Mapping[str, Attribute] = request.get("ExpressionAttributeValues") or {}
        self._item: Item = {}

    def holds(self, item: Item) -> bool:
        """Say whether a condition holds of the item; an absent item is empty."""
        self._item, self._at = item, 0
        found = self._either()
        if self._next():
            raise ExpressionError(f"{self._next()} after the end")
        return found

    def update(self, item: Item) -> Item:
        """Return the item as an update expression leaves it."""
        self._item, self._at = item, 0
        changed = dict(item)
        while self._at < len(self._tokens):
            clause = self._take().upper()
            if clause not in _CLAUSES:
                raise ExpressionError(f"an update clause {clause}")
            self._clause(clause, changed)
            while self._takes(","):
                self._clause(clause, changed)
        return changed

    def _clause(self, clause: str, changed: Item) -> None:
        name = self._name(self._take())
        if clause == "SET":
            self._expect("=")
            changed[name] = self._sum()
        elif clause == "REMOVE":
            changed.pop(name, None)
        elif clause == "ADD":
            changed[name] = _added(changed.get(name), self._operand())
        else:
            raise ExpressionError("DELETE from a set")

    def _either(self) -> bool:
        found = [self._both()]
        while self._takes("OR"):
            found.append(self._both())
        return any(found)

    def _both(self) -> bool:
        found = [self._one()]
        while self._takes("AND"):
            found.append(self._one())
        return all(found)

    def _one(self) -> bool:
        if self._takes("NOT"):
            return not self._one()
        if self._takes("("):
            found = self._either()
            self._expect(")")
            return found
        return self._function(self._take()) if self._next() in _FUNCTIONS else self._comparison()

    def _function(self, name: str) -> bool:
        self._expect("(")
        subject = self._item.get(self._name(self._take()))
        other = self._operand() if self._takes(",") else None
        self._expect(")")
        return _FUNCTIONS[name](subject, other)

    def _comparison(self) -> bool:
        left, compared = comparable(self._maybe()), self._take()
        if compared.upper() == "BETWEEN":
            low = comparable(self._operand())
            self._expect("AND")
            high = comparable(self._operand())
            return left is not None and low <= left <= high
        right = comparable(self._maybe())
        if compared not in _COMPARISONS:
            raise ExpressionError(f"a comparison {compared}")
        if left is None or right is None:
            return compared == "<>" and left is not right
        return _COMPARISONS[compared](left, right)

    def _sum(self) -> Attribute:
        value = self._operand()
        while self._next() in ("+", "-"):
            sign = {"+": 1, "-": -1}[self._take()]
            value = _added(value, self._operand(), sign=sign)
        return value

    def _maybe(self) -> Attribute | None:
        """Return an operand, None when it is an attribute that the item does not have."""
        token = self._take()
        return self._values[token] if token.startswith(":") else self._item.get(self._name(token))

    def _operand(self) -> Attribute:
        if self._takes("IF_NOT_EXISTS"):
            self._expect("(")
            present = self._maybe()
            self._expect(",")
            otherwise = self._operand()
            self._expect(")")
            return otherwise if present is None else present
        found = self._maybe()
        if found is None:
            raise ExpressionError("an attribute that the item does not have")
        return found

    def _name(self, token: str) -> str:
        return self._names[token] if token.startswith("#") else token

    def _next(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _takes(self, word: str) -> bool:
        """Take the next token if it is the word, in capitals; say whether it was."""
        found = self._next().upper() == word
        self._at += found
        return found

    def _take(self) -> str:
        self._at += 1
        if self._at > len(self._tokens):
            raise ExpressionError("an expression without its end")
        return self._tokens[self._at - 1]

    def _expect(self, token: str) -> None:
        if self._take().upper() != token:
            raise ExpressionError(f"{self._tokens[self._at - 1]} where {token} was expected")


def _tokens(text: str) -> list[str]:
    found = _TOKEN.findall(text)
    if "".join(found) != re.sub(r"\s+", "", text):
        raise ExpressionError(f"the expression {text!r}")
    return found


def _added(present: Attribute | None, more: Attribute, *, sign: int = 1) -> Attribute:
    if "N" not in more:
        raise ExpressionError("adding what is no number")
    total = float(present["N"] if present else 0) + sign * float(more["N"])
    return {"N": str(int(total) if total.is_integer() else total)}


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_FUNCTIONS: Mapping[str, Callable[[Attribute | None, Attribute | None], bool]] = {
    "attribute_exists": lambda subject, _: subject is not None,
    "attribute_not_exists": lambda subject, _: subject is None,
    "begins_with": lambda subject, start: str(comparable(subject) or "").startswith(str(comparable(start))),
    "contains": lambda subject, part: comparable(part) in (comparable(subject) or ""),
}


# --- tables in memory -----------------------------------------------------------------------------------


Body = Mapping[str, Any]
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

    def query(self, request: Body) -> list[Item]:
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
        backwards = request.get("ScanIndexForward") is False
        return sorted(kept, key=lambda item: item[sort]["S"], reverse=backwards)


class Tables:
    """All tables of the account; one is made when it is first named."""

    def __init__(self) -> None:
        self.tables: dict[str, Table] = {}
        self._done: set[str] = set()
        self._operations: Mapping[str, Callable[[Body], dict[str, Any]]] = {
            "PutItem": self._put,
            "GetItem": self._get,
            "UpdateItem": self._update,
            "DeleteItem": self._delete,
            "Query": self._query,
            "BatchGetItem": self._batch_get,
            "BatchWriteItem": self._batch_write,
            "TransactWriteItems": self._transact,
            "BatchExecuteStatement": self._batch_execute,
            "DescribeTable": self._describe,
        }

    def apply(self, operation: str, request: Body) -> dict[str, Any]:
        """Return the response's fields. Raises RefusedError, ExpressionError."""
        if operation not in self._operations:
            raise RefusedError("UnknownOperationException")
        return self._operations[operation](request)

    def _table(self, name: str) -> Table:
        return self.tables.setdefault(name.rpartition("/")[2], Table())

    def _put(self, request: Body) -> dict[str, Any]:
        table, item = self._table(request["TableName"]), request["Item"]
        _check(request, table.get(key_of(item)))
        table.put(item)
        return {}

    def _get(self, request: Body) -> dict[str, Any]:
        item = self._table(request["TableName"]).get(key_of(request["Key"]))
        return {} if item is None else {"Item": item}

    def _update(self, request: Body) -> dict[str, Any]:
        table, key = self._table(request["TableName"]), key_of(request["Key"])
        present = table.get(key)
        _check(request, present)
        changed = Expression(request["UpdateExpression"], request).update(present or dict(request["Key"]))
        table.put(changed)
        return {"Attributes": changed} if request.get("ReturnValues", "NONE") != "NONE" else {}

    def _delete(self, request: Body) -> dict[str, Any]:
        table, key = self._table(request["TableName"]), key_of(request["Key"])
        _check(request, table.get(key))
        table.delete(key)
        return {}

    def _query(self, request: Body) -> dict[str, Any]:
        found = self._table(request["TableName"]).query(request)
        start = request.get("ExclusiveStartKey")
        if start is not None:
            places = [key_of(item) for item in found]
            found = found[places.index(key_of(start)) + 1 :] if key_of(start) in places else []
        page = found[: request.get("Limit", len(found))]
        more = {"LastEvaluatedKey": _key_attributes(page[-1])} if len(page) < len(found) and page else {}
        return {"Items": page, "Count": len(page), "ScannedCount": len(page)} | more

    def _batch_get(self, request: Body) -> dict[str, Any]:
        found: dict[str, list[Item]] = {}
        for name, wanted in request["RequestItems"].items():
            items = [self._table(name).get(key_of(key)) for key in wanted["Keys"]]
            found[name] = [item for item in items if item is not None]
        return {"Responses": found, "UnprocessedKeys": {}}

    def _batch_write(self, request: Body) -> dict[str, Any]:
        for name, writes in request["RequestItems"].items():
            for write in writes:
                if "PutRequest" in write:
                    self._table(name).put(write["PutRequest"]["Item"])
                else:
                    self._table(name).delete(key_of(write["DeleteRequest"]["Key"]))
        return {"UnprocessedItems": {}}

    def _transact(self, request: Body) -> dict[str, Any]:
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

    def _batch_execute(self, request: Body) -> dict[str, Any]:
        duplicate = {"Error": {"Code": "DuplicateItem", "Message": "Duplicate primary key exists in table"}}
        done = [{} if self._insert(statement) else duplicate for statement in request["Statements"]]
        return {"Responses": done}

    def _insert(self, statement: Body) -> bool:
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

    def _describe(self, request: Body) -> dict[str, Any]:
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


def _check(request: Body, present: Item | None) -> None:
    if not _holds(request, present):
        raise RefusedError("ConditionalCheckFailedException")


def _holds(request: Body, present: Item | None) -> bool:
    condition = request.get("ConditionExpression")
    return condition is None or Expression(condition, request).holds(present or {})


# --- the JSON protocol ----------------------------------------------------------------------------------


_KIND = "application/x-amz-json-1.0"
_NAMESPACE = "com.amazonaws.dynamodb.v20120810#"


class DynamoDbStandIn:
    """Does at once what is asked, and says so after the store's delay."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._tables = Tables()
        self.refused: Counter[str] = Counter()
        """Codes of refusals, and how often; what is misunderstood stands here with its reason."""

    def counts(self) -> dict[str, int]:
        """Return how many items each table holds."""
        return {name: table.count for name, table in self._tables.tables.items()}

    def answer(self, request: Request, connection: HttpConnection, *, operation: str) -> None:
        try:
            body, status = self._tables.apply(operation, orjson.loads(request.body)), "200 OK"
        except RefusedError as error:
            body, status = self._refusal(str(error)) | error.fields, "400 Bad Request"
        except (ExpressionError, KeyError, ValueError) as error:
            why = f"{operation}: {type(error).__name__}: {error}"
            self.refused[why] += 1
            body, status = self._refusal("ValidationException"), "400 Bad Request"
        content = orjson.dumps(body)
        checksum = f"x-amz-crc32: {zlib.crc32(content)}\r\n"
        answer = response(content, status=status, kind=_KIND, more=checksum)
        self._pace.later(self._pace.store_s, connection.send, answer)

    def _refusal(self, code: str) -> dict[str, Any]:
        self.refused[code] += 1
        return {"__type": f"{_NAMESPACE}{code}", "message": code}
