"""What answers say while a source loads, and while the index lacks documents."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from assistant.documents.files import SourceDocument
from assistant.documents.receive import AddDocuments
from assistant.documents.sources import KnowledgeSource, Writer
from assistant.domain.clock import SystemClock
from assistant.domain.documents import Document, DocumentState
from assistant.stores.documents import KnowledgeStores
from assistant.tenant.tenant import default_source
from tests.fakes.running_service import DIGEST, DIMENSIONS, RunningService, eventually, running_service
from tests.fakes.tenant_stores import TenantStores

SOURCE = KnowledgeSource(default_source(), ())
NAME = default_source().name


@asynccontextmanager
async def stores_of(service: RunningService) -> AsyncIterator[TenantStores]:
    folder = service.state_dir / "tenants" / "clinic"
    stores = TenantStores(
        folder, embedding_model="tiny-embedding", dimensions=DIMENSIONS, model_digest=DIGEST
    )
    yield stores
    await stores.close()


async def receive(service: RunningService, *names: str) -> None:
    """Bring documents that no worker indexes."""
    items = [
        SourceDocument(Document(document_id=name, title=name, content=name, media_type="text/plain"), name)
        for name in names
    ]
    async with stores_of(service) as stores:
        knowledge = KnowledgeStores(stores.documents, stores.states, stores.queue, stores.withdrawals)
        await AddDocuments(knowledge, clock=SystemClock())(items, source=SOURCE, writer=Writer("olga"))


async def certainty(service: RunningService, **who: Any) -> tuple[str | None, list[dict[str, Any]]]:
    answer = await service.answered(**who)
    return answer["certainty"], answer.get("loading", [])


async def test_answers_of_a_source_that_loads_for_the_first_time_are_possible(tmp_path: Any) -> None:
    async with running_service(tmp_path) as service:
        await receive(service, "wait", "b", "c")
        await service.know("wait", "The wait is two days.")
        loading = [{"reason": "first_load", "source": NAME, "live": 1, "expected": 3}]
        assert await certainty(service) == ("possibly", loading)
        refused = await service.answered(body={"filters": {"document_id": ["none"]}})
        assert (refused["finish_reason"], refused["loading"]) == ("no_evidence", loading)
        assert f"loading: 1 of 3 documents of {NAME}" in refused["reason"]
        for name in ("b", "c"):
            await service.know(name, f"About {name}.")
        assert await certainty(service) == ("answered", [])  # the same moment: an answer looks itself
        await receive(service, "d")
        assert await certainty(service) == ("answered", [])  # one more document of a complete source


async def test_an_answer_of_an_index_that_lost_a_document_is_possible(tmp_path: Any) -> None:
    async with running_service(tmp_path) as service:
        await service.know("wait", "The wait is two days.")
        await service.know("other", "Something else.")
        assert await certainty(service) == ("answered", [])
        async with stores_of(service) as stores:
            await stores.index.delete_documents(["other"])
            assert (await stores.states.count_by_state())[DocumentState.LIVE] == 2
        lost = [{"reason": "lost", "source": "", "live": 1, "expected": 2}]

        async def is_told() -> bool:
            return await certainty(service) == ("possibly", lost)

        await eventually(is_told, within_s=60)
