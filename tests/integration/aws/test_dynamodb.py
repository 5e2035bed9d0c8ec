"""DynamoDB beyond the contract of tables: broken calls, lost answers, pages, refused parts, the lock."""

from __future__ import annotations

import asyncio
import json
import socket
import time
import uuid
import zlib
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from random import Random
from typing import Any
from uuid import uuid4

import orjson
import pytest

from assistant.cli.aws.deploying import StampedTable, tables_of, upgrade_tables
from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.desk import Case, CaseReason, CaseState, DeskKind, first_revision
from assistant.domain.documents import DocumentState
from assistant.domain.errors import (
    ConfigurationError,
    ConflictError,
    DependencyError,
    RecordsUnavailableError,
)
from assistant.process.aws import open_client
from assistant.stores.documents import INDEX_WRITES, StoredStates, StoredWriteTurn
from assistant.stores.dynamodb_table import DynamoDbCalls, DynamoDbRefusal, DynamoDbTable
from assistant.stores.formats import StoreFormat
from assistant.stores.table import ABSENT, Range, keyed
from assistant.tenant.deployed_names import STATES, TABLES
from assistant.terminal.account import AwsAccount
from assistant.terminal.terminal import GlobalOptions
from tests.contracts import samples
from tests.contracts.twins import DynamoDbTwin, tenant_name
from tests.stage.aws_server import REGION
from tests.stage.emulated_aws import create_table
from tests.stage.faulty_proxy import Fault, FaultyProxy, Kind, Request, faulty_proxy
from tests.stage.servers import Exchange, Script, scripted_http

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
    now = int(time.time())
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


ATTEMPTS = 3


async def well(exchange: Exchange) -> None:
    await exchange.respond(200, b'{"Item":{}}')


async def test_a_refused_connection_is_unavailable() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        async with _calls_to(url) as calls:
            with pytest.raises(RecordsUnavailableError):
                await calls.call("GetItem", {})


async def stall(exchange: Exchange) -> None:
    await exchange.peer_left()


async def reset_midway(exchange: Exchange) -> None:
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
    exchange.reset()


async def cut(exchange: Exchange) -> None:
    exchange.cut()


async def internal_error(exchange: Exchange) -> None:
    await exchange.respond(500, _refusal("InternalServerError"))


async def garbage(exchange: Exchange) -> None:
    await exchange.respond(200, b"\x00\xff garbage")


async def wrong_checksum(exchange: Exchange) -> None:
    await exchange.respond(200, b'{"Item":{}}', x_amz_crc32=str(zlib.crc32(b"another")))


async def throttled(exchange: Exchange) -> None:
    await exchange.respond(400, _refusal("ThrottlingException"))


