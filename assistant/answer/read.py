"""Prepares an answer: conversation → reading → search → prompt, or → section. Nothing is streamed yet."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from assistant.answer.elements import AskedElement, Beside, CallBounds, Hydration, open_beside, unread
from assistant.answer.events import Cause
from assistant.answer.excerpts import (
    Labels,
    fill_record,
    gone_from,
    labels_in,
    marks_in,
    read_excerpts,
)
from assistant.answer.prompt import DOCUMENTS_IN_PROMPT, Prompt, PromptBuilder
from assistant.answer.quote import MakeQuote, Quote
from assistant.answer.rank_documents import Evidence, FindEvidence, SourceList
from assistant.answer.readers import Message, ModelReading, PlainReading, ReadMessage, is_long, questions_of
from assistant.answer.red_flags import RedFlags
from assistant.answer.search import EvidenceQuery, SearchScope, source_ids, sources_asked
from assistant.answer.services import (
    IndexState,
    Interruption,
    Steps,
    TenantServices,
    begin_answer,
    call_within,
    fail_span,
)
from assistant.answer.vocabulary import KnownWordsReader
from assistant.domain.answers import (
    AnswerRecord,
    LiveMatch,
    LiveMatchState,
    Outcome,
    Reading,
    RecordId,
    RedFlag,
    SourceAsked,
    Usage,
)
from assistant.domain.clock import Deadline
from assistant.domain.context import CareContext, ContextToken, PlainContext
from assistant.domain.documents import KnownWords, SearchFilters, StoredDocument
from assistant.domain.errors import (
    AnswerInterruptedError,
    AssistantError,
    DependencyError,
    EmbeddingUnavailableError,
    NotFoundError,
    OverloadedError,
    RecordsUnavailableError,
)
from assistant.domain.filling import Caller as LiveCaller
from assistant.domain.filling import ElementType
from assistant.domain.identity import Identity
from assistant.domain.public import PublicModel

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
    """How long the answer continues without a reader, so that one can come back; 0: it ends at once."""
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
    """An answer whose documents were found and whose text is not written yet."""

    record: AnswerRecord
    """What is known of it so far. The stream completes it."""
    identity: Identity
    request: AnswerRequest
    red_flags: tuple[RedFlag, ...]
    scope: SearchScope
    numbers: SourceList
    """Numbers of the sources: those of the prompt, which the quote continues."""
    quote: Quote
    """Where a model writes, it is made beside the model's first token, and holds nothing before."""
    prompt: Prompt | None
    """None when no model writes: it may not, there is nothing to read, or something else answers."""
    hydration: Hydration
    index: IndexState
    """Whether the index has all documents."""
    interruption: Interruption = field(default_factory=Interruption)

    @property
    def answer_id(self) -> str:
        return self.record.answer_id

    def cancel(self, cause: Literal[Cause.CANCELLED, Cause.DISCONNECTED]) -> None:
        """End the stream at once, from any task of the same event loop; a second call changes nothing."""
        self.interruption.interrupt(cause)
        self.hydration.leave(cause)


RECORDS_TIMEOUT_S = 3.0
"""For one read from or write to the store of answers."""
_MOST_IN_PROMPT = 8
"""Documents that a model reads for a message with several questions, or of a tenant with several sources."""
_RED_FLAGS_LIMIT_S = 2.0
_DEFAULT_SUBJECT = "default"


