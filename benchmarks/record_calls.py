"""CPU of DynamoDB calls, by aiobotocore and by our own lean client: ``python -m benchmarks.record_calls``.

The figures of docs/decisions/0010-lean-dynamodb-calls.md. DynamoDB is a stand-in in a process of its own
that takes everything; the CPU is this process's alone.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from assistant.answering.ports import LogBatch, LogOpening
from assistant.aws.clients import open_client
from assistant.aws.dynamodb import DynamoDbCalls
from assistant.aws.dynamodb_log import DynamoDbAnswerLog
from assistant.aws.dynamodb_records import DynamoDbAnswerRecords
from assistant.domain.errors import RecordsUnavailableError
from tests.contracts import samples
from tools.load.http_server import HttpConnection, Request, response, serve
from tools.processes import started

_MODULE = "benchmarks.record_calls"
GROUP = 25
_ROUNDS, _CALLS = 3, 200
_ANSWERS = 400
_ANSWER_WITHIN_S = 0.005
_BATCH = LogBatch(
    number=1, first_sequence=1, frames=(b'id: a:1\nevent: token\ndata: {"text":"Day"}\n\n',) * 22, ended=True
)
_RECORD = samples.answer().model_copy(update={"question": "x" * 3500})
_IF_ABSENT = {"ConditionExpression": "attribute_not_exists(pk)"}
Call = Callable[[], Awaitable[Any]]


async def measure() -> None:
    with started(_MODULE, "--serve", "0.0") as stand_in:
        await _compare(stand_in.url)
    with started(_MODULE, "--serve", str(_ANSWER_WITHIN_S)) as stand_in:
        for at_once in (1, 10, 50, 200):
            cpu_us = await _answers_cpu_us(stand_in.url, at_once=at_once)
            print(f"opening, batch and record of an answer, {at_once:3} at once: {cpu_us:6.0f} µs")


async def _compare(url: str) -> None:
    async with open_client("dynamodb", region="us-east-1", endpoint_url=url) as client:
        lean = DynamoDbCalls(client, unavailable=RecordsUnavailableError)
        for operation, items, request in _requests():
            method = getattr(client, _METHODS[operation])
            by_client = await _cpu_us(lambda method=method, request=request: method(**request))
            by_us = await _cpu_us(lambda operation=operation, request=request: lean.call(operation, request))
            print(f"{operation:20} {by_client / items:7.1f} µs an item, lean {by_us / items:7.1f} µs")
        await lean.close()


_METHODS = {
    "PutItem": "put_item",
    "BatchWriteItem": "batch_write_item",
    "TransactWriteItems": "transact_write_items",
}


def _requests() -> list[tuple[str, int, dict[str, Any]]]:
    """Return operation, number of items and request."""
    items = [{"pk": {"S": f"a#{n}"}, "sk": {"S": "answer"}, "body": {"S": "x" * 4000}} for n in range(GROUP)]
    puts = [{"TableName": "t", "Item": item, **_IF_ABSENT} for item in items]
    return [
        ("PutItem", 1, puts[0]),
        (
            "BatchWriteItem",
            GROUP,
            {"RequestItems": {"t": [{"PutRequest": {"Item": item}} for item in items]}},
        ),
        ("TransactWriteItems", GROUP, {"TransactItems": [{"Put": put} for put in puts]}),
    ]


async def _cpu_us(call: Call) -> float:
    """Return the CPU of one call, best of three rounds."""
    for _ in range(20):
        await call()
    rounds: list[float] = []
    for _ in range(_ROUNDS):
        began_s = time.process_time()
        for _ in range(_CALLS):
            await call()
        rounds.append((time.process_time() - began_s) / _CALLS * 1e6)
    return min(rounds)


async def _answers_cpu_us(url: str, *, at_once: int) -> float:
    async with open_client("dynamodb", region="us-east-1", endpoint_url=url) as client:
        log = DynamoDbAnswerLog(client, table="events")
        records = DynamoDbAnswerRecords(client, table="records")

        async def answer_some(worker: int) -> None:
            for number in range(_ANSWERS // at_once):
                answer_id = f"a{worker}-{number}"
                await log.open(LogOpening(answer_id=answer_id, agent="ana", request_hash="hash"))
                await log.append(answer_id, _BATCH)
                await records.put_answer(_RECORD.model_copy(update={"answer_id": answer_id}))

        await log.open(LogOpening(answer_id="first", agent="ana", request_hash="hash"))
        began_s = time.process_time()
        await asyncio.gather(*(answer_some(worker) for worker in range(at_once)))
        cpu_s = time.process_time() - began_s
        await records.close()
        await log.close()
    return cpu_s / _ANSWERS * 1e6


async def _serve(after_s: float) -> None:
    """Take every request, after a while."""
    loop = asyncio.get_running_loop()

    def answer(_request: Request, connection: HttpConnection) -> None:
        loop.call_later(after_s, connection.send, response(b"{}"))

    await serve(answer)


if __name__ == "__main__":
    asyncio.run(_serve(float(sys.argv[2])) if sys.argv[1:2] == ["--serve"] else measure())
