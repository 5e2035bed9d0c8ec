"""What belongs to a file's thread stays in it: no cursor, neither as a result nor behind an error."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

from assistant.stores.documents import StoredStates
from assistant.stores.sqlite_file import SqliteFile, run_in_its_thread
from assistant.stores.sqlite_table import SqliteTable
from tests.contracts import samples

SCHEMA = "CREATE TABLE IF NOT EXISTS t (v UNIQUE)"


@pytest.fixture
async def file(tmp_path: Path) -> Any:
    opened = SqliteFile(tmp_path / "x.sqlite", schema=SCHEMA)
    yield opened
    await opened.close()


async def test_a_statement_gives_its_whole_result(file: SqliteFile) -> None:
    assert await file.write(lambda t: t.executemany("INSERT INTO t VALUES (?)", [(1,), (2,)])) == 2
    rows = await file.read(lambda t: t.execute("SELECT v FROM t ORDER BY v"))
    assert (rows.fetchone(), list(rows)) == ((1,), [(1,), (2,)])
    assert (await file.write(lambda t: t.execute("DELETE FROM t"))).rowcount == 2


def test_an_error_keeps_no_cursor_of_its_frames() -> None:
    connection = sqlite3.connect(":memory:")

    def work() -> None:
        cursor = connection.execute("SELECT 1 UNION SELECT 2")
        cursor.fetchone()
        raise sqlite3.OperationalError("in the middle of its rows")

    with pytest.raises(sqlite3.OperationalError) as caught:
        run_in_its_thread(work)
    gc.collect()
    assert caught.value.__traceback__ is not None
    assert [kept for kept in gc.get_objects() if isinstance(kept, sqlite3.Cursor)] == []


async def test_many_writes_at_once_from_one_loop_all_succeed(tmp_path: Path) -> None:
    """Each write's result once was a cursor that the loop freed while the thread ran the same statement."""
    states_table = SqliteTable(tmp_path / "queue.sqlite")
    states = StoredStates(states_table)
    for round_number in range(5):
        statuses = [samples.status(f"d{round_number}-{number}") for number in range(400)]
        await asyncio.gather(*(states.put_many([status]) for status in statuses))
    assert sum((await states.count_by_state()).values()) == 2000
    await states_table.close()


async def test_a_cancellation_that_arrives_with_the_result_is_kept(file: SqliteFile) -> None:
    """A store that deletes what expired would else go on after its close, which waits for it."""
    finished = threading.Event()
    calls = [
        asyncio.create_task(file.read(lambda _: None)),
        asyncio.create_task(file.read(lambda _: finished.set())),
    ]
    await asyncio.sleep(0)
    assert finished.wait(60)  # the loop has not seen the first result yet
    calls[0].cancel()
    with pytest.raises(asyncio.CancelledError):
        await calls[0]
    await calls[1]
