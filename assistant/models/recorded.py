"""Recordings: answers that a model once gave to exact prompts. ``RecordedModel`` plays them in place of a
language model, ``HeardModel`` listens to one, so that they can be made.

A line of a recording has the hash of the prompt that was answered, so that an answer is never played to
another prompt. ``assistant evaluate`` records and replays; ``make demo`` plays.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date
from math import ceil
from pathlib import Path
from typing import Literal, TypeVar

import orjson
from pydantic import BaseModel, ValidationError

from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import ConfigurationError, GenerationUnavailableError
from assistant.domain.public import PublicModel
from assistant.models.artifacts import CharacterTokenCounter
from assistant.stores.ports import (
    AnswerGenerator,
    ChatMessage,
    GenerationDelta,
    GenerationRequest,
    GenerationStream,
)

RowT = TypeVar("RowT", bound=BaseModel)
Task = Literal["read", "answer", "check", "reply"]
_BEGINS: dict[str, Task] = {"You read a ": "read", "You check ": "check", "You write for ": "reply"}
"""How the prompts of tasks begin; any other is an answer's."""
CONTEXT_TOKENS, MAX_TOKENS = 8_192, 700
"""Sizes with which the prompts were recorded: those of the shipped Inferentia and GPU manifests."""
_CHARACTERS_A_TOKEN = 4
"""See ``CharacterCount``."""
_WHEN = re.compile(
    r"^(?:Today is [A-Z][a-z]+, \d{1,2} [A-Z][a-z]+ \d{4}\. |(Customer|Agent|System) \(\d\d:\d\d\)(?=: ))",
    re.MULTILINE,
)
"""When a conversation is, as ``Conversation.block`` says it."""
_PIECE_CHARACTERS = 24
"""Characters of one delta: about what a model's server sends at once."""


class RecordedAnswer(PublicModel):
    """One line of a recording."""

    id: str
    """Id of the question: ``qid`` of evaluation/."""
    task: Task = "answer"
    """What the model was asked for: to read a conversation, to answer, to check what was written, to write a
    reply to the patient."""
    prompt_sha256: str
    """``prompt_sha256`` of the messages."""
    answer: str
    """The model's raw text."""
    model: str
    made_at: date


def prompt_sha256(messages: Sequence[ChatMessage]) -> str:
    """Return what names a prompt: the SHA-256 (hex) of its messages as JSON, without today's date and the
    time of each turn, so that a recording plays on any day."""
    named = [[message.role, _WHEN.sub(r"\1", message.content)] for message in messages]
    return hashlib.sha256(orjson.dumps(named)).hexdigest()


def task_of(messages: Sequence[ChatMessage]) -> Task:
    """Return what a prompt asks the model for."""
    for begin, task in _BEGINS.items():
        if messages[0].content.startswith(begin):
            return task
    return "answer"


def read_recording(paths: Iterable[Path]) -> list[RecordedAnswer]:
    """Return the lines of recordings. Raises ConfigurationError naming file and line."""
    return [line for path in paths for line in read_rows(path, RecordedAnswer)]


