"""What a search raises when the domain is down, slow, overloaded, or says something else than an answer."""

from __future__ import annotations

import asyncio

import pytest

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.errors import DeadlineExceededError, SearchUnavailableError
from assistant.stores.index.opensearch_client import open_opensearch
from assistant.stores.index.opensearch_search import OpenSearchPassageSearch
from tests.contracts.samples import query, soon
from tests.fakes.scripted_http import Exchange
from tests.integration.aws.opensearch_socket import ALIAS, SCHEMA, adapters, refusal, respond

SECRET = "warfarin and my name"


async def test_a_refused_connection_is_search_unavailable() -> None:
    async with open_opensearch(url="http://127.0.0.1:9", auth="none") as client:
        search = OpenSearchPassageSearch(client, alias=ALIAS, schema=SCHEMA)
        with pytest.raises(SearchUnavailableError, match="unreachable"):
            await search.search(query(), deadline=soon())


async def test_a_domain_that_stalls_is_left_when_the_deadline_passes() -> None:
    left = asyncio.Event()

    async def stall(exchange: Exchange) -> None:
        await exchange.peer_left()
        left.set()

    async with adapters(stall) as opened:
        with pytest.raises(DeadlineExceededError):
            await opened.search.search(query(), deadline=Deadline.after(0.2, clock=SystemClock()))
        await asyncio.wait_for(left.wait(), 60)
        assert len(opened.server.exchanges) == 1


async def test_a_connection_that_breaks_is_search_unavailable_and_the_call_is_not_repeated() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n{")
        exchange.cut()

    async with adapters(script) as opened:
        with pytest.raises(SearchUnavailableError):
            await opened.search.search(query(), deadline=soon())
        assert len(opened.server.exchanges) == 1


@pytest.mark.parametrize(
    ("status", "kind", "said"),
    [
        (429, "rejected_execution_exception", "overloaded"),
        (503, "cluster_block_exception", "HTTP 503, cluster_block_exception"),
        (403, "security_exception", "denies access to this process"),
        (404, "index_not_found_exception", "its schema was not applied"),
    ],
)
async def test_an_error_status_is_named_without_what_the_domain_quotes(
    status: int, kind: str, said: str
) -> None:
    async def script(exchange: Exchange) -> None:
        await respond(exchange, refusal(kind, status=status, reason=f"cannot read [{SECRET}]"), status=status)

    async with adapters(script) as opened:
        with pytest.raises(SearchUnavailableError, match=said) as caught:
            await opened.search.search(query(SECRET), deadline=soon())
        assert SECRET not in str(caught.value)
        assert len(opened.server.exchanges) == 1


async def test_only_an_overload_has_retry_after() -> None:
    statuses = [429, 503]

    async def script(exchange: Exchange) -> None:
        await exchange.respond(statuses.pop(0), b"Too many requests")

    async with adapters(script) as opened:
        waits: list[float | None] = []
        for _ in range(2):
            with pytest.raises(SearchUnavailableError) as caught:
                await opened.search.search(query(), deadline=soon())
            waits.append(caught.value.retry_after_s)
        assert waits == [1.0, None]


@pytest.mark.parametrize(
    "body",
    [
        b"<html>Service unavailable</html>",
        b'{"hits": {"hits": [',
        b"[]",
        b'{"timed_out": false, "hits": {"hits": [{"_index": "x"}]}}',
        b'{"timed_out": false, "hits": {"hits": [{"_index": "x", "fields": {"row_id": ["a"],'
        b' "kept": [""], "cosine": ["?"]}}]}}',
        b'{"timed_out": false, "hits": {"hits": [{"_index": "%b", "fields": {"row_id": ["a#0"],'
        b' "kept": ["e30"], "cosine": [0.5]}}]}}' % SCHEMA.index_name(ALIAS).encode(),
    ],
)
async def test_an_answer_that_is_none_is_search_unavailable(body: bytes) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(200, body, Content_Type="application/json")

    async with adapters(script) as opened:
        with pytest.raises(SearchUnavailableError):
            await opened.search.search(query(), deadline=soon())


async def test_a_search_that_the_domain_did_not_finish_is_no_answer() -> None:
    async def script(exchange: Exchange) -> None:
        await respond(exchange, {"timed_out": True, "hits": {"hits": []}})

    async with adapters(script) as opened:
        with pytest.raises(SearchUnavailableError, match="in time"):
            await opened.search.search(query(), deadline=soon())


async def test_an_index_of_another_model_s_vectors_is_refused() -> None:
    async def script(exchange: Exchange) -> None:
        fields = {"row_id": ["a#0"], "kept": ["e30"], "cosine": [0.9]}
        hit = {"_index": f"{ALIAS}-v2-other-4-0a0b0c0d", "fields": fields}
        await respond(exchange, {"timed_out": False, "hits": {"hits": [hit]}})

    async with adapters(script) as opened:
        with pytest.raises(SearchUnavailableError, match="vectors of another model"):
            await opened.search.search(query(), deadline=soon())


async def test_a_search_asks_by_the_alias_alone_and_for_whole_answers() -> None:
    async def script(exchange: Exchange) -> None:
        await respond(exchange, {"timed_out": False, "hits": {"hits": []}})

    async with adapters(script) as opened:
        found = await opened.search.search(query(), deadline=soon())
        assert found.passages == ()
        (exchange,) = opened.server.exchanges
        assert exchange.target.startswith(f"/{ALIAS}/_search?")
        assert "allow_partial_search_results=false" in exchange.target
        assert "search_pipeline=passages-rrf-v2" in exchange.target
