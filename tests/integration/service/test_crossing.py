"""Attempts to cross from one tenant or agent to another. Each call first succeeds as the owner, then is 404
to the other, with the same body as for an id that never was."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from assistant.domain.documents import Span
from assistant.domain.identity import Identity, Role
from tests.fakes.running_service import RunningService
from tests.fakes.stored_items import stored_bodies

VERDICT = {"verdict_id": "v1", "label": "good"}
ACT = {"act_id": "o1", "kind": "possibly_taken"}
SENT = {"send_id": "s1", "text": "Two days."}
Who = dict[str, Any]
ANN: Who = {"agent": "ann"}
BOB: Who = {"agent": "bob"}
ANN_OF_PHARMACY: Who = {"agent": "ann", "tenant": "pharmacy"}
AUDITOR_OF_PHARMACY: Who = {"agent": "ada", "tenant": "pharmacy", "roles": ["auditor"]}
Call = Callable[[RunningService, Who, str], Awaitable[httpx.Response]]


async def read_answer(service: RunningService, who: Who, answer_id: str) -> httpx.Response:
    return await service.client.get(f"/v1/answers/{answer_id}", headers=service.headers(**who))


async def read_conversation(service: RunningService, who: Who, conversation_id: str) -> httpx.Response:
    query = {"conversation_id": conversation_id}
    return await service.client.get("/v1/answers", params=query, headers=service.headers(**who))


async def give_verdict(service: RunningService, who: Who, answer_id: str) -> httpx.Response:
    path = f"/v1/answers/{answer_id}/verdict"
    return await service.client.post(path, json=VERDICT, headers=service.headers(**who))


async def keep_sent(service: RunningService, who: Who, answer_id: str) -> httpx.Response:
    path = f"/v1/answers/{answer_id}/sent"
    return await service.client.post(path, json=SENT, headers=service.headers(**who))


async def keep_act(service: RunningService, who: Who, answer_id: str) -> httpx.Response:
    path = f"/v1/answers/{answer_id}/acts"
    return await service.client.post(path, json=ACT, headers=service.headers(**who))


async def cancel(service: RunningService, who: Who, answer_id: str) -> httpx.Response:
    return await service.client.delete(f"/v1/answers/{answer_id}", headers=service.headers(**who))


async def follow_up(service: RunningService, who: Who, conversation_id: str) -> httpx.Response:
    return await service.ask(body={"conversation_id": conversation_id}, **who)


CALLS: list[tuple[Call, str, list[Who]]] = [
    (read_answer, "answer_id", [BOB, ANN_OF_PHARMACY, AUDITOR_OF_PHARMACY]),
    (read_conversation, "conversation_id", [BOB, ANN_OF_PHARMACY, AUDITOR_OF_PHARMACY]),
    (give_verdict, "answer_id", [BOB, ANN_OF_PHARMACY]),
    (keep_sent, "answer_id", [BOB, ANN_OF_PHARMACY]),
    (keep_act, "answer_id", [BOB, ANN_OF_PHARMACY]),
    (cancel, "answer_id", [BOB, ANN_OF_PHARMACY]),
    (follow_up, "conversation_id", [BOB, ANN_OF_PHARMACY]),
]


@pytest.mark.parametrize(("call", "key", "others"), CALLS, ids=[call.__name__ for call, _, _ in CALLS])
async def test_an_answer_and_all_about_it_belongs_to_its_agent(
    service: RunningService, call: Call, key: str, others: list[Who]
) -> None:
    answer = await service.answered(**ANN)
    owned = await call(service, ANN, answer[key])
    assert owned.is_success, owned.text
    for other in others:
        crossed = await call(service, other, answer[key])
        never = await call(service, other, "0" * len(answer[key]))
        assert (crossed.status_code, crossed.content) == (404, never.content)
        assert answer[key] not in crossed.text
        assert set(crossed.headers) == set(never.headers)


async def test_another_agent_leaves_no_trace_on_an_answer(service: RunningService) -> None:
    answer = await service.answered(**ANN)
    for who in (BOB, ANN_OF_PHARMACY):
        await give_verdict(service, who, answer["answer_id"])
        await keep_sent(service, who, answer["answer_id"])
    stored = (await read_answer(service, ANN, answer["answer_id"])).json()
    assert (stored["verdicts"], stored["sent"]) == ([], [])


DOCUMENT_CALLS = [
    ("GET", "/v1/documents/{}", "agent"),
    ("GET", "/v1/documents/{}?format=original", "agent"),
    ("GET", "/v1/documents/{}/status", "knowledge_owner"),
    ("DELETE", "/v1/documents/{}", "knowledge_owner"),
]


@pytest.mark.parametrize(("method", "path", "role"), DOCUMENT_CALLS)
async def test_a_document_belongs_to_its_tenant(
    service: RunningService, method: str, path: str, role: str
) -> None:
    other: Who = {"agent": "ann", "tenant": "pharmacy", "roles": [role]}
    crossed = await service.client.request(method, path.format("wait"), headers=service.headers(**other))
    never = await service.client.request(method, path.format("none"), headers=service.headers(**other))
    assert (crossed.status_code, crossed.content) == (404, never.content)
    owner: Who = {"agent": "ann", "roles": [role]}
    owned = await service.client.request(method, path.format("wait"), headers=service.headers(**owner))
    assert owned.is_success


async def test_a_link_of_one_tenant_opens_nothing_of_another(service: RunningService) -> None:
    await service.know("shared-id", "The clinic's text.")
    await service.know("shared-id", "The pharmacy's text.", tenant="pharmacy")
    identity = Identity("clinic", "ann", frozenset({Role.AGENT}), frozenset())
    link = service.tenants["clinic"].links.link("shared-id", span=Span(0, 3), identity=identity)
    token = link.partition("#")[2]
    opened = await service.client.post("/v1/documents/linked", json={"token": token})
    assert opened.json()["text"] == "The clinic's text."
    renamed = {"token": token.replace("clinic.", "pharmacy.", 1)}
    assert (await service.client.post("/v1/documents/linked", json=renamed)).status_code == 401


@pytest.mark.parametrize(
    "filters",
    [{}, {"document_id": ["refill"]}, {"source": ["handbook"]}, {"document_id": ["wait", "refill"]}],
    ids=str,
)
async def test_no_filter_reaches_another_tenant_s_documents(
    service: RunningService, filters: dict[str, list[str]]
) -> None:
    question = "When is a refill due after days?"
    owned = await service.answered(
        question=question, tenant="pharmacy", body={"filters": {"document_id": ["refill"]}}
    )
    assert [source["document_id"] for source in owned["sources"]] == ["refill"]
    crossed = await service.answered(question=question, body={"filters": filters})
    assert "refill" not in [source["document_id"] for source in crossed["sources"]]
    assert "25 days" not in str(crossed["sources"])


@pytest.mark.parametrize("where", ["body", "header", "query"])
async def test_a_tenant_s_name_outside_the_token_changes_nothing(service: RunningService, where: str) -> None:
    body: dict[str, Any] = {"question": "When is a refill due?"}
    headers = service.headers()
    if where == "body":
        response = await service.client.post(
            "/v1/answers", json=body | {"tenant": "pharmacy"}, headers=headers
        )
        assert response.status_code == 422
        return
    if where == "header":
        headers |= {"x-tenant": "pharmacy", "tenant": "pharmacy"}
    query = {"tenant": "pharmacy"} if where == "query" else {}
    response = await service.client.post("/v1/answers", json=body, params=query, headers=headers)
    assert "refill" not in [source["document_id"] for source in response.json()["sources"]]


async def test_the_list_of_documents_ends_at_the_tenant(service: RunningService) -> None:
    listed = await service.client.get("/v1/documents", headers=service.headers(roles=["knowledge_owner"]))
    assert [document["document_id"] for document in listed.json()["documents"]] == ["wait"]


async def test_an_auditor_reads_any_answer_of_the_tenant_and_the_read_is_kept(
    service: RunningService,
) -> None:
    answer = await service.answered(**ANN)
    auditor: Who = {"agent": "ada", "roles": ["auditor"]}
    assert (await read_answer(service, auditor, answer["answer_id"])).status_code == 200
    assert (await read_conversation(service, auditor, answer["conversation_id"])).status_code == 200
    file = service.state_dir / "tenants" / "clinic" / "records.sqlite"
    bodies = stored_bodies(file, partition="access#????-??-??")
    reads = [body for body in bodies if body["kind"] != "asked"]
    assert [(body["agent"], body["kind"], body["subject_id"]) for body in reads] == [
        ("ada", "answer", answer["answer_id"]),
        ("ada", "conversation", answer["conversation_id"]),
    ]


async def test_what_an_agent_says_of_an_answer_is_kept_once_and_never_changed(
    service: RunningService,
) -> None:
    answer_id = (await service.answered(**ANN))["answer_id"]
    for call, changed in (("verdict", VERDICT | {"label": "bad"}), ("sent", SENT | {"text": "Other."})):
        path, body = f"/v1/answers/{answer_id}/{call}", VERDICT if call == "verdict" else SENT
        first = await service.client.post(path, json=body, headers=service.headers())
        again = await service.client.post(path, json=body, headers=service.headers())
        assert first.status_code == again.status_code == 200
        assert first.json() == again.json()
        other = await service.client.post(path, json=changed, headers=service.headers())
        assert (other.status_code, other.json()["code"]) == (409, "conflict")
    stored = (await read_answer(service, ANN, answer_id)).json()
    assert [entry["verdict"]["label"] for entry in stored["verdicts"]] == ["good"]
    assert [entry["sent"]["text"] for entry in stored["sent"]] == ["Two days."]
