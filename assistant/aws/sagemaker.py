"""SageMaker Runtime calls and the LLM endpoint: OpenAI's chat schema, streamed inside AWS's event stream.

The client makes the two calls of every answer itself, signed by ``signed_posts``:
docs/decisions/0011-lean-sagemaker-calls.md has the figures.
"""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar, cast
from urllib.parse import quote

import aiohttp
import orjson

from assistant.answering.ports import GenerationDelta, GenerationRequest
from assistant.aws.clients import open_client
from assistant.aws.event_stream import ChatChunkParser, ChatStreamError, EventStreamParser
from assistant.aws.signed_posts import POST_ERRORS, SignedPosts
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)

_RATIO = 0.1
_RESERVE = 3.0
"""Retries that may be saved up, and that a quiet process begins with."""
_MOST_RETRIES = 3
_FIRST_WAIT_S = 0.2
_LONGEST_WAIT_S = 2.0
Result = TypeVar("Result")


class RetryBudget:
    """Each call earns a tenth of a retry; a retry costs one. Shared by all calls of one adapter."""

    def __init__(self) -> None:
        self._saved = _RESERVE

    def earn(self) -> None:
        self._saved = min(_RESERVE, self._saved + _RATIO)

    def spend(self) -> bool:
        """Take one retry; False when none is left."""
        if self._saved < 1.0:
            return False
        self._saved -= 1.0
        return True


async def retry_overload(
    call: Callable[[], Awaitable[Result]],
    *,
    budget: RetryBudget,
    deadline: Deadline,
    sleep: Callable[[float], Awaitable[None]],
) -> Result:
    """Make a call again while it raises OverloadedError, with back-off, within budget and deadline."""
    budget.earn()
    for attempt in range(_MOST_RETRIES):
        try:
            return await call()
        except OverloadedError as overload:
            wait_s = _back_off_s(attempt)
            if wait_s >= deadline.remaining_s() or not budget.spend():
                raise
            await sleep(wait_s)
            if deadline.remaining_s() <= 0.0:  # the wait took longer: still, what failed was the overload
                raise overload from None
    return await call()


def _back_off_s(attempt: int) -> float:
    """Return an exponential wait with jitter: half of it is random, so that callers spread out."""
    longest = min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2**attempt)
    return longest * random.uniform(0.5, 1.0)  # noqa: S311 : no secret


# Limits on the reads of one stream, with one timer for all of them.


class StreamStalledError(Exception):
    """Nothing came for too long."""


class StreamWatch:
    """Reads a response; a read that waits too long, or beyond the deadline, is ended by an error.

    ``asyncio.timeout`` around each read would make and drop a timer for every token, which costs more than
    the read itself. Here the one timer notes the pending read's beginning, and fires when it may be due::

        with StreamWatch(response.content, stall_timeout_s=30.0, deadline=deadline) as watch:
            data = await watch.read()
    """

    __slots__ = ("_content", "_deadline", "_loop", "_since_s", "_stall_timeout_s", "_timer")

    def __init__(self, content: aiohttp.StreamReader, *, stall_timeout_s: float, deadline: Deadline) -> None:
        self._content = content
        self._stall_timeout_s = stall_timeout_s
        self._deadline = deadline
        self._since_s: float | None = None

    @property
    def at_end(self) -> bool:
        return self._content.at_eof()

    async def read(self) -> bytes:
        """Return what came next, nothing at the end.

        Raises StreamStalledError, DeadlineExceededError (also for what was not read in time), and aiohttp's
        ClientError when the connection breaks.
        """
        self._since_s = self._loop.time()
        data = await self._content.readany()
        self._since_s = None
        return data

    def __enter__(self) -> StreamWatch:
        self._loop = asyncio.get_running_loop()
        self._look_within(self._stall_timeout_s)
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._timer.cancel()

    def _look(self) -> None:
        if self._deadline.remaining_s() <= 0.0:
            error = DeadlineExceededError("The deadline passed while the model answered.")
            self._content.set_exception(error)
            return
        silent_s = 0.0 if self._since_s is None else self._loop.time() - self._since_s
        if silent_s >= self._stall_timeout_s:
            self._content.set_exception(StreamStalledError(f"silent for {self._stall_timeout_s:.0f} s"))
        else:
            self._look_within(self._stall_timeout_s - silent_s)

    def _look_within(self, seconds: float) -> None:
        self._timer = self._loop.call_later(min(seconds, self._deadline.remaining_s()), self._look)


# The SageMaker Runtime, lean: the two calls that every answer makes, signed and sent by ourselves.


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


# The LLM endpoint on SageMaker: OpenAI's chat schema, streamed inside AWS's event stream.


