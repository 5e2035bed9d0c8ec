"""Who calls the service: the typed client, owners of a tenant with two sources, and readers of a document
with a word that nothing else has."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from assistant.client import AssistantClient, Patience
from tests.stage.running_service import RunningService, events_of

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


MARKER = "zylophage"
SENT = "Come on day three, says the sending agent."
LEAFLET = f"""# Leaflet

## When {MARKER} applies

The {MARKER} wait is four days, and it ends at noon.

| Plan | File within |
| --- | --- |
| {MARKER} gold | 65 days |

## What to tell the patient

"Your {MARKER} wait has ended."
"""
QUESTION = f"How long is the {MARKER[:3]} wait for the plan?"
STREAM = "text/event-stream"


async def asked(service: RunningService, *, key: str = "key-1", **who: Any) -> tuple[str, bytes]:
    """Ask with a window, read to the end, and return the answer's id and all bytes."""
    headers = service.headers(accept=STREAM, **who) | {"idempotency-key": key}
    body = {"question": QUESTION, "resume_window_s": 15}
    response = await service.client.post("/v1/answers", json=body, headers=headers)
    assert response.status_code == 200, response.text
    await service.idle()
    return events_of(response.text)[0][1]["answer_id"], response.content


async def come_back(service: RunningService, answer_id: str, *, after: int = 0, **who: Any) -> list[Any]:
    headers = service.headers(**who) | {"last-event-id": f"{answer_id}:{after}"}
    response = await service.client.get(f"/v1/answers/{answer_id}/events", headers=headers)
    assert response.status_code == 200, response.text
    return events_of(response.text)


async def read(service: RunningService, answer_id: str, **who: Any) -> Any:
    response = await service.call("GET", f"/v1/answers/{answer_id}", **who)
    assert response.status_code == 200, response.text
    return response.json()
