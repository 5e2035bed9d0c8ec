"""What happens to live items when documents change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest

from assistant.domain.desk import (
    Case,
    CaseReason,
    CaseState,
    DeskKind,
    GlossaryEntry,
    ItemState,
    body_of_item,
    case_id,
)
from assistant.domain.documents import Document, DocumentState, ParsedDocument
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.domain.identity import Identity
from assistant.options.desk.bodies import (
    CaseResolution,
    DeskDocument,
    NewApprovedAnswer,
    NewGlossaryEntry,
    StateChange,
)
from assistant.options.desk.cases import CaseFilter, ReviewDesk, StoredCase
from assistant.options.desk.items import Resolutions
from assistant.options.desk.upkeep import ReviewDates
from tests.contracts import samples
from tests.options.desk.desk import RITA, Desk, SteppedDesk, desk_of
from tests.options.desk.desk_scene import bad_verdict
from tests.stage.tenant_stores import SteppedClock

TOMORROW = samples.NOON.date() + timedelta(days=1)


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk with the document ``wait``."""
    async with desk_of(tmp_path) as opened:
        await opened.know()
        yield opened


async def approve(desk: Desk, answer_id: str = "a1") -> None:
    """Make an approved answer bound to ``wait``, which expires in a year."""
    await desk.answered(answer_id)
    await desk.took(bad_verdict(answer_id, "wait"))
    answer = NewApprovedAnswer(
        questions=("How long is the wait?",),
        text="Three days.",
        expires_on=TOMORROW + timedelta(days=365),
        document_ids=("wait",),
    )
    asked = CaseResolution(revision=1, kind="approved_answer", approved_answer=answer)
    await desk.resolutions.resolve(case_id(answer_id, CaseReason.BAD_VERDICT), asked, identity=RITA)


async def test_new_content_suspends_the_answer_and_opens_a_case(desk: Desk) -> None:
    await approve(desk)
    await desk.know(text="The wait is five days.")
    await desk.upkeep()()
    (answer,) = await desk.approved()
    assert answer.state is ItemState.SUSPENDED
    assert "wait has another content" in answer.suspended_because
    case = await desk.case("a1", CaseReason.ANSWER_SUSPENDED)
    assert case is not None
    assert (case.state, case.documents) == (CaseState.OPEN, ("wait",))


@pytest.mark.parametrize("state", [DocumentState.WITHDRAWN, DocumentState.WITHHELD])
async def test_a_source_that_is_gone_suspends_the_answer(desk: Desk, state: DocumentState) -> None:
    await approve(desk)
    await desk.move("wait", state)
    await desk.upkeep()()
    (answer,) = await desk.approved()
    assert answer.suspended_because == f"Its source wait is {state.value}."


async def test_an_expired_answer_is_suspended_on_its_day(desk: Desk) -> None:
    await approve(desk)
    upkeep = desk.upkeep()
    desk.clock.step(timedelta(days=365).total_seconds())
    await upkeep()
    assert [one.state for one in await desk.approved()] == [ItemState.LIVE]
    desk.clock.step(timedelta(days=1).total_seconds())
    await upkeep()
    (answer,) = await desk.approved()
    assert answer.suspended_because.startswith("It expired on ")


async def test_two_processes_suspend_it_once(desk: Desk) -> None:
    await approve(desk)
    first, second = desk.upkeep(), desk.upkeep()
    await first()
    await second()
    await desk.know(text="The wait is five days.")
    await first()
    await second()
    (item,) = await desk.services.store.list(DeskKind.APPROVED_ANSWER)
    assert item.revision == 2


async def test_a_suspended_answer_is_made_live_again_on_the_new_content(desk: Desk) -> None:
    await approve(desk)
    document = await desk.know(text="The wait is five days.")
    await desk.upkeep()()
    (item,) = await desk.services.store.list(DeskKind.APPROVED_ANSWER)
    await desk.items.set_state(item, StateChange(revision=2, state="live"), identity=RITA)
    await desk.upkeep()()
    (answer,) = await desk.approved()
    assert (answer.state, answer.suspended_because) == (ItemState.LIVE, "")
    assert answer.sources[0].content_hash == document.content_hash()


