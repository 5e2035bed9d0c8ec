"""Changes audit records behind a store's back, as somebody with the rights of an administrator can."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Generator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from typing import Any

from assistant.domain.audit import AuditLink
from tests.contracts.dynamodb_twin import DynamoDbTwin
from tests.contracts.twins import Twin

Change = Callable[[str, AuditLink], tuple[str, AuditLink] | None]
"""Takes content and link of a record, and returns what is there instead; None removes the record."""


async def change_records(twin: Twin, place: Path, day: date, change: Change) -> None:
    """Apply a change to each chained record of a day."""
    if isinstance(twin, DynamoDbTwin):
        await _in_dynamodb(twin, day, change)
    else:
        _in_sqlite(place / "records.sqlite", day, change)


def unguard(twin: Twin, place: Path) -> None:
    """Let ``twin.records_table`` change and delete items, as an administrator can."""
    if not isinstance(twin, DynamoDbTwin):
        with _unguarded(place / "records.sqlite"):
            pass


async def add_copy(twin: Twin, place: Path, content: str, link: AuditLink) -> None:
    """Write a record once more, with this link."""
    if isinstance(twin, DynamoDbTwin):
        client, table = twin.client_and_table()
        key = {"pk": {"S": f"access#{link.day}"}, "sk": {"S": f"{link.day}T12:00:00.000000+00:00#copy"}}
        item = key | {"body": {"S": content}, "link": {"S": link.model_dump_json()}}
        await client.put_item(TableName=table, Item=item)
        return
    with _unguarded(place / "records.sqlite") as file:
        item = json.dumps({"body": content, "link": link.model_dump_json()})
        row = (f"access#{link.day}", f"{link.day}T12:00:00.000000+00:00#copy", item)
        file.execute("INSERT INTO items (pk, sk, item) VALUES (?, ?, ?)", row)


async def remove_links(twin: Twin, place: Path, day: date) -> None:
    """Leave the records of a day without their chains."""
    if isinstance(twin, DynamoDbTwin):
        client, table = twin.client_and_table()
        for item in await _items(twin, f"access#{day}"):
            kept = {name: value for name, value in item.items() if name != "link"}
            await client.put_item(TableName=table, Item=kept)
        for item in await _items(twin, f"access#{day}#writers"):
            await client.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
        return
    with _unguarded(place / "records.sqlite") as file:
        file.execute("DELETE FROM items WHERE pk = ?", (f"access#{day}#writers",))
        file.execute("UPDATE items SET item = json_remove(item, '$.link') WHERE pk = ?", (f"access#{day}",))


async def _items(twin: DynamoDbTwin, partition: str) -> list[dict[str, Any]]:
    client, table = twin.client_and_table()
    query: dict[str, Any] = {"KeyConditionExpression": "pk = :pk"}
    query["ExpressionAttributeValues"] = {":pk": {"S": partition}}
    return (await client.query(TableName=table, **query))["Items"]


async def _in_dynamodb(twin: DynamoDbTwin, day: date, change: Change) -> None:
    client, table = twin.client_and_table()
    for name in (f"access#{day}", f"access#{day}#writers"):
        for item in await _items(twin, name):
            if "link" not in item:
                continue
            changed = change(item["body"]["S"], AuditLink.model_validate_json(item["link"]["S"]))
            if changed is None:
                await client.delete_item(TableName=table, Key={"pk": item["pk"], "sk": item["sk"]})
            else:
                content, link = changed
                written = {"body": {"S": content}, "link": {"S": link.model_dump_json()}}
                await client.put_item(TableName=table, Item=item | written)


def _in_sqlite(path: Path, day: date, change: Change) -> None:
    with _unguarded(path) as file:
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


@contextmanager
def _unguarded(path: Path) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(path)) as file, file:
        for trigger in ("items_stay", "items_no_delete"):
            file.execute(f"DROP TRIGGER IF EXISTS {trigger}")
        yield file


def with_agent(content: str, agent: str) -> str:
    return json.dumps({**json.loads(content), "agent": agent})
