"""DynamoDB's JSON protocol over tables in memory, each answer after 5 ms."""

from __future__ import annotations

import zlib
from typing import Any

import orjson

from benchmarks.load.dynamodb_expressions import ExpressionError
from benchmarks.load.dynamodb_tables import RefusedError, Tables
from benchmarks.load.http_server import HttpConnection, Request, response
from benchmarks.load.pacing import Pace

_KIND = "application/x-amz-json-1.0"
_NAMESPACE = "com.amazonaws.dynamodb.v20120810#"


class DynamoDbStandIn:
    """Does at once what is asked, and says so after the store's delay."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._tables = Tables()
        self.refused: dict[str, int] = {}
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
            self.refused[why] = self.refused.get(why, 0) + 1
            body, status = self._refusal("ValidationException"), "400 Bad Request"
        content = orjson.dumps(body)
        checksum = f"x-amz-crc32: {zlib.crc32(content)}\r\n"
        self._pace.later(
            self._pace.store_s, connection.send, response(content, status=status, kind=_KIND, more=checksum)
        )

    def _refusal(self, code: str) -> dict[str, Any]:
        self.refused[code] = self.refused.get(code, 0) + 1
        return {"__type": f"{_NAMESPACE}{code}", "message": code}