class PrepareAnswer:
    """Does everything before the first event, while an error may still become an HTTP status."""

    def __init__(
        self,
        services: TenantServices,
        *,
        reading: ReadMessage | None = None,
        beside: Beside | None = None,
    ) -> None:
        """``reading`` None: messages are read as the tenant file says, without a model where none writes.
        ``beside`` None: what an option brings."""
        tenant = services.tenant
        self._services = services
        self._settings_hash = tenant.settings_hash()
        self.find_evidence = FindEvidence(services)
        self._known_words = KnownWordsReader(
            services.search, clock=services.clock, items_of=source_ids(tenant, kind="catalogue")
        )
        self._shipped = self.find_evidence.weights
        self._prompts = PromptBuilder(services) if services.writes_answers else None
        self.bounds = CallBounds()
        """Of the tenant's live reads in this process."""
        self.make_quote = MakeQuote(services, self.find_evidence)
        self._beside = beside or open_beside(services)
        self._red_flags = RedFlags(tenant, embedder=services.embedder, clock=services.clock)
        self._plain = PlainReading(self.find_evidence.vocabulary, embedding_model=tenant.embedding.model)
        if reading is None and services.writes_answers and tenant.answers.reading == "model":
            reading = ModelReading(
                services.writer.generator,
                plain=self._plain,
                system_role=services.writer.model.system_role,
            )
        self._reading = reading or self._plain

    def begin(self, asking: AnswerRequest, *, identity: Identity) -> AnswerRecord:
        """Return the record of an answer that is begun and whose end is not known: what to keep if the
        process dies while it answers."""
        services, now = self._services, self._services.clock.now()
        return AnswerRecord(
            answer_id=services.new_id(),
            conversation_id=asking.conversation_id or services.new_id(),
            agent=identity.agent,
            asked_at=now,
            finished_at=now,
            question=asking.question,
            retrieval_question=asking.question,
            filters=asking.filters,
            labels=tuple(sorted(identity.labels)),
            outcome=Outcome.FAILED,
            finish_reason=None,
            error_code=AnswerInterruptedError.code,
            text="",
            sentences=(),
            passages=(),
            gate=None,
            prompt_id=services.tenant.answers.prompt,
            prompt_hash=None,
            model_id=services.writer.model.model_id,
            model_digest=services.writer.model.digest,
            parameters={},
            settings_hash=self._settings_hash,
            index_version="",
            usage=Usage(),
            timings_ms={},
        )

    async def prepare(
        self,
        asking: AnswerRequest,
        *,
        identity: Identity,
        deadline: Deadline,
        context: CareContext | None = None,
        begun: AnswerRecord | None = None,
    ) -> PreparedAnswer:
        """Return the prepared answer. ``begun``: by ``begin``, which is called without it. ``context``:
        verified; whose live data may be read.

        Raises NotFoundError (no such conversation, or another agent's), TooLargeError (the question does not
        fit the model's context), EmbeddingUnavailableError, SearchUnavailableError, RecordsUnavailableError,
        OverloadedError, DeadlineExceededError. Nothing is recorded then.
        """
        services = self._services
        services.index_watch.require_own()
        begun = begun or self.begin(asking, identity=identity)
        answer_id, conversation_id = begun.answer_id, begun.conversation_id
        steps = begin_answer(
            answer_id, conversation_id=conversation_id, tenant=services.tenant.name, clock=services.clock
        )
        scope = SearchScope(identity.labels, deadline, steps, asking.filters)
        hydration = Hydration(
            services.live.elements,
            LiveCaller(identity, context, asking.question, answer_id),
            tenant=services.tenant,
            deadline=deadline,
            bounds=self.bounds,
            subject=services.subject_of(context),
        )
        with _end_on_error(steps, hydration):
            history = await self._history(asking, scope, agent=identity.agent)
            before = history[-1].question if history else asking.question_before
            if before is not None and is_long(before):
                before = " ".join(questions_of(before, vocabulary=self.find_evidence.vocabulary))
            known = await self._known_words.read()
            if known is None:
                scope.degraded.append("words of the documents")
            reading, queries = await self._read(asking.question, before, known, scope)
            evidence, turns, _ = await asyncio.gather(
                asyncio.gather(*(self.find_evidence.find(query, scope) for query in queries)),
                self._readable_turns(history if self._prompts is not None else (), scope),
                self._embed_pieces(asking.question, scope),
            )
            quote, numbers = Quote(tuple(evidence)), SourceList()
            index = await self._index_state(evidence, scope)
            matches = await self._match_live(evidence, scope)
            items = self._items(reading, queries, history)
            hydration.caller = self._named_caller(hydration.caller, items)
            prompt = self._build_prompt(asking, evidence, numbers, turns, scope)
            if prompt is None:
                quote = await self.make_quote.run(evidence, numbers, hydration, scope, is_written=False)
                if context is None:
                    matches = _without_customers(matches, quote.evidence, hydration.types)
            else:
                prompt = replace(prompt, elements=self._named_live(prompt, hydration))
            named = [name for block in quote.blocks for name, _, _ in block.elements]
            matches = self._begin_asked(matches, hydration, named=[*named, *self._of_items(quote)])
            if prompt is None:  # where a model writes, its text decides what is read
                for name in named:
                    hydration.begin(name)
                if not all(part.is_found for part in quote.evidence):
                    # A damaged index must never look like "not known".
                    await services.index_watch.require_complete(deadline=deadline)
                    index = services.index_watch.state
            red_flags = self._red_flags.raised(asking.question, scope.embedded)
            elements = tuple(element.slot.type.name for element in hydration.answering)
            return PreparedAnswer(
                record=begun.model_copy(
                    update={
                        "retrieval_question": "\n".join(dict.fromkeys(part.searched for part in evidence)),
                        "reading": reading.model_copy(update={"items": items, "elements": elements}),
                        "red_flags": tuple(flag.name for flag in red_flags),
                        "unchecked_language": self._red_flags.unchecked_language(asking.question),
                        "follows": history[-1].answer_id if history else None,
                        "escalation": self._escalation(quote.evidence),
                        "asked": self._asked(quote.evidence),
                        "live_matches": tuple(match for _, match in matches),
                        "weights": self._weights(quote.evidence),
                        "index_version": evidence[0].retrieved.index_version,
                        "trace_id": steps.trace_id,
                        "dropped_passages": prompt.dropped_documents if prompt else 0,
                        "prompt_hash": prompt.prompt_hash if prompt else None,
                        "parameters": {
                            "max_tokens": self._max_tokens(asking),
                            "temperature": services.tenant.generation.temperature,
                            "history_turns": prompt.history_turns if prompt else 0,
                        },
                    }
                ),
                identity=identity,
                request=asking,
                red_flags=red_flags,
                scope=scope,
                numbers=numbers,
                quote=quote,
                prompt=prompt,
                hydration=hydration,
                index=index,
            )

    async def _index_state(self, evidence: Sequence[Evidence], scope: SearchScope) -> IndexState:
        """Return whether the index has all documents of the sources that were found; ``degraded`` says that
        it is unknown."""
        found = (name for part in evidence for name in part.documents)
        sources = self._services.sources_of(found)
        index = await self._services.index_watch.state_for(sources, deadline=scope.deadline)
        if not index.loading and not index.is_whole(sources):
            scope.degraded.append("check of the index")
        return index

    async def _read(
        self, text: str, before: str | None, known: KnownWords | None, scope: SearchScope
    ) -> tuple[Reading, list[EvidenceQuery]]:
        """Embed the message by one call, read it, and return what is searched for each of its questions."""
        vocabulary = self.find_evidence.vocabulary
        questions = questions_of(text, vocabulary=vocabulary)
        earlier = [before, *(questions[0] for _ in questions[1:])]
        joined = [f"{one}\n{question}" for one, question in zip(earlier, questions, strict=True) if one]
        live = (
            [self._as_examples(question, known) for question in questions] if self._beside.are_there else []
        )
        read_by_router = (*questions, *joined) if len(self._services.tenant.sources) > 1 else ()
        routed = [self.find_evidence.without_names(text, known=known) for text in read_by_router]
        texts = list(dict.fromkeys((text, *questions, *joined, *live, *routed)))
        embed, vectors = self.find_evidence.search.embed, scope.embedded
        await asyncio.gather(embed(texts, scope), self._beside.load(scope), self._load_red_flags(scope))
        named = self.find_evidence.adaptations.named(text, known=known)
        items = tuple(sorted(named.ids)) if named is not None else ()
        reading = await self._reading.run(Message(text, questions, before, vectors, items), scope)
        rewritten = _rewritten(reading, text)
        made_by_model = dict.fromkeys(text for text in (*reading.questions, *rewritten) if text)
        if wanted := [text for text in made_by_model if text not in vectors]:
            await embed(wanted, scope)
        longest = self._services.tenant.answers
        count = len(reading.questions)
        queries: list[EvidenceQuery] = []
        for at, question in enumerate(reading.questions):
            if at == 0 or reading.made_by == "model":
                earlier_question = before if reading.leans else None
            else:
                leans = self._plain.leans(question, vectors.get(question))
                earlier_question = reading.questions[0] if leans else None
            query = EvidenceQuery(
                question,
                vectors.get(question, ()),
                before=earlier_question,
                rewritten=rewritten[at],
                known=known,
                max_words=longest.max_words // count,
                also_words=longest.also_words // count,
            )
            if query.text not in vectors:
                await embed([query.text], scope)
            routed_text = self.find_evidence.without_names(query.text, known=known)
            vector = vectors[query.text]
            queries.append(
                replace(
                    query,
                    vector=vector,
                    routed_text=routed_text,
                    routed_vector=vectors.get(routed_text, vector),
                )
            )
        return reading, queries

    async def _load_red_flags(self, scope: SearchScope) -> None:
        """Wait a little for the head in a new process; ``degraded`` says that a message is unchecked."""
        await self._red_flags.load(within_s=_RED_FLAGS_LIMIT_S)
        if not self._red_flags.is_ready:
            scope.degraded.append("red flags")

    async def _embed_pieces(self, text: str, scope: SearchScope) -> None:
        """Embed what red flags read of a long message; ``degraded`` says that only its whole is read."""
        wanted = [piece for piece in self._red_flags.pieces(text) if piece not in scope.embedded]
        try:
            if wanted:
                await self.find_evidence.search.embed(wanted, scope)
        except (EmbeddingUnavailableError, OverloadedError):
            scope.degraded.append("red flags")

    async def _match_live(
        self, evidence: Sequence[Evidence], scope: SearchScope
    ) -> list[tuple[int, LiveMatch]]:
        """Return for each question its index and how near each live element is."""
        if not self._beside.are_there:
            return []
        matched: list[tuple[int, LiveMatch]] = []
        for part, one in enumerate(evidence):
            text = self._as_examples(one.query.question, one.query.known)
            # A later question of a message leans on the first, whose element it would ask for again.
            vector = (
                one.query.vector
                if part == 0 and one.query.before is not None
                else scope.embedded.get(text, one.query.vector)
            )
            live = self._plain.live_score(vector)
            matched += [(part, match) for match in self._beside.match(vector, live=live)]
        return matched

    def _as_examples(self, question: str, known: KnownWords | None) -> str:
        """Return a question as the examples of live elements are written: "the order" for an order's number,
        "it" for the name of an item, or of what a connector reads."""
        text = self._beside.plain(self.find_evidence.without_names(question, known=known))
        return self._beside.without_names(text, known=self.find_evidence.vocabulary.words)

    def _build_prompt(
        self,
        asking: AnswerRequest,
        evidence: Sequence[Evidence],
        numbers: SourceList,
        turns: Sequence[AnswerRecord],
        scope: SearchScope,
    ) -> Prompt | None:
        """Return the prompt, its documents numbered; None where no model is asked."""
        if self._prompts is None or any(part.answer is not None for part in evidence):
            return None
        if not any(part.gate.passed for part in evidence):
            return None
        vocabulary = self.find_evidence.vocabulary
        meanings = vocabulary.meanings(asking.question, known=evidence[0].query.known)
        documents: list[tuple[int, StoredDocument, Mapping[str, float]]] = []
        # A passage found by its words alone comes after those found by their vectors, before the others.
        worth = {
            id(part): {hit.passage_id: hit.cosine or 0.0 for hit in part.retrieved.hits} for part in evidence
        }
        for one, document in _in_turn(evidence):
            number = numbers.add(document, one)
            if number is not None:
                documents.append((number, document, worth[id(one)]))
        question = asking.question
        if asking.question_before is not None:
            question = f"{asking.question_before}\n{question}"
        with scope.steps.step("prompt") as span:
            prompt = self._prompts.build(
                question,
                documents=documents,
                meanings=meanings,
                history=turns,
                max_tokens=self._max_tokens(asking),
            )
            span.set_attribute("gen_ai.prompt.name", prompt.prompt_id)
            span.set_attribute("assistant.prompt.tokens", prompt.prompt_tokens)
            span.set_attribute("assistant.prompt.dropped_documents", prompt.dropped_documents)
        return prompt if prompt.documents else None

    def _max_tokens(self, asking: AnswerRequest) -> int:
        longest = self._services.tenant.generation.max_tokens
        return min(asking.max_tokens or longest, longest)

    def _named_live(self, prompt: Prompt, hydration: Hydration) -> Labels:
        """Return the elements that the prompt lists, and those that a document which may name them names."""
        if self._prompts is not None and self._prompts.lists_elements:
            return hydration.labels()
        return {
            key: label
            for document in prompt.documents
            for labels in [hydration.labels_of(document.document.card.document_id)]
            for key, label in labels_in((unit.text for unit in document.units), labels).items()
        }

    def _begin_asked(
        self, matched: Sequence[tuple[int, LiveMatch]], hydration: Hydration, *, named: Collection[str]
    ) -> list[tuple[int, LiveMatch]]:
        """Begin the reads that parts of the message ask for, but for the elements that the quoted text names.
        Return the matches as they came out."""
        wanted = dict.fromkeys(one.element for _, one in matched if one.state is LiveMatchState.READ)
        begun = {name: hydration.begin(name) for name in wanted if name not in named}
        ended = [
            (part, unread(one, LiveMatchState.SHOWN) if one.element in named else one)
            for part, one in matched
        ]
        hydration.answering = tuple(
            AskedElement(part, slot)
            for part, one in ended
            if one.state is LiveMatchState.READ and (slot := begun[one.element]) is not None
        )
        return ended

    def _of_items(self, quote: Quote) -> list[str]:
        """Return the live elements that follow a table and answer "is it in stock?", where the question means
        the table's items by that: it names none."""
        names = [block.of_items[0] for block in quote.blocks if block.of_items is not None]
        return names if names and not any(part.named for part in quote.evidence) else []

    async def as_asked(self, caller: LiveCaller, record: AnswerRecord) -> LiveCaller:
        """Return the caller of a recorded question as live systems are asked it."""
        items = record.reading.items if record.reading is not None else ()
        return self._named_caller(caller, items)

    def _items(
        self, reading: Reading, queries: Sequence[EvidenceQuery], history: Sequence[AnswerRecord]
    ) -> tuple[str, ...]:
        """Return the numbers of the items that the message, or else the question that it leans on, names."""
        if reading.items or queries[0].before is None:
            return reading.items
        typed = queries[0].text if queries[0].rewritten is None else queries[0].before
        named = self.find_evidence.adaptations.named(typed, known=queries[0].known)
        if named is not None:
            return tuple(sorted(named.ids))
        earlier = (turn.reading.items for turn in reversed(history) if turn.reading and turn.reading.items)
        return next(earlier, ())

    def _named_caller(self, caller: LiveCaller, items: Sequence[str]) -> LiveCaller:
        glossary = self.find_evidence.vocabulary.words
        names = self._beside.names(caller.question, known=glossary)
        is_said = any(item.casefold() in caller.question.casefold() for item in items)
        asked = "\n".join((caller.question, *items)) if len(items) == 1 and not is_said else caller.question
        return replace(caller, question=asked, names=names)

    def _weights(self, evidence: Sequence[Evidence]) -> Mapping[str, str]:
        used = {**self._shipped}
        routing = evidence[0].sources.routing
        if routing is not None and routing.router is not None:
            used["router"] = routing.router
        return used

    def _asked(self, evidence: Sequence[Evidence]) -> tuple[SourceAsked, ...]:
        routed = [
            (part.sources.routing.shares, part.sources.states)
            for part in evidence
            if part.sources.routing is not None
        ]
        return sources_asked(self._services.tenant.sources, routed)

    async def _history(self, asking: AnswerRequest, scope: SearchScope, *, agent: str) -> list[AnswerRecord]:
        """Return the conversation's last turns, oldest first; none for a new conversation.

        No such conversation and another agent's take the same path: one query, one error.
        """
        conversation_id = asking.conversation_id
        if conversation_id is None:
            return []
        limit = max(1, self._services.writer.model.history_turns)
        with scope.steps.step("conversation"):
            turns = await call_within(
                RECORDS_TIMEOUT_S,
                lambda _: self._services.records.list_conversation(conversation_id, limit=limit),
                deadline=scope.deadline,
                late=RecordsUnavailableError("The store of answers does not answer; ask again."),
            )
        if not turns or any(turn.agent != agent for turn in turns):
            raise NotFoundError("There is no such conversation; leave conversation_id out to begin one.")
        return turns

    async def _readable_turns(
        self, history: Sequence[AnswerRecord], scope: SearchScope
    ) -> list[AnswerRecord]:
        """Return the last turns with their texts, for the model, oldest first.

        They begin after the last turn whose text showed a document which is withdrawn since or unreadable
        now, so that there is no gap. What else a turn showed is not read: no model gets it.
        """
        readable: list[AnswerRecord] = []

        async def read(_: Deadline) -> None:
            for kept in reversed(history):
                said = marks_in(kept.text)
                turn = kept.model_copy(
                    update={"excerpts": tuple(excerpt for excerpt in kept.excerpts if excerpt.mark in said)}
                )
                shown = await read_excerpts(
                    turn.excerpts, self._services.documents.texts, labels=scope.labels
                )
                if gone_from(turn, shown):
                    return
                readable.insert(0, fill_record(turn, shown))

        with suppress(DependencyError):
            await call_within(
                RECORDS_TIMEOUT_S,
                read,
                deadline=scope.deadline,
                late=DependencyError("Earlier answers took too long to read."),
            )
        return readable

    def _escalation(self, evidence: Sequence[Evidence]) -> str | None:
        """Return whom to ask: by the question's words, then by the nearest document's, else the default."""
        contacts = self._services.tenant.answers.escalation
        stems = self.find_evidence.vocabulary.language.content_stems
        best = (part.best.card for part in evidence if part.best is not None)
        texts = (
            *(part.query.question for part in evidence),
            *(f"{card.title} {card.source}" for card in best),
        )
        for text in map(stems, texts):
            for subject, contact in contacts.items():
                wanted = stems(subject)
                if subject != _DEFAULT_SUBJECT and wanted and wanted <= text:
                    return contact
        return contacts.get(_DEFAULT_SUBJECT)


