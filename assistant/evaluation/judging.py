"""Asks questions through the answer path, and judges what it prepared and what reaches the agent.

``Observer`` and ``Judge`` take no model; ``WrittenAnswers`` takes one that writes, live or recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import date
from math import log2
from typing import Literal, TypeVar

from assistant.answering.answer import AnswerQuestion
from assistant.answering.choose import Section
from assistant.answering.compose import QuotedBlock
from assistant.answering.events import Done, SentenceEnded, Token
from assistant.answering.evidence import Evidence
from assistant.answering.ports import (
    AnswerGenerator,
    GenerationDelta,
    GenerationRequest,
    GenerationStream,
    TokenCounter,
)
from assistant.answering.prepare import (
    MAX_EARLIER_CHARACTERS,
    AnswerRequest,
    FollowUpRequest,
    PrepareAnswer,
    PreparedAnswer,
)
from assistant.answering.services import AnswerWriter, TenantServices, elapsed_ms
from assistant.domain.answers import Certainty, FinishReason, Mode
from assistant.domain.clock import Clock, Deadline
from assistant.domain.documents import RRF_K, VECTOR_LEG_WEIGHT, Retrieved, StoredDocument, Unit, UnitKind
from assistant.domain.documents import reciprocal_rank_fusion as fuse
from assistant.domain.errors import AssistantError, ConfigurationError, OverloadedError
from assistant.domain.identity import Identity, Role
from assistant.evaluation.questions import (
    EvaluationQuestion,
    PartResult,
    QuestionResult,
    QuotedUnit,
    RankedCandidate,
    ShownQuote,
    WrittenResult,
)
from assistant.recorded_model import (
    CONTEXT_TOKENS,
    MAX_TOKENS,
    CharacterCount,
    RecordedAnswer,
    RecordedModel,
    prompt_sha256,
)
from assistant.text.language import fold

ResultT = TypeVar("ResultT")
_DEADLINE_S = 30.0
_ATTEMPTS = 4
_BACK_OFF_S = 0.2
_READ_AT_ONCE = 20


@dataclass(frozen=True, slots=True)
class Observed:
    """What the answer path prepared for one question."""

    question: EvaluationQuestion
    before: str | None
    prepared: PreparedAnswer
    timings_ms: Mapping[str, float]
    """By step of the first attempt, and their ``total``."""
    degraded: tuple[str, ...]
    """Steps that were left out each time it was asked."""


def identity_of(services: TenantServices) -> Identity:
    """Return who asks in an evaluation: an agent of the tenant without access labels."""
    return Identity(services.tenant.name, "evaluation", frozenset({Role.AGENT}), frozenset())


def request_of(question: str, before: str | None) -> AnswerRequest:
    """Return the request for a question; ``before``: the one that was asked before it."""
    if before is None:
        return AnswerRequest(question=question)
    return FollowUpRequest(question=question, earlier_question=before[:MAX_EARLIER_CHARACTERS])


async def until_whole(
    ask: Callable[[], Awaitable[tuple[ResultT, Sequence[str]]]], *, attempts: int = _ATTEMPTS
) -> tuple[ResultT, tuple[str, ...]]:
    """Ask again while the embedding endpoint is overloaded or a step is left out.

    ``ask`` returns a result and the steps that were left out; those of the last attempt are returned.
    Raises what ``ask`` raises.
    """
    for attempt in range(1, attempts + 1):
        try:
            result, degraded = await ask()
        except OverloadedError:
            if attempt == attempts:
                raise
            await asyncio.sleep(_BACK_OFF_S * 2**attempt)
            continue
        if not degraded or attempt == attempts:
            return result, tuple(degraded)
    raise AssertionError("unreachable")


class Observer:
    """Asks one tenant's questions, as an agent without access labels does."""

    def __init__(self, services: TenantServices) -> None:
        model = replace(services.writer.model, writes_answers=False)
        writer, live = replace(services.writer, model=model), replace(services.live, elements=None)
        self._services = replace(services, writer=writer, live=live)
        """What documents answer: no live system is called, or counted on."""
        self._prepare = PrepareAnswer(self._services)
        self._identity = identity_of(services)
        self._read: dict[str, StoredDocument] = {}

    @property
    def weights(self) -> dict[str, str]:
        """SHA-256 (hex) of each weights file, by kind."""
        return self._prepare.find_evidence.weights

    @property
    def leg_size(self) -> int:
        return self._services.tenant.retrieval.leg_size

    async def ask(self, question: EvaluationQuestion, *, before: str | None = None) -> Observed:
        """Return what an agent would be shown. Raises AssistantError."""
        clock = self._services.clock
        spent_ms: list[Mapping[str, float]] = []

        async def once() -> tuple[PreparedAnswer, Sequence[str]]:
            started_s = clock.monotonic_s()
            prepared = await self._prepare.prepare(
                request_of(question.question, before),
                identity=self._identity,
                deadline=Deadline.after(_DEADLINE_S, clock=clock),
            )
            prepared.scope.steps.root.end()
            spent_ms.append({**prepared.scope.steps.timings_ms, "total": elapsed_ms(started_s, clock=clock)})
            return prepared, prepared.scope.degraded

        prepared, degraded = await until_whole(once)
        return Observed(question, before, prepared, spent_ms[0], degraded)

    async def documents(self, document_ids: Iterable[str]) -> Mapping[str, StoredDocument]:
        """Return documents by id; those that are not in the index are absent. Raises AssistantError."""
        wanted = list(dict.fromkeys(document_ids))
        missing = [name for name in wanted if name not in self._read]
        for start in range(0, len(missing), _READ_AT_ONCE):
            deadline = Deadline.after(_DEADLINE_S, clock=self._services.clock)
            self._read.update(
                await self._services.search.read_documents(
                    missing[start : start + _READ_AT_ONCE], labels=frozenset(), deadline=deadline
                )
            )
        return {name: self._read[name] for name in wanted if name in self._read}

    async def check(self, questions: Sequence[EvaluationQuestion]) -> None:
        """Raise ConfigurationError for the first question that names a document which is not there."""
        named = {
            question.qid: {*question.documents, *filter(None, [question.near])} for question in questions
        }
        known = await self.documents(name for names in named.values() for name in names)
        for qid, names in named.items():
            for name in sorted(names - known.keys()):
                raise ConfigurationError(
                    f"{qid} names the document {name}, which {self._services.tenant.name} does not have or "
                    "shows to agents with a label only. Add the document, or correct the question."
                )


