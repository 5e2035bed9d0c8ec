"""Searches for one question: embeds its texts, asks every source, reads the likeliest documents.

A tenant's sources are asked at once, each under its own limit and circuit. One that is late or fails is left
out, which the answer says (``SearchScope.degraded``).

A leg is one ranked list of a search: the passages by their words (BM25), and by their vectors.

``ReadQuestion`` embeds the texts of a message, and ``SearchSources`` searches each of its questions::

    await sources.embed(["Are refills payable?"], scope)  # fills scope.embedded
    asked = await sources.run(text, vector=scope.embedded["Are refills payable?"], scope=scope)
    asked.states  # {"handbook": "answered", "wiki": "late"}; scope.degraded is ["source wiki"]
    await sources.read(["handbook:12"], scope)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from math import fsum, log2, sqrt
from typing import Any, Literal

import structlog
from opentelemetry.trace import SpanKind

from assistant.answer.services import PROVIDER, Result, Steps, TenantServices, call_within
from assistant.domain.clock import Circuit, Deadline
from assistant.domain.documents import (
    KnownWords,
    PassageQuery,
    Retrieved,
    SearchFilters,
    SourceIds,
    StoredDocument,
)
from assistant.domain.errors import EmbeddingUnavailableError, PassageTooLongError, SearchUnavailableError
from assistant.tenant.tenant import SourceEntry, SourceKind, TenantConfig

_HALVINGS = (0, 1, 3, 6)
"""How often the longest of some texts is cut in two, attempt after attempt, where one is over the model's
token limit: at most four calls, and 2^6 = 64 pieces of a text."""
FAILURES_TO_OPEN = 3
"""Failures in a row after which a source is left out unasked for a while."""
LEAST_LEG = 20
"""Passages that each source may give to each leg, however many sources there are."""
NO_FILTERS = SearchFilters()
State = Literal["answered", "empty", "late", "failed"]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SearchScope:
    """Whose search it is, what it may find, how long it may take, and where its steps are timed.

    One for each answer, from its first step to its last. Its fields are never replaced; the steps add to
    ``embedded``, ``degraded`` and ``tasks`` while they run.
    """

    labels: frozenset[str]
    """The agent's access labels."""
    deadline: Deadline
    steps: Steps
    filters: SearchFilters = NO_FILTERS
    embedded: dict[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    """Unit-length vectors of the texts that were embedded so far, by text."""
    degraded: list[str] = field(default_factory=list[str])
    """Names of the steps that were left out because they failed or were late."""
    tasks: list[asyncio.Task[Any]] = field(default_factory=list[asyncio.Task[Any]])
    """Those of ``beside``. ``AnswerQuestion`` cancels them when its preparation ends."""

    def beside(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begin a task that runs beside the steps; a later step awaits it, or none does."""
        task = asyncio.create_task(work)
        # Reads the error of a task that nobody awaits: asyncio would log it as never retrieved.
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        self.tasks.append(task)
        return task


@dataclass(frozen=True, slots=True)
class EvidenceQuery:
    """One question to find evidence for."""

    question: str
    """In the asker's words."""
    vector: Sequence[float]
    """Unit length, of ``text``."""
    before: str | None = None
    """The question before it, where this one makes no sense without."""
    routed_text: str = ""
    """``text`` as the router of sources reads it, without names of items; empty: it reads ``text``."""
    routed_vector: Sequence[float] = ()
    """Unit length, of ``routed_text``; empty: ``vector``."""
    known: KnownWords | None = None
    """Words and items of the tenant's documents; None while they are not read."""
    asks: bool = True
    """False for a greeting or thanks: nothing is searched."""
    at: datetime | None = None
    """When the question was written: days are counted from then."""
    max_words: int = 160
    """Words of the section that is quoted, at most: the tenant's, divided by the message's questions."""
    also_words: int = 80
    """The same for what is quoted below it: another part of its document, or a second document's section."""

    @property
    def text(self) -> str:
        """What is searched and embedded: the question, below the one before it where it needs that."""
        return with_earlier(self.question, self.before)


def with_earlier(question: str, earlier: str | None) -> str:
    """Return a question below the words before it that it makes no sense without, as it is embedded and
    searched."""
    return question if earlier is None else f"{earlier}\n{question}"


@dataclass(frozen=True, slots=True)
class AskedSources:
    """What the sources of documents answered."""

    retrieved: Retrieved
    """The results of all that answered, merged as if by one search."""
    states: Mapping[str, State]
    """By name of the source; with only one search for all of them, each has its state."""


def source_ids(tenant: TenantConfig, *, kind: SourceKind) -> tuple[SourceIds, ...]:
    """Return the ids of the documents of the tenant's sources of one kind."""
    return tuple(_ids_of(source, tenant.sources) for source in tenant.sources if source.kind == kind)


def _ids_of(source: SourceEntry, sources: Iterable[SourceEntry]) -> SourceIds:
    """Return which ids of all ``sources`` are this one's: those with its prefix; where it has none, those
    without the others' prefixes."""
    if source.id_prefix:
        return SourceIds(source.id_prefix)
    return SourceIds("", tuple(other.id_prefix for other in sources if other.id_prefix))


class SourceSearch:
    """Searches one tenant's documents. One instance serves all requests of a process."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self.sources = tuple(source for source in services.tenant.sources if source.kind != "live")
        """Those whose documents are in the index; a live source has none."""
        self._ids = {source.name: _ids_of(source, self.sources) for source in self.sources}
        self._circuits = {
            source.name: Circuit(clock=services.clock, failures=FAILURES_TO_OPEN) for source in self.sources
        }

    async def run(self, text: str, *, vector: Sequence[float], scope: SearchScope) -> AskedSources:
        """Return what the index has for a text and its vector: by one search, or by one for each source where
        the tenant has several of documents.

        Raises SearchUnavailableError when none answered, DeadlineExceededError.
        """
        settings = self._services.tenant.retrieval
        query = PassageQuery(
            text=text,
            vector=vector,
            filters=scope.filters,
            labels=scope.labels,
            leg_size=max(settings.leg_size, settings.passages),
            size=settings.passages,
        )
        with scope.steps.step(
            "search",
            span_name="retrieval passages",
            kind=SpanKind.CLIENT,
            attributes={"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": "passages"},
        ) as span:
            asked = await self._ask_all(query, scope)
            span.set_attribute("assistant.index_version", asked.retrieved.index_version)
            span.set_attribute("assistant.passages", len(asked.retrieved.passages))
            return asked

    async def _ask_all(self, query: PassageQuery, scope: SearchScope) -> AskedSources:
        if len(self.sources) <= 1:  # one search, without a source's own limit and circuit
            retrieved = await self._call_index(
                lambda step: self._services.search.search(query, deadline=step), scope.deadline
            )
            state: State = "answered" if retrieved.documents else "empty"
            return AskedSources(retrieved, {source.name: state for source in self.sources})
        results = await asyncio.gather(*(self._ask(source, query, scope.deadline) for source in self.sources))
        states: dict[str, State] = {}
        answers: list[Retrieved] = []
        for source, (state, retrieved) in zip(self.sources, results, strict=True):
            states[source.name] = state
            if retrieved is not None:
                answers.append(retrieved)
            else:
                scope.degraded.append(f"source {source.name}")
        if not answers:
            raise SearchUnavailableError("No source of the knowledge base answered; ask again.")
        return AskedSources(_merged(answers, size=query.size), states)

    async def _ask(
        self, source: SourceEntry, query: PassageQuery, deadline: Deadline
    ) -> tuple[State, Retrieved | None]:
        """Return a source's state and what it found; None if it is late, fails, or its circuit is open."""
        circuit = self._circuits[source.name]
        if not circuit.allows():
            return "failed", None
        limit_s = min(source.search_limit_s, self._services.tenant.limits.search_timeout_s)
        late = SearchUnavailableError(f"The source {source.name} took over {limit_s:g} s.")
        source_query = replace(query, ids=self._ids[source.name], leg_size=self._leg_size(query.leg_size))
        try:
            retrieved = await call_within(
                limit_s,
                lambda step: self._services.search.search(source_query, deadline=step),
                deadline=deadline,
                late=late,
            )
        except SearchUnavailableError as error:
            circuit.failed()
            _log.warning("source_left_out", source=source.name, reason=error.message)
            # ``call_within`` raises ``late`` itself, the index another error.
            return ("late" if error is late else "failed"), None
        circuit.succeeded()
        return ("answered" if retrieved.documents else "empty"), retrieved

    def _leg_size(self, leg_size: int) -> int:
        """Return how many passages one source may give to a leg: an equal share, at least LEAST_LEG."""
        return max(min(LEAST_LEG, leg_size), leg_size // len(self.sources))

    async def read(self, document_ids: Sequence[str], scope: SearchScope) -> Mapping[str, StoredDocument]:
        """Return documents with their units. Raises SearchUnavailableError, DeadlineExceededError."""
        if not document_ids:
            return {}
        with scope.steps.step("read", kind=SpanKind.CLIENT):
            return await self._call_index(
                lambda step: self._services.search.read_documents(
                    document_ids, labels=scope.labels, deadline=step
                ),
                scope.deadline,
            )

    async def _call_index(
        self, call: Callable[[Deadline], Coroutine[Any, Any, Result]], deadline: Deadline
    ) -> Result:
        limit_s = self._services.tenant.limits.search_timeout_s
        return await call_within(
            limit_s,
            call,
            deadline=deadline,
            late=SearchUnavailableError(f"The passage index took over {limit_s:g} s; ask again."),
        )

    async def embed(self, texts: Sequence[str], scope: SearchScope) -> list[list[float]]:
        """Return a vector for each text, by one call. A text over the model's token limit is embedded in
        pieces and gets the mean of their vectors: no text is shortened. ``scope.embedded`` gets them too.

        Raises EmbeddingUnavailableError, OverloadedError, DeadlineExceededError.
        """
        embedding = self._services.tenant.embedding
        limit_s = self._services.tenant.limits.embedding_timeout_s
        with scope.steps.step(
            "embed",
            span_name=f"embeddings {embedding.model}",
            kind=SpanKind.CLIENT,
            attributes={
                "gen_ai.operation.name": "embeddings",
                "gen_ai.provider.name": PROVIDER,
                "gen_ai.request.model": embedding.model,
                "gen_ai.embeddings.dimension.count": embedding.dimensions,
            },
        ):
            vectors = await call_within(
                limit_s,
                lambda step: self._vectors(texts, deadline=step),
                deadline=scope.deadline,
                late=EmbeddingUnavailableError(f"The embedding endpoint took over {limit_s:g} s; ask again."),
            )
        scope.embedded.update(zip(texts, vectors, strict=True))
        return vectors

    async def _vectors(
        self, texts: Sequence[str], *, deadline: Deadline, halvings: Sequence[int] = _HALVINGS
    ) -> list[list[float]]:
        """Return a vector for each text. ``halvings``: those of the attempts that are left."""
        longest = max([1, *map(len, texts)])

        def times(text: str) -> int:
            """Return how often a text is cut in two; below 1: not at all. One of half the longest's length
            is cut once less, so that pieces of all texts are about as long."""
            return halvings[0] - int(log2(longest / (len(text) or 1)))

        pieces_of_texts = [_pieces(text, times=times(text)) for text in texts]
        try:
            vectors = iter(await self._services.embedder.embed([*chain(*pieces_of_texts)], deadline=deadline))
        except PassageTooLongError:
            if len(halvings) == 1:
                raise
            return await self._vectors(texts, deadline=deadline, halvings=halvings[1:])
        return [_mean([next(vectors) for _ in pieces]) for pieces in pieces_of_texts]


def _pieces(text: str, *, times: int) -> list[str]:
    """Cut a text in two, then its halves, and so on: 2 ** ``times`` pieces, or fewer of a short text."""
    pieces = [text]
    for _ in range(times):
        pieces = [half for piece in pieces for half in _halves(piece)]
    return pieces


def _halves(text: str) -> list[str]:
    """Cut a text in two at the white space nearest to its middle, or in its middle if it has none."""
    middle = len(text) // 2
    before, after = text.rfind(" ", 0, middle), text.find(" ", middle)
    cut = min((at for at in (before, after) if at > 0), key=lambda at: abs(at - middle), default=middle)
    return [half for half in (text[:cut].strip(), text[cut:].strip()) if half]


def _mean(vectors: Sequence[Sequence[float]]) -> list[float]:
    """Return the unit-length mean of unit-length vectors."""
    if len(vectors) == 1:
        return list(vectors[0])
    sums = [fsum(column) for column in zip(*vectors, strict=True)]
    length = sqrt(fsum(value * value for value in sums)) or 1.0
    return [value / length for value in sums]


def _merged(answers: Sequence[Retrieved], *, size: int) -> Retrieved:
    """Return the results of several sources, whose documents differ, as one: the passages get new
    ranks by their fused scores, each of which is of the ranks in its source."""
    ranked = sorted(
        chain.from_iterable(answer.passages for answer in answers),
        key=lambda passage: (-passage.fused_score, passage.passage.passage_id),
    )
    return Retrieved(
        passages=tuple(replace(passage, rank=rank) for rank, passage in enumerate(ranked[:size], start=1)),
        best_cosine=max(answer.best_cosine for answer in answers),
        index_version=answers[0].index_version,
        hits=tuple(sorted(chain.from_iterable(answer.hits for answer in answers))),
        documents=tuple(sorted(chain.from_iterable(answer.documents for answer in answers))),
    )
