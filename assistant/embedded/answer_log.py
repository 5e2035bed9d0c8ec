"""Event logs of one tenant's answers in SQLite: what several processes tell each other for 15 minutes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple
from itertools import takewhile
from pathlib import Path

import orjson

from assistant.adapters.log_batch_bytes import from_bytes, to_bytes
from assistant.answering.ports import LOG_EXPIRES_AFTER_S, LogBatch, LogOpening, LogReading, LogSignals
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import RecordsUnavailableError
from assistant.embedded.sqlite_file import SqliteFile, Transaction

_TABLES = """
CREATE TABLE IF NOT EXISTS logs (
    answer_id TEXT PRIMARY KEY,
    agent TEXT NOT NULL,
    request_hash TEXT NOT NULL,
    key TEXT,
    context TEXT NOT NULL,
    expires_at REAL NOT NULL,
    UNIQUE (agent, key)
);
CREATE INDEX IF NOT EXISTS logs_by_expiry ON logs (expires_at);
CREATE TABLE IF NOT EXISTS batches (
    answer_id TEXT NOT NULL,
    number INTEGER NOT NULL,
    body BLOB NOT NULL,
    expires_at REAL NOT NULL,
    PRIMARY KEY (answer_id, number)
);
CREATE INDEX IF NOT EXISTS batches_by_expiry ON batches (expires_at);
CREATE TABLE IF NOT EXISTS signals (
    answer_id TEXT PRIMARY KEY,
    cancelled INTEGER NOT NULL,
    readers INTEGER NOT NULL,
    expires_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS signals_by_expiry ON signals (expires_at);
"""
_DELETED_AT_ONCE = 50
"""Expired rows of a table that one opening deletes: more than an answer mostly writes, and little work."""
_OPEN = "INSERT INTO logs (answer_id, agent, request_hash, key, context, expires_at) VALUES (?,?,?,?,?,?)"
_HEAD = "SELECT answer_id, agent, request_hash, key, context FROM logs WHERE"
_SIGNAL = """
INSERT INTO signals (answer_id, cancelled, readers, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (answer_id) DO UPDATE SET cancelled = max(cancelled, excluded.cancelled),
    readers = readers + excluded.readers, expires_at = excluded.expires_at
"""
_SIGNALS = """
SELECT answer_id, cancelled, readers FROM signals
WHERE answer_id IN (SELECT value FROM json_each(?)) AND expires_at > ?
"""


class SqliteAnswerLog:
    """``AnswerLog`` in the file ``path``. Several processes may use one file.

    A crash of the machine may lose the last batches (the file is not forced to disk with every write): they
    are a transport, and the process that wrote them is gone too.
    """

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._file = SqliteFile(
            path, schema=_TABLES, unavailable=RecordsUnavailableError, pragmas=("synchronous = NORMAL",)
        )
        self._clock = clock or SystemClock()

    async def close(self) -> None:
        await self._file.close()

    async def open(self, opening: LogOpening) -> LogOpening:
        now_s = self._now_s()

        def work(connection: Transaction) -> LogOpening:
            _delete_expired(connection, now_s)
            found = _find(connection, opening, now_s)
            if found is None:
                row = (*astuple(opening), now_s + LOG_EXPIRES_AFTER_S)
                connection.execute(_OPEN, row)
            return found or opening

        return await self._file.write(work)

    async def release(self, opening: LogOpening) -> None:
        statement = (
            "DELETE FROM logs WHERE answer_id = ?1"
            " AND NOT EXISTS (SELECT 1 FROM batches WHERE batches.answer_id = ?1)"
        )
        await self._file.write(lambda connection: connection.execute(statement, (opening.answer_id,)))

    async def free_key(self, opening: LogOpening) -> None:
        statement = "UPDATE logs SET key = NULL WHERE answer_id = ?"
        await self._file.write(lambda connection: connection.execute(statement, (opening.answer_id,)))

    async def append(self, answer_id: str, batch: LogBatch) -> None:
        row = (answer_id, batch.number, to_bytes(batch), self._now_s() + LOG_EXPIRES_AFTER_S)
        await self._file.write(
            lambda connection: connection.execute("INSERT OR IGNORE INTO batches VALUES (?, ?, ?, ?)", row)
        )

    async def read(self, answer_id: str, *, after_batch: int = 0) -> LogReading | None:
        now_s = self._now_s()

        def work(connection: Transaction) -> LogReading | None:
            head = connection.execute(
                f"{_HEAD} answer_id = ? AND expires_at > ?", (answer_id, now_s)
            ).fetchone()
            if head is None:
                return None
            rows = connection.execute(
                "SELECT number, body FROM batches WHERE answer_id = ? AND number > ? ORDER BY number",
                (answer_id, after_batch),
            )
            # What stands behind a missing batch waits until that one is there.
            whole = takewhile(
                lambda numbered: numbered[0] == numbered[1][0], enumerate(rows, after_batch + 1)
            )
            return LogReading(LogOpening(*head), tuple(from_bytes(*row) for _, row in whole))

        return await self._file.read(work)

    async def signal_cancel(self, answer_id: str) -> None:
        await self._signal(answer_id, cancelled=1, readers=0)

    async def signal_reader(self, answer_id: str) -> None:
        await self._signal(answer_id, cancelled=0, readers=1)

    async def signals(self, answer_ids: Sequence[str]) -> Mapping[str, LogSignals]:
        values = (orjson.dumps(list(answer_ids)).decode(), self._now_s())

        def work(connection: Transaction) -> dict[str, LogSignals]:
            rows = connection.execute(_SIGNALS, values)
            return {
                answer_id: LogSignals(cancelled=bool(cancelled), readers=readers)
                for answer_id, cancelled, readers in rows
            }

        return await self._file.read(work)

    async def _signal(self, answer_id: str, *, cancelled: int, readers: int) -> None:
        row = (answer_id, cancelled, readers, self._now_s() + LOG_EXPIRES_AFTER_S)
        await self._file.write(lambda connection: connection.execute(_SIGNAL, row))

    def _now_s(self) -> float:
        return self._clock.now().timestamp()


def _find(connection: Transaction, opening: LogOpening, now_s: float) -> LogOpening | None:
    """Return the opening that the key stands for, or the same opening written before; drop an expired one."""
    same = "(answer_id = ? OR (agent = ? AND key = ?))"
    values = (opening.answer_id, opening.agent, opening.key)
    connection.execute(f"DELETE FROM logs WHERE {same} AND expires_at <= ?", (*values, now_s))  # noqa: S608
    row = connection.execute(f"{_HEAD} {same}", values).fetchone()
    return None if row is None else LogOpening(*row)


def _delete_expired(connection: Transaction, now_s: float) -> None:
    for table in ("logs", "batches", "signals"):
        connection.execute(
            f"DELETE FROM {table} WHERE rowid IN"  # noqa: S608 (our own names)
            f" (SELECT rowid FROM {table} WHERE expires_at <= ? LIMIT {_DELETED_AT_ONCE})",
            (now_s,),
        )
