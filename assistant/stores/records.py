"""Append-only records and live reads of one tenant in a table: every write is an insert that fails where an
item exists.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``answer#ID`` | ``answer`` | the record |
| ``answer#ID`` | ``interrupted`` | what is known when it begins: counts without a record, from ``until`` on |
| ``answer#ID`` | ``verdict#AT#ID``, ``sent#AT#ID``, ``act#AT#ID`` | its verdicts, sends and acts, in order |
| ``answer#ID`` | ``place#KIND#N`` | the record that took the Nth place of its kind (``take_place``) |
| ``answer#ID`` | ``part#HASH#N`` | parts of a body that is too large for one item |
| ``conversation#ID`` | ``AT#ANSWER`` | which answers a conversation has, in order |
| ``verdict#ID``, ``sent#ID``, ``act#ID`` | ``once`` | the first use of an id; the index lists verdicts |
| ``access#DAY`` | ``AT#WRITER#SEQUENCE`` | one read |
| ``access#DAY`` | ``AT#asked#ANSWER#KIND`` | who received the record's answer, its sources, its hash |
| ``access#DAY`` | ``AT#said#KIND#ID`` | hash of a verdict, a sent text or an act |
| ``live#DAY`` | ``AT#ID`` | a read of a live system |
| ``live-of#SUBJECT`` | ``AT#ID`` | the same read, once more for its subject |
| ``access#DAY#writers``, ``live#DAY#writers`` | ``WRITER`` | the start record of a writer's chain |

An item of ``access#DAY`` or ``live#DAY`` has its place in its writer's chain in ``link``; one of an older
release has none. A record goes into the table together with the entry that has its hash, or not at all.

A row that feedback needs (a signal) is also its entry in the outbox: an answer's row with ``is_for_desk``,
and every ``once`` row, are inserted with ``listed`` = ``outbox``. The mover copies them and then sets
``listed`` to the kind, or removes it from an answer's row (``StoredOutbox``).

Example, an agent's verdict ``v1`` on the answer ``a1`` (its time shortened): ``verdict#v1`` / ``once`` and
``answer#a1`` / ``verdict#2026-03-01T09:30#v1``, both with the verdict as body.

Accesses are read by day: the whole partition of each, page by page, without an index and without a scan. Both
items of a live read are put together, before the data are shown. A global index in place of the second would
lag, and who may change its attributes could hide a read.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from hashlib import sha256
from typing import Any, ClassVar, Generic, Literal, TypeVar

import orjson
from pydantic import BaseModel

from assistant.domain.answers import (
    Act,
    AnswerRecord,
    Sent,
    StoredAct,
    StoredCheck,
    StoredSent,
    StoredVerdict,
    Verdict,
)
from assistant.domain.audit import (
    AccessEntry,
    AccessPage,
    AccessQuery,
    AuditLink,
    AuditRecord,
    LiveRead,
    LiveReadQuery,
    day_of,
)
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import ConflictError, RecordsUnavailableError
from assistant.stores.audit import AuditChain, HashedRow
from assistant.stores.formats import PartGoneError, StoredBody, bodies_of, store_row, store_text, stored_text
from assistant.stores.store import Store, TableOf
from assistant.stores.table import Item, Key, Range, Table, key_of, keyed, sortable
from assistant.tenant import deployed_names
from assistant.tenant.deployed_names import OUTBOX

_ANSWER = "answer"
_INTERRUPTED = "interrupted"
_USED_ONCE = "once"
_PAST = 0.0
"""``until`` of an item without that attribute: a record, or an interrupted answer of an earlier release."""
_ACCESS_DAYS, LIVE_DAYS = "access#", "live#"
_WRITERS = "#writers"
"""Ends the name of the partition that has the start records of a day."""
_DAYS_A_PAGE = 400
"""Most days that one page reads: each is a query, about 5 ms of DynamoDB's. Six years are six pages."""
_DAYS_AT_ONCE = 32
"""Most days that are read at the same time: a page begins with one, and doubles while they have few reads."""
_ITEMS_A_PAGE = 2000
"""Most entries that one page reads, of all agents: about half a megabyte."""
_SAID = ("answer#", "verdict#", "sent#", "act#", "check#")
"""Begin the partitions of records, verdicts, sent texts, acts and checks."""
_UNREADABLE = (PartGoneError, zlib.error, ValueError, TypeError, LookupError, AttributeError)
"""What reading a row raises that somebody wrote by hand, or of which a part is gone."""
RECORDS_TABLE = TableOf("records.sqlite", "records_table", append_only=True)
PlaceKind = Literal["verdicts", "sends", "acts", "rereads"]
Stored = TypeVar("Stored", StoredVerdict, StoredSent, StoredAct, StoredCheck)
Entry = TypeVar("Entry", AccessEntry, LiveRead)


