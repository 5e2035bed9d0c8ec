"""Who saw a document, what an agent saw: asked of the running service, and by ``assistant desk audit``."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from assistant.process.settings import LocalSettings, inherited_environment
from tests.stage.processes import run_forked
from tests.stage.running_service import RunningService

ADA = {"agent": "ada", "roles": ["auditor"]}
PATH = "/v1/audit"


async def audited(service: RunningService, who: dict[str, Any] = ADA, **asked: Any) -> list[dict[str, Any]]:
    response = await service.call("GET", PATH, params=asked, **who)
    assert response.status_code == 200, response.text
    assert response.json()["next_after"] is None
    return response.json()["entries"]


def seen(entries: list[dict[str, Any]]) -> list[tuple[str, str, str]]:
    return [(entry["agent"], entry["kind"], entry["subject_id"]) for entry in entries]


async def read(service: RunningService, document_id: str, **who: Any) -> None:
    response = await service.call("GET", f"/v1/documents/{document_id}", **who)
    assert response.status_code == 200, response.text


async def test_readers_and_those_who_were_answered_from_it_saw_a_document(service: RunningService) -> None:
    answer = await service.answered(agent="ann")
    await read(service, "wait", agent="bob")
    entries = await audited(service, document_id="wait")
    assert seen(entries) == [("ann", "asked", answer["answer_id"]), ("bob", "document", "wait")]
    assert (entries[0]["documents"], entries[0]["quoted"]) == (["wait"], ["wait"])
    assert {datetime.fromisoformat(entry["at"]).utcoffset() for entry in entries} == {timedelta(0)}


async def test_an_auditor_who_reads_an_answer_saw_its_sources_too(service: RunningService) -> None:
    answer = await service.answered(agent="ann")
    for path in (
        f"/v1/answers/{answer['answer_id']}",
        f"/v1/answers?conversation_id={answer['conversation_id']}",
    ):
        assert (await service.call("GET", path, **ADA)).status_code == 200
    entries = await audited(service, document_id="wait")
    assert [(agent, kind) for agent, kind, _ in seen(entries)] == [
        ("ann", "asked"),
        ("ada", "answer"),
        ("ada", "conversation"),
    ]
    assert [entry["documents"] for entry in entries] == [["wait"]] * 3


async def test_an_audit_is_recorded_before_it_answers(service: RunningService) -> None:
    await audited(service, document_id="wait")
    await audited(service, agent="ann", document_id="wait")
    assert seen(await audited(service, agent="ada")) == [
        ("ada", "audit", "document:wait"),
        ("ada", "audit", "document:wait agent:ann"),
    ]
    assert seen(await audited(service, agent="ada"))[2:] == [("ada", "audit", "agent:ada")]


async def test_a_document_that_was_withdrawn_is_still_audited(service: RunningService) -> None:
    await read(service, "wait", agent="bob")
    owner = service.headers("olga", roles=["knowledge_owner"])
    assert (await service.client.delete("/v1/documents/wait", headers=owner)).status_code == 202
    assert seen(await audited(service, document_id="wait")) == [("bob", "document", "wait")]


async def test_another_tenant_s_auditor_learns_nothing(service: RunningService) -> None:
    await read(service, "wait", agent="bob")
    other = ADA | {"tenant": "pharmacy"}
    assert await audited(service, other, agent="bob") == []
    response = await service.call("GET", PATH, params={"document_id": "wait"}, **other)
    assert response.status_code == 404


REFUSED: list[dict[str, Any]] = [
    {},
    {"document_id": ""},
    {"document_id": "wait", "limit": 501},
    {"document_id": "wait", "after": "2026"},
    {"document_id": "wait", "after": "2026-13-01T00:00:00.000000+00:00"},
    {"document_id": "wait", "since": "2026-11-21T00:00:00"},
    {"document_id": "wait", "since": "17"},
    {"document_id": "wait", "since": "-2.3e-237"},
    {"document_id": "wait", "since": "2026-11-21T00:00:00Z", "until": "2026-11-20T00:00:00Z"},
]


async def test_what_cannot_be_meant_is_refused_and_a_document_of_nobody_or_another_tenant_is_unknown(
    service: RunningService,
) -> None:
    unknown = [{"document_id": name} for name in ("never", "refill")]
    for asked, told in [(one, (422, "invalid_request")) for one in REFUSED] + [
        (one, (404, "not_found")) for one in unknown
    ]:
        response = await service.call("GET", PATH, params=asked, **ADA)
        assert (response.status_code, response.json()["code"]) == told, asked


async def test_pages_lead_through_all_of_it(service: RunningService) -> None:
    for number in range(5):
        await read(service, "wait", agent=f"agent-{number}")
    found: list[str] = []
    asked: dict[str, Any] = {"document_id": "wait", "limit": 2}
    while True:
        response = await service.call("GET", PATH, params=asked, **ADA)
        page = response.json()
        found += [entry["agent"] for entry in page["entries"]]
        if page["next_after"] is None:
            break
        asked |= {"after": page["next_after"], "since": page["since"], "until": page["until"]}
    assert found == [f"agent-{number}" for number in range(5)]


# --- the command line ---


async def assistant(
    service: RunningService, *arguments: str, token: str | None = None
) -> tuple[int, str, str]:
    """Run ``assistant desk audit`` on the service's folders; return status, stdout, stderr."""
    assert service.settings is not None
    more = {LocalSettings.variable("service_token"): token} if token else {}
    done = await asyncio.to_thread(
        run_forked,
        "assistant.cli.main",
        *("desk", "audit", "--tenant", "clinic"),
        *("--tenants", str(service.settings.tenants_dir), "--state", str(service.state_dir)),
        *arguments,
        folder=Path.cwd(),
        environment=inherited_environment() | more,
    )
    return done.returncode, done.stdout, done.stderr


