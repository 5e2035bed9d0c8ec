"""What the desk does over each table."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from assistant.domain.desk import CASE_LISTS, JOINED, Case, CaseReason, CaseState, DeskItem, DeskKind
from assistant.domain.errors import ConflictError
from assistant.options.desk.intake import OpenCases
from assistant.stores.desk import StoredDesk
from assistant.stores.formats import bodies_of
from assistant.stores.table import Range
from assistant.text.language import language
from tests.contracts import samples
from tests.contracts.twins import Twin
from tests.fakes.clock import SteppedClock
from tests.options.desk.desk_scene import bad_verdict
from tests.unit.release_before import new_case

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ANSWER = DeskKind.APPROVED_ANSWER


def case(state: CaseState = CaseState.OPEN, *, joined: str | None = None) -> str:
    """Return the body of a case."""
    reason = CaseReason.UNANSWERED
    return Case(answer_id="a", reason=reason, opened_at=AT, state=state, joined=joined).model_dump_json()


def item(
    item_id: str = "a", revision: int = 1, *, kind: DeskKind = ANSWER, body: str = "", minute: int = 0
) -> DeskItem:
    at = AT + timedelta(minutes=minute)
    body = body or (case() if kind is DeskKind.CASE else "{}")
    return DeskItem(kind=kind, item_id=item_id, revision=revision, at=at, by="rita", note="why", body=body)


async def test_an_item_comes_back_whole(twin: Twin) -> None:
    await twin.desk.put(item(body='{"text": "é"}'))
    assert await twin.desk.get(ANSWER, "a") == item(body='{"text": "é"}')


async def test_an_unknown_item_is_none_and_has_no_history(twin: Twin) -> None:
    assert await twin.desk.get(ANSWER, "a") is None
    assert await twin.desk.history(ANSWER, "a") == []


async def test_the_newest_revision_counts_and_the_history_has_all(twin: Twin) -> None:
    revisions = [item(revision=number, minute=number) for number in range(1, 12)]
    for one in revisions:
        await twin.desk.put(one)
    assert await twin.desk.get(ANSWER, "a") == revisions[-1]
    assert await twin.desk.history(ANSWER, "a") == revisions


async def test_the_same_revision_again_changes_nothing(twin: Twin) -> None:
    await twin.desk.put(item())
    await twin.desk.put(item(revision=2, body="[2]"))
    before = await twin.desk.version()
    await twin.desk.put(item())
    await twin.desk.put(item(revision=2, body="[2]"))
    assert await twin.desk.version() == before
    assert len(await twin.desk.history(ANSWER, "a")) == 2


@pytest.mark.parametrize("size", [10, 180_000])
async def test_a_rewritten_revision_has_its_new_body_by_every_way(twin: Twin, size: int) -> None:
    secret = "".join(f"{number * 7919 % 1_000_003:x} " for number in range(size))
    await twin.desk.put(item(body=secret))
    await twin.desk.put(item(revision=2, body=secret))
    for number in (1, 2):
        before = await twin.desk.version()
        await twin.desk.rewrite(item(revision=number, body="{}"))
        assert await twin.desk.version() > before
    both = [item(), item(revision=2)]
    assert await twin.desk.history(ANSWER, "a") == both
    assert await twin.desk.get(ANSWER, "a") == both[1]
    assert await twin.desk.list(ANSWER) == [both[1]]
    await twin.desk.rewrite(item("unknown"))
    await twin.desk.rewrite(item(revision=3))
    assert await twin.desk.history(ANSWER, "a") == both
    await twin.desk.put(item(revision=3))


async def test_a_rewrite_of_a_large_body_that_is_sent_again_keeps_it(twin: Twin) -> None:
    large = "".join(f"{number * 7919 % 1_000_003:x} " for number in range(200_000))
    await twin.desk.put(item(body="{}"))
    for _ in range(2):  # the answer to the first was lost
        await twin.desk.rewrite(item(body=large))
    assert await twin.desk.history(ANSWER, "a") == [item(body=large)]


async def test_a_body_that_was_rewritten_after_its_row_was_read_is_read_again(twin: Twin) -> None:
    desk, large = (
        StoredDesk(twin.table),
        "".join(f"{number * 7919 % 1_000_003:x} " for number in range(200_000)),
    )
    await desk.put(item(body=large))
    rows = await twin.table.query(Range.prefixed("item#approved_answer#a", "revision#"))
    assert [DeskItem.model_validate_json(body) for body in await bodies_of(twin.table, rows)] == [
        item(body=large)
    ]
    await desk.rewrite(item(body="{}"))
    assert [DeskItem.model_validate_json(body) for body in await bodies_of(twin.table, rows)] == [
        item(body="{}")
    ]


@pytest.mark.parametrize("revision", [1, 3])
async def test_a_revision_that_does_not_follow_names_the_newest(twin: Twin, revision: int) -> None:
    await twin.desk.put(item())
    with pytest.raises(ConflictError, match="newest revision of approved_answer a is 1"):
        await twin.desk.put(item(revision=revision, body="[other]"))
    assert await twin.desk.history(ANSWER, "a") == [item()]


async def test_a_new_item_begins_with_revision_one(twin: Twin) -> None:
    with pytest.raises(ConflictError, match="is 0"):
        await twin.desk.put(item(revision=2))


async def test_of_two_revisions_at_once_one_is_kept(twin: Twin) -> None:
    await twin.desk.put(item())
    rivals = [item(revision=2, body=f"[{number}]") for number in range(4)]
    results = await asyncio.gather(*(twin.desk.put(one) for one in rivals), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ConflictError"] * 3 + ["NoneType"]
    assert await twin.desk.get(ANSWER, "a") == rivals[results.index(None)]


async def test_puts_of_several_items_at_once_are_all_kept(twin: Twin) -> None:
    await asyncio.gather(*(twin.desk.put(item(f"a{number}")) for number in range(5)))
    assert {one.item_id for one in await twin.desk.list(ANSWER)} == {f"a{number}" for number in range(5)}


@pytest.mark.parametrize("kind", [DeskKind.CASE, ANSWER])
async def test_a_list_has_newest_revisions_the_latest_changed_first(twin: Twin, kind: DeskKind) -> None:
    for minute, name in enumerate("abc"):
        await twin.desk.put(item(name, kind=kind, minute=minute))
    await twin.desk.put(item("a", 2, kind=kind, minute=9))
    found = await twin.desk.list(kind)
    assert [(one.item_id, one.revision) for one in found] == [("a", 2), ("c", 1), ("b", 1)]
    assert [one.item_id for one in await twin.desk.list(kind, limit=2)] == ["a", "c"]


@pytest.mark.parametrize("listed", CASE_LISTS)
async def test_a_list_of_cases_takes_its_limit_of_the_cases_in_it_alone(twin: Twin, listed: str) -> None:
    """Two cases of every other list were changed later, and hide none."""
    others = [name for name in CASE_LISTS if name != listed]
    for minute, name in enumerate((listed, *others, *others)):
        state = CaseState.OPEN if name == JOINED else CaseState(name)
        body = case(state, joined="another" if name == JOINED else None)
        await twin.desk.put(item(f"{name}-{minute}", kind=DeskKind.CASE, body=body, minute=minute))
    (found,) = await twin.desk.list(DeskKind.CASE, listed=listed, limit=1)
    assert found.item_id == f"{listed}-0"


async def test_a_case_that_is_decided_changes_its_list(twin: Twin) -> None:
    await twin.desk.put(item(kind=DeskKind.CASE))
    decided = item(revision=2, kind=DeskKind.CASE, body=case(CaseState.RESOLVED))
    await twin.desk.put(decided)
    assert await twin.desk.list(DeskKind.CASE, listed="open") == []
    assert await twin.desk.list(DeskKind.CASE, listed="resolved") == [decided]


async def test_several_items_are_added_together_or_not_at_all(twin: Twin) -> None:
    both = (item("a", kind=DeskKind.CASE), item("b", kind=DeskKind.CASE_INDEX))
    await twin.desk.put(*both)
    await twin.desk.put(*both)
    with pytest.raises(ConflictError, match="newest revision of case_index b is 1"):
        await twin.desk.put(item("c", kind=DeskKind.CASE), item("b", kind=DeskKind.CASE_INDEX, minute=1))
    assert await twin.desk.get(DeskKind.CASE, "c") is None
    assert await twin.desk.get(DeskKind.CASE_INDEX, "b") == both[1]


async def test_a_list_is_of_one_kind(twin: Twin) -> None:
    await twin.desk.put(item())
    assert await twin.desk.list(DeskKind.GLOSSARY_ENTRY) == []


async def test_the_version_grows_with_every_put_of_what_is_served(twin: Twin) -> None:
    seen = [await twin.desk.version()]
    for one in (item(), item(revision=2), item(kind=DeskKind.ROUTER_RELEASE), item("b")):
        await twin.desk.put(one)
        seen.append(await twin.desk.version())
    assert seen == sorted(set(seen))
    await twin.desk.put(item(kind=DeskKind.CASE), item(kind=DeskKind.CASE_INDEX))
    assert await twin.desk.version() == seen[-1]


async def test_a_body_of_a_megabyte_comes_back_by_every_way(twin: Twin) -> None:
    body = "".join(f"{number * 7919 % 1_000_003:x} " for number in range(180_000))
    large = item(body=body)
    await twin.desk.put(large)
    assert await twin.desk.get(ANSWER, "a") == large
    assert await twin.desk.list(ANSWER) == [large]
    assert await twin.desk.history(ANSWER, "a") == [large]


async def test_another_tenant_sees_nothing(twin: Twin, stranger: Twin) -> None:
    await twin.desk.put(item())
    assert await stranger.desk.get(ANSWER, "a") is None
    assert await stranger.desk.version() == 0


def taking(twin: Twin, *, most_of_agent: int = 100) -> OpenCases:
    clock, words = SteppedClock(AT), language("en")
    return OpenCases(twin.desk, twin.records, language=words, clock=clock, most_of_agent=most_of_agent)


async def test_of_equal_questions_at_once_one_case_is_open(twin: Twin) -> None:
    names = [f"a{number}" for number in range(5)]
    for name in names:
        await twin.records.put_answer(samples.answer(name))
    await asyncio.gather(*(taking(twin).take([bad_verdict(name, "wait")]) for name in names))
    (first,) = await twin.desk.list(DeskKind.CASE, listed="open")
    joined = await twin.desk.list(DeskKind.CASE, listed=JOINED)
    assert [Case.model_validate_json(one.body).joined for one in joined] == [first.item_id] * 4


async def test_at_once_an_agent_opens_no_more_cases_than_the_tenant_allows(twin: Twin) -> None:
    names = [f"a{number}" for number in range(5)]
    for name in names:
        answer = samples.answer(name).model_copy(update={"question": f"How long is wait {name}?"})
        await twin.records.put_answer(answer)
    takers = [taking(twin, most_of_agent=2).take([bad_verdict(name, "wait")]) for name in names]
    await asyncio.gather(*takers)
    assert len(await twin.desk.list(DeskKind.CASE)) == 2


async def test_a_case_comes_back_with_what_the_release_before_does_not_know(twin: Twin) -> None:
    await twin.desk.put(new_case())
    await twin.desk.put(new_case())
    assert await twin.desk.list(DeskKind.CASE) == [new_case()]
