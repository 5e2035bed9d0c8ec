"""What is particular to states, queue and records in SQLite."""

from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import (
    ConfigurationError,
    DependencyError,
    OverloadedError,
    RecordsUnavailableError,
)
from assistant.stores import sqlite_file as files
from assistant.stores import sqlite_queue as ingestion
from assistant.stores.documents import StoredStates
from assistant.stores.records import StoredRecords
from assistant.stores.sqlite_file import SqliteFile, Transaction, open_connection, run_in_its_thread
from assistant.stores.sqlite_queue import SqliteIngestionQueue
from assistant.stores.sqlite_table import SqliteTable
from assistant.stores.table import keyed
from tests.contracts import samples


@pytest.mark.parametrize("statement", ["UPDATE items SET item = '{}'", "DELETE FROM items"])
async def test_records_refuse_change_and_deletion(tmp_path: Path, statement: str) -> None:
    table = SqliteTable(tmp_path / "records.sqlite", append_only=True)
    await StoredRecords(table).put_answer(samples.answer())
    await table.close()
    connection = sqlite3.connect(tmp_path / "records.sqlite")
    try:
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            connection.execute(statement)
    finally:
        connection.close()


async def test_what_is_written_over_leaves_the_disk_at_once(tmp_path: Path) -> None:
    table = SqliteTable(tmp_path / "erasure.sqlite", overwrites=True)
    await table.put(keyed(("p", "s"), text="the first value"))
    await table.put(keyed(("p", "s"), text="the second value"))
    found = _bytes_in(tmp_path)
    assert (b"the first value" in found, b"the second value" in found) == (False, True)
    await table.change(("p", "s"), remove=["text"])
    assert b"the second value" not in _bytes_in(tmp_path)
    await table.close()


def _bytes_in(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in folder.iterdir())


async def test_a_damaged_file_of_records_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "records.sqlite").write_bytes(b"this is no database, it is text" * 100)
    records_table = SqliteTable(tmp_path / "records.sqlite")
    records = StoredRecords(records_table)
    with pytest.raises(RecordsUnavailableError, match=r"records\.sqlite"):
        await records.get_answer("a1")
    await records_table.close()


async def test_a_full_queue_refuses_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingestion, "MOST_MESSAGES", 3)
    queue = SqliteIngestionQueue(tmp_path / "queue.sqlite")
    await queue.send_many(["a", "b"])
    with pytest.raises(OverloadedError, match="full"):
        await queue.send_many(["c", "d"])
    assert await queue.depth() == 2
    await queue.send_many(["c"])
    await queue.close()


async def test_the_times_of_a_file_tell_each_commit_of_another_process(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    file, other = [SqliteFile(path, schema="CREATE TABLE IF NOT EXISTS t (v)") for _ in range(2)]
    await file.execute("INSERT INTO t VALUES (1)")
    assert file.written() != file.written(), "a commit of this instant may have hidden another"
    for each in (path, tmp_path / "x.sqlite-wal"):
        os.utime(each, ns=(0, 10**18))
    at_rest = file.written()
    assert file.written() == at_rest
    await other.execute("INSERT INTO t VALUES (2)")
    assert file.written() != at_rest
    await file.close()
    await other.close()


async def test_a_transaction_that_fails_keeps_nothing(tmp_path: Path) -> None:
    file = SqliteFile(tmp_path / "x.sqlite", schema="CREATE TABLE IF NOT EXISTS t (v UNIQUE)")

    def fail(connection: Transaction) -> None:
        connection.execute("INSERT INTO t VALUES (1)")
        connection.execute("INSERT INTO t VALUES (1)")

    with pytest.raises(sqlite3.IntegrityError):
        await file.write(fail)
    assert await file.read(lambda connection: connection.execute("SELECT count(*) FROM t").fetchone()) == (0,)
    await file.close()


@pytest.mark.parametrize(
    ("number", "readable_from", "says"),
    [
        (5, 4, "format 5, .* reads format 3"),
        (2, 2, "format 2, .* Serve it once with the release of 28 November"),
    ],
)
async def test_a_file_of_another_format_is_refused(
    tmp_path: Path, number: int, readable_from: int, says: str
) -> None:
    table = SqliteTable(tmp_path / "desk.sqlite")
    await StoredStates(table).get("a")
    await table.close()
    files.refuse_files(tmp_path)
    with closing(sqlite3.connect(tmp_path / "desk.sqlite")) as file, file:
        file.execute("UPDATE store_format SET number = ?, readable_from = ?", (number, readable_from))
    with pytest.raises(ConfigurationError, match=says):
        files.refuse_files(tmp_path)


async def test_a_folder_in_the_way_is_a_dependency_s_error(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite").mkdir()
    states_table = SqliteTable(tmp_path / "queue.sqlite")
    states = StoredStates(states_table)
    with pytest.raises(DependencyError):
        await states.get("a")
    await states_table.close()


def test_closing_an_unused_store_opens_no_file(tmp_path: Path) -> None:
    asyncio.run(SqliteTable(tmp_path / "queue.sqlite").close())
    assert list(tmp_path.iterdir()) == []


RECEIVER = """
import asyncio, sys
from pathlib import Path
from assistant.stores.sqlite_queue import SqliteIngestionQueue

async def main():
    queue = SqliteIngestionQueue(Path(sys.argv[1]))
    taken = await queue.receive(limit=10, wait_s=10, visibility_timeout_s=600)
    print(len(taken), flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.mark.parametrize("killed", [True, False])
async def test_messages_of_a_killed_receiver_come_again_at_once(tmp_path: Path, killed: bool) -> None:
    path = tmp_path / "queue.sqlite"
    queue = SqliteIngestionQueue(path)
    await queue.send_many(["a", "b"])
    receiver = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RECEIVER, str(path), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert receiver.stdout is not None
        assert await asyncio.wait_for(receiver.stdout.readline(), 30) == b"2\n"
        if killed:
            receiver.kill()
            await receiver.wait()
        messages = await queue.receive(limit=10, wait_s=0, visibility_timeout_s=600)
        expected = [("a", 2), ("b", 2)] if killed else []
        assert [(message.document_id, message.attempt) for message in messages] == expected
    finally:
        await queue.close()
        if receiver.returncode is None:
            receiver.kill()
        await receiver.wait()


WRITER_OF_A_NEW_FILE = """
import sqlite3, sys

connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("writes", flush=True)
sys.stdin.readline()
"""


@pytest.mark.parametrize("ends", [True, False])
def test_the_switch_of_a_new_file_waits_for_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool
) -> None:
    path, waited = tmp_path / "new.sqlite", list[float]()
    command = [sys.executable, "-c", WRITER_OF_A_NEW_FILE, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writes\n"

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            if ends:
                writer.communicate("end\n")

        monkeypatch.setattr(files.time, "sleep", sleep)
        if ends:
            with closing(open_connection(path)) as connection:
                assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        else:
            monkeypatch.setattr(files, "BUSY_TIMEOUT_S", 0.1)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                open_connection(path)
            writer.communicate("end\n")
    assert waited


# --- threads ----------------------------------------------------------------------------------------------
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
