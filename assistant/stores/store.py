"""How a store of a tenant says what it is written over: a primitive, here and on AWS.

    RECORDS = Store(RECORDS_TABLE, lambda table, clock: StoredRecords(table, clock=clock))
    records = await stores.of(RECORDS)

A store is declared beside its class, so an option declares its own. ``opened.py`` opens primitives, and knows
no store.
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
Kept = TypeVar("Kept")


class Words(Protocol):
    """Words of one tenant by name; a place with one word has it under the name ``""``."""

    refresh_s: float
    """How old a reading may be before a request starts the next one."""

    async def read(self, name: str) -> bytes | None:
        """Return the word now; None where there is none. Raises DependencyError."""
        ...


class Primitive(Generic[Opened]):
    """Names a primitive of each tenant. Settings may have ``{tenant}`` in their value."""


@dataclass(frozen=True)
class TableOf(Primitive[Table]):
    """A file of the tenant's folder, or the table that a setting names."""

    file: str
    setting: str
    unavailable: type[DependencyError] = RecordsUnavailableError
    append_only: bool = False
    overwrites: bool = False
    synced: bool = True
    expires: bool = False
    """Whether a service deletes a file's expired items; the others are as ``SqliteTable`` has them."""


@dataclass(frozen=True)
class QueueOf(Primitive[IngestionQueue]):
    """A named queue of the file ``queue.sqlite``, or the one whose URL a setting has."""

    name: str
    setting: str


@dataclass(frozen=True)
class BlobsOf(Primitive[Blobs]):
    """A folder of the tenant, or the bucket that a setting names; the arguments of ``FolderBlobs`` and
    ``S3Blobs``."""

    what: str
    folder: str
    setting: str
    key_setting: str = ""
    prefix: str = ""
    beside: tuple[tuple[str, str], ...] = ()
    """Prefixes of keys, and the settings of their buckets."""
    synced: bool = True
    checked: bool = False
    longest_bytes: int | None = None
    events: QueueOf | None = None


@dataclass(frozen=True)
class WordsOf(Primitive[Words]):
    """A file or folder of the tenant, or the parameter or path of parameters that a setting names. Without
    that setting a service on AWS reads the file, too."""

    place: str
    setting: str


@dataclass(frozen=True)
class LockOf(Primitive[WriteTurn]):
    """A file that a process locks, which frees it when it ends, however it ends; on AWS, where a killed
    holder frees nothing, an item of the table of states with a time."""

    file: str
    key: str
    late: str
    """Message where it is not free in time."""
    late_here: str
    waits_s: float = 0.0
    lasts_s: float = 900.0
    """On AWS: as long as a function runs at most."""


@dataclass(frozen=True, eq=False)
class Store(Generic[Opened, Kept]):
    """A store, its primitive, and what makes it of that."""

    over: Primitive[Opened]
    make: Callable[[Opened, Clock], Kept]


class Stores(Protocol):
    """The stores of one tenant: ``EmbeddedTenant``, ``AwsStores``, or those that settings choose."""

    async def of(self, store: Store[Any, Kept] | Primitive[Kept]) -> Kept:
        """Return a store, or a primitive by itself; each is opened once."""
        ...
