"""In-memory fakes of the answering ports, and one tenant made of them.

They keep the ports' promises: deadlines, filters, labels, append-only records, a closed connection. The
records pass the same contract tests as the real store (tests/contracts/test_fakes.py). Documents are
parsed and cut by the worker's own code, and a text's vector is its bag of stems, so texts with the same words
are near each other: a whole answer is made in process, as in the service.
"""

from __future__ import annotations

import asyncio
import json
import re
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import lru_cache
from itertools import count
from math import sqrt
from typing import Any, TypeVar

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from assistant.answer.excerpts import fill_record, shown_again
from assistant.answer.services import (
    AnswerWriter,
    CitedDocuments,
    LiveData,
    TenantServices,
)
from assistant.documents.parsing import parse_document
from assistant.documents.passages import PassageCutter, TokenCounts, build_card
from assistant.domain.answers import (
    Act,
    AnswerRecord,
    Sent,
    StoredAct,
    StoredCheck,
    StoredSent,
    StoredVerdict,
    Usage,
    Verdict,
)
from assistant.domain.audit import AccessEntry, AccessPage, AccessQuery, AuditRecord
from assistant.domain.clock import Clock, Deadline, SystemClock
from assistant.domain.documents import (
    Document,
    DocumentState,
    DocumentStatus,
    IndexInfo,
    KnownWords,
    MediaType,
    ParsedDocument,
    Passage,
    PassageQuery,
    Retrieved,
    Section,
    SourceIds,
    SourceLoads,
    Span,
    StoredDocument,
    id_prefix_of,
)
from assistant.domain.errors import AssistantError, ConflictError, PassageTooLongError
from assistant.domain.identity import CareContext, Identity, Role
from assistant.domain.live import (
    Caller,
    ElementData,
    ElementKind,
    ElementProblem,
    ElementType,
    ElementValue,
    Filled,
    LiveElements,
    LiveReadError,
)
from assistant.models.artifacts import ServedModel
from assistant.stores.index.rows import known_item, retrieved
from assistant.stores.index.watch import IndexState, IndexWatch
from assistant.stores.ports import (
    GenerationDelta,
    GenerationRequest,
    GenerationStream,
    LiveDesk,
    ValuesOfSent,
)
from assistant.stores.records import FoundAnswer, PlaceKind, StoredRecords
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import language

Given = TypeVar("Given", StoredVerdict, StoredSent, StoredAct)
UPDATED_AT = datetime(2026, 3, 1, tzinfo=UTC)
DIMENSIONS = 384
PASSAGE_TOKENS = 256


def vector_of(text: str) -> list[float]:
    """Return a unit-length vector, shape (DIMENSIONS,), whose places are the text's stems."""
    places = Counter(zlib.crc32(stem.encode()) % DIMENSIONS for stem in _stems(text))
    length = sqrt(sum(number * number for number in places.values())) or 1.0
    return [places.get(place, 0) / length for place in range(DIMENSIONS)]


@lru_cache(maxsize=10_000)
def _stems(text: str) -> frozenset[str]:
    return language("en").content_stems(text)


class FakeEmbedder:
    """Gives every text its bag of stems; ``too_long_words`` is its input limit in words."""

    def __init__(self, *, error: AssistantError | None = None, hangs: bool = False, after: int = 0) -> None:
        self.error = error
        self.hangs = hangs
        self.after = after
        """How many calls go well before it fails or hangs."""
        self.too_long_words = 10_000
        self.texts: list[list[str]] = []

    async def embed(self, texts: Sequence[str], *, deadline: Deadline) -> list[list[float]]:
        deadline.within_s(1.0)
        self.texts.append(list(texts))
        if len(self.texts) > self.after:
            if self.error is not None:
                raise self.error
            if self.hangs:
                await asyncio.Event().wait()
        if any(len(text.split()) > self.too_long_words for text in texts):
            raise PassageTooLongError("A text is over the limit.")
        return [vector_of(text) for text in texts]


