"""What every Table does."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from assistant.stores.table import ABSENT, Condition, Item, Range, Table, equal, keyed
from assistant.tenant.deployed_names import BY_STATE, BY_TIME
from tests.contracts.conftest import OtherProcess
from tests.contracts.twins import Twin

KEY = ("p", "a")
FIRST = keyed(KEY, number=1, text="µ", at=2.5, is_on=True, names=["x", "y"], packed=b"\x00\xff")


@pytest.fixture
def table(twin: Twin) -> Table:
    return twin.table


def sorts(items: list[Item]) -> list[str]:
    return [item["sk"] for item in items]


async def test_the_store_tells_its_own_time(table: Table) -> None:
    before = datetime.now(UTC)
    told = await table.now()
    second = timedelta(seconds=1)  # DynamoDB tells whole ones
    assert before - second <= told <= datetime.now(UTC) + second


async def test_a_put_replaces_the_whole_item(table: Table) -> None:
    await table.put(FIRST)
    await table.put(keyed(KEY, other="o"))
    assert await table.get(KEY) == keyed(KEY, other="o")


async def test_of_inserts_with_one_key_at_once_one_is_written(table: Table) -> None:
    done = await asyncio.gather(*(table.insert(keyed(KEY, number=number)) for number in range(8)))
    assert sum(done) == 1
    assert await table.get(KEY) == keyed(KEY, number=done.index(True))


async def test_an_item_that_is_there_does_not_hold_up_the_others(table: Table) -> None:
    await table.insert(keyed(("p", "3"), number=3))
    done = await asyncio.gather(*(table.insert(keyed(("p", str(n)))) for n in range(60)))
    assert [number for number, written in enumerate(done) if not written] == [3]
    assert await table.count(Range("p")) == 60
    assert await table.get(("p", "3")) == keyed(("p", "3"), number=3)


@pytest.mark.parametrize(
    ("when", "on_none", "on_first"),
    [
        (ABSENT, True, False),
        (equal(number=1), False, True),
        (equal(number=1, text="other"), False, False),
        (equal(missing="m"), False, False),
        (((("number", "<=", 1),),), False, True),
        (((("number", "<=", 0),),), False, False),
        (((("number", "=", 1), ("text", "<>", "other")),), False, True),
        (((("number", "=", 1), ("text", "<>", "µ")),), False, False),
        ((*ABSENT, *equal(number=1)), True, True),
        ((*ABSENT, *equal(number=2)), True, False),
        ((*equal(number=2), *equal(pk="p")), False, True),
    ],
)
async def test_a_write_is_made_where_its_condition_holds(
    table: Table, when: Condition, on_none: bool, on_first: bool
) -> None:
    other = keyed(KEY, number=9)
    assert await table.put(other, when=when) is on_none
    assert await table.get(KEY) == (other if on_none else None)
    await table.put(FIRST)
    assert await table.change(KEY, put={"more": "m"}, when=when) is on_first
    assert await table.get(KEY) == (FIRST | {"more": "m"} if on_first else FIRST)
    await table.put(FIRST)
    assert await table.put(other, when=when) is on_first
    await table.put(FIRST)
    if when != ABSENT:
        assert (await table.transact([(other, when)])) is on_first


async def test_a_transaction_is_all_or_nothing(table: Table) -> None:
    other = keyed(("p", "b"), number=1)
    assert await table.transact([(FIRST, ABSENT), (other, ABSENT)])
    new = keyed(("p", "c"))
    assert not await table.transact([(new, ABSENT), (other | {"number": 2}, equal(number=7))])
    assert await table.get(("p", "c")) is None
    assert await table.get(("p", "b")) == other


async def test_of_many_puts_each_has_its_own_condition(table: Table) -> None:
    items = [keyed(("p", f"{number:02d}"), number=number) for number in range(30)]
    await table.put_many(items[:15])
    assert await table.put_each([(item, ABSENT) for item in items]) == [False] * 15 + [True] * 15
    assert await table.count(Range("p")) == 30


async def test_many_items_are_put_and_read(table: Table) -> None:
    items = [keyed(("p", f"{number:03d}"), number=number) for number in range(130)]
    await table.put_many(items[:2])
    await table.put_many(items)
    keys = [("p", item["sk"]) for item in items]
    assert await table.get_many([*keys, ("p", "none"), keys[0]]) == dict(zip(keys, items, strict=True))
    assert await table.get_many([]) == {}


async def test_a_range_is_in_order_of_bytes(table: Table) -> None:
    for sort in ("b", "a", "µ", "B", "a#2", "a#1", "𐀀"):
        await table.put(keyed(("p", sort)))
    await table.put(keyed(("q", "a")))
    assert sorts(await table.query(Range("p"))) == ["B", "a", "a#1", "a#2", "b", "µ", "𐀀"]
    assert sorts(await table.query(Range("p", "a#1", "b"))) == ["a#1", "a#2", "b"]
    assert sorts(await table.query(Range.prefixed("p", "a#"))) == ["a#1", "a#2"]
    assert sorts(await table.query(Range("p", "a", "b"), descending=True, limit=2)) == ["b", "a#2"]
    assert sorts(await table.query(Range("p"), limit=0 + 1)) == ["B"]
    assert await table.count(Range("p", "a", "b")) == 4
    assert await table.query(Range("none")) == []


async def test_an_index_lists_items_by_its_own_keys(table: Table) -> None:
    for sort, listed_at in (("a", "3"), ("b", "1"), ("c", "2")):
        await table.put(keyed(("p", sort), listed="here", listed_at=listed_at, number=1))
    here = Range("here", index=BY_TIME)
    assert sorts(await table.query(here)) == ["b", "c", "a"]
    assert (await table.query(here, limit=1))[0]["number"] == 1
    assert sorts(await table.query(here, descending=True)) == ["a", "c", "b"]
    await table.change(("p", "c"), remove=["listed", "listed_at"])
    await table.change(("p", "a"), put={"listed": "there"}, when=equal(listed="here"))
    assert sorts(await table.query(here)) == ["b"]
    assert sorts(await table.query(Range("there", index=BY_TIME))) == ["a"]


async def test_an_index_of_keys_has_the_sort_key_of_the_item(twin: Twin) -> None:
    table = twin.states_table
    for sort in ("a", "b", "c"):
        await table.put_many([keyed(("p", sort), state="live" if sort != "b" else "failed")])
    assert sorts(await table.query(Range("live", index=BY_STATE))) == ["a", "c"]
    assert await table.count(Range("live", "b", "z", BY_STATE)) == 1


async def test_a_deletion_may_have_a_condition(twin: Twin) -> None:
    table = twin.expiring_table
    await table.put(FIRST)
    assert not await table.delete(KEY, when=equal(number=2))
    assert await table.get(KEY) == FIRST
    assert await table.delete(KEY, when=equal(number=1))
    assert await table.get(KEY) is None
    assert not await table.delete(KEY, when=equal(number=1))


async def test_an_append_only_table_takes_items_out_of_its_index(twin: Twin) -> None:
    table = twin.records_table
    assert await table.insert(keyed(KEY, body="b", listed="here", listed_at="1"))
    assert not await table.insert(keyed(KEY, body="other"))
    await table.change(KEY, remove=["listed", "listed_at"], when=equal(listed="here"))
    assert await table.get(KEY) == keyed(KEY, body="b")


async def test_another_process_s_insert_is_seen(table: Table, elsewhere: OtherProcess) -> None:
    assert await table.get(KEY) is None
    assert await elsewhere("insert_item") is True
    assert not await table.insert(FIRST)
    assert await table.get(KEY) == keyed(KEY, by="elsewhere")


async def test_another_tenant_s_items_are_unknown(twin: Twin, stranger: Twin) -> None:
    for own, other in (
        (twin.table, stranger.table),
        (twin.records_table, stranger.records_table),
        (twin.states_table, stranger.states_table),
        (twin.expiring_table, stranger.expiring_table),
    ):
        assert await own.insert(FIRST)
        assert await other.get(KEY) is None
        assert await other.query(Range("p")) == []
        assert await other.insert(keyed(KEY, number=2))
