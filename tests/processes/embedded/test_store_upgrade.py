"""Files of the release before: refused, moved, killed in the middle, and given back."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.desk import DeskKind
from assistant.domain.errors import ConfigurationError
from assistant.embedded.files import STORE_FILES, move_file, open_connection, read_format, refuse_files
from assistant.embedded.records import SqliteAnswerRecords, SqliteDeskStore
from assistant.store_formats import FIRST, StoreFormat, format_of
from tests.unit.release_before import make_state, new_act, new_answer, new_case, refusals

COUNT = 200


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old") / "pharmacy"
    make_state(folder, count=COUNT)
    return folder


@pytest.fixture
def folder(old: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "pharmacy"
    copy.mkdir()
    for file in old.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    return copy


def move(folder: Path, to: Callable[[str], StoreFormat] = format_of) -> None:
    for store in ("records", "desk"):
        move_file(folder / STORE_FILES[store], store=store, to=to(store))


def rows(folder: Path, store: str, statement: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(folder / STORE_FILES[store])) as file:
        return file.execute(statement).fetchall()


async def test_a_file_of_the_release_before_is_refused_unchanged(folder: Path) -> None:
    before = rows(folder, "records", "SELECT * FROM sqlite_master")
    records = SqliteAnswerRecords(folder / "records.sqlite")
    with pytest.raises(ConfigurationError, match="Move it: assistant tenant upgrade --tenant pharmacy"):
        await records.put_answer(new_answer())
    await records.close()
    assert rows(folder, "records", "SELECT * FROM sqlite_master") == before


def test_a_service_finds_every_file_that_must_be_moved(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"desk\.sqlite has format 1"):
        refuse_files(folder)
    move(folder)
    refuse_files(folder)


def test_a_file_of_a_newer_release_is_refused(folder: Path) -> None:
    move(folder, lambda _: StoreFormat(4, 3))
    with pytest.raises(ConfigurationError, match="has format 4"):
        refuse_files(folder)


async def test_nothing_is_lost_by_the_move(folder: Path) -> None:
    move(folder)
    records, desk = SqliteAnswerRecords(folder / "records.sqlite"), SqliteDeskStore(folder / "desk.sqlite")
    assert len(await records.list_conversation("c1", limit=COUNT + 1)) == COUNT
    assert len(await records.list_verdicts(limit=COUNT + 1)) == COUNT
    assert len(await desk.list(DeskKind.CASE)) == COUNT
    await records.close()
    await desk.close()


async def test_both_releases_read_what_the_other_one_writes(folder: Path) -> None:
    move(folder)
    records, desk = SqliteAnswerRecords(folder / "records.sqlite"), SqliteDeskStore(folder / "desk.sqlite")
    await records.put_answer(new_answer())
    await records.append_act("new", new_act().act, agent="ana")
    await desk.put(new_case())
    # The statement of the release before, while this one has the file open.
    with closing(sqlite3.connect(folder / "records.sqlite")) as file, file:
        (body,) = file.execute("SELECT body FROM known WHERE answer_id = 'old0'").fetchone()
        row = ("late", "c1", "1", json.dumps({**json.loads(body), "answer_id": "late"}))
        file.execute(
            "INSERT INTO answers (answer_id, conversation_id, asked_at, body) VALUES (?, ?, ?, ?)", row
        )
    late = await records.get_answer("late")
    assert late is not None
    assert late.answer_id == "late"
    assert await records.get_answer("new") == new_answer()
    assert (await records.list_acts("new"))[0].act == new_act().act
    for model, store, table in (
        ("AnswerRecord", "records", "known"),
        ("StoredAct", "records", "acts"),
        ("DeskItem", "desk", "revisions"),
    ):
        bodies = rows(folder, store, f"SELECT body FROM {table}")  # noqa: S608 (our own tables)
        assert bodies
        assert [refusals(model, body) for (body,) in bodies if refusals(model, body)] == []
    await records.close()
    await desk.close()


async def test_the_way_back_and_forth_keeps_what_only_this_release_knows(folder: Path) -> None:
    move(folder)
    records = SqliteAnswerRecords(folder / "records.sqlite")
    await records.put_answer(new_answer())
    await records.close()
    move(folder, lambda _: FIRST)
    with pytest.raises(ConfigurationError):
        refuse_files(folder)
    move(folder)
    records = SqliteAnswerRecords(folder / "records.sqlite")
    assert await records.get_answer("new") == new_answer()
    await records.close()


KILLED = """
import os, signal, sys
from pathlib import Path
from assistant.embedded import files
from assistant.store_formats import format_of
left = int(sys.argv[2])
def trace(frame, event, arg):
    global left
    if frame.f_code.co_name == "move_file":
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
    return trace
sys.settrace(trace)
files.move_file(Path(sys.argv[1]), store="records", to=format_of("records"))
"""


def test_a_move_that_was_killed_at_any_line_goes_on(folder: Path) -> None:
    """Kill it before its first line, then before its second one, and so on to its end."""
    path, killed, done = folder / "records.sqlite", 0, False
    while not done:
        killed += 3
        command = [sys.executable, "-c", KILLED, str(path), str(killed)]
        done = subprocess.run(command, check=False).returncode == 0
        with closing(open_connection(path)) as file:
            columns = {row[1] for row in file.execute("PRAGMA table_info(acts)")}
            assert ("newer" in columns) == (read_format(file) == format_of("records"))
            assert file.execute("SELECT count(*) FROM answers").fetchone() == (COUNT,)
    assert killed > 10
