"""``kill -9`` of a connector's run at random points: nothing is lost, doubled or public.

``KILLS`` points (5 unless told; ``check-kills`` takes 50), drawn by ``SEED``. The run is the command's
own process, on a database that changes meanwhile.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from tests.stage.tenant_stores import stored_bodies

KILLS = int(os.environ.get("KILLS", "5"))
RANDOM = Random(f"connectors {os.environ.get('SEED', '1')}")  # noqa: S311 (no secret)
ROWS = 300
_TENANT = """schema_version = 1
name = "test"
display_name = "Test"
labels = ["hr"]
[[sources]]
name = "base"
access = "everyone"
[sources.connector]
kind = "sql"
url = "sqlite:///{file}"
query = "SELECT id, changed, title, body, readers FROM pages"
key = "id"
changed = "changed"
title = "{{title}}"
text = "{{body}}"
groups_column = "readers"
groups = {{ personnel = ["hr"] }}
page_size = 20
"""


def change(database: sqlite3.Connection, step: int) -> None:
    """Change, delete and insert some rows; every third is for the personnel alone."""
    with database:
        for number in RANDOM.sample(range(ROWS), 30):
            database.execute("DELETE FROM pages WHERE id = ?", (number,))
            if RANDOM.random() < 0.8:
                row = (number, step, f"Page {number}", f"Body after {step}.", "personnel" * (number % 3 == 0))
                database.execute("INSERT INTO pages VALUES (?, ?, ?, ?, ?)", row)


@pytest.mark.timeout(1800)
def test_killed_runs_lose_double_and_open_nothing(tmp_path: Path) -> None:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "test.toml").write_text(_TENANT.format(file=tmp_path / "pages.sqlite"))
    database = sqlite3.connect(tmp_path / "pages.sqlite")
    database.execute("CREATE TABLE pages (id INTEGER PRIMARY KEY, changed, title, body, readers)")
    with database:
        rows = [(n, 0, f"Page {n}", "Body.", "personnel" * (n % 3 == 0)) for n in range(ROWS)]
        database.executemany("INSERT INTO pages VALUES (?, ?, ?, ?, ?)", rows)
    folders = ("--tenants", str(tmp_path / "tenants"), "--state", str(tmp_path / "state"), "--json")

    def begin(*command: str) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-m", "assistant.cli.main", *folders, "knowledge", *command]
        return subprocess.Popen([*arguments, "--tenant", "test"], stdout=subprocess.PIPE)

    def listed() -> dict[str, dict[str, Any]]:
        file = tmp_path / "state/tenants/test/queue.sqlite"
        rows = stored_bodies(file, partition="documents") if file.exists() else []
        return {one["document_id"]: one for one in rows}

    started_s = time.monotonic()
    begin("list").communicate(timeout=60)
    starting_s = time.monotonic() - started_s
    killed = 0
    for step in range(1, KILLS + 1):
        run = begin("sync", "base")
        time.sleep(starting_s * RANDOM.uniform(0.6, 2.5))  # the point in time is what is drawn
        is_running = run.poll() is None
        killed += is_running
        starting_s *= 1.0 if is_running else 0.5  # the machine is faster than when it was measured
        run.send_signal(signal.SIGKILL)
        run.communicate(timeout=60)
        for name, document in listed().items():
            is_personnel = int(name.removeprefix("base:")) % 3 == 0
            assert document["labels"] == ["hr"] * is_personnel, f"{name} has other labels"
        change(database, step)
    last = begin("sync", "base")
    last.communicate(timeout=120)
    assert last.returncode == 0
    assert killed
    expected = {f"base:{number}" for (number,) in database.execute("SELECT id FROM pages")}
    found = listed()
    assert {name for name, one in found.items() if one["state"] != "withdrawn"} == expected
    files = (tmp_path / "state/tenants/test/documents").rglob("*.json")
    texts = [path.read_text() for path in files if not path.match("*.before.json")]
    stored = {one["document_id"]: one["content"] for one in map(orjson.loads, texts)}
    bodies = {f"base:{number}": body for number, body in database.execute("SELECT id, body FROM pages")}
    assert stored == bodies
