"""Opens cases at the desk for events that need a reviewer: one case for each answer and reason.

A case whose question has an unresolved case joins that one: the queue shows one line, with a count. Two desk
items of the kind ``case_index`` are written together with the case, so that of two processes one is refused
and tries again:

    question-<hash>: the unresolved case of this question    another case joins it
    agent-<hash>:    the unresolved cases of this agent       their number has a limit

An agent marks the answer a1 bad: case_id("a1", BAD_VERDICT) opens. Later the same question gets the answer a2
with the same documents for readers with the same labels, and is marked bad too: its case joins the first.
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
from assistant.domain.clock import Clock
from assistant.domain.desk import Case, CaseReason, DeskItem, DeskKind, body_of_item, case_id, first_revision
from assistant.domain.errors import ConflictError, OpenCasesError, RecordsUnavailableError
from assistant.domain.public import PublicModel, RecordId
from assistant.options.desk.cases import CLOSED
from assistant.options.desk.events import FeedbackEvent, FeedbackKind
from assistant.stores.desk import StoredDesk
from assistant.stores.records import StoredRecords
from assistant.text.language import Language, fold

INTAKE = "intake"
"""``by`` of the first revision of a case."""
_CANDIDATES = 3
"""Documents that a case names where the answer quoted none: as many as an agent would look at."""
_JOINED = (CaseReason.BAD_VERDICT, CaseReason.UNANSWERED, CaseReason.DIFFERENT_VALUES)
"""Reasons whose cases join another one. The other reasons are about one person, or what one agent sent."""
_ATTEMPTS = 8
"""Writes of one case at most: another process may change an index between its read and the write."""
_HASH_DIGITS = 48
_log = structlog.get_logger(__name__)


def gap_id(question: str) -> str:
    """Return the id of the gap that a question opens: a hash of its folded text, so it reveals no word."""
    return f"gap-{hashlib.sha256(fold(question).encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class OpenCases:
    """Opens cases at a desk: the mover gives it each batch of events, perhaps again."""

    store: StoredDesk
    records: StoredRecords
    language: Language
    clock: Clock
    most_of_agent: int
    """Unresolved cases that the work of one agent may have opened."""

    async def take(self, events: Sequence[FeedbackEvent]) -> None:
        """Open a case where an event wants one; an event that was taken before changes nothing. Raises
        RecordsUnavailableError."""
        for event in events:
            for reason in _reasons(event):
                await self._open(event, reason)

    async def _open(self, event: FeedbackEvent, reason: CaseReason) -> None:
        """Open the case of an answer and reason unless it exists. Raises RecordsUnavailableError."""
        new_id = case_id(event.answer_id, reason)
        for _ in range(_ATTEMPTS):
            if await self.store.get(DeskKind.CASE, new_id) is not None:
                return None
            with suppress(ConflictError):  # another process opened a case of the question or the agent
                return await self._put(event, reason, new_id)
        raise RecordsUnavailableError("Other processes open cases of the same question or agent. Retry.")

    async def _put(self, event: FeedbackEvent, reason: CaseReason, new_id: str) -> None:
        """Add the case in one write with its indexes, unless its agent has too many. Raises ConflictError.

        1. Make the case from the event and the answer's record, which may be gone.
        2. Join the unresolved case of the same question, if its reason allows it.
        3. Otherwise count it for the agent, and give an unanswered question its gap.
        """
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
            if reason is CaseReason.DIFFERENT_VALUES:  # one case for the documents, whatever the question
                same = ["", reason, case.reader_labels, sorted(case.documents)]
            same_hash = hashlib.sha256(json.dumps(same).encode()).hexdigest()
            index = await _Index.read(self.store, f"question-{same_hash[:_HASH_DIGITS]}")
            joined = next(iter(index.case_ids), None)
            case = case.model_copy(update={"same_hash": same_hash, "joined": joined})
            indexes.append(index.with_ids((new_id,), at=case.opened_at))
        if case.joined is not None:
            indexes = []
        elif record is not None and reason is not CaseReason.EMERGENCY:
            index = await _Index.read(self.store, _index_of_agent(record.agent), most=self.most_of_agent)
            if len(index.case_ids) >= self.most_of_agent:
                _log.warning("case_not_opened", answer_id=event.answer_id, open_cases=len(index.case_ids))
                return
            indexes.append(index.with_ids((*index.case_ids, new_id), at=case.opened_at))
        if question is not None and reason is CaseReason.UNANSWERED and case.joined is None:
            case = case.model_copy(update={"gap": gap_id(question)})
        first = first_revision(DeskKind.CASE, new_id, case, by=INTAKE, at=case.opened_at)
        await self.store.put(first, *indexes)


async def refuse_above(most: int, *, store: StoredDesk, verdict: Verdict, answer_id: str, agent: str) -> None:
    """Raise OpenCasesError where a bad verdict of this agent would open a case above ``most``.

    A verdict is admitted where its answer has a case already, and while the desk's store is unavailable:
    ``OpenCases`` applies the same limit.
    """
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
            f" {most} ([desk] open_cases_per_agent). Mark it again when reviewers have closed some."
        )


class CaseIndex(PublicModel):
    """Body of a desk item of the kind ``case_index``."""

    case_ids: tuple[RecordId, ...]


@dataclass(frozen=True, slots=True)
class _Index:
    """The unresolved cases of one question or of one agent, as read."""

    item_id: str
    revision: int
    """The newest revision of the item; 0 if it is not stored yet."""
    case_ids: tuple[str, ...]
    """The oldest first."""

    @classmethod
    async def read(cls, store: StoredDesk, item_id: str, *, most: int = 1) -> Self:
        """Read an index. Closed cases are left out only if it has ``most`` or more ids, which costs a read of
        each case; with fewer they do not matter."""
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
        """Return the item's next revision, not stored: the store refuses it if another one was written
        since."""
        body = CaseIndex(case_ids=case_ids)
        first = first_revision(DeskKind.CASE_INDEX, self.item_id, body, by=INTAKE, at=at)
        return first.model_copy(update={"revision": self.revision + 1})


def _index_of_agent(agent: str) -> str:
    return f"agent-{hashlib.sha256(agent.encode()).hexdigest()[:_HASH_DIGITS]}"


def _reasons(event: FeedbackEvent) -> Iterator[CaseReason]:
    """Yield the reasons for which an event opens cases; none for most events."""
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
        case FeedbackKind.EMERGENCY:
            yield CaseReason.EMERGENCY
        case FeedbackKind.DIFFERENT_VALUES:
            yield CaseReason.DIFFERENT_VALUES
        case _:
            return
