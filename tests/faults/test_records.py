"""The stores beside an answer: its record, and the claim of its key."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any

import pytest

from tests.fakes.faulty_proxy import GARBAGE, Kind, json_answer
from tests.faults.asking import Answered, asked, asking, called
from tests.faults.cells import DOWN_WHILE_STREAMING, SLOW, WRONG_ANSWER
from tests.faults.dependencies import EVENTS, RECORDS
from tests.faults.scene import WRITTEN
from tests.faults.watching import Watch, ended, tell_of

WRONG = {
    "refused": json_answer(
        b'{"__type":"com.amazonaws.dynamodb.v20120810#ValidationException"}', status="400 X"
    ),
    "failed": json_answer(
        b'{"__type":"com.amazonaws.dynamodb.v20120810#InternalServerError"}', status="500 X"
    ),
    "throttled": json_answer(
        b'{"__type":"com.amazonaws.dynamodb.v20120810#ProvisionedThroughputExceededException"}',
        status="400 X",
    ),
    "checksum": json_answer(b"{}", headers="x-amz-crc32: 1\r\n"),
    "no json": json_answer(b"<html>"),
    "no http": GARBAGE,
}
SAYS_SOMETHING_ELSE = "status 400 or 500; throttling; a wrong checksum; no JSON; no HTTP"
STALLED = "accepted, never answered"
WINDOW: dict[str, Any] = {"resume_window_s": 15}


async def test_records_that_are_down_while_the_answer_streams_follow(watch: Watch) -> None:
    go_on = watch.scene.sagemaker.hold_after(2)
    async with asking(watch.service) as stream:
        await stream.until("token")
        await watch.scene.break_(RECORDS, Kind.REFUSE)
        go_on.set()
        answer = await stream.rest()
    assert answer.written == WRITTEN
    await tell_record(watch, answer, DOWN_WHILE_STREAMING, made_by="its connections reset")


async def test_records_that_are_slow_hold_no_answer_up_for_long(watch: Watch) -> None:
    await watch.scene.break_(RECORDS, Kind.STALL)
    answer = await asked(watch.service)
    await tell_record(watch, answer, SLOW, made_by=STALLED)


@pytest.mark.parametrize("wrong", WRONG)
async def test_records_that_say_something_else_follow(watch: Watch, wrong: str) -> None:
    await watch.scene.break_(RECORDS, Kind.ANSWER, answer=WRONG[wrong])
    answer = await asked(watch.service)
    await tell_record(watch, answer, WRONG_ANSWER, made_by=SAYS_SOMETHING_ELSE)


async def tell_record(watch: Watch, answer: Answered, fault: str, *, made_by: str) -> None:
    """The agent gets the answer with `recorded` false; the record follows when the store is back."""
    assert answer.told() == "`done` `stop`, `recorded` false"
    assert watch.calls_of_the_model == 1
    read = await called(watch.service, "GET", f"/v1/answers/{answer.answer_id}")
    assert read.told() == "503 `records_unavailable`, retryable"
    assert await watch.recorded(answer) == "not yet"
    log = await watch.logged("answer_record_waits")
    await watch.scene.heal()
    recorded = await watch.follows(answer)
    log += ", then " + await watch.logged("answer_record_followed")
    read_again = await called(watch.service, "GET", f"/v1/answers/{answer.answer_id}")
    assert read_again.body["record"]["text"].strip() == answer.written
    tell_of(
        RECORDS,
        fault,
        made_by=made_by,
        sees=f"{answer.told()}; reading it back: {read.told()}",
        recorded=f"{recorded}, once, when the store is back",
        log=log,
        figure=await watch.counted(ended("stop")),
    )


async def test_claims_that_are_slow_are_given_up(watch: Watch) -> None:
    await watch.scene.break_(EVENTS, Kind.STALL)
    await tell_not_claimed(watch, SLOW, made_by=STALLED)


@pytest.mark.parametrize("wrong", WRONG)
async def test_claims_that_say_something_else_are_given_up(watch: Watch, wrong: str) -> None:
    await watch.scene.break_(EVENTS, Kind.ANSWER, answer=WRONG[wrong])
    await tell_not_claimed(watch, WRONG_ANSWER, made_by=SAYS_SOMETHING_ELSE)


async def tell_not_claimed(watch: Watch, fault: str, *, made_by: str) -> None:
    """A key that cannot be looked up is worth more than an answer; without one nothing is looked up."""
    answer, keyed = await asyncio.gather(
        asked(watch.service, **WINDOW), asked(watch.service, key=f"not-claimed-{uuid.uuid4().hex}")
    )
    assert answer.told() == "`done` `stop`"
    recorded = await watch.recorded(answer)
    assert keyed.told() == "503 `records_unavailable`, retryable"
    assert len(await watch.new_records()) == 1
    assert watch.calls_of_the_model == 1
    tell_of(
        EVENTS,
        fault,
        made_by=made_by,
        sees=f"{answer.told()}; with an Idempotency-Key: {keyed.told()}",
        recorded=recorded,
        log=await watch.logged("dependency_failed"),
        figure=await watch.counted(ended("stop")),
    )
