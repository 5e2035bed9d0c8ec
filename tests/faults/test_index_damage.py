"""An index that was damaged behind the service's back, on a real OpenSearch node."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from assistant.aws.opensearch_client import call, open_opensearch
from tests.fakes.running_service import eventually
from tests.faults.asking import asked
from tests.faults.cells import DOCUMENTS_LOST, INDEX_CLOSED, INDEX_DELETED
from tests.faults.dependencies import SEARCH
from tests.faults.scene import TENANT, FaultScene
from tests.faults.watching import Watch, refused, tell_of

Request = Callable[[str, dict[str, Any] | None], Coroutine[Any, Any, Any]]


async def _alias_to(request: Request, *, alias: str, index: str, add: bool) -> None:
    action = {"add" if add else "remove": {"index": index, "alias": alias}}
    await request("POST /_aliases", {"actions": [action]})


async def _swap_for_empty(request: Request, alias: str, index: str) -> None:
    made = (await request(f"GET /{index}", None))[index]
    settings = {key: made["settings"]["index"][key] for key in ("analysis", "knn")}
    empty = f"{index}-empty"
    await request(f"PUT /{empty}", {"settings": {"index": settings}, "mappings": made["mappings"]})
    await _alias_to(request, alias=alias, index=index, add=False)
    await _alias_to(request, alias=alias, index=empty, add=True)


async def _swap_back(request: Request, alias: str, index: str) -> None:
    await request(f"DELETE /{index}-empty", None)
    await _alias_to(request, alias=alias, index=index, add=True)


async def _close(request: Request, _alias: str, index: str) -> None:
    await request(f"POST /{index}/_close", None)


async def _open(request: Request, _alias: str, index: str) -> None:
    await request(f"POST /{index}/_open?wait_for_active_shards=1", None)


async def _remove_alias(request: Request, alias: str, index: str) -> None:
    await _alias_to(request, alias=alias, index=index, add=False)


async def _restore_alias(request: Request, alias: str, index: str) -> None:
    await _alias_to(request, alias=alias, index=index, add=True)


KINDS = {
    DOCUMENTS_LOST: (_swap_for_empty, _swap_back, "an index without documents behind the alias"),
    INDEX_CLOSED: (_close, _open, "the index closed"),
    INDEX_DELETED: (_remove_alias, _restore_alias, "the alias removed"),
}


@pytest.mark.parametrize("fault", KINDS)
async def test_a_damaged_index_is_never_taken_for_one_that_does_not_know(watch: Watch, fault: str) -> None:
    damage, repair, made_by = KINDS[fault]
    scene: FaultScene = watch.scene
    alias = scene.aws.named("passages", TENANT)
    async with open_opensearch(url=scene.aws.opensearch_url, auth="none") as client:

        async def request(path: str, body: dict[str, Any] | None) -> Any:
            return await call(client, path, body=body, timeout_s=30.0)

        (index,) = await request(f"GET /_alias/{alias}", None)
        await damage(request, alias, index)
        try:
            answer = await asked(watch.service)
            assert answer.told() == "503 `search_unavailable`, retryable"

            async def is_not_ready() -> bool:
                return (await watch.service.operations.get("/readyz")).status_code == 503

            await eventually(is_not_ready, within_s=20)
        finally:
            await repair(request, alias, index)
    tell_of(
        SEARCH,
        fault,
        made_by=made_by,
        sees=f"{answer.told()}; `/readyz` is 503",
        recorded=await watch.recorded(answer),
        log=await watch.logged("dependency_failed"),
        figure=await watch.counted(refused("search_unavailable")),
    )
