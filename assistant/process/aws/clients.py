"""Clients of AWS's services over aiobotocore, and the errors of their calls.

Retries have one policy, botocore's ``standard`` mode with three attempts: throttling, 500, 503 and broken
connections are retried after a random wait of at most 1 s, then 2 s; a client that fails often uses up its
retry quota and fails at once instead of adding to the load. Every call of the adapters is safe to repeat:
writes are conditional, idempotent, or at least once by contract. Adapters retry only the refused part of a
batch.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, cast

import aiohttp
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import create_loader

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
