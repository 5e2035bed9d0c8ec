"""A table of one tenant: items under a partition and a sort key, with conditions on writes.

Every store of answers, documents' states and the desk is written once over it. ``SqliteTable`` and
``DynamoDbTable`` pass one suite of tests; both hold the same items. Example::

await table.put(keyed(("item#case#7c1e", "revision#00000002"), body="{…}"), when=ABSENT)  # False: it exists
rows = await table.query(Range.prefixed("item#case#7c1e", "revision#"))                   # in order of ``sk``
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol

from assistant.tenant.deployed_names import SecondaryIndex

Value = str | int | float | bool | bytes | Sequence[str]
Item = Mapping[str, Any]
"""Attributes, each a ``Value``; ``pk`` and ``sk`` are those of its key."""
Key = tuple[str, str]
"""Values of ``pk`` and ``sk``."""
Comparison = tuple[str, Literal["=", "<>", "<="], Value]
"""An attribute of the stored item, how it compares, and with what: ``("revision", "=", 2)``."""
Condition = Sequence[Sequence[Comparison]]
"""Alternatives, at least one of which must hold. An alternative is comparisons with the stored item that must
all hold; an empty one, ``()``, holds where no item has the key. ``((), (("expires_at", "<=",
1764309600),))``: the key is free or its item has expired."""
ABSENT: Condition = ((),)
"""No item has the key."""
EXPIRES_AT = "expires_at"
"""The attribute, in epoch seconds, from which on an item counts as deleted. A table deletes it some time
later, so readers compare it."""
LOWEST, LAST = " ", "\U0010ffff"
"""Texts that sort before and after every sort key."""


@dataclass(frozen=True, slots=True)
class Range:
    """Items of a partition with sort keys from ``low`` to ``high``, both included.

    With ``index``, ``partition`` and the bounds are values of that index's attributes instead of ``pk`` and
    ``sk``. An index may lag by a moment, and has only the items that have its attributes.
    """

    partition: str
    low: str = LOWEST
    high: str = LAST
    index: SecondaryIndex | None = None

    @classmethod
    def prefixed(cls, partition: str, prefix: str) -> Range:
        """Return the items whose sort key begins with ``prefix``."""
        return cls(partition, low=prefix, high=f"{prefix}{LAST}")


class Table(Protocol):
    """The port. All methods raise the error that the table was opened with (``TableOf.unavailable``):
    RecordsUnavailableError, or DependencyError for the states of documents.

    Reads see every write that has ended, except ranges of an index.
    """

    async def now(self) -> datetime:
        """Return the store's own time: of DynamoDB's answer to a read, or SQLite's, so its machine's."""
        ...

    async def get(self, key: Key) -> Item | None: ...

    async def get_many(self, keys: Sequence[Key]) -> dict[Key, Item]:
        """Return the items that exist, by key."""
        ...

    async def query(self, wanted: Range, *, descending: bool = False, limit: int | None = None) -> list[Item]:
        """Return at most ``limit`` items in the order of their sort keys (of the index, where one is given).
        An index that stores only keys returns items with ``pk``, ``sk`` and its own attributes."""
        ...

    async def count(self, wanted: Range) -> int: ...

    def pages(self) -> AsyncIterator[list[Item]]:
        """Yield all items of the table, in no order. A write meanwhile may be in it or not."""
        ...

    async def insert(self, *items: Item) -> bool:
        """Write up to three items; none, and return False, where one of their keys is taken. Inserts at the
        same time may go out in one call."""
        ...

    async def put(self, item: Item, *, when: Condition | None = None) -> bool:
        """Write an item over the one of its key; return False where the condition does not hold."""
        ...

    async def put_each(self, puts: Sequence[tuple[Item, Condition]]) -> list[bool]:
        """``put`` each item on its own condition; return for each, in order, whether it was written."""
        ...

    async def put_many(self, items: Sequence[Item]) -> None:
        """Write items with different keys over those that have them."""
        ...

    async def transact(self, puts: Sequence[tuple[Item, Condition]]) -> bool:
        """Write all items; none, and return False, where one's condition does not hold or another write
        came between."""
        ...

    async def change(
        self, key: Key, *, put: Item | None = None, remove: Sequence[str] = (), when: Condition | None = None
    ) -> bool:
        """Set and remove attributes of an item; return False where the condition does not hold."""
        ...

    async def delete(self, key: Key, *, when: Condition | None = None) -> bool:
        """Delete an item; return False where the condition does not hold."""
        ...


def equal(**attributes: Value) -> Condition:
    """Return the condition that the stored item has these values: ``equal(revision=2, owner="a")``."""
    return (tuple((name, "=", value) for name, value in attributes.items()),)


def keyed(key: Key, /, **attributes: Value) -> dict[str, Any]:
    """Return the item with this key and these attributes."""
    return {"pk": key[0], "sk": key[1], **attributes}


def key_of(item: Item) -> Key:
    return item["pk"], item["sk"]


def sortable(at: datetime) -> str:
    """Return a time as text that sorts by time: "2026-03-01T09:30:00.000000+00:00"."""
    return at.astimezone(UTC).isoformat(timespec="microseconds")
