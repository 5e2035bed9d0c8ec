"""What recall keeps and serves. Nothing of it has a document's words: they are read by place when shown.

A document changes, and an agent had sent a reply that cites one of its lines:

1. ``KnownContent`` of the document gets the new content's hash and the next number.
2. Every ``SentReply`` that rests on the document is looked at. If a cited line is gone, the reply gets a
   ``RecallRevision`` in the work list, for a person who tells the patient.
3. ``RecallChange`` records that this was done, and how many replies are affected.

``StoredSends`` reads the table of records, ``StoredRecalls`` has rows of its own in the desk's table. None is
deleted.

| partition (``pk``) | sort (``sk``) | ``body`` |
| --- | --- | --- |
| ``recall-known`` | ``DOCUMENT`` | ``KnownContent``: the content that was looked at last |
| ``recall-replies#DOCUMENT`` | ``SEND`` | ``SentReply``: a reply that rests on the document |
| ``recall-items`` | ``ITEM`` | ``RecallRevision``: the newest one of a reply in the work list |
| ``recall-item#ITEM`` | ``revision#N`` | ``RecallRevision``: one of an item, N in eight digits |
| ``recall-changes`` | ``NOTED_AT#DOCUMENT#N`` | ``RecallChange``: a change, and what its look found |
| ``recall-walk`` | ``walk`` | none; ``until``: the time until which sends and writes of states were read |

Conditions of writes compare ``number`` and ``looked`` of a known content, and ``revision`` of a newest
revision. The desk's index lists newest revisions: ``listed`` is ``recall#STATE``, ``listed_at``
``DUE_ON#ITEM``.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Sequence
from datetime import date, datetime
from enum import StrEnum
from itertools import chain
from typing import Literal, TypeVar

from pydantic import Field, model_validator

from assistant.domain.answers import QuotedUnit, StoredSent
from assistant.domain.errors import ConflictError
from assistant.domain.public import PublicModel, RecordId
from assistant.stores.desk import DESK_TABLE
from assistant.stores.formats import bodies_of
from assistant.stores.records import RECORDS_TABLE
from assistant.stores.store import Store
from assistant.stores.table import ABSENT, LAST, LOWEST, Condition, Item, Range, Table, equal, keyed, sortable
from assistant.tenant.deployed_names import BY_TIME, OUTBOX

GONE = ""
"""Content's hash of a withdrawn document, and of an approved answer that was suspended or withdrawn."""
RECALL = "recall"
"""``by`` of a revision that the sweep makes without a person's decision."""
_DOCUMENT_DIGITS, _SEND_DIGITS = 20, 28
"""Hexadecimal digits of the two hashes in an item's id: 48 together, and the first part lists a document's
items."""


def digest_of(document_id: str) -> str:
    """Return the beginning of the ids of all items about a document."""
    return hashlib.sha256(document_id.encode()).hexdigest()[:_DOCUMENT_DIGITS]


class SentReply(PublicModel):
    """A reply that an agent sent, and the lines of one document that its answer cites."""

    send_id: RecordId
    answer_id: RecordId
    conversation_id: RecordId
    agent: str
    customer: str | None = None
    chat: str | None = None
    """By the question's care context; null without one, and in replies of earlier releases."""
    sent_at: datetime
    reader_labels: tuple[str, ...]
    """Access labels under which the question was asked: only a reader who holds them all sees the reply."""
    document_id: str
    units: tuple[QuotedUnit, ...]

    @property
    def item_id(self) -> str:
        """Id of its one place in the work list."""
        send = hashlib.sha256(self.send_id.encode()).hexdigest()[:_SEND_DIGITS]
        return f"{digest_of(self.document_id)}{send}"


class KnownContent(PublicModel):
    """The content of a document that was looked at last."""

    document_id: str
    content: str
    """Its hash, or GONE."""
    before: str = GONE
    number: int = 0
    """Number of the document's change that led to it; 0: there was none since recall began."""
    noted_at: datetime
    is_looked_at: bool = True
    """False until every reply that rests on the document was looked at."""


class RecallChange(PublicModel):
    """A change of a document or an approved answer, and which replies rest on it: the proof of the look."""

    change_id: str
    document_id: str
    title: str = ""
    """Empty in the store."""
    kind: Literal["changed", "withdrawn", "restored"]
    """``withdrawn``: also of an approved answer that was suspended, and of a document whose last day is over.
    ``restored``: it answers again."""
    before: str
    """Hash of the content before; empty where there was none."""
    now: str
    noted_at: datetime
    """By the store's clock, as all times here: when the change was noted. Replies that were recorded until
    then were looked at; a later one on the old words is judged when it is recorded, and is in the list."""
    looked_at: datetime
    replies: int
    """Sent replies that rest on the document, all of which were looked at."""
    affected: int
    """Those whose cited lines fell by this change. 0: nobody received words that changed."""


class RecallState(StrEnum):
    OPEN = "open"
    TOLD = "told"
    """The patient has the new words."""
    NOT_NEEDED = "not_needed"


