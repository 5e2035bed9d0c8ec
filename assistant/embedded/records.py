"""The append-only records of one tenant in SQLite: no statement here changes or deletes a row, and
triggers refuse it to anybody else."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from pathlib import Path
from typing import TypeVar

import orjson

from assistant.domain.answers import (
    AccessEntry,
    AccessPage,
    AccessQuery,
    AnswerRecord,
    Sent,
    StoredSent,
    StoredVerdict,
    Verdict,
)
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import ConflictError, RecordsUnavailableError
from assistant.embedded.sqlite_file import SqliteFile, Transaction

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    number INTEGER PRIMARY KEY,
    answer_id TEXT NOT NULL UNIQUE,
    conversation_id TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS interrupted (
    number INTEGER PRIMARY KEY,
    answer_id TEXT NOT NULL UNIQUE,
    conversation_id TEXT NOT NULL,
    asked_at TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS interrupted_by_conversation ON interrupted (conversation_id, asked_at, number);
CREATE VIEW IF NOT EXISTS known AS
    SELECT * FROM answers UNION ALL
    SELECT * FROM interrupted WHERE answer_id NOT IN (SELECT answer_id FROM answers);
CREATE INDEX IF NOT EXISTS answers_by_conversation ON answers (conversation_id, asked_at, number);
CREATE TABLE IF NOT EXISTS verdicts (
    number INTEGER PRIMARY KEY,
    answer_id TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    agent TEXT NOT NULL,
    content TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS verdicts_by_answer ON verdicts (answer_id, number);
CREATE TABLE IF NOT EXISTS sends (
    number INTEGER PRIMARY KEY,
    answer_id TEXT NOT NULL,
    id TEXT NOT NULL UNIQUE,
    agent TEXT NOT NULL,
    content TEXT NOT NULL,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS sends_by_answer ON sends (answer_id, number);
CREATE TABLE IF NOT EXISTS accesses (number INTEGER PRIMARY KEY, body TEXT NOT NULL);
"""
_APPEND_ONLY = "".join(
    f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {verb} ON {table}"
    f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;\n"
    for table in ("answers", "interrupted", "verdicts", "sends", "accesses")
    for verb in ("update", "delete")
)

Stored = TypeVar("Stored", StoredVerdict, StoredSent)


