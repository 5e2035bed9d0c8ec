"""Prepares an answer: understand → retrieve → gate → quote or prompt. Nothing is streamed yet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from assistant.answering.adaptations import Adaptations
from assistant.answering.approved_sources import ServedAnswer
from assistant.answering.comparisons import Comparison, source_ids
from assistant.answering.composing import (
    QuotedAnswer,
    QuotedBlock,
    also_possible,
    approved_blocks,
    as_title,
    quoted_blocks,
    reply_draft,
    snippet,
    table_blocks,
)
from assistant.answering.events import Cause
from assistant.answering.evidence import (
    Evidence,
    EvidenceQuery,
    FindEvidence,
    SourceList,
    left_to_system,
    merged_quote,
)
from assistant.answering.excerpts import (
    NO_LABELS,
    Excerpts,
    Labels,
    fill_record,
    gone_from,
    labels_in,
    read_excerpts,
    shown_path,
    shown_title,
    shown_url,
)
from assistant.answering.generate import Interruption, Prompt, PromptBuilder
from assistant.answering.hydration import CallBounds, Hydration
from assistant.answering.live_questions import (
    AskedElement,
    Clause,
    LiveQuestions,
    ShownFields,
    fields_of,
    unread,
)
from assistant.answering.ports import DocumentLinks
from assistant.answering.quote import Quote
from assistant.answering.releases import Ranking
from assistant.answering.retrieve import SearchScope
from assistant.answering.services import Steps, TenantServices, begin_answer, call_within, fail_span
from assistant.answering.sources import sources_asked
from assistant.answering.understand import KnownWordsReader, Understood, leans_on_history, understand
from assistant.domain.answers import (
    AlsoPossible,
    AnswerRecord,
    Certainty,
    Correction,
    LiveMatch,
    LiveMatchState,
    RecordId,
    Source,
    SourceAsked,
    SourceFacts,
    source_kind,
)
from assistant.domain.clock import Deadline
from assistant.domain.documents import DocumentCard, KnownWords, Passage, RankedPassage, SearchFilters
from assistant.domain.errors import AssistantError, DependencyError, NotFoundError, RecordsUnavailableError
from assistant.domain.identity import Identity
from assistant.domain.live import CareContext, ContextToken, PlainContext
from assistant.domain.public import PublicModel
from assistant.live.ports import AskedName, ElementType
from assistant.live.ports import Caller as LiveCaller

MAX_QUESTION_CHARACTERS = 4_000
MAX_EARLIER_CHARACTERS = 1_000
"""Of the question before a follow-up: it takes prompt space from the passages."""


class AnswerRequest(PublicModel):
    """A question of a care agent: the body of ``POST /v1/answers``."""

    question: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION_CHARACTERS)
    ]
    conversation_id: RecordId | None = None
    """A conversation of the same agent; absent: a new conversation."""
    filters: SearchFilters = SearchFilters()
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in tokens, at most the tenant's own limit."""
    resume_window_s: int = Field(default=0, ge=0, le=30)
    """How long the answer continues without a reader, so that the reader can resume; 0: it ends at once."""
    context: ContextToken | PlainContext | None = Field(default=None, repr=False)
    """Whose live data the answer may show: a short-lived token that the care application signed for this
    conversation. Each question needs its own. It is neither logged nor recorded."""

    @property
    def question_before(self) -> str | None:
        """The question before this one, where no record has it."""
        return None


class FollowUpRequest(AnswerRequest):
    """A question of a conversation that only the client keeps, as in OpenAI's chat API."""

    earlier_question: Annotated[str, StringConstraints(min_length=1, max_length=MAX_EARLIER_CHARACTERS)]

    @property
    def question_before(self) -> str | None:
        return self.earlier_question


