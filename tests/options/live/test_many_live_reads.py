"""Many reads of one system at once: load, a token that is rotated, readers who leave, and reads again."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Literal

import orjson
import pytest

from assistant.domain.clock import Deadline
from assistant.domain.live import Caller, ElementProblem, Filled, LiveReadError
from assistant.options.live.stored import SwitchUnreadableError
from tests.options.live.live_scene import (
    CUSTOMER,
    ORDER,
    QUESTION,
    LiveScene,
    answers_well,
    context,
    identity,
    live_scene,
    order,
)
from tests.stage.servers import Exchange
from tests.stage.tenant_stores import SteppedClock

ANSWERS, ELEMENTS = 50, ("status", "refill", "items", "track", "status")
JSON = {"Content_Type": "application/json"}


class Together:
    """A system that answers when ``count`` requests wait for it at the same time."""

    def __init__(self, count: int) -> None:
        self._barrier = asyncio.Barrier(count)

    async def __call__(self, exchange: Exchange) -> None:
        await self._barrier.wait()
        await answers_well(exchange)


class Held:
    """A system that answers when it is released, and notes whose connections were closed before."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()
        self._asked_count = asyncio.Semaphore(0)
        self.released = asyncio.Event()
        self.left = asyncio.Event()

    async def count_of(self, requests: int) -> None:
        """Wait until so many requests have come."""
        for _ in range(requests):
            await self._asked_count.acquire()

    async def __call__(self, exchange: Exchange) -> None:
        self.asked.set()
        self._asked_count.release()
        leaving = asyncio.ensure_future(exchange.peer_left())
        released = asyncio.ensure_future(self.released.wait())
        try:
            await asyncio.wait((leaving, released), return_when=asyncio.FIRST_COMPLETED)
        finally:
            leaving.cancel()
            released.cancel()
        if leaving.done() and not leaving.cancelled():
            self.left.set()
            return
        await answers_well(exchange)


async def fill_all(scene: LiveScene, *, of_one_answer: bool) -> Sequence[Filled | BaseException]:
    """Read five elements in each of fifty answers; of one answer they share their call."""
    reads: list[asyncio.Task[Filled]] = []
    for number in range(ANSWERS):
        shared = Caller(identity(), context(), QUESTION, f"a{number}")
        for name in ELEMENTS:
            caller = shared if of_one_answer else Caller(identity(), context(), QUESTION, f"a{number}")
            deadline = Deadline.after(20.0, clock=scene.clock)
            read = scene.elements.fill(f"orders.{name}", caller, deadline=deadline)
            reads.append(asyncio.create_task(read))
    return await asyncio.gather(*reads, return_exceptions=True)


@pytest.mark.parametrize("of_one_answer", [True, False])
async def test_fifty_answers_of_five_elements_are_read_at_once(of_one_answer: bool) -> None:
    calls = ANSWERS if of_one_answer else ANSWERS * len(ELEMENTS)
    async with live_scene(Together(calls), deadline_s=10.0) as scene:
        found = await fill_all(scene, of_one_answer=of_one_answer)
        assert [one for one in found if not isinstance(one, Filled)] == []
        assert len(scene.server.exchanges) == calls
        assert scene.outcomes == ["ready"] * calls


async def test_a_request_over_the_bound_waits_for_room_and_says_nothing_about_the_system() -> None:
    system = Held()
    async with live_scene(system, deadline_s=10.0) as scene:
        reads = [asyncio.create_task(scene.fill(within_s=20.0)) for _ in range(256)]
        await system.count_of(len(reads))
        for _ in range(10):
            assert "Too many requests" in (await scene.refused(within_s=0.02)).message
        waiting = asyncio.create_task(scene.fill(within_s=20.0))
        system.released.set()
        assert all(filled.data.values for filled in await asyncio.gather(*reads, waiting))
        assert (await scene.fill()).data.values


async def test_a_system_that_got_too_little_time_is_not_given_up() -> None:
    system = Held()
    async with live_scene(system, deadline_s=10.0) as scene:
        for _ in range(8):  # what is left to an element that waited for room among our own
            assert (await scene.refused(within_s=0.02)).problem is ElementProblem.SYSTEM_LATE
        system.released.set()
        assert (await scene.fill()).data.values


async def test_a_system_that_is_late_in_its_own_time_is_given_up() -> None:
    system = Held()
    async with live_scene(system, deadline_s=0.05, clock=SteppedClock()) as scene:
        for _ in range(5):
            assert (await scene.refused()).problem is ElementProblem.SYSTEM_LATE
        assert "several times in a row" in (await scene.refused()).message


