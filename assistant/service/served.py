"""The tenants that a process serves, each with the embedding model of its live index.

A tenant's index has *versions*, one for each embedding model; one of them is *live*. An answer takes one
``ServedTenant`` when it begins and keeps it: question, units and approved answers are embedded by its model,
and every search names its version of the index. When another version becomes live, the next answer gets
another ``ServedTenant``. A process that has not noticed yet answers correctly from the version before, which
is kept and written, and no answer mixes two models (docs/decisions/0055).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import structlog

from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    DependencyError,
    NotFoundError,
    SearchUnavailableError,
)
from assistant.models.opened import ModelStores, known_embeddings, open_model_clients
from assistant.process.settings import StoreSettings
from assistant.stores.documents import INDEX_WRITES, REINDEX_TURN
from assistant.stores.opened import knowledge_of, read_tenants

if TYPE_CHECKING:
    from assistant.answer.answer import AnswerQuestion
    from assistant.answer.services import TenantServices
    from assistant.documents.receive import AddDocuments
    from assistant.documents.reindexing import Progress, Reindex, ReindexReport
    from assistant.documents.shared_links import SignedDocumentLinks
    from assistant.documents.sources import FirstLoads, KnowledgeSources
    from assistant.documents.withdraw import WithdrawalReceipts
    from assistant.documents.work import OpenedVersions, WritableVersion
    from assistant.models.artifacts import ModelFacts
    from assistant.stores.desk import TwoPeople
    from assistant.stores.documents import KnowledgeStores
    from assistant.stores.events import StoredClaims
    from assistant.stores.uploads import StoredUploads
    from assistant.stores.words import Power

FOLLOW_EVERY_S = 2.0
"""Between two looks at which version is live."""
Part = TypeVar("Part")
_LOOK_LIMIT_S = 3.0
"""Longest wait for the name of the live version."""
_OPEN_LIMIT_S = 60.0
"""Longest wait until another version is opened."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServedTenant:
    """One tenant as the service offers it from one version of its index: its adapters and its use cases."""

    answering: TenantServices
    knowledge: KnowledgeStores
    links: SignedDocumentLinks
    claims: StoredClaims
    power: Power
    embedding_model: ModelFacts
    answer_question: AnswerQuestion
    sources: KnowledgeSources
    add_documents: AddDocuments
    uploads: StoredUploads | None
    """None on AWS without an inbox."""
    first_loads: FirstLoads
    two_people: TwoPeople
    receipts: WithdrawalReceipts
    parts: Sequence[object] = ()
    """What options opened of this tenant."""

    def part(self, kind: type[Part]) -> Part:
        """Return the part of a class that an option opened. Raises StopIteration where no option did."""
        return next(part for part in self.parts if isinstance(part, kind))


Serve = Callable[["ModelStores", bool], Awaitable["ServedTenant"]]
"""Builds what serves a tenant from the version of the index that the stores are of. True: its searches name
that version; False: they go by the alias."""


@dataclass(slots=True)
class LiveTenant:
    """One tenant, and the version of its index that it is served from."""

    stores: ModelStores
    """Stores of the index of the model that the settings name."""
    serve: Serve
    now: ServedTenant
    """What serves new answers."""
    version: str | None
    """The version that ``now`` is of. None: not known yet; searches then go by the alias, which refuses hits
    of another model."""
    problem: str | None = None
    """Why ``now`` is not of the live version; None where it is."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when ``now`` is replaced; then a new event takes its place."""
    retired: list[ServedTenant] = field(default_factory=list["ServedTenant"])
    """The last two that were ``now`` before: records of their answers may still be written."""

    @classmethod
    async def open(cls, stores: ModelStores, serve: Serve) -> LiveTenant:
        """Serve from the live index, or by the settings where it cannot be read now.

        Raises ConfigurationError.
        """
        live, problem = None, None
        try:
            async with asyncio.timeout(_LOOK_LIMIT_S):
                live = await (await stores.versions()).live()
        except (DependencyError, TimeoutError):
            return cls(stores, serve, await serve(stores, False), None)
        stores_of_live = await stores.of_version(live)
        if stores_of_live is None:
            problem = _unknown_model(live)
            return cls(stores, serve, await serve(stores, False), None, problem)
        return cls(stores, serve, await serve(stores_of_live, True), live)

    async def follow(self) -> None:
        """Serve from the live version. An error is not raised: it becomes ``problem``, and ``now`` stays."""
        try:
            async with asyncio.timeout(_LOOK_LIMIT_S):
                live = await (await self.stores.versions()).live()
            if live != self.version:
                async with asyncio.timeout(_OPEN_LIMIT_S):
                    await self._serve_from(live)
            self.problem = None
        except (AssistantError, TimeoutError) as error:
            self._note(error.message if isinstance(error, AssistantError) else "It took too long to look.")

    async def _serve_from(self, live: str) -> None:
        """Replace ``now`` by what serves from a version. Raises AssistantError, and then changes nothing."""
        version_stores = await self.stores.of_version(live)
        if version_stores is None:
            raise ConfigurationError(_unknown_model(live))
        served = await self.serve(version_stores, True)
        await served.answer_question.adaptations.refresh()
        self.retired = [*self.retired[-1:], self.now]
        before, self.version, self.now = self.version, live, served
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        _log.info("index_followed", tenant=self.stores.tenant.name, live=live, before=before)

    def _note(self, problem: str) -> None:
        """Keep the problem for the readiness check; log a new one."""
        if problem != self.problem:
            _log.warning("live_index_not_followed", tenant=self.stores.tenant.name, problem=problem)
        self.problem = problem


