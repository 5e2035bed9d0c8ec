"""Responses while the index is damaged, by a service that runs and by one that is started."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from assistant.answer import index_watch
from tests.contracts.index_damage import DAMAGES
from tests.fakes.running_service import RunningService, Scene, eventually, running_service, service_on

OF_D1 = {"filters": {"document_id": ["d1"]}}


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path) as service:
        await service.know("wait", "The wait is two days.")
        yield service


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_watch, "_CHECK_EVERY_S", 0.2)
    monkeypatch.setattr(index_watch, "_PAUSE_S", 0.01)


@asynccontextmanager
async def serving(service: RunningService, *, restarted: bool) -> AsyncIterator[RunningService]:
    if not restarted:
        yield service
        return
    assert service.settings is not None
    async with service_on(service.settings, Scene(), service.sagemaker) as started:
        yield started


@pytest.mark.parametrize("restarted", [False, True], ids=["running", "restarted"])
@pytest.mark.parametrize("kind", DAMAGES["embedded"])
async def test_damage_is_503_and_never_no_evidence(
    service: RunningService, kind: str, restarted: bool
) -> None:
    await service.know("d1", "The wait for a card is two days.", tenant="clinic")
    await service.know("d2", "A stranger's text.", tenant="pharmacy")
    assert (await service.answered())["finish_reason"] != "no_evidence"
    place = service.state_dir / "tenants" / "clinic"
    others = service.state_dir / "tenants" / "pharmacy" / "index"
    shutil.copytree(others, place / "stranger" / "index")
    await DAMAGES["embedded"][kind](place)
    async with serving(service, restarted=restarted) as task:
        in_memory = kind in IN_MEMORY and not restarted
        answered = [await task.ask(body=OF_D1) for _ in range(5)]
        if not in_memory:

            async def is_not_ready() -> bool:
                ready = await task.operated("/readyz")
                checks = ready.json()["checks"]
                failed = {(check["name"], check["tenant"]) for check in checks if not check["ok"]}
                return (ready.status_code, failed) == (503, {("index", "clinic")})

            await eventually(is_not_ready, within_s=60)
        answered += [await task.ask(body=OF_D1) for _ in range(5)]
        for response in answered:  # refused, or answered by what is left of it
            if response.status_code == 200:
                assert response.json()["finish_reason"] != "no_evidence"
            else:
                assert (response.status_code, response.json()["code"]) == (503, "search_unavailable")
        if not in_memory and kind not in ("vectors gone", "rows cut"):  # words, or the title, still find it
            assert answered[-1].status_code == 503
        other = await task.answered(tenant="pharmacy")
        assert other["finish_reason"] != "no_evidence"


IN_MEMORY = ("segments cut", "vectors gone")
"""A process that has read them needs them no more."""


async def test_an_empty_index_of_a_tenant_without_documents_is_no_damage(tmp_path: Path) -> None:
    async with running_service(tmp_path) as service:
        assert (await service.answered())["finish_reason"] == "no_evidence"
        assert (await service.operated("/readyz")).status_code == 200


async def test_labels_that_hide_everything_are_no_damage(service: RunningService) -> None:
    await service.know("d1", "Secret.", tenant="pharmacy", labels=("staff",))
    filters = {"filters": {"document_id": ["d1"]}}
    answered = await service.answered(tenant="pharmacy", body=filters)
    assert answered["finish_reason"] == "no_evidence"
