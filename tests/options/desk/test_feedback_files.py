"""What the feedback store does."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

import orjson
import pytest

from assistant.domain.errors import InvalidRequestError
from assistant.options.desk.events import FeedbackEvent
from assistant.options.desk.feedback_store import StoredFeedback
from assistant.stores.events import StoredErasureKeys
from tests.contracts import samples
from tests.fakes.tenant_stores import TenantStores
from tests.options.desk.samples import event, sealed_text

DAY = timedelta(days=1)
EVENTS = "events/dt=2026-11-20/"


@dataclass
class Tombstones(StoredErasureKeys):
    """Keys of erasure of which some are destroyed."""

    at: dict[str, datetime] = field(default_factory=dict[str, datetime])

    async def keys_of(self, subjects: Collection[str], *, create: bool) -> dict[str, bytes]:
        raise AssertionError("a reader needs no keys")

    async def destroy(self, subject: str) -> bool:
        raise AssertionError("a reader destroys nothing")

    async def destroyed(self, subjects: Collection[str]) -> dict[str, datetime]:
        return {subject: self.at[subject] for subject in subjects if subject in self.at}


def store_of(stores: TenantStores, keys: Tombstones | None = None) -> StoredFeedback:
    return StoredFeedback(stores.feedback_files, tenant="clinic", keys=keys or Tombstones())


async def read(
    store: StoredFeedback, *, since: datetime = samples.NOON - DAY, until: datetime = samples.NOON + DAY
) -> list[FeedbackEvent]:
    return [event async for event in store.read(since, until)]


async def keys_in(stores: TenantStores, prefix: str) -> list[str]:
    return sorted([found.key async for found in stores.feedback_files.list(prefix)])


async def test_events_come_back_by_time_whatever_group_they_came_in(stores: TenantStores) -> None:
    store = store_of(stores)
    late, first, last = (
        event(1, minute=5),
        event(2),
        event(3, minute=24 * 60 - 1),
    )
    await store.append([last, first], [])
    await store.append([late], [])
    assert await read(store) == [first, late, last]


async def test_an_event_that_came_twice_is_read_once(stores: TenantStores) -> None:
    store = store_of(stores)
    await store.append([event(1), event(2)], [])
    await store.append([event(1)], [])
    await store.append([event(1).model_copy(update={"at": samples.NOON + DAY / 2})], [])
    assert await read(store) == [event(1), event(2)]


async def test_the_same_group_again_is_one_file(stores: TenantStores) -> None:
    store = store_of(stores)
    for _ in range(2):
        await store.append([event(1), event(2)], [sealed_text()])
    assert len(await keys_in(stores, EVENTS)) == 1
    assert await keys_in(stores, "texts/") == [f"texts/00/{1:064x}.json"]


async def test_events_are_filed_by_the_day_of_the_act(stores: TenantStores) -> None:
    await store_of(stores).append([event(1), event(2, minute=12 * 60)], [])
    assert len(await keys_in(stores, EVENTS)) == len(await keys_in(stores, "events/dt=2026-11-21/")) == 1


async def test_only_the_time_asked_for_is_read(stores: TenantStores) -> None:
    store = store_of(stores)
    await store.append([event(n, minute=n) for n in range(4)], [])
    since, until = samples.NOON + timedelta(minutes=1), samples.NOON + timedelta(minutes=3)
    assert await read(store, since=since, until=until) == [event(n, minute=n) for n in (1, 2)]


async def test_sealed_texts_come_back_by_id(stores: TenantStores) -> None:
    store = store_of(stores)
    await store.append([], [sealed_text(1), sealed_text(2, subjects=("patient:ab",))])
    one, other = sealed_text(1).text_id, sealed_text(2).text_id
    assert await store.texts([one, "f" * 64]) == {one: sealed_text(1)}
    assert await store.texts_about("patient:ab") == [other]


def line(**changed: object) -> bytes:
    return orjson.dumps(event().model_dump(mode="json") | changed)


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (line(schema_version=2), "schema_version 2"),
        (line(tenant="pharmacy"), "is of the tenant pharmacy, not of clinic"),
        (line()[:-20], "line is damaged"),
        (b"[]", "line is no event"),
        (line(kind="guess"), "kind"),
    ],
)
async def test_a_line_that_is_not_ours_to_read_is_refused_by_name(
    stores: TenantStores, second: bytes, said: str
) -> None:
    await stores.feedback_files.add(f"{EVENTS}abc.jsonl", line() + b"\n" + second + b"\n")
    with pytest.raises(InvalidRequestError) as raised:
        await read(store_of(stores))
    assert raised.value.message.startswith(f"{EVENTS}abc.jsonl, line 2: ")
    assert said in raised.value.message


async def test_a_withdrawn_document_s_signals_go_with_it(stores: TenantStores) -> None:
    store = store_of(stores, Tombstones({"document:gone": samples.NOON + DAY}))
    about_it, beside_it = (
        event(1, shown=("gone", "refill")),
        event(2, shown=("refill", "gone")),
    )
    opened = event(3).model_copy(update={"opened": "gone"})
    await store.append([about_it, beside_it, opened], [])
    (left,) = await read(store)
    assert left == beside_it.model_copy(update={"documents": beside_it.documents[:1]})


async def test_a_document_that_was_added_again_has_signals_again(stores: TenantStores) -> None:
    store = store_of(stores, Tombstones({"document:refill": samples.NOON + timedelta(minutes=5)}))
    before, after = event(1), event(2, minute=10)
    await store.append([before, after], [])
    assert await read(store) == [after]


async def test_another_tenant_s_feedback_is_unknown(stores: TenantStores, tmp_path: Path) -> None:
    stranger = TenantStores(tmp_path / "stranger")
    await store_of(stores).append([event()], [sealed_text()])
    assert await read(store_of(stranger)) == []
    assert await store_of(stranger).texts([sealed_text().text_id]) == {}
    await stranger.close()