@dataclass
class FakeSearch:
    """The reading side of an index of these documents: the same legs as the real one, each a loop."""

    documents: list[StoredDocument] = field(default_factory=list[StoredDocument])
    error: AssistantError | None = None
    hangs: bool = False
    read_error: AssistantError | None = None
    words_error: AssistantError | None = None
    gone: set[str] = field(default_factory=set[str])
    """Documents that go away between the search and the reading."""
    queries: list[PassageQuery] = field(default_factory=list[PassageQuery])
    failing: dict[str, AssistantError] = field(default_factory=dict[str, AssistantError])
    """By prefix, the error of a source."""
    hanging: set[str] = field(default_factory=set[str])
    """Prefixes of sources that never answer."""
    read: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    """The ids of each reading."""

    async def search(self, query: PassageQuery, *, deadline: Deadline) -> Retrieved:
        deadline.within_s(1.0)
        self.queries.append(query)
        if query.ids is not None and query.ids.prefix in self.failing:
            raise self.failing[query.ids.prefix]
        if query.ids is not None and query.ids.prefix in self.hanging:
            await asyncio.Event().wait()
        if self.error is not None:
            raise self.error
        if self.hangs:
            await asyncio.Event().wait()
        seen = [one for one in self.documents if _lets_through(query, one.passages[0])]
        passages = {passage.passage_id: passage for one in seen for passage in one.passages}
        inputs = {name: one.embedding_input for name, one in passages.items()}
        cosines = {name: cosine(query.vector, text) for name, text in inputs.items()}
        scores = {name: score for name, text in inputs.items() if (score := word_score(query.text, text))}
        legs = {
            "lexical": _best(scores, query.leg_size),
            "vector": _best(cosines, query.leg_size),
            **_document_legs(query, seen),
        }
        return retrieved(
            legs,
            size=query.size,
            index_version="index-1",
            cosines=cosines,
            passages=lambda names: {name: passages[name] for name in names},
        )

    async def read_documents(
        self, document_ids: Sequence[str], *, labels: frozenset[str], deadline: Deadline
    ) -> Mapping[str, StoredDocument]:
        deadline.within_s(1.0)
        self.read.append(tuple(document_ids))
        if self.read_error is not None:
            raise self.read_error
        known = {one.card.document_id: one for one in self.documents}
        return {
            name: known[name]
            for name in document_ids
            if name in known and name not in self.gone and _may_see(labels, known[name].card.labels)
        }

    async def known_words(self, *, items_of: Sequence[SourceIds] = ()) -> KnownWords:
        if self.words_error is not None:
            raise self.words_error
        cards = [one.card for one in self.documents if not one.card.labels]
        prefixes = {ids.prefix for ids in items_of}
        items = (known_item(card) for card in cards if id_prefix_of(card.document_id) in prefixes)
        return KnownWords(
            abbreviations=dict(pair for card in cards for pair in card.abbreviations),
            items=tuple(item for item in items if item is not None),
        )

    async def info(self) -> IndexInfo:
        return IndexInfo(
            index_version="index-1",
            embedding_model="fake",
            dimensions=DIMENSIONS,
            passage_count=sum(len(one.passages) for one in self.documents),
            document_count=len(self.documents),
            updated_at=UPDATED_AT,
        )


def cosine(vector: Sequence[float], text: str) -> float:
    """Return the cosine of a unit-length vector with a text's."""
    return sum(one * other for one, other in zip(vector, vector_of(text), strict=True))


def word_score(query: str, text: str) -> float:
    """Return what stands for BM25: 3.0 a stem in common."""
    return 3.0 * len(_stems(query) & _stems(text))


def _best(scores: Mapping[str, float], size: int) -> dict[str, float]:
    return dict(sorted(scores.items(), key=lambda item: (-item[1], item[0]))[:size])


