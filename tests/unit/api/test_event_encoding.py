from __future__ import annotations

import json

import pytest

from assistant.answering.events import AnswerEvent, Done, Started, Token
from assistant.api.delivery import EncodedEvent, EventEncoder, decode_event
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
