"""The ingestion queue on SQS beyond its contract: batches done in part, foreign messages, broken ways."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.domain.errors import DependencyError
from assistant.process.aws import ClientLimits, open_client
from assistant.stores.sqs_queue import SqsIngestionQueue
from tests.contracts.twins import tenant_name
from tests.stage.aws_server import REGION
from tests.stage.emulated_aws import create_queue
from tests.stage.faulty_proxy import Fault, FaultyProxy, Kind, faulty_proxy, json_answer
from tests.stage.servers import Exchange, ScriptedServer, scripted_http

IMPATIENT = ClientLimits(read_timeout_s=1.5, pool_connections=8, attempts=1)


@dataclass
class Sqs:
    """A tenant's queue behind a way that can break."""

    client: Any
    url: str
    queue: SqsIngestionQueue
    direct: SqsIngestionQueue
    """The same queue by another way, which never breaks, and patient enough for long polls."""
    way: FaultyProxy

    async def dead_letters(self) -> list[str]:
        dead = await self.client.get_queue_url(QueueName=f"{self.url.rpartition('/')[2]}-dead")
        found = await self.client.receive_message(QueueUrl=dead["QueueUrl"], MaxNumberOfMessages=10)
        return [message["Body"] for message in found.get("Messages", [])]


@pytest.fixture
async def sqs(aws_server_url: str, tmp_path: Path) -> AsyncIterator[Sqs]:
    async with (
        faulty_proxy(aws_server_url) as way,
        open_client("sqs", region=REGION, endpoint_url=aws_server_url) as client,
        open_client("sqs", region=REGION, endpoint_url=way.url, limits=IMPATIENT) as broken,
    ):
        url = await create_queue(client, name=tenant_name(tmp_path))
        queue, direct = [SqsIngestionQueue(each, queue_url=url) for each in (broken, client)]
        yield Sqs(client, url, queue, direct, way)


async def test_a_body_names_its_document_and_version(sqs: Sqs) -> None:
    await sqs.queue.send_many(["refill"])
    found = await sqs.client.receive_message(QueueUrl=sqs.url)
    assert orjson.loads(found["Messages"][0]["Body"]) == {"schema_version": 1, "document_id": "refill"}


async def test_an_invalid_message_becomes_a_dead_letter(sqs: Sqs) -> None:
    foreign = [
        "garbage",
        "[]",
        '{"schema_version":2,"document_id":"newer"}',
        '{"schema_version":1,"document_id":"a/b"}',
        '{"schema_version":1,"document_id":"a","more":1}',
    ]
    for body in foreign:
        await sqs.client.send_message(QueueUrl=sqs.url, MessageBody=body)
    await sqs.queue.send_many(["ours"])
    (ours,) = await sqs.queue.receive(limit=10, wait_s=0.0, visibility_timeout_s=600.0)
    assert ours.document_id == "ours"
    await sqs.queue.delete_many([ours.receipt])
    async with asyncio.timeout(40):  # none of them waits for its visibility time-out to pass
        while await sqs.direct.depth() > 0:
            assert await sqs.direct.receive(limit=10, wait_s=0.0, visibility_timeout_s=600.0) == []
    assert sorted(await sqs.dead_letters()) == sorted(foreign)


async def test_an_invalid_message_that_cannot_be_put_back_does_not_delay_valid_ones(
    sqs: Sqs,
) -> None:
    await sqs.client.send_message(QueueUrl=sqs.url, MessageBody="garbage")
    await sqs.queue.send_many(["ours"])
    begun = len(sqs.way.requests)
    await sqs.way.break_by(Fault(Kind.CUT, of=lambda _: len(sqs.way.requests) > begun + 1))
    (ours,) = await sqs.queue.receive(limit=10, wait_s=0.0, visibility_timeout_s=600.0)
    assert ours.document_id == "ours"


async def test_messages_that_came_are_not_lost_when_the_next_call_fails(sqs: Sqs) -> None:
    await sqs.queue.send_many([f"d{number}" for number in range(15)])
    begun = len(sqs.way.requests)
    second = Fault(Kind.CUT, of=lambda _: len(sqs.way.requests) > begun + 1)
    await sqs.way.break_by(second)
    assert len(await sqs.queue.receive(limit=15, wait_s=1.0, visibility_timeout_s=60.0)) == 10


