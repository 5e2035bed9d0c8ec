"""An index that was damaged behind the service's back, on a real OpenSearch node."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from assistant.stores.index.opensearch_client import call, open_opensearch
from tests.fakes.running_service import eventually
from tests.faults.asking import asked
from tests.faults.cells import DOCUMENTS_LOST, INDEX_CLOSED, INDEX_DELETED
from tests.faults.dependencies import SEARCH
from tests.faults.scene import TENANT, FaultScene
from tests.faults.watching import Watch, refused, tell_of

Request = Callable[[str, dict[str, Any] | None], Coroutine[Any, Any, Any]]


async def _clone(request: Request, source: str, target: str) -> None:
    """Copy an index as it is; vectors are no part of a document's source, so no other copy has them."""
    await request(f"PUT /{source}/_settings", {"index.blocks.write": True})
    await request(f"POST /{source}/_clone/{target}?wait_for_active_shards=1", None)
    for name in (source, target):
        await request(f"PUT /{name}/_settings", {"index.blocks.write": None})


async def _lose_documents(request: Request, _alias: str, index: str) -> None:
    await _clone(request, index, f"{index}-kept")
    await request(f"POST /{index}/_delete_by_query?refresh=true", {"query": {"match_all": {}}})


async def _delete(request: Request, _alias: str, index: str) -> None:
    await _clone(request, index, f"{index}-kept")
    await request(f"DELETE /{index}", None)


async def _make_again(request: Request, alias: str, index: str) -> None:
    await request(f"DELETE /{index}?ignore_unavailable=true", None)
    await _clone(request, f"{index}-kept", index)
    await request("POST /_aliases", {"actions": [{"add": {"index": index, "alias": alias}}]})
    await request(f"DELETE /{index}-kept", None)


async def _close(request: Request, _alias: str, index: str) -> None:
    await request(f"POST /{index}/_close", None)


async def _open(request: Request, _alias: str, index: str) -> None:
    await request(f"POST /{index}/_open?wait_for_active_shards=1", None)


KINDS = {
    DOCUMENTS_LOST: (_lose_documents, _make_again, "the index without its documents"),
    INDEX_CLOSED: (_close, _open, "the index closed"),
    INDEX_DELETED: (_delete, _make_again, "the index deleted, and its alias with it"),
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

            await eventually(is_not_ready)
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
