"""Checks that the index has the live documents: a search cannot tell "nothing is known" from "it is lost"."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog

from assistant.domain.clock import Clock, Deadline
from assistant.domain.documents import (
    HELD_STATES,
    DocumentState,
    DocumentStatus,
    Loading,
    PassageQuery,
    SearchFilters,
    SourceLoads,
)
from assistant.domain.errors import AssistantError, SearchUnavailableError
from assistant.stores.ports import LiveDocuments, LoadsOfSources, PassageSearch

_log = structlog.get_logger(__name__)
_CHECK_EVERY_S = 30.0
"""Pause between two checks in the background."""
_CHECK_LIMIT_S = 20.0
"""For one check, with its attempts."""
_REQUEST_LIMIT_S = 4.0
"""How long a request waits for a check."""
_TRUSTED_S = 60.0
"""While the document states cannot be read, the index is trusted for this long after the last good check."""
_PENDING = (DocumentState.PARSED, DocumentState.EMBEDDED)
"""States of a document whose new content is not in the index yet; its earlier content may be."""
_MOST_PENDING = 1000
"""Pending documents that are listed: a worker processes at most three batches of 64 at once."""
_SAMPLE_SIZE = 3
"""Live documents that one check looks up; each check takes the next ones."""
_LONG_WORD = 6
"""Letters of a word that every analyzer indexes."""
_ATTEMPTS = 4
_PAUSE_S = 0.4
"""Between attempts. The counts are not read at one instant, and DynamoDB's secondary index lags: only what is
missing in every attempt is damage."""
_REPAIR = "Documents may be missing from it. Restart the worker: it writes the missing ones again."


@dataclass(frozen=True, slots=True)
class IndexState:
    """The result of one check.

    | the check                                | problem | lost              | is_foreign                  |
    | the index has the live documents         | None    | None              | False                       |
    | it has fewer documents than are live     | words   | counted           | False                       |
    | it does not find some of the sample      | words   | counted           | True where it finds none    |
    | search did not answer                    | words   | as the last check | as the last check           |
    | the states were not read, or it was late | no new result: the last one stays                         |
    """

    problem: str | None = None
    """Why documents may be missing from what a search finds, in words; None when the index is complete."""
    is_foreign: bool = False
    """The index has documents, but none of those that were looked up: it is another tenant's, show
    nothing."""
    lost: Loading | None = None
    """How many documents the index has and should have; None where it lost none."""
    loads: SourceLoads = field(default_factory=SourceLoads)
    """How far the sources are loaded. Before the first check no source is complete."""

    @property
    def loading(self) -> tuple[Loading, ...]:
        """What an answer tells the agent that the knowledge base lacks."""
        return (*self.loads.loading, *([self.lost] if self.lost is not None else []))

    def is_whole(self, sources: Set[str]) -> bool:
        """Return whether the index has all documents of these sources, so that an answer may be certain."""
        return self.lost is None and sources <= self.loads.complete


class IndexWatch:
    """Compares one tenant's index with the states of its documents.

    A search cannot tell "nothing is known about this" from "the index has lost it". So an answer says that
    the knowledge base has nothing only after this check; ``run`` repeats it in the background.

    Each answer calls ``require_own`` before its search, ``state_for`` after it, and ``require_complete``
    where it would say that nothing is known.
    """

    def __init__(
        self,
        search: PassageSearch,
        live: LiveDocuments,
        *,
        loads: LoadsOfSources,
        dimensions: int,
        clock: Clock,
    ) -> None:
        self._search = search
        self._live = live
        self._loads = loads
        self._dimensions = dimensions
        self._clock = clock
        self._running: asyncio.Task[None] | None = None
        """The check in progress, or the last one."""
        self._next: asyncio.Task[None] | None = None
        """The one that begins when ``_running`` has ended, and then takes its place."""
        self._complete_s = float("-inf")
        """When the last check found the index complete: an instant of the monotonic clock."""
        self._after: str | None = None
        """Id after which the next sample begins; None: at the first document."""
        self.state = IndexState()
        """The result of the last check."""

    def require_own(self) -> None:
        """Raise SearchUnavailableError when the last check found another tenant's index."""
        if self.state.is_foreign:
            raise SearchUnavailableError(str(self.state.problem))

    async def state_for(self, sources: Set[str], *, deadline: Deadline) -> IndexState:
        """Return the state for an answer from these sources. Where the last check found them not loaded,
        check now, for documents may have arrived since; where it found documents lost, the next check in the
        background is early enough. Raises DeadlineExceededError."""
        if self.state.problem is None and not self.state.is_whole(sources):
            with suppress(TimeoutError):
                async with asyncio.timeout(deadline.within_s(_REQUEST_LIMIT_S)):
                    await self.check()
        return self.state

    async def require_complete(self, *, deadline: Deadline | None = None) -> None:
        """Check now; return when the index has as many documents as are live and finds the sampled ones.

        Raises SearchUnavailableError, DeadlineExceededError. An empty index is complete when no document is
        live.
        """
        limit_s = _REQUEST_LIMIT_S if deadline is None else deadline.within_s(_REQUEST_LIMIT_S)
        try:
            async with asyncio.timeout(limit_s):
                await self.check()
        except TimeoutError:
            pass  # use the result of the last check
        if self.state.problem is not None:
            raise SearchUnavailableError(self.state.problem)
        if self._clock.monotonic_s() - self._complete_s > _TRUSTED_S:
            raise SearchUnavailableError(
                "Cannot compare the passage index with the document states. Retry shortly."
            )

    async def run(self) -> None:
        """Check every 30 s until cancelled."""
        while True:
            await self.check()
            await asyncio.sleep(_CHECK_EVERY_S)

    async def check(self) -> IndexState:
        """Return the result of a check that begins after this call.

        Checks run one at a time: calls during one share the next."""
        if self._next is None:
            self._next = asyncio.create_task(self._check_after(self._running))
        await asyncio.shield(self._next)
        return self.state

    async def _check_after(self, running: asyncio.Task[None] | None) -> None:
        """Check once ``running`` has ended. This task is ``_next`` until then, and ``_running`` from then
        on."""
        if running is not None and not running.done():
            await asyncio.wait([running])
        self._running, self._next = self._next, None
        await self._check()

    async def _check(self) -> None:
        """Set ``state`` by a count and a sample, and log where it changed, once."""
        try:
            async with asyncio.timeout(_CHECK_LIMIT_S):
                lost = await self._lost()
                state = IndexState(_lost_words(lost), lost=lost) if lost else await self._check_sample()
                state = replace(state, loads=await self._loads())
        except SearchUnavailableError as error:
            state = replace(self.state, problem=error.message)
        except (AssistantError, TimeoutError) as error:
            _log.warning("index_not_checked", error=type(error).__name__)
            return
        before, self.state = self.state, state
        if state.problem is None:
            self._complete_s = self._clock.monotonic_s()
        if (state.problem, state.is_foreign) == (before.problem, before.is_foreign):
            return
        if state.problem is None:
            _log.info("index_complete")
        else:
            _log.error("index_damaged", problem=state.problem, is_foreign=state.is_foreign)

    async def _lost(self) -> Loading | None:
        """Return how many documents the index has and should have; None where one of the attempts found as
        many as are live."""
        lost = None
        for attempt in range(_ATTEMPTS):
            if attempt:
                await asyncio.sleep(_PAUSE_S)
            before = await self._expected_count()
            indexed = (await self._search.info()).document_count
            if indexed >= before:
                return None
            after = await self._expected_count()  # documents may have been withdrawn meanwhile
            if indexed >= after:
                return None
            lost = Loading(reason="lost", source="", live=indexed, expected=min(before, after))
        return lost

    async def _expected_count(self) -> int:
        """Return how many documents the index should have, by their states."""
        counts = await self._live.count_by_state()
        expected = sum(counts.get(state, 0) for state in HELD_STATES)
        if any(counts.get(state, 0) for state in _PENDING):
            # The index holds a document's live content until its new content replaces it.
            pending = await self._live.list(states=_PENDING, limit=_MOST_PENDING)
            expected += sum(status.live_content_hash is not None for status in pending)
        return expected

    async def _check_sample(self) -> IndexState:
        """Return the state by a sample: search for some live documents by their titles, and read them."""
        sample = await self._next_sample()
        lost = [status for status in sample if not await self._is_found(status)]
        for _ in range(_ATTEMPTS - 1):
            if not lost:
                break
            await asyncio.sleep(_PAUSE_S)
            now = await self._live.get_many([status.document_id for status in lost])
            # a document that was withdrawn or received again meanwhile is not live any more
            lost = [
                status
                for status in lost
                if now.get(status.document_id) == status and not await self._is_found(status)
            ]
        if not lost:
            return IndexState()
        name, expected = lost[0].document_id, await self._expected_count()
        live = max(0, expected - len(lost))
        return IndexState(
            f"The passage index does not find the live document {name} by its title. {_REPAIR}",
            is_foreign=len(lost) == len(sample),
            lost=Loading(reason="lost", source="", live=live, expected=expected),
        )

    async def _next_sample(self) -> Sequence[DocumentStatus]:
        statuses = await self._live.list(states=(DocumentState.LIVE,), after=self._after, limit=_SAMPLE_SIZE)
        self._after = statuses[-1].document_id if len(statuses) == _SAMPLE_SIZE else None
        # rows of older releases have no labels of the live content
        return [status for status in statuses if status.live_labels is not None]

    async def _is_found(self, status: DocumentStatus) -> bool:
        """Return whether the index finds a document by its title and has all of its passages. A title with a
        long word must be found by that word: the vector, which is arbitrary, finds any document."""
        labels = frozenset(status.live_labels or ())
        deadline = Deadline.after(_CHECK_LIMIT_S, clock=self._clock)
        query = PassageQuery(
            text=status.title,
            vector=[1.0] + [0.0] * (self._dimensions - 1),  # any unit vector: the title's words decide
            filters=SearchFilters(document_id=(status.document_id,)),
            labels=labels,
        )
        documents = (await self._search.search(query, deadline=deadline)).documents
        has_long_word = any(len(word) >= _LONG_WORD for word in status.title.split() if word.isalpha())
        if not documents or (has_long_word and all(hit.title_score is None for hit in documents)):
            return False
        read = await self._search.read_documents([status.document_id], labels=labels, deadline=deadline)
        stored = read.get(status.document_id)
        return stored is not None and len(stored.passages) >= status.passage_count


def _lost_words(lost: Loading) -> str:
    return f"The passage index holds {lost.live} of {lost.expected} live documents. {_REPAIR}"
