"""What a SQLite file of a tenant holds, read behind its stores' back."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson

from assistant.stores.formats import load_body


def stored_bodies(file: Path, *, partition: str, sort: str = "*") -> list[dict[str, Any]]:
    """Return the bodies of items whose keys match the patterns (``GLOB``), in their order; of none where the
    file has no table yet."""
    with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'items'").fetchall():
            return []
        select = "SELECT item FROM items WHERE pk GLOB ? AND sk GLOB ? ORDER BY pk, sk"
        items = [orjson.loads(item) for (item,) in connection.execute(select, (partition, sort))]
    return [orjson.loads(load_body({name: _plain(value) for name, value in item.items()})) for item in items]


def _plain(value: Any) -> Any:
    return base64.b64decode(value["B"]) if isinstance(value, dict) else value