@dataclass(frozen=True, slots=True)
class FoundAnswer:
    """An answer that has begun, ended or not."""

    record: AnswerRecord
    """The record; for an answer without one, what was known when it began."""
    written_until: datetime | None
    """Until when it may still be written; None where it has ended, or that time is over."""


class Audited:
    """Inserts items, and audit records in their chain, in the partitions ``<family><day>``."""

    family: ClassVar[str]
    """Begins the names of the partitions: ``access#`` or ``live#``."""

    def __init__(self, table: Table, *, clock: Clock | None = None) -> None:
        self._table = table
        self._clock = clock or SystemClock()
        self._chain = AuditChain(self._put_start)

    async def add(
        self, record: BaseModel, *, at: datetime, name: str = "", items: Sequence[Item] = ()
    ) -> bool:
        """Add an audit record, and ``items`` in the same transaction; neither, and return False, where one of
        their keys is taken. A record with a ``name`` is kept once, also if several processes write it; one
        without has writer and sequence as its name."""
        place, body = sortable(at), store_row(record)

        async def put(_: str, link: AuditLink) -> bool:
            sort = name or f"{link.writer}#{link.sequence:08d}"
            key = f"{self.family}{place[:10]}", f"{place}#{sort}"
            return await self._put_linked(key, body, link, items, is_ours=not name)

        return await self._chain.append(stored_text(record), at=at, put=put)

    async def _put_start(self, content: str, link: AuditLink) -> bool:
        key = f"{self.family}{link.day}{_WRITERS}", link.writer
        return await self._put_linked(key, store_text(content), link, (), is_ours=True)

    async def _put_linked(
        self, key: Key, body: StoredBody, link: AuditLink, items: Sequence[Item], *, is_ours: bool
    ) -> bool:
        """Insert an audit record with ``items`` (see ``PutRecord``); return False where a key is taken.

        ``is_ours``: the key contains this process's writer, so an item that has it is this one, written
        before. It is then not read: some roles may only put.
        """
        entry = await self._after_parts(key, body, link=link.model_dump_json())
        if await self._table.insert(*items, entry) or is_ours:
            return True
        existing = await self._table.get(key)
        return existing is not None and _content(existing) == _content(entry)

    async def _after_parts(self, key: Key, body: StoredBody, **more: Any) -> Item:
        """Insert the parts of a body; return the item that names them, to be inserted after them."""
        parts = (keyed((key[0], name), **part) for name, part in body.parts)
        await asyncio.gather(*map(self._table.insert, parts))
        return keyed(key, **body.attributes, **more)

    async def _insert_item(self, item: Item) -> Item | None:
        """Insert an item; return the other item that has its key, or None; also None for an equal item."""
        if await self._table.insert(item):
            return None
        existing = await self._table.get(key_of(item))
        if existing is None:  # records are never deleted
            raise RecordsUnavailableError("A record exists and cannot be read. Retry.")
        return None if _content(existing) == _content(item) else existing


