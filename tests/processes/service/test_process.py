"""The service as a process: ready line, sign of life, orderly end, one sentence when it cannot start."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
from pathlib import Path

import httpx
import orjson
import pytest

from assistant.process.settings import ServiceSettings, inherited_environment
from tests.stage.processes import process, start_forked
from tests.stage.running_service import (
    NO_TENANTS,
    RunningService,
    Scene,
    events_of,
    published_keys,
    service_settings,
)
from tests.stage.sagemaker_runtime import SageMakerSocket, sagemaker_socket
from tests.stage.tenant_stores import stored_bodies
from tests.stage.tokens import EC_KEY


@pytest.fixture
async def sagemaker():
    async with sagemaker_socket() as socket:
        yield socket


@pytest.fixture
async def settings(tmp_path: Path, sagemaker: SageMakerSocket):
    async with published_keys([EC_KEY]) as jwks_url:
        made = service_settings(tmp_path, Scene(), sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        yield made.model_copy(update={"port": 0, "operations_port": 0, "drain_timeout_s": 5.0})


async def test_it_says_when_it_is_ready(settings: ServiceSettings) -> None:
    async with (
        process("service", settings.environment()) as service,
        httpx.AsyncClient(base_url=service.url, trust_env=False) as client,
    ):
        assert service.ready["ready"] is True
        assert (await client.get("/healthz")).status_code == 200
        for path in ("/readyz", "/metrics"):
            assert (await client.get(path)).status_code == 404
            there = await client.get(f"{service.operations_url}{path}")
            assert there.status_code == 200
        assert (await client.get(f"{service.operations_url}/v1/answers/x")).status_code == 404


@pytest.mark.parametrize(
    ("sent", "is_read"), [(signal.SIGTERM, True), (signal.SIGINT, False)], ids=["read", "nobody reads"]
)
async def test_told_to_stop_it_finishes_an_answer_whether_it_is_read_or_not(
    settings: ServiceSettings, sagemaker: SageMakerSocket, sent: signal.Signals, is_read: bool
) -> None:
    gate = sagemaker.hold_after(1)
    async with process("service", settings.environment()) as service:
        known = known_service(service.url, sagemaker, settings)
        await known.know("wait", "The wait is two days.")
        window = {"resume_window_s": 15}
        asking = asyncio.create_task(known.ask(accept="text/event-stream", body=window))
        await sagemaker.generation()
        if not is_read:
            asking.cancel()
            await asyncio.wait([asking])
        service.child.send_signal(sent)
        await refuses_connections(service.url)
        gate.set()
        if is_read:
            assert events_of((await asking).text)[-1][0] == "done"
        assert (await service.ended())[0] == 0
        await known.client.aclose()
    assert outcomes(settings) == ["done"]


async def test_a_stream_that_does_not_end_is_ended_and_recorded(
    settings: ServiceSettings, sagemaker: SageMakerSocket
) -> None:
    sagemaker.stall_after = 1
    short = settings.model_copy(update={"drain_timeout_s": 0.5})
    async with process("service", short.environment()) as service:
        known = known_service(service.url, sagemaker, settings)
        await known.know("wait", "The wait is two days.")
        asking = asyncio.create_task(known.ask(accept="text/event-stream"))
        call = await sagemaker.generation()
        service.child.terminate()
        await asyncio.gather(asking, return_exceptions=True)
        assert (await service.ended())[0] == 0
        assert call.left.is_set()
        await known.client.aclose()
    assert outcomes(settings) == ["disconnected"]


def outcomes(settings: ServiceSettings) -> list[str]:
    file = settings.state_dir / "tenants" / "clinic" / "records.sqlite"
    return [record["outcome"] for record in stored_bodies(file, partition="answer#*", sort="answer")]


def known_service(url: str, sagemaker: SageMakerSocket, settings: ServiceSettings) -> RunningService:
    client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=20)
    return RunningService(url, sagemaker, NO_TENANTS, settings.state_dir, client)


async def refuses_connections(url: str) -> None:
    host, port = url.removeprefix("http://").split(":")
    async with asyncio.timeout(60):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionError:  # refused, or reset in the queue of a listener that closed
                return
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
            await asyncio.sleep(0.01)


async def one_sentence(environment: dict[str, str]) -> str:
    child = await start_forked("assistant.service", environment=inherited_environment() | environment)
    said = (await asyncio.wait_for(child.communicate(), 60))[1].decode().strip()
    assert child.returncode == 1
    assert "\n" not in said
    return said


async def test_where_answers_are_quoted_no_artifact_of_the_llm_is_waited_for(
    settings: ServiceSettings, sagemaker: SageMakerSocket
) -> None:
    shutil.rmtree(settings.model_artifacts_dir / "tiny-llm")
    quoted = settings.model_copy(update={"quoted_tenants": ("clinic", "pharmacy")})
    async with process("service", quoted.environment()) as service:
        known = known_service(service.url, sagemaker, settings)
        ready = await known.client.get(f"{service.operations_url}/readyz")
        models = [check for check in ready.json()["checks"] if check["name"] == "models"]
        assert (ready.status_code, [check["ok"] for check in models]) == (200, [True, True])
        assert {check["detail"] for check in models} == {"answers are quoted; no model writes"}
        await known.know("wait", "The wait is two days.")
        assert (await known.answered())["mode"] == "quoted"
        await known.client.aclose()


async def test_a_missing_secret_is_named_with_its_key(settings: ServiceSettings) -> None:
    file = settings.tenants_dir / "clinic.toml"
    file.write_text(f'{file.read_text()}\n[secrets]\ndocument_links = "file:absent"\n')
    settings = settings.model_copy(update={"only_tenants": ("clinic",)})
    said = await one_sentence(settings.environment())
    assert f"{file}: secrets.document_links" in said
    assert "absent" in said


@pytest.mark.parametrize("wrong", ["a typo", "a secret that is not there"])
async def test_a_tenant_that_cannot_be_served_is_logged_and_the_others_are_served(
    settings: ServiceSettings, sagemaker: SageMakerSocket, wrong: str
) -> None:
    good = (settings.tenants_dir / "clinic.toml").read_text()
    missing = '[secrets]\ndocument_links = "file:nowhere"\n'
    bad = good.replace('name = "clinic"', 'name = "bakery"', 1)
    (settings.tenants_dir / "bakery.toml").write_text(
        f"oven = 1\n{bad}" if wrong == "a typo" else bad + missing
    )
    async with process("service", settings.environment()) as service:
        known = known_service(service.url, sagemaker, settings)
        await known.know("wait", "The wait is two days.")
        assert events_of((await known.ask(accept="text/event-stream")).text)[-1][0] == "done"
        assert (await known.client.get(f"{service.operations_url}/readyz")).status_code == 503
        refused = await known.call("GET", "/v1/documents", tenant="bakery")
        assert (refused.status_code, refused.json()["code"]) == (503, "tenant_not_served")
        assert "bakery" in refused.json()["detail"]
        await known.client.aclose()
        service.child.terminate()
        _, said = await service.ended()
    (line,) = [line for line in map(orjson.loads, said.splitlines()) if line["event"] == "tenant_not_served"]
    assert (line["tenant"], line["level"]) == ("bakery", "warning")
    assert ("unknown key oven" if wrong == "a typo" else "nowhere") in line["reason"]


async def test_a_missing_model_artifact_is_named(settings: ServiceSettings) -> None:
    path = settings.model_artifacts_dir / "tiny-llm" / "artifact.json"
    path.unlink()
    settings = settings.model_copy(update={"only_tenants": ("clinic",)})
    assert str(path) in await one_sentence(settings.environment())