@dataclass(slots=True)
class PreparedAnswer:
    """An answer whose sources are known and whose text is not written yet."""

    answer_id: str
    conversation_id: str
    identity: Identity
    request: AnswerRequest
    evidence: tuple[Evidence, ...]
    """One for each question; two for a double question. Never empty."""
    corrections: tuple[Correction, ...]
    asked_at: datetime
    started_s: float
    """Monotonic clock when the request arrived."""
    deadline: Deadline
    shown: tuple[RankedPassage, ...]
    """The sources, in the order of their numbers."""
    make_sources: Callable[[], tuple[Source, ...]]
    """Makes the sources for the agent; called while the model prepares its first token."""
    excerpts: Excerpts
    """What the answer shows of documents; complete after ``make_sources``."""
    certainty: Certainty | None
    """None: not in the knowledge base. It counts on the live systems that were asked: ``certainty_of`` says
    how sure the answer is without those that failed."""
    quoted: QuotedAnswer
    clarify: str | None
    escalation: str | None
    """Whom to ask; shown where the answer is not sure."""
    prompt: Prompt | None
    """None when no model writes: it may not, or there is no evidence."""
    max_tokens: int
    steps: Steps
    hydration: Hydration
    offered: Labels
    """Labels of the live elements that the model may name; empty where none writes."""
    asked_live: tuple[AskedElement, ...]
    """Live elements that answer parts of the message by themselves."""
    live_matches: tuple[LiveMatch, ...]
    """How near each live element is to the message."""
    weights: Mapping[str, str]
    """SHA-256 (hex) of each weights file that served, by kind."""
    asked: tuple[SourceAsked, ...] = ()
    """The tenant's sources and how much each mattered; empty where it has only one."""
    is_half_answered: bool = False
    """Whether a live system answers one half of a question, and nothing the other."""
    propensity: float = 1.0
    """Probability that this conversation got these weights."""
    follows: str | None = None
    """The answer before it in its conversation."""
    interruption: Interruption = field(default_factory=Interruption)

    @property
    def retrieval_question(self) -> str:
        """The text that was searched."""
        return "\n".join(dict.fromkeys(one.searched for one in self.evidence))

    def certainty_of(self, ready: Collection[int] = ()) -> Certainty | None:
        """Return how sure the answer is with the live elements of these parts: by default, without any.

        At most possibly where a system has something else than what the question names, or where half of a
        question is not answered.
        """
        certainty = _certainty(self.evidence, live=ready)
        is_partly = self.is_half_answered or self.hydration.reads_another
        return Certainty.POSSIBLY if certainty and is_partly else certainty

    def cancel(self, cause: Literal[Cause.CANCELLED, Cause.DISCONNECTED]) -> None:
        """End the stream at once, from any task of the same event loop; a second call changes nothing."""
        self.interruption.interrupt(cause)
        self.hydration.leave(cause)


RECORDS_TIMEOUT_S = 3.0
"""For one read from or write to the store of answers."""
_DEFAULT_SUBJECT = "default"
_SHARE_OF_DOUBLE = 0.75
"""Share of the words of one quote that each half of a double question gets."""


