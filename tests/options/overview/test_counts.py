"""The numbers of the manager's page are those of a count by hand. ``OVERVIEW_ACTS`` acts (1000 by default;
``check-overview`` takes 5,000) of a seeded team go through the real stores."""

from __future__ import annotations

import csv
import os
import random
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest

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
from assistant.options.overview.counting import CountDay, CountedDay
from assistant.options.overview.overview import DAYS, Overview
from assistant.stores.records import RECORDS_TABLE, StoredRecords
from tests.contracts import samples
from tests.stage.running_service import RunningService, Scene, running_service
from tests.stage.tenant_stores import SteppedClock

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


ACTS = int(os.environ.get("OVERVIEW_ACTS", "1000"))
SEED = int(os.environ.get("SEED", "41"))
SMALLEST = 3
GONE = "wthdrawn"
MORE = f"[overview]\nsmallest_group = {SMALLEST}\n"


@dataclass
class Page:
    """The page of a running service, and the team whose acts it counts."""

    service: RunningService
    team: Team
    days: list[date]

    @property
    def overview(self) -> Overview:
        return self.service.tenants["clinic"].part(Overview)

    async def read(self, *, accept: str = "application/json", **asked: Any) -> Any:
        params = {"from": str(self.days[0]), "to": str(self.days[-1])} | asked
        headers = self.service.headers("mona", roles=["manager"], accept=accept)
        return await self.service.client.get("/v1/overview", params=params, headers=headers)

    async def shown(self) -> dict[str, Any]:
        response = await self.read()
        assert response.status_code == 200, response.text
        return response.json()

    async def table(self, name: str) -> list[dict[str, str]]:
        response = await self.read(accept="text/csv", table=name)
        assert response.headers["content-type"].startswith("text/csv")
        return list(csv.DictReader(StringIO(response.text)))

    async def count_again(self, *days: date) -> None:
        """The service counted these days when it began: have it count them by today's rules."""
        stored = await self.service.tenants.live["clinic"].stores.of(DAYS)
        for day in days:
            await stored.put(CountedDay(day=day, rules="0/1", counted_at=datetime.now(UTC), total={}))

    def by_hand(self) -> ByHand:
        return count_by_hand(self.team.answers, smallest=SMALLEST, gone=GONE)


@pytest.fixture
async def page(tmp_path: Path) -> AsyncIterator[Page]:
    async with running_service(tmp_path, Scene(more_of_tenants=MORE, gate="", writes=False)) as service:
        names = ("cold", "claims", "refill", "days", GONE)
        texts = [
            await service.know(name, f"{' '.join(WORDS[at:])}: {name}.") for at, name in enumerate(names)
        ]
        states = service.tenants["clinic"].knowledge.states
        old = datetime.now(UTC).date() - timedelta(days=730)
        found = await states.get_many(["cold", "claims", "refill", "days"])
        aged = [status.model_copy(update={"effective_date": old}) for status in found.values()]
        await states.put_many([one.model_copy(update={"review_after": old}) for one in aged[:1]] + aged[1:])
        today = datetime.now(UTC).date()
        days = [today - timedelta(days=back) for back in range(11, -1, -1)]
        clock = SteppedClock(datetime.now(UTC))
        table = await service.tenants.live["clinic"].stores.of(RECORDS_TABLE)
        team = Team(StoredRecords(table, clock=clock), clock, texts, SEED)
        yield Page(service, team, days)


def numbers(row: dict[str, Any]) -> dict[str, int]:
    return {name: int(n) for name, n in row.items() if name not in ("name", "day") and int(n)}


