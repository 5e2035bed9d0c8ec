"""Takes events that want a reviewer to the desk: one case for each answer and reason.

A case of a question that has an unresolved one joins it: the queue shows one line, with a count. An index of
the question, in the same write as the case, makes it one among processes that open at once; an index of the
agent bounds the cases that one agent's work opens.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Self

import structlog

from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.desk import Case, CaseReason, DeskItem, DeskKind, body_of_item, case_id, first_revision
from assistant.domain.errors import ConflictError, OpenCasesError, RecordsUnavailableError
from assistant.domain.public import PublicModel, RecordId
from assistant.options.desk.cases import CLOSED
from assistant.options.desk.section import most_open_cases
from assistant.options.feedback.events import FeedbackEvent, FeedbackKind
from assistant.stores.desk import DESK, StoredDesk
from assistant.stores.records import RECORDS, StoredRecords
from assistant.stores.store import Stores
from assistant.tenant.tenant import TenantConfig
from assistant.text.language import Language, fold, language

INTAKE = "intake"
"""Who makes the first revision of a case."""
_CANDIDATES = 3
"""Documents of an answer that quoted none: as many as an agent would look at."""
_JOINED = (CaseReason.BAD_VERDICT, CaseReason.UNANSWERED, CaseReason.DIFFERENT_VALUES)
"""The other reasons are about what one agent sent."""
_ATTEMPTS = 8
_HASH_DIGITS = 48
_log = structlog.get_logger(__name__)


def gap_id(question: str) -> str:
    """Return the id of the gap that a question opens: it holds no word of it."""
    return f"gap-{hashlib.sha256(fold(question).encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class OpenCases:
    """``CaseIntake`` over a desk."""

    store: StoredDesk
    records: StoredRecords
    language: Language
    clock: Clock
    most_of_agent: int
    """Unresolved cases that the work of one agent may have opened."""

    async def take(self, events: Sequence[FeedbackEvent]) -> None:
        for event in events:
            for reason in _reasons(event):
                await self._open(event, reason)

    async def _open(self, event: FeedbackEvent, reason: CaseReason) -> None:
        own_id = case_id(event.answer_id, reason)
        for _ in range(_ATTEMPTS):
            if await self.store.get(DeskKind.CASE, own_id) is not None:
                return None
            with suppress(ConflictError):  # another process opened a case of the question or the agent
                return await self._put(event, reason, own_id)
        raise RecordsUnavailableError("Other processes open cases of the same question or agent. Retry.")

    async def _put(self, event: FeedbackEvent, reason: CaseReason, own_id: str) -> None:
        """Add the case, in one write with what it is found by. Raises ConflictError."""
        record = await self.records.get_answer(event.answer_id)
        question = None if record is None else record.question
        quoted = [shown.document_id for shown in event.documents if shown.is_quoted]
        if record is not None and reason is CaseReason.DIFFERENT_VALUES:
            quoted = [*record.differing]
        nearest = [shown.document_id for shown in event.documents[:_CANDIDATES]]
        case = Case(
            answer_id=event.answer_id,
            reason=reason,
            opened_at=self.clock.now(),
            documents=tuple(dict.fromkeys(quoted or nearest)),
            reader_labels=event.reader_labels,
            verdict_reasons=event.reasons if reason is CaseReason.BAD_VERDICT else (),
            changed_facts=event.edit.changed_facts if reason is CaseReason.FACT_EDITED and event.edit else (),
        )
        indexes: list[DeskItem] = []
        if question is not None and reason in _JOINED:
            same = [self.language.question_key(question), case.reason, case.reader_labels, case.documents]
            if reason is CaseReason.DIFFERENT_VALUES:  # it is the documents' case, whatever was asked
                same = ["", reason, case.reader_labels, sorted(case.documents)]
            same_hash = hashlib.sha256(json.dumps(same).encode()).hexdigest()
            index = await _Index.read(self.store, f"question-{same_hash[:_HASH_DIGITS]}")
            joined = next(iter(index.case_ids), None)
            case = case.model_copy(update={"same_hash": same_hash, "joined": joined})
            indexes.append(index.with_ids((own_id,), at=case.opened_at))
        if case.joined is not None:
            indexes = []
        elif record is not None:
            index = await _Index.read(self.store, _index_of_agent(record.agent), most=self.most_of_agent)
            if len(index.case_ids) >= self.most_of_agent:
                _log.warning("case_not_opened", answer_id=event.answer_id, open_cases=len(index.case_ids))
                return
            indexes.append(index.with_ids((*index.case_ids, own_id), at=case.opened_at))
        if question is not None and reason is CaseReason.UNANSWERED and case.joined is None:
            case = case.model_copy(update={"gap": gap_id(question)})
        first = first_revision(DeskKind.CASE, own_id, case, by=INTAKE, at=case.opened_at)
        await self.store.put(first, *indexes)


async def open_intake(tenant: TenantConfig, stores: Stores) -> OpenCases:
    """Return what opens cases where feedback wants a reviewer."""
    return OpenCases(
        await stores.of(DESK),
        records=await stores.of(RECORDS),
        language=language(tenant.language),
        clock=SystemClock(),
        most_of_agent=most_open_cases(tenant),
    )


async def refuse_above(most: int, *, store: StoredDesk, verdict: Verdict, answer_id: str, agent: str) -> None:
    """Raise OpenCasesError where a bad verdict of this agent would open a case above ``most``; not where the
    answer has its case already, nor while the desk's store is away: the mover bounds the cases too."""
    if verdict.label is not VerdictLabel.BAD:
        return
    try:
        index = await _Index.read(store, _index_of_agent(agent), most=most)
        existing = await store.get(DeskKind.CASE, case_id(answer_id, CaseReason.BAD_VERDICT))
    except RecordsUnavailableError:
        return
    if len(index.case_ids) >= most and existing is None:
        raise OpenCasesError(
            f"Your work has opened {len(index.case_ids)} cases that wait for a reviewer; this tenant allows"
            f" {most} ([review] open_cases_per_agent). Mark it again when reviewers have closed some."
        )


