"""Questions labelled with the sources that should answer, and what routing gains on them.

``RoutingTrial`` asks a question three times of one tenant: as it is served, each source searched for itself
and weighed; the same without the items that the question names; and with all documents as one merged source,
as a tenant without sources is served.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import log2
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import ConfigDict, Field, ValidationError

from assistant.answering.adaptations import Adaptations
from assistant.answering.evidence import Evidence, EvidenceQuery, FindEvidence
from assistant.answering.excerpts import Excerpts
from assistant.answering.routing import keyword_scores
from assistant.answering.search import SearchScope
from assistant.answering.services import TenantServices
from assistant.answering.tables import parts, source_ids
from assistant.answering.vocabulary import KnownWordsReader
from assistant.domain.clock import Deadline
from assistant.domain.documents import KnownWords, id_prefix_of
from assistant.domain.errors import ConfigurationError
from assistant.domain.public import PublicModel
from assistant.settings.tenant import SourceEntry, TenantConfig

RoutedKind = Literal["fact", "opinion", "comparison", "recommendation", "order", "mixed", "none"]
RANKS = 10
_BEST_GRADE = 3
_DEADLINE_S, _SEARCH_LIMIT_S = 60.0, 10.0
_RESAMPLES = 1_000
_SEED = 20_261_121


class RoutedQuestion(PublicModel):
    """One line of ``evaluation/<tenant>/*.jsonl``. Other fields are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str = Field(min_length=1)
    question: str = Field(min_length=1)
    kind: RoutedKind
    sources: tuple[str, ...]
    """Names of the sources that can answer, the one that should come first at the beginning; empty: none."""
    items: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    """Strings that a right answer holds, all of them."""
    any_of: tuple[str, ...] = ()
    """Strings of which it holds at least one."""
    documents: tuple[str, ...] = ()
    """Documents that answer, the best first."""

    @property
    def group(self) -> str:
        """What it is about: questions of one group are resampled, and kept out of a fold, together."""
        return self.items[0] if self.items else self.id


def load_routed(path: Path) -> list[RoutedQuestion]:
    """Read a file of labelled questions. Raises ConfigurationError naming the line."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: cannot be read: {error}.") from None
    questions: list[RoutedQuestion] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            questions.append(RoutedQuestion.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(map(str, first["loc"])) or "line"
            raise ConfigurationError(f"{path}:{number}: {key}: {first['msg']}.") from None
    if len({one.id for one in questions}) < len(questions):
        raise ConfigurationError(f"{path}: an id occurs twice; give each question its own.")
    return questions


@dataclass(frozen=True, slots=True)
class RoutedResult:
    """What came of one question."""

    question: RoutedQuestion
    routed_first: bool | None
    """Whether the source with the largest share should come first; None where no source answers."""
    keywords_first: bool | None
    """The same of the words that are usual for the kinds."""
    document_first: bool | None
    """Whether the best document is of the source that should come first; None for live sources and none."""
    ndcg: float | None
    """At 10, of the documents as served; None where the question names none."""
    ndcg_alone: float | None
    """The same by routing alone: without the items that the question names, and without tables."""
    ndcg_merged: float | None
    """The same of one merged source, also without them."""
    holds: bool | None
    """Whether the quote is shown and holds all that it must; None where it must hold nothing."""
    holds_merged: bool | None
    answered: bool
    """Whether the gate let a quote through, with or without a warning."""


def ndcg(ranked: Sequence[str], wanted: Sequence[str]) -> float:
    """Return nDCG at 10; the first of the wanted has grade 3, the second 2, all others 1."""
    grades = {name: max(1, _BEST_GRADE - place) for place, name in enumerate(wanted)}
    gained = sum(grades.get(name, 0) / log2(rank + 2) for rank, name in enumerate(ranked[:RANKS]))
    best = sorted(grades.values(), reverse=True)[:RANKS]
    return gained / sum(grade / log2(rank + 2) for rank, grade in enumerate(best))


class RoutingTrial:
    """Asks labelled questions of one tenant as it is served, and of one merged source."""

    def __init__(self, services: TenantServices, adaptations: Adaptations) -> None:
        """``adaptations``: with the router that is to be measured, if any."""
        self._services = services = replace(services, tenant=_patient(services.tenant))
        self._sources = services.tenant.sources
        self._routed = FindEvidence(services, adaptations)
        merged = SourceEntry(name="all", namespace="")
        tenant = services.tenant.model_copy(update={"sources": (merged,)})
        self._merged = FindEvidence(replace(services, tenant=tenant))
        items_of = source_ids(services.tenant, kind="catalogue")
        self._known_words = KnownWordsReader(services.search, clock=services.clock, items_of=items_of)

    async def ask(self, one: RoutedQuestion) -> RoutedResult:
        """Raises what the search and the embedding endpoint raise."""
        known = await self._known_words.read()
        routed = await self._find(self._routed, one, known)
        alone = await self._find(self._routed, one, known, by_items=False)
        merged = await self._find(self._merged, one, known, by_items=False)
        no_shares: Mapping[str, float] = {}
        shares = routed.routing.shares if routed.routing is not None else no_shares
        words = keyword_scores(one.question, self._sources)
        prefixes = {source.name: source.id_prefix for source in self._sources if source.kind != "live"}
        right = one.sources[0] if one.sources else None
        best = id_prefix_of(routed.ranked[0].document_id) if routed.ranked else None
        return RoutedResult(
            question=one,
            routed_first=None if right is None else _first(shares) == right,
            keywords_first=None if right is None else _first(words) == right,
            document_first=None if right not in prefixes else best == prefixes[right],
            ndcg=_ndcg_of(routed, one),
            ndcg_alone=_ndcg_of(alone, one),
            ndcg_merged=_ndcg_of(merged, one),
            holds=_holds(routed, one),
            holds_merged=_holds(merged, one),
            answered=routed.certainty is not None,
        )

    async def _find(
        self, find: FindEvidence, one: RoutedQuestion, known: KnownWords | None, *, by_items: bool = True
    ) -> Evidence:
        scope = SearchScope.untraced(Deadline.after(_DEADLINE_S, clock=self._services.clock))
        routed = find.without_items(one.question, known=known)
        vectors = await find.search.embed([one.question, routed], scope)
        query = EvidenceQuery(
            one.question,
            vectors[0],
            known=known,
            by_items=by_items,
            routed_text=routed,
            routed_vector=vectors[1],
        )
        return await find.run(query, scope)


def _patient(tenant: TenantConfig) -> TenantConfig:
    """Return the tenant with time for each search: what is measured is what is found, and not how soon."""
    sources = tuple(one.model_copy(update={"deadline_s": _SEARCH_LIMIT_S}) for one in tenant.sources)
    limits = tenant.limits.model_copy(update={"search_timeout_s": _SEARCH_LIMIT_S})
    return tenant.model_copy(update={"sources": sources, "limits": limits})


def _first(scores: Mapping[str, float]) -> str | None:
    return max(scores, key=lambda name: scores[name], default=None)


def _ndcg_of(found: Evidence, one: RoutedQuestion) -> float | None:
    if not one.documents:
        return None
    shown = found.table.documents if found.table is not None else ()
    served = dict.fromkeys((*shown, *(each.document_id for each in found.ranked)))
    return ndcg(list(served), one.documents)


def _holds(found: Evidence, one: RoutedQuestion) -> bool | None:
    if not one.must and not one.any_of:
        return None
    if found.certainty is None:
        return False
    if found.table is not None:
        said = "".join(part.before + part.text for part in parts(found.table, Excerpts()))
    elif found.section is not None:
        said = "\n".join(unit.unit.text for unit in found.section.units)
    else:
        return False
    said = " ".join(said.split())
    return all(" ".join(text.split()) in said for text in one.must) and (
        not one.any_of or any(" ".join(text.split()) in said for text in one.any_of)
    )


# Figures


@dataclass(frozen=True, slots=True)
class Figure:
    """A mean with its 95 % interval, bootstrapped by group."""

    name: str
    value: float
    low: float
    high: float
    questions: int


def figures(results: Sequence[RoutedResult]) -> list[Figure]:
    """Return the figures of the report, paired differences among them, of questions that each applies to."""

    def gain(first: float | None, second: float | None) -> float | None:
        return None if first is None or second is None else first - second

    measures: Sequence[tuple[str, Callable[[RoutedResult], float | None]]] = (
        ("right source first", lambda one: one.routed_first),
        ("right source first, by keywords", lambda one: one.keywords_first),
        ("gain over keywords", lambda one: gain(one.routed_first, one.keywords_first)),
        ("best document is of the right source", lambda one: one.document_first),
        ("nDCG@10", lambda one: one.ndcg),
        ("nDCG@10 by routing alone", lambda one: one.ndcg_alone),
        ("nDCG@10 of one merged index", lambda one: one.ndcg_merged),
        ("gain over one merged index", lambda one: gain(one.ndcg, one.ndcg_merged)),
        ("gain of routing alone over it", lambda one: gain(one.ndcg_alone, one.ndcg_merged)),
        ("quote holds what it must", lambda one: one.holds),
        ("quote of one merged index holds it", lambda one: one.holds_merged),
        ("nothing answers it, and it is refused", _refused),
    )
    found = [_figure(name, results, value) for name, value in measures]
    return [one for one in found if one is not None]


def _refused(one: RoutedResult) -> float | None:
    return float(not one.answered) if one.question.kind == "none" else None


def _figure(
    name: str, results: Sequence[RoutedResult], value: Callable[[RoutedResult], float | None]
) -> Figure | None:
    groups: dict[str, list[float]] = {}
    for one in results:
        if (known := value(one)) is not None:
            groups.setdefault(one.question.group, []).append(float(known))
    if not groups:
        return None
    sums = np.array([sum(values) for values in groups.values()])
    counts = np.array([len(values) for values in groups.values()])
    draws = np.random.default_rng(_SEED).integers(0, len(sums), (_RESAMPLES, len(sums)))
    low, high = np.quantile(sums[draws].sum(axis=1) / counts[draws].sum(axis=1), (0.025, 0.975))
    return Figure(name, float(sums.sum() / counts.sum()), float(low), float(high), int(counts.sum()))
