"""What is asked, and what stands ready to be streamed once it was prepared."""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from assistant.answering.events import Cause
from assistant.answering.evidence import Evidence, FindEvidence, Sought, merged_quote
from assistant.answering.excerpts import (
    SNIPPET_CHARACTERS,
    Excerpts,
    Place,
    fill_record,
    gone_from,
    read_excerpts,
    shown_heading,
    shown_path,
    shown_reply,
    shown_snippet,
    shown_title,
    shown_unit,
    shown_url,
)
from assistant.answering.generate import Interruption
from assistant.answering.prompt import Prompt, PromptBuilder
from assistant.answering.quote import Quote, ScoredUnit, blocks
from assistant.answering.services import Steps, TenantServices, begin_answer, fail_span, within
from assistant.answering.understand import KnownWordsReader, Understood, leans_on_history, understand
from assistant.domain.answers import (
    AlsoPossible,
    AnswerRecord,
    Certainty,
    Correction,
    RecordId,
    ShownAs,
    Source,
)
from assistant.domain.clock import Deadline
from assistant.domain.documents import Passage, RankedPassage, SearchFilters
from assistant.domain.errors import (
    AssistantError,
    DependencyError,
    NotFoundError,
    RecordsUnavailableError,
)
from assistant.domain.identity import Identity
from assistant.domain.public import PublicModel
from assistant.text.safe_markdown import safe_markdown

MAX_QUESTION_CHARACTERS = 4_000
MAX_EARLIER_CHARACTERS = 1_000
"""Of the question before a follow-up: it takes room of the passages."""


class AnswerRequest(PublicModel):
    """A question of a care agent: the body of ``POST /v1/answers``."""

    question: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION_CHARACTERS)
    ]
    conversation_id: RecordId | None = None
    """A conversation of the same agent; a new one is begun when absent."""
    filters: SearchFilters = SearchFilters()
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in tokens; the tenant's own limit stands above it."""
    resume_window_s: int = Field(default=0, ge=0, le=30)
    """How long the answer goes on without a reader, for one that comes back; at 0 leaving ends it."""

    @property
    def question_before(self) -> str | None:
        """The question that this one follows, where no record has it."""
        return None


class FollowUpRequest(AnswerRequest):
    """A question of a conversation that only its client knows, as chats of OpenAI's form are."""

    earlier_question: Annotated[str, StringConstraints(min_length=1, max_length=MAX_EARLIER_CHARACTERS)]

    @property
    def question_before(self) -> str | None:
        return self.earlier_question


@dataclass(frozen=True, slots=True)
class QuotedBlock:
    """One unit as it is streamed."""

    before: str
    """Markdown between the unit before and this one: blank lines, a heading, a list marker."""
    text: str
    passage: Passage
    span: tuple[int, int]
    """[start, end) in the document's parsed text."""
    n: int
    """Number of the source that it stands in."""


@dataclass(frozen=True, slots=True)
class QuotedAnswer:
    """The quoted answer, ready: the answer itself, or what takes the place of written text that fails."""

    blocks: tuple[QuotedBlock, ...]
    also: tuple[AlsoPossible, ...]
    reply_draft: str | None


@dataclass(slots=True)
class PreparedAnswer:
    """An answer whose sources are known and whose text is not yet written."""

    answer_id: str
    conversation_id: str
    identity: Identity
    request: AnswerRequest
    evidence: tuple[Evidence, ...]
    """One for each question that was asked: of a double question two. Never empty."""
    corrections: tuple[Correction, ...]
    asked_at: datetime
    started_s: float
    """Monotonic clock when the question came in."""
    deadline: Deadline
    shown: tuple[RankedPassage, ...]
    """The sources, in the order of their numbers."""
    make_sources: Callable[[], tuple[Source, ...]]
    """What the agent is shown; made while the model is waited for."""
    excerpts: Excerpts
    """What is shown of documents; complete when ``make_sources`` was called."""
    certainty: Certainty | None
    """None: not in the knowledge base."""
    quoted: QuotedAnswer
    clarify: str | None
    escalation: str | None
    """Whom to ask, told where the answer turns out to be less than sure."""
    prompt: Prompt | None
    """None when nothing is written by a model: it may not, or there is no evidence."""
    max_tokens: int
    steps: Steps
    interruption: Interruption = field(default_factory=Interruption)

    @property
    def retrieval_question(self) -> str:
        """What was searched."""
        return "\n".join(dict.fromkeys(one.searched for one in self.evidence))

    def cancel(self, cause: Literal[Cause.CANCELLED, Cause.DISCONNECTED]) -> None:
        """End the stream at once, from any task of the same event loop; a second call changes nothing."""
        self.interruption.interrupt(cause)


