"""Opens a tenant's stores together with the embedding model whose vectors their index has.

Models run in this process, or behind SageMaker endpoints. Neither is imported before it is chosen.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from assistant.domain.clock import Clock, SystemClock
from assistant.domain.documents import IndexModel
from assistant.domain.errors import ConfigurationError
from assistant.domain.paths import is_on_this_machine
from assistant.models.artifacts import FACTS_FILE, TOKENIZER_FILE, ModelFacts, read_model_facts
from assistant.process.private_files import keep_private
from assistant.process.settings import StoreSettings
from assistant.stores.clients import ProcessClients
from assistant.stores.opened import AwsStores, EmbeddedTenant, StoreChoice
from assistant.stores.ports import IndexVersions, PassageSearch, TextEmbedder
from assistant.tenant.added_models import AddedEmbedding, TenantModels, added_models
from assistant.tenant.deployed_names import CapturePurpose
from assistant.tenant.tenant import EmbeddingSection, TenantConfig, load_tenants

if TYPE_CHECKING:
    from assistant.model_server.here import EmbedderHere, ModelsHere
    from assistant.models.sagemaker import SageMakerEmbedder, SageMakerRuntime

_ANY_KEY = "local"
"""Access key for an endpoint on this machine, which checks none."""


class ModelClients(ProcessClients):
    """All clients of the service or the worker, shared by its tenants, and the models in its process."""

    def __init__(
        self, settings: StoreSettings, stack: AsyncExitStack, *, models: ModelsHere | None = None
    ) -> None:
        super().__init__(settings, stack)
        self._models = models

    def models(self) -> ModelsHere:
        """Return the models in this process."""
        if self._models is None:  # imported by name: the images of AWS's processes lack this module
            here = import_module("assistant.model_server.here")
            self._models = here.ModelsHere(self.settings.model_artifacts_dir)
            self.stack.callback(self._models.close)
        return self._models

    async def sagemaker(self) -> SageMakerRuntime:
        """Return the client of the SageMaker Runtime: of AWS unless the settings name another endpoint.

        Credentials are the default chain's; an emulator gets a fixed key where the environment names none.
        A loopback address always gets one: no signature for it could be meant for AWS, and an expired
        sign-in of the developer must not stop a test.
        """
        from assistant.models.sagemaker import SageMakerRuntime

        url = self.settings.sagemaker_endpoint_url
        key = _ANY_KEY if url is not None and is_on_this_machine(url) else None
        return await self.once(
            "sagemaker",
            lambda: SageMakerRuntime.open(
                region=self.settings.region, endpoint_url=url, access_key_id=key, secret_access_key=key
            ),
        )


@asynccontextmanager
async def open_model_clients(
    settings: StoreSettings, *, models: ModelsHere | None = None
) -> AsyncGenerator[ModelClients]:
    """Yield clients for all tenants of the process; each opens when it is first needed. ``models``: the
    models that the process has loaded already; None: they are opened here when needed."""
    async with AsyncExitStack() as stack:
        yield ModelClients(settings, stack, models=models)


def known_embeddings(tenant: TenantConfig, settings: StoreSettings) -> list[EmbeddingSection]:
    """Return the embedding models that this process can use for a tenant, without duplicates: the one of
    ``tenant`` first, then those that its file names, then those that were added on this machine and measured
    (their manifests are beside the artifacts)."""
    sections = [tenant.embedding]
    file = load_tenants(settings.tenants_dir, only=(tenant.name,)).tenants.get(tenant.name)
    for config in (tenant, file):
        if config is not None:
            sections += [config.embedding, *([config.embedding_next] if config.embedding_next else [])]
    for model in added_models(settings.model_artifacts_dir):
        if isinstance(model, AddedEmbedding) and None not in (model.cosine_unrelated, model.cosine_related):
            sections.append(TenantModels(embedding=model).applied_to(file or tenant).embedding)
    return [section for place, section in enumerate(sections) if section not in sections[:place]]


@dataclass(frozen=True, slots=True)
class ModelStores(StoreChoice):
    """One tenant's stores with one embedding model, and so with one version of the index.

    An index has a version for each embedding model that its documents were embedded with. Call ``open``
    first.
    """

    clients: ModelClients
    model: ModelFacts
    """Facts of the embedding weights. Vectors of other weights are never compared with theirs."""

    @classmethod
    async def open(
        cls,
        tenant: TenantConfig,
        *,
        settings: StoreSettings,
        clients: ModelClients,
        stack: AsyncExitStack,
        clock: Clock | None,
        models: AbstractSet[str],
    ) -> ModelStores:
        """Return the stores, after copying the artifacts of ``models`` from S3 where the settings name a
        folder there.

        Raises ConfigurationError naming the file or object, DependencyError when S3 does not respond.
        """
        await _download(models, settings, clients)
        if settings.models == "embedded":
            await clients.models().prepare(tenant.embedding)
        model = read_model_facts(settings.model_artifacts_dir, tenant.embedding.model)
        aws = AwsStores(clients, settings, stack=stack, clock=clock, tenant=tenant.name)
        clock = clock or SystemClock()
        embedded = EmbeddedTenant(settings.state_dir / "tenants" / tenant.name, clock=clock)
        if "embedded" in (settings.stores, settings.search):
            keep_private(settings.state_dir)
        stack.push_async_callback(embedded.close)
        return cls(tenant, settings, clients, stack, clock, aws, embedded, model)

    @property
    def index_model(self) -> IndexModel:
        """The model that identifies this version of the index: name, dimensions and digest."""
        return IndexModel(self.model.model, self.tenant.embedding.dimensions, self.model.digest)

    async def versions(self) -> IndexVersions:
        """Return the versions of the tenant's index."""
        return (await self.index()).versions(self.index_model)

    async def of_version(self, name: str) -> ModelStores | None:
        """Return the same stores with the model of an index version; None for a model unknown here.

        Known are the models that the tenant's file names, and those added on this machine.
        """
        versions = await self.versions()
        if versions.name_of(self.index_model) == name:
            return self
        for section in known_embeddings(self.tenant, self.settings):
            version_stores = await self.with_embedding(section)
            if version_stores is not None and versions.name_of(version_stores.index_model) == name:
                return version_stores
        return None

    async def with_embedding(self, section: EmbeddingSection) -> ModelStores | None:
        """Return the same stores with another embedding model; None without its artifact."""
        if section == self.tenant.embedding:
            return self
        try:
            if self.settings.models == "embedded":
                await self.clients.models().prepare(section)
            model = read_model_facts(self.settings.model_artifacts_dir, section.model)
        except ConfigurationError:
            if self.settings.model_artifacts_s3 is None:
                return None
            await _download({section.model}, self.settings, self.clients)
            model = read_model_facts(self.settings.model_artifacts_dir, section.model)
        tenant = self.tenant.model_copy(update={"embedding": section})
        return replace(self, tenant=tenant, model=model)

    async def search(self, *, pinned: bool = False) -> PassageSearch:
        """Return the index for readers; ``pinned``: this model's version, wherever the alias points."""
        return (await self.index()).search(self.index_model, pinned=pinned)

    async def embedder(self, *, purpose: CapturePurpose) -> SageMakerEmbedder | EmbedderHere:
        """Return the embedding model in this process, or the client of its endpoint. ``purpose``: what
        SageMaker records with each call."""
        embedding = self.tenant.embedding
        if self.settings.models == "embedded":
            return await self.clients.models().embedder(embedding)
        from assistant.models.sagemaker import SageMakerEmbedder

        return SageMakerEmbedder(
            await self.clients.sagemaker(),
            endpoint=embedding.endpoint,
            dimensions=embedding.dimensions,
            purpose=purpose,
        )

    async def passage_embedder(self) -> TextEmbedder:
        """Return what embeds documents: ``embedder``, or where the tenant keeps a file of vectors, that file
        first.

        Raises ConfigurationError when the file of vectors is damaged, or the stores are not embedded.
        """
        vectors = self.tenant.embedding.vectors
        if vectors is not None and self.settings.stores != "embedded":
            raise ConfigurationError(
                f'{self.tenant.name}: embedding.vectors = "{vectors}" is for embedded stores alone, where a '
                "demo's documents are loaded again and again. Delete the line."
            )
        endpoint = await self.embedder(purpose="passage")
        if vectors is None:
            return endpoint
        from assistant.stores.index.kept_vectors import with_kept_vectors

        return with_kept_vectors(endpoint, self.settings.tenants_dir / vectors, model=self.index_model)


