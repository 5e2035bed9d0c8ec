"""Searches for one question: embeds its texts, asks every source, reads the likeliest documents.

A tenant's sources are asked at once, each under its own limit and circuit breaker. A source that is late or
fails is left out, and the answer says so (``SearchScope.degraded``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import chain
from math import fsum, log2, sqrt
from typing import Any, Literal

import structlog
from opentelemetry.trace import INVALID_SPAN, SpanKind

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
"""How often the longest of some texts is cut in two, in one attempt after another as long as a text is over
the model's token limit: not at all, into 2, 8, 64 pieces."""
FAILURES_TO_OPEN = 3
"""Failures in a row after which a source is left out without a call for a while (``Circuit``)."""
LEAST_LEG = 20
"""Least passages that a source may give for one leg of the search, however many sources there are."""
NO_FILTERS = SearchFilters()
State = Literal["answered", "empty", "late", "failed"]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class SearchScope:
    """Whose search it is, what it may find, how long it may take, and where its steps are timed."""

    labels: frozenset[str]
    """The agent's access labels."""
    deadline: Deadline
    steps: Steps
    filters: SearchFilters = NO_FILTERS
    size: int | None = None
    """Passages to return; by default as many as the tenant's answers show."""
    embedded: dict[str, Sequence[float]] = field(default_factory=dict[str, Sequence[float]])
    """Unit-length vectors of the texts that were embedded so far, by text."""
    degraded: list[str] = field(default_factory=list[str])
    """Names of the steps that were left out because they failed or were late."""
    tasks: list[asyncio.Task[Any]] = field(default_factory=list[asyncio.Task[Any]])
    """Of ``beside``; ``AnswerQuestion.prepare`` cancels them at its end."""

    def beside(self, work: Coroutine[Any, Any, Result]) -> asyncio.Task[Result]:
        """Begin work that goes on beside the steps, and return its task, which a later step awaits."""
        task = asyncio.create_task(work)
        # its exception is taken, so that a task which no step awaits is not logged as forgotten
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        self.tasks.append(task)
        return task

    @classmethod
    def untraced(cls, deadline: Deadline, *, size: int | None = None) -> SearchScope:
        """Return a scope outside any answer: documents without labels, no spans."""
        return cls(frozenset(), deadline, Steps(INVALID_SPAN, clock=deadline.clock), size=size)


@dataclass(frozen=True, slots=True)
class EvidenceQuery:
    """One question to find evidence for."""

    question: str
    """In the asker's words."""
    vector: Sequence[float]
    """Unit length, of ``text``."""
    before: str | None = None
    """Earlier words that the question makes no sense without; None: it makes sense alone."""
    routed_text: str = ""
    """The question as the router of sources reads it; empty: ``text``."""
    routed_vector: Sequence[float] = ()
    """Unit length, of ``routed_text``; empty: ``vector``."""
    known: KnownWords | None = None
    """Words of the index; None where they could not be read."""
    with_offers: bool = True
    """Whether options are asked what they offer; False to measure routing alone."""
    at: datetime | None = None
    """When the question was written."""
    max_words: int = 160
    """Longest run of units that chooses the section (``choose``)."""
    also_words: int = 80
    """The same for a second section."""

    @property
    def text(self) -> str:
        """The question as it is embedded and searched."""
        return with_earlier(self.question, self.before)


def with_earlier(question: str, earlier: str | None) -> str:
    """Return a question below the earlier words that it makes no sense without, as it is embedded and
    searched."""
    return question if earlier is None else f"{earlier}\n{question}"


@dataclass(frozen=True, slots=True)
class AskedSources:
    """What the sources of documents answered."""

    retrieved: Retrieved
    """Of all that answered, as if by one search."""
    states: Mapping[str, State]
    """By name of the source."""


