"""A reindex on a real OpenSearch node while two serving processes are asked all the time.

Every question is a document's title, and both models give vectors of one size: a question embedded by one
model and searched in the other's index would get an answer, but not the cosine 1 with its own title.
``check-reindex`` runs it with more documents and for longer (DOCUMENTS=).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import shutil
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import orjson
import pytest

from assistant.answer.answer import AnswerQuestion
from assistant.answer.message import PartQuery
from assistant.answer.scores import CosineScale
from assistant.documents.files import SourceDocument
from assistant.documents.receive import AddDocuments
from assistant.documents.reindexing import ReindexReport
from assistant.documents.withdraw import WithdrawDocuments
from assistant.documents.worker import IngestionWorker
from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import Document
from assistant.domain.errors import AssistantError
from assistant.evaluation.judging import untraced
from assistant.process.settings import ServiceSettings, StoreSettings, WorkerSettings
from assistant.service.opened import open_ingestion, open_tenants
from assistant.service.served import Reindexing, ServedTenants, open_reindexing
from assistant.stores.index.opensearch_client import open_opensearch
from tests.stage.opensearch_node import delete_index
from tests.stage.servers import Exchange, scripted_http
from tests.stage.tenant_stores import TenantStores
from tests.unit.documents.scene import DIMENSIONS, HANDBOOK, OLGA, QUICK, document, model_tokenizer, until

DOCUMENTS = int(os.environ.get("DOCUMENTS", "60"))
SECONDS = float(os.environ.get("SECONDS", "0.5"))
"""How long the questions go on after each switch."""
PROCESSES, ASKERS = 2, 3
MODELS = ("former", "tuned")
TENANT = """
schema_version = 1
name = "shop"
display_name = "Shop"
[answers]
mode = "quoted"
[embedding]
endpoint = "former"
model = "former"
dimensions = 8
[embedding_next]
endpoint = "tuned"
model = "tuned"
dimensions = 8
cosine_unrelated = 0.1
cosine_related = 0.6
[limits]
search_timeout_s = 60.0
embedding_timeout_s = 60.0
"""
"""Limits that a busy machine does not reach: no time is judged."""


def vector_of(text: str, model: str) -> list[float]:
    """Return a unit vector that depends on the text and on the model."""
    made = random.Random(hashlib.sha256(f"{model}\0{text}".encode()).digest())  # noqa: S311 (vectors)
    numbers = [made.gauss(0.0, 1.0) for _ in range(DIMENSIONS)]
    length = sum(number * number for number in numbers) ** 0.5
    return [number / length for number in numbers]


async def endpoints(exchange: Exchange) -> None:
    """Both models' endpoints: each embeds as its model does."""
    model = exchange.target.split("/")[2]
    texts = orjson.loads(exchange.body)["inputs"]
    await exchange.respond(200, orjson.dumps([vector_of(text, model) for text in texts]))


def title_of(name: str) -> str:
    return f"Procedure {name} about {hashlib.sha256(name.encode()).hexdigest()[:12]}"


def made(name: str) -> Document:
    return document(name, content=f"The text of {name}: wait until day 24.", title=title_of(name))


@dataclass
class Load:
    """What the askers saw."""

    names: list[str]
    """Documents to ask about: those that are live all the time."""
    by_version: Counter[str] = field(default_factory=Counter[str])
    failures: list[str] = field(default_factory=list[str])
    wrong: list[str] = field(default_factory=list[str])
    gone: set[str] = field(default_factory=set[str])
    """Documents whose withdrawal is done."""
    is_over: bool = False

    async def ask(self, tenants: ServedTenants, number: int) -> None:
        drawn, found_by = random.Random(number), dict[int, AnswerQuestion]()  # noqa: S311 (order)
        while not self.is_over:
            name = drawn.choice(self.names)
            served = tenants["shop"]
            answer = found_by.setdefault(id(served), AnswerQuestion(served.answering))
            call, gone = untraced(Deadline.after(20.0, clock=SystemClock())), set(self.gone)
            try:
                [vector] = (await answer.embed.run([title_of(name)], call)).values()
                [finding] = await answer.find.run([PartQuery(title_of(name), vector)], call)
                found = finding.retrieved
            except AssistantError as error:
                self.failures.append(f"{error.code}: {error.message}")
                continue
            self.by_version[found.index_version] += 1
            cosines = {hit.document_id: hit.title_cosine or 0.0 for hit in found.documents}
            same = CosineScale.of(served.answering.tenant.embedding).value(1.0)
            if abs(cosines.get(name, 0.0) - same) > 1e-3 or gone.intersection(cosines):
                self.wrong.append(f"{name} in {found.index_version}: {cosines.get(name)}")