def _document_legs(query: PassageQuery, documents: Iterable[StoredDocument]) -> dict[str, dict[str, float]]:
    legs: dict[str, dict[str, float]] = {"title": {}, "text": {}, "title_vector": {}}
    for document in documents:
        row = f"{document.card.document_id}#0"
        titles = (document.card.title, *document.card.questions)
        text = "\n".join((*titles, *(passage.text for passage in document.passages)))
        legs["title_vector"][row] = max(cosine(query.vector, title) for title in titles)
        if title_score := max(word_score(query.text, title) for title in titles):
            legs["title"][row] = title_score
        if text_score := word_score(query.text, text):
            legs["text"][row] = text_score
    return legs


def _may_see(labels: frozenset[str], wanted: Iterable[str]) -> bool:
    return not (wanted := set(wanted)) or bool(labels & wanted)


def _lets_through(query: PassageQuery, passage: Passage) -> bool:
    filters = query.filters
    return (
        _may_see(query.labels, passage.labels)
        and passage.document_id not in query.without
        and (query.ids is None or id_prefix_of(passage.document_id) == query.ids.prefix)
        and (not filters.source or passage.source in filters.source)
        and (not filters.type or passage.type in filters.type)
        and (not filters.document_id or passage.document_id in filters.document_id)
        and (filters.updated_after is None or passage.updated_at > filters.updated_after)
    )


class Gate:
    """A step of a script that waits until the test opens it, and tells when it is reached."""

    def __init__(self) -> None:
        self.reached = asyncio.Event()
        self.opened = asyncio.Event()


Step = str | Gate | AssistantError | Exception


class ScriptedGenerator:
    """Plays a script: text is a delta, a ``Gate`` waits, an error is raised. Then it stops, unless
    ``finish_reason`` is None. Like the real one it closes its connection when its context is left."""

    def __init__(self, *steps: Step, finish_reason: str | None = "stop") -> None:
        self.steps = list(steps)
        self.finish_reason = finish_reason
        self.opening: Gate | AssistantError | None = None
        self.usage: Usage | None = Usage(prompt_tokens=50, completion_tokens=7)
        self.variant: str | None = "AllTraffic"
        self.requests: list[GenerationRequest] = []
        self.deadlines: list[Deadline] = []
        self.open_connections = 0
        self.log: list[str] = []
        """"opened" and "closed", in order; a test may add to it."""

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncIterator[GenerationStream]:
        self.requests.append(request)
        self.deadlines.append(deadline)
        await _play(self.opening)
        self.open_connections += 1
        self.log.append("opened")
        try:
            yield _ScriptedStream(self)
        finally:
            self.open_connections -= 1
            self.log.append("closed")

    async def deltas(self) -> AsyncIterator[GenerationDelta]:
        for step in self.steps:
            if isinstance(step, str):
                yield GenerationDelta(step)
                await asyncio.sleep(0)  # a socket gives other tasks their turn between two parts
            else:
                await _play(step)
        if self.finish_reason is not None:
            yield GenerationDelta("", finish_reason=self.finish_reason, usage=self.usage)  # pyright: ignore[reportArgumentType]


class JudgesAndWrites(ScriptedGenerator):
    """Plays its next verdict to each prompt of a check, and its script to any other."""

    def __init__(self, *steps: Step, verdicts: Sequence[Step]) -> None:
        super().__init__(*steps)
        self.verdicts, self._reply = list(verdicts), steps
        self.checked: list[str] = []
        """What it was asked to check: the last message of each prompt."""

    @asynccontextmanager
    async def stream(
        self, request: GenerationRequest, *, deadline: Deadline
    ) -> AsyncIterator[GenerationStream]:
        self.steps = [*self._reply]
        if "<sentences>" in (asked := request.messages[-1].content):
            self.checked.append(asked)
            self.steps = [self.verdicts.pop(0)]
        async with super().stream(request, deadline=deadline) as stream:
            yield stream


def verdicts(*sentences: tuple[Any, ...]) -> str:
    """Return what a model answers to the prompt of a check: n, verdict, line and words of each sentence."""
    given = [dict(zip(("n", "verdict", "line", "words"), one, strict=True)) for one in sentences]
    return json.dumps({"sentences": given})


