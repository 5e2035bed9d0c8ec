"""Takes events that want a reviewer to the desk: one case for each answer and reason.

A case of a question that has an unresolved one joins it: the queue shows one line, with a count.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from assistant.answering.ports import AnswerRecords
from assistant.domain.answers import VerdictLabel
from assistant.domain.clock import Clock
from assistant.domain.desk import Case, CaseReason, CaseState, DeskKind
from assistant.domain.feedback import FeedbackEvent, FeedbackKind
from assistant.learning.desk import body_of_item, case_id, open_case
from assistant.learning.ports import DeskStore
from assistant.text.language import Language, fold

INTAKE = "intake"
"""Who makes the first revision of a case."""
_CANDIDATES = 3
"""Documents of an answer that quoted none: as many as an agent would look at."""
_JOINED = (CaseReason.BAD_VERDICT, CaseReason.UNANSWERED)
"""The other reasons are about what one agent sent."""
_CLOSED = (CaseState.RESOLVED, CaseState.DISMISSED)
_COMPARED = 500
"""Cases, the latest changed, among which an unresolved one of the same question is looked for: 0.5 MB."""


def gap_id(question: str) -> str:
    """Return the id of the gap that a question opens: it holds no word of it."""
    return f"gap-{hashlib.sha256(fold(question).encode()).hexdigest()[:24]}"


@dataclass(frozen=True, slots=True)
class OpenCases:
    """``CaseIntake`` over a desk."""

    store: DeskStore
    records: AnswerRecords
    language: Language
    clock: Clock

    async def take(self, events: Sequence[FeedbackEvent]) -> None:
        for event in events:
            for reason in _reasons(event):
                await self._open(event, reason)

    async def _open(self, event: FeedbackEvent, reason: CaseReason) -> None:
        if await self.store.get(DeskKind.CASE, case_id(event.answer_id, reason)) is not None:
            return
        record = await self.records.get_answer(event.answer_id)
        question = None if record is None else record.question
        quoted = [shown.document_id for shown in event.documents if shown.is_quoted]
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
        if question is not None and reason in _JOINED:
            case = await self._joined(case, question)
        if question is not None and reason is CaseReason.UNANSWERED and case.joined is None:
            case = case.model_copy(update={"gap": gap_id(question)})
        await open_case(self.store, case, by=INTAKE)

    async def _joined(self, case: Case, question: str) -> Case:
        """Return the case with what it shares with others, and the unresolved one that it joins."""
        same = [self.language.same_question(question), case.reason, case.reader_labels, case.documents]
        same_hash = hashlib.sha256(json.dumps(same).encode()).hexdigest()
        open_cases = (
            item.item_id
            for item in await self.store.list(DeskKind.CASE, limit=_COMPARED)
            for other in [body_of_item(item, Case)]
            if other.same_hash == same_hash and other.joined is None and other.state not in _CLOSED
        )
        return case.model_copy(update={"same_hash": same_hash, "joined": next(open_cases, None)})


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
        case _:
            return