_FIRST_BYTE_TIMEOUT_S = 60.0
"""SageMaker gives a container so long to begin its answer."""
_STALL_TIMEOUT_S = 30.0
"""The longest silence inside a stream."""
_END_TIMEOUT_S = 0.25
"""After the last chunk the connection's own end is awaited for so long: then it can serve again."""


class SageMakerGenerator:
    """An ``AnswerGenerator`` of one endpoint."""

    def __init__(
        self, client: SageMakerRuntime, *, endpoint: str, stall_timeout_s: float = _STALL_TIMEOUT_S
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._stall_timeout_s = stall_timeout_s
        self._budget = RetryBudget()

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncGenerator[SageMakerGenerationStream]:
        """Open one streamed generation; leaving the context closes its connection at once.

        Raises GenerationUnavailableError, OverloadedError, DeadlineExceededError.
        """
        inference_id = uuid.uuid4().hex
        invoked = await retry_overload(
            lambda: self._invoke(request, inference_id=inference_id, deadline=deadline),
            budget=self._budget,
            deadline=deadline,
            sleep=asyncio.sleep,
        )
        try:
            with StreamWatch(
                invoked.content, stall_timeout_s=self._stall_timeout_s, deadline=deadline
            ) as watch:
                yield SageMakerGenerationStream(watch, inference_id=inference_id)
        finally:
            invoked.close()

    async def _invoke(
        self, request: GenerationRequest, *, inference_id: str, deadline: Deadline
    ) -> InvocationStream:
        try:
            async with asyncio.timeout(deadline.within_s(_FIRST_BYTE_TIMEOUT_S)):
                return await self._client.invoke_with_stream(
                    self._endpoint, body=_body(request), inference_id=inference_id
                )
        except TimeoutError:
            if deadline.remaining_s() <= 0.0:
                raise DeadlineExceededError("The deadline passed before the model began to answer.") from None
            raise GenerationUnavailableError("The LLM endpoint did not begin to answer in time.") from None
        except InvocationError as error:
            raise _translated(error.failure) from None


class SageMakerGenerationStream:
    """A ``GenerationStream`` over the raw bytes of one response."""

    def __init__(self, watch: StreamWatch, *, inference_id: str) -> None:
        self.inference_id: str | None = inference_id
        self._watch = watch
        self._frames = EventStreamParser()
        self._chunks = ChatChunkParser()
        self._started = False

    async def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        """Yield one delta a network read, then the last with finish reason and usage."""
        while not self._chunks.done and (data := await self._read()):
            text, failure = self._decode(data)
            if text:
                self._started = True
                yield GenerationDelta(text)
            if failure is not None:
                raise self._broken(failure)
        if self._chunks.finish_reason is None:
            raise self._broken("ended without a finish reason")
        await self._read_end()
        yield self._chunks.last_delta()

    def _decode(self, data: bytes) -> tuple[str, str | None]:
        """Return the text that came, and what is wrong with the rest if something is."""
        text = ""
        payloads = self._frames.feed(data)  # joined: an event that parts were cut from is whole again
        try:
            if payloads:
                text = self._chunks.feed(payloads[0] if len(payloads) == 1 else b"".join(payloads))
        except ChatStreamError as error:
            return error.text, str(error)
        fault = self._frames.fault
        if fault is not None and not self._chunks.done:
            return text, f"{fault.kind} {fault.message}".strip()
        return text, None

    async def _read(self) -> bytes:
        """Return what came next, nothing at the end."""
        try:
            return await self._watch.read()
        except StreamStalledError as error:
            raise self._broken(str(error)) from None
        except aiohttp.ClientError as error:
            raise self._broken(f"cut: {type(error).__name__}") from None

    async def _read_end(self) -> None:
        if self._watch.at_end:
            return
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                while await self._watch.read():
                    pass
        except (TimeoutError, StreamStalledError, DeadlineExceededError, aiohttp.ClientError):
            return  # the answer is whole; leaving the context closes the connection

    def _broken(self, reason: str) -> GenerationUnavailableError | GenerationInterruptedError:
        kind = GenerationInterruptedError if self._started else GenerationUnavailableError
        return kind(f"The LLM endpoint's stream broke: {reason}.")


def _translated(failure: InvocationFailure) -> AssistantError:
    if failure.overloaded:
        return OverloadedError("The LLM endpoint is overloaded; ask again later.", retry_after_s=1.0)
    return GenerationUnavailableError(f"The LLM endpoint failed: {failure}.")


def _body(request: GenerationRequest) -> bytes:
    body: dict[str, Any] = {
        "messages": [{"role": message.role, "content": message.content} for message in request.messages],
        "max_tokens": request.max_tokens,
        "temperature": request.temperature,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if request.seed is not None:
        body["seed"] = request.seed
    return orjson.dumps(body)
