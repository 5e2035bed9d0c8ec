"""What the store of the desk does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from assistant.domain.desk import CASE_LISTS, JOINED, Case, CaseReason, CaseState, DeskItem, DeskKind
from assistant.domain.errors import ConflictError
from assistant.options.desk.intake import OpenCases
from assistant.stores.desk import DESK_TABLE
from assistant.stores.formats import bodies_of
from assistant.stores.table import Range
from assistant.text.language import language
from tests.contracts import samples
from tests.options.desk.desk_scene import bad_verdict
from tests.stage.knowledge import new_case
from tests.stage.tenant_stores import SteppedClock, TenantStores

AT = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ANSWER = DeskKind.APPROVED_ANSWER
LARGE = "".join(f"{number * 7919 % 1_000_003:x} " for number in range(200_000))
"""More than one item of a table holds."""


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


async def test_the_newest_revision_counts_and_the_history_has_all(stores: TenantStores) -> None:
    revisions = [item(revision=number, minute=number) for number in range(1, 12)]
    for one in revisions:
        await stores.desk.put(one)
    assert await stores.desk.get(ANSWER, "a") == revisions[-1]
    assert await stores.desk.history(ANSWER, "a") == revisions


async def test_the_same_revision_again_changes_nothing(stores: TenantStores) -> None:
    await stores.desk.put(item())
    await stores.desk.put(item(revision=2, body="[2]"))
    before = await stores.desk.version()
    await stores.desk.put(item())
    await stores.desk.put(item(revision=2, body="[2]"))
    assert await stores.desk.version() == before
    assert len(await stores.desk.history(ANSWER, "a")) == 2


@pytest.mark.parametrize("secret", ["secret", LARGE], ids=["short", "large"])
async def test_a_rewritten_revision_has_its_new_body_by_every_way(stores: TenantStores, secret: str) -> None:
    await stores.desk.put(item(body=secret))
    large = item(revision=2, body=secret)
    await stores.desk.put(large)
    assert await stores.desk.get(ANSWER, "a") == large
    assert await stores.desk.list(ANSWER) == [large]
    assert (await stores.desk.history(ANSWER, "a"))[-1] == large
    for number in (1, 2):
        before = await stores.desk.version()
        await stores.desk.rewrite(item(revision=number, body="{}"))
        assert await stores.desk.version() > before
    both = [item(), item(revision=2)]
    assert await stores.desk.history(ANSWER, "a") == both
    assert await stores.desk.get(ANSWER, "a") == both[1]
    assert await stores.desk.list(ANSWER) == [both[1]]
    await stores.desk.rewrite(item("unknown"))
    await stores.desk.rewrite(item(revision=3))
    assert await stores.desk.history(ANSWER, "a") == both
    await stores.desk.put(item(revision=3))


async def test_a_body_that_was_rewritten_after_its_row_was_read_is_read_again(stores: TenantStores) -> None:
    table, large = stores.get(DESK_TABLE), item(body=LARGE)
    await stores.desk.put(large)
    rows = await table.query(Range.prefixed("item#approved_answer#a", "revision#"))
    for expected in (large, item(body="{}")):
        assert [DeskItem.model_validate_json(body) for body in await bodies_of(table, rows)] == [expected]
        await stores.desk.rewrite(item(body="{}"))


@pytest.mark.parametrize("revision", [1, 3])
async def test_a_revision_that_does_not_follow_names_the_newest(stores: TenantStores, revision: int) -> None:
    await stores.desk.put(item())
    with pytest.raises(ConflictError, match="newest revision of approved_answer a is 1"):
        await stores.desk.put(item(revision=revision, body="[other]"))
    assert await stores.desk.history(ANSWER, "a") == [item()]


async def test_of_two_revisions_at_once_one_is_kept(stores: TenantStores) -> None:
    await stores.desk.put(item())
    rivals = [item(revision=2, body=f"[{number}]") for number in range(4)]
    results = await asyncio.gather(*(stores.desk.put(one) for one in rivals), return_exceptions=True)
    assert sorted(type(result).__name__ for result in results) == ["ConflictError"] * 3 + ["NoneType"]
    assert await stores.desk.get(ANSWER, "a") == rivals[results.index(None)]


@pytest.mark.parametrize("kind", [DeskKind.CASE, ANSWER])
async def test_a_list_has_newest_revisions_the_latest_changed_first(
    stores: TenantStores, kind: DeskKind
) -> None:
    for minute, name in enumerate("abc"):
        await stores.desk.put(item(name, kind=kind, minute=minute))
    await stores.desk.put(item("a", 2, kind=kind, minute=9))
    found = await stores.desk.list(kind)
    assert [(one.item_id, one.revision) for one in found] == [("a", 2), ("c", 1), ("b", 1)]
    assert [one.item_id for one in await stores.desk.list(kind, limit=2)] == ["a", "c"]


@pytest.mark.parametrize("listed", CASE_LISTS)
async def test_a_list_of_cases_takes_its_limit_of_the_cases_in_it_alone(
    stores: TenantStores, listed: str
) -> None:
    """Two cases of every other list were changed later, and hide none."""
    others = [name for name in CASE_LISTS if name != listed]
    for minute, name in enumerate((listed, *others, *others)):
        state = CaseState.OPEN if name == JOINED else CaseState(name)
        body = case(state, joined="another" if name == JOINED else None)
        await stores.desk.put(item(f"{name}-{minute}", kind=DeskKind.CASE, body=body, minute=minute))
    (found,) = await stores.desk.list(DeskKind.CASE, listed=listed, limit=1)
    assert found.item_id == f"{listed}-0"


async def test_a_case_that_is_decided_changes_its_list(stores: TenantStores) -> None:
    await stores.desk.put(item(kind=DeskKind.CASE))
    decided = item(revision=2, kind=DeskKind.CASE, body=case(CaseState.RESOLVED))
    await stores.desk.put(decided)
    assert await stores.desk.list(DeskKind.CASE, listed="open") == []
    assert await stores.desk.list(DeskKind.CASE, listed="resolved") == [decided]


async def test_several_items_are_added_together_or_not_at_all(stores: TenantStores) -> None:
    both = (item("a", kind=DeskKind.CASE), item("b", kind=DeskKind.CASE_INDEX))
    await stores.desk.put(*both)
    await stores.desk.put(*both)
    with pytest.raises(ConflictError, match="newest revision of case_index b is 1"):
        await stores.desk.put(item("c", kind=DeskKind.CASE), item("b", kind=DeskKind.CASE_INDEX, minute=1))
    assert await stores.desk.get(DeskKind.CASE, "c") is None
    assert await stores.desk.get(DeskKind.CASE_INDEX, "b") == both[1]


async def test_the_version_grows_with_every_put_of_what_is_served(stores: TenantStores) -> None:
    seen = [await stores.desk.version()]
    for one in (item(), item(revision=2), item(kind=DeskKind.ROUTER_RELEASE), item("b")):
        await stores.desk.put(one)
        seen.append(await stores.desk.version())
    assert seen == sorted(set(seen))
    await stores.desk.put(item(kind=DeskKind.CASE), item(kind=DeskKind.CASE_INDEX))
    assert await stores.desk.version() == seen[-1]


def taking(stores: TenantStores, *, most_of_agent: int = 100) -> OpenCases:
    clock, words = SteppedClock(AT), language("en")
    return OpenCases(stores.desk, stores.records, language=words, clock=clock, most_of_agent=most_of_agent)


async def test_of_equal_questions_at_once_one_case_is_open(stores: TenantStores) -> None:
    names = [f"a{number}" for number in range(5)]
    for name in names:
        await stores.records.put_answer(samples.answer(name))
    await asyncio.gather(*(taking(stores).take([bad_verdict(name, "wait")]) for name in names))
    (first,) = await stores.desk.list(DeskKind.CASE, listed="open")
    joined = await stores.desk.list(DeskKind.CASE, listed=JOINED)
    assert [Case.model_validate_json(one.body).joined for one in joined] == [first.item_id] * 4


async def test_at_once_an_agent_opens_no_more_cases_than_the_tenant_allows(stores: TenantStores) -> None:
    names = [f"a{number}" for number in range(5)]
    for name in names:
        answer = samples.answer(name).model_copy(update={"question": f"How long is wait {name}?"})
        await stores.records.put_answer(answer)
    takers = [taking(stores, most_of_agent=2).take([bad_verdict(name, "wait")]) for name in names]
    await asyncio.gather(*takers)
    assert len(await stores.desk.list(DeskKind.CASE)) == 2


async def test_a_case_comes_back_with_what_the_release_before_does_not_know(stores: TenantStores) -> None:
    await stores.desk.put(new_case())
    await stores.desk.put(new_case())
    assert await stores.desk.list(DeskKind.CASE) == [new_case()]
