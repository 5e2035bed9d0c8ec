"""A service that starts while everything is down, and gets its dependencies back one at a time; and what it
does not start without."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from assistant.process.settings import ServiceSettings
from tests.faults.conftest import (
    KEY_SET,
    TENANT,
    FaultScene,
    Watch,
    asked,
    called,
    ended,
    fell_back,
    refused,
    watched,
)
from tests.faults.table import (
    DOCUMENTS,
    DOWN_AT_START,
    EMBEDDING,
    EVENTS,
    KEYS,
    KEYS_PARAMETER,
    LINK_SECRET,
    LLM,
    POWER,
    QUEUE,
    RECORDS,
    SEARCH,
    SLOW,
    STATES,
    WRONG_ANSWER,
    Dependency,
    tell,
)
from tests.stage.aws_server import put_parameter
from tests.stage.faulty_proxy import Fault, Kind, faulty_proxy, json_answer
from tests.stage.running_service import eventually

pytestmark = pytest.mark.night  # services that start for each test

DOWN = "nobody listens"
RESET = "its connections reset"
WINDOW: dict[str, Any] = {"resume_window_s": 15}


async def test_a_service_starts_without_its_dependencies_and_finds_each_when_it_is_up(
    scene: FaultScene,
) -> None:
    name = scene.aws.parameter("issuer-keys", TENANT)
    await put_parameter(scene.aws.clients["ssm"], name=name, value=KEY_SET)
    settings = scene.settings().model_copy(update={"jwks_url": None, "jwks_parameter": name})
    for dependency in (
        KEYS_PARAMETER,
        POWER,
        EVENTS,
        EMBEDDING,
        SEARCH,
        LLM,
        RECORDS,
        DOCUMENTS,
        QUEUE,
        STATES,
    ):
        await scene.break_(dependency, Kind.REFUSE)
    async with scene.service(settings) as service, watched(scene, service) as watch:
        await _keys(watch)
        await _what_an_answer_needs(watch)
        await _the_stores_of_answers(watch)
        await _the_stores_of_documents(watch)


async def _keys(watch: Watch) -> None:
    await _tell_no_keys(watch, KEYS_PARAMETER, made_by=RESET)
    await watch.scene.heal(KEYS_PARAMETER)


async def _tell_no_keys(watch: Watch, source: Dependency, *, made_by: str) -> None:
    answer = await asked(watch.service)
    assert answer.told() == "503 `dependency_unavailable`, retryable"
    tell(
        source,
        DOWN_AT_START,
        made_by=made_by,
        sees=answer.told(),
        recorded=await watch.recorded(),
        log=await watch.logged("keys_not_fetched"),
        figure=await watch.counted(refused("dependency_unavailable")),
    )


async def _what_an_answer_needs(watch: Watch) -> None:
    for dependency, code in ((EMBEDDING, "embedding_unavailable"), (SEARCH, "search_unavailable")):
        answer = await asked(watch.service)
        assert answer.told() == f"503 `{code}`, retryable"
        tell(
            dependency,
            DOWN_AT_START,
            made_by=DOWN if dependency is SEARCH else RESET,
            sees=answer.told(),
            recorded=await watch.recorded(),
            log=await watch.logged("dependency_failed"),
            figure=await watch.counted(refused(code)),
        )
        await watch.scene.heal(dependency)


async def _the_stores_of_answers(watch: Watch) -> None:
    without_model = await asked(watch.service)
    assert without_model.told() == (
        "`done` `stop`, `quoted`, `fallback` `generation_unavailable`, `recorded` false"
    )
    await watch.scene.heal(LLM)
    answer = await asked(watch.service, **WINDOW)
    assert answer.told() == "`done` `stop`, `recorded` false"
    waits = await watch.logged("answer_record_waits")
    await watch.scene.heal(RECORDS)
    recorded = await watch.follows(answer)
    tell(
        RECORDS,
        DOWN_AT_START,
        made_by=RESET,
        sees=answer.told(),
        recorded=f"{recorded}, once, when the store is back",
        log=f"{waits}, then {await watch.logged('answer_record_followed')}",
        figure=await watch.counted(ended("stop")),
    )
    tell(
        LLM,
        DOWN_AT_START,
        made_by=RESET,
        sees=without_model.told().removesuffix(", `recorded` false"),
        recorded=await watch.follows(without_model),
        log=await watch.logged("generation_failed"),
        figure=await watch.counted(fell_back("generation_unavailable")),
    )
    answer = await asked(watch.service, **WINDOW)
    keyed = await asked(watch.service, key="at-start")
    assert (answer.told(), keyed.told()) == ("`done` `stop`", "503 `records_unavailable`, retryable")
    tell(
        EVENTS,
        DOWN_AT_START,
        made_by=RESET,
        sees=f"{answer.told()}; with an Idempotency-Key: {keyed.told()}",
        recorded=await watch.recorded(answer),
        log=await watch.logged("dependency_failed"),
        figure=await watch.counted(ended("stop")),
    )
    await watch.scene.heal(EVENTS)
    assert (await asked(watch.service, key="at-start")).told() == "`done` `stop`"
    tell(
        POWER,
        DOWN_AT_START,
        made_by=RESET,
        sees=answer.told(),
        recorded=await watch.recorded(answer),
        log=await watch.logged("power_not_read"),
    )


async def _the_stores_of_documents(watch: Watch) -> None:
    document = {
        "document_id": "at-start",
        "title": "T",
        "content": "Text.",
        "source": "s",
        "media_type": "text/plain",
    }
    for dependency in (DOCUMENTS, QUEUE, STATES):
        for other in (DOCUMENTS, QUEUE, STATES):
            await watch.scene.heal(other)
        await watch.scene.break_(dependency, Kind.REFUSE)
        brought = await called(watch.service, "POST", "/v1/documents", json=document)
        assert brought.told() == "503 `dependency_unavailable`, retryable"
        answer = await asked(watch.service)
        assert answer.told() == "`done` `stop`"
        await watch.scene.heal(dependency)
        again = await called(watch.service, "POST", "/v1/documents", json=document)
        assert (again.status, again.body["state"]) == (202, "received")
        tell(
            dependency,
            DOWN_AT_START,
            made_by=RESET if dependency is STATES else DOWN,
            sees=f"bringing a document: {brought.told()}; an answer: {answer.told()}",
            recorded="brought again the document goes in",
            log=await watch.logged("dependency_failed"),
        )


REFUSED = json_answer(b'{"__type":"InvalidCiphertextException"}', status="400 X")
NO_SECRET = (
    (DOWN_AT_START, DOWN, Fault(Kind.REFUSE)),
    (SLOW, "accepted, never answered", Fault(Kind.STALL)),
    (WRONG_ANSWER, "the ciphertext is refused", Fault(Kind.ANSWER, answer=REFUSED)),
)


async def test_a_service_does_not_start_without_its_link_secret(scene: FaultScene) -> None:
    async with asyncio.TaskGroup() as group:
        for fault, made_by, how in NO_SECRET:
            group.create_task(_does_not_start(scene, fault, made_by=made_by, how=how))


async def _does_not_start(scene: FaultScene, fault: str, *, made_by: str, how: Fault) -> None:
    settings = scene.settings()
    async with faulty_proxy(scene.aws.aws_url) as kms:
        await kms.break_by(how)
        status, said = await scene.refused_start(settings, more={"AWS_ENDPOINT_URL_KMS": kms.url})
    assert status == 1
    assert said.startswith("KMS ")
    assert "Traceback" not in said
    if fault == DOWN_AT_START:
        await _starts_and_signs(scene, settings)
    tell(
        LINK_SECRET,
        fault,
        made_by=made_by,
        sees="nothing: the task ends with status 1 before it takes a request",
        recorded="nothing",
        log=f"on stderr: {said.partition(':')[0].partition(' /')[0].strip()} …",
    )


async def _starts_and_signs(scene: FaultScene, settings: ServiceSettings) -> None:
    """The same task starts when the secret is available, though its issuer is down."""
    await scene.break_(KEYS, Kind.REFUSE)
    async with scene.service(settings) as service:
        await _tell_no_keys(await Watch.begun(scene, service), KEYS, made_by=DOWN)
        await scene.heal(KEYS)

        async def answers() -> bool:
            return (await asked(service)).told() == "`done` `stop`"

        await eventually(answers)
        link = (await asked(service)).events[1][1]["sources"][0]["document_url"]
        opened = await service.client.post("/v1/documents/linked", json={"token": link.partition("#")[2]})
        assert opened.status_code == 200
