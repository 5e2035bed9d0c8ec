"""A desk over a tenant's embedded stores, without a service, under a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from assistant.documents.sources import KnowledgeSources
from assistant.domain.clock import Clock
from assistant.domain.desk import Case, CaseReason, DeskKind, body_of_item, case_id
from assistant.domain.documents import Document, DocumentState
from assistant.domain.identity import Identity, Role
from assistant.options.desk.approved import ApprovedAnswer
from assistant.options.desk.cases import DeskServices, ReviewDesk
from assistant.options.desk.events import FeedbackEvent
from assistant.options.desk.intake import OpenCases
from assistant.options.desk.items import DeskItems, Resolutions
from assistant.options.desk.upkeep import DeskUpkeep
from assistant.service.stored import ReadAnswers
from assistant.stores.desk import DESK_TABLE, StoredDesk
from assistant.tenant.tenant import TenantConfig, default_source
from assistant.text.language import language
from tests.contracts import samples
from tests.fakes.answering import FakeEmbedder, FakeTenant
from tests.fakes.clock import SteppedClock
from tests.fakes.running_service import live_status
from tests.fakes.tenant_stores import TenantStores

RITA = Identity("clinic", "rita", frozenset({Role.REVIEWER}), frozenset({"hr"}))


@dataclass
class Desk:
    services: DeskServices
    stores: TenantStores
    clock: SteppedClock

    @property
    def queue(self) -> ReviewDesk:
        return ReviewDesk(self.services)

    @property
    def items(self) -> DeskItems:
        return DeskItems(self.services)

    @property
    def resolutions(self) -> Resolutions:
        return Resolutions(self.queue, self.items)

    def upkeep(self) -> DeskUpkeep:
        return DeskUpkeep(self.services)

    async def answered(self, answer_id: str, question: str = "How long is the wait?") -> None:
        await self.stores.records.put_answer(
            samples.answer(answer_id).model_copy(update={"question": question})
        )

    async def took(self, *events: FeedbackEvent) -> None:
        await OpenCases(
            self.services.store,
            records=self.services.records,
            language=language("en"),
            clock=self.clock,
            most_of_agent=self.services.open_cases_per_agent,
        ).take(events)

    async def know(self, document_id: str = "wait", *, text: str = "The wait is two days.") -> Document:
        """Store a document as live, with this text."""
        document = Document(document_id=document_id, title=document_id, content=text, media_type="text/plain")
        await self.stores.documents.put(document)
        await self.stores.states.put_many([live_status(document)])
        return document

    async def index(self, document_id: str = "wait") -> None:
        """Make the newest content live, as the worker does."""
        document = await self.stores.documents.get(document_id)
        assert document is not None
        await self.stores.states.put_many([live_status(document)])

    async def move(self, document_id: str, state: DocumentState) -> None:
        status = await self.stores.states.get(document_id)
        assert status is not None
        await self.stores.states.put_many([status.model_copy(update={"state": state})])

    async def approved(self) -> Sequence[ApprovedAnswer]:
        items = await self.services.store.list(DeskKind.APPROVED_ANSWER)
        return [body_of_item(item, ApprovedAnswer) for item in items]

    async def case(self, answer_id: str, reason: CaseReason) -> Case | None:
        item = await self.services.store.get(DeskKind.CASE, case_id(answer_id, reason))
        return None if item is None else body_of_item(item, Case)


class SteppedDesk(StoredDesk):
    """The desk in a store whose clock a test moves."""

    def __init__(self, stores: TenantStores, clock: Clock) -> None:
        super().__init__(stores.get(DESK_TABLE))
        self.clock = clock

    async def now(self) -> datetime:
        return self.clock.now()


@asynccontextmanager
async def desk_of(place: Path, *, two_people: bool = False, most_of_agent: int = 100) -> AsyncGenerator[Desk]:
    clock = SteppedClock(samples.NOON)
    stores = TenantStores(place, embedding_model="tiny", dimensions=4)
    tenant = TenantConfig(
        schema_version=1, name="clinic", display_name="Clinic", labels=("hr",), sources=(default_source(),)
    )
    services = DeskServices(
        store=SteppedDesk(stores, clock),
        records=stores.records,
        answers=ReadAnswers(FakeTenant().services),
        knowledge=stores.knowledge,
        sources=KnowledgeSources.of(tenant),
        embedder=FakeEmbedder(),
        embedding_model="tiny",
        labels=tenant.labels,
        needs_two_people=two_people,
        open_cases_per_agent=most_of_agent,
        clock=clock,
    )
    try:
        yield Desk(services, stores, clock)
    finally:
        await stores.close()
