"""Compares ways of answering on the same questions and the same load: a file of candidates, one table.

Each candidate is asked one question at a time, in blocks, in the same random order; after each block a
candidate whose share of right answers cannot reach the best one's any more is stopped. Those that remain then
answer eight questions at once. Every measurement is written down when it is made: a comparison that was
interrupted goes on where it was.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
import os
import random
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import NormalDist
from typing import Annotated, Literal, cast

from pydantic import Field, ValidationError, model_validator

from assistant.answering.events import Done, Problem, SentenceEnded, Token
from assistant.answering.ports import (
    AnswerGenerator,
    AnswerRecords,
    GenerationDelta,
    GenerationRequest,
    GenerationStream,
)
from assistant.answering.prepare import AnswerRequest, FollowUpRequest
from assistant.answering.services import TenantServices, elapsed_ms
from assistant.answering.use_case import AnswerQuestion
from assistant.domain.answers import AnswerRecord, Support, Usage
from assistant.domain.clock import Clock, Deadline
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.domain.identity import Identity, Role
from assistant.domain.public import PublicModel
from assistant.evaluation.judging import holds_all, normal
from assistant.evaluation.questions import EvaluationQuestion
from assistant.settings.toml_file import StrictModel

BLOCK = 20
"""Questions between two looks at who is hopeless."""
AT_ONCE = 8
LOADED = 40
"""Answerable questions that are asked eight at once."""
ERROR_RATE = 0.05
"""Chance that a candidate as good as the best one is stopped, over all looks."""
_DEADLINE_S = 100.0
_ORDER_SEED = 20_261_121
_EARLIER_CHARACTERS = 1_000
_FIRST_WORDS = 40
_NAME = r"^[A-Za-z0-9][A-Za-z0-9 ._,/()-]{0,60}$"


class Candidate(StrictModel):
    """One way of answering."""

    name: Annotated[str, Field(pattern=_NAME)]
    kind: Literal["quoted", "local", "stand_in", "sagemaker"]
    """``quoted``: no model. ``local``: the tenant's model on this machine. ``stand_in``: no model either, but
    its stated speed, with the first passage's words. ``sagemaker``: an endpoint in an account."""
    endpoint: str | None = None
    region: str | None = None
    prompt: str | None = None
    """``<task>/<version>``; by default the model's own, answer/2 for an endpoint."""
    passages: int | None = Field(default=None, ge=1, le=20)
    """Sources that it reads; by default as many as the model's own manifest says."""
    max_tokens: int | None = Field(default=None, ge=1, le=4096)
    first_token_ms: float | None = Field(default=None, ge=0.0)
    tokens_per_s: float | None = Field(default=None, gt=0.0)
    usd_per_hour: float | None = Field(default=None, ge=0.0)
    """Price of the instance that serves the model, for the cost of 1,000 answers."""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Candidate:
        needed = {"sagemaker": ("endpoint", "region"), "stand_in": ("first_token_ms", "tokens_per_s")}
        missing = [key for key in needed.get(self.kind, ()) if getattr(self, key) is None]
        if missing:
            raise ValueError(f'candidate "{self.name}" of kind {self.kind} needs {" and ".join(missing)}')
        return self

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of all its fields: a changed candidate is measured anew."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class CandidatesFile(StrictModel):
    """The file of ``assistant models compare --candidates``."""

    schema_version: Literal[1]
    candidates: Annotated[tuple[Candidate, ...], Field(min_length=2, max_length=20)]

    @model_validator(mode="after")
    def _names_differ(self) -> CandidatesFile:
        names = [one.name for one in self.candidates]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f'two candidates have the name "{doubled[0]}"; name each once')
        return self


class Measured(PublicModel):
    """One answer of one candidate to one question."""

    candidate: str
    digest: str
    qid: str
    at_once: int
    outcome: Literal["answered", "possibly", "refused", "failed"]
    written: bool
    """Whether a model wrote the text; else it is quoted."""
    right: bool
    """Of an answerable question: it holds what a right answer holds and nothing of the other branch. Of an
    unanswerable one: it was refused."""
    sentences: int
    supported: int
    first_token_ms: float | None
    total_ms: float
    model_tokens: int
    """Pieces of text that the model's stream brought, mostly one token each; 0 where no model wrote."""
    model_ms: float
    """From the first to the last of them."""
    error: str | None = None


