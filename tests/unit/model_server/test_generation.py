"""What of OpenAI's request is taken, and what is refused."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from assistant.domain.errors import InvalidRequestError, OverloadedError, UnreadableRequestError
from assistant.model_server.generation import Admission, parse_chat_request

MESSAGES = [{"role": "user", "content": "What is code 79?"}]


def for_runtime(**fields: Any) -> dict[str, Any]:
    body = orjson.dumps({"messages": MESSAGES, **fields})
    return orjson.loads(parse_chat_request(body).for_runtime(most_tokens=100))


def test_known_fields_reach_the_runtime() -> None:
    fields = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["\n"],
        "max_tokens": 7,
    }

    assert for_runtime(**fields) == {"messages": MESSAGES, **fields}


def test_unknown_fields_are_tolerated_and_stay_here() -> None:
    assert set(for_runtime(user="agent", n_predict=999, id_slot=0)) == {"messages", "stream", "max_tokens"}


def test_answers_have_an_end_when_none_is_asked_for() -> None:
    assert for_runtime()["max_tokens"] == 100
    assert for_runtime(max_tokens=10_000)["max_tokens"] == 100


def test_a_seed_of_more_than_32_bits_is_folded() -> None:
    assert for_runtime(seed=2**40 + 5)["seed"] == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "wizard", "content": "x"}]),
        ("messages", [{"role": "user", "content": [{"type": "text", "text": "a"}]}]),
        ("temperature", 3),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("n", 2),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function"}]),
        ("stream_options", {"include_usage": "yes"}),
    ],
)
def test_a_wrong_type_or_what_is_not_served_is_refused_by_name(field: str, value: object) -> None:
    body = orjson.dumps({"messages": MESSAGES, field: value}).replace(
        b'"temperature":null', b'"temperature":"nan"'
    )

    with pytest.raises(InvalidRequestError, match=field):
        parse_chat_request(body)


@pytest.mark.parametrize("body", [b"{", b"\xff"])
def test_what_is_no_json_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        parse_chat_request(body)


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