class StoredRecords(Audited):
    """The append-only store of answers, verdicts, sends, acts and reads. Nothing in it is changed or deleted.

    All methods raise RecordsUnavailableError.
    """

    family = _ACCESS_DAYS

    def __init__(self, table: Table, *, clock: Clock | None = None) -> None:
        super().__init__(table, clock=clock)
        self._places: dict[str, asyncio.Task[Item | None]] = {}
        """By answer without a record: the task that writes its place in its conversation, or has written it.
        So ``put_answer`` does not write again what ``begin_answer`` wrote."""

    async def put_answer(self, record: AnswerRecord) -> None:
        """Store a finished answer; a second record with the same id raises ConflictError."""
        existing = await self._put(record, kind=_ANSWER)
        self._places.pop(record.answer_id, None)
        if existing is not None:
            raise ConflictError(f"The answer {record.answer_id} is already recorded.")

    async def begin_answer(self, record: AnswerRecord, *, until: datetime) -> None:
        """Store what is known of an answer that begins, as an interrupted one. It counts as an answer from
        ``until`` on, and only while ``put_answer`` did not store the record. A repeat changes nothing."""
        await self._put(record, kind=_INTERRUPTED, more={"until": until.timestamp()})

    async def get_answer(self, answer_id: str) -> AnswerRecord | None:
        """Return the record of an answer that has ended, or what is known of one that was interrupted. None
        where there is none, or it may still be written."""
        answer = await self.find_answer(answer_id)
        return None if answer is None or answer.written_until is not None else answer.record

    async def find_answer(self, answer_id: str) -> FoundAnswer | None:
        """Return an answer that has begun, ended or not."""
        return (await self.find_answers([answer_id])).get(answer_id)

    async def find_answers(self, answer_ids: Sequence[str]) -> dict[str, FoundAnswer]:
        """Return the answers by id: each by its record, or by what was known when it began."""
        keys = [(f"answer#{answer_id}", kind) for answer_id in answer_ids for kind in (_INTERRUPTED, _ANSWER)]
        items = await self._table.get_many(keys)
        # By partition: _ANSWER comes after _INTERRUPTED in ``keys``, so a record replaces an interruption.
        chosen = {key[0]: items[key] for key in keys if key in items}
        bodies, now_s = await bodies_of(self._table, list(chosen.values())), self._clock.now().timestamp()
        answers: dict[str, FoundAnswer] = {}
        for item, body in zip(chosen.values(), bodies, strict=True):
            record, until_s = AnswerRecord.model_validate_json(body), item.get("until", _PAST)
            until = datetime.fromtimestamp(until_s, UTC) if until_s > now_s else None
            answers[record.answer_id] = FoundAnswer(record, until)
        return answers

    async def list_conversation(self, conversation_id: str, *, limit: int = 50) -> list[AnswerRecord]:
        """Return the conversation's newest ``limit`` answers, oldest first; empty if there is none."""
        # Read more than ``limit``: an entry may have no record yet, or belong to a refused second record.
        wanted = Range(f"conversation#{conversation_id}")
        entries = await self._table.query(wanted, descending=True, limit=2 * limit + 10)
        newest_first: list[AnswerRecord] = []
        for start in range(0, len(entries), limit):
            page = entries[start : start + limit]
            records = await self.find_answers([entry["answer_id"] for entry in page])
            for entry in page:
                answer = records.get(entry["answer_id"])
                if answer is None or answer.written_until is not None:
                    continue
                if _conversation_key(answer.record) == key_of(entry):
                    newest_first.append(answer.record)
            if len(newest_first) >= limit:
                break
        return newest_first[:limit][::-1]

    async def take_place(self, answer_id: str, kind: PlaceKind, name: str, *, most: int) -> bool:
        """Take one of the ``most`` places that an answer has for records of a kind; return False where others
        have all. A name that has a place keeps it. Calls at once never take more than ``most``."""
        partition, places = f"answer#{answer_id}", f"place#{kind}#"
        taken = await self._table.query(Range.prefixed(partition, places), limit=most)
        if any(item["name"] == name for item in taken):
            return True
        for number in range(len(taken), most):  # another call may take a place first: then try the next one
            item = keyed((partition, f"{places}{number:04d}"), name=name)
            if await self._insert_item(item) is None:
                return True
        return False

    async def append_verdict(self, answer_id: str, verdict: Verdict, *, agent: str) -> StoredVerdict:
        """Store a verdict. The same verdict_id with the same content is one record; with other content it
        raises ConflictError."""
        stored = StoredVerdict(answer_id=answer_id, agent=agent, at=self._clock.now(), verdict=verdict)
        return await self._append("verdict", verdict.verdict_id, stored)

    async def append_sent(
        self, answer_id: str, sent: Sent, *, agent: str, delivered_hash: str | None = None
    ) -> StoredSent:
        """Store what was sent; ids as in append_verdict."""
        now = self._clock.now()
        stored = StoredSent(
            answer_id=answer_id, agent=agent, at=now, sent=sent, delivered_hash=delivered_hash
        )
        return await self._append("sent", sent.send_id, stored)

    async def list_verdicts(self, answer_id: str | None = None, *, limit: int = 1000) -> list[StoredVerdict]:
        """Return verdicts oldest first, of one answer, or of all, of which the index may lag by a moment."""
        if answer_id is None:
            return await self._all_verdicts(limit)
        return await self._listed(answer_id, "verdict", StoredVerdict, limit=limit)

    async def acted_since(self, since: datetime) -> set[str]:
        """Return the answers that got a verdict or a sent text since then. The index may lag by a moment."""
        rows: dict[Key, Item] = {}
        # The outbox first: an item that is moved meanwhile is rows twice, and never missed.
        for kind in (OUTBOX, "verdict", "sent"):
            items = await self._table.query(replace(listed(kind), low=sortable(since)))
            rows |= {key_of(item): item for item in items if item["pk"].startswith(("verdict#", "sent#"))}
        bodies = await bodies_of(self._table, list(rows.values()))
        return {str(orjson.loads(body)["answer_id"]) for body in bodies}

    async def list_sent(self, answer_id: str) -> list[StoredSent]:
        """Return the sent texts of an answer, oldest first."""
        return await self._listed(answer_id, "sent", StoredSent)

    async def append_act(self, answer_id: str, act: Act, *, agent: str) -> StoredAct:
        """Store what the agent did with the answer; ids as in append_verdict."""
        stored = StoredAct(answer_id=answer_id, agent=agent, at=self._clock.now(), act=act)
        return await self._append("act", act.act_id, stored)

    async def list_acts(self, answer_id: str) -> list[StoredAct]:
        """Return the acts of an answer, oldest first."""
        return await self._listed(answer_id, "act", StoredAct)

    async def append_check(self, check: StoredCheck) -> StoredCheck:
        """Store what a model said of an answer's sentences. Raises ConflictError where another check of it is
        stored."""
        return await self._append("check", check.answer_id, check, is_moved=False)

    async def check_of(self, answer_id: str) -> StoredCheck | None:
        """Return what a model said of an answer's sentences; None where none checked them."""
        return next(iter(await self._listed(answer_id, "check", StoredCheck)), None)

    async def record_access(self, entry: AccessEntry) -> None:
        """Store that somebody read a document or a record."""
        await self.add(entry, at=entry.at)

    async def list_accesses(self, query: AccessQuery) -> AccessPage:
        """Return the entries that match ``query``, oldest first, those of one instant in a fixed order: the
        recorded reads, and the ``sight`` of each answer, interrupted ones included.

        A call scans a bounded number of entries, so a page may have fewer than ``query.limit``, even none,
        and still a ``next_after``. That is opaque and valid for the same query only.
        """
        entries, after = await Listing(self._table, query, AccessEntry).by_day(_ACCESS_DAYS)
        return AccessPage(tuple(entry.model_copy(update={"rows": {}}) for entry in entries), after)

    async def audited(self, day: date) -> list[AuditRecord]:
        """Return the audit records of a day (UTC) as they are stored, in no order: recorded reads, sights of
        answers, reads of live systems, and the start records of their writers."""
        names = [f"{family}{day}{end}" for family in (_ACCESS_DAYS, LIVE_DAYS) for end in ("", _WRITERS)]
        # Parts of a body that is too large for one item have no body.
        rows = [item for name in names for item in await self._table.query(Range(name))]
        items = [item for item in rows if "piece" not in item]
        bodies = await bodies_of(self._table, items)
        return [
            AuditRecord(
                body.decode(), AuditLink.model_validate_json(item["link"]) if "link" in item else None
            )
            for item, body in zip(items, bodies, strict=True)
        ]

    async def hashed_rows(self) -> AsyncIterator[HashedRow]:
        """Yield every record, verdict, sent text and act of the tenant: it reads the whole table once."""
        async for items in self._table.pages():
            for item in items:
                if not item["pk"].startswith(_SAID) or item["sk"].startswith(("place#", "part#")):
                    continue
                try:
                    (body,) = await bodies_of(self._table, [item])
                    said = orjson.loads(body)
                    day = day_of(datetime.fromisoformat(said.get("asked_at") or said["at"]))
                    yield " ".join(key_of(item)), (day, _row_hash(body, item))
                except _UNREADABLE:
                    yield " ".join(key_of(item)), None

    async def _all_verdicts(self, limit: int) -> list[StoredVerdict]:
        """Return the oldest verdicts of all answers, whether the mover has moved them or not."""
        rows: dict[Key, Item] = {}
        # The outbox first: a verdict that is moved meanwhile is in both lists, and never in none.
        for item in await self._table.query(listed(OUTBOX)):
            if item["pk"].startswith("verdict#"):
                rows[key_of(item)] = item
        for item in await self._table.query(listed("verdict"), limit=limit):
            rows[key_of(item)] = item
        oldest = sorted(rows.values(), key=lambda item: item["listed_at"])[:limit]
        return [StoredVerdict.model_validate_json(body) for body in await bodies_of(self._table, oldest)]

    async def _listed(
        self, answer_id: str, kind: str, model: type[Stored], *, limit: int | None = None
    ) -> list[Stored]:
        items = await self._table.query(Range.prefixed(f"answer#{answer_id}", f"{kind}#"), limit=limit)
        return [model.model_validate_json(body) for body in await bodies_of(self._table, items)]

    async def _put(self, record: AnswerRecord, *, kind: str, more: Item | None = None) -> Item | None:
        """Write the record, its place in the conversation and its access; return another record that has its
        key.

        All go out at once, mostly in one call. When one fails, the caller gets the error and repeats all.
        """
        if kind == _ANSWER and record.is_for_desk:
            more = _in_outbox(record.finished_at, record.answer_id)
        key = f"answer#{record.answer_id}", kind
        item = await self._after_parts(key, store_row(record), **(more or {}))
        sight = record.sight().model_copy(update={"rows": _rows(stored_text(record), item)})
        seen = self.add(sight, at=sight.at, name=f"asked#{record.answer_id}#{kind}", items=[item])
        placed = self._place(record)
        is_new, _ = await asyncio.gather(seen, asyncio.shield(placed))
        return None if is_new else await self._insert_item(item)

    def _place(self, record: AnswerRecord) -> asyncio.Task[Item | None]:
        """Return the task that puts an answer into its conversation; start it where none has."""
        answer_id = record.answer_id
        if (writing := self._places.get(answer_id)) is None:
            entry = keyed(_conversation_key(record), answer_id=answer_id)
            writing = self._places[answer_id] = asyncio.create_task(self._insert_item(entry))
            writing.add_done_callback(lambda task: self._forget(answer_id, task))
        return writing

    def _forget(self, answer_id: str, writing: asyncio.Task[Item | None]) -> None:
        """Forget a task that failed, so that the next call writes again."""
        if writing.cancelled() or writing.exception() is not None:
            self._places.pop(answer_id, None)

    async def _append(self, kind: str, record_id: str, stored: Stored, *, is_moved: bool = True) -> Stored:
        """Write ``stored`` under its id, once in the tenant, and in its answer's list, with its audit record.
        ``is_moved``: whether it waits in the outbox for the feedback store.

        A repeat finds the first and returns it. Only the time may differ: it is when the call came.
        """
        body, once = store_row(stored), (f"{kind}#{record_id}", _USED_ONCE)
        in_list = f"answer#{stored.answer_id}", f"{kind}#{sortable(stored.at)}#{record_id}"
        items = await asyncio.gather(
            self._after_parts(once, body, **(_in_outbox(stored.at, record_id) if is_moved else {})),
            self._after_parts(in_list, body),
        )
        rows = _rows(stored_text(stored), *items)
        entry = AccessEntry(
            at=stored.at, agent=stored.agent, kind="said", subject_id=stored.answer_id, rows=rows
        )
        if await self.add(entry, at=stored.at, name=f"said#{kind}#{record_id}", items=items):
            return stored
        existing = await self._table.get(once)
        if existing is None:  # another write came between
            raise RecordsUnavailableError("A record exists and cannot be read. Retry.")
        (kept,) = await bodies_of(self._table, [existing])
        first = type(stored).model_validate_json(kept)
        if first.model_copy(update={"at": stored.at}) != stored:
            raise ConflictError(f"The id {record_id} was used before with other content. Use a new id.")
        return first


