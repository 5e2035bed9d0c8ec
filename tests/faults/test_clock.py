"""Tasks whose wall clocks are wrong: tokens, leases between them, signatures of calls to AWS."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.faults.conftest import (
    Answered,
    FaultScene,
    ServiceProcess,
    asked,
    asking,
    came_back,
    ended,
    headers,
    watched,
)
from tests.faults.table import THE_SERVICE, tell
from tests.stage.faulty_proxy import Fault, Kind, Request
from tests.stage.running_service import eventually

pytestmark = pytest.mark.night  # services that start for each test

OFF_S = 300
_FOLDER = Path(__file__).parent / "shifted_clock"
_MOST_SKEW_S = 240
"""AWS itself takes five minutes, or fifteen."""


def shifted(seconds: int) -> dict[str, str]:
    return {"PYTHONPATH": str(_FOLDER), "SHIFTED_CLOCK_S": str(seconds)}


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def ahead(scene: FaultScene) -> AsyncIterator[ServiceProcess]:
    async with scene.service(more=shifted(OFF_S)) as made:
        await answered_once(made)
        yield made


@pytest_asyncio.fixture(loop_scope="session", scope="module")
async def behind(scene: FaultScene) -> AsyncIterator[ServiceProcess]:
    async with scene.service(more=shifted(-OFF_S)) as made:
        await answered_once(made)
        yield made


async def answered_once(service: ServiceProcess) -> None:
    async def answers() -> bool:
        return (await asked(service, who=for_both())).status == 200

    await eventually(answers)


def for_both(**more: Any) -> dict[str, str]:
    """A token that is valid by both clocks."""
    now = int(time.time())
    return headers(iat=now - OFF_S - 60, exp=now + OFF_S + 600, **more)


async def test_a_task_ahead_says_too_early_that_an_answer_of_one_behind_is_interrupted(
    scene: FaultScene, ahead: ServiceProcess, behind: ServiceProcess
) -> None:
    seen: list[str] = []
    for owner, reader in ((ahead, behind), (behind, ahead)):
        async with watched_by(scene, owner) as watch:
            go_on = scene.sagemaker.hold_after(2)
            async with asking(owner, who=for_both(), resume_window_s=15) as stream:
                await stream.until("token")
                coming = asyncio.create_task(came_back(reader, stream.answered.answer_id, who=for_both()))
                done, _ = await asyncio.wait({coming}, timeout=3)
                assert bool(done) == (reader is ahead)
                go_on.set()
                answer = await stream.rest()
            seen.append((await coming).told())
            assert answer.told() == "`done` `stop`"
            assert (await came_back(reader, answer.answer_id, who=for_both())).written == answer.written
            assert watch.calls_of_the_model == 1
            recorded = await watch.recorded(answer)
    assert seen == ["`done` `stop`", "`error` `interrupted`, retryable"]
    tell(
        THE_SERVICE,
        "two tasks whose clocks differ by 10 minutes",
        made_by="one task 5 minutes ahead, the other 5 behind; each writes, and a reader comes back to the "
        "other",
        sees=f"{answer.told()}; back on the task behind the same, on the one ahead {seen[-1]}, and all of it"
        " once it is on record",
        recorded=recorded,
        figure=await watch.counted(ended("stop")),
    )


def watched_by(scene: FaultScene, service: ServiceProcess) -> Any:
    return watched(scene, service, who=for_both)


def _is_off(request: Request) -> bool:
    """Judge a signature's time as AWS does."""
    stamp = request.headers.get("x-amz-date")
    if stamp is None:
        return False
    signed = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    return abs(signed - datetime.now(UTC)) > timedelta(seconds=_MOST_SKEW_S)


def _refusal(service: str) -> bytes:
    """Return what this service of AWS says of a signature of another time."""
    if service == "s3":
        kind, body = "application/xml", b"<Error><Code>RequestTimeTooSkewed</Code></Error>"
    else:
        kind, body = "application/x-amz-json-1.0", b'{"__type":"x#InvalidSignatureException","message":"-"}'
    status = 400 if service == "dynamodb" else 403
    head = (
        f"HTTP/1.1 {status} X\r\ndate: {format_datetime(datetime.now(UTC), usegmt=True)}\r\n"
        f"x-amzn-errortype: InvalidSignatureException\r\n"
        f"content-type: {kind}\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def test_calls_that_an_answer_makes_are_signed_by_aws_s_own_clock(
    scene: FaultScene, ahead: ServiceProcess
) -> None:
    async with watched_by(scene, ahead) as watch:
        for service in ("dynamodb", "sagemaker", "s3"):
            await scene.proxies[service].break_by(Fault(Kind.ANSWER, _is_off, answer=_refusal(service)))
        answer = await asked(ahead, who=for_both(), resume_window_s=1)
        assert answer.told() == "`done` `stop`"
        assert answer.events[0][1]["resumable"] is True
        recorded = await watch.recorded(answer)
        response = await ahead.client.get("/v1/documents/wait", headers=for_both())
        read = Answered(response.status_code, response.json())
        assert read.told() == "503 `dependency_unavailable`, retryable"
        tell(
            THE_SERVICE,
            "clock off by 5 minutes, and AWS refuses the signatures",
            made_by="signatures judged by the proxies' clock, as DynamoDB, SageMaker and S3 do",
            sees=f"{answer.told()}: DynamoDB and SageMaker are signed for by their own clock from then on; "
            f"reading a document from S3: {read.told()}",
            recorded=recorded,
            log=await watch.logged("dependency_failed"),
            figure=await watch.counted(ended("stop")),
        )
        for service in ("dynamodb", "sagemaker", "s3"):
            await scene.proxies[service].heal()
