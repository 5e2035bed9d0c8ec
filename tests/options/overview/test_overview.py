"""Who may read the manager's page, what it does not name, and what its files hold."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.fakes.running_service import RunningService, Scene, running_service

ONE_AGENT = "[overview]\nsmallest_group = 1\n"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path, Scene(more_of_tenants=ONE_AGENT, writes=False)) as opened:
        await opened.know("wait", "The wait is two days.")
        yield opened


async def read(service: RunningService, who: dict[str, str] | None = None, **asked: Any) -> httpx.Response:
    who = who or service.headers("mona", roles=["manager"])
    return await service.client.get("/v1/overview", params=asked, headers=who)


@pytest.mark.parametrize(
    ("role", "status"), [("manager", 200), ("auditor", 200), ("agent", 403), ("reviewer", 403)]
)
async def test_managers_and_auditors_alone_may_read_it(
    service: RunningService, role: str, status: int
) -> None:
    assert (await read(service, service.headers("mona", roles=[role]))).status_code == status


async def test_it_has_what_an_agent_did_and_neither_who_nor_what_was_asked(service: RunningService) -> None:
    answered = await service.answered(agent="ann", question="How long is the wait?")
    await service.send_anyway(answered["answer_id"], "The wait is three days.")
    response = await read(service)
    total = response.json()["total"]
    assert (total["questions"], total["quoted"], total["sent_edited"]) == (1, 1, 1)
    assert not any(word in response.text for word in ("ann", "How long", "three days"))
    assert [one["title"] for one in response.json()["documents"]] == ["Title of wait"]


async def test_a_manager_sees_numbers_of_their_own_tenant_alone(service: RunningService) -> None:
    await service.answered()
    assert (await read(service)).json()["total"]["questions"] == 1
    other = service.headers("mona", tenant="pharmacy", roles=["manager"])
    assert (await read(service, other)).json()["total"]["questions"] == 0


async def test_an_agent_who_asks_alone_is_in_no_number_of_what_agents_did(tmp_path: Path) -> None:
    async with running_service(tmp_path, Scene(writes=False)) as service:
        await service.know("wait", "The wait is two days.")
        await service.answered(agent="ann")
        shown = (await read(service)).json()
        assert shown["small_days"] == 1
        assert shown["total"]["questions"] == shown["total"]["quoted"] == 1
        assert shown["total"]["not_sent"] == 0
        assert shown["groups"] == []


async def test_a_document_that_the_manager_may_not_read_is_counted_and_not_named(
    service: RunningService,
) -> None:
    await service.know("pay", "The pay day is Friday.", labels=("hr",))
    await service.answered(labels=["hr"], question="When is pay day?")
    shown = (await read(service)).json()
    assert "pay" not in [one["document_id"] for one in shown["documents"]]
    named = [(one["document_id"]) for one in shown["documents"]]
    with_label = (await read(service, service.headers("mona", roles=["manager"], labels=["hr"]))).json()
    assert "pay" in [one["document_id"] for one in with_label["documents"]]
    assert shown["others"] - with_label["others"] == len(with_label["documents"]) - len(named) == 1
    assert [one["name"] for one in shown["groups"]] == ["hr"]


@pytest.mark.parametrize("days", [-1, 92, 4000])
async def test_a_period_has_one_to_92_days(service: RunningService, days: int) -> None:
    last = datetime.now(UTC).date()
    asked: dict[str, Any] = {"from": str(last - timedelta(days=days)), "to": str(last)}
    assert (await read(service, **asked)).status_code == 422


async def test_today_is_counted_at_most_once_a_minute(service: RunningService) -> None:
    await service.answered()
    assert (await read(service)).json()["total"]["questions"] == 1
    await service.answered()
    assert (await read(service)).json()["total"]["questions"] == 1


async def test_a_title_that_begins_like_a_formula_is_text_in_a_spreadsheet(service: RunningService) -> None:
    states = service.tenants["clinic"].knowledge.states
    status = await states.get("wait")
    assert status is not None
    await states.put_many([status.model_copy(update={"title": "=1+2"})])
    await service.answered()
    who = service.headers("mona", roles=["manager"], accept="text/csv")
    response = await read(service, who, table="documents")
    assert response.headers["content-disposition"].startswith('attachment; filename="documents-')
    header, row = response.text.splitlines()
    assert header.startswith("document_id,title,answers")
    assert row.startswith("wait,'=1+2,1")
