"""The embedded passage index of one tenant: ``EmbeddedPassageIndex`` writes, ``EmbeddedPassageSearch`` reads.

Each side runs its engine (``IndexWriter``, ``IndexReader``) in a thread of its own, and a version of the
index is a folder, ``<directory>/<index version>/``. The engines are imported on first use.
"""

from __future__ import annotations

import asyncio
import sqlite3
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Generic, Protocol, TypeVar

from assistant.domain.clock import Clock, Deadline, SystemClock
from assistant.domain.documents import (
    HeldContent,
    IndexedDocument,
    IndexInfo,
    IndexModel,
    KnownWords,
    PassageQuery,
    Retrieved,
    SourceIds,
    StoredDocument,
)
from assistant.domain.errors import DeadlineExceededError, SearchUnavailableError
from assistant.stores.index.embedded_files import (
    PASSAGES_FILE,
    EmbeddedIndexVersions,
    IndexMeta,
    document_ids,
    held_contents,
    index_version,
    known_words,
    read_versions,
    stored_documents,
)
from assistant.stores.sqlite_file import EngineThread, open_connection

if TYPE_CHECKING:
    from assistant.stores.index.embedded_reader import IndexReader
    from assistant.stores.index.embedded_writer import IndexWriter


Item = TypeVar("Item")
"""What one call of ``BatchedCalls`` asks for."""
Result = TypeVar("Result")


class BatchedCalls(Generic[Item, Result]):
    """Runs calls in batches: a call with no other running starts at once; calls that come while a batch runs
    are the next batch, of at most ``most_at_once`` items.

    ``run`` gets the items of a batch and returns their results in the same order.
    """

    def __init__(self, run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]], *, most_at_once: int):
        self._run = run
        self._most_at_once = most_at_once
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._running: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """Return how many items wait for their batch."""
        return len(self._waiting)

    async def call(self, item: Item, *, timeout_s: float) -> Result:
        """Return the item's result. Raises TimeoutError after ``timeout_s``, or the error of its batch."""
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, future))
        if self._running is None:
            self._running = asyncio.create_task(self._drain())
        return await asyncio.wait_for(future, timeout_s)

    async def _drain(self) -> None:
        """Run batches until no call waits."""
        try:
            while self._waiting:
                count = min(self._most_at_once, len(self._waiting))
                batch = [self._waiting.popleft() for _ in range(count)]
                # Skip calls whose caller was cancelled.
                if wanted := [(item, future) for item, future in batch if not future.done()]:
                    await self._run_batch(wanted)
        finally:
            self._running = None

    async def _run_batch(self, batch: Sequence[tuple[Item, asyncio.Future[Result]]]) -> None:
        try:
            results = await self._run([item for item, _ in batch])
            for (_, future), result in zip(batch, results, strict=True):
                if not future.done():
                    future.set_result(result)
        except Exception as error:  # noqa: BLE001 (not swallowed: each caller gets it)
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
        finally:
            for _, future in batch:
                future.cancel()  # only where this task was cancelled: a done future does not change


CALL_TIMEOUT_S = 30.0
WRITE_TIMEOUT_S = 300.0
"""Also for opening, which may rebuild the lexical leg: about three seconds for 30,000 passages."""
MAX_PENDING_CALLS = 256
"""Most calls that wait for an engine, and most searches that wait for a batch."""
SEARCHES_AT_ONCE = 16
"""Most questions of one batch: their vectors are compared by one product of matrices."""


class _Side(Protocol):
    """An opened engine: ``IndexWriter`` or ``IndexReader``. ``counts``: passages, documents, and the
    counters."""

    def close(self) -> None: ...

    def counts(self) -> tuple[int, int, IndexMeta]: ...


Side = TypeVar("Side", bound=_Side)


