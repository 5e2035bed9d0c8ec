"""Alive, ready, figures, the API's description and the console's files."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from assistant.service import app
from tests.stage.running_service import RunningService, Scene, running_service
from tests.stage.tokens import ISSUER


async def test_ready_names_every_check(service: RunningService) -> None:
    response = await service.operated("/readyz")
    assert response.status_code == 200
    body = response.json()
    assert body["ready"] is True
    found = {(check["name"], check["tenant"]) for check in body["checks"]}
    per_tenant = {
        (name, tenant) for name in ("records", "index", "models") for tenant in ("clinic", "pharmacy")
    }
    assert found == {("keys", None)} | per_tenant


async def test_without_keys_the_service_is_not_ready(tmp_path: Path) -> None:
    async with running_service(tmp_path, Scene(publishes_keys=False)) as service:
        response = await service.operated("/readyz")
        assert response.status_code == 503
        failed = [check["name"] for check in response.json()["checks"] if not check["ok"]]
        assert failed == ["keys"]
        asked = await service.ask()
        assert (asked.status_code, asked.json()["code"]) == (503, "dependency_unavailable")
        assert int(asked.headers["retry-after"]) >= 1


async def test_a_model_of_other_dimensions_than_the_index_is_not_ready(tmp_path: Path) -> None:
    async with running_service(tmp_path, Scene(artifact_dimensions=16)) as service:
        response = await service.operated("/readyz")
        assert response.status_code == 503
        failed = {check["name"] for check in response.json()["checks"] if not check["ok"]}
        assert failed == {"index"}


async def test_every_answer_forbids_sniffing_and_storing(service: RunningService) -> None:
    for path in ("/healthz", "/v1/documents", "/nothing"):
        response = await service.client.get(path)
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["cache-control"] == "no-store"


async def test_the_console_is_told_where_to_sign_in(service: RunningService) -> None:
    response = await service.client.get("/config.json")
    assert response.json() == {
        "issuer": ISSUER,
        "client_id": "assistant-console",
        "scopes": ["openid"],
        "service": "Care assistant",
        "delivers": [],
        "replies": ["clinic", "pharmacy"],
        "checks": [],
        "guards": {"clinic": "seen", "pharmacy": "seen"},
        "examples": {"clinic": [], "pharmacy": []},
        "unwritten": [],
        "hosts": [],
        "originals": {},
    }


@pytest.fixture
async def console(tmp_path: Path, dist: Path) -> AsyncIterator[RunningService]:
    """A service that found the build at its start."""
    build(dist)
    async with running_service(tmp_path / "built") as made:
        yield made


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "dist"
    folder.mkdir()
    monkeypatch.setattr(app, "DIST", folder)
    return folder


def build(dist: Path) -> None:
    (dist / "index.html").write_text("<!doctype html><title>Console</title>")
    (dist / "console.js").write_text("let x;")
    (dist / ".secret.js").write_text("let secret;")
    (dist / "notes.md").write_text("notes")
    (dist.parent / "outside.js").write_text("let outside;")


async def test_a_console_that_is_not_built_says_how(dist: Path, tmp_path: Path) -> None:
    async with running_service(tmp_path) as service:
        response = await service.client.get("/")
    assert response.status_code == 404
    assert "make demo" in response.text


async def test_the_console_lets_nothing_in_from_outside(console: RunningService) -> None:
    response = await console.client.get("/")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().split(" ", 1) for part in response.headers["content-security-policy"].split(";")
    )
    assert policy == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "img-src": "'self' data:",
        "connect-src": f"'self' {ISSUER}",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "base-uri": "'none'",
    }
    assert response.headers["referrer-policy"] == "no-referrer"


async def test_an_unchanged_file_is_not_sent_again(console: RunningService) -> None:
    first = await console.client.get("/console.js")
    assert first.headers["content-type"].startswith("text/javascript")
    again = await console.client.get("/console.js", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304


async def test_nothing_else_is_served(console: RunningService) -> None:
    outside = (
        "/.secret.js",
        "/notes.md",
        "/../outside.js",
        "/..%2foutside.js",
        "/%2e%2e/outside.js",
        "/x.js",
    )
    for path in (*outside, *(f"/{'a' * length}.html" for length in (251, 5000))):
        assert (await console.client.get(path)).status_code == 404, path[:40]


async def test_many_who_ask_for_readiness_share_a_round(service: RunningService) -> None:
    answers = await asyncio.gather(*(service.operated("/readyz") for _ in range(20)))
    assert len({answer.json()["checked_at"] for answer in answers}) <= 2


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


async def test_a_named_page_may_frame_the_console_and_ask_and_no_other(opened: RunningService) -> None:
    response = await opened.client.get("/")
    assert framing(response) == f"frame-ancestors {CARE}"
    assert "x-frame-options" not in response.headers
    allowed = await preflight(opened, CARE)
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == CARE
    assert "access-control-allow-credentials" not in allowed.headers
    for origin in (OTHER, "null", "http://care.example.org", f"{CARE}:8443"):
        refused = await preflight(opened, origin)
        assert refused.status_code == 400, origin
        assert "access-control-allow-origin" not in refused.headers


async def test_its_script_may_read_a_stream(opened: RunningService) -> None:
    await opened.know("wait", "The wait is two days.")
    headers = {**opened.headers(accept="text/event-stream"), "origin": CARE}
    streamed = await opened.client.post(
        "/v1/answers", json={"question": "How long is the wait?"}, headers=headers
    )
    assert (streamed.status_code, streamed.headers["access-control-allow-origin"]) == (200, CARE)
    assert "event: done" in streamed.text


async def test_without_the_setting_nobody_may_frame_the_console_or_ask(service: RunningService) -> None:
    response = await service.client.get("/")
    assert (framing(response), response.headers["x-frame-options"]) == ("frame-ancestors 'none'", "DENY")
    assert (await preflight(service, CARE)).status_code == 405
    asked = await service.client.get("/healthz", headers={"origin": CARE})
    assert "access-control-allow-origin" not in asked.headers