@dataclass
class Site:
    root: Path
    settings: dict[str, object]
    load: Load

    @property
    def worker_settings(self) -> WorkerSettings:
        return WorkerSettings.model_validate({**self.settings, "opensearch_applies_schema": True})

    @asynccontextmanager
    async def stores(self) -> AsyncGenerator[TenantStores]:
        stores = TenantStores(
            self.root / "state/tenants/shop",
            embedding_model=MODELS[0],
            dimensions=DIMENSIONS,
            model_digest="d",
        )
        try:
            yield stores
        finally:
            await stores.close()

    async def add(self, *names: str) -> None:
        async with self.stores() as stores:
            sources = [SourceDocument(made(name), name) for name in names]
            await AddDocuments(stores.knowledge, clock=SystemClock())(sources, source=HANDBOOK, writer=OLGA)

            async def is_done() -> bool:
                statuses = await stores.states.get_many(names)
                return all(status.live_content_hash is not None for status in statuses.values())

            await until(is_done, within_s=120)

    async def withdraw(self, name: str) -> None:
        async with self.stores() as stores:
            await WithdrawDocuments(stores.knowledge, clock=SystemClock())([name])

            async def is_gone() -> bool:
                status = await stores.states.get(name)
                return status is not None and status.live_content_hash is None

            await until(is_gone, within_s=60)
        self.load.gone.add(name)

    @asynccontextmanager
    async def reindexing(self) -> AsyncGenerator[Reindexing]:
        async with open_reindexing(StoreSettings.model_validate(self.settings)) as opened:
            yield opened

    async def pause(self) -> None:
        """Let the askers ask."""
        before = sum(self.load.by_version.values())
        await asyncio.sleep(SECONDS)
        await until(lambda: self._asked(before + 2 * PROCESSES * ASKERS))

    async def _asked(self, count: int) -> bool:
        return sum(self.load.by_version.values()) >= count


@pytest.fixture
async def site(tmp_path: Path, opensearch_url: str) -> AsyncIterator[Site]:
    """A worker and two serving processes on the node, and askers on each."""
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants/shop.toml").write_text(TENANT)
    for name in MODELS:
        folder = tmp_path / "models" / name
        folder.mkdir(parents=True)
        facts = {"schema_version": 1, "model": name, "digest": "d", "max_input_tokens": 256}
        (folder / "artifact.json").write_text(json.dumps(facts | {"dimensions": DIMENSIONS}))
        shutil.copy(model_tokenizer(), folder)
    alias = f"t-{uuid4().hex[:12]}-passages"
    names = [f"d{number:04}" for number in range(DOCUMENTS)]
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(scripted_http(endpoints))
        settings: dict[str, object] = {
            "tenants_dir": tmp_path / "tenants",
            "state_dir": tmp_path / "state",
            "model_artifacts_dir": tmp_path / "models",
            "sagemaker_endpoint_url": server.url,
            "search": "opensearch",
            "opensearch_url": opensearch_url,
            "opensearch_auth": "none",
            "opensearch_index": alias,
        }
        client = await stack.enter_async_context(open_opensearch(url=opensearch_url, auth="none"))
        stack.push_async_callback(delete_index, client, alias=alias)
        site = Site(tmp_path, settings, Load(names))
        (ingestion,) = await stack.enter_async_context(open_ingestion(site.worker_settings))
        worker = IngestionWorker(ingestion, limits=QUICK)
        await worker.prepare()
        await stack.enter_async_context(_running(worker))
        await site.add(*names, "leaves")
        served = ServiceSettings.model_validate(
            {**settings, "issuer": "http://issuer", "jwks_url": "http://issuer/jwks.json"}
        )
        asking: list[asyncio.Task[None]] = []
        following: list[asyncio.Task[None]] = []
        stack.push_async_callback(_end, following)
        for process in range(PROCESSES):
            tenants = await stack.enter_async_context(open_tenants(served, generates=False))
            following.append(asyncio.create_task(tenants.run("shop")))
            for asker in range(ASKERS):
                asking.append(asyncio.create_task(site.load.ask(tenants, 10 * process + asker)))
        try:
            yield site
        finally:
            site.load.is_over = True
            await asyncio.gather(*asking)


@asynccontextmanager
async def _running(worker: IngestionWorker) -> AsyncGenerator[None]:
    running = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        worker.stop()
        await asyncio.wait_for(running, 60)


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.2)


async def test_no_answer_fails_or_mixes_models_while_the_index_is_filled_switched_and_put_back(
    site: Site,
) -> None:
    await site.pause()
    changed = asyncio.Event()
    changing: list[asyncio.Task[None]] = []

    def progress(done: int, total: int) -> None:
        if done and not changed.is_set():
            changed.set()
            changing.append(asyncio.create_task(change()))

    async def change() -> None:
        await site.withdraw("leaves")
        await site.add("comes")

    async with site.reindexing() as reindexing:
        report: ReindexReport = await reindexing.to_model("tuned", progress=progress)
        await asyncio.gather(*changing)
        site.load.names.append("comes")
        await site.pause()
        back = await reindexing.back(progress=progress)
        await site.pause()
    asked = site.load.by_version
    assert (site.load.failures, site.load.wrong) == ([], [])
    assert (report.before, back.live, back.before) == (back.live, report.before, report.live)
    assert min(asked[report.live], asked[back.live]) >= PROCESSES
    sys.stderr.write(
        f"\n{DOCUMENTS} documents in {report.seconds:.1f} s, back in {back.seconds:.1f} s: {dict(asked)}\n"
    )
