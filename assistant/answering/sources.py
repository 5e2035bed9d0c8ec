"""Asks the sources of a tenant that has several, at once: each under its own limit and circuit."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import structlog

from assistant.answering.services import TenantServices, call_within
from assistant.domain.answers import SourceAsked
from assistant.domain.clock import Deadline
from assistant.domain.documents import PassageQuery, Retrieved, SourceIds
from assistant.domain.errors import SearchUnavailableError
from assistant.domain.retries import Circuit
from assistant.settings.tenant import SourceEntry, TenantConfig

FAILURES_TO_OPEN = 3
"""Failures in a row after which a source is left out unasked for a while."""
LEAST_LEG = 20
"""Passages of a leg that every source may give, however many sources there are."""
State = Literal["answered", "empty", "late", "failed"]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class AskedSources:
    """What the sources of documents answered."""

    retrieved: Retrieved
    """Of all that answered, as if by one search."""
    states: Mapping[str, State]
    """By name of the source."""


def document_sources(tenant: TenantConfig) -> tuple[SourceEntry, ...]:
    """Return the sources whose documents are in the index."""
    return tuple(source for source in tenant.sources if source.kind != "live")


class AskSources:
    """Searches a tenant's sources of documents. One instance serves all requests of a process."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services
        self.sources = document_sources(services.tenant)
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

    @property
    def are_many(self) -> bool:
        return len(self.sources) > 1

    def leg_size(self, leg_size: int) -> int:
        """Return how many passages of a leg one source may give: an equal share for each."""
        return max(min(LEAST_LEG, leg_size), leg_size // len(self.sources))

    def of_one(self, retrieved: Retrieved) -> AskedSources:
        """Return what one search of all documents found, as of the only source of documents."""
        state: State = "answered" if retrieved.documents else "empty"
        return AskedSources(retrieved, {source.name: state for source in self.sources})

    async def search(self, query: PassageQuery, *, deadline: Deadline) -> AskedSources:
        """Return what the sources have. One that is late, fails or is left out by its circuit gives nothing.

        Raises SearchUnavailableError when none answered, DeadlineExceededError.
        """
        results = await asyncio.gather(*(self._ask(source, query, deadline) for source in self.sources))
        states: dict[str, State] = {}
        found: list[Retrieved] = []
        for source, (state, retrieved) in zip(self.sources, results, strict=True):
            states[source.name] = state
            found += [] if retrieved is None else [retrieved]
        if not found:
            raise SearchUnavailableError("No source of the knowledge base answered; ask again.")
        return AskedSources(_merged(found, size=query.size), states)

    async def _ask(
        self, source: SourceEntry, query: PassageQuery, deadline: Deadline
    ) -> tuple[State, Retrieved | None]:
        circuit = self._circuits[source.name]
        if not circuit.allows():
            return "failed", None
        limit_s = min(source.search_limit_s, self._services.tenant.limits.search_timeout_s)
        late = SearchUnavailableError(f"The source {source.name} took over {limit_s:g} s.")
        own = replace(query, ids=self._ids[source.name], leg_size=self.leg_size(query.leg_size))
        try:
            retrieved = await call_within(
                limit_s,
                lambda step: self._services.search.search(own, deadline=step),
                deadline=deadline,
                late=lambda: late,
            )
        except SearchUnavailableError as error:
            circuit.failed()
            _log.warning("source_left_out", source=source.name, reason=error.message)
            return ("late" if error is late else "failed"), None
        circuit.succeeded()
        return ("answered" if retrieved.documents else "empty"), retrieved


def _merged(found: Sequence[Retrieved], *, size: int) -> Retrieved:
    """Return the results of several sources, whose documents differ, as one."""
    ranked = sorted(
        chain.from_iterable(one.passages for one in found),
        key=lambda one: (-one.fused_score, one.passage.passage_id),
    )
    return Retrieved(
        passages=tuple(replace(one, rank=rank) for rank, one in enumerate(ranked[:size], start=1)),
        best_cosine=max(one.best_cosine for one in found),
        index_version=found[0].index_version,
        hits=tuple(sorted(chain.from_iterable(one.hits for one in found))),
        documents=tuple(sorted(chain.from_iterable(one.documents for one in found))),
    )


_WORST_FIRST = ("failed", "late", "answered", "empty", "not_asked")


def sources_asked(
    sources: Sequence[SourceEntry], routed: Sequence[tuple[Mapping[str, float], Mapping[str, State]]]
) -> tuple[SourceAsked, ...]:
    """Return each source and its part in an answer, in the order of the tenant file; nothing where nothing
    was routed.

    ``routed``: shares and states of each question of the message. Of two questions the mean share counts, and
    a failure before an answer. A live source is asked later, by the elements that need it.
    """
    if not routed:
        return ()
    asked: list[SourceAsked] = []
    for source in sources:
        name, share = source.name, sum(shares[source.name] for shares, _ in routed) / len(routed)
        parts = [
            SourceAsked(
                name=name, kind=source.kind, weight=round(share, 4), state=states.get(name, "not_asked")
            )
            for _, states in routed
        ]
        asked.append(min(parts, key=lambda part: _WORST_FIRST.index(part.state)))
    return tuple(asked)
