"""Live elements over real HTTP streams: each customer's own, in order, whole, resumed, and ended in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.answering import Gate
from tests.fakes.live import FakeLive
from tests.fakes.running_service import RunningService, Scene, events_of, eventually, running_service

STEP = "The wait is two days once {{orders.status}} is delivered."
SOURCES = """
[[sources]]
name = "knowledge"
namespace = ""
elements = true

[care_context]
issuer = "https://care.test"
plain_ids = true
"""


@pytest.fixture
def live() -> FakeLive:
    return FakeLive()


@pytest.fixture
async def service(tmp_path: Path, live: FakeLive) -> AsyncIterator[RunningService]:
    scene = Scene(tenants=("clinic",), writes=False, live=live, more_of_tenants=SOURCES)
    async with running_service(tmp_path, scene) as service:
        await service.know("wait", STEP)
        yield service


def of(customer: str) -> dict[str, Any]:
    return {"customer": customer, "ids": {"order": [f"order-{customer}"]}}


def elements_of(events: list[tuple[str, Any]]) -> list[dict[str, Any]]:
    return [data for name, data in events if name == "element"]


async def test_a_quoted_step_fills_in_while_its_text_is_read(service: RunningService, live: FakeLive) -> None:
    gate = live.gates["orders.status"] = Gate()
    body = {"question": "How long is the wait?", "context": of("bo")}
    headers = service.headers(accept="text/event-stream")
    text = ""
    async with service.client.stream("POST", "/v1/answers", json=body, headers=headers) as response:
        assert response.status_code == 200
        async for part in response.aiter_text():
            text += part
            if "pending" in text:
                gate.opened.set()
    events = events_of(text)
    names = [name for name, _ in events]
    assert names == ["started", "sources", "token", "sentence", "element", "element", "done"]
    pending, ready = elements_of(events)
    assert (pending["state"], ready["state"]) == ("pending", "ready")
    shown = next(data["text"] for name, data in events if name == "token")
    assert shown == "The wait is two days once [order status] is delivered."
    assert shown[ready["display"]["start"] : ready["display"]["end"]] == "[order status]"
    assert ready["data"]["values"][0]["text"] == "shipped order-bo"
    assert (ready["source"], ready["as_of"], ready["about"]) == (
        "orders",
        "2026-03-01T14:02:00Z",
        "order order-bo",
    )


async def test_a_whole_answer_carries_its_elements(service: RunningService) -> None:
    answer = await service.answered(body={"context": of("bo")})
    assert [(one["id"], one["state"]) for one in answer["elements"]] == [("e1", "ready")]


async def test_the_record_keeps_no_value(service: RunningService) -> None:
    answer = await service.answered(body={"context": of("bo")})
    await service.idle()
    stored = await service.client.get(f"/v1/answers/{answer['answer_id']}", headers=service.headers())
    assert stored.json()["record"]["text"] == answer["text"]
    assert stored.json()["record"]["elements"][0]["state"] == "ready"
    files = [path for path in service.state_dir.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if b"order-bo" in path.read_bytes()] == []


async def test_a_reader_who_leaves_ends_the_reads(service: RunningService, live: FakeLive) -> None:
    live.gates["orders.status"] = Gate()
    body = {"question": "How long is the wait?", "context": of("bo")}
    headers = service.headers(accept="text/event-stream")
    async with service.client.stream("POST", "/v1/answers", json=body, headers=headers) as response:
        async for part in response.aiter_text():
            if "pending" in part:
                break
    await eventually(lambda: live.cancelled == ["orders.status"])
    assert live.active == 0
