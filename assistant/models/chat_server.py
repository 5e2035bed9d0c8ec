"""The client of an LLM that streams OpenAI's chat completions.

``ChatServer`` calls a chat server at a URL: Ollama, llama.cpp, vLLM or another that somebody runs
(docs/start-alone.md). ``assistant/models/sagemaker.py`` calls an endpoint that wraps the same stream in AWS's
event stream. The stream is of server-sent events (https://html.spec.whatwg.org, 9.2.6), of which only the
data is read::

    data: {"choices": [{"delta": {"content": "Keep it"}, "finish_reason": null}]}

    data: [DONE]
"""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import KW_ONLY, dataclass, field
from typing import Any, Literal, Protocol, cast

import aiohttp
import orjson
import structlog

from assistant.domain.answers import Usage
from assistant.domain.clock import Deadline, RetryBudget, retry_overload
from assistant.domain.errors import (
    AssistantError,
    DeadlineExceededError,
    GenerationInterruptedError,
    GenerationUnavailableError,
    OverloadedError,
)
from assistant.stores.ports import GenerationDelta, GenerationRequest

_log = structlog.get_logger(__name__)

_LARGEST_EVENT_BYTES = 1024 * 1024


class ChatStreamError(Exception):
    """The stream reports an error, or is not a chat completion. The message has no generated text."""


class ServerSentEventParser:
    """Returns the data of complete events from bytes that are cut anywhere. Lines end with LF, CR or CRLF."""

    def __init__(self) -> None:
        self._rest = b""
        """An incomplete last line."""
        self._data: list[bytes] = []
        """Data lines of the event that is not complete yet."""
        self._size = 0
        """Bytes in ``_data``."""
        self._after_return = False
        """Whether the bytes so far end with CR: a following LF belongs to the same line end."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that ``data`` completes, in order. Raises ChatStreamError for an
        event over ``_LARGEST_EVENT_BYTES``."""
        if self._after_return and data:
            self._after_return = False
            if data.startswith(b"\n"):  # the second half of a line end that was cut in two
                data = data[1:]
        self._after_return = self._after_return or data.endswith(b"\r")
        lines = (self._rest + data).splitlines(keepends=True)
        self._rest = lines.pop() if lines and not lines[-1].endswith((b"\n", b"\r")) else b""
        events: list[bytes] = []
        for line in lines:
            self._take(line.rstrip(b"\r\n"), events)
        if self._size + len(self._rest) > _LARGEST_EVENT_BYTES:
            raise ChatStreamError(f"an event is over {_LARGEST_EVENT_BYTES} bytes")
        return events

    def _take(self, line: bytes, events: list[bytes]) -> None:
        """Take one line; a blank one completes an event, which is added to ``events``. Other fields are
        ignored."""
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._size += len(value)
        elif not line and self._data:
            events.append(b"\n".join(self._data))
            self._data.clear()
            self._size = 0


_DONE = b"[DONE]"


class Framing(Protocol):
    """A layer around the stream of completions: ``EventStreamParser`` of SageMaker. ``CompletionParser``
    feeds it the raw bytes, and reads ``fault`` after each call."""

    @property
    def fault(self) -> str | None:
        """Why the stream ended early; None while nothing is wrong."""
        ...

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that ``data`` completes, in order."""
        ...


class Completion(Protocol):
    """Reads a model's text from the bytes of a stream, cut anywhere. ``ChatStream`` calls ``feed`` for each
    read until ``is_done``, a fault or the end, then ``last_delta``."""

    @property
    def is_done(self) -> bool:
        """Whether the completion's end mark was read."""
        ...

    def last_delta(self) -> GenerationDelta | None:
        """Return the finish reason and usage; None while there is no finish reason."""
        ...

    def feed(self, data: bytes) -> tuple[str, str | None]:
        """Return the text that ``data`` completes, and what is wrong with the bytes after it (None: nothing).
        After a fault it is not called again."""
        ...


