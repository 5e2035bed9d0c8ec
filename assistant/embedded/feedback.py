"""The feedback of one tenant on a laptop: the outbox and the keys of erasure in SQLite, events in files."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import orjson

from assistant.domain.answers import StoredSent, StoredVerdict
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.errors import DependencyError, RecordsUnavailableError
from assistant.domain.feedback import StoredAct
from assistant.embedded.answers import records_file
from assistant.embedded.files import SqliteFile, Transaction
from assistant.learning.ports import KEY_BYTES, OutboxRow
from assistant.private_files import FILE_MODE, make_private_folder

_PENDING = """SELECT outbox.number, kind, outbox.answer_id, coalesce(verdicts.body, sends.body, acts.body)
FROM outbox
LEFT JOIN verdicts ON kind = 'verdict' AND verdicts.number = row
LEFT JOIN sends ON kind = 'sent' AND sends.number = row
LEFT JOIN acts ON kind = 'act' AND acts.number = row
ORDER BY outbox.number LIMIT ?"""
_MODEL_OF = {"verdict": StoredVerdict, "sent": StoredSent, "act": StoredAct}


class SqliteFeedbackOutbox:
    """``FeedbackOutbox`` in the file ``path`` of the records."""

    def __init__(self, path: Path) -> None:
        self._file = records_file(path)

    async def close(self) -> None:
        await self._file.close()

    async def pending(self, *, limit: int = 500) -> list[OutboxRow]:
        rows = await self._file.query(_PENDING, (limit,))
        return [
            OutboxRow(
                str(number),
                kind,
                answer_id,
                None if body is None else _MODEL_OF[kind].model_validate_json(body),
            )
            for number, kind, answer_id, body in rows
        ]

    async def confirm(self, rows: Sequence[OutboxRow]) -> None:
        numbers = orjson.dumps([int(row.row_id) for row in rows]).decode()
        await self._file.execute(
            "DELETE FROM outbox WHERE number IN (SELECT value FROM json_each(?))", (numbers,)
        )


_KEYS = """
CREATE TABLE IF NOT EXISTS erasure_keys (subject TEXT PRIMARY KEY, key BLOB, destroyed_at TEXT);
"""
_OF_SUBJECTS = "FROM erasure_keys WHERE subject IN (SELECT value FROM json_each(?))"


class SqliteErasureKeys:
    """``ErasureKeys`` in the file ``path``. A destroyed key is overwritten on disk (``secure_delete``)."""

    def __init__(self, path: Path, *, clock: Clock | None = None) -> None:
        self._file = SqliteFile(path, schema=_KEYS, unavailable=RecordsUnavailableError)
        self._clock = clock or SystemClock()

    async def close(self) -> None:
        await self._file.close()

    async def keys_of(self, subjects: Collection[str], *, create: bool) -> dict[str, bytes]:
        wanted = orjson.dumps(list(subjects)).decode()

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
        rows = await self._file.query(select, (orjson.dumps(list(subjects)).decode(),))
        return {subject: datetime.fromisoformat(at) for subject, at in rows}


class FolderFeedbackFiles:
    """``FeedbackFiles`` below a folder. A file is synced and renamed: after a crash it is whole or absent."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def put(self, key: str, content: bytes) -> None:
        try:
            await asyncio.to_thread(_put, self._folder / key, content)
        except OSError as error:
            raise DependencyError(f"The feedback store cannot write: {error.strerror}.") from error

    async def get(self, key: str) -> bytes | None:
        try:
            return await asyncio.to_thread((self._folder / key).read_bytes)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise DependencyError(f"The feedback store cannot read: {error.strerror}.") from error

    async def keys(self, prefix: str) -> AsyncIterator[str]:
        for key in await asyncio.to_thread(self._list, prefix):
            yield key

    def _list(self, prefix: str) -> list[str]:
        found = (self._folder / prefix).rglob("[!.]*.json*")
        return [path.relative_to(self._folder).as_posix() for path in found]


def _put(path: Path, content: bytes) -> None:
    if path.exists():
        return
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    make_private_folder(path.parent)
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    finally:
        with suppress(FileNotFoundError):
            draft.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
