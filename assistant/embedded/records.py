"""What one tenant keeps of its answers in SQLite: append-only records and their outbox, reads of live
systems, the review desk, keys of erasure; for a time only, claims and live values of sent texts."""

from __future__ import annotations

import asyncio
import secrets
import sqlite3
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import orjson
import structlog

from assistant.answering.ports import CLAIM_EXPIRES_AFTER_S, Claim, FoundAnswer, PlaceKind, ValuesOfSent
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
from assistant.domain.audit import AuditLink, AuditRecord
from assistant.domain.clock import Clock
from assistant.domain.desk import JOINED, NOT_SERVED, DeskItem, DeskKind
from assistant.domain.errors import ConflictError, RecordsUnavailableError
from assistant.domain.feedback import Act, StoredAct
from assistant.domain.live import LiveRead, LiveReadPage, LiveReadQuery, place_of
from assistant.domain.public import PublicModel
from assistant.embedded.files import SqliteStore, Transaction, json_array
from assistant.learning.ports import KEY_BYTES, OutboxRow
from assistant.store_formats import encode_row, join_row, joined_text, stored_text
from assistant.twins import AuditChain, follows_newest

_log = structlog.get_logger(__name__)
_ANSWER_COLUMNS = """ (
    number INTEGER PRIMARY KEY, answer_id TEXT NOT NULL UNIQUE, conversation_id TEXT NOT NULL,
    asked_at TEXT NOT NULL, body TEXT NOT NULL, newer TEXT
);
"""
_FEEDBACK_COLUMNS = """ (
    number INTEGER PRIMARY KEY, answer_id TEXT NOT NULL, id TEXT NOT NULL UNIQUE,
    agent TEXT NOT NULL, content TEXT NOT NULL, body TEXT NOT NULL, newer TEXT
);
"""
_TABLE_OF = {"answer": "answers", "verdict": "verdicts", "sent": "sends", "act": "acts"}
"""Kind of an outbox row, and the table that its content is in."""
_RECORD_TABLES = f"""
CREATE TABLE IF NOT EXISTS answers{_ANSWER_COLUMNS}
CREATE TABLE IF NOT EXISTS interrupted{_ANSWER_COLUMNS}
CREATE INDEX IF NOT EXISTS interrupted_by_conversation ON interrupted (conversation_id, asked_at, number);
CREATE TABLE IF NOT EXISTS written_until (answer_id TEXT PRIMARY KEY, until REAL NOT NULL);
CREATE VIEW IF NOT EXISTS known AS
    SELECT * FROM answers UNION ALL
    SELECT * FROM interrupted WHERE answer_id NOT IN (SELECT answer_id FROM answers);
CREATE INDEX IF NOT EXISTS answers_by_conversation ON answers (conversation_id, asked_at, number);
CREATE TABLE IF NOT EXISTS verdicts{_FEEDBACK_COLUMNS}
CREATE INDEX IF NOT EXISTS verdicts_by_answer ON verdicts (answer_id, number);
CREATE TABLE IF NOT EXISTS sends{_FEEDBACK_COLUMNS}
CREATE INDEX IF NOT EXISTS sends_by_answer ON sends (answer_id, number);
CREATE TABLE IF NOT EXISTS acts{_FEEDBACK_COLUMNS}
CREATE INDEX IF NOT EXISTS acts_by_answer ON acts (answer_id, number);
CREATE TABLE IF NOT EXISTS places (
    answer_id TEXT NOT NULL, kind TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (answer_id, kind, name)
);
CREATE TABLE IF NOT EXISTS accesses (number INTEGER PRIMARY KEY, body TEXT NOT NULL, newer TEXT);
CREATE TABLE IF NOT EXISTS live_reads (number INTEGER PRIMARY KEY, at TEXT NOT NULL, body TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS live_reads_in_order ON live_reads (at, json_extract(body, '$.read_id'));
CREATE INDEX IF NOT EXISTS live_reads_by_subject
    ON live_reads (json_extract(body, '$.subject'), at, json_extract(body, '$.read_id'));
CREATE TABLE IF NOT EXISTS chain (
    day TEXT NOT NULL, writer TEXT NOT NULL, sequence INTEGER NOT NULL, link TEXT NOT NULL,
    start TEXT, access INTEGER, live_read INTEGER, PRIMARY KEY (day, writer, sequence)
);
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, kind TEXT NOT NULL, answer_id TEXT NOT NULL,
    row INTEGER NOT NULL
);
"""  # noqa: S608 (our own names)
_APPEND_ONLY = "".join(
    f"CREATE TRIGGER IF NOT EXISTS {table}_no_{verb} BEFORE {verb} ON {table}"
    f" BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END;\n"
    for table in (
        *("answers", "interrupted", "written_until", "verdicts", "sends", "acts", "places"),
        *("accesses", "live_reads", "chain"),
    )
    for verb in ("update", "delete")
)
RECORDS_SCHEMA = _RECORD_TABLES + _APPEND_ONLY
"""Of the file of records, their outbox and the reads of live systems."""