class CompletionParser:
    """Reads OpenAI's chunks, out of a framing, or with None as they are.

    It merges the text of all chunks of one read, so that answering makes one delta for a read, not for a
    token.
    """

    def __init__(self, framing: Framing | None = None) -> None:
        self._framing = framing
        self._events = ServerSentEventParser()
        self._finish_reason: Literal["stop", "length"] | None = None
        self._usage: Usage | None = None
        self.is_done = False

    def last_delta(self) -> GenerationDelta | None:
        return None if self._finish_reason is None else GenerationDelta("", self._finish_reason, self._usage)

    def feed(self, data: bytes) -> tuple[str, str | None]:
        payloads = [data] if self._framing is None else self._framing.feed(data)
        texts: list[str] = []
        try:
            for event in self._events.feed(b"".join(payloads)):  # an event may span several payloads
                if event == _DONE:
                    self.is_done = True
                elif not self.is_done:
                    texts.append(self._take(event))
        except ChatStreamError as error:
            return "".join(texts), str(error)
        fault = None if self._framing is None or self.is_done else self._framing.fault
        return "".join(texts), fault

    def _take(self, event: bytes) -> str:
        """Return the text of one chunk; keep its finish reason and usage. Raises ChatStreamError."""
        try:
            chunk = cast("dict[str, Any]", orjson.loads(event))
            if "error" in chunk:
                raise ChatStreamError(f"the model reports {_error_code(chunk['error'])}")
            usage = chunk.get("usage")
            if usage is not None:
                self._usage = Usage(
                    prompt_tokens=usage["prompt_tokens"], completion_tokens=usage["completion_tokens"]
                )
            choices = cast("list[dict[str, Any]]", chunk["choices"])
            if not choices:
                return ""
            choice = choices[0]
            reason = choice.get("finish_reason")
            if reason not in (None, "stop", "length"):
                raise ChatStreamError(f"the model ended by {str(reason)[:40]!r}")
            self._finish_reason = reason or self._finish_reason
            text = choice["delta"].get("content")
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise ChatStreamError("the model's stream is no chat completion") from None
        if text is None:
            return ""
        if not isinstance(text, str):
            raise ChatStreamError("the model's stream is no chat completion")
        return text


def _error_code(error: object) -> str:
    """Return an error's code or type. Its message is left out: it may repeat the prompt."""
    if isinstance(error, dict):
        fields = cast("dict[str, object]", error)
        return str(fields.get("code") or fields.get("type") or "an error")[:80]
    return "an error"


