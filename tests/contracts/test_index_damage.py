"""What every set of index versions does, and a damaged index is never taken for one that does not know."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from assistant.documents.sources import FirstLoads, KnowledgeSource, KnowledgeSources
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState, DocumentStatus, HeldContent, IndexModel
from assistant.domain.errors import ConflictError, SearchUnavailableError
from assistant.stores.documents import StoredStates
from assistant.stores.index.embedded import EmbeddedPassageSearch
from assistant.stores.index.opensearch_client import call, open_opensearch
from assistant.stores.index.opensearch_schema import PassageSchema, apply_schema, swap_alias
from assistant.stores.index.watch import IndexWatch
from assistant.stores.ports import PassageSearch
from assistant.stores.sqlite_table import SqliteTable
from assistant.tenant.tenant import default_source
from tests.contracts import samples
from tests.contracts.samples import EAST, NORTH, documents_of, indexed, passage
from tests.contracts.twins import DIMENSIONS, EMBEDDING_MODEL, TWINS, Twin, tenant_name
from tests.stage.opensearch_node import node_url

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


async def _point_alias(client: Any, place: Path, *, to: str) -> None:
    alias = f"{tenant_name(place)}-passages"
    (mine,) = await call(client, f"GET /_alias/{alias}", timeout_s=30.0)
    changes = {"remove": mine, "add": to}
    actions = [{change: {"index": index, "alias": alias}} for change, index in changes.items()]
    await call(client, "POST /_aliases", body={"actions": actions}, timeout_s=30.0)


async def _other_schema(place: Path) -> None:
    """The alias points at an index without this product's mapping."""
    other = f"{tenant_name(place)}-passages-v0"
    async with open_opensearch(url=node_url(), auth="none") as client:
        await call(client, f"PUT /{other}", timeout_s=30.0)
        await call(client, f"PUT /{other}/_doc/1?refresh=true", body={"text": "refill"}, timeout_s=30.0)
        await _point_alias(client, place, to=other)


async def _swap_alias(place: Path) -> None:
    """The alias points at the other tenant's index."""
    alias = f"{tenant_name(place / 'stranger')}-passages"
    async with open_opensearch(url=node_url(), auth="none") as client:
        (theirs,) = await call(client, f"GET /_alias/{alias}", timeout_s=30.0)
        await _point_alias(client, place, to=theirs)


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


DOCUMENTS = 12
TITLE = "Procedure"
(KINDS,) = {len(kinds) for kinds in DAMAGES.values()}


def live(document_id: str) -> DocumentStatus:
    return samples.status(document_id, state=DocumentState.LIVE).model_copy(
        update={
            "title": TITLE,
            "live_content_hash": "hash-1",
            "live_labels": ("staff",),
            "passage_count": 2,
        }
    )


async def known(twin: Twin, names: list[str]) -> None:
    """Index documents of two passages that only staff may see."""
    await twin.index.replace_documents(
        [
            document
            for name in names
            for document in samples.documents_of(
                (passage(name, 0, title=TITLE, labels=("staff",)), EAST),
                (passage(name, 1, title=TITLE, labels=("staff",)), NORTH),
            )
        ]
    )


@pytest.fixture
async def states(tmp_path: Path) -> AsyncIterator[StoredStates]:
    opened_table = SqliteTable(tmp_path / "states-of-the-test.sqlite")
    opened = StoredStates(opened_table)
    yield opened
    await opened_table.close()


@asynccontextmanager
async def readers(twin: Twin, place: Path) -> AsyncIterator[Sequence[PassageSearch]]:
    """The side that searches: the one that has been open all the time, and one that opens now. The one of
    OpenSearch keeps nothing between calls."""
    if isinstance(twin.search, EmbeddedPassageSearch):
        model = IndexModel(name=EMBEDDING_MODEL, dimensions=DIMENSIONS)
        made = EmbeddedPassageSearch(place / "index", model=model)
        yield twin.search, made
        await made.close()
    else:
        yield (twin.search,)


