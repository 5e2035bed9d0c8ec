"""A tenant's embedded stores by name, those of options included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from assistant.documents.readable import ReadableDocuments
from assistant.domain.clock import Clock
from assistant.domain.documents import IndexModel
from assistant.stores.audit import DIGESTS
from assistant.stores.blobs import Blobs
from assistant.stores.desk import DESK
from assistant.stores.documents import INDEX_WRITES
from assistant.stores.events import CLAIMS, ERASURE_KEYS
from assistant.stores.index.embedded import EmbeddedPassageIndex
from assistant.stores.opened import EmbeddedTenant
from assistant.stores.records import RECORDS
from assistant.stores.sqlite_table import SqliteTable
from assistant.stores.uploads import UPLOADS, UPLOADS_QUEUE
from assistant.tenant.tenant import TenantConfig

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
