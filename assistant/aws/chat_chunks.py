"""The chunks of a streamed chat completion (OpenAI), from the bytes of an SSE stream to deltas."""

from __future__ import annotations

from typing import Any, Literal, cast

import orjson

from assistant.answering.ports import GenerationDelta
from assistant.aws.server_sent_events import EventTooLargeError, ServerSentEventParser
from assistant.domain.answers import Usage

_DONE = b"[DONE]"


class ChatStreamError(Exception):
    """The stream holds an error, or what is no chat completion. The message holds no generated text."""

    text = ""
    """What the same bytes held before it."""


class ChatChunkParser:
    """Merges what came in one read: the hot path makes one delta a read, not one a token.

    ``finish_reason`` and ``usage`` are kept for the last delta; ``done`` is set by the stream's end mark.
    """

    def __init__(self) -> None:
        self._events = ServerSentEventParser()
        self.finish_reason: Literal["stop", "length"] | None = None
        self.usage: Usage | None = None
        self.done = False

    def feed(self, data: bytes) -> str:
        """Return the text that ``data`` completes, maybe none. Raises ChatStreamError."""
        texts: list[str] = []
        try:
            for event in self._events.feed(data):
                if event == _DONE:
                    self.done = True
                elif not self.done:
                    texts.append(self._take(event))
        except EventTooLargeError as error:
            raise ChatStreamError(str(error)) from None
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
    """Return an error's type or code: its message may repeat the prompt."""
    if isinstance(error, dict):
        fields = cast("dict[str, object]", error)
        return str(fields.get("code") or fields.get("type") or "an error")[:80]
    return "an error"
