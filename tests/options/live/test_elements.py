"""Live elements over real HTTP streams: each customer's own, in order, whole, resumed, and ended in time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from assistant.documents.withdraw import WithdrawDocuments
from assistant.domain.live import ElementProblem, LiveReadError
from assistant.service.stored import MOST
from tests.stage.answering import FakeLive, Gate
from tests.stage.running_service import RunningService, Scene, events_of, running_service

STEP = "The wait is two days once {{orders.status}} is delivered."
SOURCES = """
[[sources]]
name = "knowledge"
access = "everyone"
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


async def test_a_reader_who_comes_back_gets_the_elements_in_their_order(
    service: RunningService, live: FakeLive
) -> None:
    gate = live.gates["orders.status"] = Gate()
    body = {"question": "How long is the wait?", "context": of("bo"), "resume_window_s": 15}
    headers = service.headers(accept="text/event-stream")
    seen = ""
    async with service.client.stream("POST", "/v1/answers", json=body, headers=headers) as response:
        async for part in response.aiter_text():
            seen += part
            if "pending" in seen:
                break
    answer_id = events_of(seen)[0][1]["answer_id"]
    gate.opened.set()
    path = f"/v1/answers/{answer_id}/events"
    rest = await service.client.get(path, headers=headers | {"last-event-id": f"{answer_id}:2"})
    names = [name for name, _ in events_of(rest.text)]
    assert names == ["token", "sentence", "element", "element", "done"]
    assert [one["state"] for one in elements_of(events_of(rest.text))] == ["pending", "ready"]
    await service.idle()
    again = await service.client.get(path, headers=headers | {"last-event-id": f"{answer_id}:5"})
    assert [one["state"] for one in elements_of(events_of(again.text))] == ["ready"]


async def test_an_element_is_read_again_with_a_context_of_its_own(
    service: RunningService, live: FakeLive
) -> None:
    live.errors["orders.status"] = LiveReadError(ElementProblem.SYSTEM_UNAVAILABLE, "Down.")
    answer = await service.answered(body={"context": of("bo")})
    [failed] = answer["elements"]
    assert (failed["state"], failed["retryable"]) == ("failed", True)
    del live.errors["orders.status"]
    await service.idle()
    path = f"/v1/answers/{answer['answer_id']}/elements/e1"
    again = await service.client.post(path, json={"context": of("bo")}, headers=service.headers())
    assert again.status_code == 200
    assert again.json()["data"]["values"][0]["text"] == "shipped order-bo"
    assert again.json()["display"] == failed["display"]
    calls = len(live.calls)
    for body in ({}, {"context": of("eve")}):
        other = await service.client.post(path, json=body, headers=service.headers())
        assert (other.json()["state"], other.json()["data"]) == ("not_allowed", None)
    assert len(live.calls) == calls
    stored = (await service.client.get(path.rpartition("/elements")[0], headers=service.headers())).json()
    assert stored["record"]["elements"][0]["state"] == "failed"


async def test_elements_of_one_answer_are_read_again_a_bounded_number_of_times(
    service: RunningService, live: FakeLive
) -> None:
    answer = await service.answered(body={"context": of("bo")})
    await service.idle()
    path = f"/v1/answers/{answer['answer_id']}/elements/e1"

    async def again() -> httpx.Response:
        return await service.client.post(path, json={"context": of("bo")}, headers=service.headers())

    assert {(await again()).status_code for _ in range(MOST["rereads"])} == {200}
    calls = len(live.calls)
    refused = await again()
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert str(MOST["rereads"]) in refused.json()["detail"]
    assert len(live.calls) == calls


async def test_a_read_again_that_is_refused_is_recorded(service: RunningService) -> None:
    answer = await service.answered(body={"context": of("bo")})
    await service.idle()
    path = f"/v1/answers/{answer['answer_id']}/elements/e1"
    auditor = service.headers("ada", roles=["auditor"])
    before = (await service.client.get("/v1/live-reads", headers=auditor)).json()["reads"]
    await service.client.post(path, json={"context": of("eve")}, headers=service.headers())
    reads = (await service.client.get("/v1/live-reads", headers=auditor)).json()["reads"]
    [refused] = reads[len(before) :]
    assert (refused["outcome"], refused["agent"]) == ("not_allowed", "ann")
    assert (refused["answer_id"], refused["operation"]) == (answer["answer_id"], "orders.get_order")
    of_bo = await service.client.get("/v1/live-reads", params={"customer": "bo"}, headers=auditor)
    assert refused in of_bo.json()["reads"]


async def test_an_element_belongs_to_the_agent_who_asked(service: RunningService, live: FakeLive) -> None:
    answer = await service.answered(body={"context": of("bo")})
    await service.idle()
    path = f"/v1/answers/{answer['answer_id']}/elements/e1"
    own = await service.client.post(path, json={"context": of("bo")}, headers=service.headers())
    assert own.status_code == 200
    calls = len(live.calls)
    never = await service.client.post(
        path.replace(answer["answer_id"], "0" * 32), json={}, headers=service.headers()
    )
    for who in ({"agent": "bob"}, {"agent": "ada", "roles": ["agent", "auditor"]}):
        crossed = await service.client.post(path, json={"context": of("bo")}, headers=service.headers(**who))
        assert (crossed.status_code, crossed.content) == (404, never.content)
    forged = await service.client.post(
        path.replace("e1", "orders.summary"), json={"context": of("bo")}, headers=service.headers()
    )
    assert forged.status_code == 404
    assert len(live.calls) == calls


async def test_a_withdrawn_document_takes_its_labels_with_it(service: RunningService) -> None:
    answer = await service.answered(body={"context": of("bo")})
    await service.idle()
    clinic = service.tenants["clinic"]
    await WithdrawDocuments(clinic.knowledge, clock=clinic.answering.clock)(["wait"])
    stored = await service.client.get(f"/v1/answers/{answer['answer_id']}", headers=service.headers())
    record = stored.json()["record"]
    assert record["text"].startswith("[withdrawn] ")
    assert len(record["text"]) == len(answer["text"])
    assert "order" not in record["text"]


async def test_a_model_writes_a_tag_and_never_sees_a_value(tmp_path: Path, live: FakeLive) -> None:
    """A scripted model: the packaged one cannot write tags."""
    scene = Scene(tenants=("clinic",), live=live, more_of_tenants=SOURCES)
    async with running_service(tmp_path, scene) as service:
        await service.know("wait", STEP)
        service.sagemaker.texts = ("The wait is two days once {{ord", "ers.status}} is deliv", "ered.")
        first = await service.answered(body={"context": of("bo")})
        assert (first["mode"], first["text"]) == (
            "written",
            "The wait is two days once [order status] is delivered.",
        )
        assert first["elements"][0]["data"]["values"][0]["text"] == "shipped order-bo"
        body = {"context": of("bo"), "conversation_id": first["conversation_id"]}
        await service.answered(question="And how long is the wait then?", body=body)
        sent = str([call.body for call in service.sagemaker.generations])
        assert "{{orders.status}}" in sent
        assert "order-bo" not in sent
