"""Events as bytes, one reader's place in them, and the status of each error."""

from __future__ import annotations

import json

import pytest

from assistant.answer.events import AnswerEvent, Done, Token
from assistant.domain import errors
from assistant.domain.answers import FinishReason, Usage
from assistant.domain.errors import (
    AssistantError,
    ConfigurationError,
    DeploymentError,
    LocalRuntimeError,
    ParsingStoppedError,
)
from assistant.service.answers import wants_stream
from assistant.service.errors import problem_of
from assistant.service.streams import Cursor, Numbered, encode_events


def fields(encoded: bytes) -> dict[str, str]:
    assert encoded.endswith(b"\n\n")
    lines = encoded.decode().strip("\n").split("\n")
    return dict(line.split(": ", 1) for line in lines)


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


async def test_when_nothing_comes_the_beat_does_again_and_again() -> None:
    written = Written()
    for _ in range(3):
        assert await written.taken(beat_s=0.01) == []


async def test_after_the_end_the_rest_is_given_and_then_nothing() -> None:
    written = Written()
    written.add(ENDED)
    written.cursor.close()
    assert await written.taken() == [(1, ENDED)]
    assert await written.taken() is None


@pytest.mark.parametrize(
    ("accept", "streams"),
    [
        ("text/event-stream", True),
        ("text/event-stream, application/json", True),
        ("text/event-stream;q=0.5, application/json;q=0.4", True),
        ("text/event-stream;q=0.4, application/json;q=0.5", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=x", False),
        ("application/json", False),
        (None, False),
    ],
)
def test_accept_decides_between_stream_and_whole(accept: str | None, streams: bool) -> None:
    assert wants_stream(accept) is streams


NEVER_AT_THE_EDGE = (
    AssistantError,
    ConfigurationError,
    DeploymentError,
    LocalRuntimeError,
    ParsingStoppedError,  # an answer of the parsing process, never raised: it becomes a document's failure
)
ALL = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, AssistantError) and value not in NEVER_AT_THE_EDGE
]


@pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.__name__)
def test_every_error_has_a_status_and_keeps_its_code(kind: type[AssistantError]) -> None:
    problem = problem_of(kind("What happened."))
    assert problem.status != 500
    assert (problem.code, problem.detail, problem.retryable) == (kind.code, "What happened.", kind.retryable)


def test_an_error_without_a_status_tells_nothing() -> None:
    problem = problem_of(ConfigurationError("/etc/secret"))
    assert (problem.status, problem.code) == (500, "internal")
    assert "secret" not in problem.detail
