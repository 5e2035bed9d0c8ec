"""A domain that is down, slow, overloaded or refuses: searches, bulk writes, and who signs the calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.domain.clock import Clock, Deadline, SystemClock
from assistant.domain.documents import IndexedDocument, IndexModel
from assistant.domain.errors import ConfigurationError, DeadlineExceededError, SearchUnavailableError
from assistant.stores.index.opensearch_client import open_opensearch
from assistant.stores.index.opensearch_schema import PassageSchema
from assistant.stores.index.opensearch_search import OpenSearchPassageSearch
from assistant.stores.index.opensearch_writer import MOST_BYTES_A_CALL, OpenSearchPassageIndex
from tests.contracts.samples import EAST, indexed, passage, query, soon
from tests.stage.servers import Exchange, Script, ScriptedServer, scripted_http

SCHEMA = PassageSchema(model=IndexModel("model-of-four", 4))
ALIAS = "clinic-passages"


@dataclass
class Adapters:
    index: OpenSearchPassageIndex
    search: OpenSearchPassageSearch
    server: ScriptedServer

    def calls(self) -> list[str]:
        """Return the paths that were asked for, without their parameters."""
        return [exchange.target.partition("?")[0] for exchange in self.server.exchanges]


@asynccontextmanager
async def adapters(script: Script, *, clock: Clock | None = None) -> AsyncGenerator[Adapters]:
    async with (
        scripted_http(script) as server,
        open_opensearch(url=server.url, auth="none") as client,
    ):
        yield Adapters(
            OpenSearchPassageIndex(client, alias=ALIAS, schema=SCHEMA, clock=clock),
            OpenSearchPassageSearch(client, alias=ALIAS, schema=SCHEMA),
            server,
        )


async def respond(exchange: Exchange, answer: Any, *, status: int = 200) -> None:
    await exchange.respond(status, orjson.dumps(answer), Content_Type="application/json; charset=UTF-8")


NOTHING_FOUND: dict[str, Any] = {"timed_out": False, "hits": {"hits": []}}


def saying(answer: Any, *, status: int = 200) -> Script:
    async def script(exchange: Exchange) -> None:
        await respond(exchange, answer, status=status)

    return script


def refusal(kind: str, *, status: int, reason: str = "") -> dict[str, Any]:
    return {"error": {"root_cause": [{"type": kind}], "type": kind, "reason": reason}, "status": status}


def documents(*names: str) -> list[IndexedDocument]:
    return [indexed((passage(name), EAST)) for name in names]


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
    refused = refusal(kind, status=status, reason=f"cannot read [{SECRET}]")
    async with adapters(saying(refused, status=status)) as opened:
        with pytest.raises(SearchUnavailableError, match=said) as caught:
            await opened.search.search(query(SECRET), deadline=soon())
        assert SECRET not in str(caught.value)
        assert len(opened.server.exchanges) == 1


HIT = b'{"timed_out": false, "hits": {"hits": [{"_index": "%b", "fields": {"row_id": ["a#0"], "kept": [%b]'
HIT += b', "cosine": [%b]}}]}}'
OWN = SCHEMA.index_name(ALIAS).encode()


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (b"<html>Service unavailable</html>", None),
        (b'{"hits": {"hits": [', None),
        (b"[]", None),
        (b'{"timed_out": false, "hits": {"hits": [{"_index": "x"}]}}', None),
        (b'{"timed_out": true, "hits": {"hits": []}}', "in time"),
        (HIT % (b"x", b'""', b'"?"'), None),
        (HIT % (OWN, b'"e30"', b"0.5"), None),
        (HIT % (ALIAS.encode() + b"-v2-other-4-0a0b0c0d", b'"e30"', b"0.9"), "vectors of another model"),
    ],
)
async def test_an_answer_that_is_none_is_search_unavailable(body: bytes, said: str | None) -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(200, body, Content_Type="application/json")

    async with adapters(script) as opened:
        with pytest.raises(SearchUnavailableError, match=said):
            await opened.search.search(query(), deadline=soon())


async def test_a_search_asks_by_the_alias_alone_and_for_whole_answers() -> None:
    async with adapters(saying(NOTHING_FOUND)) as opened:
        found = await opened.search.search(query(), deadline=soon())
        assert found.passages == ()
        (exchange,) = opened.server.exchanges
        assert exchange.target.startswith(f"/{ALIAS}/_search?")
        assert "allow_partial_search_results=false" in exchange.target
        assert "search_pipeline=passages-rrf-v2" in exchange.target


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


@pytest.fixture(autouse=True)
def nobody_s_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No credentials of whoever runs the test, and no look for any on the network."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))


async def test_a_call_carries_a_signature_of_its_body_for_the_domain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDTEST")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "session")
    async with (
        scripted_http(saying(NOTHING_FOUND)) as server,
        open_opensearch(url=server.url, auth="sigv4", region="eu-central-1") as client,
    ):
        await OpenSearchPassageSearch(client, alias=ALIAS, schema=SCHEMA).search(query(), deadline=soon())
    headers = server.exchanges[0].headers
    assert headers["authorization"].startswith("AWS4-HMAC-SHA256 Credential=AKIDTEST/")
    assert "/eu-central-1/es/aws4_request" in headers["authorization"]
    assert "x-amz-content-sha256" in headers["authorization"]
    assert headers["x-amz-security-token"] == "session"


async def test_without_credentials_the_client_does_not_open() -> None:
    with pytest.raises(ConfigurationError, match="finds no credentials"):
        async with open_opensearch(url="http://127.0.0.1:9", auth="sigv4", region="eu-central-1"):
            pass