class _Engine(ABC, Generic[Side]):
    """One side of one version of the index. Its engine is opened by the first call, in its own thread, in
    which all calls of ``_run`` are made. A subclass says by ``_open`` which engine."""

    timeout_s: ClassVar[float] = CALL_TIMEOUT_S

    def __init__(self, directory: Path, *, model: IndexModel) -> None:
        self._version = index_version(model)
        self._folder = directory / self._version
        self._model = model
        self._side: Side | None = None
        name, unavailable = "The passage index", SearchUnavailableError
        self._thread = EngineThread(name, most_pending=MAX_PENDING_CALLS, unavailable=unavailable)

    async def info(self) -> IndexInfo:
        """See ``PassageIndex`` and ``PassageSearch``."""
        passages, documents, meta = await self._run(lambda side: side.counts())
        model = self._model
        return IndexInfo(self._version, model.name, model.dimensions, passages, documents, meta.updated_at)

    async def close(self) -> None:
        await self._thread.close(self._close)

    async def _run(self, work: Callable[[Side], Result], *, timeout_s: float | None = None) -> Result:
        """Return what ``work`` makes of the opened engine, in the engine's thread. Raises
        SearchUnavailableError when the engine fails, times out, or too many calls wait."""
        try:
            return await self._thread.run(lambda: self._work(work), timeout_s=timeout_s or self.timeout_s)
        except (sqlite3.Error, OSError, ValueError) as error:  # ValueError: what tantivy raises
            raise SearchUnavailableError(f"The passage index failed: {error}.") from error

    async def _read(self, work: Callable[[sqlite3.Connection], Result], *, empty: Result) -> Result:
        """Return what ``work`` reads by a new SQLite connection, outside the engine's thread: it waits for no
        search and no write. ``empty`` is returned where nothing was written yet."""
        path = self._folder / PASSAGES_FILE

        def reading() -> Result:
            if not path.exists():
                return empty
            with closing(open_connection(path)) as connection:
                return work(connection)

        try:
            return await asyncio.to_thread(reading)
        except sqlite3.Error as error:
            raise SearchUnavailableError(f"The passage index failed: {error}.") from error

    def _work(self, work: Callable[[Side], Result]) -> Result:
        """Open the engine where it is not, and run ``work``; in the engine's thread."""
        if self._side is None:
            self._side = self._open()
        return work(self._side)

    @abstractmethod
    def _open(self) -> Side: ...  # in the engine's thread

    def _close(self) -> None:
        if self._side is not None:
            self._side.close()
            self._side = None


class EmbeddedPassageIndex(_Engine["IndexWriter"]):
    """``PassageIndex``. A file lock lets one process write a version at a time.

    With ``holds`` it keeps the lock from its first write to ``close``, while the index has one version (the
    worker). Without, or while a reindex keeps several versions, it has the lock for one call only, so that
    processes can take turns (``FileTurn``).
    """

    timeout_s = WRITE_TIMEOUT_S

    def __init__(
        self, directory: Path, *, model: IndexModel, holds: bool = True, clock: Clock | None = None
    ) -> None:
        super().__init__(directory, model=model)
        self._holds = holds
        self._clock = clock or SystemClock()

    async def replace_documents(self, documents: Sequence[IndexedDocument]) -> None:
        if documents:
            await self._run(lambda writer: writer.replace(documents))

    async def delete_documents(self, document_ids: Sequence[str]) -> None:
        if document_ids:
            await self._run(lambda writer: writer.delete(document_ids))
            await self._on_others(lambda writer: writer.delete(document_ids))

    async def discard(self, document_ids: Sequence[str]) -> None:
        if document_ids:
            await self._run(lambda writer: writer.delete(document_ids))

    async def optimize(self) -> None:
        await self._run(lambda writer: writer.purge())
        await self._on_others(lambda writer: writer.purge())

    async def held(self, document_ids: Sequence[str]) -> frozenset[str]:
        return await self._run(lambda writer: writer.held(document_ids))

    async def document_ids(self) -> Sequence[str]:
        return await self._read(document_ids, empty=[])

    async def contents(self, document_ids: Sequence[str]) -> Mapping[str, HeldContent]:
        return await self._read(lambda connection: held_contents(connection, document_ids), empty={})

    async def read(self, document_ids: Sequence[str]) -> Sequence[StoredDocument]:
        return await self._read(lambda connection: stored_documents(connection, document_ids), empty=[])

    async def _on_others(self, work: Callable[[IndexWriter], None]) -> None:
        """Do ``work`` on each other kept version that has a file, one after the other, in this engine's
        thread: a withdrawn document must leave every version."""

        def on_others(_: IndexWriter) -> None:
            record = read_versions(self._folder.parent)
            for name in record.kept if record else ():
                folder = self._folder.parent / name
                if folder != self._folder and (folder / PASSAGES_FILE).exists():
                    other = self._writer(folder)
                    other.open()
                    try:
                        work(other)
                    finally:
                        other.close()

        await self._run(on_others)

    async def share(self) -> None:
        """See ``PassageIndex``. The worker calls it every few seconds,
        for a reindex that has begun meanwhile."""
        await self._thread.run(self._close_shared, timeout_s=self.timeout_s)

    def _work(self, work: Callable[[IndexWriter], Result]) -> Result:
        try:
            return super()._work(work)
        except Exception:
            # An engine that failed half way, as on a full disk, is not used again: the next call opens a new
            # one.
            failed, self._side = self._side, None
            if failed is not None:
                with suppress(sqlite3.Error, OSError, ValueError, RuntimeError):
                    failed.close()
            raise
        finally:
            self._close_shared()

    def _close_shared(self) -> None:
        """Close the engine, which releases the lock, unless this process may hold it between calls."""
        if self._side is None:
            return
        record = read_versions(self._folder.parent)
        if not self._holds or (record is not None and len(record.kept) > 1):
            self._close()

    def _open(self) -> IndexWriter:
        writer = self._writer(self._folder)
        writer.open()
        return writer

    def _writer(self, folder: Path) -> IndexWriter:
        """Return the writer of a version's folder, not yet open."""
        from assistant.stores.index.embedded_writer import IndexWriter

        return IndexWriter(folder, dimensions=self._model.dimensions, clock=self._clock)