async def test_the_command_shows_a_table_of_who_saw_a_document(service: RunningService) -> None:
    answer = await service.answered(agent="ann")
    await read(service, "wait", agent="bob")
    status, out, err = await assistant(service, "--document", "wait")
    assert status == 0, err
    header, *rows = [line.split("  ") for line in out.splitlines() if line.strip()]
    assert "when (UTC)" in header[0]
    assert "was given an answer" in out
    assert answer["answer_id"] in out
    assert [sum(name in line for line in out.splitlines()) for name in ("ann", "bob", "quoted", "whole")] == [
        1
    ] * 4
    assert len(rows) == 2
    assert "2 entries from" in err


async def test_days_are_utc_and_a_last_day_is_whole(service: RunningService) -> None:
    await read(service, "wait", agent="bob")
    today = datetime.now(UTC).date().isoformat()
    for days in (("--from", today, "--to", today), ("--from", f"{today}T00:00:00Z")):
        status, out, err = await assistant(service, "--document", "wait", "--json", *days)
        assert (status, len(out.splitlines())) == (0, 1), err
    status, out, err = await assistant(service, "--document", "wait", "--to", "2020-01-31")
    assert (status, out) == (0, "")
    assert "Nothing recorded from 2020-01-02 00:00 to 2020-02-01 00:00 UTC." in err


async def test_the_command_asks_a_service_elsewhere_with_an_auditor_s_token(service: RunningService) -> None:
    await read(service, "wait", agent="bob")
    where = ("--agent", "bob", "--service", service.url, "--json")
    token = service.headers(**ADA)["authorization"].removeprefix("Bearer ")
    status, out, err = await assistant(service, *where, token=token)
    assert (status, [json.loads(line)["subject_id"] for line in out.splitlines()]) == (0, ["wait"]), err
    assert ("ada", "audit", "agent:bob") in seen(await audited(service, agent="ada"))
    agents = service.headers()["authorization"].removeprefix("Bearer ")
    refused, _, why = await assistant(service, *where, token=agents)
    assert (refused, why.count("\n")) == (1, 1)
    assert (await assistant(service, *where))[0] == 1