def read_rows(path: Path, form: type[RowT]) -> list[RowT]:
    """Return the lines of a file of JSON lines, blank ones aside. Raises ConfigurationError naming the
    line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}.") from None
    rows: list[RowT] = []
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip():
                rows.append(form.model_validate_json(line))
        except ValidationError as error:
            raise ConfigurationError(f"{path}:{number}: {first_fault(error)}.") from None
    return rows


def first_fault(error: ValidationError) -> str:
    """Return place and message of the first error, without the value."""
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}"


class CharacterCount:
    """Counts four characters as a token, as the prompts of recordings were counted."""

    def count(self, text: str) -> int:
        return ceil(len(text) / _CHARACTERS_A_TOKEN)


class _Stream:
    """A ``GenerationStream`` of a recorded answer, in pieces."""

    inference_id: str | None = None
    variant: str | None = None

    def __init__(self, answer: str) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        for start in range(0, len(self._answer), _PIECE_CHARACTERS):
            yield GenerationDelta(self._answer[start : start + _PIECE_CHARACTERS])
        yield GenerationDelta("", finish_reason="stop")


class RecordedModel:
    """An ``AnswerGenerator`` that plays a recording. Of two answers to one prompt the later line counts."""

    def __init__(self, lines: Iterable[RecordedAnswer]) -> None:
        self._answers = {line.prompt_sha256: line for line in lines}

    @property
    def title(self) -> str:
        """Which model was recorded most, and until when: "NAME, 2026-11-22"."""
        models = Counter(line.model for line in self._answers.values())
        last = max((line.made_at for line in self._answers.values()), default="")
        return ", ".join(map(str, (*(name for name, _ in models.most_common(1)), last)))

    @property
    def checks(self) -> bool:
        """Whether the recorded model checked sentences, too."""
        return any(line.task == "check" for line in self._answers.values())

    def answers(self, messages: Sequence[ChatMessage]) -> bool:
        """Return whether the answer to these messages was recorded."""
        return prompt_sha256(messages) in self._answers

    @asynccontextmanager
    async def stream(
        self,
        request: GenerationRequest,
        *,
        deadline: Deadline,  # noqa: ARG002 - of the port
    ) -> AsyncGenerator[GenerationStream]:
        """Play the answer to these messages. Raises GenerationUnavailableError for any other prompt."""
        line = self._answers.get(prompt_sha256(request.messages))
        if line is None:
            raise GenerationUnavailableError("No answer to this prompt was recorded.")
        yield _Stream(line.answer)


@dataclass(slots=True)
class HeardCall:
    """One call of a model, whose values are filled in while its stream is read."""

    messages: tuple[ChatMessage, ...]
    began_s: float
    """When it began, on the monotonic clock."""
    text: str = ""
    first_s: float | None = None
    """Seconds from the call to the first text; None before it."""
    seconds: float = 0.0
    """From the call to the last delta."""
    tokens: int = 0
    """Deltas with text, or the server's count."""
    prompt_tokens: int | None = None
    """As the server counted them; None where it does not say."""
    estimated_tokens: int = 1
    """Of its messages, by ``CharacterTokenCounter``."""
    failed: bool = True
    """Whether the model has given no finish reason."""
    is_ended: bool = False
    """Whether its reader left it without an error, and in time."""

    @property
    def prompt(self) -> str:
        return prompt_sha256(self.messages)

    def recorded(self, asked: str, *, model: str) -> RecordedAnswer:
        """Return its line in a recording. ``asked``: id of the question."""
        return RecordedAnswer(
            id=asked,
            task=task_of(self.messages),
            prompt_sha256=self.prompt,
            answer=self.text,
            model=model,
            made_at=date.today(),  # noqa: DTZ011 - a date for a reader
        )


class HeardModel:
    """An ``AnswerGenerator`` that passes on a model's streams, and keeps text and times of each call, as
    their reader sees them: from them a recording is made."""

    def __init__(self, generator: AnswerGenerator, clock: Clock) -> None:
        self._generator, self._clock = generator, clock
        self.calls: list[HeardCall] = []
        """In order, since the caller last emptied it."""

    @property
    def token_ratio(self) -> float | None:
        """``ServedLlm.token_ratio``. The highest counts: a server may leave out what it has in its cache."""
        ratios = ((call.prompt_tokens or 0) / max(call.estimated_tokens, 1) for call in self.calls)
        return max(ratios, default=0.0) or None

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncGenerator[GenerationStream]:
        call = HeardCall(tuple(request.messages), self._clock.monotonic_s())
        call.estimated_tokens = sum(CharacterTokenCounter().count(each.content) for each in request.messages)
        self.calls.append(call)
        async with self._generator.stream(request, deadline=deadline) as stream:
            yield _HeardStream(stream, call, self._clock)
        call.is_ended = True


class _HeardStream:
    """A ``GenerationStream`` that fills in its call."""

    def __init__(self, stream: GenerationStream, call: HeardCall, clock: Clock) -> None:
        self.inference_id, self.variant = stream.inference_id, stream.variant
        self._stream, self._call, self._clock = stream, call, clock

    async def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        call = self._call
        async for delta in self._stream:
            call.seconds = self._clock.monotonic_s() - call.began_s
            call.text += delta.text
            if delta.text:
                call.first_s = call.seconds if call.first_s is None else call.first_s
                call.tokens += 1
            if delta.usage is not None:
                call.tokens = delta.usage.completion_tokens or call.tokens
                call.prompt_tokens = delta.usage.prompt_tokens
            call.failed = call.failed and delta.finish_reason is None
            yield delta
