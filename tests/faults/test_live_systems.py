"""A system whose values an answer shows, and the keys of who signs contexts: a fault of the system costs its
values and never the text."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest_asyncio
from joserfc import jwt
from joserfc.jwk import ECKey

from assistant.process.settings import ServiceSettings
from tests.fakes.aws_server import put_parameter
from tests.fakes.faulty_proxy import Kind, faulty_proxy, json_answer
from tests.fakes.running_service import KNOWLEDGE_SOURCE, eventually
from tests.fakes.scripted_http import scripted_http
from tests.faults.asking import Answered, asked, asking, headers, idle
from tests.faults.cells import (
    CIRCUIT_OPEN,
    DOWN_AT_START,
    DOWN_WHILE_STREAMING,
    KEY_SET_MISSING,
    OTHER_CUSTOMER,
    SLOW,
    WRONG_ANSWER,
)
from tests.faults.dependencies import CARE_KEYS, LIVE_SYSTEM
from tests.faults.scene import TENANT, FaultScene, ServiceProcess
from tests.faults.watching import Watch, ended, refused, tell_of
from tests.options.live.live_scene import CUSTOMER, ORDER, answers_well, order, write_connector

CARE_ISSUER = "https://care.example.com"
CARE_KEY = ECKey.generate_key("P-256", {"kid": "care"})
CARE_KEY_SET = orjson.dumps({"keys": [CARE_KEY.as_dict(private=False)]}).decode()
LABEL = "desk"
"""Of the document with the element, so that agents of other tests are not shown it."""
STEP = "The courier brings the parcel: {{orders.status}}."
SHOWN = "The courier brings the parcel: [order status]."
DOWN = "nobody listens"
STALLED = "accepted, never answered"
CIRCUIT = 'assistant_live_circuit_open{system="orders",tenant="clinic"}'
MOST_QUESTIONS = 8
"""Five failures in a row open a circuit."""


_LIVE = """
[[sources]]
name = "knowledge"
access = "everyone"
namespace = ""
elements = true

[care_context]
issuer = "{issuer}"
jwks_parameter = "{parameter}"

[[reach]]
name = "orders"
port = 443
deadline_s = 1.0
live.connector = "connectors/orders.toml"
"""


@pytest_asyncio.fixture(loop_scope="session", autouse=True)
async def _orders(scene: FaultScene) -> AsyncIterator[None]:
    """Serve the live system behind a proxy."""
    async with scripted_http(answers_well) as system, faulty_proxy(system.url) as proxy:
        scene.proxies["orders"] = proxy
        yield


def live_settings(scene: FaultScene) -> ServiceSettings:
    """Return the settings of a service whose quoted answers show values of the live system to an agent in the
    conversation of a customer whom the care application signs."""
    settings = scene.settings(quoted=True)
    file = settings.tenants_dir / f"{TENANT}.toml"
    live = _LIVE.format(issuer=CARE_ISSUER, parameter=scene.aws.parameter("care-jwks", TENANT))
    file.write_text(file.read_text().replace(KNOWLEDGE_SOURCE, "") + live)
    write_connector(settings.tenants_dir / "connectors")
    return settings.model_copy(update={"reach_addresses": {"orders": scene.proxies["orders"].url}})


def signed() -> str:
    now = int(datetime.now(UTC).timestamp())
    claims = {
        "iss": CARE_ISSUER,
        "aud": "assistant-context",
        "iat": now,
        "exp": now + 120,
        "jti": uuid.uuid4().hex,
        "tenant": TENANT,
        "agent": "ann",
        "customer": CUSTOMER,
        "ids": {"order": [ORDER]},
    }
    return jwt.encode({"alg": "ES256", "kid": "care"}, claims, CARE_KEY, algorithms=["ES256"])


def question(*, with_context: bool = True) -> dict[str, Any]:
    body: dict[str, Any] = {"question": "Courier brings parcel?", "who": headers(labels=[LABEL])}
    return body | ({"context": signed()} if with_context else {})


def element_of(answer: Answered) -> dict[str, Any]:
    """Return the answer's one element as it ended; the text around it must be whole."""
    assert (answer.status, answer.written) == (200, SHOWN), answer.body or answer.written
    return [data for name, data in answer.events if name == "element"][-1]


def seen(answer: Answered) -> str:
    element = element_of(answer)
    assert element["data"] is None
    retryable = "retryable" if element["retryable"] else "not retryable"
    return f"{answer.told()}; its element `{element['state']}`, `{element['problem']}`, {retryable}"


