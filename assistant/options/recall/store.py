"""What recall keeps of one tenant, in the desk's table. Nothing in it is deleted, and no row has a text of a
document.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``recall-known`` | ``DOCUMENT`` | the content that was looked at last |
| ``recall-replies#DOCUMENT`` | ``SEND`` | a sent reply that rests on the document |
| ``recall-items`` | ``ITEM`` | the newest revision of a reply in the work list |
| ``recall-item#ITEM`` | ``revision#N`` | one revision |
| ``recall-changes`` | ``NOTED_AT#DOCUMENT#N`` | a change, and what its look found |
| ``recall-walk`` | ``walk`` | until when the list of sends was read |
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from assistant.domain.answers import StoredSent
from assistant.domain.errors import ConflictError
from assistant.options.recall.domain import KnownContent, RecallChange, RecallRevision, SentReply, digest_of
from assistant.stores.desk import DESK_TABLE
from assistant.stores.formats import bodies_of
from assistant.stores.records import RECORDS_TABLE, listed
from assistant.stores.store import Store
from assistant.stores.table import ABSENT, LAST, Condition, Item, Range, Table, equal, keyed, sortable
from assistant.tenant.deployed_names import DESK, OUTBOX

_KNOWN, _ITEMS, _CHANGES = "recall-known", "recall-items", "recall-changes"
_WALK = ("recall-walk", "walk")
PAGE = 200
"""Rows of one read."""


class StoredSends:
    """Lists what agents sent, in the order of recording, from the table of records.

    Raises RecordsUnavailableError. It reads an index, which may lag by a moment.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def after(self, place: str) -> tuple[list[tuple[str, StoredSent]], str | None]:
        """Return the next sends after a place in the list, each with its place, and the place from which to
        go on; None at the end.

        A send is first in the outbox, then in the list "sent". A full page of one list ends what is known of
        both, so later places of the other one are left for the next call.
        """
        rows, last_place = dict[str, Item](), LAST
        # The outbox first: a send that is moved in between is then in both reads, not in none.
        for kind in (OUTBOX, "sent"):
            behind = Range(kind, low=_behind(place), index=listed(kind).index)
            items = await self._table.query(behind, limit=PAGE)
            rows |= {item["listed_at"]: item for item in items if item["pk"].startswith("sent#")}
            if len(items) == PAGE:
                last_place = min(last_place, str(items[-1]["listed_at"]))
        places = sorted(at for at in rows if at <= last_place)
        bodies = await bodies_of(self._table, [rows[at] for at in places])
        sends = [StoredSent.model_validate_json(body) for body in bodies]
        return list(zip(places, sends, strict=True)), None if last_place == LAST else last_place


