"""The SageMaker Runtime: its client, the LLM endpoint and the embedding endpoint.

The calls of an answer are signed and sent by ``SignedPosts``. With aiobotocore they would take 1.1 ms of CPU
more (docs/decisions/0011-lean-sagemaker-calls.md), and a stream could not be closed at once.
The LLM endpoint has OpenAI's chat schema, streamed inside AWS's event stream; the embedding endpoint has the
schema of Text Embeddings Inference.
"""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, ClassVar, Self, cast
from urllib.parse import quote

import aiohttp
import orjson
from botocore.eventstream import EventStreamBuffer, ParserError

from assistant.domain.clock import Deadline, RetryBudget, all_or_cancel, retry_overload
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    EmbeddingUnavailableError,
    GenerationUnavailableError,
    OverloadedError,
    PassageTooLongError,
)
from assistant.models.chat_server import ChatGenerator, ChatStream, CompletionParser
from assistant.process.aws import POST_ERRORS, AwsService, SignedPosts, open_client
from assistant.tenant.deployed_names import CapturePurpose, capture_attribute

_CONNECT_TIMEOUT_S = 2.0
_CONNECTIONS = 1024
"""Shared by all running streams and embeddings; further calls wait for a connection, within their time
limits."""
_KEEP_ALIVE_S = 15.0
"""Idle connections are closed after this time, well before the peer closes them (AWS 60 s, uvicorn 75 s).

A request on a connection that the peer closes may have been handled, so it cannot be retried.
"""
_LARGEST_BODY_BYTES = 32 * 1024 * 1024
"""SageMaker's own limit of a response is 25 MB."""
_LARGEST_ERROR_BYTES = 64 * 1024
"""Of an error's body."""
_JSON = "application/json"
VARIANT_HEADER = "x-Amzn-Invoked-Production-Variant"
"""Header of each response of an endpoint: which variant answered (SageMaker Runtime API, InvokeEndpoint)."""
_SIGNATURE_REFUSED = 403
"""Status that AWS answers to a signature that it refuses, also because of a wrong clock."""


class InvocationError(Exception):
    """A call failed. Neither its fields nor the message hold any text of the request."""

    def __init__(self, code: str, container_status: int | None = None, container_error: str = "") -> None:
        """``code``: AWS's error code (``ThrottlingException``), the name of a connection's error, or a
        phrase. ``container_status``: HTTP status of the model's container; None when it did not respond.
        ``container_error``: the kind of error in its body: TEI's ``error_type``, OpenAI's code or type."""
        super().__init__(" ".join(filter(None, (code, str(container_status or ""), container_error))))
        self.code = code
        self.container_status = container_status
        self.container_error = container_error

    @property
    def overloaded(self) -> bool:
        """Whether the same call may succeed later."""
        throttled = self.code in ("ThrottlingException", "Throttling", "ModelNotReadyException")
        return throttled or self.container_status == 429


