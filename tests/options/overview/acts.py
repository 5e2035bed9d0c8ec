"""Acts of a made-up care team, through the real stores; and their count by a loop that knows nothing of the
option: it reads what was drawn, not what was stored."""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any

from assistant.answer.excerpts import Excerpts, Place
from assistant.domain.answers import (
    AnswerRecord,
    ApprovedUse,
    CandidateDocument,
    FinishReason,
    GateDecision,
    Mode,
    Outcome,
    QuotedUnit,
    Reading,
    Sent,
    Sentence,
    ShownAs,
    Support,
    Verdict,
    VerdictLabel,
)
from assistant.domain.documents import Document
from assistant.stores.records import StoredRecords
from tests.contracts import samples
from tests.fakes.clock import SteppedClock

LABELS = {"ann": ("hr",), "ben": ("hr",), "cem": ("hr",), "dan": ("desk",), "eva": ("desk",), "fay": ()}
DESKS = ("Claims Desk, ext. 4100", "Delivery Desk, ext. 4400", None)
PAUSES_S = (7, 20, 44, 100, 299, 700, 4000)
"""From a question to what is done next."""
WORDS = ("ice", "pack", "melted", "call", "the", "pharmacist", "within", "two", "hours", "and", "keep", "it")


@dataclass
class Answered:
    """What was drawn of one answer, and what was done with it so far."""

    answer_id: str
    at: datetime
    agent: str
    how: str
    document: str
    desk: str | None
    gap: str | None
    marks: list[str] = field(default_factory=list[str])
    sent: str | None = None
    replied: str | None = None
    last: datetime | None = None
    """When the last act was done."""

    @property
    def labels(self) -> tuple[str, ...]:
        return LABELS[self.agent]

    @property
    def has_text(self) -> bool:
        return self.how in ("written", "quoted", "approved")


HOW = ("written", "quoted", "quoted", "approved", "not_found", "failed", "stopped", "thanks")


class Team:
    """Draws acts by a seed and stores them. ``texts`` are documents that the service knows."""

    def __init__(
        self, records: StoredRecords, clock: SteppedClock, texts: Sequence[Document], seed: int
    ) -> None:
        self._records, self._clock, self._texts = records, clock, texts
        self._random = random.Random(seed)  # noqa: S311 (made-up acts)
        self.answers: list[Answered] = []

    async def work(self, acts: int, days: Sequence[date], *, late: bool = False) -> None:
        """Do so many acts: two of five are questions of these days, the others marks and sent texts of all.
        ``late``: they are done now."""
        for number in range(acts):
            if number % 5 < 2:
                await self._ask(self._random.choice(days), f"a{len(self.answers)}")
            else:
                await self._act(f"x{len(self.answers)}-{number}", late=late)

    async def _ask(self, day: date, answer_id: str) -> None:
        draw = self._random
        agents = list(LABELS)[: 2 if day.day % 5 == 0 else 4 if day.day % 5 == 1 else 6]
        begin = datetime(day.year, day.month, day.day, tzinfo=UTC)
        passed_s = int((datetime.now(UTC) - begin).total_seconds())
        at = begin + timedelta(seconds=draw.randrange(min(80_000, passed_s)))
        how = draw.choice(HOW)
        drawn = Answered(
            answer_id,
            at,
            draw.choice(agents),
            how,
            draw.choice(self._texts).document_id,
            draw.choice(DESKS),
            draw.choice(("gaps", "teachable")) if how == "not_found" else None,
        )
        record = self._record(drawn)
        await self._records.begin_answer(record, until=at)
        if how != "failed" or draw.random() < 0.5:  # the others were interrupted
            await self._records.put_answer(record)
        self.answers.append(drawn)

    def _record(self, drawn: Answered) -> AnswerRecord:
        text = next(one for one in self._texts if one.document_id == drawn.document)
        change: dict[str, Any] = {"question": f"Question {drawn.answer_id}?", "escalation": drawn.desk}
        change |= {"asked_at": drawn.at, "finished_at": drawn.at, "agent": drawn.agent}
        change |= {"labels": drawn.labels, "text": "", "conversation_id": drawn.answer_id}
        if drawn.how in ("failed", "stopped"):
            outcome = Outcome.FAILED if drawn.how == "failed" else Outcome.DISCONNECTED
            change |= {"outcome": outcome, "error_code": "deadline"}
        elif drawn.how in ("not_found", "thanks"):
            cosine = 0.1 if drawn.gap == "gaps" else 0.36
            near = CandidateDocument(document_id=drawn.document, score=1.0, features={})
            gate = GateDecision(passed=False, best_cosine=cosine, min_cosine=0.38)
            change |= {"finish_reason": FinishReason.NO_EVIDENCE, "candidates": (near,), "gate": gate}
            change["reading"] = Reading(questions=("q",), asks=drawn.how != "thanks")
        elif drawn.how == "approved":
            change |= {"finish_reason": FinishReason.STOP, "mode": Mode.QUOTED, "text": text.content}
            change["approved"] = (ApprovedUse(item_id="item", revision=1),)
        else:
            excerpts, whole = Excerpts(), (0, len(text.content))
            excerpts.add(text.content, Place(text.document_id, text.content_hash(), (whole,), ShownAs.UNIT))
            shown = excerpts.keep(text.content)
            unit = QuotedUnit(document_id=text.document_id, content_hash=text.content_hash(), span=whole)
            sentence = Sentence(index=0, start=0, end=len(shown), citations=(1,), support=Support.SUPPORTED)
            use = samples.use(text.document_id).model_copy(update={"source": f"of {text.document_id[0]}"})
            change |= {"finish_reason": FinishReason.STOP, "mode": Mode(drawn.how), "text": shown}
            change |= {"sentences": (sentence,), "passages": (use,), "quoted": (unit,)}
            change["excerpts"] = excerpts.used_in(shown)
        return samples.answer(drawn.answer_id).model_copy(update=change)

    async def _act(self, act_id: str, *, late: bool) -> None:
        draw = self._random
        drawn = draw.choice(self.answers)
        if drawn.how == "thanks":
            return
        at = (drawn.last or drawn.at) + timedelta(seconds=draw.choice(PAUSES_S))
        drawn.last = at = max(at, datetime.now(UTC)) if late else at
        self._clock.step((at - self._clock.now()).total_seconds())
        if draw.random() < 0.5 or not drawn.has_text:
            label = draw.choice(("good", "bad"))
            verdict = Verdict(verdict_id=act_id, label=VerdictLabel(label))
            await self._records.append_verdict(drawn.answer_id, verdict, agent=drawn.agent)
            drawn.marks.append(f"marked_{label}")
            return
        drawn.replied = drawn.replied or bucket((at - drawn.at).total_seconds())
        text = next(one.content for one in self._texts if one.document_id == drawn.document)
        drawn.sent = draw.choice(("sent_as_is", "sent_edited", "sent_own"))
        said = f"Dear patient, {text}" if drawn.sent == "sent_edited" else f"**{text.upper()}**"
        sent = Sent(send_id=act_id, text=said)
        if drawn.sent == "sent_own":
            sent = Sent(send_id=act_id, text=said, began_with="nothing")
        elif drawn.how != "approved" and draw.random() < 0.5:
            sent = Sent(send_id=act_id, text=said, began_with="lines", lines=(0,))
        await self._records.append_sent(drawn.answer_id, sent, agent=drawn.agent)