class RecallRevision(PublicModel):
    """One revision of a reply in the work list. ``reply.units``: the cited lines that do not stand."""

    reply: SentReply
    number: int
    """Number of the document's change that it was last judged by."""
    revision: int = Field(ge=1)
    at: datetime
    by: str
    note: str = ""
    state: RecallState = RecallState.OPEN
    owner: str | None = None
    due_on: date


class RecallDecision(PublicModel):
    """``POST /v1/recalls/{item_id}``: what somebody does with a reply."""

    revision: int = Field(ge=1)
    """The newest revision that the caller saw."""
    do: Literal["take", "told", "not_needed", "reopen"]
    note: str = Field(default="", max_length=2_000)
    """Why; needed for ``not_needed`` and ``reopen``."""

    @model_validator(mode="after")
    def _says_why(self) -> RecallDecision:
        if self.do in ("not_needed", "reopen") and not self.note.strip():
            raise ValueError(f"do {self.do} needs a note that says why")
        return self


class RecallLine(PublicModel):
    """A cited line that does not stand any more. The reader's own labels decide which words are shown."""

    old: str | None
    """Null: withdrawn, not stored any more, or not open to this reader."""
    new: str | None
    """The nearest line in its place; null also where there is none."""


class Recall(PublicModel):
    """A sent reply that rests on words which do not stand any more."""

    item_id: str
    item: RecallRevision
    title: str
    """Of the document, or the first question of the approved answer; empty where the reader may not know of
    it."""
    is_gone: bool
    """Whether the document is withdrawn, or the approved answer suspended or withdrawn."""
    lines: tuple[RecallLine, ...]
    conversation_url: str | None


class RecallPage(PublicModel):
    """``GET /v1/recalls``: of a state the first due first, else in no order."""

    recalls: tuple[Recall, ...]
    next_after: str | None
    """Give it as ``after``, with the same filters, for the next page; a page may be short, or empty."""


class RecallDetail(PublicModel):
    """``GET /v1/recalls/{item_id}``."""

    recall: Recall
    sent: str
    """The text as it is kept: labels stand for live values."""
    history: tuple[RecallRevision, ...]
    """Oldest first."""


class RecallChangePage(PublicModel):
    """``GET /v1/recalls/changes``: the latest first."""

    changes: tuple[RecallChange, ...]
    next_after: str | None


# --- stores -----------------------------------------------------------------------------------------------
_KNOWN, _ITEMS, _CHANGES = "recall-known", "recall-items", "recall-changes"
_WALK = ("recall-walk", "walk")
_AT_ONCE = 200
"""Rows of one read, where all rows are read."""
Row = TypeVar("Row")
Page = tuple[list[Row], str | None]
"""Rows, and the ``after`` with which the next page is read; None at the end."""