# --- a token is rotated ------------------------------------------------------------------------------------
class Rotating:
    """A system that knows one token; ``wait_for`` requests with another one are refused together."""

    def __init__(self, *, is_oauth: bool) -> None:
        self.is_oauth = is_oauth
        self.issued = 0
        self.current = "token-1"
        self.refused_together = asyncio.Barrier(1)
        self.refuses = asyncio.Event()

    async def secret(self) -> bytes:
        if self.is_oauth:
            return b'{"client_id": "care", "client_secret": "s"}'
        return await asyncio.to_thread(self.current.encode)  # reading it takes a moment

    def rotate(self, *, refused_together: int) -> None:
        self.current = f"token-{int(self.current[6:]) + 1}"
        self.refused_together = asyncio.Barrier(refused_together)
        self.refuses.clear()

    async def __call__(self, exchange: Exchange) -> None:
        if exchange.target == "/oauth/token":
            self.issued += 1
            token = {"access_token": self.current, "token_type": "Bearer", "expires_in": 600}
            await exchange.respond(200, orjson.dumps(token), **JSON)
        elif exchange.headers["authorization"] == f"Bearer {self.current}":
            await answers_well(exchange)
        else:
            self.refuses.set()
            await self.refused_together.wait()
            await exchange.respond(401, b"", **JSON)


@pytest.mark.parametrize("auth", ["token", "oauth"])
async def test_reads_that_were_sent_with_the_old_token_all_get_the_new_one(auth: str) -> None:
    system = Rotating(is_oauth=auth == "oauth")
    async with live_scene(system, auth=auth, secret=system.secret, deadline_s=10.0) as scene:
        assert (await scene.fill()).data.values
        for _ in range(3):
            system.rotate(refused_together=10)
            filled = await asyncio.gather(*(scene.fill(within_s=20.0) for _ in range(10)))
            assert all(one.data.values for one in filled)
        assert set(scene.outcomes) == {"ready"}
        assert system.issued == (4 if auth == "oauth" else 0)


async def test_a_late_refusal_of_the_old_token_does_not_clear_the_new_one() -> None:
    system = Rotating(is_oauth=True)
    async with live_scene(system, auth="oauth", secret=system.secret, deadline_s=10.0) as scene:
        assert (await scene.fill()).data.values
        system.rotate(refused_together=2)
        late = asyncio.create_task(scene.fill(within_s=20.0))
        await system.refuses.wait()
        held, system.refused_together = system.refused_together, asyncio.Barrier(1)
        assert (await scene.fill()).data.values  # refused at once, and gets the new token
        await held.wait()
        assert (await late).data.values
        assert system.issued == 2


# --- readers who leave -------------------------------------------------------------------------------------
async def test_a_read_that_nobody_waits_for_any_more_ends_and_the_record_says_so() -> None:
    system = Held()
    async with live_scene(system, deadline_s=10.0) as scene:
        reads = [asyncio.create_task(scene.fill(answer_id="a1", within_s=20.0)) for _ in range(2)]
        await system.asked.wait()
        reads[0].cancel()
        await asyncio.wait([reads[0]])
        assert not system.left.is_set()
        reads[1].cancel()
        async with asyncio.timeout(60):
            await system.left.wait()
            await scene.elements.close()
        assert scene.outcomes == ["cancelled"]
        system.released.set()
        assert (await scene.fill(answer_id="a1")).data.values  # a new call
        assert len(scene.server.exchanges) == 2


async def test_a_read_that_ended_by_the_answer_s_deadline_is_recorded_as_late() -> None:
    system = Held()
    async with live_scene(system, deadline_s=10.0) as scene:
        assert (await scene.refused(answer_id="a1", within_s=0.05)).problem is ElementProblem.SYSTEM_LATE
        await scene.elements.close()
        assert scene.outcomes == ["system_late"]


async def test_a_read_whose_system_has_answered_is_recorded_as_it_ended() -> None:
    async with live_scene() as scene:
        recording, go_on = asyncio.Event(), asyncio.Event()
        record = scene.reads.record

        async def slow_record(read: Any) -> None:
            recording.set()
            await go_on.wait()
            await record(read)

        scene.reads.record = slow_record  # type: ignore[method-assign]
        read = asyncio.create_task(scene.fill(answer_id="a1"))
        await recording.wait()
        read.cancel()
        await asyncio.wait([read])
        go_on.set()
        await scene.elements.close()
        assert scene.outcomes == ["ready"]


# --- read it again -----------------------------------------------------------------------------------------
async def test_another_request_of_the_same_answer_never_gets_the_old_value() -> None:
    states = iter(["shipped", "delivered"])

    async def moves_on(exchange: Exchange) -> None:
        await exchange.respond(200, orjson.dumps(order(status=next(states))), **JSON)

    async with live_scene(moves_on) as scene:
        shown: list[str] = []
        for _ in range(2):  # as an answer does, and then a read again: each makes its caller
            caller = Caller(identity(), context(), QUESTION, "a1")
            deadline = Deadline.after(60, clock=scene.clock)
            filled = await scene.elements.fill("orders.status", caller, deadline=deadline)
            shown.append(filled.data.values[0].text)
        assert shown == ["Shipped", "Delivered"]
        assert scene.outcomes == ["ready", "ready"]


