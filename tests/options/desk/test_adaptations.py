"""What a process that serves loads from the review desk, and how it goes on without it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from assistant.answer.adaptations import POLL_EVERY_S, Adaptations
from assistant.domain.desk import ItemState
from assistant.domain.errors import RecordsUnavailableError
from assistant.options.desk.approved import OfferApproved
from tests.fakes.answering import FakeTenant, vector_of
from tests.options.desk.desk import AT, FakeDesk, approved, glossary

QUESTION = "May a child pick up a controlled prescription?"


def adaptations(desk: FakeDesk | None, tenant: FakeTenant | None = None) -> Adaptations:
    return Adaptations(replace(tenant or FakeTenant(), revisions=desk).services)


def matched(made: Adaptations, question: str = QUESTION) -> str | None:
    [offer] = [offer for offer in made.offers if isinstance(offer, OfferApproved)]
    if offer.approved is None:
        return None
    return offer.approved.match(question, vector_of(question), labels=frozenset(), today=AT.date()).reason


async def test_a_live_answer_is_matched_after_the_next_refresh() -> None:
    desk = FakeDesk()
    made = adaptations(desk)
    assert await made.refresh()
    assert matched(made) is None
    desk.add(approved())
    assert await made.refresh()
    assert matched(made) == "equal"


@pytest.mark.parametrize("state", [ItemState.WITHDRAWN, ItemState.SUSPENDED, ItemState.PROPOSED])
async def test_an_answer_that_is_not_live_any_more_is_gone_after_the_next_refresh(state: ItemState) -> None:
    desk = FakeDesk()
    desk.add(approved())
    made = adaptations(desk)
    await made.refresh()
    desk.add(approved(state=state))
    await made.refresh()
    assert matched(made) is None


async def test_a_live_glossary_entry_joins_the_vocabulary_and_a_withdrawn_one_leaves_it() -> None:
    desk = FakeDesk()
    made = adaptations(desk)
    desk.add(glossary("water pill", "diuretic"))
    await made.refresh()
    assert made.now.vocabulary.expand("her water pill").endswith("\ndiuretic")
    desk.add(glossary("water pill", "diuretic", state=ItemState.WITHDRAWN))
    await made.refresh()
    assert made.now.vocabulary.expand("her water pill") == "her water pill"


async def test_the_last_snapshot_serves_while_the_store_is_away_and_one_line_says_so() -> None:
    desk = FakeDesk()
    desk.add(approved())
    made = adaptations(desk)
    await made.refresh()
    desk.error = RecordsUnavailableError("The desk is away.")
    with capture_logs() as logs:
        assert not await made.refresh()
        assert not await made.refresh()
        assert matched(made) == "equal"
        desk.error = None
        assert await made.refresh()
    assert [entry["event"] for entry in logs] == ["desk_unavailable", "desk_available"]


async def test_an_item_that_this_release_cannot_read_is_left_out_and_the_others_serve() -> None:
    desk = FakeDesk()
    desk.add(approved(), item_id="one")
    desk.add(approved("How long is a refill held?"), item_id="two")
    desk.items[1] = desk.items[1].model_copy(update={"body": '{"from": "tomorrow"}'})
    made = adaptations(desk)
    assert await made.refresh()
    assert matched(made) == "equal"


async def test_the_pauses_grow_while_the_store_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 5:
            raise asyncio.CancelledError

    monkeypatch.setattr("assistant.answer.adaptations.asyncio.sleep", pause)
    desk = FakeDesk(error=RecordsUnavailableError("Away."))
    with pytest.raises(asyncio.CancelledError):
        await adaptations(desk).run()
    assert pauses == [2 * POLL_EVERY_S, 4 * POLL_EVERY_S, 15.0, 15.0, 15.0]