class _ScriptedStream:
    def __init__(self, generator: ScriptedGenerator) -> None:
        self.inference_id: str | None = "inference-1"
        self.variant: str | None = generator.variant
        self._generator = generator

    def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        return self._generator.deltas()


async def _play(step: Gate | Exception | None) -> None:
    if isinstance(step, Exception):
        raise step
    if step is not None:
        step.reached.set()
        await step.opened.wait()


class WordCounter:
    """Counts words as tokens."""

    def count(self, text: str) -> int:
        return len(re.findall(r"\S+", text))


class PlainLinks:
    """Links that say what they were made from."""

    def link(
        self, document_id: str, *, span: Span, identity: Identity, content_hash: str | None = None
    ) -> str:
        return f"/v1/documents/{document_id}?token={identity.agent}.{span.start}-{span.end}.{content_hash}"


@dataclass
class FakeTexts:
    """The texts of the documents that ``search`` has, for every label of theirs."""

    search: FakeSearch
    gone: set[str] = field(default_factory=set[str])

    async def is_readable(self, document_id: str, *, labels: frozenset[str]) -> bool:
        known = {one.card.document_id: one.card.labels for one in self.search.documents}
        return document_id in known and document_id not in self.gone and _may_see(labels, known[document_id])

    async def read(
        self, document_id: str, content_hash: str, *, labels: frozenset[str]
    ) -> ParsedDocument | None:
        if not await self.is_readable(document_id, labels=labels):
            return None
        stored = next(one for one in self.search.documents if one.card.document_id == document_id)
        return parsed_again(stored) if stored.card.content_hash == content_hash else None


def parsed_again(stored: StoredDocument) -> ParsedDocument:
    """Return the parsed text that the passages and units of an index were cut from."""
    units = tuple(unit for passage in stored.passages for unit in passage.units)
    pieces = [(one.span, one.text) for one in (*stored.passages, *units)]
    letters = [" "] * max(span.end for span, _ in pieces)
    for span, text in pieces:
        letters[span.start : span.start + len(text)] = text
    sections = tuple(Section(tuple(one.heading.split(" > ")), one.span) for one in stored.passages)
    return ParsedDocument("".join(letters), sections, units)


@dataclass
class InMemorySentValues:
    """``SentValues`` that never deletes; an expired value is not found."""

    clock: Clock = field(default_factory=SystemClock)
    kept: dict[tuple[str, str], ValuesOfSent] = field(default_factory=dict[tuple[str, str], ValuesOfSent])

    async def keep(self, values: ValuesOfSent) -> ValuesOfSent:
        return self.kept.setdefault((values.answer_id, values.send_id), values)

    async def of(self, answer_id: str) -> Mapping[str, ValuesOfSent]:
        now = self.clock.now()
        return {
            send_id: values
            for (of_answer, send_id), values in self.kept.items()
            if of_answer == answer_id and values.expires_at > now
        }