def listed(kind: str) -> Range:
    """Return the rows that are listed as ``kind``, oldest first."""
    return Range(kind, index=deployed_names.BY_TIME)


def _in_outbox(at: datetime, record_id: str) -> Item:
    """Return the attributes that put an item into the outbox, for the mover."""
    return {"listed": OUTBOX, "listed_at": f"{sortable(at)}#{record_id}"}


def _content(item: Item) -> Item:
    """Return an item without the attributes of its index, which the mover changes."""
    return {name: value for name, value in item.items() if name not in ("listed", "listed_at")}


def _row_hash(body: str | bytes, item: Item) -> str:
    """Return the SHA-256 (hex) of a row: of its JSON in canonical form, and of ``until``. Entries depend on
    this form: never change it."""
    row = orjson.loads(body), float(item.get("until", _PAST))
    return sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _rows(body: str, *items: Item) -> dict[str, str]:
    """Return the hash of each item of that body by its name, as ``AccessEntry.rows`` has it: the name is
    "answer#a1 sent#2026-03-01T09:30:00.000000+00:00#s1"."""
    return {" ".join(key_of(item)): _row_hash(body, item) for item in items}


def _conversation_key(record: AnswerRecord) -> Key:
    return f"conversation#{record.conversation_id}", f"{sortable(record.asked_at)}#{record.answer_id}"


