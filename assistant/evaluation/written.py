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
from assistant.domain.answers import FinishReason, Mode, Support
from assistant.domain.clock import Deadline
from assistant.evaluation.judging import holds_all, identity_of, normal, request_of
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
        text: list[str] = []
        sentences: list[SentenceEnded] = []
        done: Done | None = None
        async with aclosing(self._answer.stream(prepared)) as events:
            async for event in events:
                match event:
                    case Token():
                        text.append(event.text)
                    case SentenceEnded():
                        sentences.append(event)
                    case Done():
                        done = event
                    case _:
                        pass
        shown = "".join(text)
        line = self._recorded.get(question.qid)
        is_written = done is not None and (done.mode is Mode.WRITTEN or self._is_refused(done, digest))
        raw = line.answer if line is not None and line.prompt_sha256 == digest else None
        recorded: list[RecordedAnswer] = []
        if not self._recorded:
            readings = {prompt: text for prompt, text in self._heard.ended.items() if prompt != digest}
            recorded = [self._line(question, "reading", *reading) for reading in readings.items()]
            if is_written and digest is not None:
                recorded.append(self._line(question, "answer", digest, self._heard.text))
        return (
            WrittenResult(
                outcome=_outcome(done),
                is_written=is_written,
                is_stale=line is not None and digest is not None and line.prompt_sha256 != digest,
                right=question.answerable and holds_all(normal(shown), question.answer_contains),
                raw_right=(
                    holds_all(normal(raw), question.answer_contains)
                    if raw is not None and question.answerable
                    else None
                ),
                refused=done is not None and self._is_refused(done, digest),
                supported=sum(one.support is Support.SUPPORTED for one in sentences),
                check=sum(one.detail == "check" for one in sentences),
                withheld=sum(one.detail == "withheld" for one in sentences),
                text=shown,
                degraded=done.degraded if done is not None else (),
                read_by=prepared.reading.made_by,
            ),
            recorded,
        )

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

    @staticmethod
    def _is_refused(done: Done, digest: str | None) -> bool:
        return digest is not None and done.finish_reason is FinishReason.NO_EVIDENCE


def _outcome(done: Done | None) -> Outcome:
    if done is None or done.certainty is None:
        return "refused"
    return "answered" if done.certainty == "answered" else "possibly"
