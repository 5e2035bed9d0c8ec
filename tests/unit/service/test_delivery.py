"""Events as bytes, and one reader's place in them."""

from __future__ import annotations

import asyncio
import json

import pytest

from assistant.answer.events import AnswerEvent, Done, Started, Token
from assistant.domain.answers import FinishReason, Usage
from assistant.service.streams import Cursor, Numbered, encode_events

STARTED = Started(answer_id="a1", conversation_id="c1", model="m", index_version="i", trace_id=None)
DONE = Done(finish_reason=FinishReason.STOP, citations=(1,), usage=Usage(), timings_ms={"embed": 1.5})


def fields(encoded: bytes) -> dict[str, str]:
    assert encoded.endswith(b"\n\n")
    lines = encoded.decode().strip("\n").split("\n")
    return dict(line.split(": ", 1) for line in lines)


@pytest.mark.parametrize("event", [STARTED, DONE], ids=["started", "done"])
def test_data_is_the_event_as_json(event: Started | Done) -> None:
    read = fields(encode_events([(1, event)], answer_id="a1"))
    assert read["event"] == event.event
    assert json.loads(read["data"]) == event.model_dump(mode="json")


@pytest.mark.parametrize(
    "text",
    [
        "plain",
        "two\nlines\r\n\r\nevent: done\ndata: {}",
        "\u2028\x00\ud7ff😀",
        "<script>alert(1)</script>",
        "",
    ],
)
def test_no_text_of_a_model_can_end_or_forge_an_event(text: str) -> None:
    encoded = encode_events([(1, Token(text))], answer_id="a1")
    assert encoded.count(b"\n") == 4
    assert b"\r" not in encoded
    assert json.loads(fields(encoded)["data"]) == {"text": text}


ENDED = Done(finish_reason=FinishReason.STOP, citations=(), usage=Usage(), timings_ms={})


class Written:
    """The events of an answer, and a reader's place in them."""

    def __init__(self, *, after: int = 0) -> None:
        self._events: list[AnswerEvent] = []
        self.cursor = Cursor(self._events, after=after)

    def add(self, *events: AnswerEvent) -> None:
        self._events.extend(events)
        self.cursor.wake()

    async def taken(self, *, beat_s: float = 1) -> list[Numbered] | None:
        return await self.cursor.take(beat_s=beat_s)


async def test_all_that_waits_is_taken_once_and_in_order() -> None:
    written = Written()
    written.add(Token("a"), Token("b"))
    assert await written.taken() == [(1, Token("a")), (2, Token("b"))]
    written.add(ENDED)
    assert await written.taken() == [(3, ENDED)]


async def test_who_comes_back_gets_what_comes_after() -> None:
    written = Written(after=2)
    written.add(Token("a"), Token("b"), Token("c"))
    assert await written.taken() == [(3, Token("c"))]


async def test_when_nothing_comes_the_beat_does_again_and_again() -> None:
    written = Written()
    for _ in range(3):
        assert await written.taken(beat_s=0.01) == []


async def test_a_beat_counts_from_the_last_that_came() -> None:
    loop, written = asyncio.get_running_loop(), Written()
    loop.call_later(0.03, written.add, Token("a"))
    assert await written.taken(beat_s=0.05) == [(1, Token("a"))]
    began_s = loop.time()
    assert await written.taken(beat_s=0.05) == []
    assert loop.time() - began_s >= 0.045


async def test_after_the_end_the_rest_is_given_and_then_nothing() -> None:
    written = Written()
    written.add(ENDED)
    written.cursor.close()
    assert await written.taken() == [(1, ENDED)]
    assert await written.taken() is None
