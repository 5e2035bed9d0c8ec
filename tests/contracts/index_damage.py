"""What can happen to an index behind its readers' backs, by twin."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Mapping
from contextlib import closing
from pathlib import Path

from assistant.domain.documents import IndexModel
from assistant.stores.index.opensearch_client import call, open_opensearch
from assistant.stores.index.opensearch_schema import PassageSchema, apply_schema, swap_alias
from tests.contracts.aws_twins import tenant_name
from tests.contracts.embedded_twin import DIMENSIONS, EMBEDDING_MODEL
from tests.fakes.opensearch_node import node_url

Damage = Callable[[Path], Awaitable[None]]
"""Takes the twin's place; the place of another tenant's twin, with an index of its own, is ``stranger``
below it."""


def index_folder(place: Path) -> Path:
    (found,) = [each for each in (place / "index").iterdir() if each.is_dir()]
    return found


def _sql(*statements: str) -> Damage:
    async def work(place: Path) -> None:
        with closing(sqlite3.connect(index_folder(place) / "passages.sqlite")) as connection:
            for statement in statements:
                connection.execute(statement)
            connection.commit()

    return work


async def _cut_the_table(place: Path) -> None:
    with closing(sqlite3.connect(index_folder(place) / "passages.sqlite")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    path = index_folder(place) / "passages.sqlite"
    os.truncate(path, path.stat().st_size // 2)


async def _cut_segments(place: Path) -> None:
    """A new file of half the size: one that is mapped into a process is never cut under it."""
    for path in index_folder(place).glob("lexical-*/*/*"):
        if path.suffix in (".idx", ".term", ".fast", ".store", ".pos"):
            half = path.read_bytes()[: path.stat().st_size // 2]
            path.unlink()
            path.write_bytes(half)


async def _delete_folder(place: Path) -> None:
    shutil.rmtree(place / "index")


async def _empty_folder(place: Path) -> None:
    for path in index_folder(place).iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


async def _rename_version(place: Path) -> None:
    folder = index_folder(place)
    folder.rename(folder.with_name("v0-older"))


async def _swap(place: Path) -> None:
    shutil.rmtree(place / "index")
    shutil.copytree(place / "stranger" / "index", place / "index")


def _calls(*requests: tuple[str, dict[str, object] | None]) -> Damage:
    async def work(place: Path) -> None:
        alias = f"{tenant_name(place)}-passages"
        async with open_opensearch(url=node_url(), auth="none") as client:
            (name,) = await call(client, f"GET /_alias/{alias}", timeout_s=30.0)
            for request, body in requests:
                path = request.format(alias=alias, index=name)
                await call(client, path, body=body, timeout_s=30.0)

    return work


async def _other_model(place: Path) -> None:
    schema = PassageSchema(model=IndexModel(f"{EMBEDDING_MODEL}-next", DIMENSIONS))
    alias = f"{tenant_name(place)}-passages"
    async with open_opensearch(url=node_url(), auth="none") as client:
        await apply_schema(client, alias=alias, schema=schema)
        await swap_alias(client, alias=alias, schema=schema)


async def _other_schema(place: Path) -> None:
    """The alias points at an index without this product's mapping."""
    alias = f"{tenant_name(place)}-passages"
    async with open_opensearch(url=node_url(), auth="none") as client:
        (mine,) = await call(client, f"GET /_alias/{alias}", timeout_s=30.0)
        other = f"{alias}-v0"
        await call(client, f"PUT /{other}", timeout_s=30.0)
        await call(client, f"PUT /{other}/_doc/1?refresh=true", body={"text": "refill"}, timeout_s=30.0)
        actions = [
            {"remove": {"index": mine, "alias": alias}},
            {"add": {"index": other, "alias": alias}},
        ]
        await call(client, "POST /_aliases", body={"actions": actions}, timeout_s=30.0)


async def _swap_alias(place: Path) -> None:
    """The alias points at the other tenant's index."""
    alias, other = (f"{tenant_name(each)}-passages" for each in (place, place / "stranger"))
    async with open_opensearch(url=node_url(), auth="none") as client:
        (mine,) = await call(client, f"GET /_alias/{alias}", timeout_s=30.0)
        (theirs,) = await call(client, f"GET /_alias/{other}", timeout_s=30.0)
        actions = [
            {"remove": {"index": mine, "alias": alias}},
            {"add": {"index": theirs, "alias": alias}},
        ]
        await call(client, "POST /_aliases", body={"actions": actions}, timeout_s=30.0)


_ALL: dict[str, object] = {"query": {"match_all": {}}}
_SOME: dict[str, object] = {"query": {"prefix": {"document_id": "d1"}}}
_TITLES: dict[str, object] = {"query": {"term": {"kind": "title"}}}
_BLOCK: dict[str, object] = {"index.blocks.read": True}

DAMAGES: Mapping[str, Mapping[str, Damage]] = {
    "embedded": {
        "table cut": _cut_the_table,
        "segments cut": _cut_segments,
        "folder deleted": _delete_folder,
        "folder emptied": _empty_folder,
        "folder of another version": _rename_version,
        "another tenant's": _swap,
        "counters gone": _sql("DELETE FROM meta"),
        "rows cut": _sql("DELETE FROM passages WHERE document_id LIKE 'd1%'"),
        "vectors gone": _sql("DELETE FROM vectors"),
        "cards gone": _sql("DELETE FROM cards"),
    },
    "opensearch": {
        "index deleted": _calls(("DELETE /{index}", None)),
        "alias missing": _calls(("DELETE /{index}/_alias/{alias}", None)),
        "emptied": _calls(("POST /{index}/_delete_by_query?refresh=true", _ALL)),
        "rows cut": _calls(("POST /{index}/_delete_by_query?refresh=true", _SOME)),
        "titles gone": _calls(("POST /{index}/_delete_by_query?refresh=true", _TITLES)),
        "another schema's": _other_schema,
        "closed": _calls(("POST /{index}/_close", None)),
        "reads blocked": _calls(("PUT /{index}/_settings", _BLOCK)),
        "another model's": _other_model,
        "another tenant's": _swap_alias,
    },
}
