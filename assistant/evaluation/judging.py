"""Asks questions through the answer path, and judges what it prepared and what reaches the agent.

``ask_questions`` asks all of a tenant's. ``Observer`` takes no model; ``WrittenAnswers`` takes one that
writes. Values are by name of a measure: ``measures.MEASURES`` says what each is.

    judged = await ask_questions(services, TenantQuestions.of(path), model)
    figures(judged)["right"].value  # 0.63

- Gold: excerpts of documents that together are the answer (``EvaluationQuestion.gold``).
- A part: a message of two questions is searched, ranked and quoted part by part.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, fields, replace
from datetime import date, datetime
from typing import NamedTuple, Protocol, TypeVar

from opentelemetry.trace import INVALID_SPAN

from assistant.answer.answer import AnswerQuestion
from assistant.answer.call import AnswerCall, Steps
from assistant.answer.events import Checked, Done, SentenceEnded, Token
from assistant.answer.find import Finding
from assistant.answer.heads import Heads
from assistant.answer.offers import QuotedBlock
from assistant.answer.plan import Nothing, Plan, Quoted, Written
from assistant.answer.request import MAX_EARLIER_CHARACTERS, AnswerRequest, ChatQuestion
from assistant.answer.section import PartQuote
from assistant.answer.services import AnswerWriter, TenantServices
from assistant.domain.answers import Certainty, ReplyCheck
from assistant.domain.clock import Deadline
from assistant.domain.documents import (
    VECTOR_LEG_WEIGHT,
    Passage,
    Retrieved,
    StoredDocument,
    Unit,
    UnitKind,
)
from assistant.domain.documents import reciprocal_rank_fusion as fuse
from assistant.domain.errors import ConfigurationError
from assistant.domain.identity import CareContext, Identity, Role
from assistant.evaluation.measures import Judged
from assistant.evaluation.questions import EvaluationQuestion, TenantQuestions
from assistant.models.recorded import (
    CONTEXT_TOKENS,
    MAX_TOKENS,
    CharacterCount,
    HeardCall,
    HeardModel,
    RecordedAnswer,
    RecordedModel,
    task_of,
)
from assistant.option import joined
from assistant.stores.ports import AnswerGenerator, TokenCounter
from assistant.text.language import fold

ResultT = TypeVar("ResultT")
_DEADLINE_S = 30.0
"""Limit of preparing one answer, or of one read of documents."""
_MORE_ATTEMPTS = 3
AGENT = "evaluation"
"""Who asks."""
TODAY = date(2026, 11, 30)
"""The day on which a model is asked in an evaluation."""
_READ_AT_ONCE = 20
"""Documents of one read."""


@dataclass(frozen=True, slots=True)
class Observed:
    """What the answer path prepared for one question."""

    question: EvaluationQuestion
    plan: Quoted | Nothing
    degraded: tuple[str, ...]
    """Steps that were left out each time it was asked."""


def untraced(deadline: Deadline) -> AnswerCall:
    """Return a scope outside any answer: documents without labels, no spans."""
    return AnswerCall(frozenset(), deadline, Steps(INVALID_SPAN, clock=deadline.clock))


def identity_of(services: TenantServices) -> Identity:
    """Return the identity that asks in an evaluation: an agent of the tenant without access labels."""
    return Identity(services.tenant.name, AGENT, frozenset({Role.AGENT}), frozenset())


def request_of(question: str, before: str | None) -> AnswerRequest:
    """Return the request for a question; ``before``: the one that was asked before it."""
    if before is None:
        return AnswerRequest(question=question)
    return ChatQuestion(question=question, earlier_questions=(before[:MAX_EARLIER_CHARACTERS],))


async def prepare(
    services: TenantServices,
    answer: AnswerQuestion,
    question: str,
    before: str | None,
    *,
    labels: frozenset[str] = frozenset(),
    context: CareContext | None = None,
) -> tuple[Plan, tuple[str, ...]]:
    """Prepare an answer for an agent with these labels, and stop before it is written or an element is
    filled. Return it, and the steps that were left out each time. Raises AssistantError.

    ``before``: the question that was asked before it; None: it is the first.
    """
    identity, request = replace(identity_of(services), labels=labels), request_of(question, before)

    async def once() -> tuple[Plan, Sequence[str]]:
        deadline = Deadline.after(_DEADLINE_S, clock=services.clock)
        plan = await answer.prepare(request, identity=identity, deadline=deadline, context=context)
        _end(plan)
        return plan, plan.basis.degraded

    return await until_whole(once)


def _end(plan: Plan) -> None:
    """End what goes on for a plan that is not sent."""
    plan.basis.hydration.cancel()
    plan.basis.call.steps.root.end()


async def until_whole(
    ask: Callable[[], Awaitable[tuple[ResultT, Sequence[str]]]],
) -> tuple[ResultT, tuple[str, ...]]:
    """Ask again while a step is left out, up to four times.

    ``ask`` returns a result and the steps that were left out; those of the last attempt are returned.
    Raises what ``ask`` raises.
    """
    result, degraded = await ask()
    for _ in range(_MORE_ATTEMPTS):
        if degraded:
            result, degraded = await ask()
    return result, tuple(degraded)


class Observer:
    """Asks one tenant's questions, as an agent without access labels does, and judges what is quoted."""

    def __init__(self, services: TenantServices) -> None:
        model = replace(services.writer.model, writes_answers=False)
        writer, live = replace(services.writer, model=model), replace(services.live, elements=None)
        self._services = replace(services, writer=writer, live=live, revisions=None)
        """The tenant's services without a model that writes and without live systems."""
        self._answer = AnswerQuestion(self._services)
        embedding_model = services.tenant.embedding.model
        self._heads = Heads(self._answer.adaptations.now.vocabulary, embedding_model=embedding_model)
        self._read: dict[str, StoredDocument] = {}
        """Documents that were read, by id: a run asks for the same ones again and again."""

    async def ask(self, question: EvaluationQuestion, *, before: str | None = None) -> Observed:
        """Return what an agent would be shown. Raises AssistantError."""
        plan, degraded = await prepare(self._services, self._answer, question.question, before)
        if isinstance(plan, Written):
            raise TypeError("No model writes for what is observed.")
        return Observed(question, plan, degraded)

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

    async def judge(self, observed: Observed) -> Judged:
        """Return one question's result. An answerable question for which nothing is shown is wrong."""
        question, shown, reading = observed.question, observed.plan.quote, observed.plan.basis.reading
        leans = float(self._heads.leans(reading.kept.questions[0], reading.vectors))
        told = {"follow_up_told" if question.kind == "follow_up" else "full_told": leans}
        if reading.kept.leans:  # not searched
            miss = f"{question.qid}: {question.question} | to be asked in full"
            return Judged(question.qid, question.document, {**told, "right": 0.0}, miss, observed.degraded)
        ranked = [[candidate.document_id for candidate in part.finding.order] for part in shown.parts]
        fused = [
            rrf_documents(part.finding.retrieved, leg_size=self._services.tenant.retrieval.leg_size)
            for part in shown.parts
        ]
        is_found = _is_found(observed)
        quote = _text(_shown_units(shown.blocks))
        values = {**told, "near" if question.answerable else "true_near": float(shown.is_near)}
        if is_found:
            values |= quote_faults(shown.blocks, [each for part in shown.parts for each in quotable(part)])
        if question.telltale:
            values["telltale"] = float(any(normal(text) in quote for text in question.telltale))
        if question.answerable:
            values["right"] = float(is_found and holds_all(quote, question.answer_contains))
            right = await self._right_documents(question, [*ranked, *fused])
            values["first"] = first_share(question, right, ranked)
            values["gain"] = values["first"] - first_share(question, right, fused)
        wanted = f"{', '.join(question.documents)} first, with {question.answer_contains}"
        shown_first = ", ".join(ranking[0] for ranking in ranked if ranking) if is_found else "nothing near"
        is_miss = 0.0 in (values.get("right"), values.get("first")) or values.get("telltale", 0.0) > 0
        return Judged(
            question.qid,
            question.document,
            values,
            f"{question.qid}: {question.question} | {wanted} | {shown_first}: {quote}" if is_miss else "",
            observed.degraded,
        )

    async def _right_documents(
        self, question: EvaluationQuestion, rankings: Sequence[Sequence[str]]
    ) -> frozenset[str]:
        """Return the documents that answer: those that the question names, and those that are first in a
        ranking and hold all its gold excerpts."""
        first_unnamed = {ranking[0] for ranking in rankings if ranking} - set(question.documents)
        holding = {
            name
            for name, document in (await self.documents(sorted(first_unnamed))).items()
            if question.gold and holds_all(_text_of(document), question.gold)
        }
        return frozenset({*question.documents, *holding})


