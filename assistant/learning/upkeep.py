"""Keeps what the desk made true while documents change: suspends approved answers, puts questions back.

Each process that serves runs it. Serving checks an approved answer's sources with every match, so nothing
outdated is quoted until this has run: it tells the reviewers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import date

import structlog

from assistant.domain.desk import (
    ApprovedAnswer,
    BoundSource,
    Case,
    CaseReason,
    CaseState,
    DeskItem,
    DeskKind,
    ItemState,
)
from assistant.domain.documents import DocumentState, DocumentStatus
from assistant.domain.errors import AssistantError, ConflictError
from assistant.learning.desk import DeskServices, body_of_item
from assistant.learning.document_questions import UPKEEP, DocumentQuestions
from assistant.learning.intake import case_id

UPKEEP_EVERY_S = 10.0
_GONE = (DocumentState.WITHDRAWN, DocumentState.WITHHELD)
_PENDING = (DocumentState.RECEIVED, DocumentState.PARSED, DocumentState.EMBEDDED)
_log = structlog.get_logger(__name__)


class DeskUpkeep:
    """Watches one tenant's live items. For one event loop."""

    def __init__(self, services: DeskServices, questions: DocumentQuestions) -> None:
        self._services = services
        self._questions = questions
        self._version = -1
        self._live: list[tuple[DeskItem, ApprovedAnswer]] = []
        self._is_away = False

    async def run(self) -> None:
        """Work every 10 s until cancelled. A store that is away is logged once."""
        while True:
            try:
                await self()
                self._is_away = False
            except AssistantError as error:
                if not self._is_away:
                    _log.warning("desk_upkeep_failed", reason=error.code)
                self._is_away = True
            await asyncio.sleep(UPKEEP_EVERY_S)

    async def __call__(self) -> None:
        """Suspend what no longer holds, then put missing questions back. Raises RecordsUnavailableError,
        DependencyError."""
        version = await self._services.store.version()
        if version != self._version:
            self._live = await self._read_live()
            self._version = version
        if self._live:
            await self._suspend()
        await self._questions.add_missing()

    async def _read_live(self) -> list[tuple[DeskItem, ApprovedAnswer]]:
        items = await self._services.store.list(DeskKind.APPROVED_ANSWER)
        both = [(item, body_of_item(item, ApprovedAnswer)) for item in items]
        return [(item, body) for item, body in both if body.state is ItemState.LIVE]

    async def _suspend(self) -> None:
        names = sorted({bound.document_id for _, body in self._live for bound in body.sources})
        statuses = await self._services.knowledge.states.get_many(names)
        today = self._services.clock.now().date()
        for item, body in self._live:
            because = why_suspended(body, statuses, today=today)
            if not because:
                continue
            try:
                await self._put_suspended(item, body, because)
            except ConflictError:  # a person, or another process, was first
                _log.info("suspended_before", item_id=item.item_id)
            else:
                _log.info("approved_answer_suspended", item_id=item.item_id, because=because)

    async def _put_suspended(self, item: DeskItem, body: ApprovedAnswer, because: str) -> None:
        # The case first: when the process dies between both, the next run opens the same case, and suspends.
        await self._open_case(body, because)
        suspended = body.model_copy(update={"state": ItemState.SUSPENDED, "suspended_because": because})
        await self._services.store.put(self._next(item, suspended.model_dump_json(), because))

    async def _open_case(self, body: ApprovedAnswer, because: str) -> None:
        if body.from_answer is None:
            return
        item_id = case_id(body.from_answer, CaseReason.ANSWER_SUSPENDED)
        found = await self._services.store.get(DeskKind.CASE, item_id)
        now = self._services.clock.now()
        if found is None:
            case = Case(
                answer_id=body.from_answer,
                reason=CaseReason.ANSWER_SUSPENDED,
                opened_at=now,
                documents=tuple(bound.document_id for bound in body.sources),
                reader_labels=body.labels,
            )
            item = DeskItem(
                kind=DeskKind.CASE,
                item_id=item_id,
                revision=1,
                at=now,
                by=UPKEEP,
                note=because,
                body=case.model_dump_json(),
            )
        else:
            case = body_of_item(found, Case)
            if case.state not in (CaseState.RESOLVED, CaseState.DISMISSED):
                return
            update = {"state": CaseState.OPEN, "resolution": None, "resolved_by": None, "approved_by": None}
            item = self._next(found, case.model_copy(update=update).model_dump_json(), because)
        await self._services.store.put(item)

    def _next(self, item: DeskItem, body: str, note: str) -> DeskItem:
        update = {
            "revision": item.revision + 1,
            "at": self._services.clock.now(),
            "by": UPKEEP,
            "note": note,
            "body": body,
        }
        return item.model_copy(update=update)


def desk_upkeep(services: DeskServices) -> DeskUpkeep:
    return DeskUpkeep(services, DocumentQuestions(services))


def why_suspended(body: ApprovedAnswer, statuses: Mapping[str, DocumentStatus], *, today: date) -> str:
    """Return why an approved answer may not be live; "" when it may."""
    if body.expires_on <= today:
        return f"It expired on {body.expires_on}."
    return next((because for because in _sources(body.sources, statuses) if because), "")


def _sources(bound: Sequence[BoundSource], statuses: Mapping[str, DocumentStatus]) -> list[str]:
    return [_source(one, statuses.get(one.document_id)) for one in bound]


def _source(bound: BoundSource, status: DocumentStatus | None) -> str:
    if status is None or status.state in _GONE:
        state = "not there" if status is None else status.state.value
        return f"Its source {bound.document_id} is {state}."
    is_on_its_way = status.state in _PENDING and status.content_hash == bound.content_hash
    if bound.content_hash == status.live_content_hash or is_on_its_way:
        return ""
    return f"Its source {bound.document_id} has another content since {status.updated_at:%Y-%m-%d %H:%M} UTC."
