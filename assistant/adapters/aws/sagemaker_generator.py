"""The LLM endpoint on SageMaker: OpenAI's chat schema, streamed inside AWS's event stream."""
# pyright: reportMissingTypeStubs=false

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import aiohttp
import orjson
from botocore.exceptions import BotoCoreError, ClientError

from assistant.adapters.aws.chat_chunks import ChatChunkParser, ChatStreamError
from assistant.adapters.aws.event_stream import EventStreamParser
from assistant.adapters.aws.retry_budget import RetryBudget, retry_overload
from assistant.adapters.aws.sagemaker_runtime import RUNTIME_ERRORS, SageMakerRuntime, read_failure
from assistant.answering.ports import GenerationDelta, GenerationRequest
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)

_LONGEST_STREAM_S = 480.0
"""SageMaker ends every stream after 8 minutes."""
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
        body = await retry_overload(
            lambda: self._invoke(request, inference_id=inference_id, deadline=deadline),
            budget=self._budget,
            deadline=deadline,
            sleep=asyncio.sleep,
        )
        try:
            # The library gives no public way to the raw bytes; a test holds this one to its own decoder.
            content = cast("aiohttp.StreamReader", body._raw_stream.content)
            yield SageMakerGenerationStream(
                content, inference_id=inference_id, deadline=deadline, stall_timeout_s=self._stall_timeout_s
            )
        finally:
            body.close()  # synchronous: the endpoint sees it even when this task is being cancelled

    async def _invoke(self, request: GenerationRequest, *, inference_id: str, deadline: Deadline) -> Any:
        try:
            async with asyncio.timeout(deadline.within_s(_LONGEST_STREAM_S)):
                response = await self._client.invoke_endpoint_with_response_stream(
                    EndpointName=self._endpoint,
                    Body=_body(request),
                    ContentType="application/json",
                    Accept="text/event-stream",
                    InferenceId=inference_id,
                )
        except TimeoutError:
            raise DeadlineExceededError("The deadline passed before the model began to answer.") from None
        except RUNTIME_ERRORS as error:
            raise _translated(error) from None
        return response["Body"]


class SageMakerGenerationStream:
    """A ``GenerationStream`` over the raw bytes of one response."""

    def __init__(
        self,
        content: aiohttp.StreamReader,
        *,
        inference_id: str,
        deadline: Deadline,
        stall_timeout_s: float,
    ) -> None:
        self.inference_id: str | None = inference_id
        self._content = content
        self._deadline = deadline
        self._stall_timeout_s = stall_timeout_s
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
        texts: list[str] = []
        try:
            for payload in self._frames.feed(data):
                texts.append(self._chunks.feed(payload))
        except ChatStreamError as error:
            return "".join(texts), str(error)
        fault = self._frames.fault
        if fault is not None and not self._chunks.done:
            return "".join(texts), f"{fault.kind} {fault.message}".strip()
        return "".join(texts), None

    async def _read(self) -> bytes:
        """Return what came next, nothing at the end."""
        try:
            async with asyncio.timeout(self._deadline.within_s(self._stall_timeout_s)):
                return await self._content.readany()
        except TimeoutError:
            if self._deadline.remaining_s() <= 0.0:
                raise DeadlineExceededError("The deadline passed while the model answered.") from None
            raise self._broken(f"silent for {self._stall_timeout_s:.0f} s") from None
        except aiohttp.ClientError as error:
            raise self._broken(f"cut: {type(error).__name__}") from None

    async def _read_end(self) -> None:
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                while await self._content.readany():
                    pass
        except (TimeoutError, aiohttp.ClientError):
            return  # the answer is whole; leaving the context closes the connection

    def _broken(self, reason: str) -> GenerationUnavailableError | GenerationInterruptedError:
        kind = GenerationInterruptedError if self._started else GenerationUnavailableError
        return kind(f"The LLM endpoint's stream broke: {reason}.")


def _translated(error: ClientError | BotoCoreError) -> AssistantError:
    failure = read_failure(error)
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