_FIRST_BYTE_TIMEOUT_S = 60.0
"""SageMaker's own limit for a container to begin its response."""
_STALL_TIMEOUT_S = 30.0
"""The longest silence inside a stream."""
_END_TIMEOUT_S = 0.25
"""Wait for the end of the response after its last chunk: then the connection can be reused."""
_TOKEN_BYTES = 4096
"""Most bytes of a stream for each token that was asked for: a chunk has some 400."""
_LARGEST_ERROR_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class ChatGenerator(ABC):
    """An ``AnswerGenerator`` whose subclass sends the request: it defines ``_post``, and ``_read`` where the
    stream is wrapped."""

    _: KW_ONLY
    stall_timeout_s: float = _STALL_TIMEOUT_S
    _budget: RetryBudget = field(default_factory=RetryBudget, init=False)

    @asynccontextmanager
    async def stream(self, request: GenerationRequest, *, deadline: Deadline) -> AsyncGenerator[ChatStream]:
        """Open one streamed generation; leaving the context closes its connection at once.

        Raises GenerationUnavailableError, OverloadedError, DeadlineExceededError.
        """
        body, inference_id = self._body(request), uuid.uuid4().hex
        response = await retry_overload(
            lambda: self._begun(body, inference_id=inference_id, deadline=deadline),
            budget=self._budget,
            deadline=deadline,
        )
        stream = self._read(
            response,
            inference_id=inference_id,
            stall_timeout_s=self.stall_timeout_s,
            deadline=deadline,
            most_bytes=request.max_tokens * _TOKEN_BYTES + _LARGEST_ERROR_BYTES,
        )
        try:
            yield stream
        finally:
            stream.close()

    async def _begun(
        self, body: dict[str, Any], *, inference_id: str, deadline: Deadline
    ) -> aiohttp.ClientResponse:
        """Return the response once its head has arrived, by the deadline and within a minute."""
        try:
            async with asyncio.timeout(deadline.within_s(_FIRST_BYTE_TIMEOUT_S)):
                return await self._post(body, inference_id=inference_id)
        except TimeoutError:
            if deadline.remaining_s() <= 0.0:
                raise DeadlineExceededError("The deadline passed before the model began to answer.") from None
            raise GenerationUnavailableError("The LLM endpoint did not begin to answer in time.") from None

    @abstractmethod
    async def _post(self, body: dict[str, Any], *, inference_id: str) -> aiohttp.ClientResponse:
        """Return the response when its head has arrived. Raises GenerationUnavailableError,
        OverloadedError."""

    def _read(self, response: aiohttp.ClientResponse, **limits: Any) -> ChatStream:
        """Return the stream over a response; ``limits`` are the other arguments of ``ChatStream``."""
        return ChatStream(response, completion=CompletionParser(), **limits)

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        """Return the request's JSON body, without ``model``."""
        body: dict[str, Any] = {
            "messages": [{"role": message.role, "content": message.content} for message in request.messages],
            "max_tokens": request.max_tokens,
            "temperature": request.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if request.seed is not None:
            body["seed"] = request.seed
        if request.schema is not None:
            form = {"name": "answer", "schema": request.schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        return body


class StreamStalledError(Exception):
    """The endpoint sent nothing for too long."""


class ChatStream:
    """A ``GenerationStream`` over the raw bytes of one response: one delta with text for each network read
    that completes some, then the last delta with finish reason and usage.

    ``asyncio.timeout`` around each read would create and drop a timer for every token, which costs more than
    the read. Here one timer a stream runs ``_check``: it ends a pending read that is overdue, and otherwise
    sets the timer to the moment when the read would be.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        *,
        completion: Completion,
        inference_id: str,
        stall_timeout_s: float,
        deadline: Deadline,
        most_bytes: int,
        variant: str | None = None,
    ) -> None:
        self._left_bytes = most_bytes
        """Bytes that may still be read: more than ``most_bytes`` break the stream."""
        self.inference_id: str | None = inference_id
        self.variant = variant
        self._response = response
        self._content = response.content
        self._stall_timeout_s = stall_timeout_s
        self._deadline = deadline
        self._completion = completion
        self._has_text = False
        """Whether a delta with text was returned; it decides which error a broken stream raises."""
        self._fault: str | None = None
        """What broke the stream behind text that was returned first; the next call raises it."""
        self._is_finished = False
        """Whether the whole completion was read."""
        self._loop = asyncio.get_running_loop()
        self._since_s: float | None = None
        """When the pending read began, by the loop's clock; None while none is pending."""
        self._check_within(stall_timeout_s)

    def close(self) -> None:
        """Close the connection, unless the response was read to its end."""
        self._timer.cancel()
        self._response.close()

    def __aiter__(self) -> ChatStream:
        return self

    async def __anext__(self) -> GenerationDelta:
        if self._fault is not None:
            raise self._broken(self._fault)
        while not self._completion.is_done and (data := await self._read()):
            text, self._fault = self._completion.feed(data)
            if text:
                self._has_text = True
                return GenerationDelta(text)
            if self._fault is not None:
                raise self._broken(self._fault)
        if self._is_finished:
            raise StopAsyncIteration
        last = self._completion.last_delta()
        if last is None:
            raise self._broken("ended without a finish reason")
        await self._read_end()
        self._is_finished = True
        return last

    async def _read(self) -> bytes:
        """Return the next bytes; empty at the end.

        Raises GenerationUnavailableError or GenerationInterruptedError (silent too long, the connection
        broke, or too many bytes), DeadlineExceededError.
        """
        self._since_s = self._loop.time()
        try:
            data = await self._content.readany()
        except StreamStalledError as error:
            raise self._broken(str(error)) from None
        except aiohttp.ClientError as error:
            raise self._broken(f"cut: {type(error).__name__}") from None
        self._since_s = None
        self._left_bytes -= len(data)
        if self._left_bytes < 0:
            raise self._broken("longer than the tokens that were asked for")
        return data

    async def _read_end(self) -> None:
        """Read what follows the last chunk, for a short time, so that the connection can be reused."""
        if self._content.at_eof():
            return
        try:
            async with asyncio.timeout(_END_TIMEOUT_S):
                while await self._read():
                    pass
        except (TimeoutError, AssistantError):
            return  # the answer is whole; closing the stream closes the connection

    def _check(self) -> None:
        """Make the pending read raise when the deadline has passed or the endpoint was silent for too long;
        else set the timer again."""
        if self._deadline.remaining_s() <= 0.0:
            error = DeadlineExceededError("The deadline passed while the model answered.")
            self._content.set_exception(error)
            return
        silent_s = 0.0 if self._since_s is None else self._loop.time() - self._since_s
        if silent_s >= self._stall_timeout_s:
            self._content.set_exception(StreamStalledError(f"silent for {self._stall_timeout_s:.0f} s"))
        else:
            self._check_within(self._stall_timeout_s - silent_s)

    def _check_within(self, seconds: float) -> None:
        self._timer = self._loop.call_later(min(seconds, self._deadline.remaining_s()), self._check)

    def _broken(self, reason: str) -> AssistantError:
        """Return the error of a broken stream: interrupted after text, unavailable before."""
        kind = GenerationInterruptedError if self._has_text else GenerationUnavailableError
        return kind(f"The LLM endpoint's stream broke: {reason}.")


# --- a chat server ----------------------------------------------------------------------------------------


_CONNECT_TIMEOUT_S = 2.0
_TIMEOUT = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_TIMEOUT_S)


@asynccontextmanager
async def open_chat_connections() -> AsyncGenerator[aiohttp.ClientSession]:
    """Open the connections that the chat servers of a process share; each server limits its own load."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=_TIMEOUT
    ) as connections:
        yield connections


@dataclass(frozen=True, slots=True)
class ChatServer(ChatGenerator):
    """An ``AnswerGenerator`` of a chat server.

    It follows no redirect: that would take the questions to a host that nobody named.
    """

    connections: aiohttp.ClientSession
    url: str
    """Base URL of its API, as ``http://127.0.0.1:11434/v1``."""
    model: str
    read_key: Callable[[], str] | None = None
    """Returns the server's key; called for each answer, so that a new key needs no restart. None: the server
    needs no key. Raises OSError, UnicodeDecodeError."""

    async def _post(self, body: dict[str, Any], *, inference_id: str) -> aiohttp.ClientResponse:
        del inference_id
        headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
        try:
            if self.read_key is not None:
                headers["Authorization"] = f"Bearer {await asyncio.to_thread(self.read_key)}"
            response = await self._sent(orjson.dumps(body | {"model": self.model}), headers)
        except aiohttp.ClientError as error:
            reason = type(error).__name__
            raise GenerationUnavailableError(f"The chat server is unavailable: {reason}.") from None
        except (OSError, UnicodeDecodeError):
            raise GenerationUnavailableError("The key file of the chat server cannot be read.") from None
        if response.status == 200:
            return response
        response.close()
        if response.status == 429:
            raise OverloadedError("The chat server is overloaded; ask again later.", retry_after_s=1.0)
        raise GenerationUnavailableError(f"The chat server failed: status {response.status}.")

    async def _sent(self, body: bytes, headers: dict[str, str]) -> aiohttp.ClientResponse:
        """Post the request; once more where the server had just closed the kept connection."""
        url = f"{self.url}/chat/completions"
        try:
            return await self.connections.post(url, data=body, headers=headers, allow_redirects=False)
        except aiohttp.ClientConnectorError:
            raise
        except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
            # uvicorn and llama.cpp close an idle connection after 5 s, perhaps just as this request goes.
            return await self.connections.post(url, data=body, headers=headers, allow_redirects=False)