class InMemoryRecords(StoredRecords):
    """The append-only store of answers. ``error`` makes every call fail, ``gate`` makes writing wait."""

    def __init__(self, *, clock: Clock | None = None) -> None:
        self.error: Exception | None = None
        self.gate: Gate | None = None
        self.answers: dict[str, AnswerRecord] = {}
        self.verdicts: list[StoredVerdict] = []
        self.sent: list[StoredSent] = []
        self.acts: list[StoredAct] = []
        self.checks: dict[str, StoredCheck] = {}
        self.begun: dict[str, FoundAnswer] = {}
        self.accesses: list[AccessEntry] = []
        self.places: dict[tuple[str, PlaceKind], set[str]] = {}
        self.reads = 0
        """How many times answers were looked up."""
        self._clock = clock or SystemClock()

    async def put_answer(self, record: AnswerRecord) -> None:
        await _play(self.gate)
        self._check()
        if record.answer_id in self.answers:
            raise ConflictError("This answer is recorded.")
        self.answers[record.answer_id] = record

    async def begin_answer(self, record: AnswerRecord, *, until: datetime) -> None:
        self._check()
        self.begun.setdefault(record.answer_id, FoundAnswer(record, until))

    async def get_answer(self, answer_id: str) -> AnswerRecord | None:
        self.reads += 1
        found = await self.find_answer(answer_id)
        return None if found is None or found.written_until is not None else found.record

    async def find_answer(self, answer_id: str) -> FoundAnswer | None:
        self._check()
        if record := self.answers.get(answer_id):
            return FoundAnswer(record, None)
        if (begun := self.begun.get(answer_id)) is None or begun.written_until is None:
            return begun
        return begun if begun.written_until > self._clock.now() else FoundAnswer(begun.record, None)

    async def list_conversation(self, conversation_id: str, *, limit: int = 50) -> list[AnswerRecord]:
        self._check()
        self.reads += 1
        known = [await self.find_answer(answer_id) for answer_id in self.begun | self.answers]
        ended = [one.record for one in known if one is not None and one.written_until is None]
        found = [record for record in ended if record.conversation_id == conversation_id]
        return sorted(found, key=lambda record: record.asked_at)[-limit:]

    async def take_place(self, answer_id: str, kind: PlaceKind, name: str, *, most: int) -> bool:
        self._check()
        names = self.places.setdefault((answer_id, kind), set())
        if len(names) < most:
            names.add(name)
        return name in names

    async def append_verdict(self, answer_id: str, verdict: Verdict, *, agent: str) -> StoredVerdict:
        new = StoredVerdict(answer_id=answer_id, agent=agent, at=self._clock.now(), verdict=verdict)
        return self._keep(self.verdicts, new, id_of=lambda stored: stored.verdict.verdict_id)

    async def append_sent(
        self, answer_id: str, sent: Sent, *, agent: str, delivered_hash: str | None = None
    ) -> StoredSent:
        now = self._clock.now()
        new = StoredSent(answer_id=answer_id, agent=agent, at=now, sent=sent, delivered_hash=delivered_hash)
        return self._keep(self.sent, new, id_of=lambda stored: stored.sent.send_id)

    async def append_act(self, answer_id: str, act: Act, *, agent: str) -> StoredAct:
        new = StoredAct(answer_id=answer_id, agent=agent, at=self._clock.now(), act=act)
        return self._keep(self.acts, new, id_of=lambda stored: stored.act.act_id)

    async def list_acts(self, answer_id: str) -> list[StoredAct]:
        self._check()
        return [each for each in self.acts if each.answer_id == answer_id]

    async def append_check(self, check: StoredCheck) -> StoredCheck:
        self._check()
        return self.checks.setdefault(check.answer_id, check)

    async def check_of(self, answer_id: str) -> StoredCheck | None:
        self._check()
        return self.checks.get(answer_id)

    async def list_verdicts(self, answer_id: str | None = None, *, limit: int = 1000) -> list[StoredVerdict]:
        self._check()
        return [each for each in self.verdicts if answer_id in (None, each.answer_id)][:limit]

    async def list_sent(self, answer_id: str) -> list[StoredSent]:
        self._check()
        return [each for each in self.sent if each.answer_id == answer_id]

    async def record_access(self, entry: AccessEntry) -> None:
        self._check()
        self.accesses.append(entry)

    async def audited(self, day: date) -> list[AuditRecord]:
        self._check()
        return [AuditRecord(each.model_dump_json(), None) for each in self.accesses if each.at.date() == day]

    async def list_accesses(self, query: AccessQuery) -> AccessPage:
        self._check()
        begun = {answer_id: one.record for answer_id, one in self.begun.items()}
        sights = [record.sight() for record in (begun | self.answers).values()]
        wanted = [each for each in (*sights, *self.accesses) if query.since <= each.at < query.until]
        found = sorted(filter(query.wants, wanted), key=lambda each: each.at)
        start = int(query.after or 0)
        end = start + query.limit
        return AccessPage(tuple(found[start:end]), str(end) if end < len(found) else None)

    def _keep(self, kept: list[Given], new: Given, *, id_of: Callable[[Given], str]) -> Given:
        self._check()
        for stored in kept:
            if id_of(stored) == id_of(new):
                if stored.model_copy(update={"at": new.at}) != new:
                    raise ConflictError(f"The id {id_of(new)} was used with other content.")
                return stored
        kept.append(new)
        return new

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


