"""Events as bytes, and the outbox of a slow reader."""

from __future__ import annotations

import asyncio
import json

import pytest

from assistant.answering.events import AnswerEvent, Done, Started, Token
from assistant.api.delivery import EncodedEvent, EventEncoder, Numbered, Outbox, decode_event
from assistant.domain.answers import FinishReason, Usage

STARTED = Started(answer_id="a1", conversation_id="c1", model="m", index_version="i", trace_id=None)
DONE = Done(finish_reason=FinishReason.STOP, citations=(1,), usage=Usage(), timings_ms={"embed": 1.5})


def fields(encoded: bytes) -> dict[str, str]:
    assert encoded.endswith(b"\n\n")
    lines = encoded.decode().strip("\n").split("\n")
    return dict(line.split(": ", 1) for line in lines)


def test_ids_count_up_under_the_answer() -> None:
    encoder = EventEncoder("a1")
    events: tuple[AnswerEvent, ...] = (STARTED, Token("x"), DONE)
    encoded = [encoder.encode(sequence, event) for sequence, event in enumerate(events, start=1)]
    assert [fields(frame)["id"] for frame in encoded] == ["a1:1", "a1:2", "a1:3"]


def test_an_event_of_the_connection_alone_has_no_id() -> None:
    assert "id" not in fields(EventEncoder("a1").encode(0, DONE))


@pytest.mark.parametrize("event", [STARTED, Token("two\nlines"), DONE], ids=["started", "token", "done"])
def test_what_a_log_kept_is_read_back(event: AnswerEvent) -> None:
    assert decode_event(EventEncoder("a1").encode(7, event)) == event


def test_fields_that_a_later_release_added_are_passed_over() -> None:
    frame = EventEncoder("a1").encode(7, DONE)
    assert decode_event(frame.replace(b'"recorded":true', b'"recorded":true,"later":1')) == DONE


def test_a_kept_frame_goes_on_as_it_is() -> None:
    frame = b"id: a1:7\nevent: of_a_later_version\ndata: {}\n\n"
    assert EventEncoder("a1").encode(7, EncodedEvent(frame)) == frame
    assert decode_event(frame) is None


@pytest.mark.parametrize("event", [STARTED, DONE], ids=["started", "done"])
def test_data_is_the_event_as_json(event: Started | Done) -> None:
    read = fields(EventEncoder("a1").encode(1, event))
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
    encoded = EventEncoder("a1").encode(1, Token(text))
    assert encoded.count(b"\n") == 4
    assert b"\r" not in encoded
    assert json.loads(fields(encoded)["data"]) == {"text": text}


ENDED = Done(finish_reason=FinishReason.STOP, citations=(), usage=Usage(), timings_ms={})


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


async def test_a_merged_token_has_the_last_one_s_sequence() -> None:
    """A reader who has seen it comes back after all that was merged into it."""
    outbox = Outbox(limit_bytes=1)
    fill(outbox, "a", "b", "c")
    outbox.put(4, ENDED)
    assert await outbox.take(beat_s=1) == [(1, Token("a")), (3, Token("bc")), (4, ENDED)]


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
    assert await asyncio.wait_for(outbox.take(beat_s=0.01), 60) == []


async def test_a_beat_counts_from_the_last_that_came() -> None:
    loop, outbox = asyncio.get_running_loop(), Outbox()
    loop.call_later(0.03, fill, outbox, "a")
    assert texts(await outbox.take(beat_s=0.05)) == ["a"]
    began_s = loop.time()
    assert await outbox.take(beat_s=0.05) == []
    assert loop.time() - began_s >= 0.045


async def test_after_the_end_the_rest_is_given_and_then_nothing() -> None:
    outbox = Outbox()
    outbox.put(1, ENDED)
    outbox.close()
    assert await outbox.take(beat_s=1) == [(1, ENDED)]
    assert await outbox.take(beat_s=1) is None
