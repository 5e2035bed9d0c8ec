"""Whether the passage index holds what the states of documents say is live.

A search cannot tell "nothing is known of this" from "the index has lost it". So an answer says that the
knowledge base has nothing only after the index was held against the states, and a task looks on in the
background.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from assistant.answering.ports import LiveDocuments, PassageSearch
from assistant.domain.clock import Clock, Deadline
from assistant.domain.documents import HELD_STATES, DocumentState, DocumentStatus
from assistant.domain.errors import AssistantError, SearchUnavailableError
from assistant.domain.retrieval import PassageQuery, SearchFilters

_UNDER_WAY = (DocumentState.PARSED, DocumentState.EMBEDDED)
_MOST_UNDER_WAY = 1000
"""A worker has three batches of 64 under way."""
_EVERY_S = 10.0
_LOOK_LIMIT_S = 20.0
_ASKED_LIMIT_S = 4.0
_TRUSTED_S = 60.0
"""While the states cannot be read, the index counts as whole for so long after it was seen to be."""
_CANARIES = 3
"""Documents that are looked up in a round; each round takes the next ones."""
_SURE_WORD = 6
"""Letters of a word that no analyzer leaves out."""
_LOOKS = 4
_PAUSE_S = 0.4
"""Counts are read one after the other, and DynamoDB's by an index that lags behind by a moment: only what
lacks every time is damage."""
_REPAIR = "What it does not find may be lost: start the worker again, which writes what is missing."
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class IndexVerdict:
    """What a round has found."""

    problem: str | None = None
    """Why the index cannot be trusted to know what it does not find; None when it is whole."""
    is_foreign: bool = False
    """It holds documents, and none of those that were looked up: nothing of it may be shown."""


class IndexWatch:
    """Holds one tenant's index against the states of its documents."""

    def __init__(self, search: PassageSearch, live: LiveDocuments, *, dimensions: int, clock: Clock) -> None:
        self._search = search
        self._live = live
        self._dimensions = dimensions
        self._clock = clock
        self._looking: asyncio.Task[None] | None = None
        self._next: asyncio.Task[None] | None = None
        """A round that has not begun."""
        self._whole_s = float("-inf")
        self._after: str | None = None
        self.verdict = IndexVerdict()

    def require_own(self) -> None:
        """Raises SearchUnavailableError when the index was seen to be somebody else's."""
        if self.verdict.is_foreign:
            raise SearchUnavailableError(str(self.verdict.problem))

    async def require_whole(self, *, deadline: Deadline | None = None) -> None:
        """Return when the index holds as many documents as are live and finds those that are looked up now.

        Raises SearchUnavailableError, DeadlineExceededError. An index without documents is whole when no
        document is live.
        """
        limit_s = _ASKED_LIMIT_S if deadline is None else deadline.within_s(_ASKED_LIMIT_S)
        try:
            async with asyncio.timeout(limit_s):
                await self.look()
        except TimeoutError:
            pass  # the verdict of the last round counts
        if self.verdict.problem is not None:
            raise SearchUnavailableError(self.verdict.problem)
        if self._clock.monotonic_s() - self._whole_s > _TRUSTED_S:
            raise SearchUnavailableError(
                "The passage index cannot be held against the states of documents; ask again."
            )

    async def run(self) -> None:
        """Look on until cancelled, every 10 s."""
        while True:
            await self.look()
            await asyncio.sleep(_EVERY_S)

    async def look(self) -> IndexVerdict:
        """Return the verdict of a round that begins after this call: a count, and some documents looked up.

        Rounds run one at a time: calls during one share the next."""
        if self._next is None:
            self._next = asyncio.create_task(self._look_after(self._looking))
        await asyncio.shield(self._next)
        return self.verdict

    async def _look_after(self, running: asyncio.Task[None] | None) -> None:
        if running is not None and not running.done():
            await asyncio.wait([running])
        self._looking, self._next = self._next, None
        await self._look()

    async def _look(self) -> None:
        before = self.verdict
        try:
            async with asyncio.timeout(_LOOK_LIMIT_S):
                problem = await self._count()
                found = await self._canaries() if problem is None else IndexVerdict(problem)
        except SearchUnavailableError as error:
            found = IndexVerdict(error.message)
        except (AssistantError, TimeoutError) as error:
            _log.warning("index_not_judged", error=type(error).__name__)
            return
        self.verdict = found
        if found.problem is None:
            self._whole_s = self._clock.monotonic_s()
        if found != before:
            if found.problem is None:
                _log.info("index_whole")
            else:
                _log.error("index_damaged", problem=found.problem, is_foreign=found.is_foreign)

    async def _count(self) -> str | None:
        """Return what the index lacks, in words."""
        problem = None
        for look in range(_LOOKS):
            if look:
                await asyncio.sleep(_PAUSE_S)
            before = await self._expected()
            held = (await self._search.info()).document_count
            if held >= before or held >= (after := await self._expected()):
                return None
            problem = f"The passage index holds {held} of {min(before, after)} live documents. {_REPAIR}"
        return problem

    async def _expected(self) -> int:
        counts = await self._live.count_by_state()
        expected = sum(counts.get(state, 0) for state in HELD_STATES)
        if any(counts.get(state, 0) for state in _UNDER_WAY):
            # What answers now is in the index until its new content takes its place.
            under_way = await self._live.list(states=_UNDER_WAY, limit=_MOST_UNDER_WAY)
            expected += sum(status.live_content_hash is not None for status in under_way)
        return expected

    async def _canaries(self) -> IndexVerdict:
        """Ask for the titles of some live documents, and read them."""
        asked = await self._next_live()
        lost = [status for status in asked if not await self._is_found(status)]
        for _ in range(_LOOKS - 1):
            if not lost:
                break
            await asyncio.sleep(_PAUSE_S)
            now = await self._live.get_many([status.document_id for status in lost])
            # withdrawn or received anew meanwhile: then it is not live any more
            lost = [one for one in lost if now.get(one.document_id) == one and not await self._is_found(one)]
        if not lost:
            return IndexVerdict()
        name = lost[0].document_id
        return IndexVerdict(
            f"The passage index does not find the live document {name} by its title. {_REPAIR}",
            is_foreign=len(lost) == len(asked),
        )

    async def _next_live(self) -> Sequence[DocumentStatus]:
        found = await self._live.list(states=(DocumentState.LIVE,), after=self._after, limit=_CANARIES)
        self._after = found[-1].document_id if len(found) == _CANARIES else None
        # rows of older releases do not say who may see their document
        return [status for status in found if status.live_labels is not None]

    async def _is_found(self, status: DocumentStatus) -> bool:
        labels = frozenset(status.live_labels or ())
        deadline = Deadline.after(_LOOK_LIMIT_S, clock=self._clock)
        query = PassageQuery(
            text=status.title,
            vector=[1.0] + [0.0] * (self._dimensions - 1),  # only the words of the title count
            filters=SearchFilters(document_id=(status.document_id,)),
            labels=labels,
        )
        retrieved = await self._search.search(query, deadline=deadline)
        has_word = any(len(word) >= _SURE_WORD for word in status.title.split() if word.isalpha())
        by_words = any(hit.title_score is not None for hit in retrieved.documents)
        if retrieved.documents and (by_words or not has_word):
            read = await self._search.read_documents([status.document_id], labels=labels, deadline=deadline)
            stored = read.get(status.document_id)
            return stored is not None and len(stored.passages) >= status.passage_count
        return False