async def compare(page: Page) -> None:
    shown, hand = await page.shown(), page.by_hand()
    assert numbers(shown["total"]) == dict(hand.total)
    assert shown["small_days"] == hand.small_days > 0
    assert shown["uncounted_days"] == 0
    assert {one["day"]: numbers(one) for one in shown["days"] if numbers(one)} == hand.tables["days"]
    for name in ("sources", "desks", "groups"):
        assert {one["name"]: numbers(one) for one in shown[name]} == hand.tables[name], name
        assert {one["name"]: numbers(one) for one in await page.table(name)} == hand.tables[name], name
    assert [numbers(one) for one in await page.table("total")] == [dict(hand.total)]
    in_csv = {one["day"]: numbers(one) for one in await page.table("days")}
    assert {day: counts for day, counts in in_csv.items() if counts} == hand.tables["days"]
    documents = {one["document_id"]: one for one in shown["documents"]}
    assert set(documents) == set(hand.tables["documents"]) - {GONE}
    assert shown["others"] == len(set(hand.tables["documents"]) & {GONE})
    for name, one in documents.items():
        counts = hand.tables["documents"][name]
        answers, edited = counts["questions"], counts["sent_edited"]
        assert (one["answers"], one["edited"], one["marked_bad"]) == (answers, edited, counts["marked_bad"])
        assert one["teachable"] == counts["teachable"]
        assert one["damage"] == round(answers * edited * one["age_days"] / 365.25, 2)
    by_damage = [one["damage"] for one in shown["documents"]]
    assert by_damage == sorted(by_damage, reverse=True)
    assert by_damage[0] > 0
    in_csv = {one["document_id"]: one for one in await page.table("documents")}
    assert {name: int(one["answers"]) for name, one in in_csv.items()} == {
        name: one["answers"] for name, one in documents.items()
    }