async def observe_all(
    observer: Observer, questions: Sequence[EvaluationQuestion], earlier: Mapping[str, str]
) -> AsyncGenerator[Observed]:
    """Ask the questions one at a time, so that times are right; a follow-up after the question it names."""
    for question in questions:
        before = None if question.after is None else earlier[question.after]
        yield await observer.ask(question, before=before)


def _leg(retrieved: Retrieved, score: str, *, size: int) -> list[str]:
    """Return the best passages by a score of theirs."""
    found = [
        (-getattr(hit, score), hit.passage_id) for hit in retrieved.hits if getattr(hit, score) is not None
    ]
    return [passage_id for _, passage_id in sorted(found)[:size]]


def rrf_documents(retrieved: Retrieved, *, leg_size: int) -> list[str]:
    """Return the documents as plain reciprocal rank fusion of both legs of passages orders them."""
    legs = [_leg(retrieved, score, size=leg_size) for score in ("lexical_score", "cosine")]
    return _documents_of(retrieved, fuse(legs, weights=(1.0, VECTOR_LEG_WEIGHT), k=RRF_K))


def vector_documents(retrieved: Retrieved, *, leg_size: int) -> list[str]:
    """Return the documents as the vector leg alone orders them, by their best passage."""
    return _documents_of(retrieved, _leg(retrieved, "cosine", size=leg_size))


def _documents_of(retrieved: Retrieved, passage_ids: Iterable[str]) -> list[str]:
    documents = {hit.passage_id: hit.document_id for hit in retrieved.hits}
    return list(dict.fromkeys(documents[passage_id] for passage_id in passage_ids))


# --- judging --------------------------------------------------------------------------------------------


_SHORTEST_INSIDE = 12
"""Characters of a unit that counts as gold because an excerpt holds it: shorter ones are "Yes." and "No."."""
_RANKED_SHOWN = 6


def normal(text: str) -> str:
    """Return the text with white space, case and apostrophes made one."""
    return " ".join(fold(text).split())


