"""Changes audit records behind a store's back, as somebody with the rights of an administrator can."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path

from assistant.domain.audit import AuditLink

Change = Callable[[str, AuditLink], tuple[str, AuditLink] | None]
"""Takes content and link of a record, and returns what is there instead; None removes the record."""


def change_records(records: Path, day: date, change: Change) -> None:
    """Apply a change to each chained record of a day."""
    with unguarded(records) as file:
        statement = "SELECT rowid, item FROM items WHERE pk IN (?, ?)"
        for rowid, stored in file.execute(statement, (f"access#{day}", f"access#{day}#writers")).fetchall():
            item = json.loads(stored)
            if "link" not in item:
                continue
            changed = change(item["body"], AuditLink.model_validate_json(item["link"]))
            if changed is None:
                file.execute("DELETE FROM items WHERE rowid = ?", (rowid,))
                continue
            content, link = changed
            written = json.dumps({**item, "body": content, "link": link.model_dump_json()})
            file.execute("UPDATE items SET item = ? WHERE rowid = ?", (written, rowid))


def add_copy(records: Path, content: str, link: AuditLink) -> None:
    """Write a record once more, with this link."""
    with unguarded(records) as file:
        item = json.dumps({"body": content, "link": link.model_dump_json()})
        row = (f"access#{link.day}", f"{link.day}T12:00:00.000000+00:00#copy", item)
        file.execute("INSERT INTO items (pk, sk, item) VALUES (?, ?, ?)", row)


def remove_links(records: Path, day: date) -> None:
    """Leave the records of a day without their chains."""
    with unguarded(records) as file:
        file.execute("DELETE FROM items WHERE pk = ?", (f"access#{day}#writers",))
        file.execute("UPDATE items SET item = json_remove(item, '$.link') WHERE pk = ?", (f"access#{day}",))


@contextmanager
def unguarded(records: Path) -> Generator[sqlite3.Connection]:
    """Let the table change and delete items from now on."""
    with closing(sqlite3.connect(records)) as file, file:
        for trigger in ("items_stay", "items_no_delete"):
            file.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        yield file


def with_agent(content: str, agent: str) -> str:
    return json.dumps({**json.loads(content), "agent": agent})
