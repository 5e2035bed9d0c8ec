"""What every place of words does."""

from __future__ import annotations

import pytest

from assistant.domain.errors import DependencyError
from tests.contracts.twins import Twin


async def test_a_word_that_nobody_said_is_none(twin: Twin) -> None:
    assert await twin.words.read("orders") is None


async def test_the_last_word_is_read_by_its_name(twin: Twin) -> None:
    for word in ("off", "paused\n"):
        await twin.set_word("orders", word)
    await twin.set_word("stores", "on")
    assert [await twin.words.read(name) for name in ("orders", "stores")] == [b"paused\n", b"on"]


async def test_a_word_that_cannot_be_read_is_an_error_and_not_none(twin: Twin) -> None:
    await twin.set_word("orders", "off")
    async with twin.unreadable_words():
        with pytest.raises(DependencyError):
            await twin.words.read("orders")
    assert await twin.words.read("orders") == b"off"


async def test_another_tenant_s_word_is_another(twin: Twin, stranger: Twin) -> None:
    await twin.set_word("orders", "off")
    assert await stranger.words.read("orders") is None
