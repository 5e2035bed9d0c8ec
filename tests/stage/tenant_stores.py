"""A tenant's embedded stores by name, those of options included, with clocks and disks that a test moves."""

from __future__ import annotations

import asyncio
import base64
import os
import pkgutil
import sqlite3
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
import tantivy

import assistant.options
import assistant.stores
from assistant.documents.readable import ReadableDocuments
from assistant.domain.clock import Clock
from assistant.domain.documents import IndexModel, Passage, PassageQuery, Retrieved
from assistant.stores.audit import DIGESTS
from assistant.stores.blobs import Blobs, FolderBlobs
from assistant.stores.desk import DESK
from assistant.stores.documents import INDEX_WRITES
from assistant.stores.events import CLAIMS, ERASURE_KEYS
from assistant.stores.formats import load_body
from assistant.stores.index.embedded import EmbeddedPassageIndex, EmbeddedPassageSearch
from assistant.stores.opened import EmbeddedTenant
from assistant.stores.records import RECORDS
from assistant.stores.sqlite_table import SqliteTable
from assistant.stores.store import Primitive, Store, TableOf
from assistant.stores.uploads import UPLOADS, UPLOADS_QUEUE
from assistant.tenant.tenant import TenantConfig
from tests.contracts.samples import documents_of, soon

if TYPE_CHECKING:
    from assistant.options.desk.feedback_store import StoredFeedback
    from assistant.options.desk.mover import StoredOutbox
    from assistant.options.live.stored import StoredLiveReads, StoredSentValues
    from assistant.options.sources.run import StoredSourceRuns


class TenantStores(EmbeddedTenant):
    """The stores, and the index of one embedding model."""

    def __init__(
        self,
        folder: Path,
        *,
        embedding_model: str = "tiny",
        dimensions: int = 4,
        model_digest: str = "",
        clock: Clock | None = None,
    ) -> None:
        super().__init__(folder, clock=clock)
        self.model = IndexModel(name=embedding_model, dimensions=dimensions, digest=model_digest)
        self.documents, self.states = self.knowledge.documents, self.knowledge.states
        self.queue, self.withdrawals = self.knowledge.queue, self.knowledge.withdrawals
        self.uploads, self.received_uploads = self.get(UPLOADS), self.get(UPLOADS_QUEUE)
        self.records, self.claims = self.get(RECORDS), self.get(CLAIMS)
        self.erasure_keys, self.digests, self.desk = self.get(ERASURE_KEYS), self.get(DIGESTS), self.get(DESK)
        self.index_writes = self.get(INDEX_WRITES)
        index = self.passage_index
        self.versions, self.search = index.versions(self.model), index.search(self.model)
        self.index = index.writer(self.model, holds=True)
        self._name = folder.name
        self._expiring: list[SqliteTable] = []
        self.texts = ReadableDocuments(self.documents, states=self.states)

    # Of options, each of which may be left out.

    @cached_property
    def source_runs(self) -> StoredSourceRuns:
        from assistant.options.sources.run import SOURCE_RUNS

        return self.get(SOURCE_RUNS)

    @cached_property
    def live_reads(self) -> StoredLiveReads:
        from assistant.options.live.stored import LIVE_READS

        return self.get(LIVE_READS)

    @cached_property
    def sent_values(self) -> StoredSentValues:
        from assistant.options.live.stored import SENT_VALUES

        return self.get(SENT_VALUES)

    @cached_property
    def outbox(self) -> StoredOutbox:
        from assistant.options.desk.mover import OUTBOX

        return self.get(OUTBOX)

    @cached_property
    def feedback_files(self) -> Blobs:
        from assistant.options.desk.feedback_store import FEEDBACK_FILES

        return self.get(FEEDBACK_FILES)

    @cached_property
    def feedback(self) -> StoredFeedback:
        from assistant.options.desk.feedback_store import StoredFeedback

        return StoredFeedback(self.feedback_files, tenant=self._name, keys=self.erasure_keys)

    def index_of(self, model: IndexModel) -> EmbeddedPassageIndex:
        return self.passage_index.beside(model)

    def table_expiring_by(self, clock: Clock) -> SqliteTable:
        """Return a table whose items expire by this clock, and are deleted at once."""
        table = SqliteTable(self.folder / "expiring.sqlite", clock=clock, sweep_every_s=0.02)
        table.begin_sweep()
        self._expiring.append(table)
        return table

    async def stored_bytes(self) -> bytes:
        """Return every byte of the tables."""
        return await asyncio.to_thread(
            lambda: b"".join(path.read_bytes() for path in self.folder.glob("*.sqlite*"))
        )

    async def close(self) -> None:
        for table in self._expiring:
            await table.close()
        await super().close()


def tenant_stores(tenant: TenantConfig, *, state_dir: Path) -> TenantStores:
    embedding = tenant.embedding
    folder = state_dir / "tenants" / tenant.name
    return TenantStores(folder, embedding_model=embedding.model, dimensions=embedding.dimensions)


