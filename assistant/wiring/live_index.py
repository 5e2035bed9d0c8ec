"""The tenants that a process serves, each as its live index requires: with the model that it was built with.

An answer takes one ``ServedTenant`` when it begins and keeps it: question, units and approved answers are
embedded by that model, and every search names that version of the index. When another version becomes live,
the next answer gets another ``ServedTenant``. So a process that has not noticed yet answers rightly from the
version before, which is kept and written, and no answer mixes two models (docs/decisions/0055).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    DependencyError,
    SearchUnavailableError,
)

if TYPE_CHECKING:
    from assistant.answering.adaptations import Adaptations
    from assistant.answering.ports import AnswerLog, EndpointPower
    from assistant.answering.reading import AppendToAnswer, AuditLiveReads, ReadAnswers, ReadElementAgain
    from assistant.answering.services import TenantServices
    from assistant.answering.use_case import AnswerQuestion
    from assistant.aws.secrets_manager import StoredSecret
    from assistant.document_links import SignedDocumentLinks
    from assistant.knowledge.add_documents import AddDocuments
    from assistant.knowledge.ports import KnowledgeStores
    from assistant.knowledge.sources import KnowledgeSources
    from assistant.knowledge.withdrawal import WithdrawDocuments, WithholdDocuments
    from assistant.learning.desk import DeskServices
    from assistant.learning.preview import PreviewAnswer
    from assistant.model_artifacts import ModelFacts
    from assistant.wiring.stores import StoreChoice

FOLLOW_EVERY_S = 1.0
_LOOK_LIMIT_S = 3.0
_OPEN_LIMIT_S = 60.0
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ServedTenant:
    """One tenant as the service offers it from one version of its index: its adapters and its use cases."""

    answering: TenantServices
    knowledge: KnowledgeStores
    links: SignedDocumentLinks
    log: AnswerLog
    power: EndpointPower
    embedding_model: ModelFacts
    adaptations: Adaptations
    answer_question: AnswerQuestion
    read_answers: ReadAnswers
    append_to_answer: AppendToAnswer
    read_element_again: ReadElementAgain
    sources: KnowledgeSources
    add_documents: AddDocuments
    withdraw_documents: WithdrawDocuments
    withhold_documents: WithholdDocuments
    desk: DeskServices
    preview_answer: PreviewAnswer
    live_reads: AuditLiveReads
    system_secrets: Sequence[StoredSecret] = ()
    """Credentials of live systems that AWS stores."""


Serve = Callable[["StoreChoice", bool], Awaitable["ServedTenant"]]
"""Builds what serves a tenant from one version of its index; true: searches name that version, and not the
alias."""


@dataclass(slots=True)
class LiveTenant:
    """One tenant, and the version of its index that it is served from."""

    stores: StoreChoice
    """Of the model that the settings name."""
    serve: Serve
    now: ServedTenant
    version: str | None
    """None: not known yet. Searches then go by the alias, which refuses hits of another model."""
    problem: str | None = None
    """Why another version than the live one is served, or none."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when ``now`` was replaced."""
    retired: list[ServedTenant] = field(default_factory=list["ServedTenant"])
    """What was served before: records of its answers may still be written."""

    @classmethod
    async def open(cls, stores: StoreChoice, serve: Serve) -> LiveTenant:
        """Serve from the live index, or by the settings where it cannot be read now.

        Raises ConfigurationError.
        """
        live, problem = None, None
        try:
            async with asyncio.timeout(_LOOK_LIMIT_S):
                live = await (await stores.versions()).live()
        except (DependencyError, TimeoutError):
            return cls(stores, serve, await serve(stores, False), None)
        found = await stores.of_version(live)
        if found is None:
            problem = _unknown_model(live)
            return cls(stores, serve, await serve(stores, False), None, problem)
        return cls(stores, serve, await serve(found, True), live)

    async def follow(self) -> None:
        """Serve from the live version. Raises nothing: what fails leaves what is served, and is a problem."""
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
        found = await self.stores.of_version(live)
        if found is None:
            raise ConfigurationError(_unknown_model(live))
        served = await self.serve(found, True)
        await served.adaptations.refresh()
        self.retired = [*self.retired[-1:], self.now]
        before, self.version, self.now = self.version, live, served
        changed, self.changed = self.changed, asyncio.Event()
        changed.set()
        _log.info("index_followed", tenant=self.stores.tenant.name, live=live, before=before)

    def _note(self, problem: str) -> None:
        # An index that is away is another check's to tell, and answers fail by it.
        if problem != self.problem:
            _log.warning("live_index_not_followed", tenant=self.stores.tenant.name, problem=problem)
        self.problem = problem


def _unknown_model(live: str) -> str:
    return (
        f"The live index {live} is of an embedding model that this process does not know. Add the model, or "
        "name it in the tenant file ([embedding_next])."
    )


class ServedTenants(Mapping[str, "ServedTenant"]):
    """Each tenant as it is served at this moment. Take one for each answer, and keep it until the end."""

    def __init__(self, tenants: Mapping[str, LiveTenant]) -> None:
        self.live = tenants

    def __getitem__(self, name: str) -> ServedTenant:
        return self.live[name].now

    def __iter__(self) -> Iterator[str]:
        return iter(self.live)

    def __len__(self) -> int:
        return len(self.live)

    async def follow(self) -> None:
        """Look which index is live, for all tenants at once."""
        await asyncio.gather(*(one.follow() for one in self.live.values()))

    async def run(self, name: str) -> None:
        """Follow one tenant's live index until cancelled."""
        while True:
            await asyncio.sleep(FOLLOW_EVERY_S)
            await self.live[name].follow()

    async def changed(self, name: str, served: ServedTenant) -> None:
        """Return when the tenant is served by something else than ``served``."""
        tenant = self.live[name]
        while tenant.now is served:
            await tenant.changed.wait()

    def every(self) -> list[ServedTenant]:
        """Return what serves each tenant now, and what served it before."""
        return [served for one in self.live.values() for served in (one.now, *one.retired)]

    def require_live(self, name: str) -> None:
        """Raise SearchUnavailableError when the tenant is not served from its live index."""
        if (problem := self.live[name].problem) is not None:
            raise SearchUnavailableError(problem)
