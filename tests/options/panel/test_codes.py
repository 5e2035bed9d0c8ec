"""One-time codes over HTTP: each is of one agent, one page and one customer, and works once."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.domain.clock import SystemClock
from assistant.domain.errors import UnauthenticatedError
from assistant.options.panel.codes import LIFETIME_S, MAX_CODE_CHARACTERS, PanelCodes
from tests.stage.running_service import (
    RunningService,
    Scene,
    published_keys,
    running_service,
    service_on,
    service_settings,
)
from tests.stage.sagemaker_runtime import sagemaker_socket
from tests.stage.tenant_stores import SteppedClock
from tests.stage.tokens import CARE, EC_KEY, context_claims, token

HELPDESK = "https://helpdesk.example.org"
TOP = "https://top.example.org"
"""May hold the helpdesk's page, and may not talk."""
SCENE = Scene(
    frame_ancestors=(HELPDESK, TOP),
    cors_origins=(HELPDESK,),
    more_of_tenants=f'[care_context]\nissuer = "{CARE}"\n',
)


@asynccontextmanager
async def panel_service(folder: Path, scene: Scene = SCENE) -> AsyncGenerator[RunningService]:
    async with AsyncExitStack() as stack:
        sagemaker = await stack.enter_async_context(sagemaker_socket())
        keys = await stack.enter_async_context(published_keys([EC_KEY]))
        settings = service_settings(folder, scene, sagemaker_url=sagemaker.url, jwks_url=keys)
        settings = settings.model_copy(update={"care_jwks_url": keys})
        yield await stack.enter_async_context(service_on(settings, scene, sagemaker))


def signed_context(**changes: Any) -> str:
    return token(context_claims(SystemClock(), **changes))


async def ask_code(service: RunningService, *, origin: str = HELPDESK, **changes: Any) -> httpx.Response:
    """Ask for a code as ann's helpdesk does; ``who`` and ``context`` change whose."""
    who = changes.pop("who", {})
    body = {"context": signed_context(**changes.pop("context", {})), "origin": origin} | changes
    return await service.client.post("/v1/panel/codes", json=body, headers=service.headers(**who))


async def redeem(service: RunningService, code: str, *, origin: str = HELPDESK) -> httpx.Response:
    return await service.client.post("/v1/panel/sessions", json={"code": code, "origin": origin})


