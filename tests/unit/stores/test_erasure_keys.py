"""What the keys of erasure do."""

from __future__ import annotations

import asyncio

from assistant.stores.events import KEY_BYTES
from tests.stage.tenant_stores import TenantStores

SUBJECTS = ("document:refill", "patient:0123")


async def test_a_key_is_made_once_and_is_secret(stores: TenantStores) -> None:
    first = await stores.erasure_keys.keys_of(SUBJECTS, create=True)
    assert first.keys() == set(SUBJECTS)
    assert {len(key) for key in first.values()} == {KEY_BYTES}
    assert len(set(first.values())) == 2
    assert await stores.erasure_keys.keys_of(SUBJECTS, create=True) == first
    assert await stores.erasure_keys.keys_of(SUBJECTS[:1], create=False) == {SUBJECTS[0]: first[SUBJECTS[0]]}


async def test_no_key_is_made_for_a_reader(stores: TenantStores) -> None:
    assert await stores.erasure_keys.keys_of(SUBJECTS, create=False) == {}
    assert await stores.erasure_keys.keys_of((), create=True) == {}


async def test_callers_at_the_same_time_get_one_key(stores: TenantStores) -> None:
    found = await asyncio.gather(*(stores.erasure_keys.keys_of(SUBJECTS, create=True) for _ in range(5)))
    assert all(one == found[0] for one in found)


async def test_a_destroyed_key_is_gone_and_never_made_again(stores: TenantStores) -> None:
    await stores.erasure_keys.keys_of(SUBJECTS, create=True)
    assert await stores.erasure_keys.destroy(SUBJECTS[0])
    assert not await stores.erasure_keys.destroy(SUBJECTS[0])
    assert (await stores.erasure_keys.keys_of(SUBJECTS, create=True)).keys() == {SUBJECTS[1]}


async def test_a_key_that_never_was_cannot_be_made_after_its_destruction(stores: TenantStores) -> None:
    assert not await stores.erasure_keys.destroy(SUBJECTS[0])
    assert await stores.erasure_keys.keys_of(SUBJECTS[:1], create=True) == {}


async def test_the_last_destruction_s_time_is_kept(stores: TenantStores) -> None:
    """A document may be added again and withdrawn again: what was kept between goes too."""
    await stores.erasure_keys.destroy(SUBJECTS[0])
    first = await stores.erasure_keys.destroyed(SUBJECTS)
    await stores.erasure_keys.destroy(SUBJECTS[0])
    last = await stores.erasure_keys.destroyed(SUBJECTS)
    assert first.keys() == last.keys() == {SUBJECTS[0]}
    assert last[SUBJECTS[0]] > first[SUBJECTS[0]]