# --- whose, in the record ----------------------------------------------------------------------------------
OTHER = "9999-0000"
REFUSALS: dict[str, tuple[ElementProblem, Literal["context", "agent"], dict[str, Any]]] = {
    "another order": (ElementProblem.NOT_ALLOWED, "context", {"question": f"Where is {OTHER}?"}),
    "no context": (
        ElementProblem.NOT_ALLOWED,
        "context",
        {"question": f"Where is {OTHER}?", "without_context": True},
    ),
    "nothing named": (ElementProblem.PARAMETER_MISSING, "agent", {"without_context": True}),
    "two orders": (ElementProblem.PARAMETER_MISSING, "context", {"of": context(order=(ORDER, "4471-2209"))}),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_each_refusal_is_recorded(name: str) -> None:
    problem, whose, how = REFUSALS[name]
    async with live_scene(whose=whose) as scene:
        await scene.fill()
        assert (await scene.refused(**how)).problem is problem
        assert set(scene.outcomes[1:]) == {problem.value}
        assert len(scene.server.exchanges) == 1


async def test_a_system_whose_switch_was_never_read_is_not_called() -> None:
    async with live_scene() as scene:
        await scene.fill()

        async def unreadable(_system: str) -> bool:
            raise SwitchUnreadableError("The parameter store does not answer.")

        scene.switches.is_on = unreadable  # type: ignore[method-assign]
        error = await scene.refused()
        assert error.problem is ElementProblem.SYSTEM_UNAVAILABLE
        assert "switch of orders" in error.message
        assert scene.outcomes == ["ready", "system_unavailable"]
        assert len(scene.server.exchanges) == 1


@pytest.mark.parametrize(
    ("whose", "how", "subject"),
    [
        ("context", {}, CUSTOMER),
        ("context", {"question": f"Where is {OTHER}?", "without_context": True}, f"order:{OTHER}"),
        ("agent", {"question": f"Where is {ORDER}?", "without_context": True}, f"order:{ORDER}"),
        ("agent", {}, CUSTOMER),
        ("agent", {"question": f"Where is {ORDER}?"}, CUSTOMER),
        ("agent", {"question": f"Where is {OTHER}?"}, f"order:{OTHER}"),
        ("agent", {"without_context": True}, None),
    ],
)
async def test_the_record_names_whose_data_were_asked_for(
    whose: Literal["context", "agent"], how: dict[str, Any], subject: str | None
) -> None:
    named: list[str] = []

    def pseudonym(of: str) -> str:
        named.append(of)
        return f"p-{len(named)}"

    async with live_scene(whose=whose) as scene:
        scene.elements.pseudonym = pseudonym
        with suppress(LiveReadError):
            await scene.fill(**how)
        (read,) = scene.reads.reads
        assert named == ([] if subject is None else [subject])
        assert read.subject == (None if subject is None else "p-1")


@pytest.mark.parametrize(
    ("question", "others"),
    [
        (f"Where is {OTHER}?", [f"order:{OTHER}"]),
        (f"Where are {ORDER} and {OTHER}?", [f"order:{OTHER}"]),
        (f"Where is {OTHER} of C-2001?", [f"order:{OTHER}"]),
        (" ".join(f"{number}-0000" for number in range(1001, 1020)), [f"order:100{n}-0000" for n in "1234"]),
    ],
)
async def test_a_refused_id_is_recorded_as_itself_and_under_the_conversation_s_customer(
    question: str, others: list[str]
) -> None:
    named: list[str] = []

    def pseudonym(of: str) -> str:
        named.append(of)
        return f"p-{len(named)}"

    async with live_scene() as scene:
        scene.elements.pseudonym = pseudonym
        assert (await scene.refused(question=question)).problem is ElementProblem.NOT_ALLOWED
        assert named == [*others, CUSTOMER]
        assert [read.subject for read in scene.reads.reads] == [f"p-{n + 1}" for n in range(len(named))]
        assert set(scene.outcomes) == {"not_allowed"}


async def test_a_token_that_stays_refused_is_tried_twice() -> None:
    async def refuses(exchange: Exchange) -> None:
        await exchange.respond(401, b"", **JSON)

    async def secret() -> bytes:
        return b"wrong"

    async with live_scene(refuses, auth="token", secret=secret) as scene:
        assert (await scene.refused()).problem is ElementProblem.SYSTEM_UNAVAILABLE
        assert len(scene.server.exchanges) == 2
