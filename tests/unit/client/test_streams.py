"""One answer's events over real sockets that break."""

from __future__ import annotations

from contextlib import aclosing

import pytest

from assistant.answer.events import (
    AnswerEvent,
    Checked,
    Done,
    Problem,
    SentenceEnded,
    Sources,
    Started,
    Token,
)
from assistant.client import (
    AssistantClient,
    Patience,
    Question,
    UnavailableError,
    UnreachableError,
)
from tests.unit.client.served import DONE, STARTED, STREAM, Served, problem, serving, token

pytestmark = pytest.mark.loopback

SOURCES = b'event: sources\ndata: {"sources": []}\n\n'
KEPT = Question(question="Why?")
LEFT = Question(question="Why?", resume_window_s=0)


async def events_of(served: Served, question: Question = KEPT) -> list[AnswerEvent]:
    async with aclosing(served.client.stream(question)) as events:
        return [event async for event in events]


async def test_events_come_in_order_and_unknown_ones_and_fields_are_passed_over() -> None:
    parts = (
        STREAM,
        STARTED,
        b": alive\n\nevent: mood\ndata: {}\n\n",
        token(2, "Hi")[:20],
        token(2, "Hi")[20:],
    )
    async with serving((*parts, DONE)) as served:
        events = await events_of(served)
    assert [type(event) for event in events] == [Started, Token, Done]
    assert events[1] == Token("Hi")


@pytest.mark.parametrize("check", [b'event: checked\ndata: {"by": "m", "sentences": []}\n\n', b""])
async def test_a_check_may_follow_the_end_and_its_loss_is_no_error(check: bytes) -> None:
    follows = DONE.replace(b'"timings_ms"', b'"check_follows": true, "timings_ms"')
    async with serving((STREAM, STARTED, follows, check)) as served:
        events = await events_of(served)
    assert [type(event) for event in events] == [Started, Done, Checked][: 3 if check else 2]


async def test_the_token_goes_with_the_request() -> None:
    async with serving((STREAM, DONE)) as served:
        await events_of(served)
    headers = served.headers(0)
    assert headers["authorization"] == "bearer secret"
    assert headers["accept"] == "text/event-stream"


async def test_after_a_cut_it_goes_on_behind_the_last_event() -> None:
    first, second = (STREAM, STARTED, token(2, "two ")), (STREAM, token(3, "days"))
    async with serving(first, second, (STREAM, DONE)) as served:
        events = await events_of(served)
    assert "".join(event.text for event in events if isinstance(event, Token)) == "two days"
    assert [served.line(number) for number in (0, 1, 2)] == [
        "POST /v1/answers",
        "GET /v1/answers/a/events",
        "GET /v1/answers/a/events",
    ]
    assert [served.headers(number)["last-event-id"] for number in (1, 2)] == ["a:2", "a:3"]


async def test_a_frame_that_was_cut_is_not_taken_for_an_event() -> None:
    async with serving((STREAM, STARTED, token(2, "two ")[:-5]), (STREAM, token(2, "two "), DONE)) as served:
        events = await events_of(served)
    assert [event.text for event in events if isinstance(event, Token)] == ["two "]
    assert served.headers(1)["last-event-id"] == "a:1"


async def test_a_cut_before_the_first_event_joins_the_same_answer_by_its_key() -> None:
    async with serving((), (STREAM, STARTED, DONE)) as served:
        events = await events_of(served)
    assert [type(event) for event in events] == [Started, Done]
    assert served.headers(0)["idempotency-key"] == served.headers(1)["idempotency-key"]


async def test_an_answer_that_nobody_keeps_is_never_asked_twice() -> None:
    async with serving((STREAM, STARTED), (STREAM, STARTED, DONE)) as served:
        with pytest.raises(UnreachableError, match="in the middle"):
            await events_of(served, LEFT)
    assert len(served.requests) == 1
    assert "idempotency-key" not in served.headers(0)


async def test_coming_back_ends_when_the_same_text_comes_for_some_tries() -> None:
    again = (STREAM, STARTED, b'event: token\ndata: {"text": "two "}\n\n')
    async with serving((STREAM, STARTED, token(2, "two ")), again) as served:
        with pytest.raises(UnreachableError, match="in the middle"):
            await events_of(served)
    assert len(served.requests) == 3


async def test_an_answer_that_comes_again_from_its_record_goes_on_where_it_broke_off() -> None:
    rest = b', "start": 0, "end": 4, "citations": [1], "support": "supported"}\n\n'
    sentence = b'event: sentence\ndata: {"index": %d' + rest
    whole = b'event: token\ndata: {"text": "one two three "}\n\n'
    again = (STREAM, STARTED, SOURCES, whole, sentence % 0, sentence % 1, DONE)
    cut = (STREAM, STARTED, SOURCES, token(2, "one "), b"id: a:3\n" + sentence % 0, token(4, "two "))
    async with serving(cut, again) as served:
        events = await events_of(served)
    kinds = [type(event) for event in events]
    assert kinds == [Started, Sources, Token, SentenceEnded, Token, Token, SentenceEnded, Done]
    assert [event.text for event in events if isinstance(event, Token)] == ["one ", "two ", "three "]
    assert [event.index for event in events if isinstance(event, SentenceEnded)] == [0, 1]


async def test_a_service_under_load_is_asked_again_also_for_an_answer_that_is_not_kept() -> None:
    busy = (problem(429, "overloaded", retryable=True),)
    async with serving(busy, busy, (STREAM, STARTED, DONE)) as served:
        assert len(await events_of(served, LEFT)) == 2


async def test_a_wait_longer_than_our_patience_is_the_caller_s_to_wait() -> None:
    paused = problem(503, "endpoint_paused", retryable=True, headers="Retry-After: 30\r\n")
    async with serving((paused,)) as served:
        with pytest.raises(UnavailableError, match=r"Ask later\. \(endpoint_paused\)") as caught:
            await events_of(served)
    assert caught.value.retry_after_s == 30.0
    assert len(served.requests) == 1


async def test_a_problem_in_mid_stream_is_the_last_event() -> None:
    data = b'data: {"title": "T", "status": 503, "detail": "D", "code": "interrupted", "retryable": true}\n\n'
    async with serving((STREAM, STARTED, b"event: error\n", data)) as served:
        events = await events_of(served)
    assert isinstance(events[-1], Problem)
    assert len(served.requests) == 1


@pytest.mark.parametrize(
    "parts",
    [
        (),
        (b"garbage\r\n\r\n",),
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 5\r\n\r\noops!",),
        (STREAM.replace(b"Connection: close", b"Content-Length: 999"), STARTED),
        (STREAM, b"event: done\ndata: {}\n\n"),
        (STREAM, b"event: token\ndata: {text\n\n"),
    ],
    ids=[
        "closed",
        "not HTTP",
        "no problem body",
        "cut in mid-stream",
        "event without fields",
        "token that is no JSON",
    ],
)
async def test_whatever_else_comes_is_a_service_that_cannot_be_reached(parts: tuple[bytes, ...]) -> None:
    async with serving(parts) as served:
        with pytest.raises(UnreachableError):
            await events_of(served, LEFT)


async def test_nothing_listens_there() -> None:
    async with serving(()) as served:
        pass
    async with AssistantClient(served.client.base_url, token=None, patience=Patience(attempts=1)) as client:
        with pytest.raises(UnreachableError, match="does not answer"):
            await client.list_sources()