def _text_of(document: StoredDocument) -> str:
    passages = " ".join(passage.text for passage in document.passages)
    return f"{normal(passages)} {_text(_units(document))}"


def rrf_documents(retrieved: Retrieved, *, leg_size: int) -> list[str]:
    """Return the ids of the documents as plain reciprocal rank fusion of both legs of passages orders them.

    It is what the tenant's ranking is compared with (``gain``). A hit is in a leg if it has a score of it.
    """
    documents = {hit.passage_id: hit.document_id for hit in retrieved.hits}
    legs: list[list[str]] = []
    for score in ("lexical_score", "cosine"):
        scored = [(getattr(hit, score), hit.passage_id) for hit in retrieved.hits]
        best = sorted((-value, passage_id) for value, passage_id in scored if value is not None)
        legs.append([passage_id for _, passage_id in best[:leg_size]])
    fused = fuse(legs, weights=(1.0, VECTOR_LEG_WEIGHT))
    return list(dict.fromkeys(documents[passage_id] for passage_id in fused))


# --- judging --------------------------------------------------------------------------------------------


_SHORTEST_INSIDE = 12
"""Characters of a unit that counts as gold because an excerpt holds it: shorter ones are "Yes." and "No."."""


def normal(text: str) -> str:
    """Return the folded text in one line: case, apostrophes and white space make no difference."""
    return " ".join(fold(text).split())


