"""Changes audit records behind a store's back, as somebody with the rights of an administrator can."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
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


async def add_copy(twin: Twin, place: Path, content: str, link: AuditLink) -> None:
    """Write a record once more, with this link."""
    if isinstance(twin, DynamoDbTwin):
        client, table = twin.client_and_table()
        key = {"pk": {"S": f"access#{link.day}"}, "sk": {"S": f"{link.day}T12:00:00.000000+00:00#copy"}}
        item = key | {"body": {"S": content}, "link": {"S": link.model_dump_json()}}
        await client.put_item(TableName=table, Item=item)
        return
    with sqlite3.connect(place / "records.sqlite") as file:
        file.execute("INSERT INTO accesses (body) VALUES (?)", (content,))
        # The place of a link is unique in this file, so the copy takes another one.
        row = (link.day.isoformat(), "copy", 0, link.model_dump_json())
        file.execute(
            "INSERT INTO chain (day, writer, sequence, link, access) VALUES (?,?,?,?, last_insert_rowid())",
            row,
        )
    file.close()


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
    with sqlite3.connect(place / "records.sqlite") as file:
        file.execute("DROP TRIGGER IF EXISTS chain_no_delete")
        file.execute("DELETE FROM chain WHERE day = ?", (day.isoformat(),))
    file.close()


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
    with sqlite3.connect(path) as file:
        for table in ("chain", "accesses"):
            for verb in ("update", "delete"):
                file.execute(f"DROP TRIGGER IF EXISTS {table}_no_{verb}")
        statement = (
            "SELECT chain.rowid, link, access, coalesce(start, body) FROM chain "
            "LEFT JOIN accesses ON number = access WHERE day = ?"
        )
        for rowid, stored, access, body in file.execute(statement, (day.isoformat(),)).fetchall():
            changed = change(body, AuditLink.model_validate_json(stored))
            if changed is None:
                file.execute("DELETE FROM chain WHERE rowid = ?", (rowid,))
                file.execute("DELETE FROM accesses WHERE number = ?", (access,))
                continue
            content, link = changed
            file.execute("UPDATE chain SET link = ? WHERE rowid = ?", (link.model_dump_json(), rowid))
            file.execute("UPDATE chain SET start = ? WHERE rowid = ? AND start IS NOT NULL", (content, rowid))
            file.execute("UPDATE accesses SET body = ? WHERE number = ?", (content, access))
    file.close()


def with_agent(content: str, agent: str) -> str:
    return json.dumps({**json.loads(content), "agent": agent})
