"""A review desk in memory, as serving reads it, and items for it."""

from __future__ import annotations

import builtins
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from assistant.documents.sources import KnowledgeSources
from assistant.domain.clock import Clock
from assistant.domain.desk import (
    BoundSource,
    Case,
    CaseReason,
    DeskItem,
    DeskKind,
    GlossaryEntry,
    ItemState,
    body_of_item,
    case_id,
)
from assistant.domain.documents import Document, DocumentState
from assistant.domain.errors import AssistantError
from assistant.domain.identity import Identity, Role
from assistant.domain.public import PublicModel
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
from tests.stage.answering import FakeEmbedder, FakeTenant
from tests.stage.running_service import live_status
from tests.stage.tenant_stores import SteppedClock, TenantStores

AT = datetime(2026, 3, 1, tzinfo=UTC)
LATER = date(2099, 1, 1)


@dataclass
class FakeDesk:
    """All revisions in order; ``error`` makes every call fail."""

    items: list[DeskItem] = field(default_factory=list[DeskItem])
    error: AssistantError | None = None
    lists: int = 0
    """How many lists were read."""

    async def version(self) -> int:
        self._check()
        return len(self.items)

    async def list(self, kind: DeskKind, *, limit: int = 5_000) -> list[DeskItem]:
        self._check()
        self.lists += 1
        newest = {item.item_id: item for item in self.items if item.kind is kind}
        return sorted(newest.values(), key=self.items.index, reverse=True)[:limit]

    async def history(self, kind: DeskKind, item_id: str) -> builtins.list[DeskItem]:
        self._check()
        return [item for item in self.items if (item.kind, item.item_id) == (kind, item_id)]

    def add(self, body: PublicModel, *, item_id: str = "one") -> None:
        """Add a revision of an item."""
        kind = _KINDS[type(body)]
        before = [item for item in self.items if (item.kind, item.item_id) == (kind, item_id)]
        self.items.append(
            DeskItem(
                kind=kind,
                item_id=item_id,
                revision=len(before) + 1,
                at=AT,
                by="reviewer",
                body=body.model_dump_json(),
            )
        )

    def _check(self) -> None:
        if self.error is not None:
            raise self.error


_KINDS = {ApprovedAnswer: DeskKind.APPROVED_ANSWER, GlossaryEntry: DeskKind.GLOSSARY_ENTRY}


def approved(
    question: str = "May a child pick up a controlled prescription?",
    text: str = "No. Ask for an adult.",
    *,
    sources: Sequence[BoundSource] = (),
    **changes: Any,
) -> ApprovedAnswer:
    """Return a live approved answer without vectors."""
    body = ApprovedAnswer(
        questions=(question,),
        text=text,
        owner="Pickup Desk",
        expires_on=LATER,
        sources=tuple(sources),
        state=ItemState.LIVE,
        proposed_by="reviewer",
    )
    return body.model_copy(update=changes)


def glossary(said: str, means: str, *, state: ItemState = ItemState.LIVE) -> GlossaryEntry:
    return GlossaryEntry(said=said, means=means, state=state, proposed_by="reviewer")


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