class PacedGenerator:
    """An ``AnswerGenerator`` of stated speed: it writes the first words of the first passage."""

    def __init__(self, *, first_token_ms: float, tokens_per_s: float) -> None:
        self._first_s = first_token_ms / 1000
        self._pause_s = 1 / tokens_per_s

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncGenerator[GenerationStream]:
        await asyncio.sleep(min(self._first_s, deadline.remaining_s()))
        passage = request.messages[-1].content.partition("<passage>")[2].partition("</passage>")[0]
        words = passage.split()[:_FIRST_WORDS]
        yield cast("GenerationStream", _PacedStream(words, self._pause_s))


class _PacedStream:
    def __init__(self, words: Sequence[str], pause_s: float) -> None:
        self.inference_id: str | None = None
        self._words, self._pause_s = words, pause_s

    async def __aiter__(self) -> AsyncGenerator[GenerationDelta]:
        for word in self._words:
            await asyncio.sleep(self._pause_s)
            yield GenerationDelta(f"{word} ")
        yield GenerationDelta(".", "stop", Usage(completion_tokens=len(self._words)))


@dataclass(slots=True)
class Meter:
    """Counts what the model writes for one answer, whether or not the agent gets to see it."""

    tokens: int = 0
    first_s: float = 0.0
    last_s: float = 0.0

    def count(self, now_s: float) -> None:
        self.first_s = self.first_s or now_s
        self.last_s = now_s
        self.tokens += 1

    @property
    def spent_ms(self) -> float:
        return round((self.last_s - self.first_s) * 1000, 3)


_meter: ContextVar[Meter] = ContextVar("meter")


class MeteredGenerator:
    """An ``AnswerGenerator`` that counts into the meter of the question being measured."""

    def __init__(self, metered: AnswerGenerator, *, clock: Clock) -> None:
        self._metered = metered
        self._clock = clock

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncGenerator[GenerationStream]:
        async with self._metered.stream(request, deadline=deadline) as stream:
            yield cast("GenerationStream", _MeteredStream(stream, _meter.get(), self._clock))


class _MeteredStream:
    def __init__(self, stream: GenerationStream, meter: Meter, clock: Clock) -> None:
        self.inference_id = stream.inference_id
        self._stream, self._meter, self._clock = stream, meter, clock

    async def __aiter__(self) -> AsyncGenerator[GenerationDelta]:
        async for delta in self._stream:
            if delta.text:
                self._meter.count(self._clock.monotonic_s())
            yield delta


class DiscardedRecords:
    """The part of ``AnswerRecords`` that an answer uses, kept nowhere: a comparison is no agent's work."""

    async def put_answer(self, record: AnswerRecord) -> None: ...

    async def list_conversation(self, _: str, *, limit: int = 50) -> list[AnswerRecord]:
        turns: list[AnswerRecord] = []
        return turns[:limit]


def services_of(candidate: Candidate, services: TenantServices) -> TenantServices:
    """Return the services as this candidate answers. Those of ``local`` and ``sagemaker`` have the generator
    of their endpoint already."""
    wanted = {"prompt": candidate.prompt, "passages": candidate.passages}
    model = replace(
        services.model,
        model_id=candidate.endpoint or services.model.model_id,
        writes_answers=candidate.kind != "quoted",
        **{key: value for key, value in wanted.items() if value is not None},
    )
    generator = services.generator
    if candidate.kind == "stand_in":
        assert candidate.first_token_ms is not None  # noqa: S101 - the file was checked
        assert candidate.tokens_per_s is not None  # noqa: S101
        generator = PacedGenerator(
            first_token_ms=candidate.first_token_ms, tokens_per_s=candidate.tokens_per_s
        )
    return replace(
        services,
        model=model,
        generator=MeteredGenerator(generator, clock=services.clock),
        records=cast("AnswerRecords", DiscardedRecords()),
        live_elements=None,  # candidates are compared by what documents say
    )


