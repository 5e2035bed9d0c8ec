"""Ingestion queues of one tenant in the file ``queue.sqlite``, which has its documents' states too.

A message is a row of the table ``queued``. It is waiting (``visible_at_s`` has passed), in flight (it will
pass) or a dead letter (``dead`` = 1). ``receive`` moves ``visible_at_s`` to the end of the visibility timeout
and gives the row a new ``receipt``; ``receiver`` names the process, "4711@1764309600.25". Times are epoch
seconds.
"""

from __future__ import annotations

import asyncio
import math
import os
import secrets
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import psutil

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import OverloadedError
from assistant.stores.ports import MAX_ATTEMPTS, QueuedDocument
from assistant.stores.sqlite_file import SqliteFile, Transaction

_QUEUED = """
CREATE TABLE IF NOT EXISTS queued (
    number INTEGER PRIMARY KEY AUTOINCREMENT, queue TEXT NOT NULL, document_id TEXT NOT NULL,
    visible_at_s REAL NOT NULL, attempt INTEGER NOT NULL DEFAULT 0, receipt TEXT, receiver TEXT,
    dead INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS queued_waiting ON queued (queue, dead, number);
CREATE UNIQUE INDEX IF NOT EXISTS queued_by_receipt ON queued (receipt) WHERE receipt IS NOT NULL;
"""
MOST_MESSAGES = 1_000_000
"""Most messages in one queue, without dead letters."""
FIRST_POLL_S = 0.02
LONGEST_POLL_S = 1.0
_READ_AGAIN_S = 5.0
"""Looks at the file's times back off from the first to the longest while nothing comes."""

_SEND = "INSERT INTO queued (queue, document_id, visible_at_s) VALUES (?, ?, ?)"
_MAKE_DEAD = "UPDATE queued SET dead = 1 WHERE queue = ? AND dead = 0 AND visible_at_s <= ? AND attempt >= ?"
_ALIVE = "FROM queued WHERE queue = ? AND dead = 0"
"""All messages but dead letters."""
_NEXT_DUE = f"SELECT min(visible_at_s) {_ALIVE}"
_DUE = f"SELECT number {_ALIVE} AND visible_at_s <= ? ORDER BY number LIMIT ?"
_TAKE = """UPDATE queued SET visible_at_s = ?, attempt = attempt + 1, receipt = ?, receiver = ?
WHERE number = ? RETURNING receipt, document_id, attempt"""
_EXTEND = "UPDATE queued SET visible_at_s = ? WHERE queue = ? AND dead = 0 AND receipt = ?"
_OTHER_RECEIVERS = f"SELECT DISTINCT receiver {_ALIVE} AND visible_at_s > ? AND receiver != ?"
"""Processes that have messages in flight, but this one."""
_REVIVE = "UPDATE queued SET dead = 0, attempt = 0 WHERE queue = ? AND dead = 1"
_RELEASE = "UPDATE queued SET visible_at_s = ? WHERE queue = ? AND dead = 0 AND receiver = ?"


class SqliteIngestionQueue:
    """One named ``IngestionQueue`` in the file ``path``: at least once, with a visibility timeout.

    A message also becomes visible when the process that received it has ended: a restarted worker continues
    at once, not after the timeout. A new process also retries dead letters: here nobody else handles them.
    """

    def __init__(self, path: Path, *, name: str = "documents", clock: Clock | None = None) -> None:
        self._file = SqliteFile(path, schema=_QUEUED)
        self._clock = clock or SystemClock()
        self._name = name
        self._receiver = ""
        """This process, as ``_identity`` names it; set by the first ``receive``."""
        self._read: object = None
        """``SqliteFile.written`` at the last read."""
        self._read_at_s = -math.inf
        self._due_s = math.inf
        """When a message becomes visible, by the last read."""
        self._poll_s = FIRST_POLL_S

    async def close(self) -> None:
        await self._file.close()

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
        while True:
            # Read first, so that an idle worker takes no write lock.
            if await self._is_due():
                take = partial(self._take, limit=limit, visibility_timeout_s=visibility_timeout_s)
                if taken := await self._file.write(take):
                    self._poll_s = FIRST_POLL_S
                    return taken
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                return []
            await asyncio.sleep(min(self._poll_s, left_s))
            self._poll_s = min(2 * self._poll_s, LONGEST_POLL_S)

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

    async def _is_due(self) -> bool:
        """Return whether a message is visible. The file is read only after a write, or when one may be; and
        now and then, since a slow disk may end a write after the file has its time."""
        written, at_s = self._file.written(), self._clock.monotonic_s()
        if written != self._read or self._now_s() >= self._due_s or at_s - self._read_at_s > _READ_AGAIN_S:
            self._due_s = await self._file.read(self._next_due_s)
            self._read, self._read_at_s = written, at_s
        return self._now_s() >= self._due_s

    def _next_due_s(self, connection: Transaction) -> float:
        now_s = self._now_s()
        if connection.execute(_DUE, (self._name, now_s, 1)).fetchone() is not None:
            return now_s
        (next_s,) = connection.execute(_NEXT_DUE, (self._name,)).rows[0]
        return math.inf if next_s is None else next_s

    def _take(self, connection: Transaction, limit: int, visibility_timeout_s: float) -> list[QueuedDocument]:
        """Take waiting messages, oldest first; those with MAX_ATTEMPTS deliveries become dead letters."""
        now_s = self._now_s()
        connection.execute(_MAKE_DEAD, (self._name, now_s, MAX_ATTEMPTS))
        taken: list[QueuedDocument] = []
        for (number,) in connection.execute(_DUE, (self._name, now_s, limit)):
            values = (now_s + visibility_timeout_s, secrets.token_hex(16), self._receiver, number)
            receipt, document_id, attempt = connection.execute(_TAKE, values).fetchone()
            taken.append(QueuedDocument(receipt=receipt, document_id=document_id, attempt=attempt))
        return taken

    def _take_over(self, connection: Transaction) -> None:
        """Make messages of ended processes and dead letters visible. Runs once, at the first ``receive``."""
        now_s = self._now_s()
        for (receiver,) in connection.execute(_OTHER_RECEIVERS, (self._name, now_s, self._receiver)):
            if _identity(int(receiver.partition("@")[0])) != receiver:  # that process has ended
                connection.execute(_RELEASE, (now_s, self._name, receiver))
        connection.execute(_REVIVE, (self._name,))


def _identity(pid: int) -> str:
    """Return "<pid>@<start time>", which no later process with the same pid has; "" when there is none."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return f"{pid}@{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""


def _count(connection: Transaction, name: str) -> int:
    """Return the number of messages in a queue, without dead letters."""
    return connection.execute(f"SELECT count(*) {_ALIVE}", (name,)).fetchone()[0]
