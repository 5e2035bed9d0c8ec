"""Reads a message by one call of the tenant's LLM where the plain reading is weakest: prompt, schema, parse,
fallback.

A model is asked only for a message that is long, asks several questions or leans on the question before it.
It says what is searched. Items and ids stay those of the plain reading, and a reply with a number or code
that stands neither in the message nor in the question before it is not used.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Annotated

import orjson
import structlog
from opentelemetry.trace import SpanKind
from pydantic import Field, StringConstraints, ValidationError

from assistant.answering.ports import AnswerGenerator, ChatMessage, GenerationRequest
from assistant.answering.prompt import fill_slots, load_prompt, neutralise
from assistant.answering.reading import LONG_MESSAGE_WORDS, MOST_QUESTIONS, Message, PlainReading
from assistant.answering.search import SearchScope
from assistant.domain.answers import QuestionKind, Reading
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError
from assistant.domain.public import PublicModel

READING_LIMIT_S = 2.0
"""Of the whole call: the search waits for it."""
MOST_REPLY_CHARACTERS = 2_400
"""Of the reply that is read; the rest of the stream is left."""
_PROMPT = "reading/1"
_MAX_TOKENS = 400
_WORD = re.compile(r"[^\W_]+(?:[-.,:/][^\W_]+)*")
_JOINT = re.compile(r"[-.,:/]")
_log = structlog.get_logger(__name__)

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=400)]


class ReadingReply(PublicModel):
    """The reading of one message."""

    questions: Annotated[tuple[_Text, ...], Field(min_length=1, max_length=MOST_QUESTIONS)]
    search_text: _Text
    leans: bool
    kind: QuestionKind


class AddedValueError(ValueError):
    """The reply has a number or code that the model was not given."""


class ModelReading:
    """Reads messages with a model; as the plain reading does where the model is not needed, or fails."""

    def __init__(self, generator: AnswerGenerator, *, plain: PlainReading) -> None:
        self._generator = generator
        self._plain = plain

    async def run(self, message: Message, scope: SearchScope) -> Reading:
        plain = self._plain.read(message)
        is_long = len(message.text.split()) > LONG_MESSAGE_WORDS
        if not (is_long or len(message.questions) > 1 or plain.leans):
            return plain
        try:
            with scope.steps.step("reading", kind=SpanKind.CLIENT):
                reply = _parsed(await self._replied(message, scope.deadline), message)
        except (ValidationError, AddedValueError) as error:
            _log.warning("reading_unusable", error=type(error).__name__)
            return plain
        except (AssistantError, TimeoutError) as error:
            scope.degraded.append("reading")  # the same message may be read otherwise the next time
            _log.warning("reading_failed", error=type(error).__name__)
            return plain
        leans = reply.leans and message.before is not None
        return plain.model_copy(update={**dict(reply), "leans": leans, "made_by": "model"})

    async def _replied(self, message: Message, deadline: Deadline) -> str:
        """Return the first MOST_REPLY_CHARACTERS of the reply. Raises AssistantError, TimeoutError."""
        step = Deadline.after(deadline.within_s(READING_LIMIT_S), clock=deadline.clock)
        request = GenerationRequest(reading_prompt(message), max_tokens=_MAX_TOKENS, temperature=0.0)
        reply = ""
        async with asyncio.timeout(step.remaining_s()):
            async with self._generator.stream(request, deadline=step) as stream:
                async for delta in stream:
                    reply += delta.text
                    if len(reply) >= MOST_REPLY_CHARACTERS:
                        break
        return reply[:MOST_REPLY_CHARACTERS]


def reading_prompt(message: Message) -> tuple[ChatMessage, ...]:
    """Return the prompt, with message and question before it between delimiters that they cannot close."""
    before = "" if message.before is None else f"<before>\n{neutralise(message.before)}\n</before>\n\n"
    slots = {"before": before, "message": neutralise(message.text)}
    return ChatMessage("system", _system()), ChatMessage("user", fill_slots(load_prompt(_PROMPT), slots))


@lru_cache
def _system() -> str:
    schema = orjson.dumps(ReadingReply.model_json_schema()).decode()
    return load_prompt(_PROMPT).system.replace("{{schema}}", schema)


def _parsed(reply: str, message: Message) -> ReadingReply:
    """Return the JSON object of a reply, without what stands around it.

    Raises ValidationError, AddedValueError.
    """
    parsed = ReadingReply.model_validate_json(reply[reply.find("{") : reply.rfind("}") + 1])
    given = {value for text in (message.text, message.before or "") for value in _values(text)}
    if not given.issuperset(_values("\n".join((*parsed.questions, parsed.search_text)))):
        raise AddedValueError
    return parsed


def _values(text: str) -> Iterator[str]:
    """Yield the numbers and codes of a text: "7.5", "4711-2", "a5". "30-day" is the number 30."""
    for word in _WORD.findall(text.casefold()):
        parts = [part for part in _JOINT.split(word) if any(map(str.isdigit, part))]
        if parts:
            yield parts[0] if len(parts) == 1 else word