@pytest.mark.timeout(900)
async def test_the_numbers_are_those_of_a_count_by_hand(page: Page) -> None:
    today = page.days.pop()
    yesterday = page.days.pop()
    await page.team.work(ACTS * 4 // 5, page.days)
    await page.service.withdraw(GONE)
    await page.count_again(*page.days)
    assert await page.overview.settle() == len(page.days)
    await compare(page)
    # acts on answers of days that are stored, and questions of days that are not
    page.days += [yesterday, today]
    await page.team.work(ACTS // 5, page.days[-2:], late=True)
    await page.count_again(yesterday)
    assert await page.overview.settle() > 1
    await compare(page)


MARKS = ("marked_good", "marked_bad")
DESK, OTHER = "Claims Desk, ext. 4100", "Delivery Desk, ext. 4400"
ALONE: dict[str, Answered] = {  # what dan alone asks on a day; the others ask of "wait", of DESK
    name: Answered("alone", datetime(2026, 3, 2, 9, tzinfo=UTC), "dan", how, document, desk, gap)
    for name, how, document, desk, gap in (
        ("another document", "quoted", "zebra", DESK, None),
        ("a document, and no desk", "quoted", "zebra", None, None),
        ("a question without an answer", "not_found", "wait", DESK, "gaps"),
        ("an approved answer", "approved", "wait", DESK, None),
        ("the same document, and no desk", "quoted", "wait", None, None),
        ("an answer that failed, of another desk", "failed", "wait", OTHER, None),
    )
}


async def counted(service: RunningService, *answers: Answered, smallest: int = SMALLEST) -> CountedDay:
    """Return the numbers of the day of these answers; each agent sends and marks."""
    clock = SteppedClock(datetime(2026, 3, 2, 10, tzinfo=UTC))
    texts = [await service.know(name, f"The {name} is two days.") for name in ("wait", "zebra")]
    tenant = service.tenants.live["clinic"]
    records = StoredRecords(await tenant.stores.of(RECORDS_TABLE), clock=clock)
    team = Team(records, clock, texts, 1)
    for number, one in enumerate(answers):
        await records.put_answer(team._record(one))  # pyright: ignore[reportPrivateUsage]
        sent = Sent(send_id=f"s{number}", text="I look into it.", began_with="nothing")
        await records.append_sent(one.answer_id, sent, agent=one.agent)
        mark = VerdictLabel.BAD if one.answer_id == "alone" else VerdictLabel.GOOD
        verdict = Verdict(verdict_id=f"v{number}", label=mark)
        await records.append_verdict(one.answer_id, verdict, agent=one.agent)
    count = CountDay(records, tenant.now.answering.documents.texts, near_cosine=0.3, smallest_group=smallest)
    return await count(answers[0].at.date(), now=clock.now() + timedelta(days=1))


def shown_of_one(day: CountedDay) -> list[str]:
    """Return where the mark of one agent can be told from those of others: in a row, or as what all rows of a
    table lack of the total."""
    told: list[str] = []
    for table in ("sources", "desks", "documents"):
        rows = list(getattr(day, table).values())
        good, bad = (day.total[mark] - sum(row.get(mark, 0) for row in rows) for mark in MARKS)
        alone = [
            row
            for row in (*rows, {MARKS[0]: good, MARKS[1]: bad})
            if row.get(MARKS[1]) and not row.get(MARKS[0])
        ]
        told += [table] if alone else []
    return told


@pytest.mark.parametrize("name", ALONE)
async def test_what_one_agent_alone_did_is_told_by_nothing(tmp_path: Path, name: str) -> None:
    at, agents = ALONE[name].at, ("ann", "ben", "cem")
    others = [Answered(agent, at, agent, "quoted", "wait", DESK, None) for agent in agents]
    async with running_service(tmp_path / "three") as service:
        day = await counted(service, *others, ALONE[name])
        assert (day.total["marked_bad"], shown_of_one(day)) == (1, [])
    async with running_service(tmp_path / "one") as service:
        assert shown_of_one(await counted(service, *others, ALONE[name], smallest=1)), "the measure sees it"


ONE_AGENT = "[overview]\nsmallest_group = 1\n"


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[RunningService]:
    async with running_service(tmp_path, Scene(more_of_tenants=ONE_AGENT, writes=False)) as opened:
        await opened.know("wait", "The wait is two days.")
        yield opened


async def read(service: RunningService, who: dict[str, str] | None = None, **asked: Any) -> httpx.Response:
    who = who or service.headers("mona", roles=["manager"])
    return await service.client.get("/v1/overview", params=asked, headers=who)


@pytest.mark.parametrize(
    ("role", "status"), [("manager", 200), ("auditor", 200), ("agent", 403), ("reviewer", 403)]
)
async def test_managers_and_auditors_alone_may_read_it(
    service: RunningService, role: str, status: int
) -> None:
    assert (await read(service, service.headers("mona", roles=[role]))).status_code == status


async def test_it_has_what_an_agent_did_and_neither_who_nor_what_was_asked(service: RunningService) -> None:
    answered = await service.answered(agent="ann", question="How long is the wait?")
    await service.send_anyway(answered["answer_id"], "The wait is three days.")
    response = await read(service)
    total = response.json()["total"]
    assert (total["questions"], total["quoted"], total["sent_edited"]) == (1, 1, 1)
    assert not any(word in response.text for word in ("ann", "How long", "three days"))
    assert [one["title"] for one in response.json()["documents"]] == ["Title of wait"]


async def test_a_manager_sees_numbers_of_their_own_tenant_alone(service: RunningService) -> None:
    await service.answered()
    assert (await read(service)).json()["total"]["questions"] == 1
    other = service.headers("mona", tenant="pharmacy", roles=["manager"])
    assert (await read(service, other)).json()["total"]["questions"] == 0


async def test_a_document_that_the_manager_may_not_read_is_counted_and_not_named(
    service: RunningService,
) -> None:
    await service.know("pay", "The pay day is Friday.", labels=("hr",))
    await service.answered(labels=["hr"], question="When is pay day?")
    shown = (await read(service)).json()
    assert "pay" not in [one["document_id"] for one in shown["documents"]]
    named = [(one["document_id"]) for one in shown["documents"]]
    with_label = (await read(service, service.headers("mona", roles=["manager"], labels=["hr"]))).json()
    assert "pay" in [one["document_id"] for one in with_label["documents"]]
    assert shown["others"] - with_label["others"] == len(with_label["documents"]) - len(named) == 1
    assert [one["name"] for one in shown["groups"]] == ["hr"]


async def test_a_title_that_begins_like_a_formula_is_text_in_a_spreadsheet(service: RunningService) -> None:
    states = service.tenants["clinic"].knowledge.states
    status = await states.get("wait")
    assert status is not None
    await states.put_many([status.model_copy(update={"title": "=1+2"})])
    await service.answered()
    who = service.headers("mona", roles=["manager"], accept="text/csv")
    response = await read(service, who, table="documents")
    assert response.headers["content-disposition"].startswith('attachment; filename="documents-')
    header, row = response.text.splitlines()
    assert header.startswith("document_id,title,answers")
    assert row.startswith("wait,'=1+2,1")
