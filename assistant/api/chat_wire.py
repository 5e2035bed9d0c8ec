"""Bodies of ``POST /v1/chat/completions`` as OpenAI's chat schema has them, and our own field ``answer``.

Offsets count Unicode code points of the message's content; a range is [start, end), as OpenAI's own
annotations are cut.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from assistant.domain.answers import (
    AlsoPossible,
    Certainty,
    Correction,
    FinishReason,
    Mode,
    Sentence,
    Source,
)
from assistant.domain.public import PublicModel


class UrlCitation(PublicModel):
    start_index: int
    end_index: int
    url: str
    """The original at its publisher; where there is none, the path on this service of the stored text."""
    title: str


class ChatAnnotation(PublicModel):
    type: Literal["url_citation"] = "url_citation"
    url_citation: UrlCitation


class ChatAnswer(PublicModel):
    """What OpenAI's schema has no place for. In a stream it comes with the first chunk, without an ending,
    and with the chunk that has the finish reason, with all of it."""

    answer_id: str
    conversation_id: str
    index_version: str
    finish_reason: FinishReason | None = None
    """How the answer really ended: the choice says ``stop`` also where there was no evidence."""
    reason: str | None = None
    mode: Mode | None = None
    certainty: Certainty | None = None
    also: tuple[AlsoPossible, ...] = ()
    """Quotes of other documents that contend with the quoted one; the content has none of them."""
    clarify: str | None = None
    reply_draft: str | None = None
    escalation: str | None = None
    corrections: tuple[Correction, ...] = ()
    fallback: str | None = None
    recorded: bool = True
    """False while the store of answers fails: the record follows."""
    sources: tuple[Source, ...] = ()
    sentences: tuple[Sentence, ...] = ()
    """The marks of each sentence: its citations, and whether the sources support it. ``start`` and ``end``
    are offsets of the content, a leading notice included."""
    timings_ms: dict[str, float] = Field(default_factory=dict[str, float])


class ChatUsage(PublicModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int


class ChatCompletionMessage(PublicModel):
    role: Literal["assistant"] = "assistant"
    content: str
    refusal: None = None
    annotations: tuple[ChatAnnotation, ...]


class ChatChoice(PublicModel):
    index: Literal[0] = 0
    message: ChatCompletionMessage
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class ChatCompletion(PublicModel):
    """The whole answer. ``id`` is its answer_id."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    """Unix time in seconds."""
    model: str
    choices: tuple[ChatChoice]
    usage: ChatUsage
    answer: ChatAnswer


class ChatDelta(PublicModel):
    role: Literal["assistant"] | None = None
    content: str | None = None
    annotations: tuple[ChatAnnotation, ...] | None = None


class ChatChunkChoice(PublicModel):
    index: Literal[0] = 0
    delta: ChatDelta
    finish_reason: Literal["stop", "length"] | None = None
    logprobs: None = None


class ChatCompletionChunk(PublicModel):
    """The data of one server-sent event; after the last one comes ``[DONE]``."""

    id: str
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    created: int
    model: str
    choices: tuple[ChatChunkChoice, ...]
    """One; none in the chunk that has the usage."""
    usage: ChatUsage | None = None
    answer: ChatAnswer | None = None


class ChatErrorBody(PublicModel):
    message: str
    type: str
    code: str
    """One of our own, as in problem bodies."""
    param: str | None
    retryable: bool


class ChatError(PublicModel):
    """Body of an error status, and data of the event that ends a stream which broke off."""

    error: ChatErrorBody