def bucket(seconds: float) -> str:
    for most in (10, 30, 60, 120, 300, 900):
        if seconds <= most:
            return f"replied_{most}_s"
    return "replied_later"


Table = dict[str, Counter[str]]


@dataclass
class ByHand:
    """The count of the drawn answers."""

    total: Counter[str] = field(default_factory=Counter[str])
    small_days: int = 0
    tables: dict[str, Table] = field(default_factory=lambda: defaultdict(lambda: defaultdict(Counter)))


def count_by_hand(answers: Sequence[Answered], *, smallest: int, gone: str) -> ByHand:
    """``gone``: the document whose text cannot be compared any more."""
    hand = ByHand()
    for day in {one.at.date() for one in answers}:
        of_day = [one for one in answers if one.at.date() == day]
        is_small = len({one.agent for one in of_day}) < smallest
        hand.small_days += is_small and any(one.how != "thanks" for one in of_day)
        for one in of_day:
            counts = Counter(names_of(one, is_small=is_small, gone=gone))
            hand.total += counts
            hand.tables["days"][str(day)] += counts
            for table, row_of in ROWS.items():
                row = row_of(one) or ""  # those without a row: joined where they are few, and not shown
                if not (is_small and table == "groups"):
                    joined = joined_rows(of_day, row_of, smallest)
                    for name, n in counts.items():
                        is_joined = row in joined and (table == "groups" or is_conduct(name))
                        shown = joined[row] if is_joined else row
                        if shown and (shown, table) != ("others", "documents"):
                            hand.tables[table][shown][name] += n
            if one.gap == "teachable":
                hand.tables["documents"][one.document]["teachable"] += 1
    return hand


def names_of(one: Answered, *, is_small: bool, gone: str) -> Iterator[str]:
    if one.how == "thanks":
        yield "thanks"
        return
    yield "questions"
    yield one.how
    if one.gap:
        yield from {"gaps", one.gap}
    if is_small:
        return
    if one.marks:
        yield one.marks[-1]
    if one.sent is not None:
        is_gone = one.document == gone and one.how != "approved"
        yield "sent_not_compared" if is_gone and one.sent != "sent_own" else one.sent
        yield str(one.replied)
    elif one.has_text:
        yield "not_sent"


def is_conduct(name: str) -> bool:
    return name.startswith(("sent_", "not_sent", "marked_", "replied_"))


def joined_rows(
    of_day: Sequence[Answered], row_of: Callable[[Answered], str | None], smallest: int
) -> Mapping[str, str | None]:
    """Return the rows of a table that are put together, the smallest until they are enough, each with the
    name of what they are; None where they are not enough."""
    members: dict[str, set[str]] = defaultdict(set)
    for one in of_day:
        members[row_of(one) or ""].add(one.agent)
    joined: list[str] = []
    together = set[str]()
    for name in sorted(members, key=lambda name: (len(members[name]), name)):
        if len(members[name]) < smallest or (joined and len(together) < smallest):
            joined.append(name)
            together |= members[name]
    return dict.fromkeys(joined, "others" if len(together) >= smallest else None)


def _rests_on(one: Answered) -> str | None:
    return one.document if one.how in ("written", "quoted") else None


ROWS: Mapping[str, Callable[[Answered], str | None]] = {
    "desks": lambda one: one.desk,
    "sources": lambda one: None if (document := _rests_on(one)) is None else f"of {document[0]}",
    "documents": _rests_on,
    "groups": lambda one: ", ".join(one.labels) or "no label",
}