REFILL = """
Retail refills are payable on day 23 of 30. Send other requests to the Claims Desk.
"""


def document(
    document_id: str = "refill",
    content: str = REFILL,
    *,
    title: str = "Refill too soon",
    questions: tuple[str, ...] = (),
    labels: tuple[str, ...] = (),
    effective_date: date | None = None,
    source: str = "procedures",
    passage_tokens: int = PASSAGE_TOKENS,
    media_type: MediaType = "text/markdown",
) -> StoredDocument:
    """Return a document as the worker indexes it, with real passages and units."""
    made = Document(
        document_id=document_id,
        title=title,
        content=content,
        media_type=media_type,
        source=source,
        type="procedure",
        url=f"https://procedures.example/{document_id}",
        effective_date=effective_date,
        labels=labels,
        questions=questions,
    )
    return indexed(made, passage_tokens=passage_tokens)


def indexed(made: Document, *, passage_tokens: int = PASSAGE_TOKENS) -> StoredDocument:
    """Return a document as the worker indexes it."""
    parsed = parse_document(made)
    cutter = PassageCutter(_word_counts(), max_tokens=passage_tokens, language=language("en"))
    written = {"content_hash": f"hash-of-{made.document_id}", "updated_at": UPDATED_AT}
    return StoredDocument(
        card=build_card(made, parsed, **written),  # pyright: ignore[reportArgumentType]
        passages=cutter.cut(made, parsed, **written),  # pyright: ignore[reportArgumentType]
    )


@lru_cache
def _word_counts() -> TokenCounts:
    """Return counts by a tokenizer whose tokens are words."""
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()  # pyright: ignore[reportAttributeAccessIssue]
    return TokenCounts(tokenizer)


def passage(
    document_id: str = "refill",
    *,
    text: str = REFILL.strip(),
    title: str = "Refill too soon",
    heading: str = "Steps",
    ordinal: int = 0,
    labels: tuple[str, ...] = (),
) -> Passage:
    """Return a passage without units, for what reads its text alone."""
    return Passage(
        passage_id=f"{document_id}#{ordinal}",
        document_id=document_id,
        content_hash=f"hash-of-{document_id}",
        ordinal=ordinal,
        title=title,
        heading=heading,
        text=text,
        span=Span(10, 10 + len(text)),
        token_count=len(text.split()),
        source="procedures",
        type="procedure",
        url=f"https://procedures.example/{document_id}",
        updated_at=UPDATED_AT,
        labels=labels,
    )


def agent(name: str = "ana", *roles: Role, labels: frozenset[str] = frozenset()) -> Identity:
    return Identity(tenant="pharmacy", agent=name, roles=frozenset(roles or {Role.AGENT}), labels=labels)


def countable_ids() -> Callable[[], str]:
    numbers = count(1)
    return lambda: f"id-{next(numbers)}"


QUOTING_MODEL = ServedModel(
    model_id="model-1",
    digest="digest-1",
    template_tokens_per_message=4,
    template_tokens_per_prompt=3,
)
WRITING_MODEL = replace(QUOTING_MODEL, writes_answers=True)


def _config() -> TenantConfig:
    return TenantConfig.model_validate({"schema_version": 1, "name": "pharmacy", "display_name": "Pharmacy"})


