"""The numbers of the manager's page are those of a count by hand. ``OVERVIEW_ACTS`` acts (1000 by default;
``check-overview`` takes 5,000) of a seeded team go through the real stores."""

from __future__ import annotations

import csv
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from assistant.options.overview.counting import CountedDay
from assistant.options.overview.overview import DAYS, Overview
from assistant.stores.records import RECORDS_TABLE, StoredRecords
from tests.fakes.clock import SteppedClock
from tests.fakes.running_service import RunningService, Scene, running_service
from tests.options.overview.acts import WORDS, ByHand, Team, count_by_hand

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
