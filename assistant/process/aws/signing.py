"""Requests that botocore signs and aiohttp sends: calls of DynamoDB and SageMaker, and reads of live systems.

Credentials and endpoint are those of an aiobotocore client: its default chain finds them and renews a task
role's credentials. Sending without aiobotocore's serializers, hooks and parsers saves 6 ms of CPU or more
in DynamoDB's calls of each answer (docs/decisions/0010-lean-dynamodb-calls.md).
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, NoCredentialsError
from yarl import URL

from assistant.domain.errors import DependencyError

POST_ERRORS = (aiohttp.ClientError, BotoCoreError, TimeoutError, OSError)
"""Errors of ``send`` and of reading its response."""
_CONTENT_HASH = "X-Amz-Content-SHA256"
_LEAST_SKEW = timedelta(seconds=30)
"""A smaller difference to the server's clock cannot be the reason for a refused signature."""
_SKEWED = frozenset({"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"})


class _Signer(SigV4Auth):
    """botocore's signer, by a clock that differs from ours by ``skew``."""

    skew = timedelta()

    def _modify_request_before_signing(self, request: Any) -> None:
        request.context["timestamp"] = (datetime.now(UTC) + self.skew).strftime(SIGV4_TIMESTAMP)
        super()._modify_request_before_signing(request)


async def _sign(
    client: Any, request: AWSRequest, *, service: str, region: str, skew: timedelta = timedelta()
) -> dict[str, str]:
    """Return all headers of the signed request, except Host. Raises BotoCoreError without credentials."""
    credentials = client._request_signer._credentials
    if credentials is None:
        raise NoCredentialsError
    signer = _Signer(await credentials.get_frozen_credentials(), service, region)
    signer.skew = skew
    signer.add_auth(request)
    return dict(request.headers.items())


class GetSigner:
    """Signs GET requests to a company's own systems with the credentials of an aiobotocore client.

    On ECS they are the task's role.
    """

    def __init__(self, client: Any, *, service: str, region: str) -> None:
        self._client = client
        self._service = service
        self._region = region

    async def __call__(self, url: str, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Return all headers of the signed request. Raises DependencyError without credentials."""
        # VPC Lattice signs no payload, and a GET has none.
        request = AWSRequest("GET", url, headers={**headers, _CONTENT_HASH: "UNSIGNED-PAYLOAD"})
        try:
            return await _sign(self._client, request, service=self._service, region=self._region)
        except BotoCoreError as error:
            raise DependencyError(f"no AWS credentials ({type(error).__name__})") from None


class SignedPosts:
    """POST requests to one AWS service: a session of connections, and a clock that is set by the service."""

    def __init__(
        self, client: Any, *, connections: int, keep_alive_s: float, timeout: aiohttp.ClientTimeout
    ) -> None:
        """``client`` is an aiobotocore client; idle connections are closed after ``keep_alive_s``."""
        self._client = client
        self._connections = connections
        self._keep_alive_s = keep_alive_s
        self._timeout = timeout
        endpoint = urlsplit(str(client.meta.endpoint_url))
        self._base = f"{endpoint.scheme}://{endpoint.netloc}{endpoint.path.rstrip('/')}"
        self._service = str(client.meta.service_model.signing_name)
        self._region = str(client.meta.region_name)
        self._skew = timedelta()
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def close(self) -> None:
        """Close the connections. A later ``send`` fails."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, path: str, *, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Return the response when its head has arrived; the caller reads or closes it.

        ``path`` is percent-encoded. A request is never retried; no redirect is followed. Raises POST_ERRORS.
        """
        url = self._base + path
        hashed = {_CONTENT_HASH: hashlib.sha256(body).hexdigest()}  # else botocore prepares the whole request
        request = AWSRequest("POST", url, headers={**headers, **hashed})
        signed = await _sign(
            self._client, request, service=self._service, region=self._region, skew=self._skew
        )
        as_signed = URL(url, encoded=True)  # else a %3A goes out as a colon, and the signature is refused
        return await self._open_session().post(as_signed, data=body, headers=signed, allow_redirects=False)

    def learn_skew(self, code: str, date: str | None) -> bool:
        """Adopt the server's clock when ours is the reason for a refused signature.

        ``code`` is the code of the error, ``date`` the header of its response. Return True when the request
        may be sent again; the server did nothing of it.
        """
        if code not in _SKEWED or (server_date := parsed_date(date)) is None:
            return False
        skew = server_date - datetime.now(UTC)
        if abs(skew - self._skew) < _LEAST_SKEW:
            return False
        self._skew = skew
        return True

    def _open_session(self) -> aiohttp.ClientSession:
        if self._is_closed:  # a late call must not open a session that is never closed
            raise aiohttp.ClientConnectionError("closed")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=self._connections, keepalive_timeout=self._keep_alive_s),
                timeout=self._timeout,
                auto_decompress=False,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding"),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return self._session


def parsed_date(date: str | None) -> datetime | None:
    """Return the time of a ``Date`` header; None where there is none."""
    try:
        moment = parsedate_to_datetime(date) if date else None
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment is not None and moment.tzinfo is None else moment