async def _download(models: AbstractSet[str], settings: StoreSettings, clients: ModelClients) -> None:
    """Copy the artifacts of models from S3, if the settings say so."""
    if settings.model_artifacts_s3 is None:
        return
    await download_artifacts(
        await clients.aws("s3"),
        prefix=settings.model_artifacts_s3,
        models=models,
        into=settings.model_artifacts_dir,
    )


async def download_artifacts(client: Any, *, prefix: str, models: AbstractSet[str], into: Path) -> None:
    """Copy ``<prefix><model>/artifact.json`` and ``tokenizer.json`` of each model to ``<into>/<model>/``.

    ``client`` is an aiobotocore client of S3; its role needs s3:GetObject below the prefix (``s3://…``).
    A file is written whole or not at all; processes that share the folder may copy at once. Raises
    ConfigurationError naming the object that is missing, denied, too large or damaged, and DependencyError
    when S3 does not respond.
    """
    from assistant.stores.s3 import write_whole

    for model in sorted(models):
        for name in (TOKENIZER_FILE, FACTS_FILE):  # facts last: a folder with them is complete
            content = await _read_artifact(client, prefix=prefix, name=f"{model}/{name}")
            await asyncio.to_thread(write_whole, into / model / name, content, setting="model_artifacts_dir")


async def read_facts(client: Any, *, prefix: str, model: str) -> ModelFacts:
    """Return the content of ``<prefix><model>/artifact.json``. Raises as ``download_artifacts`` does."""
    content = await _read_artifact(client, prefix=prefix, name=f"{model}/{FACTS_FILE}")
    try:
        return ModelFacts.model_validate_json(content)
    except ValidationError as error:
        where, errors = f"{prefix}{model}/{FACTS_FILE}", error.error_count()
        raise ConfigurationError(f"{where}: not an artifact of schema 1 ({errors} errors).") from None


async def _read_artifact(client: Any, *, prefix: str, name: str) -> bytes:
    from assistant.stores.s3 import LONGEST_FILE_BYTES, read_file

    uri, advice = f"{prefix.rstrip('/')}/{name}", "put the model's artifact there"
    return await read_file(client, uri, longest_bytes=LONGEST_FILE_BYTES, advice=advice)
