"""The DynamoDB stores beyond their contracts: lost answers, pages, refused parts, what the tables hold."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pytest

from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.desk import Case, CaseReason, CaseState, DeskKind, first_revision
from assistant.domain.documents import DocumentState
from assistant.domain.errors import ConflictError, DependencyError
from assistant.process.aws import open_client
from assistant.stores.documents import StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.tenant.deployed_names import TABLES
from tests.contracts import samples
from tests.contracts.aws_twins import tenant_name
from tests.contracts.dynamodb_twin import DynamoDbTwin
from tests.emulated_aws import create_table
from tests.fakes.aws_server import REGION
from tests.fakes.faulty_proxy import Fault, FaultyProxy, Kind, Request, faulty_proxy
from tests.fakes.scripted_http import Exchange, scripted_http

GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)


@dataclass
class Stores:
    twin: DynamoDbTwin
    way: FaultyProxy
    client: Any
    name: str

    async def lose(self, *operations: str) -> dict[str, Request]:
        """Lose the answer to the next call of each operation; return the calls whose answers were lost."""
        lost: dict[str, Request] = {}

        def is_lost(request: Request) -> bool:
            operation = request.headers.get("x-amz-target", "").rpartition(".")[2]
            return operation in operations and lost.setdefault(operation, request) is request

        await self.way.break_by(Fault(Kind.CUT, of=is_lost))
        return lost

    async def items(self, role: str) -> list[dict[str, Any]]:
        pages = self.client.get_paginator("scan").paginate(TableName=f"{self.name}-{role}")
        return [item async for page in pages for item in page["Items"]]


@pytest.fixture
async def stores(aws_server_url: str, tmp_path: Path) -> AsyncGenerator[Stores]:
    """A tenant's tables behind a way on which answers can get lost."""
    name = tenant_name(tmp_path)
    async with faulty_proxy(aws_server_url) as way, _client(way.url) as client:
        for definition in TABLES:
            await create_table(client, definition, name=f"{name}-{definition.role}")
        twin = DynamoDbTwin(client, name=name)
        yield Stores(twin, way, client, name)
        await twin.close()


async def test_many_answers_whose_receipts_were_lost_are_recorded_once(stores: Stores) -> None:
    lost = await stores.lose("TransactWriteItems", "PutItem")
    answers = [samples.answer(f"a{number:02d}", minute=number) for number in range(30)]
    await asyncio.gather(*(stores.twin.records.put_answer(answer) for answer in answers))
    assert lost
    assert await stores.twin.records.list_conversation("c1") == answers


async def test_one_conflict_among_many_answers_is_raised_for_its_own_writer(stores: Stores) -> None:
    await stores.twin.records.put_answer(samples.answer("a03"))
    answers = [samples.answer(f"a{number:02d}", minute=number) for number in range(10)]
    results = await asyncio.gather(
        *(stores.twin.records.put_answer(answer) for answer in answers), return_exceptions=True
    )
    assert [type(result).__name__ for result in results if result is not None] == ["ConflictError"]
    assert results[3] is not None
    for answer in answers[4:]:
        assert await stores.twin.records.get_answer(answer.answer_id) == answer


async def test_a_verdict_whose_receipt_was_lost_is_kept_once(stores: Stores) -> None:
    lost = await stores.lose("PutItem", "TransactWriteItems")
    stored = await stores.twin.records.append_verdict("a1", GOOD, agent="ana")
    assert lost
    assert await stores.twin.records.list_verdicts("a1") == [stored]
    assert await stores.twin.records.list_verdicts() == [stored]


async def test_a_claim_whose_receipt_was_lost_keeps_its_key(stores: Stores) -> None:
    lost = await stores.lose("PutItem")
    claim = samples.claim("a1")
    assert (await stores.twin.claims.claim(claim)).answer_id == "a1"
    assert lost
    assert (await stores.twin.claims.claim(samples.claim("a2"))).answer_id == "a1"