class PrepareAnswer:
    """Does everything before the first event, while an error may still become an HTTP status.

    Understand the question, find and judge evidence, compose the quoted answer and its sources, and build the
    prompt where a model may write.
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations | None = None) -> None:
        self._services = services
        self.find_evidence = FindEvidence(services, adaptations)
        self._adaptations = self.find_evidence.adaptations
        items_of = source_ids(services.tenant, kind="catalogue")
        self._known_words = KnownWordsReader(services.search, clock=services.clock, items_of=items_of)
        self._shipped = self.find_evidence.weights
        self._prompts = PromptBuilder(services) if services.writes_answers else None
        self.bounds = CallBounds()
        """Of the tenant's live reads in this process."""
        self._live_questions = LiveQuestions(services)

    async def prepare(
        self,
        asking: AnswerRequest,
        *,
        identity: Identity,
        deadline: Deadline,
        context: CareContext | None = None,
        answer_id: str | None = None,
        conversation_id: str | None = None,
    ) -> PreparedAnswer:
        """Return the prepared answer. Ids that are not given are made. ``context``: verified; whose live data
        may be read.

        Raises NotFoundError (no such conversation, or another agent's), TooLargeError (the question does not
        fit the model's context), EmbeddingUnavailableError, SearchUnavailableError, RecordsUnavailableError,
        OverloadedError, DeadlineExceededError. Nothing is recorded then.
        """
        services = self._services
        services.index_watch.require_own()
        asked_at, started_s = services.clock.now(), services.clock.monotonic_s()
        answer_id = answer_id or services.new_id()
        conversation_id = conversation_id or asking.conversation_id or services.new_id()
        steps = begin_answer(
            answer_id, conversation_id=conversation_id, tenant=services.tenant.name, clock=services.clock
        )
        ranking = self._adaptations.now.releases.ranking_of(conversation_id, now=asked_at)
        scope = SearchScope(identity.labels, deadline, steps, asking.filters, ranker=ranking.weights)
        known = await self._known_words.read()
        hydration = Hydration(
            services.live_elements,
            LiveCaller(identity, context, asking.question, answer_id),
            tenant=services.tenant,
            deadline=deadline,
            bounds=self.bounds,
            subject=services.subject_of(context),
        )
        with _end_on_error(steps, hydration):
            history = await self._history(asking, scope, agent=identity.agent)
            before = history[-1].question if history else asking.question_before
            understood = understand(asking.question, vocabulary=self.find_evidence.vocabulary, known=known)
            clauses = self._clauses(understood.parts, before, known)
            embedded = self._live_questions.begin(clauses)
            evidence = await self._find(understood, before, scope, known=known)
            leans = any(one.query.before is not None for one in evidence)
            earlier = [one.question for one in reversed(history)] or [before or ""]
            hydration.caller = self._live_caller(hydration.caller, known, earlier=earlier if leans else ())
            matched, unread_halves = await self._live_questions.matching(clauses, embedded, evidence)
            if context is None:
                matched = self._without_customers(matched, evidence)
            by_system = {part for part, one in matched if one.state is LiveMatchState.READ}
            evidence = tuple(
                left_to_system(one, sources=services.tenant.sources) if part in by_system else one
                for part, one in enumerate(evidence)
            )
            certainty, excerpts = _certainty(evidence), Excerpts()
            with steps.step("compose") as span:
                shown, quoted = self._compose(evidence, excerpts, hydration, by_system=by_system)
                span.set_attribute("assistant.gate.passed", certainty is not None)
            longest = services.tenant.generation.max_tokens
            max_tokens = min(asking.max_tokens or longest, longest)
            prompt = None
            named = [name for block in quoted.blocks for name, _, _ in block.elements]
            of_items = self._of_items(asking.question, quoted, known)
            matched, asked_live = self._begin_asked(matched, hydration, named=[*named, *of_items])
            if self._prompts is None:  # where a model writes, its text decides what is read
                hydration.begin_all(named)
            if certainty is not None and not any(one.approved or one.table for one in evidence):
                prompt = await self._build_prompt(asking, shown, history, max_tokens=max_tokens, scope=scope)
            return PreparedAnswer(
                answer_id=answer_id,
                conversation_id=conversation_id,
                identity=identity,
                request=asking,
                evidence=evidence,
                corrections=understood.corrections,
                asked_at=asked_at,
                started_s=started_s,
                deadline=deadline,
                shown=shown,
                make_sources=partial(
                    self._make_sources,
                    shown,
                    excerpts,
                    stems=frozenset[str]().union(*(term.forms for one in evidence for term in one.terms)),
                    cards=_cards(evidence),
                    identity=identity,
                    labels_of=hydration.labels_of,
                ),
                excerpts=excerpts,
                certainty=_certainty(evidence, live={one.part for one in asked_live}),
                quoted=quoted,
                clarify=_not_answered(unread_halves)
                or next((one.clarify for one in evidence if one.clarify and one.certainty), None),
                is_half_answered=bool(unread_halves),
                escalation=self._escalation(evidence),
                prompt=prompt,
                max_tokens=max_tokens,
                steps=steps,
                hydration=hydration,
                offered=self._offered(prompt, shown, hydration),
                asked_live=asked_live,
                live_matches=tuple(one for _, one in matched),
                follows=history[-1].answer_id if history else None,
                weights=self._weights(ranking, evidence),
                asked=self._asked(evidence),
                propensity=ranking.propensity,
            )

    def _offered(self, prompt: Prompt | None, shown: Sequence[RankedPassage], hydration: Hydration) -> Labels:
        """Return the elements that the prompt lists, and those that a source which may name them names."""
        if prompt is None:
            return NO_LABELS
        if prompt.lists_elements:
            return hydration.labels()
        read = (shown[n - 1].passage for n in prompt.numbers)
        labels = [labels_in([one.text], hydration.labels_of(one.document_id)) for one in read]
        return {key: label for found in labels for key, label in found.items()}

    def _clauses(
        self, parts: Sequence[str], before: str | None, known: KnownWords | None
    ) -> list[list[Clause]]:
        """Return the clauses of each part of a message, read as the examples of live elements are written."""
        if self._services.live_elements is None:
            return []
        read = partial(
            self._live_questions.reader.clauses,
            known=known,
            without_items=partial(self.find_evidence.without_items, known=known),
        )
        return [read(part, before=None if number else before) for number, part in enumerate(parts)]

    def _without_customers(
        self, matched: Sequence[tuple[int, LiveMatch]], evidence: Sequence[Evidence]
    ) -> list[tuple[int, LiveMatch]]:
        """Leave a customer's data out where a document answers and no customer is there.

        An agent who asks for a rule would only be told that something else is not allowed.
        """
        live = self._services.live_elements
        types: Mapping[str, ElementType] = live.types() if live is not None else {}
        return [
            (part, one)
            if evidence[part].certainty is None or not types[one.element].needs_context
            else (part, unread(one, LiveMatchState.NO_CUSTOMER))
            for part, one in matched
        ]

    def _begin_asked(
        self, matched: Sequence[tuple[int, LiveMatch]], hydration: Hydration, *, named: Collection[str]
    ) -> tuple[list[tuple[int, LiveMatch]], tuple[AskedElement, ...]]:
        """Begin the reads that parts of the message ask for, unless the quoted text, or an element before,
        shows all of their values. Return the matches as they came out, and the reads."""
        shown = ShownFields(fields_of(self._services.tenant))
        for name in named:
            shown.add(name)
        begun: dict[str, AskedElement] = {}
        asked: list[AskedElement] = []
        ended: list[tuple[int, LiveMatch]] = []
        for part, one in matched:
            match = one
            if one.state is LiveMatchState.READ and one.element not in begun:
                if shown.has(one.element):
                    match = unread(one, LiveMatchState.SHOWN)
                elif (slot := hydration.begin(one.element)) is not None:
                    without = shown.of_operation(one.element)
                    begun[one.element] = AskedElement(part, slot, without=without)
                    shown.add(one.element)
            if match.state is LiveMatchState.READ and one.element in begun:
                asked.append(replace(begun[one.element], part=part))
            ended.append((part, match))
        return ended, tuple(asked)

    def _of_items(self, question: str, quoted: QuotedAnswer, known: KnownWords | None) -> list[str]:
        """Return the live elements that follow a table and answer "is it in stock?", where the question means
        the table's items by that: it names none."""
        names = [block.of_items[0] for block in quoted.blocks if block.of_items is not None]
        if not names or self.find_evidence.named_items(question, known=known) is not None:
            return []
        return names

    async def as_asked(self, caller: LiveCaller, record: AnswerRecord) -> LiveCaller:
        """Return the caller of a recorded question as live systems are asked it."""
        return self._live_caller(caller, await self._known_words.read(), earlier=[record.retrieval_question])

    def _live_caller(
        self, caller: LiveCaller, known: KnownWords | None, *, earlier: Sequence[str] = ()
    ) -> LiveCaller:
        """Return the caller as live systems are asked: with the number of the item, and the names of things,
        that the question means. ``earlier``: as ``_with_item_number``."""
        if self._services.live_elements is None:
            return caller
        vocabulary = self.find_evidence.vocabulary
        names: tuple[AskedName, ...] = ()
        for text in (caller.question, *earlier[:1]):
            meanings = vocabulary.meanings(text, known=known)
            names = names or self._live_questions.reader.names(text, meanings=meanings)
        asked = self._with_item_number(caller.question, known, earlier=earlier)
        return replace(caller, question=asked, names=names)

    def _with_item_number(
        self, question: str, known: KnownWords | None, *, earlier: Sequence[str] = ()
    ) -> str:
        """Return the question with the number of the one item that it names: systems know items by number.

        ``earlier``: the questions before one that leans on them, the last first. Where it names no item, it
        means that of the last one that does, as far back as each leans on the one before.
        """
        vocabulary = self.find_evidence.vocabulary
        numbers = frozenset[str]()
        for text in (question, *earlier):
            if (named := self.find_evidence.named_items(text, known=known)) is not None:
                numbers = named.item_ids
                break
            if text is not question and not leans_on_history(text, vocabulary=vocabulary):
                break
        if len(numbers) != 1 or any(number.casefold() in question.casefold() for number in numbers):
            return question
        return "\n".join((question, *numbers))

    def _weights(self, ranking: Ranking, evidence: Sequence[Evidence]) -> Mapping[str, str]:
        used = {**self._shipped}
        if ranking.weights is not None:
            used[ranking.weights.kind] = ranking.weights.sha256
        routing = evidence[0].routing
        if routing is not None and routing.router is not None:
            used["router"] = routing.router
        return used

    def _asked(self, evidence: Sequence[Evidence]) -> tuple[SourceAsked, ...]:
        routed = [(one.routing.shares, one.states) for one in evidence if one.routing is not None]
        return sources_asked(self._services.tenant.sources, routed)

    async def _history(self, asking: AnswerRequest, scope: SearchScope, *, agent: str) -> list[AnswerRecord]:
        """Return the conversation's last turns, oldest first; none for a new conversation.

        No such conversation and another agent's take the same path: one query, one error.
        """
        conversation_id = asking.conversation_id
        if conversation_id is None:
            return []
        limit = max(1, self._services.model.history_turns)
        with scope.steps.step("conversation"):
            turns = await call_within(
                RECORDS_TIMEOUT_S,
                lambda _: self._services.records.list_conversation(conversation_id, limit=limit),
                deadline=scope.deadline,
                late=lambda: RecordsUnavailableError("The store of answers does not answer; ask again."),
            )
        if not turns or any(turn.agent != agent for turn in turns):
            raise NotFoundError("There is no such conversation; leave conversation_id out to begin one.")
        return turns

    async def _find(
        self, understood: Understood, before: str | None, scope: SearchScope, *, known: KnownWords | None
    ) -> tuple[Evidence, ...]:
        """Find evidence for each question of the message.

        A question is searched alone. The question before it (for the second half of a double one the first
        half) is added only where this one depends on it, or where nothing was found without.
        """
        vocabulary = self.find_evidence.vocabulary
        answers = self._services.tenant.answers
        share = 1.0 if len(understood.parts) == 1 else _SHARE_OF_DOUBLE
        find = self.find_evidence.find
        found: list[Evidence] = []
        for question in understood.parts:
            previous = understood.parts[0] if found else before
            alone = EvidenceQuery(
                question,
                corrections=understood.corrections,
                known=known,
                beside=found[0].best_id if found else None,
                max_words=int(answers.max_words * share),
                also_words=int(answers.also_words * share),
            )
            leans = previous is not None and leans_on_history(question, vocabulary=vocabulary)
            if found and self.find_evidence.asks_of_item(understood.parts[0], question, known=known):
                leans = True
            if leans:
                found.append(await find(replace(alone, before=previous, leans=True), scope))
                continue
            evidence = await find(alone, scope)
            if previous is not None and evidence.certainty is None:
                joined = await find(replace(alone, before=previous), scope)
                evidence = joined if joined.certainty is not None else evidence
            found.append(evidence)
        also = found[0].also
        if len(found) > 1 and also is not None and also.document.card.document_id == found[-1].best_id:
            found[0] = await find(replace(found[0].query, beside=found[-1].best_id), scope)
        if any(one.certainty is None for one in found):  # a damaged index must never look like "not known"
            await self._services.index_watch.require_complete(deadline=scope.deadline)
        return tuple(found)

    def _compose(
        self,
        evidence: Sequence[Evidence],
        excerpts: Excerpts,
        hydration: Hydration,
        *,
        by_system: Collection[int],
    ) -> tuple[tuple[RankedPassage, ...], QuotedAnswer]:
        """Return the sources in the order of their numbers, and the quoted answer that cites them.

        ``by_system``: parts that ask a live system. The documents of one that no document answers are no
        sources of the answer.
        """
        sources = SourceList()
        blocks: list[QuotedBlock] = []
        also: list[AlsoPossible] = []
        answering = [one for one in evidence if one.certainty is not None]
        quotes = self._quotes(answering)
        for one, quote in quotes:
            title = as_title(one.query.question) if len(quotes) > 1 else ""
            opening = ("\n\n" if blocks else "") + (f"{title}\n\n" if title else "")
            if isinstance(quote, Quote):
                labels = hydration.labels_of(quote.document.card.document_id)
                blocks += quoted_blocks(quote, one, sources, excerpts, opening=opening, labels=labels)
            elif isinstance(quote, Comparison):
                blocks += table_blocks(quote, one, sources, excerpts, opening=opening)
            else:
                blocks += approved_blocks(quote, one, sources, excerpts, opening=opening)
        shown = {quote.document.card.document_id for _, quote in quotes if isinstance(quote, Quote)}
        for one in answering:
            if one.also is not None and one.also.document.card.document_id not in shown:
                document_id = one.also.document.card.document_id
                shown.add(document_id)
                labels = hydration.labels_of(document_id)
                parts = quoted_blocks(one.also, one, sources, excerpts, labels=labels)
                also.append(also_possible(one.also, parts))
        for part, one in enumerate(evidence):
            if one.certainty is None and part in by_system:
                continue
            sources.fill(one, up_to=self._services.tenant.retrieval.passages)
        sure = (
            one.quote
            for one in answering
            if one.certainty is Certainty.ANSWERED and not (one.approved or one.table)
        )
        reply = next(
            (
                reply_draft(quote, excerpts, hydration.labels_of(quote.document.card.document_id))
                for quote in sure
                if quote is not None
            ),
            None,
        )
        return tuple(sources.passages), QuotedAnswer(tuple(blocks), tuple(also), reply)

    def _quotes(
        self, answering: Sequence[Evidence]
    ) -> list[tuple[Evidence, Quote | ServedAnswer | Comparison]]:
        """Return the quote, table or approved answer of each question; one for both where both have the same
        approved answer, or where the same document answers both."""
        approved = {one.approved.live.item_id for one in answering if one.approved is not None}
        if approved or any(one.table for one in answering):
            quotes = [(one, one.approved or one.table or one.quote) for one in answering]
            both = len(approved) == 1 and all(one.approved for one in answering)
            return [(one, quote) for one, quote in quotes[: 1 if both else None] if quote is not None]
        if len(answering) > 1 and len({one.best_id for one in answering}) == 1:
            words = int(len(answering) * _SHARE_OF_DOUBLE * self._services.tenant.answers.max_words)
            quote = merged_quote(answering, headings=self.find_evidence.headings, max_words=words)
            return [(answering[0], quote)] if quote is not None else []
        return [(one, one.quote) for one in answering if one.quote is not None]

    async def _readable_turns(
        self, history: Sequence[AnswerRecord], scope: SearchScope
    ) -> list[AnswerRecord]:
        """Return the last turns with their texts, for the model, oldest first.

        They begin after the last turn that showed a document which is withdrawn since or unreadable now, so
        that there is no gap.
        """
        readable: list[AnswerRecord] = []

        async def read(_: Deadline) -> None:
            for turn in reversed(history):
                shown = await read_excerpts(turn.excerpts, self._services.texts, labels=scope.labels)
                if gone_from(turn, shown):
                    return
                readable.insert(0, fill_record(turn, shown))

        with suppress(DependencyError):
            await call_within(
                RECORDS_TIMEOUT_S,
                read,
                deadline=scope.deadline,
                late=lambda: DependencyError("Earlier answers took too long to read."),
            )
        return readable

    async def _build_prompt(
        self,
        asking: AnswerRequest,
        shown: Sequence[RankedPassage],
        history: Sequence[AnswerRecord],
        *,
        max_tokens: int,
        scope: SearchScope,
    ) -> Prompt | None:
        if self._prompts is None:
            return None
        turns = await self._readable_turns(history, scope)
        with scope.steps.step("prompt") as span:
            prompt = self._prompts.build(
                EvidenceQuery(asking.question, before=asking.question_before).joined,
                passages=[ranked.passage for ranked in shown],
                history=turns,
                max_tokens=max_tokens,
            )
            span.set_attribute("gen_ai.prompt.name", prompt.prompt_id)
            span.set_attribute("assistant.prompt.tokens", prompt.prompt_tokens)
            span.set_attribute("assistant.prompt.dropped_passages", prompt.dropped_passages)
        return prompt

    def _escalation(self, evidence: Sequence[Evidence]) -> str | None:
        """Return whom to ask: by the question's words, then by the nearest document's, else the default."""
        contacts = self._services.tenant.answers.escalation
        stems = self.find_evidence.vocabulary.language.content_stems
        best = (one.best.card for one in evidence if one.best is not None)
        texts = (*(one.query.question for one in evidence), *(f"{card.title} {card.source}" for card in best))
        for text in map(stems, texts):
            for subject, contact in contacts.items():
                wanted = stems(subject)
                if subject != _DEFAULT_SUBJECT and wanted and wanted <= text:
                    return contact
        return contacts.get(_DEFAULT_SUBJECT)

    def _make_sources(
        self,
        shown: Sequence[RankedPassage],
        excerpts: Excerpts,
        *,
        stems: frozenset[str],
        cards: Mapping[str, DocumentCard],
        identity: Identity,
        labels_of: Callable[[str], Labels],
    ) -> tuple[Source, ...]:
        return tuple(
            Source(
                n=n,
                kind=source_kind(passage.document_id),
                document_id=passage.document_id,
                title=shown_title(passage.title),
                heading=shown_path(passage.heading),
                effective_date=card.effective_date if card is not None else None,
                url=shown_url(passage.url),
                source=passage.source,
                score=ranked.fused_score,
                snippet=snippet(
                    passage, stems=stems, excerpts=excerpts, labels=labels_of(passage.document_id)
                ),
                facts=source_facts(card),
                span=(passage.span.start, passage.span.end),
                content_hash=passage.content_hash,
                document_url=source_link(self._services.links, passage, identity=identity),
            )
            for n, ranked in enumerate(shown, start=1)
            for passage in [ranked.passage]
            for card in [cards.get(passage.document_id)]
        )


