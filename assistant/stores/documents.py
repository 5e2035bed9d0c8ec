"""Documents of one tenant: their contents over blobs, their states in a table, their queues, and the lock on
writing their index.

All states are in one partition, in order of document_id, so that a page is one query. A partition of DynamoDB
takes 1,000 writes a second, and a hot one is split; the worker writes fewer than 200.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from hashlib import sha256
from itertools import count
from typing import Any, TypeVar
from urllib.parse import quote

import orjson
import structlog
from pydantic import BaseModel, TypeAdapter, ValidationError

from assistant.domain.clock import Clock, Deadline, SystemClock, back_off_s
from assistant.domain.documents import (
    HELD_STATES,
    ORIGINAL_PART_BYTES,
    WAITING_STATES,
    Document,
    DocumentState,
    DocumentStatus,
    OriginalFile,
    ParsedDocument,
)
from assistant.domain.errors import DependencyError, DocumentInvalidError, TooLargeError
from assistant.process.settings import StoreSettings
from assistant.stores.blobs import Blobs, DamagedBlobError
from assistant.stores.ports import IngestionQueue, LiveDocuments
from assistant.stores.store import BlobsOf, LockOf, QueueOf, Store, TableOf
from assistant.stores.table import (
    ABSENT,
    LAST,
    LOWEST,
    Condition,
    Item,
    Key,
    Range,
    Table,
    equal,
    keyed,
    sortable,
)
from assistant.tenant import deployed_names
from assistant.text.editions import Editions

_log = structlog.get_logger(__name__)

MOST_CONTENTS = 6
"""Contents kept of one document: the newest, and those before it that can be restored."""
READABLE_NAME_CHARS = 100
"""A file name has at most 255 bytes; the hash after the readable part makes names unique."""
_DIGEST_DIGITS = 32
"""Equal to ``_DIGEST_DIGITS`` of ``blobs.py``, which finds drafts by these digits."""
LONGEST_CONTENT_BYTES = 64 * 1024 * 1024
"""A document has at most 5 million characters, which JSON may write as twelve bytes each."""
_PARTITION = "documents"
_WRITTEN = "written"
"""Value of ``listed`` of each status."""
_MARGIN_S = 15.0
"""A holder of the write lock is cancelled this long before its lock expires: clocks may differ, and calls may
be in flight."""
_FIRST_PAUSE_S = 0.05
_LONGEST_PAUSE_S = 0.5
Kept = TypeVar("Kept")
_document, _parsed = TypeAdapter(Document), TypeAdapter(ParsedDocument)


@dataclass(frozen=True, slots=True)
class StoredContent:
    """One kept content of a document: the newest, or one before it."""

    document: Document
    stored_at: datetime


class StoredDocuments:
    """The documents of one tenant: canonical documents, parsed texts and original files.

    Keys of the document ``wiki:refill`` in a folder, where ``NAME`` is ``wiki%3Arefill-`` and 32 digits of
    the SHA-256 of the id, ``3f`` its first two::

        3f/NAME.json                          the canonical document, and up to MOST_CONTENTS - 1 before it
        3f/NAME.CONTENT_HASH.parsed.json      the parsed text of one content
        3f/NAME.FILE_SHA256.original          a file that a content was converted from

    In a bucket ``<SHA-256 of the id>/document.json``, ``…/parsed/<SHA-256 of the content hash>.json`` and
    ``…/originals/<SHA-256>``: no id is part of a key, so no access log contains a document's name.

    Raises DependencyError, and DocumentInvalidError where what is stored is damaged.
    """

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def put(self, document: Document) -> None:
        """Store the canonical document in place of older content."""
        content = orjson.dumps(document.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
        await self._blobs.put(self._document_key(document.document_id), content, most=MOST_CONTENTS)

    async def get(self, document_id: str) -> Document | None:
        """Return the newest canonical document; None where there is none."""
        return await self._document(document_id)

    async def contents(self, document_id: str) -> Sequence[StoredContent]:
        """Return the kept contents, the newest first, at most MOST_CONTENTS."""
        versions = [version async for version in self._blobs.versions(self._document_key(document_id))]
        kept = list[StoredContent]()
        for version in [version for version in versions if not version.deleted][:MOST_CONTENTS]:
            document = await self._document(document_id, version=version.version)
            if document is not None:
                kept.append(StoredContent(document, version.written_at))
        return kept

    async def put_parsed(self, document_id: str, content_hash: str, parsed: ParsedDocument) -> None:
        content = orjson.dumps(asdict(parsed), default=BaseModel.model_dump)
        await self._blobs.put(self._parsed_key(document_id, content_hash), content)

    async def get_parsed(self, document_id: str, content_hash: str) -> ParsedDocument | None:
        """Return the parsed text of one content; None where it is not stored."""
        return await self._get(self._parsed_key(document_id, content_hash), _parsed, document_id=document_id)

    async def put_original(self, document_id: str, original: OriginalFile, content: bytes) -> None:
        """Store the bytes of a file that the document was converted from, beside those of older contents."""
        await self._blobs.put(self._original_key(document_id, original), content)

    async def read_original(self, document_id: str, original: OriginalFile, *, start: int) -> bytes | None:
        """Return at most ORIGINAL_PART_BYTES from ``start``, which is below the file's size; None for a file
        that is not stored."""
        key = self._original_key(document_id, original)
        return await self._blobs.read(key, start=start, most_bytes=ORIGINAL_PART_BYTES)

    async def delete(self, document_id: str) -> None:
        """Delete every stored content, parsed text and original of a document. An unknown one is no error."""
        await self._blobs.purge(self._prefix(document_id))

    async def holdings(self, document_id: str) -> int:
        """Return how many things are stored of the document, replaced versions and what killed writers left
        included; 0 after ``delete``. At most 1,000 are counted."""
        return await self._blobs.held(self._prefix(document_id))

    async def _document(self, document_id: str, *, version: str = "") -> Document | None:
        key = self._document_key(document_id)
        document = await self._get(key, _document, document_id=document_id, version=version)
        if document is not None and document.document_id != document_id:
            raise _damaged(document_id)
        return document

    async def _get(
        self, key: str, kind: TypeAdapter[Kept], *, document_id: str, version: str = ""
    ) -> Kept | None:
        try:
            content = await self._blobs.get(key, version=version)
            return None if content is None else kind.validate_json(content)
        except (DamagedBlobError, TooLargeError, ValidationError) as error:
            _log.warning("document_damaged", reason=type(error).__name__)
            raise _damaged(document_id) from None

    def _prefix(self, document_id: str) -> str:
        """Return the prefix that all keys of a document have, and those of no other document."""
        digest = sha256(document_id.encode()).hexdigest()
        if self._blobs.in_bucket:
            return f"{digest}/"
        readable = quote(document_id, safe="")[:READABLE_NAME_CHARS]
        return f"{digest[:2]}/{readable}-{digest[:_DIGEST_DIGITS]}."

    def _document_key(self, document_id: str) -> str:
        return f"{self._prefix(document_id)}{'document.' if self._blobs.in_bucket else ''}json"

    def _parsed_key(self, document_id: str, content_hash: str) -> str:
        if self._blobs.in_bucket:
            return f"{self._prefix(document_id)}parsed/{sha256(content_hash.encode()).hexdigest()}.json"
        return f"{self._prefix(document_id)}{quote(content_hash, safe='')}.parsed.json"

    def _original_key(self, document_id: str, original: OriginalFile) -> str:
        name = f"originals/{original.sha256}" if self._blobs.in_bucket else f"{original.sha256}.original"
        return f"{self._prefix(document_id)}{name}"


def _damaged(document_id: str) -> DocumentInvalidError:
    return DocumentInvalidError(f"{document_id}: the stored copy is damaged; add the document again.")


DOCUMENT_BLOBS = BlobsOf(
    "The document store",
    folder="documents",
    setting="documents_bucket",
    key_setting="documents_key_id",
    prefix=StoreSettings.documents_prefix,
    # A document can be added again from its source, and one fsync a document would make a load of 16,000 take
    # minutes on a laptop's disk. A file that a power cut damaged does not parse, which is reported.
    synced=False,
    checked=True,
    longest_bytes=LONGEST_CONTENT_BYTES,
)
DOCUMENTS = Store(DOCUMENT_BLOBS, lambda blobs, _: StoredDocuments(blobs))


STATES_TABLE = TableOf("queue.sqlite", "states_table", DependencyError)
QUEUE = QueueOf("documents", "ingestion_queue_url")
"""Ids of documents to index."""
BULK_QUEUE = QueueOf("documents", "bulk_queue_url")
WITHDRAWALS = QueueOf("withdrawals", "withdrawals_queue_url")
"""Ids to remove from the index. A queue of its own, so that no backlog of documents delays it."""


async def read_editions(states: LiveDocuments) -> Editions:
    """Return the editions among the documents that answer. Reads all states, in pages; raises
    DependencyError."""
    read: list[DocumentStatus] = []
    wanted = (*HELD_STATES, *WAITING_STATES)
    while page := await states.list(states=wanted, after=read[-1].document_id if read else None, limit=1000):
        read += page
    return await asyncio.to_thread(Editions.of, [status for status in read if status.live_content_hash])


class StoredStates:
    """The status of each document, one row per document. Rows of withdrawn documents are kept.

    ``count_by_state`` and ``list`` of certain states read an index that may lag by a moment; ``list`` then
    reads its rows from the table.
    """

    def __init__(self, table: Table, *, clock: Clock | None = None) -> None:
        self._table = table
        self._clock = clock or SystemClock()

    async def get(self, document_id: str) -> DocumentStatus | None:
        item = await self._table.get(_key(document_id))
        return None if item is None else _status(item)

    async def get_many(self, document_ids: Sequence[str]) -> Mapping[str, DocumentStatus]:
        """Return the statuses by id; unknown ids are left out."""
        items = await self._table.get_many([_key(document_id) for document_id in document_ids])
        return {key[1]: _status(item) for key, item in items.items()}

    async def put_many(self, statuses: Sequence[DocumentStatus]) -> None:
        """Write each status without a condition; of one document the last."""
        newest = {status.document_id: status for status in statuses}
        await self._table.put_many([self._item(status) for status in newest.values()])

    async def advance_many(self, statuses: Sequence[DocumentStatus]) -> frozenset[str]:
        """Write each status unless its document was withdrawn or received again meanwhile.

        The stored row must have the same ``content_hash`` and ``received_at``, and a withdrawn document
        stays withdrawn. Return the ids that were written.
        """
        # On a retry after a lost response the condition still holds: the row then has what is to be written.
        written = await self._table.put_each(
            [(self._item(status), _may_advance(status)) for status in statuses]
        )
        return frozenset(status.document_id for status, done in zip(statuses, written, strict=True) if done)

    async def list(
        self,
        *,
        states: Sequence[DocumentState] = (),
        after: str | None = None,
        until: str | None = None,
        limit: int = 100,
    ) -> list[DocumentStatus]:
        """Return a page in order of document_id (by code points), after ``after`` and up to ``until``."""
        if not states:
            return [_status(item) for item in await self._table.query(_range(after, until), limit=limit)]
        statuses: list[DocumentStatus] = []
        async for document_ids in self._pages_of(states, after=after, until=until, limit=limit):
            rows = await self.get_many(document_ids)
            statuses += [rows[name] for name in document_ids if name in rows and rows[name].state in states]
            if len(statuses) >= limit:
                break
        return statuses[:limit]

    async def count_by_state(
        self, *, after: str | None = None, until: str | None = None
    ) -> Mapping[DocumentState, int]:
        """Return the number of documents per state, after ``after`` and up to ``until``."""
        counts = await asyncio.gather(
            *(self._table.count(_range(after, until, state)) for state in DocumentState)
        )
        return {state: count for state, count in zip(DocumentState, counts, strict=True) if count}

    async def written_since(self, place: str) -> Mapping[str, str]:
        """Return the ids of the documents whose status was written after a place, each with its own place: a
        time as of ``sortable``, "#" and the id. Each write gives its document another place, in the same
        call: an outbox, out of which nothing has to be taken. The index may lag by a moment."""
        written = Range(_WRITTEN, place, index=deployed_names.BY_WRITE)
        return {str(row["sk"]): str(row["listed_at"]) for row in await self._table.query(written)}

    def _item(self, status: DocumentStatus) -> Item:
        return keyed(
            _key(status.document_id),
            state=status.state.value,
            content_hash=status.content_hash,
            received_at=status.received_at.isoformat(),
            body=status.model_dump_json(),
            listed=_WRITTEN,
            listed_at=f"{sortable(self._clock.now())}#{sha256(status.document_id.encode()).hexdigest()[:16]}",
        )

    async def _pages_of(
        self, states: Sequence[DocumentState], *, after: str | None, until: str | None, limit: int
    ) -> AsyncIterator[list[str]]:
        """Yield the ids that the index has under any of the states, in order, until there are no more."""
        last = after
        while True:
            by_state = await asyncio.gather(
                *(self._table.query(_range(last, until, state), limit=limit) for state in set(states))
            )
            names = {str(item["sk"]) for items in by_state for item in items}
            document_ids = sorted(names, key=str.encode)[:limit]
            if not document_ids:
                return
            yield document_ids
            last = document_ids[-1]


def _range(after: str | None, until: str | None, state: DocumentState | None = None) -> Range:
    """Return the rows after the id ``after`` and up to ``until``, of one state by the index, or of all. A
    range includes its bounds: ``after`` with NUL, which no id contains, is the first text behind that id."""
    low, high = f"{after}\0" if after else LOWEST, until or LAST
    return (
        Range(_PARTITION, low, high)
        if state is None
        else Range(state.value, low, high, deployed_names.BY_STATE)
    )


def _may_advance(status: DocumentStatus) -> Condition:
    """Return the condition of ``advance_many`` on the stored row."""
    same: Any = (
        ("content_hash", "=", status.content_hash),
        ("received_at", "=", status.received_at.isoformat()),
    )
    if status.state is DocumentState.WITHDRAWN:
        return (same,)
    return ((*same, ("state", "<>", DocumentState.WITHDRAWN.value)),)


def _key(document_id: str) -> Key:
    return _PARTITION, document_id


def _status(item: Item) -> DocumentStatus:
    return DocumentStatus.model_validate_json(item["body"])


STATES = Store(STATES_TABLE, lambda table, clock: StoredStates(table, clock=clock))


@dataclass(frozen=True, slots=True)
class KnowledgeStores:
    """The stores and queues of one tenant's documents."""

    documents: StoredDocuments
    states: StoredStates
    queue: IngestionQueue
    """Ids of documents to index."""
    withdrawals: IngestionQueue
    """Ids of documents to remove: a queue of its own, so that a backlog of documents delays no withdrawal."""


