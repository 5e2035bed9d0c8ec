"""Where the vectors that a tenant keeps are used: with embedded stores alone."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.models.opened import ModelStores, open_model_clients
from assistant.process.settings import WorkerSettings
from assistant.stores.index.kept_vectors import KeptVectorsEmbedder
from assistant.stores.ports import TextEmbedder
from assistant.tenant.tenant import load_tenant
from tests.fakes.kept_vectors import write_kept_vectors
from tests.fakes.tenant_files import settings_in

AWS_NAMES = ("documents_bucket", "states_table", "desk_table", "ingestion_queue_url", "withdrawals_queue_url")


async def passage_embedder(settings: WorkerSettings) -> TextEmbedder:
    """Return what embeds the passages of a tenant that names its kept vectors."""
    file = settings.tenants_dir / "clinic.toml"
    file.write_text(file.read_text() + '[embedding]\nvectors = "vectors.npz"\n')
    tenant = load_tenant(file)
    artifact = settings.model_artifacts_dir / tenant.embedding.model
    artifact.mkdir(parents=True)
    facts = {"schema_version": 1, "model": tenant.embedding.model, "digest": "d", "max_input_tokens": 256}
    (artifact / "artifact.json").write_text(json.dumps(facts))
    unit = [1.0, *([0.0] * (tenant.embedding.dimensions - 1))]
    write_kept_vectors(settings.tenants_dir / "vectors.npz", {"A text": unit}, model_digest="d")
    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(open_model_clients(settings))
        stores = await ModelStores.open(
            tenant, settings=settings, clients=clients, stack=stack, clock=None, models=set()
        )
        return await stores.passage_embedder()


async def test_embedded_stores_use_them(tmp_path: Path) -> None:
    gateway = "http://127.0.0.1:9"  # nothing is asked
    settings = settings_in(tmp_path, model_artifacts_dir=tmp_path / "models", sagemaker_endpoint_url=gateway)
    assert isinstance(await passage_embedder(settings), KeptVectorsEmbedder)


async def test_stores_on_aws_refuse_them(tmp_path: Path) -> None:
    names = dict.fromkeys(AWS_NAMES, "name")
    settings = settings_in(tmp_path, stores="aws", model_artifacts_dir=tmp_path / "models", **names)
    with pytest.raises(ConfigurationError, match=r"clinic: embedding\.vectors = .* Delete the line"):
        await passage_embedder(settings)