async def still_found(search: PassageSearch) -> set[str]:
    found = await search.search(samples.query(labels=["staff"], size=2 * DOCUMENTS), deadline=samples.soon())
    return {ranked.passage.document_id for ranked in found.passages}


def watch_of(search: PassageSearch, states: StoredStates) -> IndexWatch:
    loads = partial(FirstLoads(states).look, KnowledgeSources((KnowledgeSource(default_source(), ()),)))
    return IndexWatch(search, states, loads=loads, dimensions=DIMENSIONS, clock=SystemClock())


@pytest.mark.parametrize("number", range(KINDS))
async def test_damage_is_unavailable_and_never_an_empty_answer(
    twin: Twin, twin_name: str, states: StoredStates, tmp_path: Path, number: int
) -> None:
    name, damage = list(DAMAGES[twin_name].items())[number]
    names = [f"d{each}" for each in range(DOCUMENTS)]
    await known(twin, names)
    await states.put_many([live(each) for each in names])
    async with TWINS[twin_name](tmp_path / "stranger") as stranger:
        await known(stranger, [f"other-{each}" for each in range(DOCUMENTS)])
        await watch_of(twin.search, states).require_complete()
        await damage(tmp_path)
        async with readers(twin, tmp_path) as searches:
            for search in searches:
                watch = watch_of(search, states)
                state = await watch.check()
                if state.problem is None:  # only where this reader still holds all that was damaged
                    assert search is not searches[-1]
                    assert await still_found(search) == set(names), name
                    continue
                with pytest.raises(SearchUnavailableError):
                    await watch.require_complete()
                if name == "another tenant's":
                    assert state.is_foreign
                    with pytest.raises(SearchUnavailableError):
                        watch.require_own()


class Interrupted:
    """The reading side of an index that stops answering."""

    def __init__(self, search: PassageSearch) -> None:
        self._search = search
        self.is_down = False

    def __getattr__(self, name: str) -> Any:
        if self.is_down:
            raise SearchUnavailableError("The passage index does not answer.")
        return getattr(self._search, name)


async def test_another_tenants_index_stays_refused_while_it_does_not_answer(
    twin: Twin, states: StoredStates
) -> None:
    await known(twin, ["other-1"])
    await states.put_many([live("d1")])
    search = Interrupted(twin.search)
    watch = watch_of(cast("PassageSearch", search), states)
    assert (await watch.check()).is_foreign
    search.is_down = True
    assert (await watch.check()).problem == "The passage index does not answer."
    with pytest.raises(SearchUnavailableError):
        watch.require_own()


async def test_an_index_is_whole_that_has_what_is_live_or_more(twin: Twin, states: StoredStates) -> None:
    watch = watch_of(twin.search, states)
    assert (await watch.check()).problem is None  # empty, and nothing is live
    await known(twin, ["d1", "d2"])
    assert (await watch.check()).problem is None  # written, and not said yet
    await states.put_many([live("d1"), live("d2")])
    assert (await watch.check()).problem is None
    await watch.require_complete()
    withdrawn = live("d1").model_copy(update={"state": DocumentState.WITHDRAWN})
    await states.put_many([withdrawn])
    assert (await watch.check()).problem is None  # said, and not done yet
    await twin.index.delete_documents(["d1"])
    assert (await watch.check()).problem is None


async def test_work_on_the_index_is_no_damage(twin: Twin, states: StoredStates) -> None:
    names = [f"d{each}" for each in range(6)]

    async def work() -> None:
        for _ in range(4):
            for name in names:
                await known(twin, [name])
                await states.put_many([live(name)])
            for name in names:
                await states.put_many([live(name).model_copy(update={"state": DocumentState.WITHDRAWN})])
                await twin.index.delete_documents([name])

    working = asyncio.create_task(work())
    watch, rounds = watch_of(twin.search, states), 0
    while not working.done():
        state = await watch.check()
        assert state.problem is None
        rounds += 1
    await working
    assert rounds >= 3


