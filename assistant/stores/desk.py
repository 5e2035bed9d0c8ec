"""The review desk of one tenant in a table: revisions are put once; pointers move by conditional puts.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``item#KIND#ID`` | ``revision#N`` | one revision |
| ``item#KIND#ID`` | ``part#HASH#N`` | parts of a body that is too large for one item |
| ``newest#KIND`` | ``ID`` | number and, where it fits, body of the newest revision |
| ``version`` | ``version`` | the number of puts of every kind that is served |

Example, a case in revision 2: ``item#case#7c1e`` / ``revision#00000001`` and ``revision#00000002``, and the
pointer ``newest#case`` / ``7c1e`` with ``revision`` 2, ``listed`` ``case#resolved`` and ``listed_at`` for its
index.

One transaction writes revisions, their pointers and the version, each on its own condition, so ``PutItem`` is
the only action that writes: nothing is updated or deleted. A rewritten revision is put again, and the parts
of its former body are put without content. Cases are listed by an index, latest first, which may lag by a
moment; the kinds that serving reads are listed consistently.

A pointer's ``listed`` is ``case#LIST``, one of ``CASE_LISTS``, so a query has the cases of one state alone.
Releases before had ``case`` there. Each list of cases reads that partition too, and puts some of its pointers
again, until it is empty (docs/decisions/0089-cases-of-the-desk.md).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from assistant.domain.desk import (
    CASE_LISTS,
    NOT_SERVED,
    ActOfTwo,
    ActRequest,
    Case,
    DeskItem,
    DeskKind,
    Half,
    body_of_item,
    first_revision,
)
from assistant.domain.documents import contents_digest
from assistant.domain.errors import (
    ConflictError,
    ContentsChangedError,
    ForbiddenError,
    InvalidRequestError,
    RecordsUnavailableError,
    SecondPersonNeededError,
)
from assistant.stores.formats import bodies_of, part_names, store_row
from assistant.stores.group_commit import back_off
from assistant.stores.store import Store, TableOf
from assistant.stores.table import ABSENT, Condition, Item, Key, Range, Table, equal, key_of, keyed, sortable
from assistant.tenant import deployed_names

_VERSION_KEY = ("version", "version")
_ATTEMPTS = 8
"""How often a put is tried: where another put changes the version meanwhile, this one reads it again."""
_FORMER_LIST = DeskKind.CASE.value
"""Value of ``listed`` that earlier releases gave every case, whatever its state."""
_MOST_MOVED = 100
"""Most pointers that one listing moves from the former list to the list of their state: under a second."""


_Put = tuple[Item, Condition]
"""An item of a transaction, and when it may be written."""


DESK_TABLE = TableOf("desk.sqlite", "desk_table", overwrites=True)


class StoredDesk:
    """Desk items with all their revisions. Nothing is deleted; only ``rewrite`` changes a stored body, where
    a withdrawal removes a text from it, and the table then erases the overwritten value from the disk.

    All methods raise RecordsUnavailableError.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    async def now(self) -> datetime:
        """Return the store's own time, by which deadlines of items are judged."""
        return await self._table.now()

    async def version(self) -> int:
        """Return a number that grows with every ``put`` of a kind that is served: cheap, read every other
        second by each process that serves."""
        row = await self._table.get(_VERSION_KEY)
        return 0 if row is None else int(row["n"])

    async def put(self, *items: DeskItem) -> None:
        """Add a revision of each item, or none. Raises ConflictError unless every ``item.revision`` follows
        the newest one (1 for a new item). A repeat with the same content changes nothing."""
        bodies = [store_row(item) for item in items]
        for item, body in zip(items, bodies, strict=True):
            for name, part in body.parts:  # a part is named by its content: a repeat changes nothing
                await self._table.put(keyed((_partition(item.kind, item.item_id), name), **part), when=ABSENT)
        for attempt in range(_ATTEMPTS):
            if attempt:
                await back_off(attempt)
            puts: list[_Put] = []
            for item, body in zip(items, bodies, strict=True):
                same, newest = await self._revision(item), await self.get(item.kind, item.item_id)
                if follows_newest(item, same=same, newest=newest):
                    puts += self._puts(item, body.attributes, before=item.revision - 1)
            if not puts or await self._table.transact([*puts, *await self._version_puts(*items)]):
                return
        raise RecordsUnavailableError("Many writes reach the desk at once. Retry.")

    async def rewrite(self, item: DeskItem) -> None:
        """Replace the stored body of ``item.revision``, and overwrite the parts of its former body. The
        version grows. Does nothing where there is no such revision."""
        partition, body = _partition(item.kind, item.item_id), store_row(item)
        for name, part in body.parts:
            await self._table.put(keyed((partition, name), **part), when=ABSENT)
        for attempt in range(_ATTEMPTS):
            if attempt:
                await back_off(attempt)
            row = await self._table.get(_revision_key(item.kind, item.item_id, item.revision))
            newest = await self._table.get((_pointers(item.kind), item.item_id))
            if row is None or newest is None:
                return
            revision, pointer = self._puts(item, body.attributes, before=item.revision)
            kept = {name for name, _ in body.parts}  # a repeated rewrite finds its own parts: keep them
            former = [keyed((partition, name)) for name in part_names(row) if name not in kept]
            is_there = equal(pk=partition)
            # The revision of ``_puts`` must be new (ABSENT); here it must exist. Former parts lose their
            # content.
            puts = [(stored, is_there) for stored in (revision[0], *former)]
            puts += await self._version_puts(item)
            is_newest = newest["revision"] == item.revision
            if await self._table.transact([*puts, pointer] if is_newest else puts):
                return
        raise RecordsUnavailableError("Many writes reach the desk at once. Retry.")

    async def get(self, kind: DeskKind, item_id: str) -> DeskItem | None:
        """Return the newest revision; None where the item does not exist."""
        pointer = await self._table.get((_pointers(kind), item_id))
        return None if pointer is None else (await self._read_pointed([pointer]))[0]

    async def list(self, kind: DeskKind, *, listed: str | None = None, limit: int = 5_000) -> list[DeskItem]:
        """Return the newest revision of every item of a kind, the latest changed first.

        ``listed``: only the cases in this list of ``CASE_LISTS``; None: cases of all lists. Other kinds have
        no lists. The index of cases may lag by a moment.
        """
        if kind is DeskKind.CASE:
            return await self._cases(CASE_LISTS if listed is None else (listed,), limit=limit)
        items = await self._read_pointed(await self._table.query(Range(_pointers(kind))))
        return sorted(items, key=lambda item: item.at, reverse=True)[:limit]

    async def history(self, kind: DeskKind, item_id: str) -> list[DeskItem]:
        """Return all revisions of an item, oldest first."""
        revisions = Range.prefixed(_partition(kind, item_id), "revision#")
        return await self._items(await self._table.query(revisions))

    async def _cases(self, lists: Sequence[str], *, limit: int) -> list[DeskItem]:
        """Return the cases in these lists, latest first; also move some of the former list into theirs."""
        # The former list first: a case that leaves it meanwhile is met twice, and never missed.
        former = await self._listed(_FORMER_LIST)
        cases = [Case.model_validate_json(item.body) for item in await self._read_pointed(former)]
        both = list(zip(former, cases, strict=True))
        await asyncio.gather(*(self._move_to_list(pointer, case) for pointer, case in both[:_MOST_MOVED]))
        rows = [pointer for pointer, case in both if case.listed in lists]
        for name in lists:
            rows += await self._listed(_list_of(name), limit=limit)
        pointers = {key_of(row): row for row in rows}.values()  # a case that was met twice counts once
        latest = sorted(pointers, key=lambda row: str(row["listed_at"]), reverse=True)
        return await self._read_pointed(latest[:limit])

    async def _listed(self, name: str, *, limit: int | None = None) -> list[Item]:
        """Return the pointers whose ``listed`` is this name, latest first."""
        wanted = Range(name, index=deployed_names.BY_TIME)
        return await self._table.query(wanted, descending=True, limit=limit)

    async def _move_to_list(self, pointer: Item, case: Case) -> None:
        """Put a pointer into the list of its case, unless it moved meanwhile."""
        put = {**pointer, "listed": _list_of(case.listed)}
        await self._table.put(put, when=equal(revision=pointer["revision"]))

    async def _revision(self, item: DeskItem) -> DeskItem | None:
        """Return the stored revision with the number of ``item``."""
        row = await self._table.get(_revision_key(item.kind, item.item_id, item.revision))
        return None if row is None else (await self._items([row]))[0]

    async def _read_pointed(self, pointers: Sequence[Item]) -> list[DeskItem]:
        """Return the newest revisions; those too large for a pointer are read by their own keys."""
        keys = [(row["item"], row["revision_key"]) if "revision_key" in row else None for row in pointers]
        large = await self._table.get_many([key for key in keys if key is not None])
        both = zip(pointers, keys, strict=True)
        return await self._items([pointer if key is None else large[key] for pointer, key in both])

    async def _items(self, rows: Sequence[Item]) -> list[DeskItem]:
        return [DeskItem.model_validate_json(body) for body in await bodies_of(self._table, rows)]

    def _puts(self, item: DeskItem, body: Item, *, before: int) -> list[_Put]:
        """Return two writes: the new revision, and its pointer, which must be at the revision ``before`` (0:
        must not exist). The pointer has the whole body, or where that is too large the key of the
        revision."""
        key = _revision_key(item.kind, item.item_id, item.revision)
        pointer = keyed((_pointers(item.kind), item.item_id), revision=item.revision)
        pointer |= {"item": key[0], "revision_key": key[1]} if part_names(body) else body
        if item.kind is DeskKind.CASE:
            pointer["listed"] = _list_of(Case.model_validate_json(item.body).listed)
            pointer["listed_at"] = f"{sortable(item.at)}#{item.item_id}"
        return [(keyed(key, **body), ABSENT), (pointer, equal(revision=before) if before else ABSENT)]

    async def _version_puts(self, *items: DeskItem) -> list[_Put]:
        """Return the write that increases the version; none where serving reads none of the items."""
        if all(item.kind in NOT_SERVED for item in items):
            return []
        before = await self.version()
        return [(keyed(_VERSION_KEY, n=before + 1), equal(n=before) if before else ABSENT)]


