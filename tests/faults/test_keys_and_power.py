"""The issuer's keys, from its address or from a parameter, and the power switch of the endpoints."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import orjson
import pytest

from tests.faults.conftest import KEY_SET, TENANT, FaultScene, Watch, asked, asking, ended, refused, watched
from tests.faults.table import (
    DOWN_WHILE_STREAMING,
    KEYS,
    KEYS_PARAMETER,
    POWER,
    SLOW,
    WRONG_ANSWER,
    Dependency,
    tell,
)
from tests.stage.aws_server import put_parameter
from tests.stage.faulty_proxy import GARBAGE, Kind, json_answer
from tests.stage.running_service import eventually

NO_KEYS = json_answer(b'{"keys": []}')
MADE_BY = {
    SLOW: "accepted, never answered, before any key was known",
    WRONG_ANSWER: "something that is no key set, before any key was known",
}


def _parameter(value: str) -> bytes:
    return json_answer(
        orjson.dumps({"Parameter": {"Name": "x", "Type": "String", "Value": value, "Version": 1}})
    )


async def test_without_keys_nobody_is_let_in_and_nobody_is_told_to_sign_in_again(scene: FaultScene) -> None:
    """Keys are fetched three times in 15 s at most, so a process sees two faults before it gets them. The
    third, down at start, stands in ``test_start``."""
    name = scene.aws.parameter("issuer-keys", TENANT)
    await put_parameter(scene.aws.clients["ssm"], name=name, value=KEY_SET)
    by_parameter = scene.settings().model_copy(update={"jwks_url": None, "jwks_parameter": name})
    async with AsyncExitStack() as stack:
        one, other = [
            await Watch.begun(scene, await stack.enter_async_context(scene.service(settings)))
            for settings in (scene.settings(), by_parameter)
        ]
        for source in (KEYS, KEYS_PARAMETER):
            await scene.break_(source, Kind.STALL)
        await asyncio.gather(_tell_refused(one, KEYS, SLOW), _tell_refused(other, KEYS_PARAMETER, SLOW))
        for watch, source, answer in ((one, KEYS, NO_KEYS), (other, KEYS_PARAMETER, _parameter("{}"))):
            await scene.break_(source, Kind.ANSWER, answer=answer)
            await _tell_refused(watch, source, WRONG_ANSWER)
        await scene.heal()
        assert (await asked(one.service)).status == 200
        async with watched(scene, other.service) as watch:
            await _keeps_letting_in(watch, KEYS_PARAMETER)


async def _tell_refused(watch: Watch, source: Dependency, fault: str) -> None:
    answer = await asked(watch.service)
    assert answer.told() == "503 `dependency_unavailable`, retryable"
    tell(
        source,
        fault,
        made_by=MADE_BY[fault],
        sees=answer.told(),
        recorded=await watch.recorded(),
        log=await watch.logged("keys_not_fetched"),
        figure=await watch.counted(refused("dependency_unavailable")),
    )


async def _keeps_letting_in(watch: Watch, source: Dependency) -> None:
    """Keys that were fetched once serve on."""
    go_on = watch.scene.sagemaker.hold_after(2)
    async with asking(watch.service) as stream:
        await stream.until("token")
        await watch.scene.break_(source, Kind.REFUSE)
        go_on.set()
        answer = await stream.rest()
    watch.scene.sagemaker.hold = None
    assert answer.told() == "`done` `stop`"
    assert (await asked(watch.service)).told() == "`done` `stop`"
    tell(
        source,
        DOWN_WHILE_STREAMING,
        made_by="its connections reset",
        sees=answer.told(),
        recorded=await watch.recorded(answer),
        figure=await watch.counted(ended("stop")),
    )
    await watch.scene.heal()


@pytest.mark.parametrize("fault", [SLOW, WRONG_ANSWER])
async def test_a_power_switch_that_cannot_be_read_switches_nothing_off(watch: Watch, fault: str) -> None:
    if fault == SLOW:
        await watch.scene.break_(POWER, Kind.STALL)
    else:
        await watch.scene.break_(POWER, Kind.ANSWER, answer=_parameter("of"))
    proxy = watch.scene.proxies["ssm"]
    read_before = sum(POWER.is_of(request) for request in proxy.requests)
    answer = await asked(watch.service)

    async def is_read() -> bool:
        nonlocal answer
        answer = await asked(watch.service)
        assert answer.told() == "`done` `stop`"
        return sum(POWER.is_of(request) for request in proxy.requests) > read_before

    await eventually(is_read)
    if fault == SLOW:
        await watch.scene.break_(POWER, Kind.ANSWER, answer=GARBAGE)
    log = await watch.logged("power_not_read" if fault == SLOW else "power_not_understood")
    tell(
        POWER,
        fault,
        made_by="accepted, never answered" if fault == SLOW else "a word that is neither `on` nor `paused`",
        sees=answer.told(),
        recorded=await watch.recorded(answer),
        log=log,
    )