# What happens to a question before the first event: everything that may still become an HTTP status.


RECORDS_TIMEOUT_S = 3.0
"""For one reading from or writing to the store of answers."""
_SUBSTANCE = re.compile(r"[^\W_]")
"""A unit without a letter or digit, as of an address that was taken out, is not quoted."""
_DEFAULT_SUBJECT = "default"
_SHARE_OF_DOUBLE = 0.75
"""Of the words of one quote, for each of the two that answer a double question."""


class PrepareAnswer:
    """The first of the two steps of ``AnswerQuestion``."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self.find_evidence = FindEvidence(services)
        self._known_words = KnownWordsReader(services.search, clock=services.clock)
        self._vocabulary = self.find_evidence.vocabulary
        self._prompts = PromptBuilder(services) if services.writes_answers else None

    async def prepare(
        self,
        asking: AnswerRequest,
        *,
        identity: Identity,
        deadline: Deadline,
        answer_id: str | None = None,
        conversation_id: str | None = None,
    ) -> PreparedAnswer:
        """See ``AnswerQuestion.prepare``."""
        services = self._services
        services.index_watch.require_own()
        asked_at, started_s = services.clock.now(), services.clock.monotonic_s()
        answer_id = answer_id or services.new_id()
        conversation_id = conversation_id or asking.conversation_id or services.new_id()
        steps = begin_answer(
            answer_id, conversation_id=conversation_id, tenant=services.tenant.name, clock=services.clock
        )
        with _ended_on_error(steps):
            history = await self._history(asking, identity=identity, deadline=deadline, steps=steps)
            seeking = _Seeking(self.find_evidence, asking, identity, deadline, steps)
            before = history[-1].question if history else asking.question_before
            understood, evidence = await self._find(seeking, before)
            if any(one.certainty is None for one in evidence):  # by damage nothing is ever "not known"
                await services.index_watch.require_whole(deadline=deadline)
            with steps.step("compose") as span:
                certainty = _certainty(evidence)
                excerpts = Excerpts()
                shown, quoted = self._composed(evidence, excerpts)
                span.set_attribute("assistant.gate.passed", certainty is not None)
            max_tokens = self._max_tokens(asking)
            prompt = None
            if certainty is not None and self._prompts is not None:
                told = await self._told(history, identity=identity, deadline=deadline)
                prompt = self._prompt(asking, shown, told, max_tokens, steps)
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
                make_sources=partial(self._sources, evidence, shown, excerpts, identity=identity),
                excerpts=excerpts,
                certainty=certainty,
                quoted=quoted,
                clarify=next((one.clarify for one in evidence if one.clarify), None),
                escalation=self._escalation(evidence),
                prompt=prompt,
                max_tokens=max_tokens,
                steps=steps,
            )

    async def _history(
        self, asking: AnswerRequest, *, identity: Identity, deadline: Deadline, steps: Steps
    ) -> list[AnswerRecord]:
        """Return the conversation's last turns, oldest first; none for a new conversation.

        No such conversation and another agent's take the same path: one query, one error.
        """
        if asking.conversation_id is None:
            return []
        with steps.step("conversation"):
            step = Deadline.after(deadline.within_s(RECORDS_TIMEOUT_S), clock=self._services.clock)
            turns = await within(
                self._services.records.list_conversation(
                    asking.conversation_id, limit=max(1, self._services.model.history_turns)
                ),
                step=step,
                whole=deadline,
                late=RecordsUnavailableError("The store of answers does not answer; ask again."),
            )
        if not turns or any(turn.agent != identity.agent for turn in turns):
            raise NotFoundError("There is no such conversation; leave conversation_id out to begin one.")
        return turns

    async def _told(
        self, history: Sequence[AnswerRecord], *, identity: Identity, deadline: Deadline
    ) -> list[AnswerRecord]:
        """Return the turns that a model may be told, with their texts: one that showed what is withdrawn
        since, or what cannot be read now, is left out with all before it, so that there is no gap."""
        step = Deadline.after(deadline.within_s(RECORDS_TIMEOUT_S), clock=self._services.clock)
        told: list[AnswerRecord] = []
        for turn in reversed(history):
            try:
                shown = await within(
                    read_excerpts(turn.excerpts, self._services.texts, labels=identity.labels),
                    step=step,
                    whole=deadline,
                    late=RecordsUnavailableError("The texts of earlier answers cannot be read."),
                )
            except DependencyError:
                break
            if gone_from(turn, shown):
                break
            told.insert(0, fill_record(turn, shown))
        return told

    async def _find(self, seeking: _Seeking, before: str | None) -> tuple[Understood, tuple[Evidence, ...]]:
        """Find evidence for each question of the message.

        A question is searched alone; the question before it (for the second half of a double one the first)
        joins only where this one leans on it, or where nothing was found without.
        """
        known = await self._known_words.read()
        understood = understand(seeking.asking.question, vocabulary=self._vocabulary, known=known)
        answers = self._services.tenant.answers
        share = 1.0 if len(understood.parts) == 1 else _SHARE_OF_DOUBLE
        found: list[Evidence] = []
        for part, question in enumerate(understood.parts):
            previous = before if part == 0 else understood.parts[0]
            alone = Sought(
                question,
                corrections=understood.corrections,
                known=known,
                beside=_best_id(found[0]) if found else None,
                max_words=int(answers.max_words * share),
                also_words=int(answers.also_words * share),
            )
            if previous is not None and leans_on_history(question, vocabulary=self._vocabulary):
                found.append(await seeking.find(replace(alone, before=previous, leans=True)))
                continue
            evidence = await seeking.find(alone)
            if previous is not None and evidence.certainty is None:
                joined = await seeking.find(replace(alone, before=previous))
                evidence = joined if joined.certainty is not None else evidence
            found.append(evidence)
        if len(found) > 1 and _contends(found[0], _best_id(found[-1])):
            found[0] = await seeking.find(replace(found[0].sought, beside=_best_id(found[-1])))
        return understood, tuple(found)

    def _composed(
        self, evidence: Sequence[Evidence], excerpts: Excerpts
    ) -> tuple[tuple[RankedPassage, ...], QuotedAnswer]:
        """Return the sources in the order of their numbers, and the quoted answer that cites them."""
        sources = _SourceList(excerpts)
        built: list[QuotedBlock] = []
        also: list[AlsoPossible] = []
        answering = [one for one in evidence if one.certainty is not None]
        quotes = self._quotes(answering)
        for one, quote in quotes:
            title = _as_title(one.sought.question) if len(quotes) > 1 else ""
            built += self._blocks(quote, sources, one, title=title, begun=bool(built))
        shown = {quote.document.card.document_id for _, quote in quotes}
        for one in answering:
            if one.also is not None and one.also.document.card.document_id not in shown:
                shown.add(one.also.document.card.document_id)
                parts = self._blocks(one.also, sources, one, title="", begun=False)
                also.append(_also_possible(one.also, parts))
        for one in evidence:
            sources.fill(one, up_to=self._services.tenant.retrieval.passages)
        sure = (one.quote for one in answering if one.certainty is Certainty.ANSWERED)
        reply = next((_reply_draft(quote, excerpts) for quote in sure if quote is not None), None)
        return sources.passages, QuotedAnswer(tuple(built), tuple(also), reply)

    def _quotes(self, answering: Sequence[Evidence]) -> list[tuple[Evidence, Quote]]:
        """Return the quote of each question; one for both where the same document answers both."""
        documents = {one.best.card.document_id for one in answering if one.best is not None}
        if len(answering) > 1 and len(documents) == 1:
            words = int(len(answering) * _SHARE_OF_DOUBLE * self._services.tenant.answers.max_words)
            headings = self.find_evidence.headings
            quote = merged_quote(answering, headings=headings, max_words=words)
            return [(answering[0], quote)] if quote is not None else []
        return [(one, one.quote) for one in answering if one.quote is not None]

    def _blocks(
        self, quote: Quote, sources: _SourceList, evidence: Evidence, *, title: str, begun: bool
    ) -> list[QuotedBlock]:
        lead = "\n\n" if begun else ""
        built: list[QuotedBlock] = []
        url = quote.document.card.url
        texts = {one.unit.ordinal: shown_unit(one.unit.text, url=url) for one in quote.units}
        said = tuple(one for one in quote.units if _SUBSTANCE.search(texts[one.unit.ordinal]))
        opening = f"{lead}{title}\n\n" if title else lead
        for before, one in blocks(replace(quote, units=said)):
            sources.excerpts.add(texts[one.unit.ordinal], _place(one, ShownAs.UNIT))
            sources.excerpts.add(shown_heading(one.unit.heading), _place(one, ShownAs.HEADING))
            built.append(
                QuotedBlock(
                    before=before if built else opening + before,
                    text=texts[one.unit.ordinal],
                    passage=one.passage,
                    span=(one.unit.span.start, one.unit.span.end),
                    n=sources.number(one.passage, evidence),
                )
            )
        return built

    def _escalation(self, evidence: Sequence[Evidence]) -> str | None:
        """Return whom to ask: by the question's words, then by the nearest document's, else the default."""
        contacts = self._services.tenant.answers.escalation
        stems = self._vocabulary.language.content_stems
        for text in (*(one.sought.question for one in evidence), *_nearest(evidence)):
            said = stems(text)
            for subject, contact in contacts.items():
                wanted = stems(subject)
                if subject != _DEFAULT_SUBJECT and wanted and wanted <= said:
                    return contact
        return contacts.get(_DEFAULT_SUBJECT)

    def _max_tokens(self, asking: AnswerRequest) -> int:
        limit = self._services.tenant.generation.max_tokens
        return min(asking.max_tokens or limit, limit)

    def _prompt(
        self,
        asking: AnswerRequest,
        shown: Sequence[RankedPassage],
        history: Sequence[AnswerRecord],
        max_tokens: int,
        steps: Steps,
    ) -> Prompt | None:
        assert self._prompts is not None  # noqa: S101 (the caller looked)
        with steps.step("prompt") as span:
            prompt = self._prompts.build(
                Sought(asking.question, before=asking.question_before).joined,
                passages=[ranked.passage for ranked in shown],
                history=history,
                max_tokens=max_tokens,
            )
            span.set_attribute("gen_ai.prompt.name", prompt.prompt_id)
            span.set_attribute("assistant.prompt.tokens", prompt.prompt_tokens)
            span.set_attribute("assistant.prompt.dropped_passages", prompt.dropped_passages)
        return prompt

    def _sources(
        self,
        evidence: Sequence[Evidence],
        shown: Sequence[RankedPassage],
        excerpts: Excerpts,
        *,
        identity: Identity,
    ) -> tuple[Source, ...]:
        asked = frozenset[str]().union(*(term.forms for one in evidence for term in one.terms))
        dates = {
            name: document.card.effective_date for one in evidence for name, document in one.documents.items()
        }
        return tuple(
            Source(
                n=n,
                document_id=passage.document_id,
                title=shown_title(passage.title),
                heading=shown_path(passage.heading),
                effective_date=dates.get(passage.document_id),
                url=shown_url(passage.url),
                source=passage.source,
                score=ranked.fused_score,
                snippet=snippet(passage, stems=asked, excerpts=excerpts),
                span=(passage.span.start, passage.span.end),
                content_hash=passage.content_hash,
                document_url=self._services.links.link(
                    passage.document_id,
                    span=passage.span,
                    identity=identity,
                    content_hash=passage.content_hash,
                ),
            )
            for n, ranked in enumerate(shown, start=1)
            for passage in [ranked.passage]
        )


@dataclass(frozen=True, slots=True)
class _Seeking:
    """One request's searches."""

    find_evidence: FindEvidence
    asking: AnswerRequest
    identity: Identity
    deadline: Deadline
    steps: Steps

    async def find(self, sought: Sought) -> Evidence:
        return await self.find_evidence.find(
            sought,
            labels=self.identity.labels,
            deadline=self.deadline,
            filters=self.asking.filters,
            steps=self.steps,
        )


