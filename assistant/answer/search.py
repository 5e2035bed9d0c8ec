"""Searches for each question of a message: what the sources of documents have, and what options offer."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from assistant.answer.adaptations import Adaptations
from assistant.answer.offers import Named, Offered
from assistant.answer.scores import CosineScale
from assistant.answer.services import TenantServices
from assistant.answer.sources import EvidenceQuery, SearchScope, SourceSearch, State
from assistant.domain.documents import Retrieved


@dataclass(frozen=True, slots=True)
class Hits:
    """What the search and the options have for one question."""

    query: EvidenceQuery
    searched: str
    """The question with the words that were added for the search."""
    retrieved: Retrieved
    """Passages and documents of all sources that answered; cosines on the scale of the weights
    (``CosineScale``)."""
    states: Mapping[str, State]
    """What came of each source of documents, by its name."""
    offered: tuple[Offered, ...] = ()
    """What options have for it: in place of a section, or beside it."""
    named: Named | None = None
    """Things that the question names, by the first option that recognises any; None: none."""


class SearchSources:
    """Searches the documents of one tenant.

    Example::

        [hits] = await search.run([EvidenceQuery("Are refills payable?", vector)], scope)
        hits.retrieved.documents[0].document_id  # "refill"
        hits.states  # {"documents": "answered"}
    """

    def __init__(self, services: TenantServices, adaptations: Adaptations, sources: SourceSearch) -> None:
        self._adaptations, self._sources = adaptations, sources
        self._cosines = CosineScale.of(services.tenant.embedding)

    async def run(self, queries: Sequence[EvidenceQuery], scope: SearchScope) -> Sequence[Hits]:
        """Search for all questions at once. Raises SearchUnavailableError, OverloadedError,
        DeadlineExceededError."""
        return await asyncio.gather(*(self._found(query, scope) for query in queries))

    async def _found(self, query: EvidenceQuery, scope: SearchScope) -> Hits:
        """Return what there is for one question: names and search, then what options offer. Nothing for a
        greeting or thanks."""
        if not query.asks:
            nothing = Retrieved(passages=(), best_cosine=0.0, index_version="")
            return Hits(query, query.text, nothing, states={})
        named = self._adaptations.named(query.text, known=query.known)
        searched = self._adaptations.now.vocabulary.expand(query.text, known=query.known)
        asked = await self._sources.run(searched, vector=query.vector, scope=scope)
        offered = await self._offered(query, scope)
        return Hits(query, searched, self._cosines.retrieved(asked.retrieved), asked.states, offered, named)

    async def _offered(self, query: EvidenceQuery, scope: SearchScope) -> tuple[Offered, ...]:
        """Return what options have for a question. They are asked in turn, up to the first that answers
        it."""
        meanings = self._adaptations.now.vocabulary.meanings(query.text, known=query.known)
        everything: list[Offered] = []
        for offer in self._adaptations.offers:
            offered = await offer.find(query, scope, meanings=meanings)
            if offered is not None:
                everything.append(offered)
                if offered.answers:
                    break
        return tuple(everything)