class StoredRecalls:
    """Reads and writes the items of the module's table. All methods raise RecordsUnavailableError."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def walked_until(self) -> str:
        """Return the time up to which sends were read, as text that sorts by time; "" before the first
        walk."""
        row = await self._table.get(_WALK)
        return "" if row is None else str(row["until"])

    async def walk_until(self, until: datetime) -> None:
        """Note the time up to which sends were read, unless a later one is noted."""
        place = sortable(until)
        await self._table.put(keyed(_WALK, until=place), when=((), (("until", "<=", place),)))

    async def known(self, names: Sequence[str]) -> dict[str, KnownContent]:
        """Return known contents by document id; a document without one is absent."""
        rows = await self._table.get_many([(_KNOWN, name) for name in names])
        return {key[1]: KnownContent.model_validate_json(row["body"]) for key, row in rows.items()}

    async def known_between(self, first: str, last: str) -> list[KnownContent]:
        """Return the known contents of the documents from ``first`` to ``last``: a range is read for a
        twentieth of what its single items cost on DynamoDB."""
        rows = await self._table.query(Range(_KNOWN, low=first, high=last))
        return [KnownContent.model_validate_json(row["body"]) for row in rows]

    async def add_known(self, known: KnownContent) -> None:
        """Note the first content of a document, unless there is one."""
        await self._table.insert(_known_row(known))

    async def put_known(self, known: KnownContent, *, after: KnownContent) -> bool:
        """Replace ``after``. Return False if the stored one is not ``after`` any more: another process was
        first."""
        return await self._table.put(_known_row(known), when=_is(after))

    async def add_reply(self, reply: SentReply) -> None:
        """Keep that a reply rests on a document, once."""
        key = _replies(reply.document_id), reply.send_id
        await self._table.insert(keyed(key, body=reply.model_dump_json()))

    async def replies(self, document_id: str, *, after: str) -> list[SentReply]:
        """Return the next PAGE replies that rest on a document, in order of ``send_id``."""
        rows = await self._table.query(Range(_replies(document_id), low=_behind(after)), limit=PAGE)
        return [SentReply.model_validate_json(row["body"]) for row in rows]

    async def item(self, item_id: str) -> RecallRevision | None:
        """Return the newest revision of a reply that is in the work list."""
        row = await self._table.get((_ITEMS, item_id))
        return None if row is None else _revision(row)

    async def put_item(self, item: RecallRevision, *, known: KnownContent | None = None) -> None:
        """Add a revision in one transaction. Raises ConflictError unless it follows the newest one, and, with
        ``known``, unless the document's known content is still this one."""
        item_id, body = item.reply.item_id, item.model_dump_json()
        listed_as = {"listed": f"recall#{item.state}", "listed_at": f"{item.due_on}#{item_id}"}
        pointer = keyed((_ITEMS, item_id), revision=item.revision, body=body, **listed_as)
        follows = equal(revision=item.revision - 1) if item.revision > 1 else ABSENT
        puts: list[tuple[Item, Condition]] = [
            (keyed((_item(item_id), f"revision#{item.revision:08d}"), body=body), ABSENT),
            (pointer, follows),
        ]
        if known is not None:
            puts.append((_known_row(known), _is(known)))
        if not await self._table.transact(puts):
            raise ConflictError("Somebody else decided meanwhile. Read it again, then decide.")

    async def history(self, item_id: str) -> list[RecallRevision]:
        """Return an item's revisions, oldest first."""
        rows = await self._table.query(Range.prefixed(_item(item_id), "revision#"))
        return [_revision(row) for row in rows]

    async def items(
        self, state: str | None, document_id: str | None, *, after: str | None = None, limit: int = PAGE
    ) -> tuple[list[RecallRevision], str | None]:
        """Return the next items, and where to go on; None at the end. Of a document, or of all, or, from an
        index that may lag by a moment, those in a state, the first due first."""
        prefix = "" if document_id is None else digest_of(document_id)
        wanted, place = Range(_ITEMS, _behind(after or prefix), f"{prefix}{LAST}"), "sk"
        if state is not None and document_id is None:
            wanted, place = Range(f"recall#{state}", low=_behind(after), index=DESK.index), "listed_at"
        rows = await self._table.query(wanted, limit=limit)
        return [_revision(row) for row in rows], str(rows[-1][place]) if len(rows) == limit else None

    async def add_change(self, change: RecallChange) -> None:
        """Keep a change with what the look at its replies found, once for its id."""
        await self._table.insert(keyed((_CHANGES, change.change_id), body=change.model_dump_json()))

    async def changes(
        self, *, after: str | None = None, limit: int = PAGE
    ) -> tuple[list[RecallChange], str | None]:
        """Return the next changes, the latest first, and the next ``after``; None at the end."""
        wanted = Range(_CHANGES, high=after or LAST)
        rows = await self._table.query(wanted, descending=True, limit=limit + 1)
        changes = [RecallChange.model_validate_json(row["body"]) for row in rows]
        return changes[:limit], changes[limit].change_id if len(changes) > limit else None


RECALLS = Store(DESK_TABLE, lambda table, _: StoredRecalls(table))
SENDS = Store(RECORDS_TABLE, lambda table, _: StoredSends(table))


def _known_row(known: KnownContent) -> Item:
    key = _KNOWN, known.document_id
    return keyed(key, number=known.number, looked=known.is_looked_at, body=known.model_dump_json())


def _is(known: KnownContent) -> Condition:
    """Return the condition that the stored known content is this one."""
    return equal(number=known.number, looked=known.is_looked_at)


def _revision(row: Item) -> RecallRevision:
    return RecallRevision.model_validate_json(row["body"])


def _replies(document_id: str) -> str:
    return f"recall-replies#{document_id}"


def _item(item_id: str) -> str:
    return f"recall-item#{item_id}"


def _behind(place: str | None) -> str:
    """Return the first place after one; without one the first of all, " "."""
    return f"{place}\0" if place else " "