class StoredSends:
    """Lists what agents sent, from the table of records.

    Raises RecordsUnavailableError. It reads an index, which may lag by a moment.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def after(self, place: str) -> AsyncIterator[tuple[str, StoredSent]]:
        """Yield the sends after a place in the order of recording, each with its place.

        A place is ``RECORDED_AT#SEND``, such as "2026-03-01T09:30:00.000000+00:00#s1"; a time alone is the
        place before its sends, and "" the beginning. A send is listed in the outbox first, and later as
        "sent"; its place stays.
        """
        reached: str | None = place
        while reached is not None:
            # The outbox first: a send that is moved in between is then in both reads, not in none.
            ranges = [Range(kind, low=_behind(reached), index=BY_TIME) for kind in (OUTBOX, "sent")]
            reads = [await self._table.query(wanted, limit=_AT_ONCE) for wanted in ranges]
            # A full read may have more rows behind its last one: only up to there are both lists complete.
            reached = min((rows[-1]["listed_at"] for rows in reads if len(rows) == _AT_ONCE), default=None)
            # The outbox has rows of other kinds, too.
            sends = {row["listed_at"]: row for row in chain(*reads) if row["pk"].startswith("sent#")}
            places = sorted(at for at in sends if reached is None or at <= reached)
            bodies = await bodies_of(self._table, [sends[at] for at in places])
            for at, body in zip(places, bodies, strict=True):
                yield at, StoredSent.model_validate_json(body)


class StoredRecalls:
    """Reads and writes recall's own rows. All methods raise RecordsUnavailableError."""

    def __init__(self, table: Table) -> None:
        self._table = table

    async def walked_until(self) -> datetime | None:
        """Return the time at which the last run that ended began; None before the first."""
        row = await self._table.get(_WALK)
        return None if row is None else datetime.fromisoformat(row["until"])

    async def walk_until(self, until: datetime) -> None:
        """Note the time at which a run began that ended, unless a later one is noted."""
        text = sortable(until)
        await self._table.put(keyed(_WALK, until=text), when=((), (("until", "<=", text),)))

    async def known(self, names: Sequence[str]) -> dict[str, KnownContent]:
        """Return known contents by document id; a document without one is absent."""
        rows = await self._table.get_many([(_KNOWN, name) for name in names])
        return {key[1]: KnownContent.model_validate_json(row["body"]) for key, row in rows.items()}

    async def add_known(self, known: KnownContent) -> None:
        """Note the first content of a document; nothing changes if one is known already."""
        await self._table.insert(_known_row(known))

    async def put_known(self, known: KnownContent, *, after: KnownContent) -> bool:
        """Replace the known content ``after``. Return False, and change nothing, if another process replaced
        it before."""
        return await self._table.put(_known_row(known), when=_is_stored(after))

    async def add_reply(self, reply: SentReply) -> None:
        """Keep that a reply rests on a document, once."""
        key = f"recall-replies#{reply.document_id}", reply.send_id
        await self._table.insert(keyed(key, body=reply.model_dump_json()))

    async def replies(self, document_id: str) -> AsyncIterator[SentReply]:
        """Yield the replies that rest on a document, in order of ``send_id``."""
        partition, after = f"recall-replies#{document_id}", ""
        while rows := await self._table.query(Range(partition, low=_behind(after)), limit=_AT_ONCE):
            for row in rows:
                yield SentReply.model_validate_json(row["body"])
            after = rows[-1]["sk"]

    async def item(self, item_id: str) -> RecallRevision | None:
        """Return the newest revision of a reply in the work list; None for one that is not in it."""
        row = await self._table.get((_ITEMS, item_id))
        return None if row is None else _revision(row)

    async def put_item(self, item: RecallRevision, *, known: KnownContent | None = None) -> None:
        """Add a revision, in one transaction. Raises ConflictError unless it follows the newest one, 1 where
        there is none, and, with ``known``, unless that is still the document's known content."""
        item_id, body = item.reply.item_id, item.model_dump_json()
        revision = keyed((f"recall-item#{item_id}", f"revision#{item.revision:08d}"), body=body)
        listed_as = {"listed": f"recall#{item.state}", "listed_at": f"{item.due_on}#{item_id}"}
        newest = keyed((_ITEMS, item_id), revision=item.revision, body=body, **listed_as)
        follows = equal(revision=item.revision - 1) if item.revision > 1 else ABSENT
        puts: list[tuple[Item, Condition]] = [(revision, ABSENT), (newest, follows)]
        if known is not None:  # written as it is: a transaction checks a row by a put alone
            puts.append((_known_row(known), _is_stored(known)))
        if not await self._table.transact(puts):
            raise ConflictError("Somebody else decided meanwhile. Read it again, then decide.")

    async def history(self, item_id: str) -> list[RecallRevision]:
        """Return an item's revisions, oldest first."""
        rows = await self._table.query(Range.prefixed(f"recall-item#{item_id}", "revision#"))
        return list(map(_revision, rows))

    async def items(self, document_id: str | None, *, after: str | None, limit: int) -> Page[RecallRevision]:
        """Return the next items of a document, or of all documents, in order of their ids."""
        beginning = "" if document_id is None else digest_of(document_id)
        wanted = Range(_ITEMS, low=_behind(after or beginning), high=f"{beginning}{LAST}")
        rows = await self._table.query(wanted, limit=limit)
        return list(map(_revision, rows)), rows[-1]["sk"] if len(rows) == limit else None

    async def items_in(self, state: str, *, after: str | None, limit: int) -> Page[RecallRevision]:
        """Return the next items in a state, the first due first, from an index that may lag by a moment."""
        wanted = Range(f"recall#{state}", low=_behind(after or ""), index=BY_TIME)
        rows = await self._table.query(wanted, limit=limit)
        return list(map(_revision, rows)), rows[-1]["listed_at"] if len(rows) == limit else None

    async def add_change(self, change: RecallChange) -> None:
        """Keep a change with what the look at its replies found, once for its id."""
        await self._table.insert(keyed((_CHANGES, change.change_id), body=change.model_dump_json()))

    async def changes(self, *, after: str | None, limit: int) -> Page[RecallChange]:
        """Return the next changes, the latest first. ``after`` is the id of the page's first change, since a
        range includes its upper bound."""
        wanted = Range(_CHANGES, high=after or LAST)
        rows = await self._table.query(wanted, descending=True, limit=limit + 1)
        changes = [RecallChange.model_validate_json(row["body"]) for row in rows]
        return changes[:limit], changes[limit].change_id if len(changes) > limit else None


RECALLS = Store(DESK_TABLE, lambda table, _: StoredRecalls(table))
SENDS = Store(RECORDS_TABLE, lambda table, _: StoredSends(table))


def _known_row(known: KnownContent) -> Item:
    key = _KNOWN, known.document_id
    return keyed(key, number=known.number, looked=known.is_looked_at, body=known.model_dump_json())


def _is_stored(known: KnownContent) -> Condition:
    """Return the condition that the document's row has this content, and is looked at if this one is."""
    return equal(number=known.number, looked=known.is_looked_at)


def _revision(row: Item) -> RecallRevision:
    return RecallRevision.model_validate_json(row["body"])


def _behind(key: str) -> str:
    """Return the lowest sort key after ``key``, as the lower bound of a range; the lowest of all for ""."""
    return f"{key}\0" if key else LOWEST