async def test_a_claim_of_the_release_before_is_joined(stores: Stores) -> None:
    await stores.twin.claims.claim(samples.claim("a1"))
    (item,) = await stores.items("events")
    del item["request_hash"]
    await stores.client.put_item(TableName=f"{stores.name}-events", Item=item)
    found = await stores.twin.claims.claim(samples.claim("a2", request_hash="hash-2"))
    assert (found.answer_id, found.request_hash) == ("a1", "hash-2")


async def test_what_the_release_before_knew_of_an_interrupted_answer_counts(stores: Stores) -> None:
    record = samples.answer("a1")
    await stores.twin.records.begin_answer(record, until=datetime.now(UTC) + timedelta(hours=1))
    assert await stores.twin.records.get_answer("a1") is None
    (item,) = [one for one in await stores.items("records") if one["sk"]["S"] == "interrupted"]
    del item["until"]
    await stores.client.put_item(TableName=f"{stores.name}-records", Item=item)
    assert await stores.twin.records.get_answer("a1") == record


async def test_an_advance_whose_receipt_was_lost_was_made(stores: Stores) -> None:
    await stores.twin.states.put_many([samples.status()])
    await stores.lose("PutItem")
    assert await stores.twin.states.advance_many([samples.status(state=DocumentState.LIVE)]) == {"refill"}


async def test_claims_and_cancellations_expire_in_a_quarter_of_an_hour(stores: Stores) -> None:
    await stores.twin.claims.claim(samples.claim())
    await stores.twin.claims.count_context("7" * 64, answer_id="a1", key=None)
    await stores.twin.claims.cancel("a1")
    items = await stores.items("events")
    assert {item["sk"]["S"] for item in items} == {"key", "context", "signals"}
    now = _epoch_s()
    assert all(880 <= int(item["expires_at"]["N"]) - now <= 900 for item in items)


async def test_documents_of_many_pages_are_listed_and_counted(stores: Stores) -> None:
    """Each status has 30 kB: a page of DynamoDB's ends at 1 MB, and a batch has 25 of them or 100."""
    statuses = [
        samples.status(f"d{number:03d}", state=DocumentState.LIVE).model_copy(
            update={"failure_reason": "x" * 30_000}
        )
        for number in range(120)
    ]
    await stores.twin.states.put_many(statuses)
    assert await stores.twin.states.list(limit=1000) == statuses
    assert await stores.twin.states.list(states=[DocumentState.LIVE], limit=1000) == statuses
    assert await stores.twin.states.count_by_state() == {DocumentState.LIVE: 120}
    assert len(await stores.twin.states.get_many([status.document_id for status in statuses])) == 120


async def test_a_conversation_of_many_pages_is_listed(stores: Stores) -> None:
    answers = [
        samples.answer(f"a{number:02d}", minute=number).model_copy(update={"text": _noise(150_000).hex()})
        for number in range(12)
    ]
    for answer in answers:
        await stores.twin.records.put_answer(answer)
    assert await stores.twin.records.list_conversation("c1") == answers


async def test_an_answer_larger_than_any_item_is_kept_and_recorded_once(stores: Stores) -> None:
    huge = samples.answer().model_copy(update={"text": _noise(1_000_000).hex()})
    await stores.twin.records.put_answer(huge)
    assert await stores.twin.records.get_answer("a1") == huge
    with pytest.raises(ConflictError):
        await stores.twin.records.put_answer(samples.answer())


async def test_unprocessed_keys_of_a_batch_are_read_again() -> None:
    async def script(exchange: Exchange) -> None:
        ((table, asked),) = orjson.loads(exchange.body)["RequestItems"].items()
        assert asked["ConsistentRead"] is True  # a caller has just written one of them
        first, *left = asked["Keys"]
        row = {**first, "body": {"S": samples.status(first["sk"]["S"]).model_dump_json()}}
        fields: dict[str, Any] = {"Responses": {table: [row]}, "UnprocessedKeys": {}}
        if left:
            fields["UnprocessedKeys"] = {table: {"Keys": left, "ConsistentRead": True}}
        await exchange.respond(200, orjson.dumps(fields))

    async with scripted_http(script) as server, _states(server.url) as states:
        assert sorted(await states.get_many(["a", "b", "c"])) == ["a", "b", "c"]


