"""Every store that is declared, in the core and in options: it can be made here, and its settings exist."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError
from assistant.models.opened import ModelStores, open_model_clients
from assistant.process.settings import FunctionSettings, StoreSettings, WorkerSettings
from assistant.stores.opened import EmbeddedTenant
from assistant.stores.ports import TextEmbedder
from assistant.stores.store import Primitive, Store
from assistant.tenant.tenant import load_tenant
from tests.stage.knowledge import write_kept_vectors
from tests.stage.tenant_files import settings_in
from tests.stage.tenant_stores import declared_stores

STORES = declared_stores()


def settings(kind: type[Any]) -> Iterator[str]:
    """Yield the names of a class's settings, and of those that classes of options add to it."""
    yield from kind.model_fields
    for below in kind.__subclasses__():
        yield from settings(below)


SETTINGS = {*settings(StoreSettings), *settings(FunctionSettings)}


def settings_of(primitive: Primitive[Any]) -> set[str]:
    names = {getattr(primitive, each.name) for each in fields(primitive) if each.name.endswith("setting")}  # pyright: ignore[reportArgumentType]
    return (names | {setting for _, setting in getattr(primitive, "beside", ())}) - {""}


@pytest.mark.parametrize("store", STORES.values(), ids=STORES)
async def test_each_store_is_made_here_and_its_settings_exist(
    store: Store[Any, Any] | Primitive[Any], tmp_path: Path
) -> None:
    embedded = EmbeddedTenant(tmp_path)
    assert await embedded.of(store) is embedded.get(store)
    assert settings_of(store.over if isinstance(store, Store) else store) <= SETTINGS
    await embedded.close()


def test_the_stores_of_the_core_are_found() -> None:
    assert {"RECORDS", "STATES", "CLAIMS", "DESK"} <= STORES.keys()


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


async def test_stores_on_aws_refuse_them(tmp_path: Path) -> None:
    names = dict.fromkeys(AWS_NAMES, "name")
    settings = settings_in(tmp_path, stores="aws", model_artifacts_dir=tmp_path / "models", **names)
    with pytest.raises(ConfigurationError, match=r"clinic: embedding\.vectors = .* Delete the line"):
        await passage_embedder(settings)
