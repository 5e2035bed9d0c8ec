"""Asks the model that writes for one JSON object: a reading of a conversation, or verdicts on sentences."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import structlog

from assistant.answer.prompt import count_tokens, rendered
from assistant.answer.services import AnswerWriter
from assistant.domain.answers import Usage
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError
from assistant.domain.public import PublicModel
from assistant.stores.ports import ChatMessage, GenerationRequest

_CHARACTERS_A_TOKEN = 16
"""More than any token of such a text has: what is longer is no answer."""
Asked = TypeVar("Asked", bound=PublicModel)
_log = structlog.get_logger(__name__)


class AsksModel(Protocol):
    """What a model is asked for: a tenant's services, or the model alone."""

    @property
    def writer(self) -> AnswerWriter: ...

    @property
    def context_tokens(self) -> int:
        """Prompt and answer together."""
        ...


@dataclass(frozen=True, slots=True)
class Told(Generic[Asked]):
    """What the model told, and the tokens that it took."""

    value: Asked
    usage: Usage


async def ask_json(
    services: AsksModel,
    messages: tuple[ChatMessage, ChatMessage],
    kind: type[Asked],
    *,
    max_tokens: int,
    deadline: Deadline,
    failure: str,
) -> Told[Asked] | None:
    """Return the object that the model writes, also with words around it; None where it gives none that
    ``kind`` takes before the deadline, or the prompt does not fit. ``failure``: event of the log."""
    writer = services.writer
    prompt = rendered(messages, system_role=writer.model.system_role)
    if count_tokens(prompt, writer) > services.context_tokens - max_tokens:
        _log.warning(failure, error="too_long")
        return None
    request = GenerationRequest(
        prompt, max_tokens=max_tokens, temperature=0.0, schema=kind.model_json_schema()
    )
    text, usage, most_characters = "", Usage(), _CHARACTERS_A_TOKEN * max_tokens
    try:
        async with asyncio.timeout(deadline.remaining_s()):
            async with writer.generator.stream(request, deadline=deadline) as stream:
                async for delta in stream:
                    text += delta.text
                    usage = delta.usage or usage
                    if len(text) >= most_characters:
                        break
        json = text[text.find("{") : text.rfind("}") + 1]
        return Told(kind.model_validate_json(json, strict=True), usage)
    except (AssistantError, TimeoutError, ValueError) as error:
        _log.warning(failure, error=type(error).__name__)
        return None