async def test_unprocessed_items_of_a_batch_are_written_again() -> None:
    written: list[str] = []

    async def script(exchange: Exchange) -> None:
        ((table, puts),) = orjson.loads(exchange.body)["RequestItems"].items()
        written.append(puts[0]["PutRequest"]["Item"]["sk"]["S"])
        left = {table: puts[1:]} if puts[1:] else {}
        await exchange.respond(200, orjson.dumps({"UnprocessedItems": left}))

    async with scripted_http(script) as server, _states(server.url) as states:
        await states.put_many([samples.status(name) for name in "abc"])
    assert written == ["a", "b", "c"]


async def test_an_outdated_row_of_the_index_is_skipped() -> None:
    """The index still calls ``a`` failed; the row itself is live already. A page must not end there."""
    rows = {
        "a": samples.status("a", state=DocumentState.LIVE),
        "b": samples.status("b", state=DocumentState.FAILED),
    }

    async def script(exchange: Exchange) -> None:
        request = orjson.loads(exchange.body)
        if exchange.headers["x-amz-target"].endswith("Query"):
            after = request["ExpressionAttributeValues"].get(":1", {"S": ""})["S"]
            found = [name for name in rows if name > after][: request["Limit"]]
            fields: dict[str, Any] = {"Items": [{"sk": {"S": name}} for name in found]}
        else:
            keys = request["RequestItems"]["t"]["Keys"]
            items = [{**key, "body": {"S": rows[key["sk"]["S"]].model_dump_json()}} for key in keys]
            fields = {"Responses": {"t": items}}
        await exchange.respond(200, orjson.dumps(fields))

    async with scripted_http(script) as server, _states(server.url) as states:
        assert await states.list(states=[DocumentState.FAILED], limit=1) == [rows["b"]]


async def test_batches_that_never_end_are_an_error() -> None:
    async def script(exchange: Exchange) -> None:
        asked = orjson.loads(exchange.body)["RequestItems"]
        left = {"UnprocessedItems": asked, "UnprocessedKeys": asked, "Responses": {}}
        await exchange.respond(200, orjson.dumps(left))

    async with scripted_http(script) as server, _states(server.url) as states:
        with pytest.raises(DependencyError):
            await states.get_many(["a"])
        with pytest.raises(DependencyError):
            await states.put_many([samples.status()])


@asynccontextmanager
async def _client(url: str) -> AsyncGenerator[Any]:
    async with open_client("dynamodb", region=REGION, endpoint_url=url) as client:
        yield client


@asynccontextmanager
async def _states(url: str) -> AsyncGenerator[StoredStates]:
    async with _client(url) as client:
        states_table = DynamoDbTable(client, name="t")
        states = StoredStates(states_table)
        yield states
        await states_table.close()


def _noise(size: int) -> bytes:
    return Random(size).randbytes(size)  # noqa: S311 : no secret


def _epoch_s() -> int:
    return int(time.time())


async def test_cases_of_a_release_before_are_found_and_change_their_list(stores: Stores) -> None:
    """These releases listed every case as ``case``."""
    table, opened_at = f"{stores.name}-desk", samples.NOON
    for number, state in enumerate((CaseState.OPEN, CaseState.DISMISSED, CaseState.OPEN)):
        case = Case(answer_id="a", reason=CaseReason.FACT_EDITED, opened_at=opened_at, state=state)
        await stores.twin.desk.put(first_revision(DeskKind.CASE, f"c{number}", case, by="x", at=opened_at))
    for item in await stores.items("desk"):
        if "listed" in item:
            await stores.client.put_item(TableName=table, Item=item | {"listed": {"S": "case"}})
    for _ in range(2):
        listed = await stores.twin.desk.list(DeskKind.CASE, listed="open")
        assert {one.item_id for one in listed} == {"c0", "c2"}
    values = {item["listed"]["S"] for item in await stores.items("desk") if "listed" in item}
    assert values == {"case#open", "case#dismissed"}