def source_ids(tenant: TenantConfig, *, kind: SourceKind) -> tuple[SourceIds, ...]:
    """Return which document ids the tenant's sources of one kind have: those with a source's prefix; for a
    source without one, those with no prefix of another source."""
    prefixes = tuple(source.id_prefix for source in tenant.sources if source.id_prefix)
    of_kind = [source.id_prefix for source in tenant.sources if source.kind == kind]
    return tuple(SourceIds(prefix, () if prefix else prefixes) for prefix in of_kind)


class SourceSearch:
    """Searches one tenant's documents. One instance serves all requests of a process.

    Example::

        [vector] = await sources.embed(["Are refills payable?"], scope)
        asked = await sources.run("Are refills payable?", vector=vector, scope=scope)
        documents = await sources.read([asked.retrieved.documents[0].document_id], scope)
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self.sources = tuple(source for source in services.tenant.sources if source.kind != "live")
        """The sources whose documents are in the index."""
        prefixes = [source.id_prefix for source in self.sources]
        self._ids = {
            source.name: SourceIds(
                source.id_prefix, tuple(prefix for prefix in prefixes if prefix not in ("", source.id_prefix))
            )
            for source in self.sources
        }
        self._circuits = {
            source.name: Circuit(clock=services.clock, failures=FAILURES_TO_OPEN) for source in self.sources
        }

    async def run(self, text: str, *, vector: Sequence[float], scope: SearchScope) -> AskedSources:
        """Return what the index has for a text and its vector: by one search, or by one for each source where
        the tenant has several of documents.

        Raises SearchUnavailableError when none answered, DeadlineExceededError.
        """
        settings = self._services.tenant.retrieval
        size = scope.size or settings.passages
        query = PassageQuery(
            text=text,
            vector=vector,
            filters=scope.filters,
            labels=scope.labels,
            leg_size=max(settings.leg_size, size),
            size=size,
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
        """Ask the sources. A single one has no circuit and is never left out: its error is raised."""
        if len(self.sources) <= 1:
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
        """Return what came of one source, and its result; None where it failed, was late, or was not
        asked."""
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
            return ("late" if error is late else "failed"), None
        circuit.succeeded()
        return ("answered" if retrieved.documents else "empty"), retrieved

    def _leg_size(self, leg_size: int) -> int:
        """Return how many passages of a leg one source may give: an equal share for each."""
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
        pieces and gets the mean of their vectors: nothing is cut.

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
        """Return the vectors; where a text is too long, try again with more ``halvings`` of it."""
        longest = max([1, *map(len, texts)])
        # A text of half the length is cut once less: pieces of all texts are about as long.
        cut = [_pieces(text, times=halvings[0] - int(log2(longest / (len(text) or 1)))) for text in texts]
        try:
            pieces = [piece for text_pieces in cut for piece in text_pieces]
            vectors = iter(await self._services.embedder.embed(pieces, deadline=deadline))
        except PassageTooLongError:
            if len(halvings) == 1:
                raise
            return await self._vectors(texts, deadline=deadline, halvings=halvings[1:])
        return [_mean([next(vectors) for _ in text_pieces]) for text_pieces in cut]


def _pieces(text: str, *, times: int) -> list[str]:
    """Return a text cut in two, its halves cut in two, and so on, ``times`` times; a negative number cuts
    nothing."""
    pieces = [text]
    for _ in range(times):
        pieces = [half for piece in pieces for half in _halves(piece)]
    return pieces


def _halves(text: str) -> list[str]:
    """Return a text cut in two at the blank nearest to its middle, or in its middle if it has none."""
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
    """Return the results of several sources, which have no document in common, as one, with the ``size`` best
    passages."""
    ranked = sorted(
        chain.from_iterable(answer.passages for answer in answers),
        key=lambda hit: (-hit.fused_score, hit.passage.passage_id),
    )
    return Retrieved(
        passages=tuple(replace(hit, rank=rank) for rank, hit in enumerate(ranked[:size], start=1)),
        best_cosine=max(answer.best_cosine for answer in answers),
        index_version=answers[0].index_version,
        hits=tuple(sorted(chain.from_iterable(answer.hits for answer in answers))),
        documents=tuple(sorted(chain.from_iterable(answer.documents for answer in answers))),
    )
