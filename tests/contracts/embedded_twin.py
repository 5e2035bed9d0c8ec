"""All primitives by the embedded stores."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import ClassVar

from assistant.domain.documents import IndexModel
from assistant.stores.blobs import FolderBlobs
from assistant.stores.desk import DESK_TABLE
from assistant.stores.documents import STATES_TABLE
from assistant.stores.events import EVENTS_TABLE
from assistant.stores.index.embedded import EmbeddedPassageIndex
from assistant.stores.records import RECORDS_TABLE
from assistant.stores.table import Table
from assistant.stores.words import FileWords
from tests.fakes.tenant_stores import TenantStores

DIMENSIONS = 4
EMBEDDING_MODEL = "model-of-four"


class EmbeddedTwin(TenantStores):
    shortest_visibility_s: ClassVar[float] = 0.05

    def __init__(self, place: Path) -> None:
        super().__init__(place, embedding_model=EMBEDDING_MODEL, dimensions=DIMENSIONS)
        self.blobs = FolderBlobs(place / "blobs")
        self.words = FileWords(place / "words")

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

    def version(self, model: IndexModel) -> EmbeddedPassageIndex:
        return self.index_of(model)

    async def set_word(self, name: str, word: str) -> None:
        folder = self.folder / "words"
        await asyncio.to_thread(folder.mkdir, exist_ok=True)
        await asyncio.to_thread((folder / name).write_text, word)

    @asynccontextmanager
    async def unreadable_words(self) -> AsyncGenerator[None]:
        """Have a file where the folder was."""
        folder, aside = self.folder / "words", self.folder / "words-aside"
        folder.rename(aside)
        folder.write_text("")
        try:
            yield
        finally:
            folder.unlink()
            aside.rename(folder)


@asynccontextmanager
async def open_embedded_twin(place: Path) -> AsyncGenerator[EmbeddedTwin]:
    twin = EmbeddedTwin(place)
    try:
        yield twin
    finally:
        await twin.close()
