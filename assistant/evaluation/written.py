"""Asks questions whose answers a model writes, live or recorded, and judges what reaches the agent."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from typing import Literal

from assistant.answering.answer import AnswerQuestion
from assistant.answering.events import Done, SentenceEnded, Token
from assistant.answering.ports import (
    AnswerGenerator,
    GenerationDelta,
    GenerationRequest,
    GenerationStream,
    TokenCounter,
)
from assistant.answering.prepare import PreparedAnswer
from assistant.answering.services import TenantServices
from assistant.domain.answers import FinishReason, Mode
from assistant.domain.clock import Deadline
from assistant.evaluation.judging import holds_all, identity_of, normal, outcome_of, request_of
from assistant.evaluation.questions import EvaluationQuestion, Outcome, WrittenResult
from assistant.recorded_model import (
    CONTEXT_TOKENS,
    MAX_TOKENS,
    CharacterCount,
    RecordedAnswer,
    RecordedModel,
    prompt_sha256,
)

_DEADLINE_S = 90.0
MOST_STALE = 0.02
"""Share of a recording's lines that may be of other prompts than today's."""


@dataclass(frozen=True, slots=True)
class WrittenModel:
    """The model that writes in an evaluation."""

    generator: AnswerGenerator
    counter: TokenCounter
    name: str
    recorded: Mapping[str, RecordedAnswer]
    """Answers by question, without readings; empty for a live model."""

    @classmethod
    def of_recording(cls, lines: Sequence[RecordedAnswer]) -> WrittenModel:
        model = RecordedModel(lines)
        answers = {line.id: line for line in lines if line.task == "answer"}
        return cls(model, CharacterCount(), model.title, answers)


class _Heard:
    """Passes a model's stream on and keeps its last text, and the text of each call by its prompt's hash."""

    def __init__(self, generator: AnswerGenerator) -> None:
        self._generator = generator
        self.text = ""
        self.ended: dict[str, str] = {}
        """Of calls that neither failed nor were late."""

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncGenerator[GenerationStream]:
        self.text = ""
        async with self._generator.stream(request, deadline=deadline) as stream:
            yield _HeardStream(stream, self)
        self.ended[prompt_sha256(request.messages)] = self.text


class _HeardStream:
    def __init__(self, stream: GenerationStream, heard: _Heard) -> None:
        self._stream, self._heard = stream, heard
        self.inference_id = stream.inference_id

    async def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        async for delta in self._stream:
            self._heard.text += delta.text
            yield delta


class WrittenAnswers:
    """Asks one tenant's questions as an agent without access labels does, with a model that writes."""

    def __init__(self, services: TenantServices, model: WrittenModel) -> None:
        generation = services.tenant.generation
        update = {"context_tokens": CONTEXT_TOKENS, "max_tokens": MAX_TOKENS} if model.recorded else {}
        answers = services.tenant.answers.model_copy(update={"mode": "auto"})
        tenant = services.tenant.model_copy(
            update={"generation": generation.model_copy(update=update), "answers": answers}
        )
        self._heard = _Heard(model.generator)
        self._services = replace(
            services,
            tenant=tenant,
            generator=self._heard,
            token_counter=model.counter,
            live_elements=None,
            model=replace(
                services.model,
                writes_answers=True,
                prompt="answer/4",
                recorded=model.name if model.recorded else None,
            ),
        )
        self._recorded = model.recorded
        self._model_name = model.name
        self._answer = AnswerQuestion(self._services)
        self._identity = identity_of(services)

    async def prepare(self, question: EvaluationQuestion, *, before: str | None = None) -> PreparedAnswer:
        """Find the documents and make the prompt. Raises AssistantError."""
        request = request_of(question.question, before)
        deadline = Deadline.after(_DEADLINE_S, clock=self._services.clock)
        return await self._answer.prepare(request, identity=self._identity, deadline=deadline)

    async def ask(
        self, question: EvaluationQuestion, *, before: str | None = None
    ) -> tuple[WrittenResult, list[RecordedAnswer]]:
        """Return what reached the agent, and the lines to record of a live model. Raises AssistantError."""
        self._heard.ended.clear()
        prepared = await self.prepare(question, before=before)
        digest = prompt_sha256(prepared.prompt.messages) if prepared.prompt is not None else None
        async with aclosing(self._answer.stream(prepared)) as stream:
            events = [event async for event in stream]
        shown = "".join(event.text for event in events if isinstance(event, Token))
        done = next((event for event in events if isinstance(event, Done)), None)
        line = self._recorded.get(question.qid)
        refused = done is not None and digest is not None and done.finish_reason is FinishReason.NO_EVIDENCE
        is_written = done is not None and (done.mode is Mode.WRITTEN or refused)
        raw = line.answer if line is not None and line.prompt_sha256 == digest else None
        recorded: list[RecordedAnswer] = []
        if not self._recorded:
            readings = {prompt: text for prompt, text in self._heard.ended.items() if prompt != digest}
            recorded = [self._line(question, "reading", *reading) for reading in readings.items()]
            if is_written and digest is not None:
                recorded.append(self._line(question, "answer", digest, self._heard.text))
        written = WrittenResult(
            values=_values(
                question,
                outcome_of(done.certainty if done is not None else None),
                is_right=holds_all(normal(shown), question.answer_contains),
                is_raw_right=None if raw is None else holds_all(normal(raw), question.answer_contains),
                is_whole=not any(
                    isinstance(event, SentenceEnded) and event.detail == "withheld" for event in events
                ),
            ),
            is_written=is_written,
            is_stale=line is not None and digest is not None and line.prompt_sha256 != digest,
            text=shown,
            degraded=done.degraded if done is not None else (),
            read_by=prepared.reading.made_by,
        )
        return written, recorded

    def _line(
        self, question: EvaluationQuestion, task: Literal["answer", "reading"], prompt: str, text: str
    ) -> RecordedAnswer:
        return RecordedAnswer(
            id=question.qid,
            task=task,
            prompt_sha256=prompt,
            answer=text,
            model=self._model_name,
            made_at=date.today(),  # noqa: DTZ011 - a date for a reader
        )


def _values(
    question: EvaluationQuestion,
    outcome: Outcome,
    *,
    is_right: bool,
    is_raw_right: bool | None,
    is_whole: bool,
) -> dict[str, float]:
    """Return the values of a written answer, by measure. ``is_raw_right``: whether the model's own text is
    right, None where it is not known; ``is_whole``: whether every sentence was shown."""
    if not question.answerable:
        return {"written_false": float(outcome == "answered")}
    values = {
        "written_right": float(is_right),
        "written_refused": float(outcome == "refused"),
        "written_sure": float(outcome == "answered"),
    }
    if question.kind == "messy":
        values["written_messy"] = float(is_right)
    if is_raw_right is not None:
        values["raw_right"] = float(is_raw_right)
    if is_raw_right:
        values["unchanged"] = float(is_right and is_whole)
    return values
