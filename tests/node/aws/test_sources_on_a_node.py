"""The sources of a tenant on a real OpenSearch node, with a proxy between that holds, stalls or cuts one."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assistant.answer.sources import FAILURES_TO_OPEN
from assistant.stores.index.opensearch_client import open_opensearch
from assistant.stores.index.opensearch_search import OpenSearchPassageSearch
from tests.contracts import samples
from tests.contracts.aws_twins import tenant_name
from tests.contracts.opensearch_twin import SCHEMA, open_opensearch_twin
from tests.fakes.faulty_proxy import Fault, FaultyProxy, Kind, Request, faulty_proxy
from tests.fakes.running_service import eventually
from tests.node.aws.source_scene import CIRCUIT_S, ENTRIES, SOURCES, SourceScene, documents_of


def source_of(request: Request) -> str | None:
    """Return the source that a search of the node is for; None for every other request."""
    if not request.path.partition("?")[0].endswith("/_search") or b'"document_id"' not in request.body:
        return None
    if b'"must_not"' in request.body:  # the source without a prefix leaves the others' out
        return "catalogue"
    return next((name for name in SOURCES if f'"{name}:"'.encode() in request.body), None)


def of_reviews(request: Request) -> bool:
    return source_of(request) == "reviews"


@dataclass
class Between:
    """A search of the node through a proxy."""

    proxy: FaultyProxy
    search: OpenSearchPassageSearch

    @property
    def seen(self) -> Counter[str]:
        """How many searches of each source came to the proxy."""
        return Counter(name for one in self.proxy.requests if (name := source_of(one)) is not None)


@pytest.fixture
async def between(opensearch_url: str, tmp_path: Path) -> AsyncIterator[Between]:
    async with open_opensearch_twin(tmp_path) as twin:
        await twin.index.replace_documents(samples.documents_of(*ENTRIES))
        async with (
            faulty_proxy(opensearch_url) as proxy,
            open_opensearch(url=proxy.url, auth="none") as client,
        ):
            alias = f"{tenant_name(tmp_path)}-passages"
            opened = Between(proxy, OpenSearchPassageSearch(client, alias=alias, schema=SCHEMA))
            assert (await SourceScene(opened.search).ask()).states == dict.fromkeys(SOURCES, "answered")
            assert set(opened.seen) == set(SOURCES)
            proxy.requests.clear()
            yield opened


async def test_all_sources_are_asked_before_one_has_answered(between: Between) -> None:
    await between.proxy.break_by(Fault(Kind.HOLD, of=lambda request: source_of(request) is not None))
    asking = asyncio.create_task(SourceScene(between.search).ask())
    await eventually(lambda: set(between.seen) == set(SOURCES))
    assert not asking.done()
    await between.proxy.heal()
    assert (await asking).states == dict.fromkeys(SOURCES, "answered")


async def test_a_source_that_stalls_is_late_by_its_own_limit_and_the_others_answer(between: Between) -> None:
    await between.proxy.break_by(Fault(Kind.STALL, of=of_reviews))
    asked = await SourceScene(between.search, limits_s={"reviews": 0.5}).ask()
    assert asked.states == {"catalogue": "answered", "reviews": "late", "stores": "answered"}
    assert documents_of(asked) == {"kettle", "stores:s1"}
    assert between.seen["reviews"] == 1


@pytest.mark.parametrize("kind", [Kind.CUT, Kind.GARBAGE])
async def test_a_source_whose_connection_breaks_is_named_and_the_others_answer(
    between: Between, kind: Kind
) -> None:
    await between.proxy.break_by(Fault(kind, of=of_reviews))
    asked = await SourceScene(between.search).ask()
    assert asked.states == {"catalogue": "answered", "reviews": "failed", "stores": "answered"}
    assert documents_of(asked) == {"kettle", "stores:s1"}


async def test_the_circuit_of_one_source_keeps_it_from_the_node_and_closes_again(between: Between) -> None:
    scene = SourceScene(between.search)
    await between.proxy.break_by(Fault(Kind.CUT, of=of_reviews))
    for _ in range(FAILURES_TO_OPEN):
        assert (await scene.ask()).states["reviews"] == "failed"
    asked_before = between.seen["reviews"]
    await between.proxy.heal()
    assert (await scene.ask()).states == {"catalogue": "answered", "reviews": "failed", "stores": "answered"}
    assert between.seen["reviews"] == asked_before
    scene.clock.step(CIRCUIT_S + 0.1)
    assert (await scene.ask()).states == dict.fromkeys(SOURCES, "answered")
    assert between.seen["reviews"] == asked_before + 1


async def test_failures_that_are_not_in_a_row_leave_the_source_asked(between: Between) -> None:
    scene = SourceScene(between.search)
    for _ in range(2):
        await between.proxy.break_by(Fault(Kind.CUT, of=of_reviews))
        for _ in range(FAILURES_TO_OPEN - 1):
            assert (await scene.ask()).states["reviews"] == "failed"
        await between.proxy.heal()
        assert (await scene.ask()).states == dict.fromkeys(SOURCES, "answered")