def holds_all(text: str, strings: Iterable[str]) -> bool:
    """Say whether a normal text holds every string."""
    return all(normal(string) in text for string in strings)


def is_gold(text: str, gold: Iterable[str]) -> bool:
    """Say whether a unit's text holds a gold excerpt or is part of one."""
    unit = normal(text)
    return any(
        normal(excerpt) in unit or (len(unit) > _SHORTEST_INSIDE and unit in normal(excerpt))
        for excerpt in gold
    )


class Judge:
    """Judges one tenant's questions. Reads the documents that it needs through the observer."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer
        self._texts: dict[str, str] = {}

    async def result(self, observed: Observed) -> QuestionResult:
        """Return one question's result."""
        question, evidence = observed.question, observed.prepared.found.evidence
        ranked = [[candidate.document_id for candidate in part.ranked] for part in evidence]
        fused = [rrf_documents(part.retrieved, leg_size=self._observer.leg_size) for part in evidence]
        nearest = [vector_documents(part.retrieved, leg_size=self._observer.leg_size) for part in evidence]
        right = await self._right_documents(question, [*ranked, *fused, *nearest])
        live = {element.part for element in observed.prepared.hydration.answering}
        is_found = any(part.is_found or at in live for at, part in enumerate(evidence))
        quoted = observed.prepared.found
        units = _shown_units(observed)
        values = {"refused" if question.answerable else "true_refused": float(not is_found)}
        if is_found:
            values |= quote_faults(quoted.blocks, [found for part in evidence for found in quotable(part)])
        if question.telltale:
            values["telltale"] = float(any(normal(each) in _text(units) for each in question.telltale))
        if question.answerable:
            values |= _quote_values(question, is_found, _text(units), _text(_also_units(observed)))
            place = _Places(question, right, len(evidence))
            values |= {"first": place.share(ranked, among=1), "three": place.share(ranked, among=3)}
            values |= {"ndcg": place.ndcg(ranked), "vector_ndcg": place.ndcg(nearest)}
            values["rrf_first"] = place.share(fused, among=1)
            values["gain"] = values["first"] - values["rrf_first"]
            if any(part.is_undisputed for part in evidence):
                values["undisputed_first"] = values["first"]
        return QuestionResult(
            question=question,
            before=observed.before,
            is_found=is_found,
            values=values,
            words=_words(block.before + block.text for block in quoted.blocks) if is_found else 0,
            also_words=_words(part.text for part in quoted.also) if is_found else 0,
            timings_ms=dict(observed.timings_ms),
            degraded=observed.degraded,
            parts=tuple(self._part(question, part, right) for part in evidence),
        )

    async def _right_documents(
        self, question: EvaluationQuestion, rankings: Sequence[Sequence[str]]
    ) -> frozenset[str]:
        """Return the documents that answer: those named, and of the first three those that hold all gold."""
        if not question.answerable:
            return frozenset()
        first = {name for ranking in rankings for name in ranking[:3]} - set(question.documents)
        holding = {
            name
            for name, document in (await self._observer.documents(sorted(first))).items()
            if question.gold and holds_all(self._text_of(name, document), question.gold)
        }
        return frozenset({*question.documents, *holding})

    def _text_of(self, name: str, document: StoredDocument) -> str:
        text = self._texts.get(name)
        if text is None:
            passages = " ".join(passage.text for passage in document.passages)
            text = self._texts[name] = f"{normal(passages)} {_text(_units(document))}"
        return text

    def _part(self, question: EvaluationQuestion, part: Evidence, right: frozenset[str]) -> PartResult:
        titles = {name: document.card.title for name, document in part.documents.items()}
        return PartResult(
            searched=part.searched,
            is_found=part.is_found,
            best_cosine=part.gate.best_cosine,
            quote=self._quote(question, part.section),
            also=self._quote(question, part.also),
            ranking=tuple(
                RankedCandidate(
                    document_id=candidate.document_id,
                    title=titles.get(candidate.document_id, ""),
                    score=round(candidate.score, 4),
                    is_right=candidate.document_id in right,
                    features={name: round(value, 4) for name, value in candidate.features.items()},
                )
                for candidate in part.ranked[:_RANKED_SHOWN]
            ),
        )

    def _quote(self, question: EvaluationQuestion, quote: Section | None) -> ShownQuote | None:
        if quote is None:
            return None
        return ShownQuote(
            document_id=quote.document.card.document_id,
            title=quote.document.card.title,
            units=tuple(
                QuotedUnit(
                    heading=unit.unit.heading,
                    text=unit.unit.text,
                    is_gold=is_gold(unit.unit.text, question.gold),
                    is_key=unit.unit.ordinal in quote.keys,
                    holds=_held(unit.unit.text, question.answer_contains),
                    telltale=_held(unit.unit.text, question.telltale),
                )
                for unit in quote.units
            ),
        )