@dataclass
class LiveStates:
    """The states of documents as answering sees them."""

    live: dict[str, DocumentStatus] = field(default_factory=dict[str, DocumentStatus])
    counted: int | None = None
    """How many are live, where that is not what ``live`` holds."""
    error: AssistantError | None = None

    async def count_by_state(self) -> Mapping[DocumentState, int]:
        if self.error is not None:
            raise self.error
        return {DocumentState.LIVE: len(self.live) if self.counted is None else self.counted}

    async def get_many(self, document_ids: Sequence[str]) -> Mapping[str, DocumentStatus]:
        return {name: self.live[name] for name in document_ids if name in self.live}

    async def list(
        self, *, states: Sequence[DocumentState] = (), after: str | None = None, limit: int = 100
    ) -> list[DocumentStatus]:
        names = sorted(name for name in self.live if name > (after or ""))[:limit]
        return [self.live[name] for name in names if not states or self.live[name].state in states]


@dataclass
class FakeTenant:
    """One tenant's fakes, each within reach of a test, and the services that are made of them. Its answers
    are quoted; ``writing`` makes one whose model writes."""

    config: TenantConfig = field(default_factory=_config)
    embedder: FakeEmbedder = field(default_factory=FakeEmbedder)
    search: FakeSearch = field(default_factory=lambda: FakeSearch([document()]))
    live: LiveStates = field(default_factory=LiveStates)
    generator: ScriptedGenerator = field(
        default_factory=lambda: ScriptedGenerator("Retail refills are payable ", "on day 23 of 30 [1.1].")
    )
    records: InMemoryRecords = field(default_factory=InMemoryRecords)
    sent_values: InMemorySentValues = field(default_factory=InMemorySentValues)
    model: ServedModel = QUOTING_MODEL
    can_answer: Callable[[Sequence[Any]], bool] = field(default=lambda _: True)
    clock: Clock = field(default_factory=SystemClock)
    new_id: Callable[[], str] = field(default_factory=countable_ids)
    live_elements: LiveElements | None = None
    loads: SourceLoads | None = None
    """How far its sources are; None: all are loaded."""
    withdrawn: set[str] = field(default_factory=set[str])
    """Documents whose texts nobody may read any more."""
    revisions: LiveDesk | None = None

    @classmethod
    def writing(cls, *steps: Step, finish_reason: str | None = "stop") -> FakeTenant:
        """Return a tenant whose model writes these steps, by default its document's first sentence."""
        tenant = cls(model=WRITING_MODEL)
        if steps:
            tenant.generator = ScriptedGenerator(*steps, finish_reason=finish_reason)
        return tenant

    def configure(self, **sections: Mapping[str, object] | Sequence[Mapping[str, object]] | str) -> None:
        """Change the tenant file: ``configure(limits={"first_token_timeout_s": 0.05})``."""
        data = self.config.model_dump()
        for name, section in sections.items():
            data[name] = {**data[name], **section} if isinstance(section, Mapping) else section
        self.config = TenantConfig.model_validate(data)

    def use_model(self, **changes: Any) -> None:
        """Change what the served model's manifest says: ``use_model(reads_tokens=900)``."""
        self.model = replace(self.model, **changes)

    def shown(self, record: AnswerRecord) -> AnswerRecord:
        """Return a kept record as its reader sees it while nothing is withdrawn."""
        parsed = {one.card.document_id: parsed_again(one) for one in self.search.documents}
        texts = {one.mark: shown_again(one, parsed[one.document_id]) for one in record.excerpts}
        return fill_record(record, texts)

    @property
    def watch(self) -> IndexWatch:
        async def loads() -> SourceLoads:
            return self.loads or SourceLoads(frozenset(entry.name for entry in self.config.sources))

        watch = IndexWatch(self.search, self.live, loads=loads, dimensions=DIMENSIONS, clock=self.clock)
        watch.state = IndexState(loads=SourceLoads(frozenset(entry.name for entry in self.config.sources)))
        return watch

    @property
    def texts(self) -> FakeTexts:
        return FakeTexts(self.search, self.withdrawn)

    @property
    def services(self) -> TenantServices:
        return TenantServices(
            tenant=self.config,
            embedder=self.embedder,
            search=self.search,
            index_watch=self.watch,
            writer=AnswerWriter(self.generator, self.model, WordCounter(), self.can_answer),
            records=self.records,
            documents=CitedDocuments(self.texts, self.live, PlainLinks()),
            live=LiveData(
                self.live_elements,
                lambda customer: f"pseudonym-{zlib.crc32(customer.encode())}",
                self.sent_values,
                mac_key=b"of-the-fake-tenant",
            ),
            clock=self.clock,
            revisions=self.revisions,
            new_id=self.new_id,
        )

    def with_documents(self, *documents: StoredDocument) -> FakeTenant:
        return replace(self, search=FakeSearch(list(documents)))