def source_facts(card: DocumentCard | None) -> SourceFacts | None:
    """Return what an agent sees beside a shop's source: price and rating of an item, votes of a review."""
    if card is None or card.item is None:
        return None
    item = card.item
    return SourceFacts(**{name: getattr(item, name) for name in SourceFacts.model_fields})


def source_link(links: DocumentLinks, passage: Passage, *, identity: Identity) -> str:
    """Return the path that opens a source; an empty one for an approved answer, which is shown whole."""
    if source_kind(passage.document_id) == "approved":
        return ""
    return links.link(
        passage.document_id, span=passage.span, identity=identity, content_hash=passage.content_hash
    )


def _cards(evidence: Sequence[Evidence]) -> dict[str, DocumentCard]:
    read = [one.documents for one in evidence]
    read += [one.approved.documents for one in evidence if one.approved is not None]
    read += [one.table.documents for one in evidence if one.table is not None]
    return {name: document.card for documents in read for name, document in documents.items()}


def _not_answered(halves: Sequence[str]) -> str | None:
    """Return what to tell the agent about halves of a question that nothing answers."""
    said = "; ".join(half.strip(" .?!") for half in halves)
    return f"Not answered: {said}. Ask for it alone." if halves else None


def _certainty(evidence: Sequence[Evidence], *, live: Collection[int] = ()) -> Certainty | None:
    """Return how sure the whole answer is: of a double question the less sure half that has an answer.
    ``live``: parts that a live system answers."""
    certainties = {
        Certainty.ANSWERED if one.certainty is None and part in live else one.certainty
        for part, one in enumerate(evidence)
    }
    if certainties == {None}:
        return None
    return Certainty.ANSWERED if certainties == {Certainty.ANSWERED} else Certainty.POSSIBLY


@contextmanager
def _end_on_error(steps: Steps, hydration: Hydration) -> Generator[None, None, None]:
    """End the root span and the live reads when there will be no stream to end them."""
    try:
        yield
    except BaseException as error:
        hydration.cancel()
        if isinstance(error, AssistantError):
            fail_span(steps.root, error.code)
        steps.root.end()
        raise