def holds_all(text: str, strings: Iterable[str]) -> bool:
    """Return whether ``text``, which is ``normal``, holds every string. The strings may have any form."""
    return all(normal(string) in text for string in strings)


def is_gold(text: str, gold: Iterable[str]) -> bool:
    """Return whether a unit's text holds a gold excerpt or is part of one."""
    unit = normal(text)
    return any(
        normal(excerpt) in unit or (len(unit) > _SHORTEST_INSIDE and unit in normal(excerpt))
        for excerpt in gold
    )


def first_share(
    question: EvaluationQuestion, right: frozenset[str], rankings: Sequence[Sequence[str]]
) -> float:
    """Return 1.0 where a right document is the first of a ranking, else 0.0; for a double question, the share
    of its halves.

    ``right``: the question's documents, and others that hold all its gold. ``rankings``: one for each part.
    For a double question whose parts rank x and y first:

    - One of x and y holds all the gold, and is not named: it answers both halves, 1.0.
    - The question names a and b: the share of the two that are among x and y.
    - The question names one document: the share of x and y that are right.
    """
    first_by_part = [set(ranking[:1]) for ranking in rankings]
    named, first = question.documents, set[str]().union(*first_by_part)
    answers_both = bool(first & right.difference(named))
    if question.kind != "double" or answers_both:
        return float(bool(first & right))
    of_documents = [name in first for name in named]
    of_parts = [bool(first_of_part & right) for first_of_part in first_by_part]
    halves = of_documents if len(named) > 1 else of_parts
    return sum(halves) / max(1, len(halves))