def _unknown_model(live: str) -> str:
    """Return the problem of a live index whose model is not known here."""
    return (
        f"The live index {live} is of an embedding model that this process does not know. Add the model, or "
        "name it in the tenant file ([embedding_next])."
    )


class ServedTenants(Mapping[str, "ServedTenant"]):
    """Each tenant as it is served at this moment. Take one for each answer, and keep it until the end."""

    def __init__(
        self, tenants: Mapping[str, LiveTenant], *, refused: Mapping[str, str] | None = None
    ) -> None:
        """``refused``: tenants that cannot be served, with the reason."""
        self.live = tenants
        self.refused = refused or {}

    def __getitem__(self, name: str) -> ServedTenant:
        return self.live[name].now

    def __iter__(self) -> Iterator[str]:
        return iter(self.live)

    def __len__(self) -> int:
        return len(self.live)

    async def run(self, name: str) -> None:
        """Follow one tenant's live index until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_EVERY_S)
            await self.live[name].follow()

    async def changed(self, name: str, served: ServedTenant) -> None:
        """Wait until something else than ``served`` serves the tenant."""
        tenant = self.live[name]
        while tenant.now is served:
            await tenant.changed.wait()

    def every(self) -> list[ServedTenant]:
        """Return what serves each tenant now, and what served it before."""
        return [served for tenant in self.live.values() for served in (tenant.now, *tenant.retired)]

    def require_live(self, name: str) -> None:
        """Raise SearchUnavailableError when the tenant is not served from its live index."""
        if (problem := self.live[name].problem) is not None:
            raise SearchUnavailableError(problem)


# The versions that are written


async def writable_versions(stores: ModelStores, own: WritableVersion | None = None) -> OpenedVersions:
    """Return the versions of the index that changes are written to. ``own``: one that the caller has open
    already."""

    from assistant.documents.work import OpenedVersions

    async def open_one(name: str) -> WritableVersion | None:
        if own is not None and own.name == name:
            return own
        version_stores = await stores.of_version(name)
        return None if version_stores is None else await writable_version(version_stores)

    return OpenedVersions(await stores.versions(), open_one)


async def writable_version(stores: ModelStores) -> WritableVersion:
    """Return the version of the stores' model, for a writer beside others, which takes turns with them."""
    from assistant.documents.work import BatchEmbedder, WritableVersion

    model, index = stores.index_model, await stores.index()
    embedder = BatchEmbedder(await stores.passage_embedder(), clock=stores.clock)
    return WritableVersion(index.versions(model).name_of(model), index.beside(model), embedder)


@dataclass(frozen=True, slots=True)
class Reindexing:
    """What ``assistant aws reindex`` does for one tenant."""

    stores: ModelStores
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
        version_stores = await self.stores.of_version(other.name)
        if version_stores is None:
            raise NotFoundError(f"The model of the index {other.name} is not known here.")
        return await self._run(version_stores, progress)

    async def drop_others(self) -> list[str]:
        """Delete every version that is not live; return their names. Raises as ``Reindex``."""
        async with await self.stores.of(REINDEX_TURN):
            return await self.reindex.drop_others()

    async def _run(self, target: ModelStores, progress: Progress) -> ReindexReport:
        """Fill the target's version and switch to it, while no other process reindexes the tenant."""
        async with await self.stores.of(REINDEX_TURN):
            return await self.reindex.run(
                await writable_version(target), target.index_model, progress=progress
            )

    async def _with_model(self, model: str) -> ModelStores:
        """Return the stores with a model, by its name. Raises as ``to_model``."""
        known = known_embeddings(self.stores.tenant, self.stores.settings)
        section = next((section for section in known if section.model == model), None)
        if section is None:
            names = ", ".join(dict.fromkeys(section.model for section in known))
            raise NotFoundError(
                f"There is no embedding model {model} here; there are: {names}. Name it in the tenant "
                "file ([embedding_next])."
            )
        tenant_section = self.stores.tenant.embedding
        if section.max_tokens < tenant_section.max_tokens:
            raise ConfigurationError(
                f"{model} takes {section.max_tokens} tokens, and the passages of the index have up to "
                f"{tenant_section.max_tokens}: it cannot embed them all. Take a model with a limit that is "
                "as long."
            )
        model_stores = await self.stores.with_embedding(section)
        if model_stores is None:
            raise NotFoundError(f"The artifact of {model} is missing. Add the model again.")
        if model_stores.model.dimensions not in (None, section.dimensions):
            raise ConfigurationError(
                f"The artifact of {model} has {model_stores.model.dimensions} dimensions, its settings say "
                f"{section.dimensions}. Correct the settings, or add the model again."
            )
        return model_stores


@asynccontextmanager
async def open_reindexing(settings: StoreSettings) -> AsyncGenerator[Reindexing]:
    """Open what reindexes the tenant of the settings' folder, which has one. Raises ConfigurationError."""
    from assistant.documents.reindexing import Reindex

    async with AsyncExitStack() as stack:
        clients = await stack.enter_async_context(open_model_clients(settings))
        config = next(iter((await read_tenants(settings, clients)).tenants.values()))
        stores = await ModelStores.open(
            config,
            settings=settings,
            clients=clients,
            stack=stack,
            clock=None,
            models={config.embedding.model},
        )
        yield Reindexing(
            stores,
            Reindex(
                await knowledge_of(stores),
                versions=await stores.versions(),
                writable=await writable_versions(stores),
                index_writes=await stores.of(INDEX_WRITES),
                clock=stores.clock,
            ),
        )
