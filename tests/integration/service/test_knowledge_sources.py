"""Documents of several sources over HTTP: to who may not write a source, its documents do not exist."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.service.callers import SOURCES, owner
from tests.stage.running_service import RunningService, Scene, running_service
from tests.stage.tenant_stores import stored_bodies

NEW = {"document_id": "new", "title": "New", "content": "# New\n\nText.", "media_type": "text/markdown"}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path, Scene(more_of_tenants=SOURCES)) as running:
        await running.know("wait", "The wait is two days.")
        yield running


LABELS = {"wim": ("hr",), "olga": (), "hanna": ("hr",)}
"""Wim is named as a writer of the wiki; the label makes nobody one."""


async def bring(
    service: RunningService, source: str | None, agent: str = "wim", **change: Any
) -> tuple[int, Any]:
    params = {} if source is None else {"knowledge_source": source}
    response = await service.client.post(
        "/v1/documents", params=params, json=NEW | change, headers=owner(service, agent, *LABELS[agent])
    )
    return response.status_code, response.json()


async def test_each_source_has_its_own_document_of_the_same_name(service: RunningService) -> None:
    status, of_wiki = await bring(service, "wiki")
    assert (status, of_wiki["document_id"], of_wiki["knowledge_source"]) == (202, "wiki:new", "wiki")
    status, of_handbook = await bring(service, None)
    assert (status, of_handbook["document_id"], of_handbook["knowledge_source"]) == (202, "new", "handbook")
    stored = [await service.tenants["clinic"].knowledge.documents.get(one) for one in ("wiki:new", "new")]
    assert [one.labels for one in stored if one] == [("hr",), ()]


async def test_no_id_names_a_document_of_another_source(service: RunningService) -> None:
    status, problem = await bring(service, "handbook", document_id="wiki:new")
    assert (status, problem["code"]) == (422, "document_invalid")
    assert await service.tenants["clinic"].knowledge.states.get("wiki:new") is None


async def test_to_who_may_not_write_a_source_its_documents_are_unknown(service: RunningService) -> None:
    await bring(service, "wiki")
    never = await service.client.get("/v1/documents/never/status", headers=owner(service))
    for method, path in (("GET", "/v1/documents/wiki:new/status"), ("DELETE", "/v1/documents/wiki:new")):
        refused = await service.client.request(method, path, headers=owner(service))
        assert (refused.status_code, refused.content) == (404, never.content), path
    (of_wiki, said), (of_none, said_of_none) = [
        await bring(service, name, "olga", content="Other.") for name in ("wiki", "none")
    ]
    assert (of_wiki, of_none) == (404, 404)
    assert said["detail"].replace("wiki", "none") == said_of_none["detail"]
    status = await service.tenants["clinic"].knowledge.states.get("wiki:new")
    assert status is not None
    assert status.state == "received"


@pytest.mark.parametrize("who", [("wim", "hr"), ("otto", "desk", "hr")])
async def test_a_named_agent_and_a_holder_of_the_label_may_write(
    service: RunningService, who: tuple[str, ...]
) -> None:
    await bring(service, "wiki")
    headers = owner(service, *who)
    assert (await service.client.get("/v1/documents/wiki:new/status", headers=headers)).status_code == 200
    assert (await service.client.delete("/v1/documents/wiki:new", headers=headers)).status_code == 202


async def test_a_list_shows_the_caller_s_sources_only(service: RunningService) -> None:
    await bring(service, "wiki")
    await bring(service, "wiki", document_id="zz")
    await bring(service, "handbook", document_id="zebra")

    async def seen(*who: str) -> tuple[list[tuple[str, str]], dict[str, int]]:
        found: list[tuple[str, str]] = []
        after: str | None = None
        while True:
            params: dict[str, str] = {"limit": "1"} | ({"after": after} if after else {})
            response = await service.client.get("/v1/documents", params=params, headers=owner(service, *who))
            page = response.json()
            found += [(one["document_id"], one["knowledge_source"]) for one in page["documents"]]
            after = page["next_after"]
            if after is None:
                return found, page["counts"]

    own, of_wiki = ("wait", "handbook"), [("wiki:new", "wiki"), ("wiki:zz", "wiki")]
    assert await seen("olga") == ([own, ("zebra", "handbook")], {"live": 1, "received": 1})
    assert await seen("wim", "hr") == ([own, *of_wiki, ("zebra", "handbook")], {"live": 1, "received": 3})


async def reads(service: RunningService, document_id: str, *labels: str) -> int:
    path = f"/v1/documents/{document_id}"
    return (await service.call("GET", path, labels=labels)).status_code


async def test_who_does_not_hold_a_document_s_labels_makes_it_readable_to_nobody_else(
    service: RunningService,
) -> None:
    await service.know("salaries", "Secret.", labels=("hr", "board"))
    public = {"document_id": "salaries", "title": "Open", "content": "Secret.", "labels": []}
    status, problem = await bring(service, "handbook", "hanna", **public)
    assert (status, problem["code"]) == (403, "labels_widened")
    assert (await reads(service, "salaries"), await reads(service, "salaries", "hr")) == (404, 200)
    entries = await _recorded(service)
    assert ("hanna", "widening", "salaries") in entries
    taken = await service.client.post(
        "/v1/documents",
        params={"knowledge_source": "handbook"},
        json=NEW | public,
        headers=owner(service, "hanna", "hr", "board"),
    )
    assert taken.status_code == 202


async def test_for_an_owner_without_a_document_s_labels_it_does_not_exist(service: RunningService) -> None:
    """They neither see its state, nor replace, withhold or withdraw it; who has one of its labels does."""
    await service.know("salaries", "Secret.", labels=("hr", "board"))
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("GET", "/v1/documents/salaries/status", {}),
        ("POST", "/v1/documents/salaries/withhold", {"json": {"reason": "doubt"}}),
        ("POST", "/v1/documents", {"json": NEW | {"document_id": "salaries", "labels": ["hr"]}}),
        ("POST", "/v1/documents", {"content": b'{"document_id": "salaries", "labels": [}'}),
        ("DELETE", "/v1/documents/salaries", {}),
    ]
    json = {"content-type": "application/json"}
    for method, path, sent in calls:
        sent |= {"params": {"knowledge_source": "handbook"}} if path == "/v1/documents" else {}
        refused = await service.client.request(method, path, **sent, headers=owner(service) | json)
        assert (refused.status_code, refused.json()["code"]) == (404, "not_found"), path
        assert await reads(service, "salaries", "hr") == 200
    listed = await service.client.get("/v1/documents", headers=owner(service))
    assert "salaries" not in [document["document_id"] for document in listed.json()["documents"]]
    statuses = [
        (await service.client.request(method, path, **sent, headers=owner(service, "hanna", "hr") | json))
        for method, path, sent in calls
    ]
    assert [answer.status_code for answer in statuses] == [200, 202, 202, 400, 202]


async def test_a_body_that_is_no_json_withholds_the_document_that_it_names(service: RunningService) -> None:
    response = await service.client.post(
        "/v1/documents",
        params={"knowledge_source": "handbook"},
        content=b'{"document_id": "wait", "labels": ["hr"}',
        headers=owner(service) | {"content-type": "application/json"},
    )
    assert response.status_code == 400
    assert await reads(service, "wait") == 404


@pytest.mark.parametrize(
    "labels",
    [
        b'"Labels": ["hr"]',
        b'"labels": "hr"',
        b'"labels": ["HR"]',
        b'"labels": ["hr"], "labels": []',
    ],
)
async def test_a_refused_body_takes_what_answers_out_of_the_answers(
    service: RunningService, labels: bytes
) -> None:
    body = b'{"document_id": "wait", "title": "W", "content": "C", "media_type": "text/plain", %b}' % labels
    assert await reads(service, "wait") == 200
    response = await service.client.post(
        "/v1/documents",
        params={"knowledge_source": "handbook"},
        content=body,
        headers=owner(service) | {"content-type": "application/json"},
    )
    assert response.status_code == 422
    assert await reads(service, "wait") == 404
    status = await service.client.get("/v1/documents/wait/status", headers=owner(service))
    assert (status.json()["state"], status.json()["failure_code"]) == ("withheld", response.json()["code"])
    assert await service.tenants["clinic"].knowledge.withdrawals.depth() == 1


async def test_a_refused_body_withholds_no_document_of_a_source_that_is_not_the_caller_s(
    service: RunningService,
) -> None:
    await bring(service, "wiki")
    status, _ = await bring(service, "wiki", "olga", labels="hr")
    assert status == 404
    kept = await service.tenants["clinic"].knowledge.states.get("wiki:new")
    assert kept is not None
    assert kept.state == "received"


async def test_an_owner_withholds_a_document_and_says_why(service: RunningService) -> None:
    path = "/v1/documents/wait/withhold"
    withheld = await service.client.post(path, json={"reason": "wrong dose"}, headers=owner(service))
    assert (withheld.status_code, withheld.json()["state"]) == (202, "withheld")
    assert withheld.json()["failure_reason"] == "wrong dose"
    assert await reads(service, "wait") == 404
    agents = await service.call("POST", path, json={"reason": "x"})
    assert agents.status_code == 403


async def test_labels_that_are_narrowed_end_reading_at_once(service: RunningService) -> None:
    narrower = {"document_id": "wait", "title": "Wait", "content": "The wait is two days.", "labels": ["hr"]}
    status, _ = await bring(service, "handbook", **narrower)
    assert (status, await reads(service, "wait")) == (202, 404)


async def _recorded(service: RunningService) -> list[tuple[str, str, str]]:
    file = service.state_dir / "tenants" / "clinic" / "records.sqlite"
    bodies = stored_bodies(file, partition="access#????-??-??")
    return [(one["agent"], one["kind"], one["subject_id"]) for one in bodies]


async def _withdraw(
    service: RunningService, agent: str, source: str = "handbook", **params: str
) -> tuple[int, Any]:
    path = f"/v1/knowledge-sources/{source}/documents"
    response = await service.client.delete(path, params=params, headers=owner(service, agent))
    return response.status_code, response.json()


async def test_a_whole_source_is_withdrawn_and_no_other(service: RunningService) -> None:
    await service.know("hall", "The hall is open.", labels=("hr",))
    await service.know("wiki:door", "The door is blue.")
    assert await reads(service, "wait") == 200
    others = [await _withdraw(service, "olga", name) for name in ("wiki", "no")]
    assert [(status, body["code"]) for status, body in others] == [(404, "not_found")] * 2
    assert await _withdraw(service, "olga") == (202, {"name": "handbook", "withdrawn": 1})
    assert [await reads(service, name) for name in ("wait", "wiki:door")] == [404, 200]
    hidden = await service.tenants["clinic"].knowledge.states.get("hall")
    assert hidden is not None
    assert hidden.state == "live", "who has none of its labels leaves it as it is"
    assert await _withdraw(service, "olga") == (202, {"name": "handbook", "withdrawn": 0})


async def test_under_hipaa_two_people_withdraw_a_whole_source(tmp_path: Path) -> None:
    scene = Scene(tenants=("clinic",), more_of_tenants=f"{SOURCES}\n[review]\ntwo_people = true\n")
    async with running_service(tmp_path, scene) as service:
        await service.know("wait", "The wait is two days.")
        told = [await _withdraw(service, "olga") for _ in range(2)]
        assert [(status, body["code"]) for status, body in told] == [
            (409, "second_person_needed"),
            (403, "forbidden"),
        ]
        assert "withdraw_source of handbook is recorded" in told[0][1]["detail"]
        assert await reads(service, "wait") == 200
        shown = await service.client.get(
            "/v1/knowledge-sources/handbook/contents", headers=owner(service, "nora")
        )
        contents = shown.json()["contents"]
        assert (shown.json()["documents"], list(shown.json()["listed"])) == (1, ["wait"])
        assert contents in told[0][1]["detail"]
        status, problem = await _withdraw(service, "nora")
        assert (status, problem["code"]) == (409, "second_person_needed")
        await service.know("late", "It came later.")
        status, problem = await _withdraw(service, "nora", contents=contents)
        assert (status, problem["code"]) == (409, "contents_changed")
        assert [await reads(service, name) for name in ("wait", "late")] == [200, 200]
        await _withdraw(service, "olga")
        contents = re.findall("[0-9a-f]{64}", problem["detail"])[-1]
        for withdrawn in (2, 0):  # the second person may repeat it
            answered = await _withdraw(service, "nora", contents=contents)
            assert answered == (202, {"name": "handbook", "withdrawn": withdrawn})
        assert await reads(service, "wait") == 404
