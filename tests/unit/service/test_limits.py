"""Limits of one request: answers in progress, its body, a reader that accepts no data."""

from __future__ import annotations

import asyncio
from collections.abc import MutableMapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from assistant.domain.answers import Verdict
from assistant.domain.clock import Deadline
from assistant.domain.errors import (
    DeadlineExceededError,
    InvalidRequestError,
    OverloadedError,
    TooLargeError,
)
from assistant.domain.identity import Identity
from assistant.service.running import Admission, AgentRates
from assistant.service.streams import (
    TAKE,
    BytesInFlight,
    ClientGoneError,
    StalledReaderError,
    parse_body,
    read_body,
    watched,
)
from assistant.tenant.tenant import LimitsSection
from tests.stage.answering import agent
from tests.stage.tenant_stores import SteppedClock

MIB = 1024 * 1024


def test_an_agent_over_their_share_is_told_when_to_return() -> None:
    admission = Admission(LimitsSection(streams=10, streams_per_agent=2))
    admission.enter("ann")
    admission.enter("ann")
    with pytest.raises(OverloadedError) as refused:
        admission.enter("ann")
    assert refused.value.retry_after_s
    admission.enter("bob")


def test_a_place_is_given_back() -> None:
    admission = Admission(LimitsSection(streams=2, streams_per_agent=2))
    leave = admission.enter("ann")
    admission.enter("bob")
    leave()
    admission.enter("ann")
    with pytest.raises(OverloadedError):
        admission.enter("ann")


async def test_a_turn_that_does_not_come_ends_at_the_deadline() -> None:
    admission = Admission(LimitsSection(), preparing=1)
    async with admission.turn(Deadline.after(60.0, clock=SteppedClock())):
        with pytest.raises(DeadlineExceededError):
            async with admission.turn(Deadline.after(0.0, clock=SteppedClock())):
                pass
    async with admission.turn(Deadline.after(60.0, clock=SteppedClock())):
        pass


class Sender:
    """Gives a body in parts, and counts how many were taken."""

    def __init__(self, parts: Sequence[bytes], *, leaves: bool = False) -> None:
        self._parts = list(parts)
        self._leaves = leaves
        self.taken = 0

    async def receive(self) -> dict[str, Any]:
        if self.taken == len(self._parts):
            return {"type": "http.disconnect"}
        self.taken += 1
        more = self.taken < len(self._parts) or self._leaves
        return {"type": "http.request", "body": self._parts[self.taken - 1], "more_body": more}


def scope(**headers: str) -> dict[str, Any]:
    pairs = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "headers": pairs, TAKE: lambda _caller, _size_bytes: None}


async def test_an_announced_excess_is_refused_once_the_client_has_sent_it() -> None:
    sender = Sender([b"x" * 50_000] * 3)
    with pytest.raises(TooLargeError, match="64 KiB"):
        await read_body(scope(content_length="150000"), sender.receive)
    assert sender.taken == 3


@pytest.mark.parametrize(
    "headers",
    [{"transfer_encoding": "chunked"}, {"content_length": "1000000000"}],
    ids=["chunked", "announced"],
)
async def test_of_an_excess_no_more_than_a_mebibyte_is_read(headers: dict[str, str]) -> None:
    sender = Sender([b"x" * 40_000] * 1_000)
    with pytest.raises(TooLargeError):
        await read_body(scope(**headers), sender.receive)
    assert sender.taken < 32


def test_bytes_in_flight_are_bounded_for_each_caller_and_for_all_and_given_back() -> None:
    bodies, ann = BytesInFlight(memory_mib=64), ("clinic", "ann")
    with bodies.of_request() as take:
        take(ann, MIB)
        with bodies.of_request() as second, pytest.raises(OverloadedError, match="of yours") as refused:
            second(ann, 1)
        assert refused.value.retry_after_s
        with ExitStack() as others:
            for number in range(7):
                others.enter_context(bodies.of_request())(("clinic", f"other-{number}"), MIB)
            with bodies.of_request() as last, pytest.raises(OverloadedError, match="at once"):
                last(("pharmacy", "bob"), 1)
    with bodies.of_request() as take:
        take(ann, MIB)