OWN = IndexModel(EMBEDDING_MODEL, DIMENSIONS)
TUNED = IndexModel(EMBEDDING_MODEL, DIMENSIONS, "other weights")
LARGER = IndexModel("model-of-six", 6)


async def test_a_name_tells_models_dimensions_and_weights_apart(twin: Twin) -> None:
    assert len({twin.versions.name_of(model) for model in (OWN, TUNED, LARGER)}) == 3


async def test_a_created_version_is_kept_and_not_live(twin: Twin) -> None:
    for _ in range(2):
        await twin.versions.create(TUNED)
    assert await twin.versions.live() == twin.versions.name_of(OWN)
    assert await twin.versions.kept() == [twin.versions.name_of(model) for model in (OWN, TUNED)]


async def test_a_switch_makes_the_other_version_live_and_keeps_the_one_before(twin: Twin) -> None:
    await twin.versions.create(LARGER)
    await twin.versions.switch(twin.versions.name_of(LARGER), live=twin.versions.name_of(OWN))
    assert await twin.versions.live() == twin.versions.name_of(LARGER)
    assert await twin.versions.kept() == [twin.versions.name_of(model) for model in (LARGER, OWN)]


async def test_what_is_not_live_or_not_there_is_not_switched_and_the_live_one_not_dropped(twin: Twin) -> None:
    own, tuned = twin.versions.name_of(OWN), twin.versions.name_of(TUNED)
    with pytest.raises((ConflictError, SearchUnavailableError)):
        await twin.versions.switch(tuned, live=own)  # it is not there
    await twin.versions.create(TUNED)
    with pytest.raises(ConflictError, match="The live index is"):
        await twin.versions.switch(tuned, live=tuned)
    with pytest.raises(ConflictError, match="is live"):
        await twin.versions.drop(own)
    assert await twin.versions.live() == own


async def test_a_dropped_version_is_gone(twin: Twin) -> None:
    await twin.versions.create(TUNED)
    await twin.version(TUNED).replace_documents(documents_of((passage("refill"), EAST)))
    for _ in range(2):
        await twin.versions.drop(twin.versions.name_of(TUNED))
    assert await twin.versions.kept() == [twin.versions.name_of(OWN)]


async def test_a_version_tells_what_it_holds(twin: Twin) -> None:
    whole = indexed(*((passage("refill", ordinal), EAST) for ordinal in range(3)))
    await twin.index.replace_documents([whole, *documents_of((passage("other"), EAST))])
    assert await twin.index.document_ids() == ["other", "refill"]
    assert await twin.index.contents(["refill", "absent"]) == {"refill": HeldContent("hash of refill", 3)}
    (stored,) = await twin.index.read(["refill"])
    assert (stored.card, list(stored.passages)) == (whole.card, [one for one, _ in whole.passages])


async def test_a_removal_reaches_every_version_and_a_discard_one(twin: Twin) -> None:
    await twin.versions.create(TUNED)
    tuned = twin.version(TUNED)
    for index in (twin.index, tuned):
        await index.replace_documents(documents_of(*((passage(name), EAST) for name in ("a", "b", "c"))))
    names = [twin.versions.name_of(model) for model in (OWN, TUNED)]
    before = await twin.versions.rows_of("a")
    assert list(before) == names
    assert min(before.values()) >= 2
    await twin.index.delete_documents(["a"])
    assert await twin.versions.rows_of("a") == dict.fromkeys(names, 0)
    await tuned.discard(["b"])
    assert (await twin.versions.rows_of("b"))[names[1]] == 0
    assert await tuned.document_ids() == ["c"]
    assert await twin.index.document_ids() == ["b", "c"]


async def test_a_version_is_written_while_the_worker_has_the_own_one_open(twin: Twin) -> None:
    await twin.index.replace_documents(documents_of((passage("a"), EAST)))
    await twin.versions.create(TUNED)
    await twin.index.share()
    again = twin.version(OWN)
    await again.replace_documents(documents_of((passage("b"), EAST)))
    await twin.index.replace_documents(documents_of((passage("c"), EAST)))
    assert await twin.index.document_ids() == ["a", "b", "c"]
