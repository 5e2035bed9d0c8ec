"""A tenant whose signals are moved: embedded stores in a folder, and fakes of what is beside them."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from assistant.answer.excerpts import Excerpts, Place
from assistant.domain.answers import (
    AnswerRecord,
    CandidateDocument,
    Certainty,
    FinishReason,
    Mode,
    QuotedUnit,
    Sentence,
    ShownAs,
    Support,
)
from assistant.domain.clock import Clock, SystemClock
from assistant.domain.documents import ParsedDocument, Section, Span, Unit, UnitKind
from assistant.options.desk.events import FeedbackEvent, ReplacedText
from assistant.options.desk.feedback_store import FEEDBACK_FILES, StoredFeedback
from assistant.options.desk.mover import OUTBOX, MoveFeedback, MoverStores
from assistant.options.desk.section import DeskSection, FeedbackSection
from assistant.options.desk.signals import Signals
from assistant.stores.records import RECORDS_TABLE, StoredRecords
from assistant.tenant.tenant import TenantConfig
from tests.contracts import samples
from tests.stage.tenant_stores import TenantStores

QUOTE = "Take 5 mg twice a day. Do not take it with alcohol."
SECRET = b"0123456789abcdef0123456789abcdef"


def tenant(feedback: FeedbackSection | None = None, *, name: str = "clinic") -> TenantConfig:
    desk = DeskSection(feedback=feedback or FeedbackSection())
    return TenantConfig.model_validate(
        {"schema_version": 1, "name": name, "display_name": "Clinic", "desk": desk}
    )


def answered(
    answer_id: str = "a1",
    *,
    certainty: Certainty | None = Certainty.ANSWERED,
    minute: int = 0,
    question: str = "How do I take it?",
    follows: str | None = None,
    unsupported: str = "",
) -> AnswerRecord:
    """Return the record of an answer that quoted the document ``refill``, and ranked ``claims`` after it.

    It ends with the ``unsupported`` sentence, if there is one.
    """
    excerpts = Excerpts()
    excerpts.add(QUOTE, Place("refill", "hash", ((0, len(QUOTE)),), ShownAs.UNIT))
    text = excerpts.keep(QUOTE) + (f" {unsupported}" if unsupported else "")
    sentences = [Sentence(index=0, start=0, end=len(QUOTE), citations=(1,), support=Support.SUPPORTED)]
    if unsupported:
        start = len(QUOTE) + 1
        last = Sentence(index=1, start=start, end=len(text), citations=(), support=Support.UNSUPPORTED)
        sentences.append(last)
    candidates = [
        CandidateDocument(document_id=name, score=score, features={"bm25": score})
        for name, score in (("refill", 2.0), ("claims", 1.0), ("hours", 0.5))
    ]
    return samples.answer(answer_id, minute=minute).model_copy(
        update={
            "question": question,
            "labels": ("claims", "adults"),
            "finish_reason": FinishReason.STOP,
            "mode": Mode.QUOTED,
            "certainty": certainty,
            "text": text,
            "sentences": tuple(sentences),
            "passages": (samples.use("refill"), samples.use("claims", n=2)),
            "quoted": (QuotedUnit(document_id="refill", content_hash="hash", span=(0, len(QUOTE))),),
            "excerpts": excerpts.used_in(text),
            "candidates": tuple(candidates),
            "weights": {"ranker": "ab" * 32},
            "follows": follows,
        }
    )


def unanswered(answer_id: str = "a1", *, minute: int = 0, question: str = "When is it open?") -> AnswerRecord:
    nothing = {"finish_reason": FinishReason.NO_EVIDENCE, "text": "", "mode": None, "question": question}
    return samples.answer(answer_id, minute=minute).model_copy(update=nothing)


@dataclass
class Texts:
    """The text of ``refill``, until it is withdrawn."""

    withdrawn: bool = False

    async def is_readable(self, document_id: str, *, labels: frozenset[str]) -> bool:
        return not self.withdrawn

    async def read(
        self, document_id: str, content_hash: str, *, labels: frozenset[str]
    ) -> ParsedDocument | None:
        if self.withdrawn:
            return None
        whole = Span(0, len(QUOTE))
        return ParsedDocument(QUOTE, (Section((), whole),), (Unit(0, UnitKind.SENTENCE, QUOTE, whole, ""),))


class MemberNumbers:
    """Finds member numbers like M123 only."""

    def replace(self, text: str) -> ReplacedText:
        numbers = tuple(re.findall(r"\bM-?\d+\b", text))
        found = {"MEMBER_NUMBER": len(numbers)} if numbers else {}
        return ReplacedText(re.sub(r"\bM-?\d+\b", "<MEMBER_NUMBER>", text), found, numbers)


@dataclass
class Desk:
    """Remembers the groups that it got; raises ``error`` instead."""

    groups: list[list[FeedbackEvent]] = field(default_factory=list[list[FeedbackEvent]])
    error: Exception | None = None

    async def take(self, events: Sequence[FeedbackEvent]) -> None:
        if self.error is not None:
            raise self.error
        self.groups.append(list(events))


class LaterClock(SystemClock):
    """Stands at the samples' noon, two minutes later with each look."""

    def __init__(self) -> None:
        self._looks = 0

    def now(self) -> datetime:
        self._looks += 1
        return samples.NOON + timedelta(minutes=2 * self._looks)


@dataclass
class Moving:
    stores: TenantStores
    feedback: StoredFeedback
    signals: Signals
    texts: Texts = field(default_factory=Texts)
    desk: Desk = field(default_factory=Desk)
    patients: MemberNumbers | None = field(default_factory=MemberNumbers)

    @property
    def move(self) -> MoveFeedback:
        stores = MoverStores(
            outbox=self.stores.get(OUTBOX),
            records=self.stores.records,
            texts=self.texts,
            keys=self.stores.erasure_keys,
            feedback=self.feedback,
            open_cases=self.desk.take,
            patients=self.patients,
        )
        return MoveFeedback(stores, signals=self.signals)

    async def events(self) -> list[FeedbackEvent]:
        since, until = samples.NOON - timedelta(days=1), samples.NOON + timedelta(days=1)
        return [event async for event in self.feedback.read(since, until)]


def feedback_of(stores: TenantStores) -> StoredFeedback:
    return StoredFeedback(stores.get(FEEDBACK_FILES), tenant="clinic", keys=stores.erasure_keys)


@asynccontextmanager
async def moving(
    place: Path, *, feedback: FeedbackSection | None = None, clock: Clock | None = None
) -> AsyncGenerator[Moving]:

    stores = TenantStores(place, embedding_model="model-of-four", dimensions=4)
    stores.records = StoredRecords(stores.get(RECORDS_TABLE), clock=clock or LaterClock())
    try:
        yield Moving(stores, feedback_of(stores), Signals(tenant(feedback), secret=SECRET))
    finally:
        await stores.close()
