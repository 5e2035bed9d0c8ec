"""What of OpenAI's chat request is honoured, and the question that it asks.

- The last message is the question, by the role ``user``. The user's message before it, if there is one, is
  joined on for retrieval and in the prompt, as the question before a follow-up is.
- What the client says that the assistant said is never read: an answer rests on passages, and a client could
  put anything into its mouth. Whoever wants the recorded turns in the prompt sends ``conversation_id`` (given
  by the first answer, ``answer.conversation_id``); then earlier messages are not read at all.
- The system prompt is the tenant's, versioned and in the record: roles ``system`` and ``developer`` are
  refused, as is every parameter that would change what comes back.
- Parameters of sampling and bookkeeping are taken and have no effect: the tenant's own stand in the record.
- ``conversation_id`` and ``filters`` are as in ``POST /v1/answers``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints, ValidationError

from assistant.answering.prepare import MAX_EARLIER_CHARACTERS, AnswerRequest, FollowUpRequest
from assistant.api.problems import invalid_request
from assistant.domain.answers import RecordId
from assistant.domain.documents import SearchFilters
from assistant.domain.errors import AssistantError, InvalidRequestError, NotFoundError, UnreadableRequestError
from assistant.domain.public import PublicModel

DEFAULT_MODEL = "default"
_MAX_MESSAGES = 200
_Empty = Annotated[tuple[Any, ...], Field(max_length=0)]
_Text = Annotated[str, StringConstraints(max_length=50_000)]


class ChatTextPart(PublicModel):
    type: Literal["text"]
    text: _Text


class ChatRequestMessage(PublicModel):
    role: Literal["user", "assistant"]
    """``system`` and ``developer`` are refused: the prompt is the tenant's own."""
    content: _Text | Annotated[tuple[ChatTextPart, ...], Field(min_length=1, max_length=50)]
    name: Any = None
    refusal: Any = None
    annotations: Any = None
    """As a client gives a former message back."""

    def text(self) -> str:
        parts = (self.content,) if isinstance(self.content, str) else (part.text for part in self.content)
        return "".join(parts).strip()


class ChatStreamOptions(PublicModel):
    include_usage: bool | None = None
    include_obfuscation: Any = None


class ChatResponseFormat(PublicModel):
    type: Literal["text"]


class ChatRequest(PublicModel):
    """A chat request. What is not named here is refused (422)."""

    model: Annotated[str, StringConstraints(min_length=1, max_length=256)]
    """The served model's id, or ``default``."""
    messages: tuple[ChatRequestMessage, ...] = Field(min_length=1, max_length=_MAX_MESSAGES)
    """The last one is the question, of role user."""
    stream: bool | None = None
    stream_options: ChatStreamOptions | None = None
    """Only with ``stream``."""
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    """Stands above ``max_tokens``; the tenant's own limit above both."""
    conversation_id: RecordId | None = None
    filters: SearchFilters = SearchFilters()

    # Served in one way only: any other value is refused.
    n: int | None = Field(default=None, ge=1, le=1)
    response_format: ChatResponseFormat | None = None
    modalities: tuple[Literal["text"], ...] | None = None
    logprobs: Literal[False] | None = None
    top_logprobs: int | None = Field(default=None, ge=0, le=0)
    tools: _Empty | None = None
    tool_choice: Literal["none"] | None = None
    functions: _Empty | None = None
    function_call: Literal["none"] | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    stop: _Empty | None = None
    audio: None = None
    prediction: None = None
    moderation: None = None
    web_search_options: None = None

    # Taken, without effect.
    temperature: Any = None
    top_p: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    seed: Any = None
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None
    prompt_cache_options: Any = None
    prompt_cache_retention: Any = None
    parallel_tool_calls: Any = None
    reasoning_effort: Any = None
    verbosity: Any = None


class RefusedChatError(AssistantError):
    """A chat request was refused; ``param`` names the parameter, where one was to blame."""

    def __init__(self, refused: AssistantError, *, param: str | None) -> None:
        super().__init__(refused.message, retry_after_s=refused.retry_after_s)
        self.refused = refused
        self.param = param


@dataclass(frozen=True, slots=True)
class ChatAsking:
    """A chat request as a question of ours."""

    model: str
    request: AnswerRequest
    streamed: bool
    include_usage: bool

    def check_model(self, served: str) -> None:
        """Raises RefusedChatError (404) unless the served model or the default one is asked for."""
        if self.model not in (DEFAULT_MODEL, served):
            raise RefusedChatError(
                NotFoundError(f'The model here is "{served}"; ask for it, or for "{DEFAULT_MODEL}".'),
                param="model",
            )


def read_chat_request(body: bytes) -> ChatAsking:
    """Return what the body asks. Raises RefusedChatError (400, 413, 422)."""
    try:
        return _asking(ChatRequest.model_validate_json(body, strict=True))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        if first["type"] == "json_invalid":
            unreadable = UnreadableRequestError("The body is not valid JSON in UTF-8.")
            raise RefusedChatError(unreadable, param=None) from None
        raise RefusedChatError(invalid_request(error), param=_param(first["loc"])) from None


def _asking(chat: ChatRequest) -> ChatAsking:
    last = chat.messages[-1]
    if last.role != "user":
        raise _refused("The last message must be the user's question.", param=f"messages.{_last(chat)}.role")
    if chat.stream_options is not None and not chat.stream:
        raise _refused("stream_options goes only with stream: true; leave it out.", param="stream_options")
    try:
        request = AnswerRequest(
            question=last.text(),
            conversation_id=chat.conversation_id,
            filters=chat.filters,
            max_tokens=chat.max_completion_tokens or chat.max_tokens,
        )
        if earlier := _earlier_question(chat):
            request = FollowUpRequest(**dict(request), earlier_question=earlier)
    except ValidationError as error:
        param = f"messages.{_last(chat)}.content"
        raise RefusedChatError(invalid_request(error), param=param) from None
    return ChatAsking(
        model=chat.model,
        request=request,
        streamed=bool(chat.stream),
        include_usage=bool(chat.stream_options and chat.stream_options.include_usage),
    )


def _earlier_question(chat: ChatRequest) -> str | None:
    """Return the user's message before the last, unless records have it. One too long is left out."""
    if chat.conversation_id is not None:
        return None
    for message in reversed(chat.messages[:-1]):
        if message.role == "user":
            text = message.text()
            return text if 0 < len(text) <= MAX_EARLIER_CHARACTERS else None
    return None


def _param(location: Sequence[int | str]) -> str | None:
    """Return the parameter's path; what pydantic adds to tell a union's branches apart is left out."""
    parts = [str(part)[:64] for part in location if isinstance(part, int) or part.isidentifier()]
    return ".".join(parts) or None


def _last(chat: ChatRequest) -> int:
    return len(chat.messages) - 1


def _refused(message: str, *, param: str) -> RefusedChatError:
    return RefusedChatError(InvalidRequestError(message), param=param)
