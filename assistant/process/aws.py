"""Calls of AWS's services: aiobotocore's clients, their errors, and requests that are sent without them.

Retries have one policy, botocore's ``standard`` mode with three attempts: throttling, 500, 503 and broken
connections are retried after a random wait of at most 1 s, then 2 s; a client that fails often uses up its
retry quota and fails at once instead of adding to the load. Every call of the adapters is safe to repeat:
writes are conditional, idempotent, or at least once by contract. Adapters retry only the refused part of a
batch.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.auth import SIGV4_TIMESTAMP, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError
from botocore.loaders import create_loader
from yarl import URL

from assistant.domain.errors import DependencyError

AwsService = Literal[
    "bedrock-runtime",
    "dynamodb",
    "kms",
    "lambda",
    "s3",
    "sagemaker-runtime",
    "secretsmanager",
    "sqs",
    "ssm",
]

_CONNECT_TIMEOUT_S = 2.0
_KEEP_ALIVE_S = 30.0
"""How long idle connections are kept: less than the minute after which AWS closes them."""
_EMULATOR_KEY = "local"
"""An emulator checks the form of a signature, and no keys."""
_CREDENTIAL_SOURCES = (
    "AWS_ACCESS_KEY_ID",
    "AWS_PROFILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """Bounds on one client."""

    read_timeout_s: float
    """The longest pause in a response."""
    pool_connections: int
    """Concurrent calls; more wait for a connection."""
    attempts: int = 3


LIMITS: Mapping[AwsService, ClientLimits] = {
    # Callers of models have deadlines and share one retry budget.
    "bedrock-runtime": ClientLimits(read_timeout_s=60.0, pool_connections=128, attempts=1),
    "dynamodb": ClientLimits(read_timeout_s=3.0, pool_connections=128),  # beside every running answer
    "kms": ClientLimits(read_timeout_s=3.0, pool_connections=4),
    # The parser has 50 s, and some more to start; its addresses end after a minute.
    "lambda": ClientLimits(read_timeout_s=90.0, pool_connections=4, attempts=1),
    "s3": ClientLimits(read_timeout_s=15.0, pool_connections=64),
    "sagemaker-runtime": ClientLimits(read_timeout_s=60.0, pool_connections=128, attempts=1),
    "secretsmanager": ClientLimits(read_timeout_s=3.0, pool_connections=4),
    "sqs": ClientLimits(read_timeout_s=30.0, pool_connections=32),  # a long poll is silent for 20 s
    "ssm": ClientLimits(read_timeout_s=3.0, pool_connections=4),
}


@asynccontextmanager
async def open_client(
    service: AwsService,
    *,
    region: str,
    endpoint_url: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    limits: ClientLimits | None = None,
) -> AsyncGenerator[Any]:
    """Open the aiobotocore client of a service; leaving the context closes its connections.

    ``endpoint_url`` is for an emulator; on AWS omit it and the keys, and the default chain finds the
    credentials (on ECS the task's role). An emulator gets a fixed key where the environment names no
    credentials, so that no real ones are searched for on the machine or its network.
    """
    if endpoint_url is not None and access_key_id is None and not _environment_names_credentials():
        access_key_id = secret_access_key = _EMULATOR_KEY
    limits = limits or LIMITS[service]
    config = AioConfig(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=limits.read_timeout_s,
        max_pool_connections=limits.pool_connections,
        retries={"total_max_attempts": limits.attempts, "mode": "standard"},
        connector_args={"keepalive_timeout": _KEEP_ALIVE_S},
        # Else the library signs addresses of S3 in a form that no object under a KMS key accepts.
        signature_version="s3v4" if service == "s3" else None,
        # An emulator has one host name, so buckets are in its paths.
        s3={"addressing_style": "path"} if endpoint_url is not None else None,
    )
    session = get_session()
    session.register_component("data_loader", _service_descriptions())
    keys = {"aws_access_key_id": access_key_id, "aws_secret_access_key": secret_access_key}
    place = {"region_name": region, "endpoint_url": endpoint_url}
    opening: Any = session.create_client(service, config=config, **place, **keys)
    async with opening as client:
        yield client


@cache
def _service_descriptions() -> Any:
    """Return the reader of service descriptions. It caches them: reading one takes about 40 ms."""
    return create_loader()


def _environment_names_credentials() -> bool:
    return any(os.environ.get(name) for name in _CREDENTIAL_SOURCES)


# One limit and one meaning of failures for calls of AWS's services.


class ServiceRefusedError(DependencyError):
    """The service refused the call. ``reason`` is AWS's error code."""

    def __init__(self, message: str, *, reason: str, status: int) -> None:
        super().__init__(message)
        self.reason = reason
        self._status = status

    @property
    def passes(self) -> bool:
        """Whether a retry may succeed: the service is overloaded or broken."""
        return self._status >= 500 or self.reason.startswith(("Throttl", "RequestThrottl", "RequestLimit"))


@asynccontextmanager
async def aws_call(what: str, *, limit_s: float) -> AsyncGenerator[None]:
    """Run calls on a client, with all their retries and the reading of bodies, within ``limit_s``.

    ``what`` begins the message, as "The document store". Raises ServiceRefusedError when the service refused
    the call (also after the last throttled attempt), and DependencyError for no or an invalid response.
    """
    try:
        async with asyncio.timeout(limit_s):
            yield
    except ClientError as error:
        reason, status = refusal(error)
        raise ServiceRefusedError(f"{what} refused: {reason}.", reason=reason, status=status) from None
    except (BotoCoreError, aiohttp.ClientError) as error:
        raise DependencyError(f"{what} failed: {type(error).__name__}.") from None
    except TimeoutError:
        raise DependencyError(f"{what} did not respond within {limit_s:.0f} s.") from None


def refusal(error: ClientError) -> tuple[str, int]:
    """Return AWS's code, as ``NoSuchKey``, and the HTTP status, without any text of the request."""
    response = cast("dict[str, Any]", error.response)
    code = str(response.get("Error", {}).get("Code", "Unknown"))
    return code, int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


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
