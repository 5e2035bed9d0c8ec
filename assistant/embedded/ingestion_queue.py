"""The ingestion queue of one tenant in SQLite: at least once, with a visibility time-out.

A message also becomes visible when the process that received it is gone: a worker that was killed and
started again goes on at once, and not when the time-out has passed. A new process also takes up dead letters
once more: nobody else looks at them here.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import psutil

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import OverloadedError
from assistant.embedded.knowledge_schema import KNOWLEDGE_SCHEMA
from assistant.embedded.sqlite_file import SqliteFile, Transaction
from assistant.knowledge.ports import MAX_ATTEMPTS, QueuedDocument

FIRST_POLL_S = 0.02
LONGEST_POLL_S = 0.2
"""Waiting polls back off from the first to the longest: an idle queue costs five small reads a second."""

_BURY = "UPDATE queued SET dead = 1 WHERE queue = ? AND dead = 0 AND visible_at_s <= ? AND attempt >= ?"
_DUE = """
SELECT number FROM queued WHERE queue = ? AND dead = 0 AND visible_at_s <= ? ORDER BY number LIMIT ?
"""
_TAKE = """
UPDATE queued SET visible_at_s = ?, attempt = attempt + 1, receipt = ?, receiver = ? WHERE number = ?
RETURNING receipt, document_id, attempt
"""
_EXTEND = "UPDATE queued SET visible_at_s = ? WHERE queue = ? AND dead = 0 AND receipt = ?"
_IN_FLIGHT = """
SELECT DISTINCT receiver FROM queued WHERE queue = ? AND dead = 0 AND visible_at_s > ? AND receiver != ?
"""
_REVIVE = "UPDATE queued SET dead = 0, attempt = 0 WHERE queue = ? AND dead = 1"
_LET_GO = "UPDATE queued SET visible_at_s = ? WHERE queue = ? AND dead = 0 AND receiver = ?"


class SqliteIngestionQueue:
    """One named ``IngestionQueue`` in the file ``path``, which it shares with the documents' states."""

    def __init__(
        self,
        path: Path,
        *,
        name: str = "documents",
        max_attempts: int = MAX_ATTEMPTS,
        max_messages: int = 1_000_000,
        clock: Clock | None = None,
    ) -> None:
        self._file = SqliteFile(path, schema=KNOWLEDGE_SCHEMA)
        self._name = name
        self._max_attempts = max_attempts
        self._max_messages = max_messages
        self._clock = clock or SystemClock()
        self._receiver = ""

    async def close(self) -> None:
        await self._file.close()

    async def send_many(self, document_ids: Sequence[str]) -> None:
        rows = [(self._name, document_id, self._now_s()) for document_id in document_ids]

        def work(connection: Transaction) -> None:
            if _count(connection, self._name) + len(rows) > self._max_messages:
                raise OverloadedError(
                    f"The ingestion queue is full ({self._max_messages} documents); wait for the worker."
                )
            connection.executemany(
                "INSERT INTO queued (queue, document_id, visible_at_s) VALUES (?, ?, ?)", rows
            )

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
            # Asked by reading first: an idle worker takes no write lock.
            if await self._file.read(self._has_due):
                taken = await self._file.write(
                    lambda connection: self._take(connection, limit, visibility_timeout_s)
                )
                if taken:
                    return taken
            left_s = until_s - self._clock.monotonic_s()
            if left_s <= 0:
                return []
            await asyncio.sleep(min(poll_s, left_s))
            poll_s = min(2 * poll_s, LONGEST_POLL_S)

    async def delete_many(self, receipts: Sequence[str]) -> None:
        rows = [(self._name, receipt) for receipt in receipts]
        await self._file.write(
            lambda connection: connection.executemany(
                "DELETE FROM queued WHERE queue = ? AND receipt = ?", rows
            )
        )

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
        connection.execute(_BURY, (self._name, now_s, self._max_attempts))
        numbers = connection.execute(_DUE, (self._name, now_s, limit)).fetchall()
        taken: list[QueuedDocument] = []
        for (number,) in numbers:
            values = (now_s + visibility_timeout_s, secrets.token_hex(16), self._receiver, number)
            receipt, document_id, attempt = connection.execute(_TAKE, values).fetchone()
            taken.append(QueuedDocument(receipt=receipt, document_id=document_id, attempt=attempt))
        return taken

    def _take_over(self, connection: Transaction) -> None:
        now_s = self._now_s()
        receivers = connection.execute(_IN_FLIGHT, (self._name, now_s, self._receiver)).fetchall()
        for (receiver,) in receivers:
            pid = int(receiver.partition("@")[0])
            if _identity(pid) != receiver:
                connection.execute(_LET_GO, (now_s, self._name, receiver))
        connection.execute(_REVIVE, (self._name,))


def _identity(pid: int) -> str:
    """Return what tells this process from a later one with the same pid; "" when there is none."""
    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return ""
        return f"{pid}@{process.create_time():.2f}"
    except psutil.NoSuchProcess:
        return ""


def _count(connection: Transaction, name: str) -> int:
    row = connection.execute("SELECT count(*) FROM queued WHERE queue = ? AND dead = 0", (name,)).fetchone()
    return int(row[0])
