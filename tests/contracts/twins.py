"""The implementations of the primitives. A twin is opened by its place, a folder.

Two twins of one place are two processes' views of one tenant. A twin of one service has only the primitives
whose suites ``conftest`` gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from assistant.domain.documents import IndexModel
from assistant.stores.blobs import Blobs
from assistant.stores.ports import IndexVersions, IngestionQueue, PassageIndex, PassageSearch
from assistant.stores.store import Words
from assistant.stores.table import Table
from tests.contracts.aws_twins import open_s3_twin, open_sqs_twin, open_ssm_twin
from tests.contracts.dynamodb_twin import open_dynamodb_twin
from tests.contracts.embedded_twin import DIMENSIONS, EMBEDDING_MODEL, open_embedded_twin
from tests.contracts.opensearch_twin import open_opensearch_twin

__all__ = ["DIMENSIONS", "EMBEDDING_MODEL", "TWINS", "Twin"]


class Twin(Protocol):
    """All primitives of one tenant."""

    shortest_visibility_s: ClassVar[float]
    """The shortest visibility time-out that its queue takes."""

    @property
    def table(self) -> Table:
        """One with an index by time."""
        ...

    @property
    def records_table(self) -> Table: ...
    @property
    def states_table(self) -> Table: ...
    @property
    def expiring_table(self) -> Table: ...
    @property
    def blobs(self) -> Blobs: ...
    @property
    def queue(self) -> IngestionQueue: ...
    @property
    def withdrawals(self) -> IngestionQueue: ...
    @property
    def words(self) -> Words: ...
    async def set_word(self, name: str, word: str) -> None:
        """Say it as an operator does."""
        ...

    def unreadable_words(self) -> AbstractAsyncContextManager[None]:
        """Have the words' store out of reach inside the context."""
        ...

    @property
    def index(self) -> PassageIndex: ...
    @property
    def search(self) -> PassageSearch: ...
    @property
    def versions(self) -> IndexVersions: ...
    def version(self, model: IndexModel) -> PassageIndex:
        """Return the index version of another model, for a writer that takes turns."""
        ...


OpenTwin = Callable[[Path], AbstractAsyncContextManager[Any]]
TWINS: Mapping[str, OpenTwin] = {
    "embedded": open_embedded_twin,
    "dynamodb": open_dynamodb_twin,
    "opensearch": open_opensearch_twin,
    "s3": open_s3_twin,
    "sqs": open_sqs_twin,
    "ssm": open_ssm_twin,
}
