"""Every method of the DynamoDB stores where DynamoDB refuses a call; test_dynamodb_calls has more faults."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

import orjson
import pytest

from assistant.domain.answers import Act, AgentAct, Sent, Verdict, VerdictLabel
from assistant.domain.audit import AccessEntry
from assistant.domain.documents import DocumentState
from assistant.domain.errors import DependencyError, RecordsUnavailableError
from assistant.process.aws import open_client
from tests.contracts import samples
from tests.contracts.dynamodb_twin import DynamoDbTwin
from tests.fakes.aws_server import REGION
from tests.fakes.scripted_http import Exchange, scripted_http

Use = Callable[[DynamoDbTwin], Awaitable[object]]
GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
OPENED = Act(act_id="o1", kind=AgentAct.OPENED_SOURCE, n=1)
READ = AccessEntry(at=samples.NOON, agent="ada", kind="answer", subject_id="a1")

RECORDS: dict[str, Use] = {
    "put_answer": lambda twin: twin.records.put_answer(samples.answer()),
    "begin_answer": lambda twin: twin.records.begin_answer(samples.answer(), until=samples.NOON),
    "get_answer": lambda twin: twin.records.get_answer("a1"),
    "list_conversation": lambda twin: twin.records.list_conversation("c1"),
    "append_verdict": lambda twin: twin.records.append_verdict("a1", GOOD, agent="ana"),
    "append_sent": lambda twin: twin.records.append_sent("a1", Sent(send_id="s1", text="x"), agent="ana"),
    "append_act": lambda twin: twin.records.append_act("a1", OPENED, agent="ana"),
    "list_acts": lambda twin: twin.records.list_acts("a1"),
    "keys_of": lambda twin: twin.erasure_keys.keys_of(["document:a"], create=True),
    "destroy": lambda twin: twin.erasure_keys.destroy("document:a"),
    "destroyed": lambda twin: twin.erasure_keys.destroyed(["document:a"]),
    "list_verdicts": lambda twin: twin.records.list_verdicts(),
    "list_sent": lambda twin: twin.records.list_sent("a1"),
    "take_place": lambda twin: twin.records.take_place("a1", "sends", "s1", most=2),
    "record_access": lambda twin: twin.records.record_access(READ),
}
LOG: dict[str, Use] = {
    "claim": lambda twin: twin.claims.claim(samples.claim()),
    "count_context": lambda twin: twin.claims.count_context("7" * 64, answer_id="a1", key=None),
    "uncount_context": lambda twin: twin.claims.uncount_context("7" * 64, answer_id="a1"),
    "release": lambda twin: twin.claims.release(samples.claim()),
    "cancel": lambda twin: twin.claims.cancel("a1"),
    "cancelled": lambda twin: twin.claims.cancelled(["a1"]),
}
STATES: dict[str, Use] = {
    "get": lambda twin: twin.states.get("refill"),
    "get_many": lambda twin: twin.states.get_many(["refill"]),
    "put_many": lambda twin: twin.states.put_many([samples.status()]),
    "advance_many": lambda twin: twin.states.advance_many([samples.status()]),
    "list": lambda twin: twin.states.list(),
    "list of states": lambda twin: twin.states.list(states=[DocumentState.LIVE]),
    "count_by_state": lambda twin: twin.states.count_by_state(),
}
USES = [
    pytest.param(use, error, id=name)
    for uses, error in (
        (RECORDS, RecordsUnavailableError),
        (LOG, RecordsUnavailableError),
        (STATES, DependencyError),
    )
    for name, use in uses.items()
]


async def refuse_rights(exchange: Exchange) -> None:
    await exchange.respond(400, orjson.dumps({"__type": "com.amazon.coral.service#AccessDeniedException"}))


@pytest.mark.parametrize(("use", "error"), USES)
async def test_a_refusal_has_its_code(use: Use, error: type[DependencyError]) -> None:
    async with scripted_http(refuse_rights) as server, _twin(server.url) as twin:
        with pytest.raises(DependencyError) as raised:
            await asyncio.wait_for(use(twin), 10)
    assert type(raised.value) is error


@asynccontextmanager
async def _twin(url: str) -> AsyncGenerator[DynamoDbTwin]:
    async with open_client("dynamodb", region=REGION, endpoint_url=url) as client:
        twin = DynamoDbTwin(client, name="t")
        try:
            yield twin
        finally:
            await twin.close()
