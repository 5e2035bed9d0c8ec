"""Questions labelled with the sources that should answer, and what routing gains on them.

``RoutingTrial`` asks a question three times of one tenant: as it is served, each source searched for itself
and weighed; the same without the items that the question names; and with all documents as one merged source,
as a tenant without sources is served.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import log2
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, Field

from assistant.answer.answer import AnswerQuestion
from assistant.answer.choose import Evidence
from assistant.answer.excerpts import Excerpts
from assistant.answer.offers import QuotedBlock
from assistant.answer.quote import section_blocks
from assistant.answer.rank import SourceList
from assistant.answer.route import keyword_scores
from assistant.answer.services import TenantServices
from assistant.answer.sources import EvidenceQuery, SearchScope, source_ids
from assistant.answer.vocabulary import KnownWordsReader
from assistant.domain.clock import Deadline
from assistant.domain.documents import KnownWords
from assistant.domain.public import PublicModel
from assistant.evaluation.judging import quotable, quote_faults, until_whole
from assistant.evaluation.measures import Judged
from assistant.evaluation.questions import load_rows
from assistant.tenant.tenant import SourceEntry, TenantConfig

RoutedKind = Literal["fact", "opinion", "comparison", "recommendation", "order", "mixed", "none"]
RANKS = 10
_BEST_GRADE = 3
_DEADLINE_S, _SEARCH_LIMIT_S = 60.0, 10.0
RIGHT_FIRST, HOLDS = "right source first", "quote holds what it must"


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
    return load_rows(path, RoutedQuestion)


def ndcg(ranked: Sequence[str], wanted: Sequence[str]) -> float:
    """Return nDCG at 10; the first of the wanted has grade 3, the second 2, all others 1."""
    grades = {name: max(1, _BEST_GRADE - place) for place, name in enumerate(wanted)}
    gained = sum(grades.get(name, 0) / log2(rank + 2) for rank, name in enumerate(ranked[:RANKS]))
    best = sorted(grades.values(), reverse=True)[:RANKS]
    return gained / sum(grade / log2(rank + 2) for rank, grade in enumerate(best))


class RoutingTrial:
    """Asks labelled questions of one tenant as it is served, and of one merged source."""

    def __init__(self, services: TenantServices) -> None:
        self._services = services = replace(services, tenant=_patient(services.tenant))
        self._sources = services.tenant.sources
        self._routed = AnswerQuestion(services)
        merged = SourceEntry(name="all", namespace="", access="everyone")
        tenant = services.tenant.model_copy(update={"sources": (merged,)})
        self._merged = AnswerQuestion(replace(services, tenant=tenant, revisions=None))
        items_of = source_ids(services.tenant, kind="catalogue")
        self._known_words = KnownWordsReader(services.search, clock=services.clock, items_of=items_of)

    async def load(self) -> None:
        """Load the router that is to be measured, if one is released."""
        await self._routed.adaptations.refresh()

    async def ask(self, one: RoutedQuestion) -> Judged:
        """Raises what the search and the embedding endpoint raise."""
        known = await self._known_words.read()
        routed, late = await self._find(self._routed, one, known)
        alone, alone_late = await self._find(self._routed, one, known, with_offers=False)
        merged, merged_late = await self._find(self._merged, one, known, with_offers=False)
        values: dict[str, float] = {}
        if one.sources:
            values |= self._first(one, routed)
        if one.documents:
            served, by_routing, by_one = (
                ndcg(_served(each), one.documents) for each in (routed, alone, merged)
            )
            values |= {
                "nDCG@10": served,
                "nDCG@10 by routing alone": by_routing,
                "nDCG@10 of one merged index": by_one,
                "gain of routing alone over it": by_routing - by_one,
            }
        if one.must or one.any_of:
            values[HOLDS] = float(_holds(routed, one))
        if routed.is_found:
            values |= quote_faults(_quoted(routed), quotable(routed))
        if one.kind == "none":
            values["nothing answers it, and it is refused"] = float(not routed.is_found)
        is_miss = values.get(RIGHT_FIRST) == 0 or values.get(HOLDS) == 0
        miss = f"{', '.join(one.sources)}: {values} | {one.question}" if is_miss else ""
        return Judged(one.id, one.group, values, miss, (*late, *alone_late, *merged_late))

    def _first(self, one: RoutedQuestion, routed: Evidence) -> dict[str, float]:
        """Return whether what should come first does: the source with the largest share, and the source that
        the words of the kinds choose."""
        right = one.sources[0]
        shares = routed.ranked.routing.shares if routed.ranked.routing is not None else dict[str, float]()
        by_shares = _highest(shares) == right
        by_words = _highest(keyword_scores(one.question, self._sources)) == right
        return {
            RIGHT_FIRST: float(by_shares),
            "right source first, by keywords": float(by_words),
            "gain over keywords": float(by_shares) - float(by_words),
        }

    async def _find(
        self,
        answer: AnswerQuestion,
        one: RoutedQuestion,
        known: KnownWords | None,
        *,
        with_offers: bool = True,
    ) -> tuple[Evidence, tuple[str, ...]]:
        routed = answer.adaptations.without_names(one.question, known=known)

        async def once() -> tuple[Evidence, Sequence[str]]:
            scope = SearchScope.untraced(Deadline.after(_DEADLINE_S, clock=self._services.clock))
            vectors = await answer.sources.embed([one.question, routed], scope)
            query = EvidenceQuery(
                one.question,
                vectors[0],
                known=known,
                with_offers=with_offers,
                routed_text=routed,
                routed_vector=vectors[1],
            )
            [ranked] = await answer.rank.run(await answer.search.run([query], scope), scope)
            return await answer.quote.choose.run(ranked, scope), scope.degraded

        return await until_whole(once)


def _patient(tenant: TenantConfig) -> TenantConfig:
    """Return the tenant with time for each search: what is measured is what is found, and not how soon."""
    sources = tuple(source.model_copy(update={"deadline_s": _SEARCH_LIMIT_S}) for source in tenant.sources)
    limits = tenant.limits.model_copy(update={"search_timeout_s": _SEARCH_LIMIT_S})
    return tenant.model_copy(update={"sources": sources, "limits": limits})


def _highest(scores: Mapping[str, float]) -> str | None:
    return max(scores, key=lambda name: scores[name], default=None)


def _served(found: Evidence) -> list[str]:
    """Return the documents in the order in which they are served: those of an answer by itself come first."""
    shown = found.answer.documents if found.answer is not None else ()
    return list(dict.fromkeys((*shown, *(candidate.document_id for candidate in found.ranked.order))))


def _holds(found: Evidence, one: RoutedQuestion) -> bool:
    """Return whether the quote is shown and holds all that it must."""
    if not found.is_found:
        return False
    quote = " ".join("".join(block.before + block.text for block in _quoted(found)).split())
    return all(" ".join(text.split()) in quote for text in one.must) and (
        not one.any_of or any(" ".join(text.split()) in quote for text in one.any_of)
    )


def _quoted(found: Evidence) -> list[QuotedBlock]:
    """Return what is quoted of the evidence."""
    cite, excerpts = SourceList().citing(found.ranked), Excerpts()
    if found.answer is not None:
        return found.answer.blocks(cite, excerpts, opening="")
    return [] if found.section is None else section_blocks(found.section, cite, excerpts)