class Answerer:
    """Asks one candidate, and judges what an agent would read."""

    def __init__(self, candidate: Candidate, services: TenantServices) -> None:
        self.candidate = candidate
        self._services = services
        self._answer = AnswerQuestion(services)
        self._identity = Identity(services.tenant.name, "comparison", frozenset({Role.AGENT}), frozenset())

    async def measure(self, question: EvaluationQuestion, *, before: str | None, at_once: int) -> Measured:
        """Return the measurement; a failure is one too, and never a right answer."""
        clock = self._services.clock
        started_s = clock.monotonic_s()
        meter = Meter()
        _meter.set(meter)
        text: list[str] = []
        sentences: list[SentenceEnded] = []
        first_ms: float | None = None
        done: Done | None = None
        error: str | None = None
        try:
            prepared = await self._answer.prepare(
                self._request(question, before),
                identity=self._identity,
                deadline=Deadline.after(_DEADLINE_S, clock=clock),
            )
            async with aclosing(self._answer.stream(prepared)) as events:
                async for event in events:
                    if isinstance(event, Token):
                        first_ms = first_ms or elapsed_ms(started_s, clock=clock)
                        text.append(event.text)
                    elif isinstance(event, SentenceEnded):
                        sentences.append(event)
                    elif isinstance(event, Done):
                        done = event
                    elif isinstance(event, Problem):
                        error = event.code
        except AssistantError as failed:
            error = failed.code
        whole = "".join(text)
        outcome = _outcome(done)
        return Measured(
            candidate=self.candidate.name,
            digest=self.candidate.digest,
            qid=question.qid,
            at_once=at_once,
            outcome=outcome,
            written=done is not None and done.mode is not None and done.mode.value == "written",
            right=_is_right(question, whole, outcome),
            sentences=len(sentences),
            supported=sum(one.support is Support.SUPPORTED for one in sentences),
            first_token_ms=first_ms,
            total_ms=elapsed_ms(started_s, clock=clock),
            model_tokens=meter.tokens,
            model_ms=meter.spent_ms,
            error=error,
        )

    def _request(self, question: EvaluationQuestion, before: str | None) -> AnswerRequest:
        if before is None:
            return AnswerRequest(question=question.question, max_tokens=self.candidate.max_tokens)
        return FollowUpRequest(
            question=question.question,
            earlier_question=before[:_EARLIER_CHARACTERS],
            max_tokens=self.candidate.max_tokens,
        )


def _outcome(done: Done | None) -> Literal["answered", "possibly", "refused", "failed"]:
    if done is None:
        return "failed"
    if done.certainty is None or done.finish_reason.value in ("no_evidence", "refused"):
        return "refused"
    return "answered" if done.certainty.value == "answered" else "possibly"


def _is_right(question: EvaluationQuestion, text: str, outcome: str) -> bool:
    if not question.answerable:
        return outcome == "refused"
    if outcome in ("refused", "failed"):
        return False
    plain = normal(text.replace("\\", "").replace("*", "").replace("_", ""))
    return holds_all(plain, question.answer_contains) and not any(
        normal(string) in plain for string in question.telltale
    )