def read(outcome: str) -> str:
    return f'assistant_live_reads_total{{outcome="{outcome}",system="orders",tenant="clinic"}}'


async def know_the_step(scene: FaultScene) -> None:
    await scene.aws.know("courier", STEP, tenant=TENANT, labels=(LABEL,))


async def test_a_system_that_fails_costs_its_values_and_no_word_of_the_text(scene: FaultScene) -> None:
    await know_the_step(scene)
    for dependency in (LIVE_SYSTEM, CARE_KEYS):
        await scene.break_(dependency, Kind.REFUSE)
    async with scene.service(live_settings(scene)) as service:
        await _warmed_up(service)
        await _tell_no_keys(scene, service, DOWN_AT_START, made_by="its connections reset")
        await scene.heal(CARE_KEYS)
        await _tell_no_keys(scene, service, KEY_SET_MISSING, made_by="nobody put it")
        await _put_key_set(scene)
        await _tell(scene, service, DOWN_AT_START, made_by=DOWN, code="system_unavailable")
        await scene.heal()
        await _shows_the_value(scene, service)
        await _slow_and_wrong(scene, service)
        await _down_while_streaming(scene, service)
        await _down_for_longer(scene, service)
        await _shows_the_value(scene, service)


async def _warmed_up(service: ServiceProcess) -> None:
    """A question without a context asks neither the system nor the keys."""

    async def answers() -> bool:
        return (await asked(service, **question(with_context=False))).status == 200

    await eventually(answers)


async def _put_key_set(scene: FaultScene) -> None:
    name = scene.aws.parameter("care-jwks", TENANT)
    await put_parameter(scene.aws.clients["ssm"], name=name, value=CARE_KEY_SET)


async def _shows_the_value(scene: FaultScene, service: ServiceProcess) -> None:
    """When the fault is over a question is answered with its value, and each is recorded once.

    It may be asked more than once: on a busy machine a reading can pass its limit."""

    async def shows() -> bool:
        watch = await Watch.begun(scene, service)
        answer = await asked(service, **question())
        assert await watch.recorded(answer) == "`done` `stop`"
        element = element_of(answer)
        if element["state"] != "ready":
            assert element["retryable"], element
            return False
        assert element["data"]["values"][0]["text"] == "Shipped"
        return True

    await eventually(shows)


async def _tell_no_keys(scene: FaultScene, service: ServiceProcess, fault: str, *, made_by: str) -> None:
    watch = await Watch.begun(scene, service)
    answer = await asked(service, **question())
    assert answer.told() == "503 `dependency_unavailable`, retryable"
    tell_of(
        CARE_KEYS,
        fault,
        made_by=made_by,
        sees=f"with a context: {answer.told()}; without one: `done` `stop`",
        recorded=await watch.recorded(),
        log=await watch.logged("keys_not_fetched"),
        figure=await watch.counted(refused("dependency_unavailable")),
    )
    plain = await asked(service, **question(with_context=False))
    assert (plain.told(), element_of(plain)["problem"]) == ("`done` `stop`", "not_allowed")


async def _tell(
    scene: FaultScene, service: ServiceProcess, fault: str, *, made_by: str, code: str
) -> Answered:
    watch = await Watch.begun(scene, service)
    answer = await asked(service, **question())
    assert element_of(answer)["problem"] == code
    await _tell_of_the_system(watch, fault, made_by=made_by, answer=answer, code=code)
    return answer


async def _tell_of_the_system(watch: Watch, fault: str, *, made_by: str, answer: Answered, code: str) -> None:
    tell_of(
        LIVE_SYSTEM,
        fault,
        made_by=made_by,
        sees=seen(answer),
        recorded=await watch.recorded(answer),
        figure=await watch.counted(read(code)),
    )
    assert watch.calls_of_the_model == 0


def _body(**changes: Any) -> bytes:
    return json_answer(orjson.dumps(order(**changes)))


CHANGED = [
    _body(status=None),
    _body(status="lost"),
    _body(status=7),
    json_answer(b"[]"),
    json_answer(b"{not json"),
    b"HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 6\r\n\r\n<html>",
    b"HTTP/1.1 302 Found\r\nlocation: /login\r\ncontent-length: 0\r\n\r\n",
]


