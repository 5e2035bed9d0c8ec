"""What one agent alone did: no row of the manager's page tells it, and no difference of its numbers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from assistant.domain.answers import Sent, Verdict, VerdictLabel
from assistant.options.overview.counting import CountDay, CountedDay
from assistant.stores.records import RECORDS_TABLE, StoredRecords
from tests.fakes.clock import SteppedClock
from tests.fakes.running_service import RunningService, running_service
from tests.options.overview.acts import Answered, Team

SMALLEST, MARKS = 3, ("marked_good", "marked_bad")
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
