"""All ports by the embedded stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from assistant.domain.clock import Clock
from assistant.domain.documents import IndexModel
from assistant.options.live.stored import StoredSentValues, Switches
from assistant.process.private_files import make_private_folder
from assistant.stores.blobs import FolderBlobs
from assistant.stores.captures import StoredCaptures
from assistant.stores.desk import DESK_TABLE
from assistant.stores.documents import STATES_TABLE
from assistant.stores.events import EVENTS_TABLE, StoredClaims
from assistant.stores.index.embedded import EmbeddedPassageIndex
from assistant.stores.records import RECORDS_TABLE
from assistant.stores.sqlite_table import SqliteTable
from assistant.stores.table import Table
from assistant.stores.words import FileWords, Power, Revocations
from tests.fakes.tenant_stores import TenantStores

DIMENSIONS = 4
SWEEP_EVERY_S = 0.02
EMBEDDING_MODEL = "model-of-four"


class EmbeddedTwin(TenantStores):
    shortest_visibility_s: ClassVar[float] = 0.05

    def __init__(self, place: Path) -> None:
        super().__init__(place, embedding_model=EMBEDDING_MODEL, dimensions=DIMENSIONS)
        self._place = place
        self._expiring: list[SqliteTable] = []

    @property
    def table(self) -> Table:
        return self.get(DESK_TABLE)

    @property
    def records_table(self) -> Table:
        return self.get(RECORDS_TABLE)

    @property
    def states_table(self) -> Table:
        return self.get(STATES_TABLE)

    @property
    def expiring_table(self) -> Table:
        return self.get(EVENTS_TABLE)

    @property
    def blobs(self) -> FolderBlobs:
        return FolderBlobs(self._place / "blobs")

    @property
    def capture(self) -> StoredCaptures:
        return StoredCaptures.here(self._place / "capture")

    async def put_raw(self, key: str, content: bytes) -> None:
        path = self._place / "capture" / "raw" / key
        make_private_folder(path.parent)
        path.write_bytes(content)

    def version(self, model: IndexModel) -> EmbeddedPassageIndex:
        return self.index_of(model)

    def claims_by(self, clock: Clock) -> StoredClaims:
        return StoredClaims(self._expiring_table("events.sqlite", clock), clock=clock)

    def sent_values_by(self, clock: Clock) -> StoredSentValues:
        return StoredSentValues(self._expiring_table("sent-values.sqlite", clock), clock=clock)

    def _expiring_table(self, file: str, clock: Clock) -> SqliteTable:
        table = SqliteTable(self._place / file, clock=clock, sweep_every_s=SWEEP_EVERY_S)
        table.begin_sweep()
        self._expiring.append(table)
        return table

    async def stored_bytes(self, clock: Clock) -> bytes:
        del clock  # nothing but the adapters deletes here

        def read() -> bytes:
            return b"".join(path.read_bytes() for path in self._place.glob("*.sqlite*"))

        return await asyncio.to_thread(read)

    def power_by(self, clock: Clock) -> Power:
        return Power(FileWords(self._place / "power"), clock=clock)

    async def set_power(self, word: str) -> None:
        await asyncio.to_thread(self._write_power, word)

    def _write_power(self, word: str) -> None:
        self._place.mkdir(parents=True, exist_ok=True)
        (self._place / "power").write_text(word)

    def switches_by(self, clock: Clock) -> Switches:
        return Switches(FileWords(self._place / "systems"), clock=clock)

    async def set_switch(self, system: str, word: str) -> None:
        def write() -> None:
            (self._place / "systems").mkdir(parents=True, exist_ok=True)
            (self._place / "systems" / system).write_text(word)

        await asyncio.to_thread(write)

    @property
    def revocations(self) -> Revocations:
        return Revocations(FileWords(self._place / "systems" / "revocations.json"))

    async def put_revocations(self, content: str) -> None:
        await self.set_switch("revocations.json", content)

    @asynccontextmanager
    async def unreadable_switches(self) -> AsyncGenerator[None]:
        """Have a file where the folder was."""
        folder, aside = self._place / "systems", self._place / "systems-aside"
        folder.rename(aside)
        folder.write_text("")
        try:
            yield
        finally:
            folder.unlink()
            aside.rename(folder)

    async def close(self) -> None:
        for table in self._expiring:
            await table.close()
        await super().close()


@asynccontextmanager
async def open_embedded_twin(place: Path) -> AsyncGenerator[EmbeddedTwin]:
    twin = EmbeddedTwin(place)
    try:
        yield twin
    finally:
        await twin.close()