async def test_an_expired_answer_is_not_made_live_again(desk: Desk) -> None:
    await approve(desk)
    desk.clock.step(timedelta(days=400).total_seconds())
    await desk.upkeep()()
    (item,) = await desk.services.store.list(DeskKind.APPROVED_ANSWER)
    with pytest.raises(InvalidRequestError, match="It expired on"):
        await desk.items.set_state(item, StateChange(revision=2, state="live"), identity=RITA)


class RivalFirst(ReviewDesk):
    """Another reviewer dismisses each case just before it is decided."""

    async def put_case(self, stored: StoredCase, update: Mapping[str, object], *, by: str, note: str) -> None:
        await super().put_case(stored, {"state": CaseState.DISMISSED}, by="ruth", note="first")
        await super().put_case(stored, update, by=by, note=note)


async def test_a_decision_that_lost_its_case_takes_its_item_back(desk: Desk) -> None:
    await desk.answered("a1")
    await desk.took(bad_verdict("a1", "wait"))
    name = case_id("a1", CaseReason.BAD_VERDICT)
    entry = NewGlossaryEntry(said="jab", means="vaccination")
    asked = CaseResolution(revision=1, kind="glossary_entry", glossary_entry=entry)
    slow = Resolutions(RivalFirst(desk.services), desk.items)
    with pytest.raises(ConflictError):
        await slow.resolve(name, asked, identity=RITA)
    (item,) = await desk.services.store.list(DeskKind.GLOSSARY_ENTRY)
    assert body_of_item(item, GlossaryEntry).state is ItemState.WITHDRAWN


async def test_a_passed_review_date_is_one_case_until_the_document_has_another(desk: Desk) -> None:
    today = samples.NOON.date()
    upkeep = ReviewDates(desk.services)

    async def cases() -> list[Case]:
        items = await desk.services.store.list(DeskKind.CASE)
        return [body_of_item(item, Case) for item in items]

    async def dated(day: date) -> None:
        status = await desk.stores.states.get("wait")
        assert status is not None
        dated = status.model_copy(update={"review_after": day, "labels": ("hr",)})
        await desk.stores.states.put_many([dated])
        desk.clock.step(3600)
        await upkeep()

    await dated(today + timedelta(days=2))
    assert await cases() == []
    await dated(today)
    await dated(today)
    (case,) = await cases()
    assert (case.reason, case.state, case.documents) == (CaseReason.REVIEW_DUE, CaseState.OPEN, ("wait",))
    lines, _ = await desk.queue.page(CaseFilter(), identity=RITA)
    assert [line.documents for line in lines] == [(DeskDocument(document_id="wait", title="wait"),)]
    unlabelled = Identity("clinic", "rolf", RITA.roles, frozenset())
    assert await desk.queue.page(CaseFilter(), identity=unlabelled) == ([], None)
    await dated(today + timedelta(days=90))
    (case,) = await cases()
    assert (case.state, case.resolved_by) == (CaseState.RESOLVED, "desk")


def leave_behind(desk: Desk) -> SteppedClock:
    """Have the store keep the time while the process's clock is moved."""
    store, clock = desk.services.store, SteppedClock(samples.NOON)
    assert isinstance(store, SteppedDesk)
    store.clock = clock
    return clock


async def test_a_process_whose_clock_is_ahead_suspends_nothing_and_opens_no_review(desk: Desk) -> None:
    await approve(desk)
    status = await desk.stores.states.get("wait")
    assert status is not None
    await desk.stores.states.put_many([status.model_copy(update={"review_after": TOMORROW})])
    leave_behind(desk)
    desk.clock.step(400 * 86_400)
    await desk.upkeep()()
    assert [one.state for one in await desk.approved()] == [ItemState.LIVE]
    assert await desk.case("a1", CaseReason.ANSWER_SUSPENDED) is None
    assert len(await desk.services.store.list(DeskKind.CASE)) == 1  # of the bad verdict