def quote_faults(blocks: Sequence[QuotedBlock], documents: Iterable[StoredDocument]) -> dict[str, float]:
    """Return ``quote_differs`` and ``quote_begins_late``, each 1.0 if it is so; empty if no block quotes a
    document.

    The first: a quoted line differs from the stored text by more than white space (each item of a
    list in the block is compared by itself). The second: a part of a procedure is shown without its first
    step. ``documents``: every document that a block may quote (``quotable``).
    """
    quoted = [block for block in blocks if block.quote is not None]
    if not quoted:
        return {}
    stored = {document.card.document_id: document for document in documents}
    texts = {name: _whole(document.passages) for name, document in stored.items()}
    lines = [(block.passage.document_id, line) for block in quoted for line in block.text.split("\n- ")]
    shown: dict[str, set[tuple[int, int]]] = {}
    for block in quoted:
        shown.setdefault(block.passage.document_id, set()).add(block.span)
    return {
        "quote_differs": float(any(_spaced(line) not in texts[name] for name, line in lines)),
        "quote_begins_late": float(any(_begins_late(stored[name], spans) for name, spans in shown.items())),
    }


def _begins_late(document: StoredDocument, shown: Collection[tuple[int, int]]) -> bool:
    """Return whether a unit under a heading with steps is shown without the first step of that heading.

    ``shown``: spans (start, end) of the units that are shown. A heading "Refills > By phone" is below
    "Refills".
    """
    units = _units(document)
    first_steps: dict[str, Unit] = {}
    for unit in units:
        if unit.kind is UnitKind.STEP:
            first_steps.setdefault(unit.heading, unit)
    headings = {unit.heading for unit in units if (unit.span.start, unit.span.end) in shown}
    return any(
        (step.span.start, step.span.end) not in shown
        for above, step in first_steps.items()
        if any(heading == above or (above and heading.startswith(f"{above} > ")) for heading in headings)
    )


def _whole(passages: Iterable[Passage]) -> str:
    """Return the passages' text as one; a long sentence may go on in the next, even inside a word."""
    parts, end = list[str](), 0
    for passage in passages:
        parts += ["" if passage.span.start == end else " ", passage.text]
        end = passage.span.end
    return _spaced("".join(parts))


def _spaced(text: str) -> str:
    return " ".join(text.split())


def quotable(part: PartQuote) -> list[StoredDocument]:
    """Return the documents that may be quoted for a part of the message."""
    offered = (document for offer in part.offered for document in offer.documents.values())
    return [*part.finding.documents.values(), *offered]


def _is_found(observed: Observed) -> bool:
    """Return whether anything is shown: a part's own evidence, or a live element that answers it."""
    live = {element.part for element in observed.plan.basis.live.answering}
    return any(part.is_found or at in live for at, part in enumerate(observed.plan.quote.parts))


def _units(document: StoredDocument) -> list[Unit]:
    return [unit for passage in document.passages for unit in passage.units]


def _shown_units(blocks: Iterable[QuotedBlock]) -> list[Unit]:
    """Return the units that an agent is shown: those whose span is a block's.

    From the blocks, not from the parts' evidence: two questions that one document answers share one quote.
    """
    return [
        unit
        for block in blocks
        for unit in block.passage.units
        if (unit.span.start, unit.span.end) == block.span
    ]


def _text(units: Iterable[Unit]) -> str:
    return normal(" ".join(unit.text for unit in units))


# --- written answers -------------------------------------------------------------------------------------


WRITTEN_DEADLINE_S = 90.0
"""Limit of one answer, reply or check of a reply by the model."""


@dataclass(frozen=True, slots=True)
class WrittenModel:
    """The model that writes in an evaluation."""

    generator: AnswerGenerator
    counter: TokenCounter
    name: str
    usd_per_hour: float | None = None
    """Price of the instance that serves a live model; None where it is not known."""
    is_live: bool = True
    """Whether it answers anew; False for a recording."""

    @classmethod
    def of_recording(cls, lines: Sequence[RecordedAnswer]) -> WrittenModel:
        """Return the model that plays recorded lines."""
        model = RecordedModel(lines)
        return cls(model, CharacterCount(), model.title, is_live=False)


class _DatedServices(TenantServices):
    """Services for which it is always the same day, so that a prompt that counts days is the same, too."""

    @classmethod
    def of(cls, services: TenantServices) -> TenantServices:
        return cls(**{part.name: getattr(services, part.name) for part in fields(services)})

    def today(self, at: datetime | None) -> date | None:
        del at
        return TODAY


