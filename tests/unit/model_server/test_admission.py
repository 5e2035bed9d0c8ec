"""How many generations run and wait."""

from __future__ import annotations

import asyncio

import pytest

from assistant.domain.errors import OverloadedError
from assistant.model_server.generation import Admission


class Holders:
    """Tasks that hold a slot until they are let go, in the order in which they got it."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.entered: list[str] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._let_go: dict[str, asyncio.Event] = {}

    async def begin(self, name: str) -> asyncio.Task[None]:
        self._let_go[name] = asyncio.Event()
        self._tasks[name] = asyncio.create_task(self._hold(name))
        await settle()
        return self._tasks[name]

    async def end(self, name: str) -> None:
        self._let_go[name].set()
        await self._tasks[name]
        await settle()

    async def _hold(self, name: str) -> None:
        async with self._admission.slot():
            self.entered.append(name)
            await self._let_go[name].wait()


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_slots_run_and_the_rest_wait_in_order() -> None:
    holders = Holders(Admission(slots=2, queue_size=2))
    for name in "abcd":
        await holders.begin(name)
    assert holders.entered == ["a", "b"]

    await holders.end("b")
    await holders.end("a")

    assert holders.entered == ["a", "b", "c", "d"]


async def test_without_a_queue_only_slots_are_given() -> None:
    holders = Holders(Admission(slots=1, queue_size=0))
    await holders.begin("a")

    with pytest.raises(OverloadedError):
        await (await holders.begin("b"))
    await holders.end("a")
    await holders.begin("c")

    assert holders.entered == ["a", "c"]


async def test_a_holder_that_is_cancelled_frees_its_slot() -> None:
    holders = Holders(Admission(slots=1, queue_size=1))
    holding = await holders.begin("a")
    await holders.begin("b")

    holding.cancel()
    await settle()

    assert holders.entered == ["a", "b"]
