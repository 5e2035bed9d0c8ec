"""States of one tenant's documents in SQLite."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import orjson

from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.embedded.knowledge_schema import KNOWLEDGE_SCHEMA
from assistant.embedded.sqlite_file import SqliteFile, Transaction

_PUT = """
INSERT INTO states (document_id, state, content_hash, received_at, status) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (document_id) DO UPDATE SET state = excluded.state, content_hash = excluded.content_hash,
    received_at = excluded.received_at, status = excluded.status
"""
_ADVANCE = """
UPDATE states SET state = ?2, status = ?5
WHERE document_id = ?1 AND content_hash = ?3 AND received_at = ?4
    AND (state != 'withdrawn' OR ?2 = 'withdrawn')
"""
_LIST = """
SELECT status FROM states WHERE state IN (SELECT value FROM json_each(?))
    AND document_id > ? AND (? IS NULL OR document_id <= ?) ORDER BY document_id LIMIT ?
"""
_COUNT = """
SELECT state, count(*) FROM states WHERE document_id > ? AND (? IS NULL OR document_id <= ?) GROUP BY state
"""


class SqliteDocumentStates:
    """``DocumentStates`` in the file ``path``, shared with the queues. One row a document."""

    def __init__(self, path: Path) -> None:
        self._file = SqliteFile(path, schema=KNOWLEDGE_SCHEMA)

    async def close(self) -> None:
        await self._file.close()

    async def get(self, document_id: str) -> DocumentStatus | None:
        return (await self.get_many([document_id])).get(document_id)

    async def get_many(self, document_ids: Sequence[str]) -> Mapping[str, DocumentStatus]:
        wanted = orjson.dumps(list(document_ids)).decode()

        def work(connection: Transaction) -> list[DocumentStatus]:
            return _statuses(
                connection.execute(
                    "SELECT status FROM states WHERE document_id IN (SELECT value FROM json_each(?))",
                    (wanted,),
                )
            )

        return {status.document_id: status for status in await self._file.read(work)}

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
        wanted = orjson.dumps([str(state) for state in states or DocumentState]).decode()

        def work(connection: Transaction) -> list[DocumentStatus]:
            return _statuses(
                connection.execute(
                    _LIST,
                    (wanted, after or "", until, until, limit),
                )
            )

        return await self._file.read(work)

    async def count_by_state(
        self, *, after: str | None = None, until: str | None = None
    ) -> Mapping[DocumentState, int]:
        def work(connection: Transaction) -> dict[DocumentState, int]:
            rows = connection.execute(
                _COUNT,
                (after or "", until, until),
            )
            return {DocumentState(state): count for state, count in rows}

        return await self._file.read(work)


def _row(status: DocumentStatus) -> tuple[str, str, str, str, str]:
    return (
        status.document_id,
        status.state.value,
        status.content_hash,
        status.received_at.isoformat(),
        status.model_dump_json(),
    )


def _statuses(rows: Iterable[tuple[str]]) -> list[DocumentStatus]:
    return [DocumentStatus.model_validate_json(row[0]) for row in rows]