_TAKE_PLACE = """INSERT OR IGNORE INTO places (answer_id, kind, name) SELECT ?1, ?2, ?3
WHERE (SELECT count(*) FROM places WHERE answer_id = ?1 AND kind = ?2) < ?4"""
_PLACE = "SELECT 1 FROM places WHERE answer_id = ? AND kind = ? AND name = ?"
_AUDITED = """SELECT link, coalesce(start, accesses.body, live_reads.body), newer FROM chain
LEFT JOIN accesses ON accesses.number = access
LEFT JOIN live_reads ON live_reads.number = live_read
WHERE day = ?1 AND coalesce(start, accesses.body, live_reads.body) IS NOT NULL
UNION ALL SELECT NULL, body, newer FROM accesses
WHERE json_extract(body, '$.at') LIKE ?1 || '%' AND number NOT IN (SELECT access FROM chain WHERE access > 0)
UNION ALL SELECT NULL, body, NULL FROM live_reads
WHERE at LIKE ?1 || '%' AND number NOT IN (SELECT live_read FROM chain WHERE live_read > 0)"""
"""Links and contents of a day's records. A link whose record is gone is left out, which leaves a gap."""
_NO_SIGHT = "json_extract(body, '$.kind') != 'asked'"
_ANSWER = "(answer_id, conversation_id, asked_at, body, newer) VALUES (?, ?, ?, ?, ?)"
_FIND = """SELECT body, newer, (
    SELECT until FROM written_until AS begun WHERE begun.answer_id = known.answer_id AND until > ?
    AND begun.answer_id NOT IN (SELECT answer_id FROM answers)
) AS until FROM known WHERE"""
"""Answers, each with the time until when it may still be written: NULL for one that has ended."""
_LINK = "INSERT INTO chain (day, writer, sequence, link,"
_LINKED = "SELECT 1 FROM chain WHERE day = ? AND writer = ? AND sequence = ?"
_QUEUE = "INSERT INTO outbox (kind, answer_id, row) VALUES (?, ?, ?)"
Stored = TypeVar("Stored", StoredVerdict, StoredSent, StoredAct)


class _AuditedStore(SqliteStore):
    """Keeps audit records in their chain."""

    schema = RECORDS_SCHEMA
    store = "records"

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        super().__init__(path, clock=clock)
        self._chain = AuditChain(self._put_start)

    async def _record(
        self,
        record: AccessEntry | LiveRead,
        *,
        before: Callable[[Transaction], bool] = lambda _: True,
    ) -> None:
        """Add an audit record in one transaction with ``before``; nothing where that returns False."""
        if isinstance(record, LiveRead):
            column, insert = "live_read", "INSERT INTO live_reads (at, body) VALUES (?, ?)"
            row = (_place(record.at), record.model_dump_json())
        else:
            column, insert = "access", "INSERT INTO accesses (body, newer) VALUES (?, ?)"
            row = encode_row(record)

        def work(connection: Transaction, link: AuditLink) -> bool:
            place = link.day.isoformat(), link.writer, link.sequence
            if connection.execute(_LINKED, place).rows:
                return True  # a repeat
            if not before(connection):
                return False
            connection.execute(insert, row)
            linked = f"{_LINK} {column}) VALUES (?, ?, ?, ?, last_insert_rowid())"
            connection.execute(linked, (*place, link.model_dump_json()))
            return True

        async def put(_: str, link: AuditLink) -> bool:
            return await self._file.write(lambda connection: work(connection, link))

        await self._chain.append(stored_text(record), at=record.at, put=put)

    async def _put_start(self, content: str, link: AuditLink) -> bool:
        values = (link.day.isoformat(), link.writer, link.sequence, link.model_dump_json(), content)
        await self._file.execute(f"{_LINK} start) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", values)
        return True


