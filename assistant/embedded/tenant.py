"""All embedded stores of one tenant, under its own folder and bound to nothing else."""

from __future__ import annotations

from pathlib import Path

from assistant.embedded.answers import SqliteAnswerLog, SqliteAnswerRecords
from assistant.embedded.files import FileDocumentStore
from assistant.embedded.index import EmbeddedPassageIndex, EmbeddedPassageSearch
from assistant.embedded.ingestion import SqliteDocumentStates, SqliteIngestionQueue
from assistant.embedded.passage_rows import IndexModel


class EmbeddedTenant:
    """The stores under ``folder`` (``<state>/tenants/<tenant>``): opened on first use, closed by ``close``.

    Only the ingestion worker may use ``index``: it takes the index's write lock on first use.
    """

    def __init__(
        self, folder: Path, *, embedding_model: str, dimensions: int, model_digest: str = ""
    ) -> None:
        model = IndexModel(name=embedding_model, dimensions=dimensions, digest=model_digest)
        self.documents = FileDocumentStore(folder / "documents")
        self.states = SqliteDocumentStates(folder / "queue.sqlite")
        self.queue = SqliteIngestionQueue(folder / "queue.sqlite")
        self.withdrawals = SqliteIngestionQueue(folder / "queue.sqlite", name="withdrawals")
        """Ids to take out of the index. A queue of its own, so that no backlog of documents delays it."""
        self.records = SqliteAnswerRecords(folder / "records.sqlite")
        self.log = SqliteAnswerLog(folder / "events.sqlite")
        self.index = EmbeddedPassageIndex(folder / "index", model=model)
        self.search = EmbeddedPassageSearch(folder / "index", model=model)

    async def close(self) -> None:
        stores = (self.states, self.queue, self.withdrawals, self.records, self.log, self.index, self.search)
        for store in stores:
            await store.close()