RECORDS = Store(RECORDS_TABLE, lambda table, clock: StoredRecords(table, clock=clock))


class Listing(Generic[Entry]):
    """Reads one page: entries that a query wants, oldest first, and ``next_after``, the place where the next
    page begins (None on the last one). A place is a sort key, ``AT#…``. Make one for each page.

    ``entries, next_after = await Listing(table, query, AccessEntry).by_day("access#")``
    """

    def __init__(self, table: Table, query: AccessQuery | LiveReadQuery, model: type[Entry]) -> None:
        self._table = table
        self._wants: Callable[[Any], bool] = query.wants
        self._limit = query.limit
        self._model = model
        self._low = max(sortable(query.since), query.after or "")
        self._high = sortable(query.until)
        self._entries: list[tuple[str, Entry]] = []
        """(place, entry) of the entries that the query wants."""

    async def of_partition(self, partition: str) -> tuple[tuple[Entry, ...], str | None]:
        """Read a page of one partition."""
        items = await self._items(partition, self._low)
        await self._add(items)
        return self._page(after=_end_of(items))

    async def by_day(self, prefix: str) -> tuple[tuple[Entry, ...], str | None]:
        """Read a page of the partitions ``<prefix><day>``, day by day from where the page begins. It ends at
        a day that has more than _ITEMS_A_PAGE entries, once enough entries were read, or after _DAYS_A_PAGE
        days.
        """
        seen = 0
        for days in _groups(self._low, self._high):
            starts = (self._items(f"{prefix}{day[:10]}", max(self._low, day)) for day in days)
            for day, items in zip(days, await asyncio.gather(*starts), strict=True):
                await self._add(items)
                seen += len(items)
                if (end := _end_of(items)) is not None:
                    return self._page(after=end)
                if seen >= _ITEMS_A_PAGE or len(self._entries) >= self._limit:
                    return self._page(after=self._if_below(_start_of(_day(day) + timedelta(days=1))))
        return self._page(after=self._if_below(_start_of(_day(self._low) + timedelta(days=_DAYS_A_PAGE))))

    async def _items(self, partition: str, low: str) -> list[Item]:
        """Return the first _ITEMS_A_PAGE items after ``low`` and before ``high``. ``low`` may be the last
        item of the page before. ``high`` is an instant, and a place has an id behind it, so none is equal."""
        if low >= self._high:
            return []
        items = await self._table.query(Range(partition, low, self._high), limit=_ITEMS_A_PAGE + 1)
        return [item for item in items if item["sk"] != low][:_ITEMS_A_PAGE]

    async def _add(self, items: Sequence[Item]) -> None:
        """Add the entries that the query wants. Of an answer, whose sight was stored when it began and again
        with its record, only the latter is added, if it is in the items."""
        places = {self._low, *(item["sk"] for item in items)}
        for item, body in zip(items, await bodies_of(self._table, items), strict=True):
            place, entry = item["sk"], self._model.model_validate_json(body)
            of_record = place.removesuffix(_INTERRUPTED) + _ANSWER
            if self._wants(entry) and not (place.endswith(f"#{_INTERRUPTED}") and of_record in places):
                self._entries.append((place, entry))

    def _page(self, *, after: str | None) -> tuple[tuple[Entry, ...], str | None]:
        """Return the entries that fit into a page, and where the next one begins. ``after``: the place where
        reading ended, None where nothing follows; entries that do not fit come before it."""
        kept = self._entries[: self._limit]
        is_cut = len(self._entries) > self._limit
        return tuple(entry for _, entry in kept), kept[-1][0] if is_cut else after

    def _if_below(self, start: str) -> str | None:
        """Return the start of a day, or None where the period has ended before it."""
        return start if start < self._high else None


def _end_of(items: Sequence[Item]) -> str | None:
    """Return the place of the last item where its partition may have more."""
    return str(items[-1]["sk"]) if len(items) >= _ITEMS_A_PAGE else None


def _groups(low: str, high: str) -> list[list[str]]:
    """Return the first instants of the days from ``low`` to before ``high``, at most _DAYS_A_PAGE, in groups
    of 1, 2, 4, … up to _DAYS_AT_ONCE days that are read at the same time."""
    first = _day(low)
    count = min(_DAYS_A_PAGE, (_day(high) - first).days + 1)
    days = [day for number in range(count) if (day := _start_of(first + timedelta(days=number))) < high]
    groups: list[list[str]] = []
    size = 1
    while days:
        groups.append(days[:size])
        days, size = days[size:], min(2 * size, _DAYS_AT_ONCE)
    return groups


def _day(instant: str) -> date:
    return date.fromisoformat(instant[:10])


def _start_of(day: date) -> str:
    return sortable(datetime(day.year, day.month, day.day, tzinfo=UTC))