async def _slow_and_wrong(scene: FaultScene, service: ServiceProcess) -> None:
    await scene.break_(LIVE_SYSTEM, Kind.STALL)
    await _tell(scene, service, SLOW, made_by=STALLED, code="system_late")
    for answer_bytes in CHANGED:
        await scene.break_(LIVE_SYSTEM, Kind.ANSWER, answer=answer_bytes)
        await _tell(
            scene,
            service,
            WRONG_ANSWER,
            made_by="a changed schema: a value missing, unknown, of another type; no JSON; HTML; a redirect",
            code="system_invalid",
        )
    await scene.break_(LIVE_SYSTEM, Kind.ANSWER, answer=_body(customer={"id": "C-2"}, status="delayed"))
    answer = await _tell(
        scene, service, OTHER_CUSTOMER, made_by="the order asked for, of another customer", code="not_allowed"
    )
    assert not [word for word in ("C-2", "Delayed", "delayed") if word in answer.text]
    await scene.heal()
    await _shows_the_value(scene, service)


async def _down_while_streaming(scene: FaultScene, service: ServiceProcess) -> None:
    watch = await Watch.begun(scene, service)
    await scene.break_(LIVE_SYSTEM, Kind.STALL)
    async with asking(service, **question()) as stream:
        await stream.until("element")
        await scene.break_(LIVE_SYSTEM, Kind.REFUSE)
        answer = await stream.rest()
    code = "system_unavailable"
    made_by = "nobody listens, connections reset"
    await _tell_of_the_system(watch, DOWN_WHILE_STREAMING, made_by=made_by, answer=answer, code=code)
    await scene.heal()
    await _shows_the_value(scene, service)


async def _down_for_longer(scene: FaultScene, service: ServiceProcess) -> None:
    """After five failures in a row the system is asked no more, and answers do not wait for it."""
    await scene.break_(LIVE_SYSTEM, Kind.ANSWER, answer=json_answer(b"", status="503 X"))
    for _ in range(MOST_QUESTIONS):
        await asked(service, **question())
        if (await service.figures())[CIRCUIT]:
            break
    requests = len(scene.proxies["orders"].requests)
    made_by = "status 503, five times in a row"
    await _tell(scene, service, CIRCUIT_OPEN, made_by=made_by, code="system_unavailable")
    assert len(scene.proxies["orders"].requests) == requests
    await scene.heal()

    async def is_asked_again() -> bool:
        return element_of(await asked(service, **question()))["state"] == "ready"

    await eventually(is_asked_again)
    assert not (await service.figures())[CIRCUIT]


async def test_keys_that_are_slow_or_wrong_refuse_contexts_and_keys_that_are_known_serve_on(
    scene: FaultScene,
) -> None:
    await know_the_step(scene)
    await _put_key_set(scene)
    await scene.break_(CARE_KEYS, Kind.STALL)
    async with AsyncExitStack() as stack:
        service = await stack.enter_async_context(scene.service(live_settings(scene)))
        await _warmed_up(service)
        made_by = "accepted, never answered, before any key was known"
        await _tell_no_keys(scene, service, SLOW, made_by=made_by)
        await scene.break_(CARE_KEYS, Kind.ANSWER, answer=_parameter("{}"))
        made_by = "something that is no key set, before any key was known"
        await _tell_no_keys(scene, service, WRONG_ANSWER, made_by=made_by)
        await scene.heal()
        await _shows_the_value(scene, service)
        await _keys_serve_on(scene, service)


def _parameter(value: str) -> bytes:
    parameter = {"Name": "x", "Type": "String", "Value": value, "Version": 1}
    return json_answer(orjson.dumps({"Parameter": parameter}))


async def _keys_serve_on(scene: FaultScene, service: ServiceProcess) -> None:
    watch = await Watch.begun(scene, service)
    await scene.break_(LIVE_SYSTEM, Kind.STALL)
    async with asking(service, **question()) as stream:
        await stream.until("element")
        await scene.break_(CARE_KEYS, Kind.REFUSE)
        await scene.heal(LIVE_SYSTEM)
        answer = await stream.rest()
    element_of(answer)
    tell_of(
        CARE_KEYS,
        DOWN_WHILE_STREAMING,
        made_by="its connections reset",
        sees=answer.told(),
        recorded=await watch.recorded(answer),
        figure=await watch.counted(ended("stop")),
    )
    await _shows_the_value(scene, service)
    await scene.heal()
    await idle(service)
