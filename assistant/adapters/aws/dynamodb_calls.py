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
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Protocol, cast

import aiohttp
import orjson

from assistant.adapters.aws.request_signing import RequestSigner
from assistant.domain.errors import DependencyError

_ATTEMPTS = 3
_FIRST_WAIT_S = 0.05
"""Before the second attempt at most this, before the third twice it, and so on: half of it is random."""
_LONGEST_WAIT_S = 1.0
_ATTEMPT_TIMEOUT_S = 1.5
"""DynamoDB answers in milliseconds; all attempts together stay below 5 s."""
_KEEP_ALIVE_S = 30.0
_CONNECTIONS = 64
_LEAST_SKEW = timedelta(seconds=30)
"""A smaller difference to the server's clock cannot be why a signature was refused."""

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
_SKEWED = frozenset({"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"})


class _Credentials(Protocol):
    access_key: str
    secret_key: str
    token: str | None


class DynamoDbRefusal(Exception):
    """DynamoDB refused a call. ``code`` is its own, without the name space."""

    def __init__(self, code: str, *, fields: Mapping[str, Any], server_date: datetime | None = None) -> None:
        super().__init__(code)
        self.code = code
        self.fields = fields
        """The refusal's own, e.g. ``CancellationReasons``."""
        self.server_date = server_date


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
        self._client = client
        self._timeout = aiohttp.ClientTimeout(total=attempt_timeout_s)
        self._unavailable = unavailable
        self._url = str(client.meta.endpoint_url).rstrip("/") + "/"
        self._signer = RequestSigner(url=self._url, region=str(client.meta.region_name), service="dynamodb")
        self._skew = timedelta()
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

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
                if refusal.code not in TRANSIENT and not self._learned_skew(refusal):
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
        credentials: _Credentials = await _frozen_credentials(self._client)
        headers = self._signer.headers(
            target=f"DynamoDB_20120810.{operation}",
            body=body,
            at=datetime.now(UTC) + self._skew,
            access_key=credentials.access_key,
            secret_key=credentials.secret_key,
            token=credentials.token,
        )
        try:
            async with self._open_session().post(self._url, data=body, headers=headers) as response:
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise _Unanswered(type(error).__name__) from error
        return _parse(response, content)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=_KEEP_ALIVE_S)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=self._timeout,
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session

    def _learned_skew(self, refusal: DynamoDbRefusal) -> bool:
        """Take over the server's clock when ours is why a signature was refused."""
        if refusal.code not in _SKEWED or refusal.server_date is None:
            return False
        skew = refusal.server_date - datetime.now(UTC)
        if abs(skew - self._skew) < _LEAST_SKEW:
            return False
        self._skew = skew
        return True


async def back_off(attempt: int) -> None:
    """Wait before attempt 1, 2, … of those that follow the first."""
    longest_s = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** (attempt - 1))
    await asyncio.sleep(longest_s * random.uniform(0.5, 1.0))  # noqa: S311 (no secret)


async def _frozen_credentials(client: Any) -> Any:
    """Return what signs now; a task role's credentials are refreshed by botocore when they near their end."""
    credentials = client._request_signer._credentials
    return await credentials.get_frozen_credentials()


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
    raise DynamoDbRefusal(code, fields=fields, server_date=_date(response.headers.get("Date")))


def _json_object(content: bytes) -> dict[str, Any] | None:
    try:
        fields: Any = orjson.loads(content)
    except orjson.JSONDecodeError:
        return None
    return cast("dict[str, Any]", fields) if isinstance(fields, dict) else None


def _date(header: str | None) -> datetime | None:
    try:
        return parsedate_to_datetime(header) if header else None
    except ValueError:
        return None