class SqliteAnswerRecords(_AuditedStore):
    """``AnswerRecords`` in the file ``path``."""

    async def put_answer(self, record: AnswerRecord) -> None:

        def insert(connection: Transaction) -> bool:
            try:
                connection.execute(f"INSERT INTO answers {_ANSWER}", _answer_row(record))
            except sqlite3.IntegrityError:
                raise ConflictError(f"The answer {record.answer_id} is already recorded.") from None
            if record.is_for_desk:
                _queue(connection, "answer", record.answer_id)
            return True

        sight = record.sight()
        await self._record(sight, before=insert)

    async def begin_answer(self, record: AnswerRecord, *, until: datetime) -> None:
        statement = f"INSERT INTO interrupted {_ANSWER} ON CONFLICT (answer_id) DO NOTHING"

        def insert(connection: Transaction) -> bool:
            if connection.execute(statement, _answer_row(record)).rowcount != 1:
                return False
            row = (record.answer_id, until.timestamp())
            connection.execute("INSERT INTO written_until (answer_id, until) VALUES (?, ?)", row)
            return True

        sight = record.sight()
        await self._record(sight, before=insert)

    async def get_answer(self, answer_id: str) -> AnswerRecord | None:
        found = await self.find_answer(answer_id)
        return None if found is None or found.written_until is not None else found.record

    async def find_answer(self, answer_id: str) -> FoundAnswer | None:
        now_s = self._clock.now().timestamp()
        rows = await self._file.query(f"{_FIND} answer_id = ?", (now_s, answer_id))
        for *row, until_s in rows:
            record = AnswerRecord.model_validate_json(join_row(*row))
            return FoundAnswer(record, until_s and datetime.fromtimestamp(until_s, UTC))
        return None

    async def list_conversation(self, conversation_id: str, *, limit: int = 50) -> list[AnswerRecord]:
        statement = (
            f"{_FIND} conversation_id = ? AND until IS NULL ORDER BY asked_at DESC, number DESC LIMIT ?"
        )
        values = (self._clock.now().timestamp(), conversation_id, limit)
        rows = await self._file.query(statement, values)
        return [AnswerRecord.model_validate_json(join_row(*row)) for *row, _ in rows][::-1]

    async def take_place(self, answer_id: str, kind: PlaceKind, name: str, *, most: int) -> bool:
        row = (answer_id, kind, name)

        def work(connection: Transaction) -> bool:
            connection.execute(_TAKE_PLACE, (*row, most))
            return connection.execute(_PLACE, row).fetchone() is not None

        return await self._file.write(work)

    async def append_verdict(self, answer_id: str, verdict: Verdict, *, agent: str) -> StoredVerdict:
        stored = StoredVerdict(answer_id=answer_id, agent=agent, at=self._clock.now(), verdict=verdict)
        return await self._append("verdict", verdict.verdict_id, stored, content=verdict)

    async def append_sent(self, answer_id: str, sent: Sent, *, agent: str) -> StoredSent:
        stored = StoredSent(answer_id=answer_id, agent=agent, at=self._clock.now(), sent=sent)
        return await self._append("sent", sent.send_id, stored, content=sent)

    async def append_act(self, answer_id: str, act: Act, *, agent: str) -> StoredAct:
        stored = StoredAct(answer_id=answer_id, agent=agent, at=self._clock.now(), act=act)
        return await self._append("act", act.act_id, stored, content=act)

    async def list_verdicts(self, answer_id: str | None = None, *, limit: int = 1000) -> list[StoredVerdict]:
        statement = (
            "SELECT body, newer FROM verdicts WHERE ?1 IS NULL OR answer_id = ?1 ORDER BY number LIMIT ?2"
        )
        return await self._bodies(StoredVerdict, statement, answer_id, limit)

    async def list_sent(self, answer_id: str) -> list[StoredSent]:
        statement = "SELECT body, newer FROM sends WHERE answer_id = ? ORDER BY number"
        return await self._bodies(StoredSent, statement, answer_id)

    async def list_acts(self, answer_id: str) -> list[StoredAct]:
        statement = "SELECT body, newer FROM acts WHERE answer_id = ? ORDER BY number"
        return await self._bodies(StoredAct, statement, answer_id)

    async def record_access(self, entry: AccessEntry) -> None:
        await self._record(entry)

    async def audited(self, day: date) -> list[AuditRecord]:
        return [
            AuditRecord(
                joined_text(body, newer), None if link is None else AuditLink.model_validate_json(link)
            )
            for link, body, newer in await self._file.query(_AUDITED, (day.isoformat(),))
        ]

    async def list_accesses(self, query: AccessQuery) -> AccessPage:
        """As the port says. Who saw an answer is read from the answers themselves."""

        def work(connection: Transaction) -> AccessPage:
            entries: dict[str, AccessEntry] = {}
            for place, entry in _accesses(connection, query):
                is_within = query.since <= entry.at < query.until and place > (query.after or "")
                if is_within and query.wants(entry):
                    entries[place] = entry
            page = sorted(entries)[: query.limit]
            after = page[-1] if len(entries) > query.limit else None
            return AccessPage(tuple(entries[place] for place in page), after)

        return await self._file.read(work)

    async def _append(self, kind: str, record_id: str, stored: Stored, *, content: PublicModel) -> Stored:
        """Write ``stored`` once under its id and into the outbox, and return what is stored there.

        The id is the tenant's: the same id for another answer, agent or content is a conflict.
        """
        table, columns = _TABLE_OF[kind], "answer_id, id, agent, content, body, newer"
        row = (stored.answer_id, record_id, stored.agent, content.model_dump_json(), *encode_row(stored))
        select = f"SELECT {columns} FROM {table} WHERE id = ?"  # noqa: S608 (our own names)
        insert = f"INSERT INTO {table} ({columns}) VALUES (?, ?, ?, ?, ?, ?)"  # noqa: S608

        def work(connection: Transaction) -> Sequence[Any]:
            existing = connection.execute(select, (record_id,)).fetchone()
            if existing is None:
                connection.execute(insert, row)
                _queue(connection, kind, stored.answer_id)
            elif existing[:4] != row[:4]:
                raise ConflictError(f"The id {record_id} was used before with other content. Use a new id.")
            return (existing or row)[4:]

        return type(stored).model_validate_json(join_row(*await self._file.write(work)))


