"""Eleven stories over HTTP against one service of the run: what agents, owners and reviewers do in a day.

Each story has a document and agents of its own, so that it reads alone and runs in any order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.stage.running_service import RunningService, Scene, events_of, running_service

pytestmark = pytest.mark.asyncio(loop_scope="session")
STREAM = "text/event-stream"
OWNER = {"agent": "olga", "roles": ["knowledge_owner"]}


SOURCES = """
[[sources]]
name = "handbook"
access = "everyone"
namespace = ""
writers = { agents = ["olga"] }
[[sources]]
name = "wiki"
access = "everyone"
writers = { agents = ["wim"] }
"""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningService]:
    """One service of two tenants for all stories."""
    async with running_service(tmp_path_factory.mktemp("stories"), Scene(more_of_tenants=SOURCES)) as service:
        yield service


@pytest.fixture
def service(shared: RunningService) -> RunningService:
    shared.sagemaker.texts = ("Wait ", "two ", "days [1.1].")
    return shared


async def read(service: RunningService, path: str, **who: Any) -> httpx.Response:
    return await service.client.get(path, headers=service.headers(**who))


def shown(answer: dict[str, Any]) -> list[str]:
    return [source["document_id"] for source in answer["sources"]]


async def test_a_question_is_answered_with_its_source_and_recorded(service: RunningService) -> None:
    await service.know("plaster", "A plaster stays on for two days.")
    response = await service.ask("How long does a plaster stay on?", agent="una", accept=STREAM)
    assert response.headers["content-type"] == STREAM
    assert response.headers["cache-control"] == "no-store, no-transform"
    events = events_of(response.text)
    names = [name for name, _ in events]
    assert (names[:2], names[-1]) == (["started", "sources"], "done")
    assert set(names[2:-1]) == {"token", "sentence"}
    assert "".join(data["text"] for name, data in events if name == "token") == "Wait two days."
    assert events[-1][1]["finish_reason"] == "stop"
    stored = await read(service, f"/v1/answers/{events[0][1]['answer_id']}", agent="una")
    assert stored.json()["record"]["text"] == "Wait two days."
    (source, *_) = [one for one in stored.json()["sources"] if one["document_id"] == "plaster"]
    token = source["document_url"].partition("#")[2]
    opened = await service.client.post("/v1/documents/linked", json={"token": token})
    assert (opened.status_code, opened.json()["span"]) == (200, source["span"])
    assert opened.json()["is_cited_version"] is True


async def test_a_follow_up_is_asked_with_the_question_before(service: RunningService) -> None:
    await service.know("parking", "Parking is free for two hours.")
    first = await service.answered(question="How long is parking free?", agent="flo")
    body = {"conversation_id": first["conversation_id"]}
    second = await service.answered(question="And on Sundays?", agent="flo", body=body)
    assert "How long is parking free?" in str(service.sagemaker.generations[-1].body)
    listed = await read(service, f"/v1/answers?conversation_id={first['conversation_id']}", agent="flo")
    assert [each["record"]["answer_id"] for each in listed.json()["answers"]] == [
        first["answer_id"],
        second["answer_id"],
    ]


async def test_a_document_that_an_owner_brings_is_received_and_waits_for_the_worker(
    service: RunningService,
) -> None:
    new = {"document_id": "visits", "title": "Visits", "content": "# Visits\n\nTwo.", "source": "handbook"}
    body = new | {"media_type": "text/markdown"}
    taken = await service.client.post("/v1/documents", json=body, headers=service.headers(**OWNER))
    assert (taken.status_code, taken.json()["state"]) == (202, "received")
    status = await read(service, "/v1/documents/visits/status", **OWNER)
    assert status.json() == taken.json()
    assert "visits" not in shown(await service.answered(question="How many visits?"))


async def test_a_withdrawn_document_is_gone_from_pages_answers_and_replays(service: RunningService) -> None:
    await service.know("lenses", "Lenses are returned within nine days.")
    question = {"question": "Within how many days are lenses returned?", "resume_window_s": 15}
    headers = service.headers("wes", accept=STREAM) | {"idempotency-key": "lenses"}
    first = await service.client.post("/v1/answers", json=question, headers=headers)
    [(_, sources)] = [event for event in events_of(first.text) if event[0] == "sources"]
    (url,) = [one["document_url"] for one in sources["sources"] if one["document_id"] == "lenses"]
    link = {"token": url.partition("#")[2]}
    assert (await service.client.post("/v1/documents/linked", json=link)).status_code == 200
    await service.withdraw("lenses")
    assert (await read(service, "/v1/documents/lenses", agent="wes")).status_code == 404
    assert (await service.client.post("/v1/documents/linked", json=link)).status_code == 404
    status = await read(service, "/v1/documents/lenses/status", **OWNER)
    assert status.json()["state"] == "withdrawn"
    again = await service.client.post("/v1/answers", json=question, headers=headers)
    assert (again.status_code, again.json()["code"]) == (410, "withdrawn")
    assert "lenses" not in shown(await service.answered(question=str(question["question"]), agent="wes"))


async def test_an_answer_and_its_document_are_not_there_for_another_tenant(service: RunningService) -> None:
    await service.know("waiver", "The waiver is signed twice.")
    answer = await service.answered(question="How often is the waiver signed?", agent="tess")
    for path in ("/v1/documents/waiver", f"/v1/answers/{answer['answer_id']}"):
        assert (await read(service, path, agent="tess", tenant="pharmacy")).status_code == 404
        assert (await read(service, path, agent="tess")).status_code == 200


async def test_an_answer_is_not_there_for_another_agent_and_an_auditor_s_read_is_kept(
    service: RunningService,
) -> None:
    answer = await service.answered(agent="ida")
    path = f"/v1/answers/{answer['answer_id']}"
    assert (await read(service, path, agent="max")).status_code == 404
    assert (await read(service, path, agent="ada", roles=["auditor"])).status_code == 200
    audit = await read(service, "/v1/audit?agent=ada", agent="eve", roles=["auditor"])
    assert answer["answer_id"] in [entry["subject_id"] for entry in audit.json()["entries"]]


async def test_a_labelled_document_is_seen_with_its_label_alone(service: RunningService) -> None:
    await service.know("bonus", "The bonus is paid in March.", labels=("hr",))
    question = "When is the bonus paid?"
    assert "bonus" in shown(await service.answered(question=question, labels=["hr"]))
    assert "bonus" not in shown(await service.answered(question=question, labels=["desk"]))
    assert (await read(service, "/v1/documents/bonus", labels=["hr"])).status_code == 200
    assert (await read(service, "/v1/documents/bonus", labels=["desk"])).status_code == 404


async def test_a_reader_whose_stream_was_cut_gets_the_rest(service: RunningService) -> None:
    go_on = service.sagemaker.hold_after(2)
    service.sagemaker.texts = ("Wait two days. ", "The wait ", "is two days.")
    await service.know("wait", "The wait is two days.")
    body = {"question": "How long is the wait?", "resume_window_s": 15}
    headers, text = service.headers("cut", accept=STREAM), ""
    async with service.client.stream("POST", "/v1/answers", json=body, headers=headers) as response:
        async for part in response.aiter_text():
            text += part
            if "event: token" in text and text.endswith("\n\n"):
                break
    seen = events_of(text)
    answer_id = seen[0][1]["answer_id"]
    back = service.headers("cut") | {"last-event-id": f"{answer_id}:{len(seen)}"}
    coming = asyncio.create_task(service.client.get(f"/v1/answers/{answer_id}/events", headers=back))
    go_on.set()
    came = (await coming).text
    rest = events_of(came)
    service.sagemaker.hold = None
    assert f"id: {answer_id}:{len(seen) + 1}\n" in came
    assert f"id: {answer_id}:{len(seen)}\n" not in came
    assert rest[-1][0] == "done", rest[-1]
    written = "".join(data["text"] for name, data in seen + rest if name == "token")
    assert written.strip() == "Wait two days. The wait is two days."


async def test_a_repeat_under_its_key_is_the_same_answer(service: RunningService) -> None:
    headers = service.headers("rae") | {"idempotency-key": "once"}
    body = {"question": "How long is the wait?", "resume_window_s": 15}
    asked = [await service.client.post("/v1/answers", json=body, headers=headers) for _ in range(2)]
    assert [each.status_code for each in asked] == [200, 200], asked[1].text
    assert asked[0].json()["answer_id"] == asked[1].json()["answer_id"]
    other = await service.client.post("/v1/answers", json=body | {"question": "Where?"}, headers=headers)
    assert other.status_code == 409


async def test_without_the_model_the_documents_are_quoted(service: RunningService) -> None:
    await service.know("refund", "A refund takes five days.")
    service.sagemaker.generation_fault = "error"
    answer = await service.answered(question="How long does a refund take?", agent="quin")
    service.sagemaker.generation_fault = "none"
    assert (answer["mode"], "A refund takes five days." in answer["text"]) == ("quoted", True)


async def test_a_paused_tenant_answers_503_and_another_goes_on(service: RunningService) -> None:
    await service.know("refill", "A refill is due after 25 days.", tenant="pharmacy")
    power = service.state_dir / "tenants" / "pharmacy" / "power"
    power.write_text("paused")
    refused = await service.ask("When is a refill due?", tenant="pharmacy")
    assert (refused.status_code, refused.json()["code"]) == (503, "endpoint_paused")
    assert (await service.ask("How long is the wait?")).status_code == 200
    power.write_text("on")