class AwsRuntime:
    """Sends calls to models of one AWS service, without retries: ``retry_overload`` around a call is the only
    one.

    One exception: a call whose signature was refused because of our clock is sent again with the time of AWS,
    since nothing of it was done. The caller limits the wait for a response: cancelling it closes the
    connection.
    """

    service: ClassVar[AwsService]
    """As botocore names it."""

    def __init__(self, client: Any, *, keep_alive_s: float = _KEEP_ALIVE_S) -> None:
        """``client`` is the aiobotocore client of the service."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)
        self._posts = SignedPosts(
            client, connections=_CONNECTIONS, keep_alive_s=keep_alive_s, timeout=timeout
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, **place: Any) -> AsyncGenerator[Self]:
        """Open the client that all adapters of a process share; ``place`` is that of ``open_client``.

        ``endpoint_url`` is an emulator, which accepts any key. On AWS leave it and the keys out: the task's
        role signs.
        """
        async with open_client(cls.service, **place) as client:
            runtime = cls(client)
            try:
                yield runtime
            finally:
                await runtime.close()

    async def close(self) -> None:
        await self._posts.close()

    async def send(self, path: str, *, body: bytes, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        """Return the response when its head has arrived; the caller closes it. Raises InvocationError."""
        for is_last in (False, True):
            try:
                response = await self._posts.send(path, body=body, headers=headers)
            except POST_ERRORS as error:
                raise InvocationError(type(error).__name__) from error
            if response.status == 200:
                return response
            failure = await _read_failure(response)
            if is_last or response.status != _SIGNATURE_REFUSED:
                break
            clock_corrected = self._posts.learn_skew(failure.code, response.headers.get("Date"))
            if not clock_corrected:  # the clock is right, so the same request would be refused again
                break
        raise failure


class SageMakerRuntime(AwsRuntime):
    """Calls endpoints of SageMaker."""

    service = "sagemaker-runtime"

    async def invoke(self, endpoint: str, *, body: bytes, attributes: str = "") -> bytes:
        """Return the container's response to a JSON body. Raises InvocationError.

        ``attributes`` are recorded with the call by SageMaker's data capture: ASCII, without users' text.
        """
        headers = {"Content-Type": _JSON, "Accept": _JSON}
        if attributes:
            headers["X-Amzn-SageMaker-Custom-Attributes"] = attributes
        response = await self.send(f"{_path(endpoint)}/invocations", body=body, headers=headers)
        try:
            return await _read(response, most_bytes=_LARGEST_BODY_BYTES)
        finally:
            response.close()

    async def invoke_with_stream(
        self, endpoint: str, *, body: bytes, inference_id: str
    ) -> aiohttp.ClientResponse:
        """Return the response when its head has arrived. Its content is the raw bytes of AWS's event stream.

        The caller closes it. ``close`` is synchronous, so the endpoint sees it also while a task is being
        cancelled. A response that was read to its end gives its connection back. Raises InvocationError.
        """
        headers = {
            "Content-Type": _JSON,
            "X-Amzn-SageMaker-Accept": "text/event-stream",
            "X-Amzn-SageMaker-Inference-Id": inference_id,
        }
        path = f"{_path(endpoint)}/invocations-response-stream"
        return await self.send(path, body=body, headers=headers)


def _path(endpoint: str) -> str:
    """Return the path of an endpoint in the SageMaker Runtime API."""
    return f"/endpoints/{quote(endpoint, safe='')}"


async def _read(response: aiohttp.ClientResponse, *, most_bytes: int) -> bytes:
    """Return the whole body. Raises InvocationError, also for a larger one."""
    content = response.content
    parts: list[bytes] = []
    size = 0
    try:
        while part := await content.readany():
            size += len(part)
            if size > most_bytes:
                raise InvocationError("a response that is too large")
            parts.append(part)
    except POST_ERRORS as error:
        raise InvocationError(type(error).__name__) from error
    return b"".join(parts)


async def _read_failure(response: aiohttp.ClientResponse) -> InvocationError:
    """Return the failure that a response describes, by AWS's JSON protocol over REST."""
    try:
        fields = _json_object(await _read(response, most_bytes=_LARGEST_ERROR_BYTES))
    finally:
        response.close()
    named = response.headers.get("x-amzn-ErrorType") or str(fields.get("code") or fields.get("__type") or "")
    # "com.amazonaws.sagemaker#ModelError:http://internal.amazon.com/…" is ModelError: the code stands between
    # a namespace and an address.
    code = named.partition(":")[0].rpartition("#")[2][:80] or f"status {response.status}"
    if code != "ModelError":
        return InvocationError(code)
    status = fields.get("OriginalStatusCode")
    container_error = _container_error(str(fields.get("OriginalMessage", "")))
    return InvocationError(code, status if isinstance(status, int) else None, container_error)


def _container_error(body: str) -> str:
    """Return the kind of error in a container's body: ``{"error": {"type": "server_error"}}`` →
    "server_error"."""
    fields = _json_object(body)
    nested = fields.get("error")
    if isinstance(nested, dict):
        fields = cast("dict[str, Any]", nested)
    kind = fields.get("error_type") or fields.get("code") or fields.get("type") or ""
    return str(kind)[:80]


