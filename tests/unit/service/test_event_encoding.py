from __future__ import annotations

import json

import pytest

from assistant.answering.events import AnswerEvent, Done, Started, Token
from assistant.domain.answers import FinishReason, Usage
from assistant.service.event_encoding import EventEncoder

STARTED = Started(answer_id="a1", conversation_id="c1", model="m", index_version="i", trace_id=None)
DONE = Done(finish_reason=FinishReason.STOP, citations=(1,), usage=Usage(), timings_ms={"embed": 1.5})


def fields(encoded: bytes) -> dict[str, str]:
    assert encoded.endswith(b"\n\n")
    lines = encoded.decode().strip("\n").split("\n")
    return dict(line.split(": ", 1) for line in lines)


def test_ids_count_up_under_the_answer() -> None:
    encoder = EventEncoder("a1")
    events: tuple[AnswerEvent, ...] = (STARTED, Token("x"), DONE)
    assert [fields(encoder.encode(event))["id"] for event in events] == ["a1:1", "a1:2", "a1:3"]


@pytest.mark.parametrize("event", [STARTED, DONE], ids=["started", "done"])
def test_data_is_the_event_as_json(event: Started | Done) -> None:
    read = fields(EventEncoder("a1").encode(event))
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
    encoded = EventEncoder("a1").encode(Token(text))
    assert encoded.count(b"\n") == 4
    assert b"\r" not in encoded
    assert json.loads(fields(encoded)["data"]) == {"text": text}