class _SourceList:
    """The numbered sources of one answer: first those that are quoted, then the best of each document."""

    def __init__(self, excerpts: Excerpts) -> None:
        self.excerpts = excerpts
        self._numbers: dict[str, int] = {}
        self._passages: list[RankedPassage] = []

    @property
    def passages(self) -> tuple[RankedPassage, ...]:
        return tuple(self._passages)

    def number(self, passage: Passage, evidence: Evidence) -> int:
        """Return the passage's number, a new one when it has none yet."""
        number = self._numbers.get(passage.passage_id)
        if number is None:
            number = self._numbers[passage.passage_id] = len(self._passages) + 1
            self._passages.append(_ranked(passage, evidence, rank=number))
        return number

    def fill(self, evidence: Evidence, *, up_to: int) -> None:
        """Add the best passage of each ranked document, then their others, until there are ``up_to``."""
        by_document = [
            _best_first(evidence.documents[one.document_id].passages, evidence)
            for one in evidence.ranked
            if one.document_id in evidence.documents
        ]
        firsts = [passages[0] for passages in by_document if passages]
        others = [passage for passages in by_document for passage in passages[1:]]
        for passage in (*firsts, *others):
            if len(self._passages) >= up_to:
                return
            self.number(passage, evidence)


def _best_first(passages: Iterable[Passage], evidence: Evidence) -> list[Passage]:
    scores = {
        hit.passage_id: (hit.cosine or 0.0) + (hit.lexical_score or 0.0) / 100
        for hit in evidence.retrieved.hits
    }
    return sorted(passages, key=lambda one: (-scores.get(one.passage_id, -1.0), one.ordinal))


