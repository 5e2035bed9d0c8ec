"""A service that pages may hold in a frame, with a care application; and its codes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from assistant.domain.clock import SystemClock
from tests.fakes.contexts import CARE, claims
from tests.fakes.running_service import (
    RunningService,
    Scene,
    published_keys,
    service_on,
    service_settings,
)
from tests.fakes.sagemaker_socket import sagemaker_socket
from tests.fakes.tokens import EC_KEY, token

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
    return token(claims(SystemClock(), **changes))


async def ask_code(service: RunningService, *, origin: str = HELPDESK, **changes: Any) -> httpx.Response:
    """Ask for a code as ann's helpdesk does; ``who`` and ``context`` change whose."""
    who = changes.pop("who", {})
    body = {"context": signed_context(**changes.pop("context", {})), "origin": origin} | changes
    return await service.client.post("/v1/panel/codes", json=body, headers=service.headers(**who))


async def redeem(service: RunningService, code: str, *, origin: str = HELPDESK) -> httpx.Response:
    return await service.client.post("/v1/panel/sessions", json={"code": code, "origin": origin})