def _queue(connection: Transaction, kind: str, answer_id: str) -> None:
    """Put the row that was just inserted into the outbox, in the same transaction."""
    row = connection.execute("SELECT last_insert_rowid()").fetchone()[0]
    connection.execute(_QUEUE, (kind, answer_id, row))


def _accesses(connection: Transaction, query: AccessQuery) -> Iterator[tuple[str, AccessEntry]]:
    """Yield candidates, each with its place in the order: by time, then answers, then reads."""
    words = [word for word in (query.agent, query.document_id) if word is not None and word.isprintable()]
    about = " AND ".join(["true", *("instr(body, ?)" for _ in words)])  # only narrows the search
    values = [orjson.dumps(word).decode() for word in words]
    period = (_seconds(query.since), _seconds(query.until))
    answers = f"SELECT body, newer FROM known WHERE asked_at >= ? AND asked_at < ? AND {about}"  # noqa: S608 (our own words)
    for row in connection.execute(answers, (*period, *values)):
        entry = AnswerRecord.model_validate_json(join_row(*row)).sight()
        yield f"{_place(entry.at)}#asked#{entry.subject_id}", entry
    # The sights among them are those of the answers above.
    reads = f"SELECT number, body, newer FROM accesses WHERE {_NO_SIGHT} AND {about}"  # noqa: S608
    for number, *row in connection.execute(reads, values):
        entry = AccessEntry.model_validate_json(join_row(*row))
        yield f"{_place(entry.at)}#read#{number:012d}", entry


