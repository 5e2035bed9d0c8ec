from __future__ import annotations

import asyncio

import pytest

from assistant.answering.events import AnswerEvent, Done, Token
from assistant.domain.answers import FinishReason, Usage
from assistant.service.outbox import Outbox

DONE = Done(finish_reason=FinishReason.STOP, citations=(), usage=Usage(), timings_ms={})


def texts(events: list[AnswerEvent] | None) -> list[str]:
    return [event.text for event in events or [] if isinstance(event, Token)]


async def test_while_the_reader_keeps_up_each_token_stays_itself() -> None:
    outbox = Outbox()
    for text in "abc":
        outbox.put(Token(text))
    assert texts(await outbox.take(timeout_s=1)) == ["a", "b", "c"]


async def test_over_the_limit_tokens_merge_and_no_text_is_lost() -> None:
    outbox = Outbox(limit_bytes=1_000)
    for number in range(10_000):
        outbox.put(Token(f"{number} "))
    waiting = texts(await outbox.take(timeout_s=1))
    assert len(waiting) < 15
    assert "".join(waiting) == "".join(f"{number} " for number in range(10_000))


async def test_merged_tokens_stay_before_what_came_after_them() -> None:
    outbox = Outbox(limit_bytes=1)
    for text in ("a", "b", "c"):
        outbox.put(Token(text))
    outbox.put(DONE)
    assert await outbox.take(timeout_s=1) == [Token("a"), Token("bc"), DONE]


async def test_once_taken_there_is_room_again() -> None:
    outbox = Outbox(limit_bytes=1)
    outbox.put(Token("a"))
    outbox.put(Token("b"))
    await outbox.take(timeout_s=1)
    outbox.put(Token("c"))
    assert texts(await outbox.take(timeout_s=1)) == ["c"]


async def test_a_waiting_reader_gets_what_comes() -> None:
    outbox = Outbox()
    taking = asyncio.create_task(outbox.take(timeout_s=5))
    await asyncio.sleep(0)
    outbox.put(Token("a"))
    assert texts(await taking) == ["a"]


async def test_nothing_within_the_time_is_a_time_out() -> None:
    with pytest.raises(TimeoutError):
        await Outbox().take(timeout_s=0.01)


async def test_after_the_end_the_rest_is_given_and_then_nothing() -> None:
    outbox = Outbox()
    outbox.put(DONE)
    outbox.close()
    assert await outbox.take(timeout_s=1) == [DONE]
    assert await outbox.take(timeout_s=1) is None
