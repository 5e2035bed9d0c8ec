"""Tells which sources of a tenant load for the first time, by the states of their documents.

A source loads for the first time from the first document that it receives while none of it answers until no
document of that load waits. ``AddDocuments`` decides it once for each load and marks what it receives
(``DocumentStatus.first_load``). So all waiting documents of a source have the same mark, and one row tells.
Uploaded files that are not read yet wait as well: each counts as one document.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from assistant.documents.sources import KnowledgeSource, KnowledgeSources
from assistant.domain.documents import (
    HELD_STATES,
    WAITING_STATES,
    DocumentState,
    DocumentStatus,
    Loading,
    SourceLoads,
)
from assistant.stores.documents_ports import DocumentStates


class FirstLoads:
    """Reads how far the sources of one tenant are. All methods raise DependencyError.

    ``unread`` is its ``Uploads.unread_first``; None where nobody can upload, or where the upload's own mark
    decides.

    Example::

        loads = await FirstLoads(states).look(sources)
        loads.loading  # (Loading(reason="first_load", source="handbook", live=29, expected=244),)
    """

    def __init__(
        self, states: DocumentStates, *, unread: Callable[[], Awaitable[Mapping[str, int]]] | None = None
    ) -> None:
        self._states = states
        self._unread = unread

    async def is_first(self, source: KnowledgeSource) -> bool:
        """Return whether documents that the source receives now belong to its first load."""
        if source.name in await self._unread_first():
            return True
        waiting = await self._any(source, WAITING_STATES)
        return waiting.first_load if waiting else await self._any(source, HELD_STATES) is None

    async def look(self, sources: KnowledgeSources) -> SourceLoads:
        """Return the sources that are loaded, and how far those are that load for the first time."""
        complete, loading = list[str](), list[Loading]()
        unread = await self._unread_first()
        for source in sources.all:
            waiting = await self._any(source, WAITING_STATES)
            if source.name in unread or (waiting is not None and waiting.first_load):
                loading.append(await self._count(source, unread.get(source.name, 0)))
            elif waiting is not None or await self._any(source, HELD_STATES) is not None:
                complete.append(source.name)
        return SourceLoads(frozenset(complete), tuple(loading))

    async def _unread_first(self) -> Mapping[str, int]:
        return {} if self._unread is None else await self._unread()

    async def _count(self, source: KnowledgeSource, unread: int) -> Loading:
        counts: Counter[DocumentState] = Counter()
        for ids in source.id_ranges:
            counts.update(await self._states.count_by_state(after=ids.after or None, until=ids.until))
        live = sum(counts[state] for state in HELD_STATES)
        waiting = sum(counts[state] for state in WAITING_STATES) + unread
        return Loading(reason="first_load", source=source.name, live=live, expected=live + waiting)

    async def _any(self, source: KnowledgeSource, states: tuple[DocumentState, ...]) -> DocumentStatus | None:
        for ids in source.id_ranges:
            after = ids.after or None
            if found := await self._states.list(states=states, after=after, until=ids.until, limit=1):
                return found[0]
        return None