class MeasuredFile:
    """The measurements of a comparison, a line of JSON each, written when they are made."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> list[Measured]:
        """Return what was measured before. A last line that an ended process cut off is removed.

        Raises ConfigurationError naming a line that is no measurement.
        """
        if not self._path.is_file():
            return []
        whole, _, cut_off = self._path.read_bytes().rpartition(b"\n")
        if cut_off:
            os.truncate(self._path, self._path.stat().st_size - len(cut_off))
        found: list[Measured] = []
        for number, line in enumerate(whole.splitlines(), start=1):
            try:
                found.append(Measured.model_validate_json(line))
            except ValidationError:
                raise ConfigurationError(
                    f"{self._path}: line {number} is no measurement. Move the file away and compare again."
                ) from None
        return found

    def append(self, measured: Measured) -> None:
        with self._path.open("ab") as file:
            file.write(measured.model_dump_json().encode() + b"\n")


@dataclass(frozen=True, slots=True)
class Stopped:
    """Why a candidate was not asked all questions."""

    candidate: str
    after: int
    high: float
    """Upper end of its interval."""
    leader: str
    leader_low: float


Say = Callable[[str], None]
Known = dict[tuple[str, str, int], Measured]
"""By the candidate's digest, the question's id, and how many were asked at once."""


@dataclass(slots=True, kw_only=True)
class Comparison:
    """One comparison: asks, stops the hopeless, and keeps every measurement."""

    answerers: Sequence[Answerer]
    questions: Sequence[EvaluationQuestion]
    file: MeasuredFile
    say: Say

    async def run(self) -> tuple[list[Measured], list[Stopped]]:
        """Return all measurements and who was stopped. Cancelling it keeps what was measured."""
        known = {(one.digest, one.qid, one.at_once): one for one in self.file.read()}
        order = sorted(self.questions, key=lambda one: one.qid)
        random.Random(_ORDER_SEED).shuffle(order)  # noqa: S311 - an order, not a secret
        earlier = {question.qid: question.question for question in self.questions}
        blocks = [order[start : start + BLOCK] for start in range(0, len(order), BLOCK)]
        remaining = list(self.answerers)
        stopped: list[Stopped] = []
        alone: dict[str, list[Measured]] = {one.candidate.name: [] for one in self.answerers}
        for looked, block in enumerate(blocks, start=1):
            for answerer in remaining:
                found = alone[answerer.candidate.name]
                for question in block:
                    before = None if question.after is None else earlier.get(question.after)
                    found.append(await self._measured(answerer, question, before, 1, known))
            out = hopeless({one.candidate.name: alone[one.candidate.name] for one in remaining}, len(blocks))
            stopped += out
            remaining = [one for one in remaining if one.candidate.name not in {s.candidate for s in out}]
            self.say(f"block {looked} of {len(blocks)}: {', '.join(one.candidate.name for one in remaining)}")
        loaded: list[Measured] = []
        for answerer in remaining:
            loaded += await self._under_load(answerer, order, known)
        return [*(one for found in alone.values() for one in found), *loaded], stopped

    async def _under_load(
        self, answerer: Answerer, order: Sequence[EvaluationQuestion], known: Known
    ) -> list[Measured]:
        asked = [one for one in order if one.answerable and one.after is None][:LOADED]
        turns = asyncio.Semaphore(AT_ONCE)

        async def one(question: EvaluationQuestion) -> Measured:
            async with turns:
                return await self._measured(answerer, question, None, AT_ONCE, known)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(question)) for question in asked]
        return [task.result() for task in tasks]

    async def _measured(
        self,
        answerer: Answerer,
        question: EvaluationQuestion,
        before: str | None,
        at_once: int,
        known: Known,
    ) -> Measured:
        key = (answerer.candidate.digest, question.qid, at_once)
        if key not in known:
            known[key] = await answerer.measure(question, before=before, at_once=at_once)
            self.file.append(known[key])
        return known[key]


def hopeless(measured: Mapping[str, Sequence[Measured]], looks: int) -> list[Stopped]:
    """Return the candidates whose interval of right answers ends below where the best one's begins.

    Wilson intervals, at an error rate shared among the looks (Bonferroni).
    """
    if len(measured) < 2:
        return []
    z = NormalDist().inv_cdf(1 - ERROR_RATE / (2 * max(1, looks) * len(measured)))
    ends = {name: wilson(sum(one.right for one in found), len(found), z) for name, found in measured.items()}
    leader = max(ends, key=lambda name: ends[name][0])
    low = ends[leader][0]
    return [
        Stopped(name, len(measured[name]), high, leader, low)
        for name, (_, high) in ends.items()
        if high < low
    ]


def wilson(right: int, count: int, z: float = 1.96) -> tuple[float, float]:
    """Return the Wilson score interval of a share; (0, 1) without a count."""
    if count == 0:
        return 0.0, 1.0
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z * math.sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