FAULTS = {
    "stalled": Fault(Kind.STALL),
    "reset": Fault(Kind.CUT),
    "503": Fault(
        Kind.ANSWER,
        answer=json_answer(b'{"__type":"com.amazonaws.sqs#RequestThrottled"}', status="503 X"),
    ),
    "no rights": Fault(
        Kind.ANSWER, answer=json_answer(b'{"__type":"com.amazonaws.sqs#AccessDenied"}', status="400 X")
    ),
}
CALLS: dict[str, Callable[[SqsIngestionQueue], Awaitable[object]]] = {
    "send": lambda queue: queue.send_many(["a"]),
    "receive": lambda queue: queue.receive(limit=1, wait_s=0.0, visibility_timeout_s=60.0),
    "delete": lambda queue: queue.delete_many(["receipt"]),
    "extend": lambda queue: queue.extend_many(["receipt"], visibility_timeout_s=60.0),
    "depth": lambda queue: queue.depth(),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_broken_connection_is_an_error_until_it_is_restored(sqs: Sqs, fault: str) -> None:
    await sqs.queue.send_many(["kept"])
    await sqs.way.break_by(FAULTS[fault])
    for call in CALLS.values():
        with pytest.raises(DependencyError):
            await call(sqs.queue)
    await sqs.way.heal()
    if fault != "reset":  # there the calls were done, and only their answers were lost
        (kept,) = await sqs.queue.receive(limit=10, wait_s=0.0, visibility_timeout_s=60.0)
        assert kept.document_id == "kept"


@asynccontextmanager
async def scripted(*answers: dict[str, Any]) -> AsyncIterator[tuple[SqsIngestionQueue, ScriptedServer]]:
    """A queue that gives these answers, the last one again and again."""
    left = list(answers)

    async def script(exchange: Exchange) -> None:
        answer = left.pop(0) if len(left) > 1 else left[0]
        await exchange.respond(200, orjson.dumps(answer), content_type="application/x-amz-json-1.0")

    async with (
        scripted_http(script) as server,
        open_client("sqs", region=REGION, endpoint_url=server.url, limits=IMPATIENT) as client,
    ):
        yield SqsIngestionQueue(client, queue_url=f"{server.url}/1/queue"), server


def done(*numbers: int) -> list[dict[str, str]]:
    return [{"Id": str(number), "MessageId": "m", "MD5OfMessageBody": "0" * 32} for number in numbers]


def failed(number: int, *, ours: bool, code: str = "InternalError") -> dict[str, Any]:
    return {"Id": str(number), "Code": code, "SenderFault": ours}


async def test_the_part_of_a_batch_that_failed_is_sent_again() -> None:
    first = {"Successful": done(0, 2), "Failed": [failed(1, ours=False)]}
    async with scripted(first, {"Successful": done(1)}) as (queue, server):
        await queue.send_many(["a", "b", "c"])
    again = orjson.loads(server.exchanges[1].body)["Entries"]
    assert [orjson.loads(entry["MessageBody"])["document_id"] for entry in again] == ["b"]


@pytest.mark.parametrize(
    ("ours", "code", "said", "calls"),
    [
        (False, "InternalError", "did not take 1", 4),
        (True, "InvalidMessageContents", "InvalidMessageContents", 1),
    ],
    ids=["fails", "is refused"],
)
async def test_a_message_that_the_queue_does_not_take_is_an_error(
    ours: bool, code: str, said: str, calls: int
) -> None:
    async with scripted({"Successful": [], "Failed": [failed(0, ours=ours, code=code)]}) as (queue, server):
        with pytest.raises(DependencyError, match=said):
            await queue.send_many(["a"])
    assert len(server.exchanges) == calls


@pytest.mark.parametrize("code", ["ReceiptHandleIsInvalid", "MessageNotInflight", "InvalidParameterValue"])
async def test_a_receipt_that_is_no_longer_valid_is_no_error(code: str) -> None:
    answer = {"Successful": done(1), "Failed": [failed(0, ours=True, code=code)]}
    async with scripted(answer) as (queue, server):
        await queue.delete_many(["old", "new"])
        await queue.extend_many(["old", "new"], visibility_timeout_s=60.0)
    assert len(server.exchanges) == 2