class CaseIndex(PublicModel):
    """Body of an item of the kind ``case_index``."""

    case_ids: tuple[RecordId, ...]


@dataclass(frozen=True, slots=True)
class _Index:
    """Which cases are unresolved, of one question or of one agent."""

    item_id: str
    revision: int
    """The newest one; 0 without any."""
    case_ids: tuple[str, ...]

    @classmethod
    async def read(cls, store: StoredDesk, item_id: str, *, most: int = 1) -> Self:
        """``case_ids`` may have closed cases while they are fewer than ``most``."""
        item = await store.get(DeskKind.CASE_INDEX, item_id)
        if item is None:
            return cls(item_id, 0, ())
        ids = body_of_item(item, CaseIndex).case_ids
        if len(ids) >= most:
            cases = await asyncio.gather(*(store.get(DeskKind.CASE, name) for name in ids))
            ids = tuple(
                item.item_id
                for item in cases
                if item is not None and body_of_item(item, Case).state not in CLOSED
            )
        return cls(item_id, item.revision, ids)

    def with_ids(self, case_ids: tuple[str, ...], *, at: datetime) -> DeskItem:
        """Return its next revision."""
        body = CaseIndex(case_ids=case_ids)
        first = first_revision(DeskKind.CASE_INDEX, self.item_id, body, by=INTAKE, at=at)
        return first.model_copy(update={"revision": self.revision + 1})


def _index_of_agent(agent: str) -> str:
    return f"agent-{hashlib.sha256(agent.encode()).hexdigest()[:_HASH_DIGITS]}"


def _reasons(event: FeedbackEvent) -> Iterator[CaseReason]:
    match event.kind:
        case FeedbackKind.VERDICT if event.label is VerdictLabel.BAD:
            yield CaseReason.BAD_VERDICT
        case FeedbackKind.SENT:
            if event.edit is not None and event.edit.changed_facts:
                yield CaseReason.FACT_EDITED
            if event.unsupported_sent:
                yield CaseReason.UNSUPPORTED_SENT
        case FeedbackKind.UNANSWERED:
            yield CaseReason.UNANSWERED
        case FeedbackKind.DIFFERENT_VALUES:
            yield CaseReason.DIFFERENT_VALUES
        case _:
            return
