"""Attempts to cross from one tenant or agent to another. Each call succeeds as the owner, and is 404 to the
other before and after, with the same body as for an id that never was."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from assistant.domain.documents import Span
from assistant.domain.identity import Identity, Role
from tests.stage.running_service import RunningService

Who = dict[str, Any]
ANN: Who = {"agent": "ann"}
OTHERS: list[Who] = [{"agent": "bob"}, {"agent": "ann", "tenant": "pharmacy"}]
READERS: list[Who] = [*OTHERS, {"agent": "ada", "tenant": "pharmacy", "roles": ["auditor"]}]
CALLS: list[tuple[str, str, dict[str, str] | None, list[Who]]] = [
    ("GET", "/v1/answers/{answer_id}", None, READERS),
    ("GET", "/v1/answers?conversation_id={conversation_id}", None, READERS),
    ("POST", "/v1/answers/{answer_id}/verdict", {"verdict_id": "v1", "label": "good"}, OTHERS),
    ("POST", "/v1/answers/{answer_id}/sent", {"send_id": "s1", "text": "Two days."}, OTHERS),
    ("POST", "/v1/answers/{answer_id}/acts", {"act_id": "o1", "kind": "possibly_taken"}, OTHERS),
    ("DELETE", "/v1/answers/{answer_id}", None, OTHERS),
    ("POST", "/v1/answers", {"question": "How long?", "conversation_id": "{conversation_id}"}, OTHERS),
]


@pytest.mark.parametrize(("method", "path", "body", "others"), CALLS)
async def test_an_answer_and_all_about_it_belongs_to_its_agent(
    service: RunningService, method: str, path: str, body: dict[str, str] | None, others: list[Who]
) -> None:
    answer = await service.answered(**ANN)
    nobody_s = {name: "0" * len(answer[name]) for name in ("answer_id", "conversation_id")}

    async def call(ids: Any, who: Who) -> httpx.Response:
        given = None if body is None else {name: text.format(**ids) for name, text in body.items()}
        return await service.call(method, path.format(**ids), json=given, **who)

    async def refused() -> None:
        for other in others:
            crossed, never = await call(answer, other), await call(nobody_s, other)
            assert (crossed.status_code, crossed.content) == (404, never.content)
            assert answer["answer_id"] not in crossed.text
            assert set(crossed.headers) == set(never.headers)

    await refused()
    stored = (await service.call("GET", f"/v1/answers/{answer['answer_id']}", **ANN)).json()
    assert (stored["verdicts"], stored["sent"]) == ([], []), "what another one says leaves no trace"
    owned = await call(answer, ANN)
    assert owned.is_success, owned.text
    await refused()


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
    crossed = await service.call(method, path.format("wait"), **other)
    never = await service.call(method, path.format("none"), **other)
    assert (crossed.status_code, crossed.content) == (404, never.content)
    owner: Who = {"agent": "ann", "roles": [role]}
    owned = await service.call(method, path.format("wait"), **owner)
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
    listed = await service.call("GET", "/v1/documents", roles=["knowledge_owner"])
    assert [document["document_id"] for document in listed.json()["documents"]] == ["wait"]
