"""The implementations of the ports. A twin is opened by its place, a folder.

Two twins of one place are two processes' views of one tenant. A twin of one service has only the ports
whose suites ``suites`` gives it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, ClassVar, Protocol

from assistant.domain.clock import Clock
from assistant.domain.documents import IndexModel
from assistant.options.desk.mover import StoredOutbox
from assistant.options.live.stored import StoredLiveReads, SystemSwitches
from assistant.options.sources.run import StoredSourceRuns
from assistant.service.identity import KeySource
from assistant.stores.blobs import Blobs
from assistant.stores.captures import StoredCaptures
from assistant.stores.desk import StoredDesk
from assistant.stores.documents import StoredDocuments, StoredStates
from assistant.stores.events import StoredClaims, StoredErasureKeys
from assistant.stores.ports import IndexVersions, IngestionQueue, PassageIndex, PassageSearch, SentValues
from assistant.stores.records import StoredRecords
from assistant.stores.table import Table
from assistant.stores.uploads import StoredUploads
from assistant.stores.words import Power
from tests.contracts.aws_twins import open_s3_twin, open_sqs_twin, open_ssm_twin
from tests.contracts.dynamodb_twin import open_dynamodb_twin
from tests.contracts.embedded_twin import DIMENSIONS, EMBEDDING_MODEL, open_embedded_twin
from tests.contracts.opensearch_twin import open_opensearch_twin

__all__ = ["DIMENSIONS", "EMBEDDING_MODEL", "TWINS", "Twin"]


class Twin(Protocol):
    """All stores of one tenant."""

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
    def documents(self) -> StoredDocuments: ...
    @property
    def states(self) -> StoredStates: ...
    @property
    def uploads(self) -> StoredUploads: ...
    @property
    def capture(self) -> StoredCaptures: ...
    def put_raw(self, key: str, content: bytes) -> Awaitable[None]:
        """Capture a call, as an endpoint does."""
        ...

    @property
    def queue(self) -> IngestionQueue: ...
    @property
    def source_runs(self) -> StoredSourceRuns: ...
    @property
    def withdrawals(self) -> IngestionQueue: ...
    @property
    def records(self) -> StoredRecords: ...
    @property
    def claims(self) -> StoredClaims: ...
    @property
    def outbox(self) -> StoredOutbox: ...
    @property
    def erasure_keys(self) -> StoredErasureKeys: ...
    @property
    def feedback_files(self) -> Blobs: ...
    @property
    def desk(self) -> StoredDesk: ...
    def claims_by(self, clock: Clock) -> StoredClaims:
        """Return the same claims as a process sees it whose clock is ``clock``."""
        ...

    def sent_values_by(self, clock: Clock) -> SentValues:
        """Return the live values of sent texts as a process sees them whose clock is ``clock``."""
        ...

    def stored_bytes(self, clock: Clock) -> Awaitable[bytes]:
        """Return every byte that the stores of answers keep at that time."""
        ...

    def power_by(self, clock: Clock) -> Power:
        """Return the power switch as a process sees it whose clock is ``clock``."""
        ...

    async def set_power(self, word: str) -> None:
        """Say it as an operator does."""
        ...

    @property
    def live_reads(self) -> StoredLiveReads: ...
    def switches_by(self, clock: Clock) -> SystemSwitches:
        """Return the systems' switches as a process sees them whose clock is ``clock``."""
        ...

    async def set_switch(self, system: str, word: str) -> None:
        """Say it as an operator does."""
        ...

    @property
    def revocations(self) -> KeySource: ...
    async def put_revocations(self, content: str) -> None:
        """Revoke as an operator does."""
        ...

    def unreadable_switches(self) -> AbstractAsyncContextManager[None]:
        """Have the switches' store out of reach inside the context."""
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
