"""The LLM endpoint on SageMaker: OpenAI's chat schema, streamed inside AWS's event stream."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import orjson

from assistant.answering.ports import GenerationDelta, GenerationRequest
from assistant.aws.chat_chunks import ChatChunkParser, ChatStreamError
from assistant.aws.event_stream import EventStreamParser
from assistant.aws.retry_budget import RetryBudget, retry_overload
from assistant.aws.sagemaker_runtime import (
    InvocationError,
    InvocationFailure,
    InvocationStream,
    SageMakerRuntime,
)
from assistant.aws.stream_watch import StreamStalledError, StreamWatch
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)

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
