"""Everything that answering for one tenant needs. ``bootstrap`` builds one a tenant."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from assistant.answering.index_watch import IndexWatch
from assistant.answering.ports import (
    AnswerGenerator,
    AnswerRecords,
    DocumentLinks,
    DocumentTexts,
    PassageSearch,
    TextEmbedder,
    TokenCounter,
)
from assistant.domain.clock import Clock
from assistant.settings import TenantConfig


def new_id() -> str:
    """Return an id that nobody can guess: 32 hexadecimal digits."""
    return uuid.uuid4().hex


@dataclass(frozen=True, slots=True)
class ServedModel:
    """The model behind the generation endpoint, as its ``artifact.json`` describes it."""

    model_id: str
    digest: str | None
    """SHA-256 (hex) of the artifact; None when the endpoint's artifact is not known here."""
    template_tokens_per_message: int
    """Tokens that the chat template adds around each message."""
    template_tokens_per_prompt: int
    """Tokens that it adds once: what begins the prompt and what opens the model's turn."""
    writes_answers: bool = False
    """Whether the model may write an answer; otherwise answers are quoted."""
    prompt: str = "answer/1"
    """``<task>/<version>`` of the prompt file that the model is asked with."""
    passages: int = 2
    """How many of the sources the model reads."""
    history_turns: int = 2
    """How many earlier turns of the conversation the model reads."""


@dataclass(frozen=True, slots=True)
class TenantServices:
    """One tenant's adapters, each bound to that tenant when it was made. Use cases receive only this."""

    tenant: TenantConfig
    embedder: TextEmbedder
    search: PassageSearch
    index_watch: IndexWatch
    generator: AnswerGenerator
    token_counter: TokenCounter
    model: ServedModel
    records: AnswerRecords
    texts: DocumentTexts
    links: DocumentLinks
    clock: Clock
    new_id: Callable[[], str] = new_id
    """Makes answer and conversation ids; a test may make them countable."""

    @property
    def writes_answers(self) -> bool:
        """Whether a model writes this tenant's answers; otherwise they are quoted."""
        return self.model.writes_answers and self.tenant.answers.mode == "auto"