def with_model(services: TenantServices, model: WrittenModel) -> tuple[TenantServices, HeardModel]:
    """Return the services for which a model writes on ``TODAY``, without live systems, and the model, which
    hears its calls.

    Recordings were made with ``CONTEXT_TOKENS`` and ``MAX_TOKENS``; other values would give other prompts.
    """
    update = {} if model.is_live else {"context_tokens": CONTEXT_TOKENS, "max_tokens": MAX_TOKENS}
    generation = services.tenant.generation.model_copy(update=update)
    answers = services.tenant.answers.model_copy(update={"mode": "auto"})
    tenant = services.tenant.model_copy(update={"generation": generation, "answers": answers})
    heard = HeardModel(model.generator, services.clock)
    served = replace(
        services.writer.model,
        writes_answers=True,
        checks=True,
        system_role=not model.is_live or services.writer.model.system_role,
        recorded=None,  # its prompts say which day it is, as a live model's do
    )
    dated = replace(
        _DatedServices.of(services),
        tenant=tenant,
        writer=AnswerWriter(heard, served, model.counter),
        live=replace(services.live, elements=None),
        revisions=None,
    )
    return dated, heard


@dataclass(frozen=True, slots=True)
class Answered:
    """What the answer path streamed for a question."""

    text: str
    done: Done | None
    """None where the stream ended with an error."""
    checked: Checked | None
    """What a model says of its sentences; None where none checked them."""
    is_whole: bool
    """Whether no sentence was withheld."""

    @property
    def is_refused(self) -> bool:
        """Whether the documents do not answer, or the stream ended with an error."""
        return self.done is None or self.done.mode is None


def _call_values(call: HeardCall, usd_per_hour: float | None) -> dict[str, float]:
    """Return whether a call failed, and times and cost of one that gave text, by measure."""
    values = {"written_failed": float(call.failed)}
    if call.first_s is None:
        return values
    values["first_token_s"] = call.first_s
    if call.tokens > 1 and call.seconds > call.first_s:
        values["tokens_per_s"] = (call.tokens - 1) / (call.seconds - call.first_s)
    if usd_per_hour is not None:
        values["usd_per_1000"] = 1000 * usd_per_hour * call.seconds / 3600
    return values


class WrittenReply(NamedTuple):
    """A reply to the patient, as the model wrote it and as it was checked."""

    text: str
    checks: tuple[ReplyCheck, ...]
    degraded: tuple[str, ...]


class AfterWritten(Protocol):
    """Writes the reply to an answer."""

    async def run(self, answer_id: str, request: AnswerRequest) -> WrittenReply | None:
        """Return None for an answer to which no reply is written. Raises AssistantError."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """What the model wrote for one request."""

    answer_id: str
    conversation_id: str
    answer: Answered
    reply: WrittenReply | None
    calls: tuple[HeardCall, ...]
    """Of the model, in order."""


class WrittenAnswers:
    """Asks one tenant's questions as an agent without access labels does, with a model that writes.

    It runs the whole answer path.
    """

    def __init__(self, services: TenantServices, model: WrittenModel) -> None:
        self._services, self._heard = with_model(services, model)
        self._model = model
        self._answer = AnswerQuestion(self._services)
        self._after = joined(lambda option: option.after_written(self._services, self._answer))
        self._identity = identity_of(services)

    async def prepare(self, request: AnswerRequest) -> Plan:
        """Search the documents and make the prompt, without asking the model. Raises AssistantError."""
        return await self._answer.prepare(request, identity=self._identity, deadline=self._deadline())

    async def find(self, request: AnswerRequest) -> list[Finding]:
        """Return what the request's own words find, for each of its questions. Raises AssistantError."""
        plan = await self.prepare(request.model_copy(update={"mode": "quoted"}))
        if isinstance(plan, Written):
            raise TypeError("No model writes for what is quoted.")
        _end(plan)
        return [part.finding for part in plan.quote.parts]

    async def exchange(self, request: AnswerRequest) -> Exchange:
        """Have the answer written, then the reply to it (``AfterWritten``). Raises AssistantError.

        Requests are made one after the other: the calls that are heard are this one's.
        """
        self._heard.calls.clear()
        plan = await self.prepare(request)
        answer, reply = await self._answered(plan), None
        ids = plan.basis.question.ids
        for after in self._after:
            reply = reply or await after.run(ids.answer_id, request)
        return Exchange(ids.answer_id, ids.conversation_id, answer, reply, tuple(self._heard.calls))

    async def ask(
        self, question: EvaluationQuestion, *, before: str | None = None
    ) -> tuple[dict[str, float], tuple[str, ...]]:
        """Write the answer. Return its values by measure, and the steps that were left out. Raises
        AssistantError."""
        self._heard.calls.clear()
        answer = await self._answered(await self.prepare(request_of(question.question, before)))
        values = _values(question, answer)
        if of_answer := [call for call in self._heard.calls if task_of(call.messages) == "answer"]:
            values |= _call_values(of_answer[-1], self._model.usd_per_hour)
        return values, () if answer.done is None else answer.done.degraded

    async def _answered(self, plan: Plan) -> Answered:
        """Stream the answer to its end."""
        async with aclosing(self._answer.stream(plan)) as stream:
            events = [event async for event in stream]
        return Answered(
            text="".join(event.text for event in events if isinstance(event, Token)),
            done=next((event for event in events if isinstance(event, Done)), None),
            checked=next((event for event in events if isinstance(event, Checked)), None),
            is_whole="withheld" not in {event.detail for event in events if isinstance(event, SentenceEnded)},
        )

    def _deadline(self) -> Deadline:
        return Deadline.after(WRITTEN_DEADLINE_S, clock=self._services.clock)


