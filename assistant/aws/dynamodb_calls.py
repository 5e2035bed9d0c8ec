"""DynamoDB's JSON protocol, lean: sign, send, parse. For the calls that every answer makes.

botocore's serializers, parsers, hooks and retry handlers cost several times what the call itself does
(docs/decisions/0010-lean-dynamodb-calls.md has the figures); its credential chain and its choice of endpoint
are kept: both come from the aiobotocore client that this stands on.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import Mapping
from typing import Any, cast

import aiohttp
import orjson

from assistant.aws.signed_posts import POST_ERRORS, SignedPosts
from assistant.domain.errors import DependencyError

_ATTEMPTS = 3
_FIRST_WAIT_S = 0.05
"""Before the second attempt at most this, before the third twice it, and so on: half of it is random."""
_LONGEST_WAIT_S = 1.0
_ATTEMPT_TIMEOUT_S = 1.5
"""DynamoDB answers in milliseconds; all attempts together stay below 5 s."""
_KEEP_ALIVE_S = 30.0
_CONNECTIONS = 64
_CONTENT_TYPE = "application/x-amz-json-1.0"

Item = dict[str, dict[str, Any]]
"""Attributes with their types, as DynamoDB's JSON has them: ``{"pk": {"S": "…"}, "n": {"N": "7"}}``."""

THROTTLING = frozenset(
    {
        "ProvisionedThroughputExceeded",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ThrottlingError",
        "ThrottlingException",
    }
)
TRANSIENT = (
    THROTTLING
    | {"InternalServerError", "InternalServerErrorException", "ServiceUnavailable"}
    | {"TransactionInProgressException"}
)


class DynamoDbRefusal(Exception):
    """DynamoDB refused a call. ``code`` is its own, without the name space."""

    def __init__(self, code: str, *, fields: Mapping[str, Any], server_date: str | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.fields = fields
        """The refusal's own, e.g. ``CancellationReasons``."""
        self.server_date = server_date
        """When it was refused by the server's clock, as HTTP writes dates."""


class _Unanswered(Exception):
    """No usable answer came: what was asked may have been done or not."""


class DynamoDbCalls:
    """Calls to the endpoint, and with the credentials, of an aiobotocore DynamoDB client.

    Every call must be safe to repeat: it is made up to three times when DynamoDB throttles, fails or
    does not answer. Errors: ``unavailable`` then, DynamoDbRefusal for every other refusal.
    """

    def __init__(
        self,
        client: Any,
        *,
        unavailable: type[DependencyError],
        attempt_timeout_s: float = _ATTEMPT_TIMEOUT_S,
    ) -> None:
        self._unavailable = unavailable
        self._posts = SignedPosts(
            client,
            connections=_CONNECTIONS,
            keep_alive_s=_KEEP_ALIVE_S,
            timeout=aiohttp.ClientTimeout(total=attempt_timeout_s),
        )

    async def close(self) -> None:
        await self._posts.close()

    async def call(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response's fields. ``operation`` is DynamoDB's own name, e.g. ``GetItem``."""
        body = orjson.dumps(request)
        reason = ""
        for attempt in range(_ATTEMPTS):
            if attempt:
                await back_off(attempt)
            try:
                return await self._attempt(operation, body)
            except _Unanswered as error:
                reason = str(error)
            except DynamoDbRefusal as refusal:
                if refusal.code not in TRANSIENT and not self._posts.learn_skew(
                    refusal.code, refusal.server_date
                ):
                    raise
                reason = refusal.code
        raise self._unavailable(f"DynamoDB did not do {operation} ({reason}). Try again.")

    async def ask(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return the response of a call that has no condition: every refusal of it is ``unavailable``."""
        try:
            return await self.call(operation, request)
        except DynamoDbRefusal as refusal:
            raise self._unavailable(f"DynamoDB refused {operation} ({refusal.code}).") from refusal

    async def _attempt(self, operation: str, body: bytes) -> dict[str, Any]:
        headers = {"Content-Type": _CONTENT_TYPE, "X-Amz-Target": f"DynamoDB_20120810.{operation}"}
        try:
            async with await self._posts.send("/", body=body, headers=headers) as response:
                content = await response.read()
        except POST_ERRORS as error:
            raise _Unanswered(type(error).__name__) from error
        return _parse(response, content)


async def back_off(attempt: int) -> None:
    """Wait before attempt 1, 2, … of those that follow the first."""
    longest_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1))
    await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)


def _parse(response: aiohttp.ClientResponse, content: bytes) -> dict[str, Any]:
    checksum = response.headers.get("x-amz-crc32")
    if checksum is not None and checksum != str(zlib.crc32(content)):
        raise _Unanswered("wrong checksum")
    fields = _json_object(content)
    if fields is None:
        raise _Unanswered(f"status {response.status}, no JSON object")
    if response.status == 200:
        return fields
    code = str(fields.get("__type", "")).rpartition("#")[2]
    if response.status >= 500 or not code:
        raise _Unanswered(f"status {response.status}")
    raise DynamoDbRefusal(code, fields=fields, server_date=response.headers.get("Date"))


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        fields: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", fields) if isinstance(fields, dict) else None
