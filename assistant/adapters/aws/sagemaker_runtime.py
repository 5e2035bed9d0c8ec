"""The shared client of the SageMaker Runtime, and what its errors mean."""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import orjson
from botocore.exceptions import BotoCoreError, ClientError

from assistant.adapters.aws.aws_clients import LIMITS, open_client

POOL_CONNECTIONS = LIMITS["sagemaker-runtime"].pool_connections
"""Streams and embeddings at once: an answer holds one connection at a time."""
RUNTIME_ERRORS = (ClientError, BotoCoreError)
"""What a call on the client raises, besides TimeoutError of the caller's own limits."""


class SageMakerRuntime(Protocol):
    """The two operations of the aiobotocore client ``sagemaker-runtime`` that are used."""

    async def invoke_endpoint(self, **arguments: Any) -> dict[str, Any]: ...

    async def invoke_endpoint_with_response_stream(self, **arguments: Any) -> dict[str, Any]: ...


@asynccontextmanager
async def open_sagemaker_runtime(
    *,
    region: str,
    endpoint_url: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    pool_connections: int = POOL_CONNECTIONS,
) -> AsyncGenerator[SageMakerRuntime]:
    """Open the one client that all adapters of a process share.

    ``endpoint_url`` is the local gateway, which any key may sign for; on AWS it and the keys are left out,
    and the task's role signs. The client makes no retries: ``retry_budget`` alone decides on them.
    """
    opening = open_client(
        "sagemaker-runtime",
        region=region,
        endpoint_url=endpoint_url,
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
        limits=replace(LIMITS["sagemaker-runtime"], pool_connections=pool_connections),
    )
    async with opening as client:
        yield cast("SageMakerRuntime", client)


@dataclass(frozen=True, slots=True)
class InvocationFailure:
    """What a failed call says. ``container_status`` is None when the container did not answer."""

    code: str
    container_status: int | None = None
    container_error: str = ""
    """The kind of error inside the container's body: TEI's ``error_type``, OpenAI's code or type."""

    @property
    def overloaded(self) -> bool:
        throttled = self.code in ("ThrottlingException", "Throttling", "ModelNotReadyException")
        return throttled or self.container_status == 429

    def __str__(self) -> str:
        parts = [self.code, str(self.container_status or ""), self.container_error]
        return " ".join(part for part in parts if part)


def read_failure(error: ClientError | BotoCoreError) -> InvocationFailure:
    """Return what the error says, without any text of the request."""
    if not isinstance(error, ClientError):
        return InvocationFailure(type(error).__name__)
    response = cast("dict[str, Any]", error.response)
    code = str(response.get("Error", {}).get("Code", "Unknown"))
    if code != "ModelError":
        return InvocationFailure(code)
    status = response.get("OriginalStatusCode")
    return InvocationFailure(
        code,
        container_status=status if isinstance(status, int) else None,
        container_error=_container_error(str(response.get("OriginalMessage", ""))),
    )


def _container_error(body: str) -> str:
    try:
        found: object = orjson.loads(body)
    except orjson.JSONDecodeError:
        return ""
    fields = cast("dict[str, Any]", found) if isinstance(found, dict) else {}
    nested = fields.get("error")
    if isinstance(nested, dict):
        fields = cast("dict[str, Any]", nested)
    kind = fields.get("error_type") or fields.get("code") or fields.get("type") or ""
    return str(kind)[:80]