def _json_object(text: bytes | str) -> dict[str, Any]:
    """Return the fields of a JSON object; an empty dict for anything else."""
    try:
        parsed: object = orjson.loads(text)
    except orjson.JSONDecodeError:
        return {}
    return cast("dict[str, Any]", parsed) if isinstance(parsed, dict) else {}


@dataclass(frozen=True, slots=True)
class SageMakerGenerator(ChatGenerator):
    """An ``AnswerGenerator`` that calls one endpoint."""

    client: SageMakerRuntime
    _: KW_ONLY
    endpoint: str

    async def _post(self, body: dict[str, Any], *, inference_id: str) -> aiohttp.ClientResponse:
        try:
            return await self.client.invoke_with_stream(
                self.endpoint, body=orjson.dumps(body), inference_id=inference_id
            )
        except InvocationError as error:
            raise _generation_error(error) from None

    def _read(self, response: aiohttp.ClientResponse, **limits: Any) -> ChatStream:
        completion, variant = CompletionParser(EventStreamParser()), response.headers.get(VARIANT_HEADER)
        return ChatStream(response, completion=completion, variant=variant, **limits)


def _generation_error(failure: InvocationError) -> AssistantError:
    """Return the error that a failed call raises."""
    if failure.overloaded:
        return OverloadedError("The LLM endpoint is overloaded; ask again later.", retry_after_s=1.0)
    return GenerationUnavailableError(f"The LLM endpoint failed: {failure}.")


_BATCH_TEXTS = 32
"""Most texts of one request: the model server's limit (``MOST_INPUTS`` there)."""
_BATCHES_AT_ONCE = 2
"""One is sent while the other is computed."""
_REQUEST_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class SageMakerEmbedder:
    """A ``TextEmbedder`` that calls one endpoint.

    ``purpose`` goes with each call, so that captured questions and passages can be told apart.
    """

    client: SageMakerRuntime
    _: KW_ONLY
    endpoint: str
    dimensions: int
    purpose: CapturePurpose
    request_timeout_s: float = _REQUEST_TIMEOUT_S
    embedded: Callable[[int], None] | None = None
    """Called after each answered call with the number of its texts; for metrics."""
    _budget: RetryBudget = field(default_factory=RetryBudget, init=False)

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        """Return one unit-length vector a text, shape (len(texts), dimensions).

        Raises EmbeddingUnavailableError, OverloadedError, PassageTooLongError, DeadlineExceededError.
        """
        batches = [texts[start : start + _BATCH_TEXTS] for start in range(0, len(texts), _BATCH_TEXTS)]
        if len(batches) == 1:
            return await self._embed_with_retries(batches[0], deadline)
        limit = asyncio.Semaphore(_BATCHES_AT_ONCE)

        async def embed_one(batch: Sequence[str]) -> list[list[float]]:
            async with limit:
                return await self._embed_with_retries(batch, deadline)

        return [vector for vectors in await all_or_cancel(map(embed_one, batches)) for vector in vectors]

    async def _embed_with_retries(self, texts: Sequence[str], deadline: Deadline) -> list[list[float]]:
        """Embed one batch; retry while the endpoint is overloaded."""
        body = orjson.dumps({"inputs": list(texts), "normalize": True, "truncate": False})
        answer = await retry_overload(
            lambda: self._invoke(body, deadline), budget=self._budget, deadline=deadline
        )
        if self.embedded is not None:
            self.embedded(len(texts))
        return self._checked(answer, count=len(texts))

    async def _invoke(self, body: bytes, deadline: Deadline) -> bytes:
        """Call the endpoint once, by the deadline and within ``request_timeout_s``. Raises as ``embed``."""
        try:
            async with asyncio.timeout(deadline.within_s(self.request_timeout_s)):
                attributes = capture_attribute(self.purpose)
                return await self.client.invoke(self.endpoint, body=body, attributes=attributes)
        except TimeoutError:
            if deadline.remaining_s() <= 0.0:
                raise DeadlineExceededError("The deadline passed while text was embedded.") from None
            raise EmbeddingUnavailableError("The embedding endpoint did not respond in time.") from None
        except InvocationError as error:
            raise _embedding_error(error) from None

    def _checked(self, answer: bytes, *, count: int) -> list[list[float]]:
        """Return the vectors of a response. Raises EmbeddingUnavailableError unless they are ``count`` lists
        of ``dimensions`` floats; only the first number of each is checked."""
        try:
            vectors = cast("list[list[float]]", orjson.loads(answer))
            lengths = {len(vector) for vector in vectors}
            numbers = all(type(vector[0]) is float for vector in vectors)
        except (orjson.JSONDecodeError, TypeError, LookupError):
            raise EmbeddingUnavailableError("The embedding endpoint returned no vectors.") from None
        if len(vectors) != count or lengths - {self.dimensions} or not numbers:
            raise EmbeddingUnavailableError(
                f"The embedding endpoint returned {len(vectors)} vectors of {sorted(lengths)} numbers, "
                f"not {count} of {self.dimensions}: is it the model that the tenant file names?"
            )
        return vectors


