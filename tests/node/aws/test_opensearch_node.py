"""What only a real node proves: versions behind an alias, what a broken write leaves, fusion, isolation."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from unittest import mock
from uuid import uuid4

import pytest
from opensearchpy import AsyncOpenSearch

from assistant.domain.documents import IndexModel, SearchFilters
from assistant.domain.errors import SearchUnavailableError
from assistant.stores.index.opensearch_client import call, open_opensearch
from assistant.stores.index.opensearch_schema import (
    CODES,
    HYBRID_WEIGHTS,
    PIPELINE,
    TEXT_CODES,
    PassageSchema,
    apply_schema,
    index_body,
    pipeline_body,
    swap_alias,
    versions_of,
)
from assistant.stores.index.opensearch_search import OpenSearchPassageSearch, search_body
from assistant.stores.index.opensearch_writer import OpenSearchPassageIndex
from tests.contracts.samples import EAST, NORTH, UP, between, documents_of, indexed, passage, query, soon
from tests.stage.opensearch_node import delete_index

SCHEMA = PassageSchema(model=IndexModel("model-of-four", 4))


@pytest.fixture
async def client(opensearch_url: str) -> AsyncIterator[AsyncOpenSearch]:
    async with open_opensearch(url=opensearch_url, auth="none") as opened:
        yield opened


@pytest.fixture
async def alias(client: AsyncOpenSearch) -> AsyncIterator[str]:
    name = f"t-{uuid4().hex[:12]}-passages"
    yield name
    await delete_index(client, alias=name)


def index_of(
    client: AsyncOpenSearch, alias: str, schema: PassageSchema = SCHEMA, *, applies: bool = True
) -> OpenSearchPassageIndex:
    return OpenSearchPassageIndex(client, alias=alias, schema=schema, applies_schema=applies)


async def found(
    client: AsyncOpenSearch, alias: str, text: str = "when to refill", *, schema: PassageSchema = SCHEMA
) -> list[str]:
    search = OpenSearchPassageSearch(client, alias=alias, schema=schema)
    retrieved = await search.search(query(text), deadline=soon())
    return [one.passage.passage_id for one in retrieved.passages]


async def test_applying_the_schema_again_keeps_what_is_there(client: AsyncOpenSearch, alias: str) -> None:
    await index_of(client, alias).replace_documents(documents_of((passage("kept"), EAST)))
    await asyncio.gather(*(apply_schema(client, alias=alias, schema=SCHEMA) for _ in range(2)))
    assert await found(client, alias) == ["kept#0"]
    assert await versions_of(client, alias) == [SCHEMA.index_name(alias)]


async def test_the_next_write_removes_passages_of_a_failed_write(client: AsyncOpenSearch, alias: str) -> None:
    index = index_of(client, alias)
    await apply_schema(client, alias=alias, schema=SCHEMA)
    whole = indexed(*((passage("refill", ordinal), EAST) for ordinal in range(4)))
    ended = mock.AsyncMock(side_effect=[None, SearchUnavailableError("The process ended.")])
    with mock.patch.object(index, "_refresh", ended), pytest.raises(SearchUnavailableError):
        await index.replace_documents([whole])
    await index.replace_documents(documents_of((passage("refill", 0, text="Only this."), EAST)))
    assert await found(client, alias) == ["refill#0"]
    assert (await index.info()).passage_count == 1


async def test_optimizing_removes_deleted_rows_from_the_segments(client: AsyncOpenSearch, alias: str) -> None:
    index = index_of(client, alias)
    await index.replace_documents(documents_of(*((passage(f"d{number}"), EAST) for number in range(50))))
    await index.delete_documents(["d7"])  # 2 %: under the share at which merges take deletions along
    until_s = time.monotonic() + 60.0  # the domain lets go of deletions every 30 s
    docs = {"deleted": 1}
    while docs["deleted"] and time.monotonic() < until_s:
        await asyncio.sleep(1.0)
        await index.optimize()
        said = await call(client, f"GET /{alias}/_stats/docs", timeout_s=30.0)
        docs = said["_all"]["primaries"]["docs"]
    assert (docs["count"], docs["deleted"]) == (2 * 49, 0)  # a passage and a title each


async def test_the_pipeline_s_own_order_and_scores_are_the_ones_returned(
    client: AsyncOpenSearch, alias: str
) -> None:
    words = ("refill", "early", "claim", "rejected", "override", "vacation", "supply", "lost")
    entries = [
        (
            # each of its own length, so that no two score alike: ties are not the node's to order
            passage(f"d{number}", text=" ".join((words[: number % 8 + 1] + ("else",) * 40)[: number + 8])),
            between(EAST, NORTH if number % 2 else UP, share=0.013 * (number * 7 % 32)),
        )
        for number in range(32)
    ]
    await index_of(client, alias).replace_documents(documents_of(*entries))
    asked = query("refill a rejected claim early", between(EAST, UP, share=0.1), size=20)
    search = OpenSearchPassageSearch(client, alias=alias, schema=SCHEMA)
    ours = (await search.search(asked, deadline=soon())).passages
    fused = await call(
        client,
        f"POST /{alias}/_search",
        body=search_body(asked),
        params={"search_pipeline": PIPELINE},
        timeout_s=30.0,
    )
    theirs = [hit for hit in fused["hits"]["hits"] if "kept" in hit["fields"]][:20]
    scale = sum(HYBRID_WEIGHTS.values())  # the node's weights sum up to 1
    assert [one.passage.passage_id for one in ours] == [hit["fields"]["row_id"][0] for hit in theirs]
    assert [one.fused_score for one in ours] == pytest.approx([scale * hit["_score"] for hit in theirs])


ATTEMPTS: Sequence[SearchFilters] = (
    SearchFilters(),
    SearchFilters(document_id=("secret",)),
    SearchFilters(document_id=("*",)),
    SearchFilters(source=("procedures",)),
    SearchFilters(source=("procedures OR *",), type=("claims",)),
)


@pytest.mark.parametrize("filters", ATTEMPTS)
async def test_no_filter_reaches_another_tenant_s_passages(
    client: AsyncOpenSearch, alias: str, filters: SearchFilters
) -> None:
    owner = f"t-{uuid4().hex[:12]}-passages"
    asked = query("the secret dose", filters=filters, labels=["staff", "*", "secret"])
    try:
        await index_of(client, owner).replace_documents(
            documents_of((passage("secret", text="The secret dose.", labels=("staff",)), EAST))
        )
        await index_of(client, alias).replace_documents(documents_of((passage("own"), NORTH)))
        mine, theirs = (OpenSearchPassageSearch(client, alias=name, schema=SCHEMA) for name in (owner, alias))
        first = await mine.search(query("the secret dose", labels=["staff"]), deadline=soon())
        assert [one.passage.document_id for one in first.passages] == ["secret"]
        crossed = await theirs.search(asked, deadline=soon())
        assert {one.passage.document_id for one in crossed.passages} <= {"own"}
        assert crossed.best_cosine == 0.0
    finally:
        await delete_index(client, alias=owner)


async def test_no_write_reaches_another_tenant_s_passages(client: AsyncOpenSearch, alias: str) -> None:
    """Also where one tenant's alias begins like the name of the other's index."""
    longer = f"{alias}-v1-passages"
    try:
        for name in (alias, longer):
            await index_of(client, name).replace_documents(documents_of((passage("doc"), EAST)))
        await index_of(client, alias).delete_documents(["doc"])
        await index_of(client, alias).optimize()
        assert await found(client, alias) == []
        assert await found(client, longer) == ["doc#0"]
        await delete_index(client, alias=alias)
        assert await found(client, longer) == ["doc#0"]
    finally:
        await delete_index(client, alias=longer)


async def test_a_swap_takes_no_other_tenant_s_alias_away(client: AsyncOpenSearch, alias: str) -> None:
    longer = f"{alias}-v1-passages"
    try:
        for name in (alias, longer):
            await apply_schema(client, alias=name, schema=SCHEMA)
        await swap_alias(client, alias=alias, schema=SCHEMA)
        assert await found(client, longer) == []
    finally:
        await delete_index(client, alias=longer)


async def test_a_local_worker_moves_readers_away_from_an_index_of_another_format(
    client: AsyncOpenSearch, alias: str
) -> None:
    older = index_body(SCHEMA, alias=alias)
    older["mappings"]["_meta"]["schema_version"] = 1
    name = f"{alias}-v1-{SCHEMA.model_version}"
    await call(client, f"PUT /{name}", body=older, timeout_s=30.0)
    await call(client, f"PUT /{name}/_alias/{alias}", timeout_s=30.0)
    worker = index_of(client, alias)
    assert (await worker.info()).document_count == 0
    await worker.replace_documents(documents_of((passage("new"), EAST)))
    assert await found(client, alias) == ["new#0"]


async def test_an_index_of_a_release_before_answers_and_gets_the_fields_of_codes(
    client: AsyncOpenSearch, alias: str
) -> None:
    older = index_body(SCHEMA, alias=alias)
    for name in (CODES, TEXT_CODES):
        del older["mappings"]["properties"][name]
    await call(client, f"PUT /_search/pipeline/{PIPELINE}", body=pipeline_body())
    await call(client, f"PUT /{SCHEMA.index_name(alias)}", body=older, timeout_s=30.0)
    await call(client, f"PUT /{SCHEMA.index_name(alias)}/_alias/{alias}", timeout_s=30.0)
    assert await found(client, alias, "QX-1417") == []
    await apply_schema(client, alias=alias, schema=SCHEMA)
    await index_of(client, alias).replace_documents(documents_of((passage("new", text="QX-1417."), EAST)))
    assert await found(client, alias) == ["new#0"]
