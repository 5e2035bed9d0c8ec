from __future__ import annotations

import asyncio

from assistant.answering.events import Done, Token
from assistant.api.delivery import Numbered, Outbox
from assistant.domain.answers import FinishReason, Usage

DONE = Done(finish_reason=FinishReason.STOP, citations=(), usage=Usage(), timings_ms={})


def texts(numbered: list[Numbered] | None) -> list[str]:
    return [event.text for _, event in numbered or [] if isinstance(event, Token)]


def fill(outbox: Outbox, *tokens: str) -> None:
    for sequence, text in enumerate(tokens, start=1):
        outbox.put(sequence, Token(text))


async def test_while_the_reader_keeps_up_each_token_stays_itself() -> None:
    outbox = Outbox()
    fill(outbox, *"abc")
    assert texts(await outbox.take(beat_s=1)) == ["a", "b", "c"]


async def test_over_the_limit_tokens_merge_and_no_text_is_lost() -> None:
    outbox = Outbox(limit_bytes=1_000)
    fill(outbox, *(f"{number} " for number in range(10_000)))
    waiting = texts(await outbox.take(beat_s=1))
    assert len(waiting) < 15
    assert "".join(waiting) == "".join(f"{number} " for number in range(10_000))


async def test_merged_tokens_stay_before_what_came_after_them() -> None:
    outbox = Outbox(limit_bytes=1)
    fill(outbox, "a", "b", "c")
    outbox.put(4, DONE)
    assert texts(await outbox.take(beat_s=1)) == ["a", "bc"]


async def test_a_merged_token_has_the_last_one_s_sequence() -> None:
    """A reader who has seen it comes back after all that was merged into it."""
    outbox = Outbox(limit_bytes=1)
    fill(outbox, "a", "b", "c")
    outbox.put(4, DONE)
    assert await outbox.take(beat_s=1) == [(1, Token("a")), (3, Token("bc")), (4, DONE)]


async def test_once_taken_there_is_room_again() -> None:
    outbox = Outbox(limit_bytes=1)
    fill(outbox, "a", "b")
    await outbox.take(beat_s=1)
    outbox.put(3, Token("c"))
    assert texts(await outbox.take(beat_s=1)) == ["c"]


async def test_a_waiting_reader_gets_what_comes() -> None:
    outbox = Outbox()
    taking = asyncio.create_task(outbox.take(beat_s=5))
    await asyncio.sleep(0)
    outbox.put(1, Token("a"))
    assert texts(await taking) == ["a"]


async def test_when_nothing_comes_the_beat_does_again_and_again() -> None:
    outbox = Outbox()
    for _ in range(3):
        assert await outbox.take(beat_s=0.01) == []


async def test_a_beat_may_become_shorter() -> None:
    outbox = Outbox()
    asyncio.get_running_loop().call_soon(fill, outbox, "a")
    await outbox.take(beat_s=1e6)
    assert await asyncio.wait_for(outbox.take(beat_s=0.01), 5) == []


async def test_a_beat_counts_from_the_last_that_came() -> None:
    loop, outbox = asyncio.get_running_loop(), Outbox()
    loop.call_later(0.03, fill, outbox, "a")
    assert texts(await outbox.take(beat_s=0.05)) == ["a"]
    began_s = loop.time()
    assert await outbox.take(beat_s=0.05) == []
    assert loop.time() - began_s >= 0.045


async def test_after_the_end_the_rest_is_given_and_then_nothing() -> None:
    outbox = Outbox()
    outbox.put(1, DONE)
    outbox.close()
    assert await outbox.take(beat_s=1) == [(1, DONE)]
    assert await outbox.take(beat_s=1) is None
