"""Three unmodified clients of OpenAI's API ask the service over HTTP: ``check-openai-clients``."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.stage.running_service import RunningService, service_of_two

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "openai-clients" / "bin" / "python"
CLIENTS = ("openai", "langchain-openai", "pydantic-ai")


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with service_of_two(tmp_path) as service:
        service.sagemaker.texts = ("Wait two days. ", "The wait ", "is two days.")
        yield service


async def asked(service: RunningService, client: str, way: str, *, stop: str = "") -> dict[str, Any]:
    """Return what the client understood. It fails as the client fails."""
    token = service.headers()["authorization"].removeprefix("Bearer ")
    process = await asyncio.create_subprocess_exec(
        *(PYTHON, Path(__file__).with_name("asking.py"), client, way, stop),
        env=os.environ | {"ASSISTANT_URL": service.url, "ASSISTANT_TOKEN": token},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, failed = await process.communicate()
    assert process.returncode == 0, failed.decode()
    return json.loads(said)


def written(said: dict[str, Any]) -> str:
    """Return the model's text, without the notice below it."""
    return said["text"].partition("\n\n")[0].strip()


@pytest.mark.parametrize("way", ["whole", "streamed"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_reads_text_end_and_usage(service: RunningService, client: str, way: str) -> None:
    said = await asked(service, client, way)
    assert written(said) == "Wait two days. The wait is two days."
    assert (said["finish_reason"], said["tokens"]) == ("stop", 8)
    (generation,) = service.sagemaker.generations
    assert "SECRETWORD" not in str(generation.body)


@pytest.mark.parametrize("way", ["whole", "streamed"])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_s_stop_cuts_no_text(service: RunningService, client: str, way: str) -> None:
    said = await asked(service, client, way, stop="The wait")
    assert written(said) == "Wait two days. The wait is two days."


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_client_is_told_that_a_text_was_cut(service: RunningService, client: str) -> None:
    service.sagemaker.finish_reason = "length"
    assert (await asked(service, client, "whole"))["finish_reason"] == "length"
