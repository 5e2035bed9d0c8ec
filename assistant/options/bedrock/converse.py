"""A model of Amazon Bedrock that writes answers, by ConverseStream
(https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html).

The request is signed and sent as SageMaker's are; the stream is in the same framing, and its events are
Bedrock's own:

    messageStart       {"role": "assistant"}
    contentBlockDelta  {"delta": {"text": "The depot"}}      any number of them
    messageStop        {"stopReason": "end_turn"}
    metadata           {"usage": {"inputTokens": 12, "outputTokens": 34, …}, …}

botocore's description of the service names the errors, exceptions and stop reasons.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from itertools import groupby
from typing import Any, Literal, cast
from urllib.parse import quote

import aiohttp
import orjson

from assistant.domain.answers import Usage
from assistant.domain.errors import AssistantError, GenerationUnavailableError, OverloadedError
from assistant.models.chat_server import ChatGenerator, ChatStream
from assistant.models.sagemaker import AwsRuntime, EventStreamReader, InvocationError
from assistant.stores.ports import ChatMessage, GenerationDelta, GenerationRequest

_HEADERS = {"Content-Type": "application/json", "Accept": "application/vnd.amazon.eventstream"}
REQUEST_ID = "x-amzn-RequestId"
"""Header of the response: records keep it as the answer's ``inference_id``."""
FINISH_REASONS: dict[str, Literal["stop", "length", "content_filter"]] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "content_filtered": "content_filter",
    "guardrail_intervened": "content_filter",
}
"""Bedrock's stop reason = ours. Another one, such as tool_use, is a fault: no tool was offered."""
_OVERLOADED = frozenset({"ThrottlingException", "ModelNotReadyException", "ServiceUnavailableException"})
"""Errors for which AWS advises to retry. A model is not ready while Bedrock restores it."""
_ADVICE = {
    "AccessDeniedException": "assistant aws doctor asks whether this account may use the model",
    "ResourceNotFoundException": "its region has no such model or inference profile",
    "ValidationException": "the model takes no such request: max_tokens, temperature or a system message",
    "ModelTimeoutException": "the model took too long",
    "ModelErrorException": "the model failed",
    "InternalServerException": "Bedrock failed",
}
"""Error that is not retried = what it means, or what to do."""


class ConverseParser:
    """A ``Completion`` (see ``chat_server``) of ConverseStream's events, one object for each response.

    It is done when both the stop reason and the usage were read. Reasoning deltas have no text, and are left
    out.
    """

    def __init__(self) -> None:
        self._reader = EventStreamReader()
        self._finish_reason: Literal["stop", "length", "content_filter"] | None = None
        self._usage: Usage | None = None

    @property
    def is_done(self) -> bool:
        return self._finish_reason is not None and self._usage is not None

    def last_delta(self) -> GenerationDelta | None:
        return None if self._finish_reason is None else GenerationDelta("", self._finish_reason, self._usage)

    def feed(self, data: bytes) -> tuple[str, str | None]:
        texts: list[str] = []
        fault = None
        try:
            for kind, payload in self._reader.events(data):
                texts.append(self._take(kind, payload))
        except _StopReasonError as error:
            fault = f"the model ended by {error}"
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError):
            fault = "the stream is none of ConverseStream"
        if self._finish_reason is None:  # after a finish reason the text is complete: a fault does not matter
            return "".join(texts), fault or self._reader.fault
        return "".join(texts), None

    def _take(self, kind: str, payload: bytes) -> str:
        """Return the text of one event, "" if it has none; keep the stop reason and the usage. Unknown kinds
        are skipped, as AWS may add some. ``feed`` turns the errors for malformed events into a fault."""
        if kind == "contentBlockDelta":
            text = orjson.loads(payload)["delta"].get("text", "")
            if not isinstance(text, str):
                raise TypeError
            return text
        if kind == "messageStop":
            reason = orjson.loads(payload)["stopReason"]
            if reason not in FINISH_REASONS:
                raise _StopReasonError(str(reason)[:40])
            self._finish_reason = FINISH_REASONS[reason]
        elif kind == "metadata":
            usage = orjson.loads(payload)["usage"]
            self._usage = Usage(prompt_tokens=usage["inputTokens"], completion_tokens=usage["outputTokens"])
        return ""


class _StopReasonError(Exception):
    """A stop reason that is a fault."""


class _ConverseStream(ChatStream):
    def _broken(self, reason: str) -> AssistantError:
        """Return the error for a broken stream. ``reason`` begins with the exception's name if Bedrock sent
        one: throttling before the first text is an overload: the client may ask again."""
        if reason.startswith("throttlingException") and not self._has_text:
            return _overloaded()
        return super()._broken(reason)


class BedrockRuntime(AwsRuntime):
    """Calls models of Bedrock."""

    service = "bedrock-runtime"


@dataclass(frozen=True, slots=True)
class BedrockGenerator(ChatGenerator):
    """An ``AnswerGenerator`` of one model, or of one inference profile.

    ``ChatGenerator.stream`` calls ``_body``, ``_post`` with retries, then ``_read``.
    """

    client: BedrockRuntime
    _: KW_ONLY
    model: str
    """Id of a model or inference profile: ``us.amazon.nova-lite-v1:0``."""

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        """Return the request's body. A seed is left out: Converse has none."""
        system = [{"text": message.content} for message in request.messages if message.role == "system"]
        turns = [message for message in request.messages if message.role != "system"]
        body: dict[str, Any] = {
            # Some models refuse two messages of one role in a row.
            "messages": [
                {"role": role, "content": [{"text": message.content} for message in in_a_row]}
                for role, in_a_row in groupby(turns, key=_role)
            ],
            "inferenceConfig": {"maxTokens": request.max_tokens, "temperature": request.temperature},
        }
        return body | ({"system": system} if system else {})

    async def _post(self, body: dict[str, Any], *, inference_id: str) -> aiohttp.ClientResponse:
        del inference_id  # Bedrock gives its own, which ``_read`` takes from the response
        path = f"/model/{quote(self.model, safe='')}/converse-stream"
        try:
            return await self.client.send(path, body=orjson.dumps(body), headers=_HEADERS)
        except InvocationError as error:
            raise _error(error.code) from None

    def _read(self, response: aiohttp.ClientResponse, **limits: Any) -> ChatStream:
        """Return the stream of a response. ``limits``: the keyword arguments of ``ChatStream``."""
        limits["inference_id"] = response.headers.get(REQUEST_ID) or limits["inference_id"]
        return _ConverseStream(response, completion=ConverseParser(), **limits)


def _role(message: ChatMessage) -> str:
    return cast("str", message.role)


def _error(code: str) -> AssistantError:
    """Return our error for the name of Bedrock's, such as "ThrottlingException"."""
    if code in _OVERLOADED:
        return _overloaded()
    advice = f": {_ADVICE[code]}" if code in _ADVICE else ""
    return GenerationUnavailableError(f"Bedrock did not answer ({code}){advice}.")


def _overloaded() -> OverloadedError:
    return OverloadedError("Bedrock limits this account's calls now; ask again later.", retry_after_s=1.0)
