"""Declares stores of a tenant: a store is a class over a primitive, such as a table or a queue.

    RECORDS_TABLE = TableOf("records.sqlite", "records_table")
    RECORDS = Store(RECORDS_TABLE, lambda table, clock: StoredRecords(table, clock=clock))
    records = await stores.of(RECORDS)

A declaration names each primitive twice: the file or folder of the tenant on this machine, and the setting
(a field of ``StoreSettings`` or ``FunctionSettings``) with the name on AWS. A store is declared beside its
class, so an option declares its own. ``opened.py`` opens the primitives, and knows no store.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from assistant.domain.clock import Clock
from assistant.domain.errors import DependencyError, RecordsUnavailableError
from assistant.stores.blobs import Blobs
from assistant.stores.ports import IngestionQueue, WriteTurn
from assistant.stores.table import Table

Opened = TypeVar("Opened")
"""The type of an opened primitive, such as Table."""
Kept = TypeVar("Kept")
"""The type of a store, such as StoredRecords."""


class Words(Protocol):
    """Short texts of one tenant that an operator changes, by name: the switches of live systems by the
    system's name. A place with a single text, such as the power state, has it under the name ``""``."""

    refresh_s: float
    """Seconds after which a request starts the next reading."""

    async def read(self, name: str) -> bytes | None:
        """Read the word from its place; None where there is none. Raises DependencyError."""
        ...


class Primitive(Generic[Opened]):
    """Names a primitive of each tenant, which opens as ``Opened``. The value of its setting may contain
    ``{tenant}``, which stands for the tenant's name."""


@dataclass(frozen=True)
class TableOf(Primitive[Table]):
    """A file of the tenant's folder, or the table that a setting names."""

    file: str
    setting: str
    unavailable: type[DependencyError] = RecordsUnavailableError
    """What the table's methods raise."""
    append_only: bool = False
    """Of the file, as ``SqliteTable`` has it; so for ``overwrites`` and ``synced``."""
    overwrites: bool = False
    synced: bool = True
    expires: bool = False
    """Whether the service deletes the file's expired items; on AWS the table's time to live does."""


@dataclass(frozen=True)
class QueueOf(Primitive[IngestionQueue]):
    """A named queue of the file ``queue.sqlite``, or the one whose URL a setting has."""

    name: str
    setting: str


@dataclass(frozen=True)
class BlobsOf(Primitive[Blobs]):
    """A folder of the tenant, or the bucket that a setting names, with arguments for ``FolderBlobs``
    (``what``, ``synced``, ``events``) and ``S3Blobs`` (all but ``folder``, ``synced`` and ``events``)."""

    what: str
    """Begins the messages of errors: "The document store"."""
    folder: str
    """Relative to the tenant's folder; empty for that folder itself."""
    setting: str
    key_setting: str = ""
    """Setting with the id of the KMS key."""
    prefix: str = ""
    """Begins each key in the bucket."""
    beside: tuple[tuple[str, str], ...] = ()
    """(prefix, setting): keys with this prefix are in the bucket that this setting names, if it has a
    value."""
    synced: bool = True
    checked: bool = False
    longest_bytes: int | None = None
    events: QueueOf | None = None


@dataclass(frozen=True)
class WordsOf(Primitive[Words]):
    """A file or folder of the tenant (``place``), or the parameter or path of parameters of SSM that a
    setting names. Where that setting has no value, a service on AWS reads the file, too."""

    place: str
    setting: str


@dataclass(frozen=True)
class LockOf(Primitive[WriteTurn]):
    """A lock. On this machine a file that a process locks: the system frees it when the process ends, however
    it ends. On AWS an item of the table of states (``StoredWriteTurn``) with an end, because a killed holder
    frees nothing."""

    file: str
    key: str
    """The item's sort key on AWS."""
    late: str
    """Message of the error where the lock is not free in time, on AWS; ``late_here`` on this machine."""
    late_here: str
    waits_s: float = 0.0
    """How long to wait for the lock; 0 refuses at once."""
    lasts_s: float = 900.0
    """After this time a lock on AWS is free again. A function runs at most so long."""


@dataclass(frozen=True, eq=False)
class Store(Generic[Opened, Kept]):
    """A store: the primitive ``over`` which it is written, and ``make``, which makes it from the opened
    one."""

    over: Primitive[Opened]
    make: Callable[[Opened, Clock], Kept]


class Stores(Protocol):
    """The stores of one tenant: ``EmbeddedTenant``, ``AwsStores``, or those that settings choose."""

    async def of(self, store: Store[Any, Kept] | Primitive[Kept]) -> Kept:
        """Return a store, or a primitive by itself; each is opened once."""
        ...