async def test_an_answer_that_a_clock_ahead_suspended_is_put_back(desk: Desk) -> None:
    await approve(desk)
    desk.clock.step(400 * 86_400)
    upkeep = desk.upkeep()
    await upkeep()
    (answer,) = await desk.approved()
    assert (answer.state, answer.suspended_because) == (
        ItemState.SUSPENDED,
        f"It expired on {answer.expires_on}.",
    )
    store_clock = leave_behind(desk)
    await upkeep()
    await upkeep()
    (answer,) = await desk.approved()
    assert (answer.state, answer.suspended_because) == (ItemState.LIVE, "")
    case = await desk.case("a1", CaseReason.ANSWER_SUSPENDED)
    assert case is not None
    assert (case.state, case.resolved_by) == (CaseState.RESOLVED, "desk")
    store_clock.step(400 * 86_400)
    await upkeep()
    assert [one.state for one in await desk.approved()] == [ItemState.SUSPENDED]


async def test_a_review_that_a_clock_ahead_opened_is_closed_and_opened_when_it_is_due(desk: Desk) -> None:
    status = await desk.stores.states.get("wait")
    assert status is not None
    await desk.stores.states.put_many([status.model_copy(update={"review_after": TOMORROW})])
    upkeep = ReviewDates(desk.services)
    states: list[CaseState] = []
    desk.clock.step(2 * 86_400)
    await upkeep()
    store_clock = leave_behind(desk)
    for days in (0, 2):
        states += [body_of_item(item, Case).state for item in await desk.services.store.list(DeskKind.CASE)]
        store_clock.step(days * 86_400)
        desk.clock.step(3600)
        await upkeep()
    states += [body_of_item(item, Case).state for item in await desk.services.store.list(DeskKind.CASE)]
    assert states == [CaseState.OPEN, CaseState.RESOLVED, CaseState.OPEN]


async def read(desk: Desk, document: Document, content_hash: str, text: str) -> None:
    """Store a text of ``wait``, as readers made it of a content."""
    parsed = ParsedDocument(text, (), labels=document.labels)
    await desk.stores.documents.put_parsed("wait", content_hash, parsed)


@pytest.mark.parametrize(
    ("words", "label", "state"),
    [
        ("The wait is\ntwo days.", (), ItemState.LIVE),
        ("The wait is 2 days.", (), ItemState.SUSPENDED),
        ("The wait is two days.", ("hr",), ItemState.SUSPENDED),
    ],
)
async def test_a_source_that_is_read_again_suspends_only_where_words_or_labels_changed(
    desk: Desk, words: str, label: tuple[str, ...], state: ItemState
) -> None:
    before = await desk.stores.documents.get("wait")
    assert before is not None
    await approve(desk)
    await read(desk, before, before.content_hash(), "The wait is two days.")
    after = before.model_copy(update={"content": "As today's readers convert it.", "labels": label})
    await read(desk, after, after.content_hash(), words)
    await desk.stores.documents.put(after)
    await desk.index()
    upkeep = desk.upkeep()
    await upkeep()
    await upkeep()
    (answer,) = await desk.approved()
    assert answer.state is state
    assert (answer.sources[0].content_hash == after.content_hash()) == (state is ItemState.LIVE)
    assert (await desk.case("a1", CaseReason.ANSWER_SUSPENDED) is None) == (state is ItemState.LIVE)


async def test_an_answer_that_was_suspended_by_date_stays_so_when_its_source_changed(desk: Desk) -> None:
    await approve(desk)
    desk.clock.step(400 * 86_400)
    await desk.upkeep()()
    leave_behind(desk)
    await desk.know(text="The wait is five days.")
    await desk.upkeep()()
    assert [one.state for one in await desk.approved()] == [ItemState.SUSPENDED]
