"""Signed POST requests to one AWS service, shared by the DynamoDB and SageMaker clients.

Credentials and endpoint are those of an aiobotocore client: its default chain finds them and renews a task
role's credentials. aiohttp sends. The signature is AWS Signature Version 4 for POST without a query string,
written from AWS's description ("Create a signed AWS API request", IAM User Guide); tests compare it with
botocore's. Together the two clients save 3.6 ms of CPU per answer
(docs/decisions/0011-lean-sagemaker-calls.md).
"""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from botocore.exceptions import BotoCoreError, NoCredentialsError

_ALGORITHM = "AWS4-HMAC-SHA256"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """Credentials to sign with. Temporary ones have a ``token``."""

    access_key: str
    secret_key: str
    token: str | None = None


class RequestSigner:
    """Signs for one host, region and service. The key of a day is derived once."""

    def __init__(self, *, host: str, region: str, service: str) -> None:
        self._host = host
        self._scope_end = f"{region}/{service}/aws4_request"
        self._key_for: tuple[str, str] = ("", "")
        self._key = b""

    def headers(
        self, path: str, *, headers: Mapping[str, str], body: bytes, at: datetime, key: SigningKey
    ) -> dict[str, str]:
        """Return all headers of the signed request except Content-Length.

        ``path`` is percent-encoded, as it is sent. ``headers`` are signed with the others; their values have
        no leading, trailing or repeated blanks. ``at`` is time-zone aware.
        """
        stamp = at.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
        sent = {**headers, "Host": self._host, "X-Amz-Date": stamp}
        if key.token is not None:
            sent["X-Amz-Security-Token"] = key.token
        signed, canonical = _canonical(sent)
        # Signing encodes the sent path once more, for every service except S3.
        hashed = hashlib.sha256(body).hexdigest()
        request = f"POST\n{quote(path, safe='/~')}\n\n{canonical}\n{signed}\n{hashed}"
        scope = f"{stamp[:8]}/{self._scope_end}"
        text = f"{_ALGORITHM}\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key_of(key.secret_key, stamp[:8]), text.encode(), "sha256").hex()
        sent["Authorization"] = (
            f"{_ALGORITHM} Credential={key.access_key}/{scope}, SignedHeaders={signed}, Signature={signature}"
        )
        return sent

    def _key_of(self, secret_key: str, day: str) -> bytes:
        if self._key_for != (secret_key, day):
            key = f"AWS4{secret_key}".encode()
            for part in (day, *self._scope_end.split("/")):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key, self._key_for = key, (secret_key, day)
        return self._key


def _canonical(headers: Mapping[str, str]) -> tuple[str, str]:
    """Return the names and the header lines of the canonical request."""
    lower = sorted((name.lower(), value) for name, value in headers.items())
    return ";".join(name for name, _ in lower), "".join(f"{name}:{value}\n" for name, value in lower)


# Signed POST requests to one AWS service: what the lean clients of DynamoDB and SageMaker share.


POST_ERRORS = (aiohttp.ClientError, BotoCoreError, TimeoutError, OSError)
"""Errors of ``send`` and of reading its response."""
_LEAST_SKEW = timedelta(seconds=30)
"""A smaller difference to the server's clock cannot be the reason for a refused signature."""
_SKEWED = frozenset({"InvalidSignatureException", "RequestExpired", "RequestTimeTooSkewed"})


class SignedPosts:
    """One session of connections and its signer."""

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
        """Close the connections. A later ``send`` fails."""
        self._is_closed = True
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def send(self, path: str, *, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Return the response when its head has arrived; the caller reads or closes it.

        ``path`` is percent-encoded. A request is never retried; no redirect is followed. Raises POST_ERRORS.
        """
        path = self._above + path
        signed = self._signer.headers(
            path, headers=headers, body=body, at=datetime.now(UTC) + self._skew, key=await self._key()
        )
        return await self._open_session().post(
            self._origin + path, data=body, headers=signed, allow_redirects=False
        )

    def learn_skew(self, code: str, date: str | None) -> bool:
        """Adopt the server's clock when ours is the reason for a refused signature.

        ``code`` is the code of the error, ``date`` the header of its response. Return True when the request
        may be sent again; the server did nothing of it.
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


def _parsed(date: str | None) -> datetime | None:
    try:
        found = parsedate_to_datetime(date) if date else None
    except ValueError:
        return None
    return found.replace(tzinfo=UTC) if found is not None and found.tzinfo is None else found
