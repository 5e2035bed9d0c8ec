"""The worker as a process: real sockets, real files, real signals."""

from __future__ import annotations

import asyncio
import shutil
import signal
from collections.abc import AsyncIterator

import pytest

from assistant.domain.documents import DocumentState
from tests.fakes.kept_vectors import write_kept_vectors
from tests.processes.knowledge_worker.endpoint import ScriptedEndpoint
from tests.processes.knowledge_worker.site import WITHIN_S, Site
from tests.unit.documents.knowledge import Knowledge, document, until, vector_of


@pytest.fixture
async def knowledge(site: Site) -> AsyncIterator[Knowledge]:
    made = site.knowledge()
    yield made
    await made.stores.close()


async def all_live(knowledge: Knowledge, count: int) -> None:
    async def holds() -> bool:
        return await knowledge.stores.states.count_by_state() == {DocumentState.LIVE: count}

    await until(holds, within_s=WITHIN_S)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_the_worker_with_status_0(site: Site, number: signal.Signals) -> None:
    async with site.worker() as process:
        process.send_signal(number)
        assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0


async def test_a_signal_during_embedding_loses_nothing(site: Site, knowledge: Knowledge) -> None:
    site.endpoint.behaviour = "holds"
    await knowledge.add(document())
    async with site.worker() as process:
        await asyncio.to_thread(site.endpoint.asked.wait, WITHIN_S)
        process.terminate()
        assert await asyncio.wait_for(process.wait(), WITHIN_S) == 0
    site.endpoint.behaviour = "answers"
    async with site.worker():
        await all_live(knowledge, 1)


async def test_a_killed_worker_s_documents_are_processed_by_the_next(
    site: Site, knowledge: Knowledge
) -> None:
    site.endpoint.behaviour = "holds"
    await knowledge.add(*(document(f"d{number}") for number in range(100)))
    async with site.worker() as process:
        await asyncio.to_thread(site.endpoint.asked.wait, WITHIN_S)
        process.kill()
        await process.wait()
    site.endpoint.behaviour = "answers"
    async with site.worker():
        await all_live(knowledge, 100)
    assert len(await knowledge.found()) == 100


async def test_an_endpoint_that_fails_delays_documents_and_fails_none(
    site: Site, knowledge: Knowledge
) -> None:
    site.endpoint.behaviour = "cut"
    await knowledge.add(document())
    async with site.worker():
        await asyncio.to_thread(site.endpoint.asked.wait, WITHIN_S)
        assert await knowledge.state() != DocumentState.FAILED
        site.endpoint.behaviour = "answers"
        await all_live(knowledge, 1)


async def test_a_missing_model_is_reported_in_one_line(site: Site) -> None:
    shutil.rmtree(site.root / "models")
    assert "there is no such model artifact; start the model server" in await site.failing_worker()


async def test_an_invalid_tenant_file_is_reported_in_one_line(site: Site) -> None:
    (site.root / "tenants" / "shop.toml").write_text("schema_version = 1\nname = 3\n", encoding="utf-8")
    assert "shop.toml: " in await site.failing_worker()


async def test_an_invalid_file_of_another_tenant_does_not_stop_the_worker(
    site: Site, knowledge: Knowledge
) -> None:
    (site.root / "tenants" / "cafe.toml").write_text("schema_version = 1\nname = 3\n", encoding="utf-8")
    await knowledge.add(document("returns", "# Returns\n\nWithin 30 days."))
    async with site.worker():
        await all_live(knowledge, 1)


async def test_texts_with_kept_vectors_are_not_sent_to_the_endpoint(
    site: Site, knowledge: Knowledge, endpoint: ScriptedEndpoint
) -> None:
    async with site.worker():
        await knowledge.add(document("a"))
        await all_live(knowledge, 1)
    known = {text: vector_of(text) for text in endpoint.texts}
    write_kept_vectors(site.root / "vectors.npz", known, model_digest="d")
    site.name_vectors("../vectors.npz")

    endpoint.texts.clear()
    async with site.worker():
        await knowledge.add(document("same", title="About a"), document("new", "Other text."))
        await all_live(knowledge, 3)

    assert any("Other text." in text for text in endpoint.texts)
    assert not known.keys() & set(endpoint.texts)
    assert await knowledge.found() == {
        "a": ["Wait until day 24."],
        "same": ["Wait until day 24."],
        "new": ["Other text."],
    }