# --- live elements ----------------------------------------------------------------------------------------
AS_OF = datetime(2026, 3, 1, 14, 2, tzinfo=UTC)
STATUS = ElementType(
    name="orders.status",
    kind=ElementKind.STATUS,
    title="Order status",
    source="orders",
    operation="orders.get_order",
    about=("Where is my order?", "Has the order been shipped?"),
)
SUMMARY = ElementType(
    name="orders.summary",
    kind=ElementKind.CARD,
    title="Order",
    source="orders",
    operation="orders.get_order",
)
STOCK = ElementType(
    name="stores.stock", kind=ElementKind.TABLE, title="Stock", source="stores", operation="stores.get_stock"
)
TYPES = (STATUS, SUMMARY, STOCK)


def of_customer(customer: str, **ids: str) -> CareContext:
    """Return a verified context of ana's conversation with a customer who has one order, of the same name."""
    known = {"customer": (customer,), "order": (f"order-{customer}",)}
    known |= {name: (value,) for name, value in ids.items()}
    return CareContext(agent="ana", customer=customer, ids=known, expires_at=datetime(2030, 1, 1, tzinfo=UTC))


@dataclass
class FakeLive:
    """Fills each element with the caller's own order. ``gates`` and ``errors`` are by element."""

    offered: tuple[ElementType, ...] = TYPES
    gates: dict[str, Gate] = field(default_factory=dict[str, Gate])
    errors: dict[str, Exception] = field(default_factory=dict[str, Exception])
    data: dict[str, ElementData] = field(default_factory=dict[str, ElementData])
    """In place of the caller's own order."""
    by_word: dict[str, ElementData | LiveReadError] = field(
        default_factory=dict[str, ElementData | LiveReadError]
    )
    """What is read for a question that is this one word, such as an item's number."""
    delay_s: float = 0.0
    calls: list[tuple[str, Caller]] = field(default_factory=list[tuple[str, Caller]])
    active: int = 0
    most_active: int = 0
    cancelled: list[str] = field(default_factory=list[str])

    def types(self) -> Mapping[str, ElementType]:
        return {one.name: one for one in self.offered}

    async def fill(self, name: str, caller: Caller, *, deadline: Deadline) -> Filled:
        self.calls.append((name, caller))
        self.active += 1
        self.most_active = max(self.active, self.most_active)
        try:
            if name in self.gates:
                self.gates[name].reached.set()
                await self.gates[name].opened.wait()
            await asyncio.sleep(self.delay_s)
            if name in self.errors:
                raise self.errors[name]
            return self.filled(name, caller)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        finally:
            self.active -= 1

    def filled(self, name: str, caller: Caller) -> Filled:
        said = self.by_word.get(caller.question)
        if isinstance(said, LiveReadError):
            raise said
        if said is not None:
            return Filled(said, as_of=AS_OF, about=f"item {caller.question}")
        if caller.context is None:
            raise LiveReadError(ElementProblem.PARAMETER_MISSING, "Which order? Give the order number.")
        order = caller.context.ids["order"][0]
        own = ElementData(values=(ElementValue(name="status", label="Status", text=f"shipped {order}"),))
        return Filled(self.data.get(name, own), as_of=AS_OF, about=f"order {order}")
