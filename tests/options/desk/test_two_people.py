"""An act by the word of two people."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from assistant.domain.desk import ActOfTwo, ActRequest, DeskKind, first_revision
from assistant.domain.documents import contents_digest
from assistant.domain.errors import ConflictError, ForbiddenError, SecondPersonNeededError
from assistant.stores.desk import HOLDS_FOR, WAITS_FOR, Contents, StoredDesk, TwoPeople
from tests.contracts import samples
from tests.options.desk.desk import SteppedDesk
from tests.stage.tenant_stores import SteppedClock, TenantStores


class Room:
    """A desk at which people ask."""

    def __init__(self, store: StoredDesk, clock: SteppedClock) -> None:
        self.clock, self.store = clock, store
        self.two_people = TwoPeople(self.store, is_needed=True)
        self.there = {"a": "1"}

    async def contents(self) -> Contents:
        return Contents.of(self.there, f"{len(self.there)} things")

    async def admit(
        self, by: str, act: ActOfTwo = "export", subject: str = "desk", named: str | None = None
    ) -> None:
        await self.two_people.admit(act, subject, by=by, contents=self.contents, named=named)

    async def asks(self, by: str, act: ActOfTwo = "export", subject: str = "desk") -> str:
        """Return the code of what refused it; "" where it may run. The person looked at what is there."""
        try:
            await self.admit(by, act, subject, contents_digest(self.there))
        except (ConflictError, ForbiddenError) as refusal:
            return refusal.code
        return ""


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    clock = SteppedClock(samples.NOON)
    stores = TenantStores(tmp_path)
    yield Room(SteppedDesk(stores, clock), clock)
    await stores.close()


@pytest.mark.parametrize(
    ("people", "codes"),
    [
        (["rita"], ["second_person_needed"]),
        (["rita", "ruth"], ["second_person_needed", ""]),
        (["rita", "rita", "ruth"], ["second_person_needed", "forbidden", ""]),
        (["rita", "ruth", "ruth"], ["second_person_needed", "", ""]),
        (["rita", "ruth", "rita", "ruth"], ["second_person_needed", "", "second_person_needed", ""]),
    ],
    ids=["one", "another", "the same twice", "the second repeats", "each time anew"],
)
async def test_the_second_person_s_word_lets_it_run(
    room: Room, people: Sequence[str], codes: Sequence[str]
) -> None:
    assert [await room.asks(by) for by in people] == codes


async def test_a_request_is_of_one_act_and_one_subject(room: Room) -> None:
    await room.asks("rita", "withdraw_source", "wiki")
    assert await room.asks("ruth", "withdraw_source", "handbook") == "second_person_needed"
    assert await room.asks("ruth", "erase", "wiki") == "second_person_needed"


async def test_a_request_and_a_confirmation_hold_for_their_time(room: Room) -> None:
    await room.asks("rita")
    room.clock.step(WAITS_FOR.total_seconds())
    assert await room.asks("ruth") == "second_person_needed"
    assert await room.asks("rita") == ""
    room.clock.step(HOLDS_FOR.total_seconds())
    assert await room.asks("rita") == "second_person_needed"


async def test_who_asked_and_who_confirmed_stays_recorded(room: Room) -> None:
    for by in ("rita", "ruth"):
        await room.asks(by)
    (item,) = await room.store.list(DeskKind.ACT_REQUEST)
    history = await room.store.history(DeskKind.ACT_REQUEST, item.item_id)
    bodies = [ActRequest.model_validate_json(one.body) for one in history]
    assert [(one.by, body.confirmed_by) for one, body in zip(history, bodies, strict=True)] == [
        ("rita", None),
        ("ruth", "ruth"),
    ]


async def test_of_two_at_once_none_runs_alone(room: Room) -> None:
    codes = await asyncio.gather(*(room.asks(by) for by in ("rita", "ruth")))
    assert codes.count("") <= 1
    assert "second_person_needed" in codes


async def test_nobody_confirms_what_they_did_not_look_at(room: Room) -> None:
    with pytest.raises(SecondPersonNeededError, match=rf"1 things.*contents {contents_digest(room.there)}"):
        await room.admit("rita")
    with pytest.raises(SecondPersonNeededError, match=r"rita asked for export of desk: 1 things\."):
        await room.admit("ruth")
    assert await room.asks("ruth") == ""


async def test_a_confirmed_act_is_repeated_on_its_contents_alone(room: Room) -> None:
    for by in ("rita", "ruth"):
        await room.asks(by)
    room.there["a"] = "2"
    assert await room.asks("ruth") == "second_person_needed"


async def test_a_request_of_the_release_before_named_no_contents_and_is_made_again(room: Room) -> None:
    item_id = f"export-{hashlib.sha256(b'desk').hexdigest()[:48]}"
    request = ActRequest(act="export", subject="desk", asked_by="rita")
    await room.store.put(
        first_revision(DeskKind.ACT_REQUEST, item_id, request, by="rita", at=room.clock.now())
    )
    assert await room.asks("ruth") == "second_person_needed"