async def test_a_body_is_refused_before_it_is_read_and_a_chunked_one_takes_its_bound() -> None:
    taken, sender = list[int](), Sender([b"x"])

    def take(_caller: tuple[str, str], size_bytes: int) -> None:
        taken.append(size_bytes)
        raise OverloadedError("full")

    for headers in ({"content_length": "7"}, {"transfer_encoding": "chunked"}):
        with pytest.raises(OverloadedError):
            await read_body(scope(**headers) | {TAKE: take}, sender.receive, limit_bytes=99)
    assert (taken, sender.taken) == ([7, 99], 0)


async def test_a_client_that_leaves_is_told_apart() -> None:
    with pytest.raises(ClientGoneError):
        await read_body(scope(), Sender([b"x"], leaves=True).receive)


def test_no_message_repeats_what_was_sent() -> None:
    body = b'{"verdict_id":"v","label":"patient Jane Roe","reasons":"secret words"}'
    with pytest.raises(InvalidRequestError) as refused:
        parse_body(body, Verdict)
    assert "Jane" not in refused.value.message
    assert "secret" not in refused.value.message


PART: dict[str, Any] = {"type": "http.response.body"}


async def taken(_message: MutableMapping[str, Any]) -> None:
    """A reader who takes what comes."""


async def stuck(_message: MutableMapping[str, Any]) -> None:
    await asyncio.Event().wait()


async def test_a_reader_who_takes_nothing_is_found_out() -> None:
    async with asyncio.timeout(60):
        with pytest.raises(StalledReaderError):
            async with watched(stuck, limit_s=0.02) as send:
                await send(PART)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


ANN, BOB = agent("ann"), agent("bob")


def counts(rates: AgentRates, limits: LimitsSection, identity: Identity = ANN) -> bool:
    """Whether a write of the agent is within the rate."""
    try:
        rates.count(identity, "writes", limits)
    except OverloadedError:
        return False
    return True


def test_a_minute_s_requests_may_come_at_once_and_then_one_after_another() -> None:
    clock, limits = SteppedClock(), LimitsSection(writes_per_minute=6)
    rates = AgentRates(clock=clock)
    assert [counts(rates, limits) for _ in range(8)] == [True] * 6 + [False] * 2
    clock.step(10)
    assert [counts(rates, limits) for _ in range(2)] == [True, False]
    clock.step(60)
    assert [counts(rates, limits) for _ in range(7)] == [True] * 6 + [False]


def test_whoever_is_over_the_rate_is_told_the_rate_and_when_to_return() -> None:
    clock, limits = SteppedClock(), LimitsSection(writes_per_minute=6)
    rates = AgentRates(clock=clock)
    while counts(rates, limits):
        pass
    clock.step(4)
    with pytest.raises(OverloadedError, match="6 writes within a minute") as refused:
        rates.count(ANN, "writes", limits)
    assert refused.value.retry_after_s == pytest.approx(6.0)
    rates.count(ANN, "reads", limits)
    rates.count(BOB, "writes", limits)


def test_turns_that_are_read_unasked_take_none_of_an_agent_s_questions() -> None:
    rates, limits = AgentRates(clock=SteppedClock()), LimitsSection(questions_per_minute=2)
    for _ in range(2):
        rates.count(ANN, "turns", limits)
    with pytest.raises(OverloadedError, match="2 turns within a minute"):
        rates.count(ANN, "turns", limits)
    rates.count(ANN, "questions", limits)


def test_the_agents_that_are_counted_are_bounded_and_the_latest_stay() -> None:
    rates, limits = AgentRates(clock=SteppedClock(), most_counted=3), LimitsSection(writes_per_minute=1)
    names = ["ann", "bob", "cid", "dan", "eve"]
    assert all(counts(rates, limits, agent(name)) for name in names)
    assert [counts(rates, limits, agent(name)) for name in names[:1:-1]] == [False] * 3
    assert counts(rates, limits, agent("ann"))