def _rewritten(reading: Reading, message: str) -> Sequence[str | None]:
    """Return what a model wrote to be searched for each question; None where the agent's words are."""
    if reading.made_by == "plain":
        return [None] * len(reading.questions)
    if len(reading.questions) == 1:
        return [reading.search_text]
    return [None if question in message else question for question in reading.questions]


def _without_customers(
    matched: Sequence[tuple[int, LiveMatch]], evidence: Sequence[Evidence], types: Mapping[str, ElementType]
) -> list[tuple[int, LiveMatch]]:
    """Leave a customer's data out where a document answers and no customer is there.

    An agent who asks for a rule would only be told that something else is not allowed.
    """
    return [
        (part, one)
        if not evidence[part].is_found or not types[one.element].needs_context
        else (part, unread(one, LiveMatchState.NO_CUSTOMER))
        for part, one in matched
    ]


def _in_turn(evidence: Sequence[Evidence]) -> list[tuple[Evidence, StoredDocument]]:
    """Return the documents that a model reads: the best of each question, then the second of each, …"""
    # Of several sources more documents are read, and all of them may be written from.
    nearest = [
        part.for_model[: None if part.sources.scores is not None else DOCUMENTS_IN_PROMPT]
        for part in evidence
    ]
    in_turn: dict[str, tuple[Evidence, StoredDocument]] = {}
    for documents in zip_longest(*nearest):
        for one, document in zip(evidence, documents, strict=True):
            if document is not None:
                in_turn.setdefault(document.card.document_id, (one, document))
    return list(in_turn.values())[:_MOST_IN_PROMPT]


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
