"""Lists the documents of some of a tenant's sources, as if there were no others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.knowledge.knowledge_sources import KnowledgeSource, KnowledgeSources
from assistant.knowledge.ports import DocumentStates


class ListDocuments:
    """The use case behind ``GET /v1/documents`` and ``assistant knowledge list``."""

    def __init__(self, states: DocumentStates, *, sources: KnowledgeSources) -> None:
        self._states = states
        self._sources = sources

    async def page(
        self,
        of: Sequence[KnowledgeSource],
        *,
        states: Sequence[DocumentState] = (),
        after: str | None = None,
        limit: int,
    ) -> list[DocumentStatus]:
        """Return the next documents in order of their ids, each with the name of its source."""
        found: list[DocumentStatus] = []
        for ids in self._sources.ranges_of(of):
            if after is not None and ids.until is not None and after >= ids.until:
                continue
            found += await self._states.list(
                states=states,
                after=max(after or "", ids.after) or None,
                until=ids.until,
                limit=limit - len(found),
            )
            if len(found) >= limit:
                break
        return [self._sources.shown(status) for status in found]

    async def counts(self, of: Sequence[KnowledgeSource]) -> Mapping[DocumentState, int]:
        counts: Counter[DocumentState] = Counter()
        for ids in self._sources.ranges_of(of):
            counts.update(await self._states.count_by_state(after=ids.after or None, until=ids.until))
        return counts
