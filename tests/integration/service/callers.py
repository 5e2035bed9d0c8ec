"""Who calls the service: the typed client, and owners of a tenant with two sources."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from assistant.client import AssistantClient, Patience
from tests.fakes.running_service import RunningService

SOURCES = """
[[sources]]
name = "handbook"
access = "everyone"
namespace = ""
[[sources]]
name = "wiki"
access = "folder"
folders = { "" = ["hr"] }
writers = { agents = ["wim"], labels = ["desk"] }
labels = ["desk", "hr"]
"""


@asynccontextmanager
async def calling(
    service: RunningService, url: str | None = None, **who: Any
) -> AsyncIterator[AssistantClient]:
    token = service.headers(**who)["authorization"].removeprefix("Bearer ")
    patience = Patience(first_wait_s=0.01)
    async with AssistantClient(url or service.url, token=token, patience=patience) as client:
        yield client


def owner(service: RunningService, agent: str = "olga", *labels: str) -> dict[str, str]:
    return service.headers(agent, roles=["knowledge_owner"], labels=labels)