FAULTS = [
    *(stall, reset_midway, cut, internal_error),
    *(garbage, wrong_checksum, throttled),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_a_fault_that_passes_is_not_noticed_and_one_that_lasts_is_an_error(fault: Script) -> None:
    faults_left = 1

    async def script(exchange: Exchange) -> None:
        nonlocal faults_left
        faults_left -= 1
        await (fault if faults_left >= 0 else well)(exchange)

    async with _calls(script) as (calls, exchanges):
        assert await calls.call("GetItem", {}) == {"Item": {}}
        before, faults_left = len(exchanges), 99
        with pytest.raises(RecordsUnavailableError):
            await asyncio.wait_for(calls.call("GetItem", {}), 10)
    assert len(exchanges) == before + ATTEMPTS


async def test_a_refusal_is_not_repeated() -> None:
    async def script(exchange: Exchange) -> None:
        await exchange.respond(400, _refusal("AccessDeniedException"))

    async with _calls(script) as (calls, exchanges):
        with pytest.raises(DynamoDbRefusal) as refused:
            await calls.call("PutItem", {})
        assert refused.value.code == "AccessDeniedException"
        with pytest.raises(RecordsUnavailableError):
            await calls.ask("PutItem", {})
    assert len(exchanges) == 2


KEY = ("p", "a")
METHODS: dict[str, Callable[[DynamoDbTable], Awaitable[object]]] = {
    "get": lambda table: table.get(KEY),
    "get_many": lambda table: table.get_many([KEY]),
    "query": lambda table: table.query(Range("p")),
    "count": lambda table: table.count(Range("p")),
    "put": lambda table: table.put(keyed(KEY)),
    "put_many": lambda table: table.put_many([keyed(KEY)]),
    "put_each": lambda table: table.put_each([(keyed(KEY), ABSENT)]),
    "insert": lambda table: table.insert(keyed(KEY)),
    "change": lambda table: table.change(KEY, put={"more": 1}),
    "transact": lambda table: table.transact([(keyed(KEY), ABSENT)]),
    "delete": lambda table: table.delete(KEY),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("unavailable", [RecordsUnavailableError, DependencyError])
async def test_each_method_of_a_table_raises_the_table_s_own_error(
    method: str, unavailable: type[DependencyError]
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.respond(400, _refusal("AccessDeniedException"))

    async with (
        scripted_http(refuse) as server,
        open_client("dynamodb", region="us-east-1", endpoint_url=server.url) as client,
    ):
        table = DynamoDbTable(client, name="t", unavailable=unavailable)
        with pytest.raises(DependencyError) as raised:
            await asyncio.wait_for(METHODS[method](table), 10)
        assert type(raised.value) is unavailable
        await table.close()


async def test_a_clock_that_is_wrong_is_put_right() -> None:
    """A signature is refused from 5 minutes of difference on; the answer's Date tells the right time."""
    right = datetime.now(UTC) + timedelta(hours=3)

    async def script(exchange: Exchange) -> None:
        signed = datetime.strptime(exchange.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        if abs(signed - right) > timedelta(minutes=5):
            body = _refusal("InvalidSignatureException")
            await exchange.respond(400, body, Date=format_datetime(right, usegmt=True))
        else:
            await well(exchange)

    async with _calls(script) as (calls, exchanges):
        for _ in range(2):
            assert await calls.call("GetItem", {}) == {"Item": {}}
    assert len(exchanges) == 3


async def test_a_transaction_whose_response_is_lost_is_sent_again_as_the_same() -> None:
    """With another token DynamoDB would find the rows that it wrote, and refuse the second one."""
    sent: list[Exchange] = []

    async def script(exchange: Exchange) -> None:
        sent.append(exchange)
        await (reset_midway if len(sent) == 1 else well)(exchange)

    async with (
        scripted_http(script) as server,
        open_client("dynamodb", region="us-east-1", endpoint_url=server.url) as client,
    ):
        table = DynamoDbTable(client, name="t")
        rows = [(keyed(("p", name)), ABSENT) for name in ("first", "second")]
        try:
            assert await table.transact(rows)
        finally:
            await table.close()
    tokens = [orjson.loads(exchange.body).get("ClientRequestToken") for exchange in server.exchanges]
    assert tokens == [tokens[0]] * 2
    assert tokens[0]


def _refusal(code: str) -> bytes:
    return orjson.dumps({"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": "no"})


@asynccontextmanager
async def _calls(script: Script) -> AsyncGenerator[tuple[DynamoDbCalls, list[Exchange]]]:
    async with scripted_http(script) as server, _calls_to(server.url) as calls:
        yield calls, server.exchanges


@asynccontextmanager
async def _calls_to(url: str) -> AsyncGenerator[DynamoDbCalls]:
    async with open_client("dynamodb", region="us-east-1", endpoint_url=url) as client:
        calls = DynamoDbCalls(client, unavailable=RecordsUnavailableError, attempt_timeout_s=0.3)
        try:
            yield calls
        finally:
            await calls.close()


OPTIONS = GlobalOptions(tenants_dir=Path("tenants"), state_dir=Path(".state"), port=None, json=True)


@pytest.fixture
def aws(aws_server_url: str, monkeypatch: pytest.MonkeyPatch) -> AwsAccount:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulated")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated")
    return AwsAccount(account="123456789012", region=REGION)


@pytest.fixture
def stack(aws: AwsAccount) -> str:
    """A data stack with the tables, as far as their names and keys go."""
    name = f"assistant-t{uuid4().hex[:12]}-Data"
    key = [("pk", "HASH"), ("sk", "RANGE")]
    properties = {
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [{"AttributeName": part, "AttributeType": "S"} for part, _ in key],
        "KeySchema": [{"AttributeName": part, "KeyType": kind} for part, kind in key],
    }
    table = {"Type": "AWS::DynamoDB::Table", "Properties": properties}
    resources = dict.fromkeys(("RecordsTable", "DeskTable", "StatesTable", "EventsTable"), table)
    aws.call(
        "cloudformation", "create_stack", StackName=name, TemplateBody=json.dumps({"Resources": resources})
    )
    return name


def upgrade(aws: AwsAccount, stack: str, *, plan: bool = False, back: bool = False) -> dict[str, StoreFormat]:
    stores = list(tables_of(aws, data_stack=stack))
    upgrade_tables(stores, options=OPTIONS, command="upgrade", plan=plan, back=back)
    return {store.name: store.found for store in tables_of(aws, data_stack=stack)}


def table_of(aws: AwsAccount, stack: str, role: str) -> StampedTable:
    (store,) = [store for store in tables_of(aws, data_stack=stack) if store.name == role]
    return store


def test_tables_of_the_release_before_are_moved_and_given_back(aws: AwsAccount, stack: str) -> None:
    first, second = StoreFormat(1), StoreFormat(2)
    unmoved = dict.fromkeys(("records", "desk", "states", "events"), first)
    assert upgrade(aws, stack, plan=True) == unmoved
    moved = {**unmoved, "records": second, "desk": second}
    assert upgrade(aws, stack) == moved
    assert upgrade(aws, stack) == moved
    assert upgrade(aws, stack, back=True) == unmoved


async def test_a_service_refuses_a_table_of_a_newer_release(aws: AwsAccount, stack: str, client: Any) -> None:
    store = table_of(aws, stack, "records")
    table = DynamoDbTable(client, name=store.place)
    await table.refuse_format("records")
    store.stamp(StoreFormat(4, 3))
    with pytest.raises(ConfigurationError, match="has format 4"):
        await table.refuse_format("records")
    await table.close()


@pytest.fixture
async def client(aws_server_url: str) -> AsyncGenerator[Any]:
    async with open_client("dynamodb", region=REGION, endpoint_url=aws_server_url) as opened:
        yield opened


Turns = Callable[..., StoredWriteTurn]


class ShiftedClock(SystemClock):
    def __init__(self, ahead_s: float) -> None:
        self._ahead = timedelta(seconds=ahead_s)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead


@pytest.fixture
async def turns(aws_server_url: str) -> AsyncIterator[Turns]:
    """Makes turns as other processes would have them."""
    async with open_client("dynamodb", region=REGION, endpoint_url=aws_server_url) as client:
        name = f"states-{uuid.uuid4().hex[:12]}"
        await create_table(client, STATES, name=name)
        table = DynamoDbTable(client, name=name, unavailable=DependencyError)

        def turn(*, clock: Clock | None = None, **times: Any) -> StoredWriteTurn:
            return StoredWriteTurn(table, replace(INDEX_WRITES, **times), clock=clock)

        yield turn
        await table.close()


async def test_only_one_writes_at_a_time(turns: Turns) -> None:
    writing: list[int] = []
    most = 0

    async def write(turn: StoredWriteTurn) -> None:
        nonlocal most
        async with turn:
            writing.append(1)
            most = max(most, len(writing))
            await asyncio.sleep(0.02)
            writing.pop()

    here, there = turns(), turns()
    await asyncio.gather(*(write(turn) for turn in (here, there, here, there)))

    assert most == 1


async def test_a_wait_for_the_lock_that_is_too_long_fails(turns: Turns) -> None:
    async with turns():
        with pytest.raises(DependencyError, match="Another process writes"):
            async with turns(waits_s=0.1):
                pass


async def test_a_lock_whose_holder_died_expires(turns: Turns) -> None:
    await turns().__aenter__()

    async with turns(clock=ShiftedClock(ahead_s=91)):
        pass


async def test_a_holder_is_cancelled_before_its_lock_expires(turns: Turns) -> None:
    with pytest.raises(DependencyError, match="took too long"):
        async with turns(lasts_s=15.05):
            await asyncio.Event().wait()
    async with turns():
        pass


async def test_a_lost_lock_is_not_taken_from_its_new_holder(turns: Turns) -> None:
    slow, quick, third = turns(), turns(clock=ShiftedClock(ahead_s=91)), turns(waits_s=0.1)
    await slow.__aenter__()
    async with quick:
        await slow.__aexit__(None, None, None)
        with pytest.raises(DependencyError):
            await third.__aenter__()