@pytest.fixture
async def panel(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with panel_service(tmp_path) as service:
        yield service


async def test_a_code_gives_the_agents_token_and_the_context_once(panel: RunningService) -> None:
    code = (await ask_code(panel)).json()["code"]
    first = await redeem(panel, code)
    assert first.status_code == 200
    headers = {"authorization": f"Bearer {first.json()['access_token']}"}
    asked = await panel.client.post(
        "/v1/answers",
        json={"question": "How long?", "context": first.json()["context"]},
        headers={**headers, "accept": "application/json"},
    )
    assert asked.status_code == 200, asked.text
    again = await redeem(panel, code)
    assert (again.status_code, again.json()["code"]) == (401, "unauthenticated")
    assert again.headers["cache-control"] == "no-store"


async def test_an_agent_over_the_rate_is_refused_and_does_not_spend_the_code(tmp_path: Path) -> None:
    async with panel_service(tmp_path, replace(SCENE, per_minute=2)) as service:
        one, other = [(await ask_code(service)).json()["code"] for _ in range(2)]
        for code in (one, one, other):
            assert (await redeem(service, code)).status_code == 429
        asked = await ask_code(service, who={"agent": "bob"}, context={"agent": "bob"})
        assert (await redeem(service, asked.json()["code"])).status_code == 200


async def test_another_page_cannot_use_the_code_and_does_not_spend_it(panel: RunningService) -> None:
    code = (await ask_code(panel)).json()["code"]
    for origin in (TOP, f"{HELPDESK}.evil.example", "null", ""):
        assert (await redeem(panel, code, origin=origin)).status_code == 401
    assert (await redeem(panel, code)).status_code == 200


async def test_a_page_of_another_site_cannot_spend_a_code(panel: RunningService) -> None:
    code = (await ask_code(panel)).json()["code"]
    body = {"code": code, "origin": HELPDESK}
    for site in ("cross-site", "same-site", "none"):
        headers = {"sec-fetch-site": site}
        assert (await panel.client.post("/v1/panel/sessions", json=body, headers=headers)).status_code == 401
    headers = {"sec-fetch-site": "same-origin"}
    assert (await panel.client.post("/v1/panel/sessions", json=body, headers=headers)).status_code == 200


@pytest.mark.parametrize(
    "changes",
    [
        {"context": {"agent": "bob"}},
        {"context": {"tenant": "pharmacy"}},
        {"context": {"iss": "https://care.evil"}},
        {"who": {"agent": "bob"}},
        {"who": {"tenant": "pharmacy"}},
    ],
    ids=str,
)
async def test_both_tokens_must_be_of_one_agent_and_tenant(
    panel: RunningService, changes: dict[str, Any]
) -> None:
    assert (await ask_code(panel)).status_code == 200
    assert (await ask_code(panel, **changes)).status_code == 422


async def test_without_the_agents_token_or_role_there_is_no_code(panel: RunningService) -> None:
    assert (await ask_code(panel, who={"roles": ["auditor"]})).status_code == 403
    nobody = await panel.client.post("/v1/panel/codes", json={"context": "x", "origin": HELPDESK})
    assert nobody.status_code == 401


async def test_a_code_of_one_tenant_is_none_of_another(panel: RunningService) -> None:
    code = (await ask_code(panel)).json()["code"]
    _, _, sealed = code.partition(".")
    for forged in (
        f"pharmacy.{sealed}",
        f".{sealed}",
        sealed,
        f"nobody.{sealed}",
        f"clinic.{sealed[:-4]}AAAA",
    ):
        assert (await redeem(panel, forged)).status_code == 401
    assert (await redeem(panel, code)).status_code == 200


async def test_a_code_ends_after_a_minute(panel: RunningService) -> None:
    clock = SteppedClock()
    codes = replace(panel.tenants["clinic"].part(PanelCodes), clock=clock)
    long = "x" * 8_192
    code = codes.make(token=long, context=long, origin=HELPDESK)
    assert len(code) <= MAX_CODE_CHARACTERS
    later = codes.make(token=long, context=long, origin=HELPDESK)
    clock.step(LIFETIME_S - 1)
    assert codes.open(code, origin=HELPDESK).token == long
    clock.step(1)
    with pytest.raises(UnauthenticatedError):
        codes.open(later, origin=HELPDESK)


async def test_the_page_keeps_its_opener_and_the_console_does_not(panel: RunningService) -> None:
    console, page = [await panel.client.get(path) for path in ("/", "/panel")]
    assert page.status_code == console.status_code
    policies = [one.headers.pop("cross-origin-opener-policy") for one in (console, page)]
    assert policies == ["same-origin", "unsafe-none"]
    assert page.headers["content-security-policy"] == console.headers["content-security-policy"]
    assert f"frame-ancestors {HELPDESK} {TOP}" in page.headers["content-security-policy"]
    assert (await panel.client.get("/config.json")).json()["hosts"] == [HELPDESK]


async def test_without_hosts_there_is_no_panel(tmp_path: Path) -> None:
    async with running_service(tmp_path, Scene(frame_ancestors=(HELPDESK,))) as service:
        assert (await service.client.get("/panel")).status_code == 404
        assert (await service.client.get("/config.json")).json()["hosts"] == []


@pytest.mark.parametrize("origin", [TOP, "https://evil.example", "null", f"{HELPDESK}/", f"{HELPDESK}:8443"])
async def test_a_page_that_may_not_talk_gets_no_code(panel: RunningService, origin: str) -> None:
    assert (await ask_code(panel)).status_code == 200
    assert (await ask_code(panel, origin=origin)).status_code == 403
