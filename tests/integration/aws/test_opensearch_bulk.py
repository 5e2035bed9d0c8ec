"""Bulk writes whose items, or whose whole call, the domain refuses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson
import pytest

from assistant.domain.clock import SystemClock
from assistant.domain.errors import SearchUnavailableError
from assistant.stores.index.opensearch_writer import MOST_BYTES_A_CALL
from tests.contracts.samples import EAST, indexed, passage
from tests.fakes.scripted_http import Exchange
from tests.integration.aws.opensearch_socket import adapters, documents, respond

NOTHING_THERE = {"timed_out": False}


class Domain:
    """Answers lookups and refreshes; bulk calls get the given statuses, one list a call, then 201."""

    def __init__(self, *statuses: Sequence[int] | int) -> None:
        self._statuses = list(statuses)
        self.written: list[list[str]] = []
        """Ids of each bulk call."""

    async def __call__(self, exchange: Exchange) -> None:
        if "/_bulk" not in exchange.target:
            await respond(exchange, NOTHING_THERE)
            return
        ids = _ids(exchange.body)
        self.written.append(ids)
        statuses = self._statuses.pop(0) if self._statuses else [201] * len(ids)
        if isinstance(statuses, int):
            await exchange.respond(statuses, b"429 Too Many Requests")
            return
        items = [_item(status) for status in statuses]
        await respond(exchange, {"errors": any(s >= 300 for s in statuses), "items": items})


def _ids(body: bytes) -> list[str]:
    rows = [orjson.loads(line) for line in body.splitlines()]
    actions = [row.get("index") or row.get("delete") for row in rows if "index" in row or "delete" in row]
    return [action["_id"] for action in actions if action]


def _item(status: int) -> dict[str, Any]:
    kinds = {429: "rejected_execution_exception", 400: "mapper_parsing_exception"}
    error = {"error": {"type": kinds.get(status, "exception")}} if status >= 300 else {}
    return {"index": {"status": status, **error}}


class Passing(SystemClock):
    """A clock on which seconds fly: what waits within a bound comes to its end at once."""

    def __init__(self, *, each_look_s: float) -> None:
        self._each_look_s = each_look_s
        self._now_s = 0.0

    def monotonic_s(self) -> float:
        self._now_s += self._each_look_s
        return self._now_s


async def test_only_rows_refused_for_load_are_retried() -> None:
    domain = Domain([201, 201, 429, 201, 201, 201], [201])
    async with adapters(domain) as opened:
        await opened.index.replace_documents(documents("a", "b", "c"))
    assert domain.written == [["a#0", "a#title0", "b#0", "b#title0", "c#0", "c#title0"], ["b#0"]]


async def test_a_whole_call_refused_for_load_is_retried() -> None:
    domain = Domain(429)
    async with adapters(domain) as opened:
        await opened.index.replace_documents(documents("a", "b"))
    assert domain.written == [["a#0", "a#title0", "b#0", "b#title0"]] * 2


async def test_a_domain_that_stays_overloaded_is_given_up_with_the_documents_named() -> None:
    domain = Domain(*([[201, 201, 429, 429]] + [[429, 429]] * 50))
    async with adapters(domain, clock=Passing(each_look_s=25.0)) as opened:
        with pytest.raises(SearchUnavailableError, match=r"overloaded and did not take b\.") as caught:
            await opened.index.replace_documents(documents("a", "b"))
    assert caught.value.retry_after_s == 5.0
    assert 2 <= len(domain.written) <= 4


async def test_rows_refused_for_another_reason_are_named_and_not_retried() -> None:
    domain = Domain([201, 201, 400, 201, 429, 201])
    async with adapters(domain) as opened:
        with pytest.raises(SearchUnavailableError, match="refused b: mapper_parsing_exception"):
            await opened.index.replace_documents(documents("a", "b", "c"))
    assert len(domain.written) == 1


@pytest.mark.parametrize("items", [[], [{"index": {}}], "?", None])
async def test_an_unexpected_response_to_a_bulk_write_is_an_error(items: object) -> None:
    async def script(exchange: Exchange) -> None:
        odd = {"errors": True, "items": items} if "/_bulk" in exchange.target else NOTHING_THERE
        await respond(exchange, odd)

    async with adapters(script) as opened:
        with pytest.raises(SearchUnavailableError, match="unexpected response"):
            await opened.index.replace_documents(documents("a"))


async def test_a_large_write_goes_in_several_calls_and_is_seen_at_once_after_the_last() -> None:
    domain = Domain()
    text = "x" * (MOST_BYTES_A_CALL // 4)
    entries = [indexed(*((passage("long", ordinal, text=text), EAST) for ordinal in range(6)))]
    async with adapters(domain) as opened:
        await opened.index.replace_documents(entries)
        kinds = [path.rsplit("/", 1)[1] for path in opened.calls()]
    assert len(domain.written) > 1
    assert [name for call in domain.written for name in call] == [
        *(f"long#{n}" for n in range(6)),
        "long#title0",
    ]
    assert kinds == ["_refresh", "_search", *["_bulk"] * len(domain.written), "_refresh"]


async def test_a_passage_of_other_dimensions_is_refused_before_anything_is_sent() -> None:
    async with adapters(Domain()) as opened:
        with pytest.raises(SearchUnavailableError, match="4 dimensions, a passage of a 2"):
            await opened.index.replace_documents([indexed((passage("a"), (1.0, 0.0)))])
        assert opened.server.exchanges == []
