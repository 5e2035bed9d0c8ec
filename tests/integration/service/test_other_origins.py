"""Pages of other origins: none may frame the console or call the API, but those that are named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from tests.fakes.running_service import RunningService, Scene, running_service

CARE = "https://care.example.org"
OTHER = "https://care.example.org.evil.example"
ASKING = {
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type",
}


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[RunningService]:
    scene = Scene(frame_ancestors=(CARE,), cors_origins=(CARE,))
    async with running_service(tmp_path, scene) as service:
        yield service


async def preflight(service: RunningService, origin: str) -> httpx.Response:
    return await service.client.options("/v1/answers", headers={"origin": origin, **ASKING})


def framing(response: httpx.Response) -> str:
    policy = response.headers["content-security-policy"]
    return next(part for part in policy.split("; ") if part.startswith("frame-ancestors"))


async def test_a_named_page_may_frame_the_console_and_no_other(opened: RunningService) -> None:
    response = await opened.client.get("/")
    assert framing(response) == f"frame-ancestors {CARE}"
    assert "x-frame-options" not in response.headers


async def test_without_the_setting_nobody_may_frame_the_console(service: RunningService) -> None:
    response = await service.client.get("/")
    assert (framing(response), response.headers["x-frame-options"]) == ("frame-ancestors 'none'", "DENY")


async def test_a_named_page_may_ask(opened: RunningService) -> None:
    allowed = await preflight(opened, CARE)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == CARE
    assert "access-control-allow-credentials" not in allowed.headers


async def test_its_script_may_read_a_stream(opened: RunningService) -> None:
    await opened.know("wait", "The wait is two days.")
    headers = {**opened.headers(accept="text/event-stream"), "origin": CARE}
    streamed = await opened.client.post(
        "/v1/answers", json={"question": "How long is the wait?"}, headers=headers
    )
    assert (streamed.status_code, streamed.headers["access-control-allow-origin"]) == (200, CARE)
    assert "event: done" in streamed.text


@pytest.mark.parametrize("origin", [OTHER, "null", "http://care.example.org", f"{CARE}:8443"])
async def test_another_page_is_not_answered(opened: RunningService, origin: str) -> None:
    refused = await preflight(opened, origin)
    assert refused.status_code == 400
    assert "access-control-allow-origin" not in refused.headers


async def test_without_the_setting_no_page_may_ask(service: RunningService) -> None:
    refused = await preflight(service, CARE)
    assert refused.status_code == 405
    asked = await service.client.get("/healthz", headers={"origin": CARE})
    assert "access-control-allow-origin" not in asked.headers
