"""The chat completions that are served: OpenAI's request, with types checked.

Unknown fields are tolerated, as OpenAI's own servers do; a known one that would change the answer and is not
served is refused, never ignored.
"""

from __future__ import annotations

from typing import Any, Literal

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, ValidationError

from assistant.domain.errors import InvalidRequestError, UnreadableRequestError

_NOT_SERVED = ("tools", "functions", "logprobs", "logit_bias", "audio", "prediction", "modalities")


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["text"]
    text: StrictStr


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    role: Literal["system", "developer", "user", "assistant"]
    content: StrictStr | list[_Part]


class _StreamOptions(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    include_usage: StrictBool = False


class _ResponseFormat(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    type: Literal["text"]


class ChatRequest(BaseModel):
    """The fields that are honoured."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    messages: list[_Message] = Field(min_length=1)
    stream: StrictBool = False
    stream_options: _StreamOptions | None = None
    max_tokens: StrictInt | None = Field(default=None, ge=1)
    max_completion_tokens: StrictInt | None = Field(default=None, ge=1)
    temperature: float | None = Field(default=None, ge=0.0, le=2.0, strict=True)
    top_p: float | None = Field(default=None, gt=0.0, le=1.0, strict=True)
    frequency_penalty: float | None = Field(default=None, ge=-2.0, le=2.0, strict=True)
    presence_penalty: float | None = Field(default=None, ge=-2.0, le=2.0, strict=True)
    seed: StrictInt | None = None
    stop: StrictStr | list[StrictStr] | None = None
    n: Literal[1] | None = None
    response_format: _ResponseFormat | None = None

    def for_runtime(self, *, most_tokens: int) -> bytes:
        """Return the body for the runtime's own chat route: JSON."""
        data = self.model_dump(exclude_none=True, exclude={"max_completion_tokens", "n", "response_format"})
        data["messages"] = [_message_for_runtime(message) for message in self.messages]
        asked = self.max_completion_tokens or self.max_tokens or most_tokens
        data["max_tokens"] = min(asked, most_tokens)
        if self.seed is not None:
            data["seed"] = self.seed & 0xFFFFFFFF  # the runtime's seed has 32 bits
        return orjson.dumps(data)


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read a request. Raises UnreadableRequestError (not JSON), InvalidRequestError (names the field)."""
    try:
        data: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UnreadableRequestError("The body is not UTF-8 JSON.") from None
    if isinstance(data, dict):
        for name in _NOT_SERVED:
            if data.get(name):  # pyright: ignore[reportUnknownMemberType]
                raise InvalidRequestError(f"{name}: not served by this model.")
    try:
        return ChatRequest.model_validate(data)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False)[0]
        place = ".".join(str(part) for part in found["loc"]) or "the body"
        raise InvalidRequestError(f"{place}: {found['msg']}") from None


def _message_for_runtime(message: _Message) -> dict[str, str]:
    content = message.content
    text = content if isinstance(content, str) else "".join(part.text for part in content)
    return {"role": "system" if message.role == "developer" else message.role, "content": text}
