"""The state folder is its owner's: what is made, and what an older release left."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from assistant.process.private_files import keep_private, make_private_folder
from assistant.stores.blobs import FolderBlobs
from assistant.stores.documents import StoredDocuments
from assistant.stores.sqlite_file import open_connection
from tests.contracts import samples
from tests.stage.tenant_files import wider

READ_AND_CLOSE = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1])
connection.execute("SELECT * FROM t").fetchall()
connection.close()
"""


@pytest.fixture(autouse=True)
def an_open_umask() -> Iterator[None]:
    """What a shell has at worst: nothing is private unless it is made so."""
    before = os.umask(0)
    yield
    os.umask(before)


@pytest.mark.parametrize("exists", [False, True])
def test_sqlite_s_files_are_private_also_those_of_an_older_release(tmp_path: Path, exists: bool) -> None:
    path = tmp_path / "state" / "file.sqlite"
    make_private_folder(path.parent)
    older = sqlite3.connect(path if exists else ":memory:")
    if exists:
        older.execute("PRAGMA journal_mode = WAL")
        older.execute("CREATE TABLE t (v)")
        assert len(wider(path.parent)) == 3
    connection = open_connection(path)
    connection.execute("CREATE TABLE u (v)")
    assert {one.name for one in path.parent.iterdir()} == {
        f"file.sqlite{end}" for end in ("", "-wal", "-shm")
    }
    assert wider(path.parent) == []
    connection.close()
    older.close()


async def test_stored_documents_are_private(tmp_path: Path) -> None:
    await StoredDocuments(FolderBlobs(tmp_path / "state" / "documents")).put(samples.document())
    assert len(list((tmp_path / "state").rglob("*.json"))) == 1
    assert wider(tmp_path / "state") == []


def test_what_an_older_release_left_is_corrected_and_nothing_else_is(tmp_path: Path) -> None:
    state, outside = tmp_path / "state", tmp_path / "outside.txt"
    document = state / "tenants" / "shop" / "documents" / "ab" / "d.json"
    of_somebody = state / "photos" / "p.jpg"
    for path in (document, state / "running.json", of_somebody, outside):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    (document.parent / "link").symlink_to(outside)
    keep_private(state)
    assert wider(state / "tenants") == []
    assert stat.S_IMODE((state / "running.json").stat().st_mode) == 0o600
    assert stat.S_IMODE(of_somebody.stat().st_mode) == stat.S_IMODE(outside.stat().st_mode) == 0o666


def test_a_correction_that_was_killed_is_done_by_the_next_opening(tmp_path: Path) -> None:
    """A folder becomes private after all that is in it."""
    inner = tmp_path / "state" / "tenants" / "shop"
    inner.mkdir(parents=True)
    inner.chmod(0o700)
    (inner / "late").write_text("text")
    keep_private(tmp_path / "state")
    assert wider(tmp_path / "state" / "tenants") == []


def test_the_locks_of_a_database_that_is_open_are_kept(tmp_path: Path) -> None:
    """The system drops a process's locks on a file when the process closes any descriptor of it."""
    path = tmp_path / "file.sqlite"
    first = open_connection(path)
    first.execute("CREATE TABLE t (v)")
    second = open_connection(path)
    second.execute("INSERT INTO t VALUES (1)")
    # The last connection of all processes to close removes the log: this one is not the last.
    subprocess.run([sys.executable, "-c", READ_AND_CLOSE, str(path)], check=True)
    assert path.with_name("file.sqlite-wal").exists()
    first.close()
    second.close()
