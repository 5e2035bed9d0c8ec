"""Workers that are killed repeatedly: the documents of their batches lose no try.

``make check-full`` kills ten over 600 documents, ``make test`` three over 180.
"""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
from collections.abc import AsyncIterator

import pytest

from assistant.documents.worker import MAX_TRIES_ALONE
from assistant.domain.documents import DocumentState
from tests.processes.knowledge_worker.conftest import WITHIN_S, Site
from tests.stage.tenant_files import wider
from tests.unit.documents.scene import Knowledge, document, until

FULL = os.environ.get("EXAMPLES") == "new"
KILLS = 10 if FULL else 3
DOCUMENTS_A_KILL = 60
POISON = "poison"


async def counts(knowledge: Knowledge) -> dict[DocumentState, int]:
    return dict(await knowledge.stores.states.count_by_state())


async def test_repeated_kills_fail_no_document(site: Site) -> None:
    knowledge = site.knowledge()
    chance = random.Random(7)  # noqa: S311 (repeatable)
    for kill in range(KILLS):
        # New ones each time: a quick worker may have embedded all that there was.
        await knowledge.add(*(document(f"d{kill}-{number}") for number in range(DOCUMENTS_A_KILL)))
        site.endpoint.asked.clear()
        async with site.worker() as process:
            assert await asyncio.to_thread(site.endpoint.asked.wait, WITHIN_S)
            await asyncio.sleep(chance.uniform(0, 0.4))  # anywhere in its work
            process.kill()
            await process.wait()
    async with site.worker():

        async def all_live() -> bool:
            return await counts(knowledge) == {DocumentState.LIVE: KILLS * DOCUMENTS_A_KILL}

        await until(all_live, within_s=WITHIN_S)
    assert wider(site.root / "state") == []
    await knowledge.stores.close()


async def test_a_document_that_kills_its_worker_fails_alone_and_is_tried_once_a_start(
    site: Site,
) -> None:
    knowledge = site.knowledge()
    await knowledge.add(*(document(f"d{number}") for number in range(40)), document(POISON))
    deaths = 0

    async def run_until_settled() -> bool:
        """Run one worker; return whether the poison killed it."""
        async with site.worker() as process:

            def kill(texts: list[str]) -> None:
                if any(POISON in text for text in texts):
                    process.send_signal(signal.SIGKILL)

            site.endpoint.before = kill

            async def settled() -> bool:
                status = await knowledge.status(POISON)
                return process.returncode is not None or status.failure_code == "gave_up"

            await until(settled, within_s=WITHIN_S)
            return process.returncode is not None

    while await run_until_settled():
        deaths += 1
        assert deaths <= 2 + MAX_TRIES_ALONE
    assert deaths >= MAX_TRIES_ALONE
    assert await counts(knowledge) == {DocumentState.LIVE: 40, DocumentState.FAILED: 1}
    # Each later start tries it once; the start after that death gives it up again.
    assert await run_until_settled()
    assert not await run_until_settled()
    # The cause is fixed: the next start of the worker indexes the document.
    site.endpoint.before = None
    async with site.worker():

        async def live() -> bool:
            return await counts(knowledge) == {DocumentState.LIVE: 41}

        await until(live, within_s=WITHIN_S)
    await knowledge.stores.close()


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


async def test_a_missing_model_is_reported_in_one_line(site: Site) -> None:
    shutil.rmtree(site.root / "models")
    assert "there is no such model artifact; start the model server" in await site.failing_worker()


async def test_an_invalid_file_of_another_tenant_does_not_stop_the_worker(
    site: Site, knowledge: Knowledge
) -> None:
    (site.root / "tenants" / "cafe.toml").write_text("schema_version = 1\nname = 3\n", encoding="utf-8")
    await knowledge.add(document("returns", "# Returns\n\nWithin 30 days."))
    async with site.worker():
        await all_live(knowledge, 1)
