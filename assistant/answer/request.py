"""What an agent asks: the body of a request, and a question of OpenAI's chat."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from assistant.domain.answers import MAX_QUESTION_CHARACTERS, ChatTurn
from assistant.domain.documents import SearchFilters
from assistant.domain.identity import ContextToken, PlainContext
from assistant.domain.public import PublicModel, RecordId

MAX_TURNS = 200
MAX_EARLIER_CHARACTERS = 1_000
"""Longest earlier question that a client may send: it takes space in the prompt from the documents."""


_Text = Annotated[str, StringConstraints(strip_whitespace=True, max_length=MAX_QUESTION_CHARACTERS)]


class AnswerRequest(PublicModel):
    """A question of a care agent: the body of ``POST /v1/answers``."""

    question: _Text = ""
    """The agent's words, or what is pasted. Beside ``turns`` it may be absent: then the customer's last words
    are answered."""
    turns: tuple[ChatTurn, ...] = Field(default=(), max_length=MAX_TURNS, repr=False)
    """The chat that the question is about, oldest first; the last 40 messages are read. The record keeps
    what is searched of it alone: the customer's last messages, of 90 words together or one longer."""
    conversation_id: RecordId | None = None
    """A conversation of the same agent; absent: a new conversation."""
    filters: SearchFilters = SearchFilters()
    mode: Literal["auto", "quoted"] = "auto"
    """``quoted``: no model is asked, whatever the tenant's file says."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest written answer in tokens, at most the tenant's own limit. A quote is never cut."""
    resume_window_s: int = Field(default=0, ge=0, le=30)
    """How long the answer continues without a reader, so that one can come back; 0: it ends at once."""
    context: ContextToken | PlainContext | None = Field(default=None, repr=False)
    """Whose live data the answer may show: a short-lived token that the care application signed for this
    conversation. Each question needs its own. It is neither logged nor recorded."""

    @model_validator(mode="after")
    def _asks(self) -> Self:
        if not (self.question or self.turns):
            raise ValueError("send a question, or the turns of a chat")
        return self

    @property
    def written_at(self) -> datetime | None:
        """When the last message of the chat was written that says when."""
        return next((turn.at for turn in reversed(self.turns) if turn.at is not None), None)


class ChatQuestion(AnswerRequest):
    """A question of a conversation that only the client keeps, as in OpenAI's chat API."""

    earlier_questions: tuple[
        Annotated[str, StringConstraints(min_length=1, max_length=MAX_EARLIER_CHARACTERS)], ...
    ] = Field(default=(), max_length=2)
    """Those of the user before this one, oldest first; read where no record has them."""
