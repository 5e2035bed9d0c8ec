"""The versions of a tenant's index as a process of this machine or a function writes them."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import structlog

from assistant.domain.clock import Clock
from assistant.domain.errors import ConfigurationError, NotFoundError, SearchUnavailableError
from assistant.knowledge.pipeline import BatchEmbedder, EmbeddingLimits, WritableVersion
from assistant.knowledge.ports import IndexVersions
from assistant.knowledge.reindexing import Progress, Reindex, ReindexReport
from assistant.settings.process import StoreSettings
from assistant.settings.tenant import TenantConfig
from assistant.wiring.stores import (
    ProcessClients,
    StoreChoice,
    known_embeddings,
    open_clients,
    read_tenants,
)

_log = structlog.get_logger(__name__)


class OpenedVersions:
    """``WritableVersions``: each kept version is opened when it is first seen.

    ``open_one`` returns None for a version whose model is unknown here. Such a version is not written, and
    catches up by a reindex or the way back; when it is live, nothing is written.
    """

    def __init__(
        self, versions: IndexVersions, open_one: Callable[[str], Awaitable[WritableVersion | None]]
    ) -> None:
        self._versions = versions
        self._open_one = open_one
        self._opened: dict[str, WritableVersion] = {}
        self._unknown: set[str] = set()

    async def live(self) -> str:
        return await self._versions.live()

    async def kept(self) -> Sequence[WritableVersion]:
        live, *others = await self._versions.kept()
        opened = await self._one(live)
        if opened is None:
            raise SearchUnavailableError(
                f"The live index {live} is of an embedding model that this process does not know. Add the "
                "model, or name it in the tenant file ([embedding_next])."
            )
        beside = [await self._one(name) for name in others]
        return [opened, *(one for one in beside if one is not None)]

    async def _one(self, name: str) -> WritableVersion | None:
        if name not in self._opened:
            opened = await self._open_one(name)
            if opened is None:
                if name not in self._unknown:
                    _log.warning("version_of_unknown_model", version=name)
                self._unknown.add(name)
                return None
            self._opened[name] = opened
        return self._opened[name]


async def writable_versions(
    stores: StoreChoice, own: WritableVersion | None = None, *, limits: EmbeddingLimits | None = None
) -> OpenedVersions:
    """Return the versions to write; ``own`` is the one that the caller holds open already."""

    async def open_one(name: str) -> WritableVersion | None:
        if own is not None and own.name == name:
            return own
        found = await stores.of_version(name)
        return None if found is None else await writable_version(found, limits=limits)

    return OpenedVersions(await stores.versions(), open_one)


async def writable_version(stores: StoreChoice, *, limits: EmbeddingLimits | None = None) -> WritableVersion:
    """Return the version of the stores' own model, for a writer that takes turns."""
    name = (await stores.versions()).name_of(stores.index_model)
    embedder = BatchEmbedder(await stores.embedder(purpose="passage"), clock=stores.clock, limits=limits)
    return WritableVersion(name, await stores.index_beside(), embedder)


@dataclass(frozen=True, slots=True)
class Reindexing:
    """What ``assistant knowledge reindex`` does for one tenant."""

    stores: StoreChoice
    reindex: Reindex

    async def to_model(self, model: str, *, progress: Progress) -> ReindexReport:
        """Fill and switch to the version of a model, by its name.

        Raises NotFoundError (no such model here), ConfigurationError (it does not fit), and as ``Reindex``.
        """
        target = await self._with_model(model)
        return await self._run(target, progress)

    async def back(self, *, progress: Progress) -> ReindexReport:
        """Switch to the version that was live before, after it has caught up. Raises NotFoundError, and as
        ``Reindex``."""
        other = await self.reindex.other()
        found = await self.stores.of_version(other.name)
        if found is None:
            raise NotFoundError(f"The model of the index {other.name} is not known here.")
        return await self._run(found, progress)

    async def drop_others(self) -> list[str]:
        """Delete every version that is not live; return their names. Raises as ``Reindex``."""
        async with await self.stores.reindex_turn():
            return await self.reindex.drop_others()

    async def live_model(self) -> str | None:
        """Return the name of the model of the live index; None where it is unknown here."""
        found = await self.stores.of_version(await (await self.stores.versions()).live())
        return None if found is None else found.tenant.embedding.model

    async def _run(self, target: StoreChoice, progress: Progress) -> ReindexReport:
        async with await self.stores.reindex_turn():
            return await self.reindex.run(
                await writable_version(target), target.index_model, progress=progress
            )

    async def _with_model(self, model: str) -> StoreChoice:
        known = known_embeddings(self.stores.tenant, self.stores.settings)
        section = next((one for one in known if one.model == model), None)
        if section is None:
            names = ", ".join(dict.fromkeys(one.model for one in known))
            raise NotFoundError(
                f"There is no embedding model {model} here; there are: {names}. Add one (assistant models "
                "add FOLDER), or name it in the tenant file ([embedding_next])."
            )
        own = self.stores.tenant.embedding
        if section.max_tokens < own.max_tokens:
            raise ConfigurationError(
                f"{model} takes {section.max_tokens} tokens, and the passages of the index have up to "
                f"{own.max_tokens}: it cannot embed them all. Take a model with a limit that is as long."
            )
        found = await self.stores.with_embedding(section)
        if found is None:
            raise NotFoundError(f"The artifact of {model} is missing. Add the model again.")
        if found.model.dimensions not in (None, section.dimensions):
            raise ConfigurationError(
                f"The artifact of {model} has {found.model.dimensions} dimensions, its settings say "
                f"{section.dimensions}. Correct the settings, or add the model again."
            )
        return found


@asynccontextmanager
async def open_reindexing(
    settings: StoreSettings,
    tenant: str | None = None,
    *,
    clients: ProcessClients | None = None,
    limits: EmbeddingLimits | None = None,
    clock: Clock | None = None,
) -> AsyncGenerator[Reindexing]:
    """Open what reindexes one tenant; the only one of the folder where ``tenant`` is None.

    Raises ConfigurationError, NotFoundError.
    """
    async with AsyncExitStack() as stack:
        process_clients = clients or await stack.enter_async_context(open_clients(settings))
        files = await read_tenants(settings, process_clients)
        config: TenantConfig = files.one(tenant or next(iter(files.tenants)))
        stores = await StoreChoice.of(
            config,
            settings=settings,
            clients=process_clients,
            stack=stack,
            clock=clock,
            models={config.embedding.model},
        )
        yield Reindexing(
            stores,
            Reindex(
                await stores.knowledge(),
                versions=await stores.versions(),
                writable=await writable_versions(stores, limits=limits),
                index_writes=await stores.index_writes(),
                clock=stores.clock,
            ),
        )