def _embedding_error(failure: InvocationError) -> AssistantError:
    """Return the error that a failed call raises."""
    if failure.overloaded:
        return OverloadedError("The embedding endpoint is overloaded; ask again later.", retry_after_s=1.0)
    if failure.container_status == 413 and failure.container_error == "Validation":
        return PassageTooLongError("A text is over the embedding model's limit; it is not cut.")
    return EmbeddingUnavailableError(f"The embedding endpoint failed: {failure}.")


_LARGEST_MESSAGE_BYTES = 2 * 1024 * 1024
"""A SageMaker part has at most 1 MB."""
_CORRUPT = (ParserError, LookupError, ValueError, struct.error)
"""What botocore's decoder raises for bytes that are no event stream."""


class EventStreamReader:
    """Returns the complete events of AWS's event stream from bytes that are cut anywhere.

    botocore decodes an event, in 12 microseconds. A decoder of our own took 2: too small a gain to keep it.
    After the first fault nothing more is decoded; events before it are still returned.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        """Why the stream ended early: kind and message of an exception inside it (``ModelStreamError …``), or
        ``corrupt …`` for bytes that are no valid framing."""
        self._messages: Any = EventStreamBuffer()
        self._pending_bytes = 0
        """Bytes since the last complete message."""

    def events(self, data: bytes) -> list[tuple[str, bytes]]:
        """Return type and payload of the events that ``data`` completes, in order. Never raises: see
        ``fault``."""
        events: list[tuple[str, bytes]] = []
        if self.fault is not None:
            return events
        self._messages.add_data(data)
        self._pending_bytes += len(data)
        try:
            for message in self._messages:
                self._pending_bytes = 0
                if message.headers.get(":message-type") != "event":
                    self.fault = _fault_of(message.headers, message.payload)
                    return events
                events.append((str(message.headers.get(":event-type")), message.payload))
        except _CORRUPT as error:
            self.fault = f"corrupt {type(error).__name__}"
        if self._pending_bytes > _LARGEST_MESSAGE_BYTES:
            self.fault = f"corrupt a message is over {_LARGEST_MESSAGE_BYTES} bytes"
        return events


class EventStreamParser(EventStreamReader):
    """A ``Framing``: returns the payloads of ``PayloadPart`` events, which together are the container's own
    stream."""

    def feed(self, data: bytes) -> list[bytes]:
        return [payload for kind, payload in self.events(data) if kind == "PayloadPart"]


def _fault_of(headers: dict[str, Any], payload: bytes) -> str:
    """Return kind and message of an exception in an event stream: "ModelStreamError
    ModelInvocationTimeExceeded: …"."""
    kind = str(headers.get(":exception-type") or headers.get(":error-code") or "unknown")
    message = str(headers.get(":error-message", ""))
    try:
        fault: object = orjson.loads(payload)
    except orjson.JSONDecodeError:
        fault = None
    if isinstance(fault, dict):
        fields = cast("dict[str, object]", fault)
        parts = [str(fields[name]) for name in ("ErrorCode", "Message") if fields.get(name)]
        message = ": ".join(parts) or message
    return f"{kind} {message}".strip()
