"""States of one tenant's documents, and its ingestion queues, in the file ``queue.sqlite``."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import psutil

from assistant.domain.clock import Clock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import DependencyError, OverloadedError
from assistant.embedded.files import SqliteStore, Transaction, json_array
from assistant.knowledge.connectors import SourceRun
from assistant.knowledge.ports import MAX_ATTEMPTS, QueuedDocument

KNOWLEDGE_SCHEMA = """
CREATE TABLE IF NOT EXISTS states (
    document_id TEXT PRIMARY KEY, state TEXT NOT NULL, content_hash TEXT NOT NULL,
    received_at TEXT NOT NULL, status TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS states_by_state ON states (state, document_id);
CREATE TABLE IF NOT EXISTS queued (
    number INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, document_id TEXT NOT NULL,
    visible_at_s REAL NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, receipt TEXT, receiver TEXT,
    dead INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS queued_waiting ON queued (queue, dead, number);
CREATE UNIQUE INDEX IF NOT EXISTS queued_by_receipt ON queued (receipt) WHERE receipt IS NOT NULL;
"""


_PUT = """INSERT INTO states (document_id, state, content_hash, received_at, status) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (document_id) DO UPDATE SET state = excluded.state, content_hash = excluded.content_hash,
    received_at = excluded.received_at, status = excluded.status"""
_ADVANCE = """UPDATE states SET state = ?2, status = ?5
WHERE document_id = ?1 AND content_hash = ?3 AND received_at = ?4
    AND (state != 'withdrawn' OR ?2 = 'withdrawn')"""
_LIST = """SELECT status FROM states WHERE state IN (SELECT value FROM json_each(?))
    AND document_id > ? AND (? IS NULL OR document_id <= ?) ORDER BY document_id LIMIT ?"""
_COUNT = """SELECT state, count(*) FROM states
WHERE document_id > ? AND (? IS NULL OR document_id <= ?) GROUP BY state"""


class SqliteDocumentStates(SqliteStore):
    """``DocumentStates`` in the file ``path``, shared with the queues. One row a document."""

    schema = KNOWLEDGE_SCHEMA
    store = "states"
    unavailable = DependencyError

    async def get(self, document_id: str) -> DocumentStatus | None:
        return (await self.get_many([document_id])).get(document_id)

    async def get_many(self, document_ids: Sequence[str]) -> Mapping[str, DocumentStatus]:
        statement = "SELECT status FROM states WHERE document_id IN (SELECT value FROM json_each(?))"
        statuses = await self._bodies(DocumentStatus, statement, json_array(document_ids))
        return {status.document_id: status for status in statuses}

    async def put_many(self, statuses: Sequence[DocumentStatus]) -> None:
        rows = [_row(status) for status in statuses]
        await self._file.write(lambda connection: connection.executemany(_PUT, rows))

    async def advance_many(self, statuses: Sequence[DocumentStatus]) -> frozenset[str]:
        rows = [_row(status) for status in statuses]

        def work(connection: Transaction) -> frozenset[str]:
            return frozenset(str(row[0]) for row in rows if connection.execute(_ADVANCE, row).rowcount)

        return await self._file.write(work)

    async def list(
        self,
        *,
        states: Sequence[DocumentState] = (),
        after: str | None = None,
        until: str | None = None,
        limit: int = 100,
    ) -> list[DocumentStatus]:
        wanted = json_array(states or DocumentState)
        return await self._bodies(DocumentStatus, _LIST, wanted, after or "", until, until, limit)

    async def count_by_state(
        self, *, after: str | None = None, until: str | None = None
    ) -> Mapping[DocumentState, int]:
        rows = await self._file.query(_COUNT, (after or "", until, until))
        return {DocumentState(state): count for state, count in rows}


def _row(status: DocumentStatus) -> tuple[str, str, str, str, str]:
    received_at, body = status.received_at.isoformat(), status.model_dump_json()
    return (status.document_id, status.state.value, status.content_hash, received_at, body)


class SqliteSourceRuns(SqliteStore):
    """``SourceRuns`` in the file ``path``."""

    schema = "CREATE TABLE IF NOT EXISTS source_runs (source TEXT PRIMARY KEY, body TEXT NOT NULL);"
    unavailable = DependencyError

    async def put_run(self, run: SourceRun) -> None:
        row = (run.key, run.model_dump_json())
        statement = "INSERT OR REPLACE INTO source_runs (source, body) VALUES (?, ?)"
        await self._file.write(lambda connection: connection.execute(statement, row))

    async def runs(self) -> Sequence[SourceRun]:
        return await self._bodies(SourceRun, "SELECT body FROM source_runs ORDER BY source")


MOST_MESSAGES = 1_000_000
FIRST_POLL_S = 0.02
LONGEST_POLL_S = 0.2
"""Polls back off from the first to the longest: an idle queue costs five small reads a second."""

_SEND = "INSERT INTO queued (queue, document_id, visible_at_s) VALUES (?, ?, ?)"
_BURY = "UPDATE queued SET dead = 1 WHERE queue = ? AND dead = 0 AND visible_at_s <= ? AND attempt >= ?"
_WAITING = "FROM queued WHERE queue = ? AND dead = 0"
_DUE = f"SELECT number {_WAITING} AND visible_at_s <= ? ORDER BY number LIMIT ?"
_TAKE = """UPDATE queued SET visible_at_s = ?, attempt = attempt + 1, receipt = ?, receiver = ?
WHERE number = ? RETURNING receipt, document_id, attempt"""
_EXTEND = "UPDATE queued SET visible_at_s = ? WHERE queue = ? AND dead = 0 AND receipt = ?"
_IN_FLIGHT = f"SELECT DISTINCT receiver {_WAITING} AND visible_at_s > ? AND receiver != ?"
_REVIVE = "UPDATE queued SET dead = 0, attempt = 0 WHERE queue = ? AND dead = 1"
_LET_GO = "UPDATE queued SET visible_at_s = ? WHERE queue = ? AND dead = 0 AND receiver = ?"


class SqliteIngestionQueue(SqliteStore):
    """One named ``IngestionQueue`` in the file ``path``: at least once, with a visibility timeout.

    A message also becomes visible when the process that received it has ended: a restarted worker continues
    at once, not after the timeout. A new process also retries dead letters: here nobody else handles them.
    """

    schema = KNOWLEDGE_SCHEMA
    store = "states"
    unavailable = DependencyError

    def __init__(self, path: Path, *, name: str = "documents", clock: Clock | None = None) -> None:
        super().__init__(path, clock=clock)
        self._name = name
        self._receiver = ""

    async def send_many(self, document_ids: Sequence[str]) -> None:
        rows = [(self._name, document_id, self._now_s()) for document_id in document_ids]

        def work(connection: Transaction) -> None:
            if _count(connection, self._name) + len(rows) > MOST_MESSAGES:
                full = f"The ingestion queue is full ({MOST_MESSAGES} documents)"
                raise OverloadedError(f"{full}; wait for the worker.")
            connection.executemany(_SEND, rows)

        await self._file.write(work)

    async def receive(
        self, *, limit: int, wait_s: float, visibility_timeout_s: float
    ) -> list[QueuedDocument]:
        if not self._receiver:
            self._receiver = _identity(os.getpid())
            await self._file.write(self._take_over)
        until_s = self._clock.monotonic_s() + wait_s
        poll_s = FIRST_POLL_S
        while True:
            # Read first, so that an idle worker takes no write lock.
            if await self._file.read(self._has_due):
                take = partial(self._take, limit=limit, visibility_timeout_s=visibility_timeout_s)
                if taken := await self._file.write(take):
                    return taken
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                return []
            await asyncio.sleep(min(poll_s, left_s))
            poll_s = min(2 * poll_s, LONGEST_POLL_S)

    async def delete_many(self, receipts: Sequence[str]) -> None:
        statement = "DELETE FROM queued WHERE queue = ? AND receipt = ?"
        rows = [(self._name, receipt) for receipt in receipts]
        await self._file.write(lambda connection: connection.executemany(statement, rows))

    async def extend_many(self, receipts: Sequence[str], *, visibility_timeout_s: float) -> None:
        until_s = self._now_s() + visibility_timeout_s
        rows = [(until_s, self._name, receipt) for receipt in receipts]
        await self._file.write(lambda connection: connection.executemany(_EXTEND, rows))

    async def depth(self) -> int:
        return await self._file.read(lambda connection: _count(connection, self._name))

    def _now_s(self) -> float:
        return self._clock.now().timestamp()

    def _has_due(self, connection: Transaction) -> bool:
        return connection.execute(_DUE, (self._name, self._now_s(), 1)).fetchone() is not None

    def _take(self, connection: Transaction, limit: int, visibility_timeout_s: float) -> list[QueuedDocument]:
        now_s = self._now_s()
        connection.execute(_BURY, (self._name, now_s, MAX_ATTEMPTS))
        taken: list[QueuedDocument] = []
        for (number,) in connection.execute(_DUE, (self._name, now_s, limit)):
            values = (now_s + visibility_timeout_s, secrets.token_hex(16), self._receiver, number)
            receipt, document_id, attempt = connection.execute(_TAKE, values).fetchone()
            taken.append(QueuedDocument(receipt=receipt, document_id=document_id, attempt=attempt))
        return taken

    def _take_over(self, connection: Transaction) -> None:
        now_s = self._now_s()
        for (receiver,) in connection.execute(_IN_FLIGHT, (self._name, now_s, self._receiver)):
            if _identity(int(receiver.partition("@")[0])) != receiver:
                connection.execute(_LET_GO, (now_s, self._name, receiver))
        connection.execute(_REVIVE, (self._name,))


def _identity(pid: int) -> str:
    """Return an id that no later process with the same pid has; "" when there is no such process."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return f"{pid}@{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""


def _count(connection: Transaction, name: str) -> int:
    return connection.execute(f"SELECT count(*) {_WAITING}", (name,)).fetchone()[0]
