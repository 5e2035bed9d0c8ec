"""What the mover of feedback takes: the outbox among the records. And the files that it writes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from assistant.domain.acts import StoredAct
from assistant.domain.answers import StoredSent, StoredVerdict
from assistant.options.feedback.ports import TEXTS, OutboxKind, OutboxRow
from assistant.stores.formats import bodies_of
from assistant.stores.records import RECORDS_TABLE, listed
from assistant.stores.store import BlobsOf, Store
from assistant.stores.table import Item, Table, equal, key_of
from assistant.tenant.deployed_names import OUTBOX as PENDING

_KIND_OF: Mapping[str, OutboxKind] = {"answer": "answer", "verdict": "verdict", "sent": "sent", "act": "act"}
_MODEL_OF = {"verdict": StoredVerdict, "sent": StoredSent, "act": StoredAct}
_SEPARATOR = "|"


class StoredOutbox:
    """The rows of the answers' store that the mover has still to take. A row enters it in the same write that
    stores it. All methods raise RecordsUnavailableError.

    The index may lag by a moment: a row that was just confirmed may be pending once more.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def pending(self, *, limit: int = 500) -> list[OutboxRow]:
        """Return rows that were not confirmed, oldest first."""
        items = await self._table.query(listed(PENDING), limit=limit)
        acted = [item for item in items if _kind(item) != "answer"]
        bodies = dict(zip(map(key_of, acted), await bodies_of(self._table, acted), strict=True))
        return [_row(item, bodies.get(key_of(item))) for item in items]

    async def confirm(self, rows: Sequence[OutboxRow]) -> None:
        """Take rows out, after their events are in the feedback store. A second call changes nothing."""
        await asyncio.gather(*(self._confirm(row) for row in rows))

    async def _confirm(self, row: OutboxRow) -> None:
        partition, _, sort = row.row_id.rpartition(_SEPARATOR)
        is_listed = equal(listed=PENDING)
        if row.kind == "answer":
            await self._table.change((partition, sort), remove=["listed", "listed_at"], when=is_listed)
        else:
            await self._table.change((partition, sort), put={"listed": row.kind}, when=is_listed)


def _kind(item: Item) -> OutboxKind:
    return _KIND_OF[item["pk"].partition("#")[0]]


def _row(item: Item, body: bytes | None) -> OutboxRow:
    kind, (partition, sort) = _kind(item), key_of(item)
    stored = None if body is None else _MODEL_OF[kind].model_validate_json(body)
    answer_id = partition.partition("#")[2] if stored is None else stored.answer_id
    return OutboxRow(f"{partition}{_SEPARATOR}{sort}", kind, answer_id, stored)


OUTBOX = Store(RECORDS_TABLE, lambda table, _: StoredOutbox(table))
FEEDBACK_FILES = BlobsOf(
    "The feedback store",
    folder="feedback",
    setting="labels_bucket",
    key_setting="feedback_key_id",
    # A lock, which texts may not have, is a whole bucket's (docs/decisions/0050-feedback-on-aws.md).
    beside=((TEXTS, "texts_bucket"),),
)