INDEX_WRITES = LockOf(
    "index/turn.lock",
    key="index",
    late="Another process writes the passage index. Retry.",
    late_here="Another process writes the passage index. Retry.",
    waits_s=60.0,
    lasts_s=90.0,
)
"""Held by the one process that writes a tenant's index."""
REINDEX_TURN = LockOf(
    "index/reindex.lock",
    key="reindex",
    late="Another reindex of this tenant runs, or was killed in the last 15 minutes. Retry then.",
    late_here="Another reindex of this tenant runs. Wait until it ends.",
)
"""Held by a running reindex of the tenant; another one is refused at once."""


class StoredWriteTurn:
    """``WriteTurn`` in a table: a lock between the functions that write a tenant's index.

    The lock expires ``lasts_s`` after it was taken, in case its holder died; a living holder is cancelled
    ``_MARGIN_S`` before that. Its item has the holder (``owner``) and the end (``until_ms``, epoch
    milliseconds; 0 when free).
    """

    def __init__(self, table: Table, lock: LockOf, *, clock: Clock | None = None) -> None:
        self._table = table
        self._lock = lock
        self._clock = clock or SystemClock()
        self._owner = uuid.uuid4().hex
        self._lock_in_process = asyncio.Lock()
        self._timeout = asyncio.Timeout(None)

    async def __aenter__(self) -> None:
        await self._lock_in_process.acquire()
        try:
            await self._take()
        except BaseException:
            self._lock_in_process.release()
            raise
        self._timeout = asyncio.timeout(self._lock.lasts_s - _MARGIN_S)
        await self._timeout.__aenter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: Any, trace: Any) -> None:
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            raise DependencyError("Writing the passage index took too long. Retry.") from None
        finally:
            try:
                await self._put(until_s=0.0)  # a lock that expired and that another process took stays
            finally:
                self._lock_in_process.release()

    async def _take(self) -> None:
        deadline = Deadline.after(self._lock.waits_s, clock=self._clock)
        attempts = count()
        while not await self._put(until_s=self._now_s() + self._lock.lasts_s):
            pause_s = back_off_s(next(attempts), first_s=_FIRST_PAUSE_S, longest_s=_LONGEST_PAUSE_S)
            if deadline.remaining_s() <= pause_s:
                raise DependencyError(self._lock.late)
            await asyncio.sleep(pause_s)

    async def _put(self, *, until_s: float) -> bool:
        """Set the lock's end, where it is free, expired or ours; return False when another process holds
        it."""
        ended: Condition = ((("until_ms", "<=", _milliseconds(self._now_s()) - 1),),)
        key = ("write-turn", self._lock.key)
        return await self._table.put(
            keyed(key, owner=self._owner, until_ms=_milliseconds(until_s)),
            when=(*ABSENT, *ended, *equal(owner=self._owner)),
        )

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _milliseconds(seconds: float) -> int:
    return int(seconds * 1000)