class EmbeddedPassageSearch(_Engine["IndexReader"]):
    """``PassageSearch`` over the files that ``EmbeddedPassageIndex`` writes, in this process or another.
    Questions that wait at the same time are searched in one batch."""

    def __init__(self, directory: Path, *, model: IndexModel) -> None:
        super().__init__(directory, model=model)
        self._searches = BatchedCalls(self._search, most_at_once=SEARCHES_AT_ONCE)

    async def search(self, query: PassageQuery, *, deadline: Deadline) -> Retrieved:
        limit_s = deadline.within_s(CALL_TIMEOUT_S)
        has, asked = self._model.dimensions, len(query.vector)
        if asked != has:
            raise SearchUnavailableError(f"The index has {has} dimensions, the question {asked}.")
        if len(self._searches) >= MAX_PENDING_CALLS:
            raise SearchUnavailableError("Too many searches wait for the passage index. Retry.")
        try:
            return await self._searches.call(query, timeout_s=limit_s)
        except TimeoutError:
            if deadline.remaining_s() <= 0.0:
                raise DeadlineExceededError("The answer's deadline has passed; ask again.") from None
            raise SearchUnavailableError("The passage index did not answer in time. Retry.") from None

    async def read_documents(
        self, document_ids: Sequence[str], *, labels: frozenset[str], deadline: Deadline
    ) -> Mapping[str, StoredDocument]:
        limit_s = deadline.within_s(CALL_TIMEOUT_S)
        return await self._run(
            lambda reader: reader.read_documents(document_ids, labels=labels), timeout_s=limit_s
        )

    async def known_words(self, *, items_of: Sequence[SourceIds] = ()) -> KnownWords:
        nothing = KnownWords(abbreviations={})
        return await self._read(lambda connection: known_words(connection, items_of=items_of), empty=nothing)

    async def _search(self, queries: Sequence[PassageQuery]) -> Sequence[Retrieved]:
        return await self._run(lambda reader: reader.search(queries))

    def _open(self) -> IndexReader:
        from assistant.stores.index.embedded_reader import IndexReader

        return IndexReader(self._folder, index_version=self._version, dimensions=self._model.dimensions)


class EmbeddedIndex:
    """``Index`` in a folder. Each version is opened once for reading, and once for each way of writing."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writers: dict[tuple[IndexModel, bool], EmbeddedPassageIndex] = {}
        self._searches: dict[IndexModel, EmbeddedPassageSearch] = {}

    def versions(self, own: IndexModel) -> EmbeddedIndexVersions:
        return EmbeddedIndexVersions(self._directory, own=own)

    def search(self, model: IndexModel, *, pinned: bool = False) -> EmbeddedPassageSearch:
        del pinned  # a version's folder is named by its model
        if model not in self._searches:
            self._searches[model] = EmbeddedPassageSearch(self._directory, model=model)
        return self._searches[model]

    def beside(self, model: IndexModel) -> EmbeddedPassageIndex:
        return self.writer(model, holds=False)

    async def alone(self, model: IndexModel, *, applies_schema: bool = False) -> EmbeddedPassageIndex:
        del applies_schema
        # If the settings name another model now, only its version is kept: opening it removes the others.
        await self.versions(model).adopt()
        return self.writer(model, holds=True)

    def writer(self, model: IndexModel, *, holds: bool) -> EmbeddedPassageIndex:
        """Return the writing side of a model's version; ``holds`` as of ``EmbeddedPassageIndex``."""
        if (model, holds) not in self._writers:
            self._writers[model, holds] = EmbeddedPassageIndex(self._directory, model=model, holds=holds)
        return self._writers[model, holds]

    async def close(self) -> None:
        for opened in (*self._writers.values(), *self._searches.values()):
            await opened.close()