class SqliteAnswerRecords:
    """``AnswerRecords`` in the file ``path``."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._file = SqliteFile(path, schema=_TABLES + _APPEND_ONLY, unavailable=RecordsUnavailableError)
        self._clock = clock or SystemClock()

    async def close(self) -> None:
        await self._file.close()

    async def put_answer(self, record: AnswerRecord) -> None:
        row = (record.answer_id, record.conversation_id, _instant(record), record.model_dump_json())
        statement = "INSERT INTO answers (answer_id, conversation_id, asked_at, body) VALUES (?, ?, ?, ?)"
        try:
            await self._file.write(lambda connection: connection.execute(statement, row))
        except sqlite3.IntegrityError:
            raise ConflictError(f"The answer {record.answer_id} is already recorded.") from None

    async def put_interrupted(self, record: AnswerRecord) -> None:
        row = (record.answer_id, record.conversation_id, _instant(record), record.model_dump_json())
        statement = (
            "INSERT INTO interrupted (answer_id, conversation_id, asked_at, body) VALUES (?, ?, ?, ?)"
            " ON CONFLICT (answer_id) DO NOTHING"
        )
        await self._file.write(lambda connection: connection.execute(statement, row))

    async def get_answer(self, answer_id: str) -> AnswerRecord | None:
        rows = await self._bodies("SELECT body FROM known WHERE answer_id = ?", (answer_id,))
        return AnswerRecord.model_validate_json(rows[0]) if rows else None

    async def list_conversation(self, conversation_id: str, *, limit: int = 50) -> list[AnswerRecord]:
        newest_first = await self._bodies(
            "SELECT body FROM known WHERE conversation_id = ? ORDER BY asked_at DESC, number DESC LIMIT ?",
            (conversation_id, limit),
        )
        return [AnswerRecord.model_validate_json(body) for body in reversed(newest_first)]

    async def append_verdict(self, answer_id: str, verdict: Verdict, *, agent: str) -> StoredVerdict:
        stored = StoredVerdict(answer_id=answer_id, agent=agent, at=self._clock.now(), verdict=verdict)
        row = (answer_id, verdict.verdict_id, agent, verdict.model_dump_json(), stored.model_dump_json())
        kept = await self._file.write(_appending("verdicts", row))
        return StoredVerdict.model_validate_json(kept)

    async def append_sent(self, answer_id: str, sent: Sent, *, agent: str) -> StoredSent:
        stored = StoredSent(answer_id=answer_id, agent=agent, at=self._clock.now(), sent=sent)
        row = (answer_id, sent.send_id, agent, sent.model_dump_json(), stored.model_dump_json())
        kept = await self._file.write(_appending("sends", row))
        return StoredSent.model_validate_json(kept)

    async def list_verdicts(self, answer_id: str | None = None, *, limit: int = 1000) -> list[StoredVerdict]:
        bodies = await self._bodies(
            "SELECT body FROM verdicts WHERE ?1 IS NULL OR answer_id = ?1 ORDER BY number LIMIT ?2",
            (answer_id, limit),
        )
        return [StoredVerdict.model_validate_json(body) for body in bodies]

    async def list_sent(self, answer_id: str) -> list[StoredSent]:
        bodies = await self._bodies(
            "SELECT body FROM sends WHERE answer_id = ? ORDER BY number", (answer_id,)
        )
        return [StoredSent.model_validate_json(body) for body in bodies]

    async def record_access(self, entry: AccessEntry) -> None:
        row = (entry.model_dump_json(),)
        await self._file.write(
            lambda connection: connection.execute("INSERT INTO accesses (body) VALUES (?)", row)
        )

    async def list_accesses(self, query: AccessQuery) -> AccessPage:
        """As the port says. Sights of answers are read from the answers themselves."""

        def work(connection: Transaction) -> AccessPage:
            found = [
                (place, entry)
                for place, entry in _accesses(connection, query)
                if place > (query.after or "")
                and query.since <= entry.at < query.until
                and query.wants(entry)
            ]
            found.sort(key=itemgetter(0))
            page = found[: query.limit]
            more = len(found) > query.limit
            return AccessPage(tuple(entry for _, entry in page), page[-1][0] if more else None)

        return await self._file.read(work)

    async def _bodies(self, statement: str, values: Sequence[object]) -> list[str]:
        return await self._file.read(
            lambda connection: [str(row[0]) for row in connection.execute(statement, tuple(values))]
        )


def _accesses(connection: Transaction, query: AccessQuery) -> Iterator[tuple[str, AccessEntry]]:
    """Yield what may be asked for, each with its place in the order: by time, then answers, then reads."""
    words = [word for word in (query.agent, query.document_id) if word is not None and word.isprintable()]
    about = " AND ".join(["true", *("instr(body, ?)" for _ in words)])  # no more than a first sieve
    values = [orjson.dumps(word).decode() for word in words]
    seconds = (f"{query.since.timestamp():020.6f}", f"{query.until.timestamp():020.6f}")
    answers = f"SELECT body FROM known WHERE asked_at >= ? AND asked_at < ? AND {about}"  # noqa: S608 (our own words)
    for (body,) in connection.execute(answers, (*seconds, *values)):
        entry = AnswerRecord.model_validate_json(body).sight()
        yield f"{_place(entry.at)}#asked#{entry.subject_id}", entry
    reads = f"SELECT number, body FROM accesses WHERE {about}"  # noqa: S608
    for number, body in connection.execute(reads, values):
        entry = AccessEntry.model_validate_json(body)
        yield f"{_place(entry.at)}#read#{number:012d}", entry


def _place(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _instant(record: AnswerRecord) -> str:
    return f"{record.asked_at.timestamp():020.6f}"


def _appending(table: str, row: tuple[str, str, str, str, str]) -> Callable[[Transaction], str]:
    """Return the transaction that keeps ``row`` (answer, id, agent, content, body) once and returns its body.

    The id is the tenant's: the same id for another answer, agent or content is a conflict.
    """
    answer_id, record_id, agent, content, body = row

    def work(connection: Transaction) -> str:
        found = connection.execute(
            f"SELECT answer_id, agent, content, body FROM {table} WHERE id = ?",  # noqa: S608 (our own names)
            (record_id,),
        ).fetchone()
        if found is None:
            connection.execute(
                f"INSERT INTO {table} (answer_id, id, agent, content, body) VALUES (?, ?, ?, ?, ?)",  # noqa: S608
                row,
            )
            return body
        if tuple(found[:3]) != (answer_id, agent, content):
            raise ConflictError(f"The id {record_id} was used before with other content; choose a new one.")
        return str(found[3])

    return work
