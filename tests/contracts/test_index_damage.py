"""A damaged index is never taken for one that does not know something."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from assistant.documents.sources import FirstLoads, KnowledgeSource, KnowledgeSources
from assistant.domain.clock import SystemClock
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import SearchUnavailableError
from assistant.stores.documents import StoredStates
from assistant.stores.index.embedded import EmbeddedPassageSearch
from assistant.stores.index.embedded_files import IndexModel
from assistant.stores.index.watch import IndexWatch
from assistant.stores.ports import PassageSearch
from assistant.stores.sqlite_table import SqliteTable
from assistant.tenant.tenant import default_source
from tests.contracts import samples
from tests.contracts.index_damage import DAMAGES
from tests.contracts.samples import EAST, NORTH, passage
from tests.contracts.twins import DIMENSIONS, EMBEDDING_MODEL, TWINS, Twin

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


async def test_an_index_that_is_whole_again_is_trusted_again(twin: Twin, states: StoredStates) -> None:
    await known(twin, ["d1"])
    await states.put_many([live("d1"), live("d2")])
    watch = watch_of(twin.search, states)
    assert (await watch.check()).problem is not None
    await known(twin, ["d2"])
    assert (await watch.check()).problem is None
    await watch.require_complete()


async def test_the_writer_tells_what_it_holds(twin: Twin) -> None:
    assert await twin.index.held(["d1"]) == frozenset()
    await known(twin, ["d1", "d2"])
    assert await twin.index.held(["d1", "d2", "d3"]) == {"d1", "d2"}
    await twin.index.delete_documents(["d1"])
    assert await twin.index.held(["d1", "d2"]) == {"d2"}
