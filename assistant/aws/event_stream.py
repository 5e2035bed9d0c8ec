"""Incremental parsers for the bytes of a streamed completion: SageMaker's event stream, SSE, chat chunks.

botocore decodes the event stream, in 12 microseconds an event. A decoder of our own took 2: too small a gain
to keep it (docs/decisions/0011-lean-sagemaker-calls.md). Inside are server-sent events
(https://html.spec.whatwg.org, 9.2.6), of which only the data is read: chunks of OpenAI's chat completion.
"""

# pyright: reportMissingTypeStubs=false
from __future__ import annotations

import struct
from typing import Any, Literal, cast

import orjson
from botocore.eventstream import EventStreamBuffer, ParserError

from assistant.answering.ports import GenerationDelta
from assistant.domain.answers import Usage

_LARGEST_MESSAGE_BYTES = 2 * 1024 * 1024
"""A SageMaker part has at most 1 MB."""
_CORRUPT = (ParserError, LookupError, ValueError, struct.error)
"""What botocore's decoder raises for bytes that are no event stream."""


class EventStreamParser:
    """Returns the payloads of whole ``PayloadPart`` events from bytes that are cut anywhere.

    After the first fault nothing more is decoded; payloads before it are still returned.
    """

    def __init__(self) -> None:
        self.fault: str | None = None
        """Why the stream ended early: kind and message of an exception inside it (``ModelStreamError …``), or
        ``corrupt …`` for bytes that are no valid framing."""
        self._messages: Any = EventStreamBuffer()
        self._pending_bytes = 0
        """Bytes since the last whole message."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the payloads that ``data`` completes, in order. Never raises: see ``fault``."""
        payloads: list[bytes] = []
        if self.fault is not None:
            return payloads
        self._messages.add_data(data)
        self._pending_bytes += len(data)
        try:
            for message in self._messages:
                self._pending_bytes = 0
                if message.headers.get(":message-type") != "event":
                    self.fault = _fault_of(message.headers, message.payload)
                    return payloads
                if message.headers.get(":event-type") == "PayloadPart":
                    payloads.append(message.payload)
        except _CORRUPT as error:
            self.fault = f"corrupt {type(error).__name__}"
        if self._pending_bytes > _LARGEST_MESSAGE_BYTES:
            self.fault = f"corrupt a message is over {_LARGEST_MESSAGE_BYTES} bytes"
        return payloads


def _fault_of(headers: dict[str, Any], payload: bytes) -> str:
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


_LARGEST_EVENT_BYTES = 1024 * 1024


class ChatStreamError(Exception):
    """The stream holds an error, or is not a chat completion. The message holds no generated text."""

    text = ""
    """The text before the error in the same bytes."""


class ServerSentEventParser:
    """Returns the data of whole events from bytes that are cut anywhere."""

    def __init__(self) -> None:
        self._rest = b""
        self._data: list[bytes] = []
        self._size = 0
        self._after_return = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the data of the events that ``data`` completes. Raises ChatStreamError for a longer one."""
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
        if line.startswith(b"data:"):
            value = line[6:] if line[5:6] == b" " else line[5:]
            self._data.append(value)
            self._size += len(value)
        elif not line and self._data:
            events.append(b"\n".join(self._data))
            self._data.clear()
            self._size = 0


_DONE = b"[DONE]"


class ChatChunkParser:
    """Merges the chunks of one read: the hot path makes one delta per read, not one per token.

    ``finish_reason`` and ``usage`` are for the last delta; the stream's end mark sets ``done``.
    """

    def __init__(self) -> None:
        self._events = ServerSentEventParser()
        self.finish_reason: Literal["stop", "length"] | None = None
        self.usage: Usage | None = None
        self.done = False

    def feed(self, data: bytes) -> str:
        """Return the text that ``data`` completes, which may be empty. Raises ChatStreamError."""
        texts: list[str] = []
        try:
            for event in self._events.feed(data):
                if event == _DONE:
                    self.done = True
                elif not self.done:
                    texts.append(self._take(event))
        except ChatStreamError as error:
            error.text = "".join(texts)
            raise
        return "".join(texts)

    def last_delta(self) -> GenerationDelta:
        return GenerationDelta("", self.finish_reason, self.usage)

    def _take(self, event: bytes) -> str:
        try:
            chunk = cast("dict[str, Any]", orjson.loads(event))
            if "error" in chunk:
                raise ChatStreamError(f"the model reports {_error_code(chunk['error'])}")
            usage = chunk.get("usage")
            if usage is not None:
                self.usage = Usage(
                    prompt_tokens=usage["prompt_tokens"], completion_tokens=usage["completion_tokens"]
                )
            choices = cast("list[dict[str, Any]]", chunk["choices"])
            if not choices:
                return ""
            choice = choices[0]
            reason = choice.get("finish_reason")
            if reason is not None:
                self._finish(reason)
            text = choice["delta"].get("content")
        except (orjson.JSONDecodeError, KeyError, IndexError, TypeError, AttributeError, ValueError):
            raise ChatStreamError("the model's stream is no chat completion") from None
        if text is None:
            return ""
        if not isinstance(text, str):
            raise ChatStreamError("the model's stream is no chat completion")
        return text

    def _finish(self, reason: object) -> None:
        if reason not in ("stop", "length"):
            raise ChatStreamError(f"the model ended by {str(reason)[:40]!r}")
        self.finish_reason = reason


def _error_code(error: object) -> str:
    """Return an error's code or type. Its message is left out: it may repeat the prompt."""
    if isinstance(error, dict):
        fields = cast("dict[str, object]", error)
        return str(fields.get("code") or fields.get("type") or "an error")[:80]
    return "an error"


class CompletionParser:
    """Returns the model's text from the bytes of SageMaker's event stream, cut anywhere."""

    def __init__(self) -> None:
        self._parts = EventStreamParser()
        self._chunks = ChatChunkParser()

    @property
    def is_done(self) -> bool:
        """Whether the completion's end mark was read."""
        return self._chunks.done

    def last_delta(self) -> GenerationDelta | None:
        """Return the finish reason and usage; None while there is no finish reason."""
        return None if self._chunks.finish_reason is None else self._chunks.last_delta()

    def feed(self, data: bytes) -> tuple[str, str | None]:
        """Return the text that ``data`` completes, and what is wrong with the rest, None if nothing."""
        text = ""
        payloads = self._parts.feed(data)  # joined: an SSE event that was cut into parts is whole again
        try:
            if payloads:
                text = self._chunks.feed(payloads[0] if len(payloads) == 1 else b"".join(payloads))
        except ChatStreamError as error:
            return error.text, str(error)
        fault = self._parts.fault
        if fault is not None and not self.is_done:
            return text, fault
        return text, None
