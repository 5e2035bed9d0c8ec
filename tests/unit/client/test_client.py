"""The client over real sockets that break: single calls, one answer's events, and the API's document."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import orjson
import pytest

from assistant.answer.events import AnswerEvent, Checked, Done, SentenceEnded, Sources, Started, Token
from assistant.client import (
    AssistantClient,
    ConflictingError,
    NotAllowedError,
    NotThereError,
    Patience,
    Question,
    RefusedByServiceError,
    RejectedError,
    SignInError,
    UnavailableError,
    UnreachableError,
)
from assistant.domain.answers import Verdict, VerdictLabel
from tests.stage.servers import socket_server

STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
STARTED = (
    b'id: a:1\nevent: started\ndata: {"answer_id": "a", "conversation_id": "c", "model": "m",'
    b' "index_version": "v", "trace_id": null, "later": 1}\n\n'
)
DONE = (
    b'id: a:9\nevent: done\ndata: {"finish_reason": "stop", "citations": [], "usage": {}, "timings_ms": {},'
    b' "reason": null}\n\n'
)


def token(sequence: int, text: str) -> bytes:
    return b'id: a:%d\nevent: token\ndata: {"text": "%s"}\n\n' % (sequence, text.encode())


def answer(status: int, body: object, *, headers: str = "") -> bytes:
    data = orjson.dumps(body)
    head = f"HTTP/1.1 {status} X\r\nContent-Length: {len(data)}\r\nConnection: close\r\n{headers}\r\n"
    return head.encode() + data


def problem(status: int, code: str, *, retryable: bool, headers: str = "") -> bytes:
    body = {"title": "T", "status": status, "detail": "Ask later.", "code": code, "retryable": retryable}
    return answer(status, body, headers=headers)


@dataclass
class Served:
    """What each request gets, in order, the last one again and again; and what was asked."""

    client: AssistantClient
    requests: list[bytes] = field(default_factory=list[bytes])

    def headers(self, number: int) -> dict[str, str]:
        lines = self.requests[number].decode().lower().split("\r\n")[1:]
        return dict(line.split(": ", 1) for line in lines if ": " in line)

    def line(self, number: int) -> str:
        return self.requests[number].decode().split(" HTTP")[0]


@asynccontextmanager
async def serving(*responses: Sequence[bytes], patience: Patience | None = None) -> AsyncIterator[Served]:
    """Serve each response in its parts, then close the connection."""
    requests: list[bytes] = []

    async def respond(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))
        for part in responses[min(len(requests), len(responses)) - 1]:
            writer.write(part)
            await writer.drain()
        writer.close()

    quick = patience or Patience(attempts=3, first_wait_s=0.001, longest_wait_s=2.0)
    async with (
        socket_server(respond) as url,
        AssistantClient(url, token="secret", patience=quick) as client,
    ):
        yield Served(client, requests)


pytestmark = pytest.mark.loopback

VERDICT = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
STORED = {
    "answer_id": "a",
    "agent": "ann",
    "at": "2026-03-01T00:00:00Z",
    "verdict": VERDICT.model_dump(mode="json"),
}


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RejectedError),
        (401, SignInError),
        (403, NotAllowedError),
        (404, NotThereError),
        (409, ConflictingError),
        (413, RejectedError),
        (422, RejectedError),
        (429, UnavailableError),
        (503, UnavailableError),
        (500, RefusedByServiceError),
    ],
)
async def test_each_status_is_an_error_of_its_own(status: int, kind: type[RefusedByServiceError]) -> None:
    async with serving((problem(status, "why", retryable=False),)) as served:
        with pytest.raises(RefusedByServiceError) as caught:
            await served.client.read_answer("a")
    assert type(caught.value) is kind
    assert caught.value.problem.code == "why"
    assert len(served.requests) == 1


async def test_a_verdict_is_sent_again_for_its_id_makes_it_one() -> None:
    async with serving((), (answer(200, STORED),)) as served:
        stored = await served.client.give_verdict("a", VERDICT)
    assert stored.verdict == VERDICT
    assert len(served.requests) == 2


async def test_ids_cannot_lead_to_another_path() -> None:
    async with serving((answer(200, {"alive": True}),)) as served:
        with pytest.raises(UnreachableError):
            await served.client.read_answer("../documents/x?y#z")
    assert served.line(0) == "GET /v1/answers/..%2Fdocuments%2Fx%3Fy%23z"


def test_waits_double_up_to_a_bound_and_end() -> None:
    patience = Patience(attempts=4, first_wait_s=1.0, longest_wait_s=3.0)
    waits = [patience.wait_s(failures) for failures in (1, 2, 3)]
    for wait, longest in zip(waits, (1.0, 2.0, 3.0), strict=True):
        assert wait is not None
        assert longest / 2 <= wait <= longest
    assert patience.wait_s(4) is None


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


async def test_a_wait_longer_than_our_patience_is_the_caller_s_to_wait() -> None:
    paused = problem(503, "endpoint_paused", retryable=True, headers="Retry-After: 30\r\n")
    async with serving((paused,)) as served:
        with pytest.raises(UnavailableError, match=r"Ask later\. \(endpoint_paused\)") as caught:
            await events_of(served)
    assert caught.value.retry_after_s == 30.0
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
)
async def test_whatever_else_comes_is_a_service_that_cannot_be_reached(parts: tuple[bytes, ...]) -> None:
    async with serving(parts) as served:
        with pytest.raises(UnreachableError):
            await events_of(served, LEFT)


DOCUMENT = orjson.loads((Path(__file__).parents[3] / "docs" / "openapi.json").read_bytes())
OPERATIONS = {
    operation["operationId"] for operations in DOCUMENT["paths"].values() for operation in operations.values()
}
OF_OUR_OWN = {"stream", "get", "post", "close"}
"""``stream`` reads ``ask`` as events; ``get`` and ``post`` take a path."""


def methods(client: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(client, inspect.isfunction) if not name.startswith("_")}


def test_every_method_has_the_name_of_an_operation() -> None:
    assert methods(AssistantClient) - OF_OUR_OWN <= OPERATIONS


def test_the_client_loads_without_the_service_s_packages() -> None:
    code = "import sys, assistant.client; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, timeout=60, capture_output=True, text=True
    )
    loaded = {"fastapi", "starlette", "uvicorn", "aiobotocore", "opentelemetry", "typer"} & {
        *done.stdout.split()
    }
    assert loaded == set()