DESK = Store(DESK_TABLE, lambda table, _: StoredDesk(table))


def follows_newest(item: DeskItem, *, same: DeskItem | None, newest: DeskItem | None) -> bool:
    """Return whether the revision is to be added; False where it is stored already.

    ``same``: the stored revision with its number. ``newest``: the newest stored one. Raises ConflictError
    where ``item`` does not follow ``newest``.
    """
    if same == item:
        return False
    newest_number = 0 if newest is None else newest.revision
    if item.revision != newest_number + 1:
        raise ConflictError(
            f"The newest revision of {item.kind.value} {item.item_id} is {newest_number}, and revision"
            f" {item.revision} does not follow it. Read it again and repeat the change on the newest one."
        )
    return True


def _partition(kind: DeskKind, item_id: str) -> str:
    return f"item#{kind.value}#{item_id}"


def _list_of(name: str) -> str:
    """Return the ``listed`` of one of ``CASE_LISTS``."""
    return f"{DeskKind.CASE.value}#{name}"


def _pointers(kind: DeskKind) -> str:
    """Return the partition of a kind's pointers."""
    return f"newest#{kind.value}"


def _revision_key(kind: DeskKind, item_id: str, revision: int) -> Key:
    return _partition(kind, item_id), f"revision#{revision:08d}"


