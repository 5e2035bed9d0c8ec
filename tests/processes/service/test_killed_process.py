"""What a service that is killed (kill -9) leaves of its answers, as the next process tells it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from assistant.process.settings import ServiceSettings
from tests.stage.processes import process
from tests.stage.running_service import (
    NO_TENANTS,
    TWO_SENTENCES,
    RunningService,
    Scene,
    events_of,
    published_keys,
    service_settings,
)
from tests.stage.sagemaker_runtime import SageMakerSocket, sagemaker_socket
from tests.stage.tokens import EC_KEY

KEY = {"idempotency-key": "k-1"}
QUESTION = {"question": "How long is the wait?", "resume_window_s": 15}
ADA = {"agent": "ada", "roles": ["auditor"]}


@pytest.fixture
async def sagemaker() -> AsyncIterator[SageMakerSocket]:
    async with sagemaker_socket() as socket:
        socket.texts = TWO_SENTENCES
        yield socket


@pytest.fixture
async def settings(tmp_path: Path, sagemaker: SageMakerSocket) -> AsyncIterator[ServiceSettings]:
    async with published_keys([EC_KEY]) as jwks_url:
        made = service_settings(
            tmp_path, Scene(answer_deadline_s=6.0), sagemaker_url=sagemaker.url, jwks_url=jwks_url
        )
        yield made.model_copy(update={"port": 0})


def calling(url: str, sagemaker: SageMakerSocket, settings: ServiceSettings) -> RunningService:
    client = httpx.AsyncClient(base_url=url, trust_env=False, timeout=30)
    return RunningService(url, sagemaker, NO_TENANTS, settings.state_dir, client)


async def seen_until(parts: AsyncIterator[str], wanted: str) -> str:
    text = ""
    async for part in parts:
        text += part
        if f"event: {wanted}\n" in text and text.endswith("\n\n"):
            break
    return text


async def test_a_whole_answer_stays_the_one_of_its_key_when_its_process_is_killed(
    settings: ServiceSettings, sagemaker: SageMakerSocket
) -> None:
    async with process("service", settings.environment()) as first:
        service = calling(first.url, sagemaker, settings)
        await service.know("wait", "The wait is two days.")
        headers = service.headers(accept="text/event-stream") | KEY
        async with service.client.stream("POST", "/v1/answers", json=QUESTION, headers=headers) as response:
            text = await seen_until(response.aiter_text(), "done")
            first.child.kill()
            await first.child.wait()
        await service.client.aclose()
    answer_id = events_of(text)[0][1]["answer_id"]
    async with process("service", settings.environment()) as second:
        service = calling(second.url, sagemaker, settings)
        resumed = await service.call("GET", f"/v1/answers/{answer_id}/events")
        events = events_of(resumed.text)
        written = "".join(data["text"] for name, data in events if name == "token")
        assert (written, events[-1][0]) == ("".join(TWO_SENTENCES), "done")
        repeated = await service.client.post("/v1/answers", json=QUESTION, headers=service.headers() | KEY)
        assert (repeated.status_code, repeated.json()["answer_id"]) == (200, answer_id)
        kept = (await service.call("GET", f"/v1/answers/{answer_id}")).json()
        assert (kept["record"]["outcome"], kept["record"]["text"]) == ("done", "".join(TWO_SENTENCES))
        await service.client.aclose()
    assert len(sagemaker.generations) == 1


async def test_an_interrupted_answer_s_sources_are_recorded_as_seen(
    settings: ServiceSettings, sagemaker: SageMakerSocket
) -> None:
    sagemaker.hold_after(2)
    async with process("service", settings.environment()) as first:
        service = calling(first.url, sagemaker, settings)
        await service.know("wait", "The wait is two days.")
        headers = service.headers(accept="text/event-stream") | KEY
        async with service.client.stream("POST", "/v1/answers", json=QUESTION, headers=headers) as response:
            text = await seen_until(response.aiter_text(), "token")
            first.child.kill()
            await first.child.wait()
        await service.client.aclose()
    answer_id = events_of(text)[0][1]["answer_id"]
    async with process("service", settings.environment()) as second:
        service = calling(second.url, sagemaker, settings)
        resumed = await service.call("GET", f"/v1/answers/{answer_id}/events")
        assert events_of(resumed.text)[-1][1]["code"] == "interrupted"
        found = await service.call("GET", "/v1/audit", params={"document_id": "wait"}, **ADA)
        assert [(one["agent"], one["kind"], one["subject_id"]) for one in found.json()["entries"]] == [
            ("ann", "asked", answer_id)
        ]
        kept = (await service.call("GET", f"/v1/answers/{answer_id}")).json()
        assert [source["document_id"] for source in kept["sources"]] == ["wait"]
        await service.client.aclose()