def _ranked(passage: Passage, evidence: Evidence, *, rank: int) -> RankedPassage:
    """Return the passage with the raw scores that the legs gave it."""
    fused = next(
        (one for one in evidence.retrieved.passages if one.passage.passage_id == passage.passage_id), None
    )
    hit = next((one for one in evidence.retrieved.hits if one.passage_id == passage.passage_id), None)
    return RankedPassage(
        passage=passage,
        rank=rank,
        fused_score=fused.fused_score if fused else 0.0,
        lexical_rank=fused.lexical_rank if fused else None,
        lexical_score=hit.lexical_score if hit else None,
        vector_rank=fused.vector_rank if fused else None,
        cosine=hit.cosine if hit else None,
    )


def _also_possible(quote: Quote, parts: Sequence[QuotedBlock]) -> AlsoPossible:
    card = quote.document.card
    return AlsoPossible(
        document_id=card.document_id,
        title=shown_title(card.title),
        effective_date=card.effective_date,
        text="".join(part.before + part.text for part in parts),
        citations=tuple(sorted({part.n for part in parts})),
    )


def _certainty(evidence: Sequence[Evidence]) -> Certainty | None:
    """Return how sure the whole answer is: of a double question the less sure half that has an answer."""
    found = [one.certainty for one in evidence if one.certainty is not None]
    if not found:
        return None
    whole = len(found) == len(evidence) and all(one is Certainty.ANSWERED for one in found)
    return Certainty.ANSWERED if whole else Certainty.POSSIBLY