_DEPTH = 10
"""Places that nDCG looks at."""


def _gain(ranking: Sequence[str], right: Collection[str]) -> float:
    """Return the discounted gain of the first right document: 1 at the first place, 0 beyond the tenth."""
    places = (at for at, name in enumerate(ranking[:_DEPTH]) if name in right)
    return 1 / log2(at + 2) if (at := next(places, None)) is not None else 0.0


class _Places:
    """Where the right documents of one answerable question stand in the rankings of its parts."""

    def __init__(self, question: EvaluationQuestion, right: frozenset[str], parts: int) -> None:
        self._named = question.documents
        self._whole = right - set(question.documents)
        """Right for the whole question, by holding all its gold."""
        self._right = right
        self._of_each = question.kind == "double" and (parts > 1 or len(question.documents) > 1)

    def share(self, rankings: Sequence[Sequence[str]], *, among: int) -> float:
        """Return whether a right document is among the first; of a double question the share of halves."""
        tops = [frozenset(ranking[:among]) for ranking in rankings]
        in_tops = frozenset[str]().union(*tops)
        if not self._of_each or in_tops & self._whole:
            return float(bool(in_tops & self._right))
        if len(self._named) > 1:
            return sum(name in in_tops for name in self._named) / len(self._named)
        return sum(bool(top & self._right) for top in tops) / len(tops)

    def ndcg(self, rankings: Sequence[Sequence[str]]) -> float:
        """Return nDCG@10, where one right document is all that is needed; of a double question its halves'
        mean."""
        whole = max((_gain(ranking, self._right) for ranking in rankings), default=0.0)
        if not self._of_each or any(set(ranking[:_DEPTH]) & self._whole for ranking in rankings):
            return whole
        if len(self._named) > 1:
            gains = [
                max((_gain(ranking, {name}) for ranking in rankings), default=0.0) for name in self._named
            ]
        else:
            gains = [_gain(ranking, self._right) for ranking in rankings]
        return sum(gains) / len(gains)


def _quote_values(question: EvaluationQuestion, is_found: bool, text: str, also: str) -> dict[str, float]:
    """Return the values of what is quoted, by measure; ``text`` and ``also`` are normal."""
    is_shown = float(is_found)
    right = is_shown * holds_all(text, question.answer_contains)
    values = {
        "right": right,
        "right_with_also": is_shown * holds_all(f"{text} {also}", question.answer_contains),
        f"right_{question.kind}": right,
    }
    if question.gold:
        covered = sum(normal(excerpt) in text for excerpt in question.gold) / len(question.gold)
        values["gold_covered"] = is_shown * covered
    return values


def quote_faults(blocks: Sequence[QuotedBlock], documents: Iterable[StoredDocument]) -> dict[str, float]:
    """Return whether quoted blocks differ from the stored text, up to white space, and whether they begin
    after the first step of a procedure of which they show a part. None of a quote without stored text."""
    quoted = [block for block in blocks if block.quote is not None]
    if not quoted:
        return {}
    stored = {document.card.document_id: document for document in documents}
    texts = {name: _spaced(passage.text for passage in one.passages) for name, one in stored.items()}
    lines = [(block.passage.document_id, line) for block in quoted for line in block.text.split("\n- ")]
    shown: dict[str, set[tuple[int, int]]] = {}
    for block in quoted:
        shown.setdefault(block.passage.document_id, set()).add(block.span)
    return {
        "quote_differs": float(any(_spaced([line]) not in texts[name] for name, line in lines)),
        "quote_begins_late": float(any(_begins_late(stored[name], spans) for name, spans in shown.items())),
    }


