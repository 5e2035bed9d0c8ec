"""What a service that is killed (kill -9) leaves of its answers, as the next process tells it."""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import httpx
import pytest

from assistant.settings.process import ServiceSettings
from tests.fakes.processes import process
from tests.fakes.running_service import (
    NO_TENANTS,
    TWO_SENTENCES,
    RunningService,
    Scene,
    events_of,
    published_keys,
    service_settings,
)
from tests.fakes.sagemaker_socket import SageMakerSocket, sagemaker_socket
from tests.fakes.tokens import EC_KEY

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
        made = service_settings(tmp_path, Scene(), sagemaker_url=sagemaker.url, jwks_url=jwks_url)
        yield made.model_copy(update={"port": 0})


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Lock a database, so that no other connection can write."""
    with closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        yield
        holder.execute("ROLLBACK")


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


async def test_a_whole_answer_whose_last_events_are_lost_stays_the_one_of_its_key(
    settings: ServiceSettings, sagemaker: SageMakerSocket
) -> None:
    """The record is written, the log's last batch is not: the process is killed between the two."""
    go_on = sagemaker.hold_after(2)
    folder = settings.state_dir / "tenants" / "clinic"
    async with process("api", settings.environment()) as first:
        service = calling(first.url, sagemaker, settings)
        await service.know("wait", "The wait is two days.")
        headers = service.headers(accept="text/event-stream") | KEY
        async with service.client.stream("POST", "/v1/answers", json=QUESTION, headers=headers) as response:
            parts = response.aiter_text()
            text = await seen_until(parts, "token")
            with locked(folder / "events.sqlite"):
                go_on.set()
                text += await seen_until(parts, "done")
                first.child.kill()
                await first.child.wait()
        await service.client.aclose()
    answer_id = events_of(text)[0][1]["answer_id"]
    async with process("api", settings.environment()) as second:
        service = calling(second.url, sagemaker, settings)
        resumed = await service.client.get(f"/v1/answers/{answer_id}/events", headers=service.headers())
        name, problem = events_of(resumed.text)[-1]
        assert (name, problem["code"], problem["retryable"]) == ("error", "not_resumable", False)
        repeated = await service.client.post("/v1/answers", json=QUESTION, headers=service.headers() | KEY)
        assert (repeated.status_code, repeated.json()["code"]) == (409, "not_resumable")
        assert answer_id in repeated.json()["detail"]
        kept = (await service.client.get(f"/v1/answers/{answer_id}", headers=service.headers())).json()
        assert (kept["record"]["outcome"], kept["record"]["text"]) == ("done", "".join(TWO_SENTENCES))
        await service.client.aclose()
    assert len(sagemaker.generations) == 1


async def test_an_interrupted_answer_s_sources_are_recorded_as_seen(
    settings: ServiceSettings, sagemaker: SageMakerSocket
) -> None:
    sagemaker.hold_after(2)
    async with process("api", settings.environment()) as first:
        service = calling(first.url, sagemaker, settings)
        await service.know("wait", "The wait is two days.")
        headers = service.headers(accept="text/event-stream") | KEY
        async with service.client.stream("POST", "/v1/answers", json=QUESTION, headers=headers) as response:
            text = await seen_until(response.aiter_text(), "token")
            first.child.kill()
            await first.child.wait()
        await service.client.aclose()
    answer_id = events_of(text)[0][1]["answer_id"]
    async with process("api", settings.environment()) as second:
        service = calling(second.url, sagemaker, settings)
        resumed = await service.client.get(f"/v1/answers/{answer_id}/events", headers=service.headers())
        assert events_of(resumed.text)[-1][1]["code"] == "interrupted"
        found = await service.client.get(
            "/v1/audit", params={"document_id": "wait"}, headers=service.headers(**ADA)
        )
        assert [(one["agent"], one["kind"], one["subject_id"]) for one in found.json()["entries"]] == [
            ("ann", "asked", answer_id)
        ]
        kept = (await service.client.get(f"/v1/answers/{answer_id}", headers=service.headers())).json()
        assert [source["document_id"] for source in kept["sources"]] == ["wait"]
        await service.client.aclose()
