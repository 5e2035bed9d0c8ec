"""Signed POST requests to one AWS service: what the lean clients of DynamoDB and SageMaker share.

The credentials and the endpoint are those of an aiobotocore client: its default chain finds them, and it
renews a task role's credentials when they near their end. Sending is aiohttp's, the signature our own.
"""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from botocore.exceptions import BotoCoreError, NoCredentialsError

from assistant.aws.request_signing import RequestSigner, SigningKey

POST_ERRORS = (aiohttp.ClientError, BotoCoreError, TimeoutError, OSError)
"""What ``send`` raises, and reading what it returned."""
_LEAST_SKEW = timedelta(seconds=30)
"""A smaller difference to the server's clock cannot be why a signature was refused."""
_SKEWED = frozenset({"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"})


class SignedPosts:
    """One session of connections, and what signs for them."""

    def __init__(
        self, client: Any, *, connections: int, keep_alive_s: float, timeout: aiohttp.ClientTimeout
    ) -> None:
        """``client`` is an aiobotocore client; idle connections are closed after ``keep_alive_s``."""
        self._client = client
        self._connections = connections
        self._keep_alive_s = keep_alive_s
        self._timeout = timeout
        endpoint = urlsplit(str(client.meta.endpoint_url))
        self._origin = f"{endpoint.scheme}://{endpoint.netloc}"
        self._above = endpoint.path.rstrip("/")
        self._signer = RequestSigner(
            host=endpoint.netloc,
            region=str(client.meta.region_name),
            service=str(client.meta.service_model.signing_name),
        )
        self._skew = timedelta()
        self._session: aiohttp.ClientSession | None = None
        self._is_closed = False

    async def close(self) -> None:
        """Close the connections; whatever still wants to send fails."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, path: str, *, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Return the response once its head has come; the caller reads or closes it.

        ``path`` is percent-encoded. Nothing is sent twice, no redirect is followed. Raises POST_ERRORS.
        """
        path = self._above + path
        signed = self._signer.headers(
            path, headers=headers, body=body, at=datetime.now(UTC) + self._skew, key=await self._key()
        )
        return await self._open_session().post(
            self._origin + path, data=body, headers=signed, allow_redirects=False
        )

    def learn_skew(self, code: str, date: str | None) -> bool:
        """Take over the server's clock when ours is why a signature was refused.

        ``code`` is the refusal's, ``date`` the header of its response. True: what was refused may be sent
        again, and nothing of it was done.
        """
        if code not in _SKEWED or (server_date := _parsed(date)) is None:
            return False
        skew = server_date - datetime.now(UTC)
        if abs(skew - self._skew) < _LEAST_SKEW:
            return False
        self._skew = skew
        return True

    async def _key(self) -> SigningKey:
        credentials = self._client._request_signer._credentials
        if credentials is None:
            raise NoCredentialsError
        frozen: Any = await credentials.get_frozen_credentials()
        return SigningKey(frozen.access_key, frozen.secret_key, frozen.token)

    def _open_session(self) -> aiohttp.ClientSession:
        if self._is_closed:  # a call that was under way must not open what nobody closes
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


def _parsed(date: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(date) if date else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