@asynccontextmanager
async def open_tenant_stores(tenant: TenantConfig, *, state_dir: Path) -> AsyncGenerator[TenantStores]:
    stores = tenant_stores(tenant, state_dir=state_dir)
    try:
        yield stores
    finally:
        await stores.close()


# --- behind the stores' back ------------------------------------------------------------------------------
def stored_bodies(file: Path, *, partition: str, sort: str = "*") -> list[dict[str, Any]]:
    """Return the bodies of items whose keys match the patterns (``GLOB``), in their order; of none where the
    file has no table yet."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'items'").fetchall():
            return []
        select = "SELECT item FROM items WHERE pk GLOB ? AND sk GLOB ? ORDER BY pk, sk"
        items = [orjson.loads(item) for (item,) in connection.execute(select, (partition, sort))]
    return [orjson.loads(load_body({name: _plain(value) for name, value in item.items()})) for item in items]


def _plain(value: Any) -> Any:
    return base64.b64decode(value["B"]) if isinstance(value, dict) else value


# --- what is declared -------------------------------------------------------------------------------------
@cache
def declared_stores() -> Mapping[str, Store[Any, Any] | Primitive[Any]]:
    """Return the stores and primitives by their name."""
    return {
        name: value
        for package in (assistant.stores, assistant.options)
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
        if not {"stack", "commands"} & set(found.name.split("."))
        for name, value in vars(import_module(found.name)).items()
        if isinstance(value, Store | Primitive)
    }


def declared_files() -> list[str]:
    """Return the SQLite files of a tenant."""
    over = (store.over if isinstance(store, Store) else store for store in declared_stores().values())
    return sorted({"queue.sqlite", *(table.file for table in over if isinstance(table, TableOf))})


# --- clocks and disks -------------------------------------------------------------------------------------
class SteppedFolder(FolderBlobs):
    def __init__(self, folder: Path, *, clock: Clock) -> None:
        super().__init__(folder)
        self.clock = clock

    async def now(self, prefix: str) -> datetime:
        return self.clock.now()

    async def add(self, key: str, content: bytes) -> None:
        is_new = await self.get(key) is None
        await super().add(key, content)
        if is_new:
            date_file(self._folder / key, self.clock)


def date_file(path: Path, clock: Clock) -> None:
    """Date a file as the disk does that has this clock."""
    at_s = clock.now().timestamp()
    os.utime(path, (at_s, at_s))


class SteppedClock:
    def __init__(self, now: datetime = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)) -> None:
        self._now = now
        self._monotonic_s = 1000.0

    def now(self) -> datetime:
        return self._now

    def monotonic_s(self) -> float:
        return self._monotonic_s

    def step(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)
        self._monotonic_s += seconds


# --- an index's folder from outside -----------------------------------------------------------------------
MODEL = IndexModel(name="model-of-four", dimensions=4)


class IndexFolder:
    """An index below ``folder``, a writer and a reader, closed by hand: tests open it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index = EmbeddedPassageIndex(folder, model=MODEL)
        self.search_side = EmbeddedPassageSearch(folder, model=MODEL)

    async def put(self, *entries: tuple[Passage, Sequence[float]]) -> None:
        await self.index.replace_documents(documents_of(*entries))

    async def search(self, query: PassageQuery) -> Retrieved:
        return await self.search_side.search(query, deadline=soon())

    async def close(self) -> None:
        await self.index.close()
        await self.search_side.close()

    def lexical_folders(self) -> list[Path]:
        return sorted(self.folder.rglob("lexical-*"))

    def posted(self, term: str) -> int:
        """Return how many passages tantivy's files post the term for, deleted ones included.

        Its dictionaries are compressed, so that looking for bytes would prove nothing.
        """
        return self._posted("passages", "body", term)

    def posted_titles(self, term: str) -> int:
        """Return the same of titles and questions."""
        return self._posted("titles", "asked", term)

    def posted_texts(self, term: str) -> int:
        """Return the same of whole texts."""
        return self._posted("texts", "text", term)

    def _posted(self, leg: str, field: str, term: str) -> int:
        indexes = [tantivy.Index.open(str(folder / leg)) for folder in self.lexical_folders()]
        return sum(index.searcher().doc_freq(field, term) for index in indexes)

    def files_with(self, *words: str) -> list[str]:
        """Return the files in which one of the words stands, in whatever case."""
        return self.files_holding(*(word.encode() for word in words))

    def files_holding(self, *contents: bytes) -> list[str]:
        """Return the files in which one of the contents stands; letters in whatever case."""
        wanted = [content.lower() for content in contents]
        return [
            path.name
            for path in self.folder.rglob("*")
            if path.is_file() and any(content in path.read_bytes().lower() for content in wanted)
        ]