WAITS_FOR = timedelta(hours=24)
"""A request that nobody confirmed within this time is void."""
HOLDS_FOR = timedelta(hours=1)
"""For this long after a confirmation the act may be repeated: a response can be lost, a long one cut off."""


@dataclass(frozen=True, slots=True)
class Contents:
    """What an act is about, as both people see it: ``Contents.of({"wiki:refill": "9f86…"}, "1
    document")``."""

    digest: str
    """Changes with every content."""
    told: str
    """In words: ``412 documents``."""

    @classmethod
    def of(cls, contents: Mapping[str, str], told: str) -> Contents:
        """``contents``: the hash or revision of each thing by its id."""
        return cls(contents_digest(contents), told)


@dataclass(frozen=True, slots=True)
class TwoPeople:
    """Lets an act run only after two people asked for it.

    Example: Ann asks to erase a source; her request is recorded and SecondPersonNeededError tells her the
    digest. Bob asks for the same with that digest, within WAITS_FOR: ``admit`` returns, and his request runs
    the act.

    Requests are desk items: their revisions say who asked and who confirmed. ``is_needed``: true under the
    profile ``hipaa``; else every act runs at once.
    """

    store: StoredDesk
    is_needed: bool

    async def admit(
        self,
        act: ActOfTwo,
        subject: str,
        *,
        by: str,
        contents: Callable[[], Awaitable[Contents]],
        named: str | None = None,
        half: Half = "both",
    ) -> None:
        """Return if the act may run now, on the contents that ``contents`` returns; else raise.

        A request is for one act, subject and contents: it is void when the contents change. ``named``: digest
        of the contents that this person looked at; a confirmation needs it. ``half``: see ``Half``.

        Raises InvalidRequestError (``by`` is empty), NotFoundError (``second``: nobody asked),
        SecondPersonNeededError (the request is recorded, or the contents are to be looked at), ForbiddenError
        (the first person asks again), ContentsChangedError, ConflictError (another person asks at the same
        moment), RecordsUnavailableError.
        """
        if not self.is_needed:
            return
        if not by:
            raise InvalidRequestError(f"{act} needs two people: name who asks for it as by.")
        now, about = await self.store.now(), await contents()
        if named not in (None, about.digest):
            raise ContentsChangedError(
                f"{act} of {subject} has other contents now than {named}: {about.told}, contents "
                f"{about.digest}. Nothing is done. Look at them, and ask with these."
            )
        # The id names act, subject and contents, so another subject or content is another item.
        key = hashlib.sha256(f"{subject}\0{about.digest}".encode()).hexdigest()
        item_id, revision = f"{act}-{key[:48]}", 1
        request = ActRequest(act=act, subject=subject, asked_by=by)
        if (item := await self.store.get(DeskKind.ACT_REQUEST, item_id)) is not None:
            # ``before``: the request as stored, which may be confirmed (act again) or wait (confirm it now).
            before, age, revision = body_of_item(item, ActRequest), now - item.at, item.revision + 1
            if by == before.runs_by(half) and age < HOLDS_FOR:
                return
            if before.confirmed_by is None and age < WAITS_FOR:
                _refuse_confirmation(before, about, by=by, named=named, asked_at=item.at)
                request = before.model_copy(update={"confirmed_by": by})
        request.check_begins(half)
        first = first_revision(DeskKind.ACT_REQUEST, item_id, request, by=by, at=now)
        await self.store.put(first.model_copy(update={"revision": revision}))
        if request.confirmed_by is None:
            raise SecondPersonNeededError(
                f"Your request for {act} of {subject} is recorded ({about.told}), and nothing is done yet. "
                f"Another person must ask for the same before {now + WAITS_FOR:%Y-%m-%d %H:%M} UTC, with "
                f"contents {about.digest}; then it runs. It counts no more when these change."
            )


def _refuse_confirmation(
    request: ActRequest, about: Contents, *, by: str, named: str | None, asked_at: datetime
) -> None:
    """Raise ForbiddenError where ``by`` is the person who asked, SecondPersonNeededError where they did not
    name the digest of the contents. Return where they may confirm."""
    what = f"{request.act} of {request.subject}"
    if request.asked_by == by:
        raise ForbiddenError(
            f"You asked for {what} yourself, at {asked_at:%Y-%m-%d %H:%M} UTC. Another person must ask for "
            f"the same before {asked_at + WAITS_FOR:%Y-%m-%d %H:%M} UTC, with contents {about.digest}."
        )
    if named is None:
        raise SecondPersonNeededError(
            f"{request.asked_by} asked for {what}: {about.told}. Look at them, and ask again with contents "
            f"{about.digest}; then it runs."
        )