def _begins_late(document: StoredDocument, shown: Collection[tuple[int, int]]) -> bool:
    """Return whether a step, or what is below the heading of steps, is shown without the first of them."""
    units = _units(document)
    first: dict[str, Unit] = {}
    for unit in units:
        if unit.kind is UnitKind.STEP:
            first.setdefault(unit.heading, unit)
    headings = {unit.heading for unit in units if (unit.span.start, unit.span.end) in shown}
    return any(
        (step.span.start, step.span.end) not in shown
        for above, step in first.items()
        if any(heading == above or (above and heading.startswith(f"{above} > ")) for heading in headings)
    )


def _spaced(texts: Iterable[str]) -> str:
    return " ".join(" ".join(texts).split())


def quotable(part: Evidence) -> list[StoredDocument]:
    """Return the documents that may be quoted of a part."""
    table = part.table.documents.values() if part.table is not None else ()
    return [*part.documents.values(), *table]


def change_values(alone: QuestionResult, after: QuestionResult) -> dict[str, float]:
    """Compare a question asked after another subject with the same question asked alone, by measure."""
    shown, shown_after = ((one.is_found, [part.quote for part in one.parts]) for one in (alone, after))
    return {
        "change_same": float(shown == shown_after),
        "change_loss": float(alone.is_right) - float(after.is_right),
    }


def _held(text: str, strings: Iterable[str]) -> tuple[str, ...]:
    unit = normal(text)
    return tuple(string for string in strings if normal(string) in unit)


def _units(document: StoredDocument) -> list[Unit]:
    return [unit for passage in document.passages for unit in passage.units]


def _shown_units(observed: Observed) -> list[Unit]:
    """Return the units that an agent is shown: two questions that one document answers share one quote."""
    return [
        unit
        for block in observed.prepared.found.blocks
        for unit in block.passage.units
        if (unit.span.start, unit.span.end) == block.span
    ]


def _also_units(observed: Observed) -> list[Unit]:
    """Return the units of the sections that are offered beside the quote."""
    findings = observed.prepared.found
    contending = {part.document_id for part in findings.also}
    return [
        unit.unit
        for part in findings.evidence
        if part.also is not None and part.also.document_id in contending
        for unit in part.also.units
    ]


def _text(units: Iterable[Unit]) -> str:
    return normal(" ".join(unit.text for unit in units))


def _words(texts: Iterable[str]) -> int:
    return sum(any(letter.isalnum() for letter in word) for text in texts for word in text.split())


# --- written answers -------------------------------------------------------------------------------------


_WRITTEN_DEADLINE_S = 90.0
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


class HeardModel:
    """Reads a model's stream as it comes, whenever its reader takes it, and keeps its text and times.

    The answer path reads the first text only when it has the vectors of the section beside it.
    """

    def __init__(self, generator: AnswerGenerator, clock: Clock) -> None:
        self._generator, self._clock = generator, clock
        self.ended: dict[str, str] = {}
        """Of calls that neither failed nor were late."""
        self._start()

    def _start(self) -> None:
        self.first_s: float | None = None
        self.text, self.seconds, self.tokens, self.failed = "", 0.0, 0, False

    def forget(self) -> None:
        self.ended.clear()
        self._start()

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncGenerator[GenerationStream]:
        self._start()
        self.failed, began_s = True, self._clock.monotonic_s()
        async with self._generator.stream(request, deadline=deadline) as stream:
            read = _Read(stream.inference_id, stream.variant)
            reading = asyncio.create_task(self._read(stream, read, began_s=began_s))
            try:
                yield read
            finally:
                reading.cancel()
                await asyncio.wait([reading])
        self.ended[prompt_sha256(request.messages)] = self.text

    async def _read(self, stream: GenerationStream, read: _Read, *, began_s: float) -> None:
        try:
            async for delta in stream:
                self.seconds = self._clock.monotonic_s() - began_s
                self.text += delta.text
                if delta.text:
                    self.first_s = self.seconds if self.first_s is None else self.first_s
                    self.tokens += 1
                if delta.usage is not None and delta.usage.completion_tokens:
                    self.tokens = delta.usage.completion_tokens
                self.failed = self.failed and delta.finish_reason is None
                read.items.put_nowait(delta)
            read.items.put_nowait(None)
        except AssistantError as error:
            read.items.put_nowait(error)


