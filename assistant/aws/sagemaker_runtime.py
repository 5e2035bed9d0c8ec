"""The SageMaker Runtime, lean: the two calls that every answer makes, signed and sent by ourselves.

docs/decisions/0011-lean-sagemaker-calls.md has the figures. Credentials and endpoint stay those of an
aiobotocore client, as for DynamoDB.
"""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import quote

import aiohttp
import orjson

from assistant.aws.aws_clients import open_client
from assistant.aws.signed_posts import POST_ERRORS, SignedPosts

_CONNECT_TIMEOUT_S = 2.0
_CONNECTIONS = 1024
"""Every running stream and embedding at once; more wait for a connection, within their own limits."""
_KEEP_ALIVE_S = 15.0
"""Idle connections are closed after so long: well before the peer would (AWS a minute, the gateway 75 s).

A request that meets a connection's end may have been handled, so it is not sent again; it must not meet it.
"""
_LARGEST_BODY_BYTES = 32 * 1024 * 1024
"""SageMaker's own bound of a response is 25 MB."""
_JSON = "application/json"
_SIGNATURE_REFUSED = 403


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


class InvocationError(Exception):
    """A call failed. Neither ``failure`` nor the message holds any text of the request."""

    def __init__(self, failure: InvocationFailure) -> None:
        super().__init__(str(failure))
        self.failure = failure


class InvocationStream:
    """The response of one streamed call."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.content: aiohttp.StreamReader = response.content
        """The raw bytes of AWS's event stream."""

    def close(self) -> None:
        """End the connection at once, unless the response was read to its end: then it serves again.

        Synchronous: the endpoint sees it also when this task is being cancelled.
        """
        self._response.close()


class SageMakerRuntime:
    """Calls endpoints, each once: ``retry_budget`` alone decides on retries.

    Only a call whose signature was refused for our clock is sent again, for nothing of it was done. Waits
    for a response are the caller's to bound: a caller that is cancelled closes the connection.
    """

    def __init__(self, client: Any, *, keep_alive_s: float = _KEEP_ALIVE_S) -> None:
        """``client`` is the aiobotocore client ``sagemaker-runtime``."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
        self._posts = SignedPosts(
            client, connections=_CONNECTIONS, keep_alive_s=keep_alive_s, timeout=timeout
        )

    async def close(self) -> None:
        await self._posts.close()

    async def invoke(self, endpoint: str, *, body: bytes, attributes: str = "") -> bytes:
        """Return the container's answer to a JSON body. Raises InvocationError.

        ``attributes`` stand beside the call in SageMaker's data capture; ASCII, without a text of anybody.
        """
        headers = {"Content-Type": _JSON, "Accept": _JSON}
        if attributes:
            headers["X-Amzn-SageMaker-Custom-Attributes"] = attributes
        response = await self._send(f"{_path(endpoint)}/invocations", body=body, headers=headers)
        try:
            return await _read(response)
        finally:
            response.close()

    async def invoke_with_stream(self, endpoint: str, *, body: bytes, inference_id: str) -> InvocationStream:
        """Return the response once it began; whoever asked closes it. Raises InvocationError."""
        headers = {
            "Content-Type": _JSON,
            "X-Amzn-SageMaker-Accept": "text/event-stream",
            "X-Amzn-SageMaker-Inference-Id": inference_id,
        }
        path = f"{_path(endpoint)}/invocations-response-stream"
        return InvocationStream(await self._send(path, body=body, headers=headers))

    async def _send(self, path: str, *, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        response = await self._begin(path, body=body, headers=headers)
        if response.status == 200:
            return response
        failure = await _read_failure(response)
        if response.status == _SIGNATURE_REFUSED and self._posts.learn_skew(
            failure.code, response.headers.get("Date")
        ):
            response = await self._begin(path, body=body, headers=headers)
            if response.status == 200:
                return response
            failure = await _read_failure(response)
        raise InvocationError(failure)

    async def _begin(self, path: str, *, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        try:
            return await self._posts.send(path, body=body, headers=headers)
        except POST_ERRORS as error:
            raise InvocationError(InvocationFailure(type(error).__name__)) from error


@asynccontextmanager
async def open_sagemaker_runtime(
    *,
    region: str,
    endpoint_url: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
) -> AsyncGenerator[SageMakerRuntime]:
    """Open what all adapters of a process share.

    ``endpoint_url`` is the local gateway, which any key may sign for; on AWS it and the keys are left out,
    and the task's role signs.
    """
    opening = open_client(
        "sagemaker-runtime",
        region=region,
        endpoint_url=endpoint_url,
        access_key_id=access_key_id,
        secret_access_key=secret_access_key,
    )
    async with opening as client:
        runtime = SageMakerRuntime(client)
        try:
            yield runtime
        finally:
            await runtime.close()


def _path(endpoint: str) -> str:
    return f"/endpoints/{quote(endpoint, safe='')}"


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """Return the whole body."""
    content = response.content
    parts: list[bytes] = []
    size = 0
    try:
        while part := await content.readany():
            size += len(part)
            if size > _LARGEST_BODY_BYTES:
                raise InvocationError(InvocationFailure("a response that is too large"))
            parts.append(part)
    except POST_ERRORS as error:
        raise InvocationError(InvocationFailure(type(error).__name__)) from error
    return b"".join(parts)


async def _read_failure(response: aiohttp.ClientResponse) -> InvocationFailure:
    """Return what a refusal says, as AWS's JSON protocol over REST has it."""
    try:
        fields = _json_object(await _read(response))
    finally:
        response.close()
    named = response.headers.get("x-amzn-ErrorType") or str(fields.get("code") or fields.get("__type") or "")
    # After a colon follows an address, before a number sign stands a name space.
    code = named.partition(":")[0].rpartition("#")[2][:80] or f"status {response.status}"
    if code != "ModelError":
        return InvocationFailure(code)
    status = fields.get("OriginalStatusCode")
    return InvocationFailure(
        code,
        container_status=status if isinstance(status, int) else None,
        container_error=_container_error(str(fields.get("OriginalMessage", ""))),
    )


def _container_error(body: str) -> str:
    fields = _json_object(body)
    nested = fields.get("error")
    if isinstance(nested, dict):
        fields = cast("dict[str, Any]", nested)
    kind = fields.get("error_type") or fields.get("code") or fields.get("type") or ""
    return str(kind)[:80]


def _json_object(text: bytes | str) -> dict[str, Any]:
    """Return the object's fields, none where it is no object."""
    try:
        found: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", found) if isinstance(found, dict) else {}
