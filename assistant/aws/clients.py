"""Clients of AWS's services over aiobotocore: one a service and process, shared by all its adapters.

Retries have one policy, botocore's ``standard`` mode, bounded to three attempts: what may be repeated
(throttling, 500, 503, a connection that broke) is repeated after a random wait of at most 1 s, then 2 s,
and a client that fails often spends its retry quota and fails at once instead of adding to the load. Every
call the adapters make may be repeated safely: writes are conditional, idempotent, or at least once by
contract. Adapters add no retries of their own, except for the refused part of a batch."""

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
from aiobotocore.session import AioSession, get_session
from botocore.exceptions import BotoCoreError, ClientError
from botocore.loaders import create_loader

from assistant.domain.errors import DependencyError

AwsService = Literal["dynamodb", "kms", "s3", "sagemaker-runtime", "sqs", "ssm"]

_CONNECT_TIMEOUT_S = 2.0
_KEEP_ALIVE_S = 30.0
"""Idle connections are kept for so long: below the minute after which AWS's own side closes them."""
_EMULATOR_KEY = "local"
"""An emulator wants a well-formed signature and knows no keys."""
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
    """The longest silence in a response. With the waits between attempts it bounds a call."""
    pool_connections: int
    """Calls at once; more wait for a connection."""
    attempts: int = 3


LIMITS: Mapping[AwsService, ClientLimits] = {
    "dynamodb": ClientLimits(read_timeout_s=3.0, pool_connections=128),  # beside every running answer
    "kms": ClientLimits(read_timeout_s=3.0, pool_connections=4),
    "s3": ClientLimits(read_timeout_s=15.0, pool_connections=64),
    # Its callers have deadlines of their own and one budget of retries over all of them.
    "sagemaker-runtime": ClientLimits(read_timeout_s=60.0, pool_connections=128, attempts=1),
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

    ``endpoint_url`` is an emulator's; on AWS it and the keys are left out, and the default chain finds the
    credentials (on ECS the task's role). For an emulator a fixed key stands in where the environment names
    no credentials, so that nobody's real ones are looked for on the machine or its network.
    """
    if endpoint_url is not None and access_key_id is None and not _environment_names_credentials():
        access_key_id = secret_access_key = _EMULATOR_KEY
    opening: Any = _session().create_client(
        service,
        region_name=region,
        endpoint_url=endpoint_url,
        aws_access_key_id=access_key_id,
        aws_secret_access_key=secret_access_key,
        config=_config(limits or LIMITS[service], emulated=endpoint_url is not None),
    )
    async with opening as client:
        yield client


def _session() -> AioSession:
    session = get_session()
    session.register_component("data_loader", _descriptions())
    return session


@cache
def _descriptions() -> Any:
    """Return what reads the descriptions of services, which keeps what it read: each takes some 40 ms."""
    return create_loader()


def _config(limits: ClientLimits, *, emulated: bool) -> AioConfig:
    return AioConfig(
        connect_timeout=_CONNECT_TIMEOUT_S,
        read_timeout=limits.read_timeout_s,
        max_pool_connections=limits.pool_connections,
        retries={"total_max_attempts": limits.attempts, "mode": "standard"},
        connector_args={"keepalive_timeout": _KEEP_ALIVE_S},
        # An emulator has one name: buckets stand in its paths.
        s3={"addressing_style": "path"} if emulated else None,
    )


def _environment_names_credentials() -> bool:
    return any(os.environ.get(name) for name in _CREDENTIAL_SOURCES)


# One limit and one meaning of failures for calls of AWS's services.


class ServiceRefusedError(DependencyError):
    """The service answered, and said no. ``reason`` is AWS's code of it."""

    def __init__(self, message: str, *, reason: str, status: int) -> None:
        super().__init__(message)
        self.reason = reason
        self._status = status

    @property
    def passes(self) -> bool:
        """Whether the service said no for now: it is overloaded or broken."""
        return self._status >= 500 or self.reason.startswith(("Throttl", "RequestThrottl", "RequestLimit"))


@asynccontextmanager
async def aws_call(what: str, *, limit_s: float) -> AsyncGenerator[None]:
    """Run calls on a client, with all their retries and the reading of bodies, within ``limit_s``.

    ``what`` begins the message, as "The document store". Raises ServiceRefusedError when the service said
    no (also: throttled to the end), and DependencyError when nothing usable came of it.
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
        raise DependencyError(f"{what} did not answer within {limit_s:.0f} s.") from None


def refusal(error: ClientError) -> tuple[str, int]:
    """Return AWS's code, as ``NoSuchKey``, and the HTTP status, without any text of the request."""
    response = cast("dict[str, Any]", error.response)
    code = str(response.get("Error", {}).get("Code", "Unknown"))
    return code, int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