def _place(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


def _answer_row(record: AnswerRecord) -> tuple[str | None, ...]:
    return (record.answer_id, record.conversation_id, _seconds(record.asked_at), *encode_row(record))


def _seconds(at: datetime) -> str:
    """Return a time that sorts as text."""
    return f"{at.timestamp():020.6f}"


# Reads of live systems, and the outbox of feedback


class SqliteLiveReads(_AuditedStore):
    """``LiveReads`` in the file ``path`` of the records."""

    async def record(self, read: LiveRead) -> None:
        await self._record(read)

    async def list(self, query: LiveReadQuery) -> LiveReadPage:
        at, _, read_id = (query.after or _place(query.since)).partition("#")
        conditions = ["(at, json_extract(body, '$.read_id')) > (?, ?)", "at < ?"]
        values: list[object] = [at, read_id, _place(query.until)]
        for name, wanted in (("subject", query.subject), ("agent", query.agent)):
            if wanted is not None:
                conditions.append(f"json_extract(body, '$.{name}') = ?")
                values.append(wanted)
        statement = (
            f"SELECT body FROM live_reads WHERE {' AND '.join(conditions)}"  # noqa: S608 (our own words)
            " ORDER BY at, json_extract(body, '$.read_id') LIMIT ?"
        )
        reads = await self._bodies(LiveRead, statement, *values, query.limit + 1)
        page = tuple(reads[: query.limit])
        return LiveReadPage(page, place_of(page[-1]) if len(reads) > query.limit else None)


_PENDING = """SELECT outbox.number, kind, outbox.answer_id, coalesce(verdicts.body, sends.body, acts.body),
    acts.newer
FROM outbox
LEFT JOIN verdicts ON kind = 'verdict' AND verdicts.number = row
LEFT JOIN sends ON kind = 'sent' AND sends.number = row
LEFT JOIN acts ON kind = 'act' AND acts.number = row
ORDER BY outbox.number LIMIT ?"""
_MODEL_OF = {"verdict": StoredVerdict, "sent": StoredSent, "act": StoredAct}


class SqliteFeedbackOutbox(SqliteStore):
    """``FeedbackOutbox`` in the file ``path`` of the records."""

    schema = RECORDS_SCHEMA
    store = "records"

    async def pending(self, *, limit: int = 500) -> list[OutboxRow]:
        rows = await self._file.query(_PENDING, (limit,))
        return [
            OutboxRow(
                str(number),
                kind,
                answer_id,
                None if body is None else _MODEL_OF[kind].model_validate_json(join_row(body, newer)),
            )
            for number, kind, answer_id, body, newer in rows
        ]

    async def confirm(self, rows: Sequence[OutboxRow]) -> None:
        numbers = json_array(int(row.row_id) for row in rows)
        await self._file.execute(
            "DELETE FROM outbox WHERE number IN (SELECT value FROM json_each(?))", (numbers,)
        )


# Claims and live values, which expire


_CLAIM_TABLES = """
CREATE TABLE IF NOT EXISTS logs (
    answer_id TEXT PRIMARY KEY, agent TEXT NOT NULL, request_hash TEXT NOT NULL, key TEXT,
    context TEXT NOT NULL, expires_at REAL NOT NULL, UNIQUE (agent, key)
);
CREATE INDEX IF NOT EXISTS logs_by_expiry ON logs (expires_at);
CREATE TABLE IF NOT EXISTS signals (
    answer_id TEXT PRIMARY KEY, cancelled INTEGER NOT NULL, readers INTEGER NOT NULL, expires_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS signals_by_expiry ON signals (expires_at);
CREATE TABLE IF NOT EXISTS contexts (
    token_id TEXT PRIMARY KEY, answer_id TEXT NOT NULL, key TEXT, expires_at REAL NOT NULL
);
CREATE INDEX IF NOT EXISTS contexts_by_expiry ON contexts (expires_at);
DROP TABLE IF EXISTS batches;
DROP TABLE IF EXISTS unsettled;
"""
"""Names and columns are those of the release before; what is dropped had its events, with their text."""
_DELETED_AT_ONCE = 500
"""Expired rows of a table that one transaction deletes: other writes wait for no more."""
_SWEEP_EVERY_S = 30.0
_CLAIM = (
    "INSERT INTO logs (answer_id, agent, request_hash, key, context, expires_at) VALUES (?, ?, ?, ?, '', ?)"
)
_CLAIMED = "SELECT answer_id, agent, key, request_hash, expires_at FROM logs WHERE agent = ? AND key = ?"
_UNCLAIM = "DELETE FROM logs WHERE agent = ? AND key = ?"
_CANCEL = """INSERT INTO signals (answer_id, cancelled, readers, expires_at) VALUES (?, 1, 0, ?)
ON CONFLICT (answer_id) DO UPDATE SET cancelled = 1, expires_at = excluded.expires_at"""
_COUNT_CONTEXT = """INSERT INTO contexts (token_id, answer_id, key, expires_at) VALUES (?, ?, ?, ?)
ON CONFLICT (token_id) DO UPDATE SET answer_id = excluded.answer_id, key = excluded.key,
    expires_at = excluded.expires_at WHERE contexts.expires_at <= ?"""
_COUNTED = "SELECT 1 FROM contexts WHERE token_id = ? AND (answer_id = ? OR key = ?)"
_CANCELLED = """SELECT answer_id FROM signals
WHERE answer_id IN (SELECT value FROM json_each(?)) AND cancelled AND expires_at > ?"""


class _ExpiringStore(SqliteStore):
    """A store whose expired rows are deleted while the process runs: when it is first used, then every 30 s.

    The bytes go too: pages are overwritten, and the write-ahead log is emptied.
    """

    tables: ClassVar[tuple[str, ...]]

    def __init__(
        self, path: Path, *, clock: Clock | None = None, sweep_every_s: float = _SWEEP_EVERY_S
    ) -> None:
        super().__init__(path, clock=clock)
        self._sweep_every_s = sweep_every_s
        self._sweeping: asyncio.Task[None] | None = None
        self._may_be_in_log = True
        """Whether the write-ahead log may still hold rows that were deleted."""

    def begin_sweep(self) -> None:
        """Delete what expired, now and from now on: a service that stopped may have left rows."""
        if self._sweeping is None or self._sweeping.done():
            self._sweeping = asyncio.create_task(self._sweep())

    async def close(self) -> None:
        if self._sweeping is not None:
            self._sweeping.cancel()
            await asyncio.wait({self._sweeping})
        await super().close()

    async def _sweep(self) -> None:
        while True:
            try:
                await self._delete_expired()
            except RecordsUnavailableError as error:
                _log.warning("expired_rows_not_deleted", reason=error.message)
            await asyncio.sleep(self._sweep_every_s)

    async def _delete_expired(self) -> None:
        now_s = self._clock.now().timestamp()
        deleted = False
        while await self._file.read(lambda connection: _has_expired(connection, self.tables, now_s)):
            await self._file.write(lambda connection: _delete_expired(connection, self.tables, now_s))
            deleted = True
        if deleted or self._may_be_in_log:
            await self._file.truncate_log()  # once more next time: another process may have read the file
        self._may_be_in_log = deleted


class SqliteAnswerClaims(_ExpiringStore):
    """``AnswerClaims`` in the file ``path``. Several processes may use one file.

    A crash of the machine may lose the last claims, which are not synced to disk with every write: the
    process that made them has ended too.
    """

    schema = _CLAIM_TABLES
    store = "events"
    pragmas = ("synchronous = NORMAL",)
    tables = ("logs", "signals", "contexts")

    async def claim(self, claim: Claim) -> Claim:
        self.begin_sweep()
        key, now_s = (claim.agent, claim.key), self._now_s()
        expires_at_s = claim.claimed_at.timestamp() + CLAIM_EXPIRES_AFTER_S

        def work(connection: Transaction) -> Claim:
            connection.execute(f"{_UNCLAIM} AND expires_at <= ?", (*key, now_s))
            row = connection.execute(_CLAIMED, key).fetchone()
            if row is None:
                values = (claim.answer_id, claim.agent, claim.request_hash, claim.key, expires_at_s)
                connection.execute(_CLAIM, values)
            return claim if row is None else _claim_in(*row)

        return await self._file.write(work)

    async def release(self, claim: Claim) -> None:
        values = (claim.agent, claim.key, claim.answer_id)
        await self._file.execute(f"{_UNCLAIM} AND answer_id = ?", values)

    async def count_context(self, token_id: str, *, answer_id: str, key: str | None) -> bool:
        self.begin_sweep()
        row = (token_id, answer_id, key, self._expires_at_s(), self._now_s())

        def work(connection: Transaction) -> bool:
            connection.execute(_COUNT_CONTEXT, row)
            return connection.execute(_COUNTED, row[:3]).fetchone() is not None

        return await self._file.write(work)

    async def uncount_context(self, token_id: str, *, answer_id: str) -> None:
        statement = "DELETE FROM contexts WHERE token_id = ? AND answer_id = ?"
        await self._file.execute(statement, (token_id, answer_id))

    async def cancel(self, answer_id: str) -> None:
        self.begin_sweep()
        await self._file.execute(_CANCEL, (answer_id, self._expires_at_s()))

    async def cancelled(self, answer_ids: Sequence[str]) -> Collection[str]:
        rows = await self._file.query(_CANCELLED, (json_array(answer_ids), self._now_s()))
        return [answer_id for (answer_id,) in rows]

    def _now_s(self) -> float:
        return self._clock.now().timestamp()

    def _expires_at_s(self) -> float:
        return self._now_s() + CLAIM_EXPIRES_AFTER_S


def _claim_in(answer_id: str, agent: str, key: str, request_hash: str, expires_at_s: float) -> Claim:
    claimed_at = datetime.fromtimestamp(expires_at_s, UTC) - timedelta(seconds=CLAIM_EXPIRES_AFTER_S)
    return Claim(answer_id, agent, key, request_hash, claimed_at)


def _has_expired(connection: Transaction, tables: Sequence[str], now_s: float) -> bool:
    expired = (f"SELECT 1 FROM {table} WHERE expires_at <= ? LIMIT 1" for table in tables)  # noqa: S608
    return any(connection.execute(select, (now_s,)).fetchone() for select in expired)


def _delete_expired(connection: Transaction, tables: Sequence[str], now_s: float) -> None:
    for table in tables:
        expired = f"SELECT rowid FROM {table} WHERE expires_at <= ? LIMIT {_DELETED_AT_ONCE}"  # noqa: S608
        connection.execute(f"DELETE FROM {table} WHERE rowid IN ({expired})", (now_s,))  # noqa: S608


_VALUE_TABLES = """
CREATE TABLE IF NOT EXISTS sent_values (
    answer_id TEXT NOT NULL, send_id TEXT NOT NULL, body TEXT NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (answer_id, send_id)
);
CREATE INDEX IF NOT EXISTS sent_values_by_expiry ON sent_values (expires_at);
"""
_VALUES = "SELECT send_id, body, expires_at FROM sent_values WHERE answer_id = ? AND expires_at > ?"


class SqliteSentValues(_ExpiringStore):
    """``SentValues`` in the file ``path``: not the file of the records, which forget nothing."""

    schema = _VALUE_TABLES
    tables = ("sent_values",)

    async def keep(self, values: ValuesOfSent) -> ValuesOfSent:
        self.begin_sweep()
        body = orjson.dumps(values.values).decode()
        row = (values.answer_id, values.send_id, body, values.expires_at.timestamp())
        await self._file.execute("INSERT OR IGNORE INTO sent_values VALUES (?, ?, ?, ?)", row)
        return (await self.of(values.answer_id)).get(values.send_id, values)

    async def of(self, answer_id: str) -> Mapping[str, ValuesOfSent]:
        rows = await self._file.query(_VALUES, (answer_id, self._clock.now().timestamp()))
        return {
            send_id: ValuesOfSent(
                answer_id, send_id, tuple(orjson.loads(body)), datetime.fromtimestamp(expires_s, UTC)
            )
            for send_id, body, expires_s in rows
        }


# The review desk, and the keys of erasure


_CASE = "coalesce(json_extract(newer, '$.body'), json_extract(body, '$.body'))"
_CASE_LIST = f"""CASE WHEN json_extract({_CASE}, '$.joined') IS NULL THEN json_extract({_CASE}, '$.state')
    ELSE '{JOINED}' END"""
_DESK_TABLES = f"""
CREATE TABLE IF NOT EXISTS revisions (
    number INTEGER PRIMARY KEY, kind TEXT NOT NULL, item_id TEXT NOT NULL, revision INTEGER NOT NULL,
    body TEXT NOT NULL, newer TEXT, UNIQUE (kind, item_id, revision)
);
CREATE INDEX IF NOT EXISTS revisions_by_kind ON revisions (kind, number);
CREATE INDEX IF NOT EXISTS cases_by_list ON revisions ({_CASE_LIST}, number) WHERE kind = 'case';
DROP TRIGGER IF EXISTS revisions_no_update;
CREATE TRIGGER IF NOT EXISTS revisions_stay BEFORE UPDATE OF kind, item_id, revision ON revisions
    BEGIN SELECT RAISE(ABORT, 'revisions is append-only'); END;
CREATE TRIGGER IF NOT EXISTS revisions_no_delete BEFORE DELETE ON revisions
    BEGIN SELECT RAISE(ABORT, 'revisions is append-only'); END;
"""
_NEWEST_REVISION = (
    "SELECT body, newer FROM revisions WHERE kind = ? AND item_id = ? ORDER BY revision DESC LIMIT 1"
)
_ONE_REVISION = "SELECT body, newer FROM revisions WHERE kind = ? AND item_id = ? AND revision = ?"
_REVISIONS = "SELECT body, newer FROM revisions WHERE kind = ? AND item_id = ? ORDER BY revision"
_REVISE = "INSERT INTO revisions (kind, item_id, revision, body, newer) VALUES (?, ?, ?, ?, ?)"
_REWRITE = """UPDATE revisions SET body = ?4, newer = ?5, number = (SELECT max(number) + 1 FROM revisions)
    WHERE kind = ?1 AND item_id = ?2 AND revision = ?3"""
_NEWEST_OF = """SELECT body, newer FROM revisions AS one WHERE {} = ? AND NOT EXISTS (
    SELECT 1 FROM revisions AS later
    WHERE later.kind = one.kind AND later.item_id = one.item_id AND later.revision > one.revision
) ORDER BY number DESC LIMIT ?"""
_ITEMS = _NEWEST_OF.format("kind")
_CASES = _NEWEST_OF.format(f"kind = 'case' AND {_CASE_LIST}")
_DESK_VERSION = "SELECT coalesce(max(number), 0) FROM revisions WHERE kind = ?"


class SqliteDeskStore(SqliteStore):
    """``DeskStore`` in the file ``path``. Several processes may use one file."""

    schema = _DESK_TABLES
    store = "desk"

    async def version(self) -> int:
        served = [kind.value for kind in DeskKind if kind not in NOT_SERVED]

        def work(connection: Transaction) -> int:
            return sum(int(connection.execute(_DESK_VERSION, (kind,)).fetchone()[0]) for kind in served)

        return await self._file.read(work)

    async def put(self, *items: DeskItem) -> None:
        rows = [(item, encode_row(item)) for item in items]

        def work(connection: Transaction) -> None:
            for item, row in rows:
                key = (item.kind.value, item.item_id)
                same = _item(connection.execute(_ONE_REVISION, (*key, item.revision)).fetchone())
                newest = _item(connection.execute(_NEWEST_REVISION, key).fetchone())
                if follows_newest(item, same=same, newest=newest):
                    connection.execute(_REVISE, (*key, item.revision, *row))

        await self._file.write(work)

    async def rewrite(self, item: DeskItem) -> None:
        row = (item.kind.value, item.item_id, item.revision, *encode_row(item))
        await self._file.execute(_REWRITE, row)
        await self._file.truncate_log()

    async def get(self, kind: DeskKind, item_id: str) -> DeskItem | None:
        items = await self._bodies(DeskItem, _NEWEST_REVISION, kind.value, item_id)
        return items[0] if items else None

    async def list(self, kind: DeskKind, *, listed: str | None = None, limit: int = 5_000) -> list[DeskItem]:
        if listed is not None:
            return await self._bodies(DeskItem, _CASES, listed, limit)
        return await self._bodies(DeskItem, _ITEMS, kind.value, limit)

    async def history(self, kind: DeskKind, item_id: str) -> list[DeskItem]:
        return await self._bodies(DeskItem, _REVISIONS, kind.value, item_id)


def _item(row: tuple[Any, ...] | None) -> DeskItem | None:
    return None if row is None else DeskItem.model_validate_json(join_row(*row))


_KEYS = """
CREATE TABLE IF NOT EXISTS erasure_keys (subject TEXT PRIMARY KEY, key BLOB, destroyed_at TEXT);
"""
_OF_SUBJECTS = "FROM erasure_keys WHERE subject IN (SELECT value FROM json_each(?))"


class SqliteErasureKeys(SqliteStore):
    """``ErasureKeys`` in the file ``path``. A destroyed key is overwritten on disk (``secure_delete``)."""

    schema = _KEYS

    async def keys_of(self, subjects: Collection[str], *, create: bool) -> dict[str, bytes]:
        wanted = json_array(subjects)

        def work(connection: Transaction) -> list[tuple[str, bytes]]:
            if create:
                new = [(subject, secrets.token_bytes(KEY_BYTES)) for subject in subjects]
                connection.executemany("INSERT OR IGNORE INTO erasure_keys (subject, key) VALUES (?, ?)", new)
            select = f"SELECT subject, key {_OF_SUBJECTS} AND key IS NOT NULL"
            return [(subject, key) for subject, key in connection.execute(select, (wanted,))]

        return dict(await (self._file.write(work) if create else self._file.read(work)))

    async def destroy(self, subject: str) -> bool:
        now = self._clock.now().astimezone(UTC).isoformat()

        def work(connection: Transaction) -> bool:
            select = "SELECT 1 FROM erasure_keys WHERE subject = ? AND key IS NOT NULL"
            there = connection.execute(select, (subject,)).fetchone() is not None
            connection.execute(
                "INSERT INTO erasure_keys (subject, destroyed_at) VALUES (?, ?) ON CONFLICT (subject)"
                " DO UPDATE SET key = NULL, destroyed_at = excluded.destroyed_at",
                (subject, now),
            )
            return there

        destroyed = await self._file.write(work)
        await self._file.truncate_log()
        return destroyed

    async def destroyed(self, subjects: Collection[str]) -> dict[str, datetime]:
        select = f"SELECT subject, destroyed_at {_OF_SUBJECTS} AND destroyed_at IS NOT NULL"
        rows = await self._file.query(select, (json_array(subjects),))
        return {subject: datetime.fromisoformat(at) for subject, at in rows}