def _best_id(evidence: Evidence) -> str | None:
    return evidence.best.card.document_id if evidence.best is not None else None


def _contends(evidence: Evidence, document_id: str | None) -> bool:
    """Say whether a document is close behind the best one."""
    return evidence.also is not None and evidence.also.document.card.document_id == document_id


def _nearest(evidence: Sequence[Evidence]) -> list[str]:
    return [f"{one.best.card.title} {one.best.card.source}" for one in evidence if one.best is not None]


def snippet(passage: Passage, *, stems: frozenset[str], excerpts: Excerpts) -> str:
    """Return about two sentences of a passage, beginning with its first unit that holds most of the stems;
    note where they and the headings above them stand."""
    units = passage.units
    start, begins_inside = 0, False
    if units:
        best = max(units, key=lambda unit: (len(stems.intersection(unit.terms)), -unit.ordinal))
        start, begins_inside = best.span.start - passage.span.start, best.ordinal != units[0].ordinal
    text = passage.text[start : start + 2 * SNIPPET_CHARACTERS]
    url = passage.url if passage.url and passage.url in text else None
    shown = shown_snippet(text, inside=begins_inside, url=url)
    place = Place(
        passage.document_id,
        passage.content_hash,
        ((passage.span.start + start, passage.span.start + start + len(text)),),
        ShownAs.SNIPPET_INSIDE if begins_inside else ShownAs.SNIPPET,
        url=url,
    )
    excerpts.add(shown, place)
    path = replace(place, shown_as=ShownAs.PATH, heading_letters=len(passage.heading))
    excerpts.add(shown_path(passage.heading), path)
    return shown


def _place(one: ScoredUnit, shown_as: ShownAs) -> Place:
    unit, passage = one.unit, one.passage
    return Place(
        passage.document_id,
        passage.content_hash,
        ((unit.span.start, unit.span.end),),
        shown_as,
        heading_letters=len(unit.heading) if shown_as is ShownAs.HEADING else 0,
        url=passage.url if passage.url and passage.url in unit.text else None,
    )


def _reply_draft(quote: Quote, excerpts: Excerpts) -> str | None:
    """Return what the document says to the patient; None where it says nothing."""
    url = quote.document.card.url
    draft = shown_reply((one.unit.text for one in quote.reply), url=url)
    if quote.reply:
        spans = tuple((one.unit.span.start, one.unit.span.end) for one in quote.reply)
        excerpts.add(draft, replace(_place(quote.reply[0], ShownAs.REPLY), spans=spans, url=url))
    return draft or None


def _as_title(question: str) -> str:
    """Return the question as a line of Markdown; it may be a pasted message of anybody."""
    said = safe_markdown(" ".join(question.split()), allowed_urls=()).strip()
    return f"**{said}**" if said else ""


@contextmanager
def _ended_on_error(steps: Steps) -> Generator[None, None, None]:
    """End the root span when there will be no stream to end it."""
    try:
        yield
    except BaseException as error:
        if isinstance(error, AssistantError):
            fail_span(steps.root, error.code)
        steps.root.end()
        raise
