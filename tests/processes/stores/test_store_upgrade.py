"""Files of releases before: moved when they are opened, also where a process is killed meanwhile."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from assistant.domain.audit import AccessQuery
from assistant.domain.desk import DeskKind
from assistant.domain.errors import ConfigurationError
from assistant.stores.sqlite_file import refuse_files
from tests.processes.stores.kept_state import FILES, open_tenant, read, restore
from tests.unit.release_before import ANSWER, make_state

COUNT = 200
OF_TABLES = Path(__file__).parents[2] / "data" / "release_of_tables"


async def test_everything_of_the_last_release_is_read_again(tmp_path: Path) -> None:
    restore(OF_TABLES, tmp_path / "pharmacy")
    expected = json.loads((OF_TABLES / "read.json").read_text())
    for _ in range(2):
        stores = open_tenant(tmp_path / "pharmacy")
        found = json.loads(json.dumps(await read(stores)))
        await stores.close()
        for name, value in expected.items():
            assert found[name] == value, name


async def test_a_file_of_the_release_before_it_loses_nothing(tmp_path: Path) -> None:
    make_state(tmp_path / "pharmacy", count=COUNT)
    stores = open_tenant(tmp_path / "pharmacy")
    assert len(await stores.records.list_conversation("c1", limit=COUNT + 1)) == COUNT
    assert len(await stores.records.list_verdicts(limit=COUNT + 1)) == COUNT
    assert len(await stores.desk.list(DeskKind.CASE)) == COUNT
    asked_at = datetime.fromisoformat(ANSWER["asked_at"])
    query = AccessQuery(since=asked_at, until=asked_at + timedelta(seconds=1), limit=COUNT)
    assert {entry.kind for entry in (await stores.records.list_accesses(query)).entries} == {"asked"}
    await stores.close()


def test_rows_that_a_release_before_adds_after_the_move_are_moved_too(tmp_path: Path) -> None:
    folder = tmp_path / "pharmacy"
    restore(OF_TABLES, folder)
    _open(folder)
    with closing(sqlite3.connect(folder / "connectors.sqlite")) as file:
        file.executescript((OF_TABLES / "connectors.sql").read_text().replace("store_format", "other_format"))
        file.execute("DELETE FROM items")
        file.commit()
    _open(folder)
    with closing(sqlite3.connect(folder / "connectors.sqlite")) as file:
        assert file.execute("SELECT pk, sk FROM items").fetchall() == [("source-runs", "source")]


def test_a_file_of_a_newer_release_is_refused(tmp_path: Path) -> None:
    restore(OF_TABLES, tmp_path / "pharmacy")
    refuse_files(tmp_path / "pharmacy")
    with closing(sqlite3.connect(tmp_path / "pharmacy" / "desk.sqlite")) as file, file:
        file.execute("UPDATE store_format SET number = 5, readable_from = 4")
    with pytest.raises(ConfigurationError, match=r"desk\.sqlite has format 5, .* reads format 3"):
        refuse_files(tmp_path / "pharmacy")


OPEN = """
import asyncio, os, signal, sys
from pathlib import Path
from assistant.stores import earlier_files
from tests.processes.stores.kept_state import open_tenant
left = int(sys.argv[2])
def progress():
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return 0
moved = earlier_files.move_tables
def move(connection):
    connection.set_progress_handler(progress, 100)
    return moved(connection)
earlier_files.move_tables = move
import assistant.stores.sqlite_table
assistant.stores.sqlite_table.move_tables = move
async def main():
    stores = open_tenant(Path(sys.argv[1]))
    for table in ("records", "desk", "states", "source_runs", "claims", "sent_values", "erasure_keys"):
        await getattr(stores, table)._table.get(("none", "none"))
    await stores.close()
asyncio.run(main())
"""


def _open(folder: Path, *, killed_after: int = 0) -> int:
    command = [sys.executable, "-c", OPEN, str(folder), str(killed_after)]
    return subprocess.run(command, check=False).returncode


async def test_a_move_that_was_killed_at_any_moment_goes_on(tmp_path: Path) -> None:
    folder, killed = tmp_path / "pharmacy", 0
    restore(OF_TABLES, folder)
    while _open(folder, killed_after=1 + 6 * killed) != 0:
        killed += 1
        for name in FILES:
            with closing(sqlite3.connect(folder / f"{name}.sqlite")) as file:
                assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert killed > 5
    stores = open_tenant(folder)
    assert json.loads(json.dumps(await read(stores))) == json.loads((OF_TABLES / "read.json").read_text())
    await stores.close()