def recorded_lines(asked: str, calls: Iterable[HeardCall], *, model: str) -> list[RecordedAnswer]:
    """Return a line for each prompt of the calls that ended, with its last text. ``asked``: id of the
    question."""
    lines = (call.recorded(asked, model=model) for call in calls if call.is_ended)
    return list({line.prompt_sha256: line for line in lines}.values())


def _values(question: EvaluationQuestion, answer: Answered) -> dict[str, float]:
    values = {"written_withheld": float(not answer.is_whole)}
    if not question.answerable:
        is_sure = answer.done is not None and answer.done.certainty is Certainty.ANSWERED
        return values | {"written_false": float(is_sure), "written_rightly_refused": float(answer.is_refused)}
    is_right = holds_all(normal(answer.text), question.answer_contains)
    return values | {"written_refused": float(answer.is_refused), "written_right": float(is_right)}


# --- all questions of a tenant ---------------------------------------------------------------------------


async def ask_questions(
    services: TenantServices,
    questions: TenantQuestions,
    model: WrittenModel | None = None,
    *,
    show: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[Judged]:
    """Ask one tenant's questions, and return them judged.

    Each is asked once: what was retrieved is judged, and where a ``model`` writes, its answer, too. Then
    messy questions are compared with their clean forms.
    ``show`` is called with the numbers of questions that were asked, and of all.
    """
    observer = Observer(services)
    writer = None if model is None else WrittenAnswers(services, model)
    await observer.check(questions.asked)
    texts = {question.qid: question.question for question in questions.all}
    judged: dict[str, Judged] = {}

    def add(qid: str, values: Mapping[str, float]) -> None:
        judged[qid] = replace(judged[qid], values={**judged[qid].values, **values})

    for question in questions.asked:  # one at a time: the calls that a model's listener hears are of one
        before = None if question.after is None else texts[question.after]
        result = await observer.judge(await observer.ask(question, before=before))
        judged[question.qid] = result
        if writer is not None:
            written, degraded = await writer.ask(question, before=before)
            judged[question.qid] = replace(result, degraded=(*result.degraded, *degraded))
            add(question.qid, written)
        show(len(judged), len(questions.asked))
    # messy_loss is 1 where the clean form of a messy question is right and the messy one is not, -1 where it
    # is the other way round.
    for question in questions.asked:
        if clean := judged.get(question.clean or ""):
            loss = float(clean.is_right) - float(judged[question.qid].is_right)
            add(question.qid, {"messy_loss": loss})
    return list(judged.values())