class _Read:
    def __init__(self, inference_id: str | None, variant: str | None) -> None:
        self.inference_id, self.variant = inference_id, variant
        self.items: asyncio.Queue[GenerationDelta | AssistantError | None] = asyncio.Queue()

    async def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        while (item := await self.items.get()) is not None:
            if isinstance(item, AssistantError):
                raise item
            yield item


class WrittenAnswers:
    """Asks one tenant's questions as an agent without access labels does, with a model that writes."""

    def __init__(self, services: TenantServices, model: WrittenModel) -> None:
        generation = services.tenant.generation
        update = {"context_tokens": CONTEXT_TOKENS, "max_tokens": MAX_TOKENS} if model.recorded else {}
        answers = services.tenant.answers.model_copy(update={"mode": "auto"})
        tenant = services.tenant.model_copy(
            update={"generation": generation.model_copy(update=update), "answers": answers}
        )
        self.heard = HeardModel(model.generator, services.clock)
        served = replace(
            services.writer.model,
            writes_answers=True,
            system_role=bool(model.recorded) or services.writer.model.system_role,
            recorded=model.name if model.recorded else None,
        )
        self._services = replace(
            services,
            tenant=tenant,
            writer=AnswerWriter(self.heard, served, model.counter),
            live=replace(services.live, elements=None),
        )
        self._recorded = model.recorded
        self._model_name = model.name
        self._answer = AnswerQuestion(self._services)
        self._identity = identity_of(services)

    async def prepare(self, question: EvaluationQuestion, *, before: str | None = None) -> PreparedAnswer:
        """Find the documents and make the prompt. Raises AssistantError."""
        request = request_of(question.question, before)
        deadline = Deadline.after(_WRITTEN_DEADLINE_S, clock=self._services.clock)
        return await self._answer.prepare(request, identity=self._identity, deadline=deadline)

    async def ask(
        self, question: EvaluationQuestion, *, before: str | None = None
    ) -> tuple[WrittenResult, list[RecordedAnswer]]:
        """Return what reached the agent, and the lines to record of a live model. Raises AssistantError."""
        self.heard.forget()
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
            readings = {prompt: text for prompt, text in self.heard.ended.items() if prompt != digest}
            recorded = [self._line(question, "reading", *reading) for reading in readings.items()]
            if is_written and digest is not None:
                recorded.append(self._line(question, "answer", digest, self.heard.text))
        written = WrittenResult(
            values=_written_values(
                question,
                is_refused=done is None or done.mode is None,
                is_sure=done is not None and done.certainty is Certainty.ANSWERED,
                is_right=holds_all(normal(shown), question.answer_contains),
                is_raw_right=None if raw is None else holds_all(normal(raw), question.answer_contains),
                plays=None if line is None or digest is None else line.prompt_sha256 == digest,
                is_whole=not any(
                    isinstance(event, SentenceEnded) and event.detail == "withheld" for event in events
                ),
            ),
            is_written=is_written,
            is_stale=line is not None and digest is not None and line.prompt_sha256 != digest,
            text=shown,
            degraded=done.degraded if done is not None else (),
            read_by=prepared.record.reading.made_by if prepared.record.reading else "plain",
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


def _written_values(
    question: EvaluationQuestion,
    *,
    is_refused: bool,
    is_sure: bool,
    is_right: bool,
    is_raw_right: bool | None,
    plays: bool | None,
    is_whole: bool,
) -> dict[str, float]:
    """Return the values of a written answer, by measure. ``is_raw_right``: whether the model's own text is
    right, None where it is not known; ``plays``: whether the recording is of today's prompt, None without a
    recording; ``is_whole``: whether every sentence was shown."""
    played = {} if plays is None else {"plays": float(plays)}
    if not question.answerable:
        return played | {
            "written_false": float(is_sure),
            "written_rightly_refused": float(is_refused),
            "written_withheld": float(not is_whole),
        }
    values = played | {
        "written_withheld": float(not is_whole),
        "written_right": float(is_right),
        "written_refused": float(is_refused),
        "written_sure": float(is_sure),
    }
    if question.kind == "messy":
        values["written_messy"] = float(is_right)
    if is_raw_right is not None:
        values["raw_right"] = float(is_raw_right)
    if is_raw_right:
        values["unchanged"] = float(is_right and is_whole)
    return values
