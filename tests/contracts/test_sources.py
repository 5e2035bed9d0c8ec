"""Each source of a tenant is asked on the index itself, under its own limit and circuit."""

from __future__ import annotations

import pytest

from assistant.answer.sources import FAILURES_TO_OPEN
from assistant.domain.errors import SearchUnavailableError
from tests.contracts import samples
from tests.contracts.source_scene import CIRCUIT_S, ENTRIES, SourceScene, documents_of
from tests.contracts.twins import Twin

NO_TIME_S = 1e-6
"""A limit that no search keeps."""


@pytest.fixture
async def indexed(twin: Twin) -> Twin:
    await twin.index.replace_documents(samples.documents_of(*ENTRIES))
    return twin


async def test_each_source_gives_its_own_documents(indexed: Twin) -> None:
    asked = await SourceScene(indexed.search).ask()
    assert asked.states == {"catalogue": "answered", "reviews": "answered", "stores": "answered"}
    assert documents_of(asked) == {"kettle", "reviews:r1", "reviews:r2", "stores:s1"}
    assert [one.rank for one in asked.retrieved.passages] == [1, 2, 3, 4]


async def test_a_source_over_its_limit_is_left_out_and_the_others_answer(indexed: Twin) -> None:
    assert "reviews:r1" in documents_of(await SourceScene(indexed.search).ask())
    asked = await SourceScene(indexed.search, limits_s={"reviews": NO_TIME_S}).ask()
    assert asked.states == {"catalogue": "answered", "reviews": "late", "stores": "answered"}
    assert documents_of(asked) == {"kettle", "stores:s1"}


async def test_a_source_that_is_late_again_and_again_is_left_out_unasked_for_a_while(indexed: Twin) -> None:
    scene = SourceScene(indexed.search, limits_s={"reviews": NO_TIME_S})
    states = [(await scene.ask()).states for _ in range(FAILURES_TO_OPEN + 2)]
    assert [one["reviews"] for one in states] == ["late"] * FAILURES_TO_OPEN + ["failed"] * 2
    assert {one["stores"] for one in states} == {"answered"}
    scene.clock.step(CIRCUIT_S + 0.1)
    assert (await scene.ask()).states["reviews"] == "late"


async def test_where_every_source_is_late_the_search_fails(indexed: Twin) -> None:
    await SourceScene(indexed.search).ask()
    none = SourceScene(indexed.search, limits_s=dict.fromkeys(("catalogue", "reviews", "stores"), NO_TIME_S))
    with pytest.raises(SearchUnavailableError, match="No source"):
        await none.ask()
