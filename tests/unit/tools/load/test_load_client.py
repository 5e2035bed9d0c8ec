"""How the load generator reads what a service sends."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tools.load.generator import AnswerClient, Followed, parse_events, received_body, text_of
from tools.load.http_server import LAST_CHUNK, MalformedError, RequestReader, chunk
from tools.load.workload import LoadPlan

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
STARTED = b'id: a1:1\nevent: started\ndata: {"answer_id":"a1"}\n\n'
TOKENS = (
    b'id: a1:2\nevent: token\ndata: {"text":"Two"}\n\nid: a1:3\nevent: token\ndata: {"text":" days."}\n\n'
)
DONE = b'id: a1:4\nevent: done\ndata: {"finish_reason":"stop"}\n\n'


class Wire:
    """A transport that only remembers."""

    def __init__(self) -> None:
        self.aborted = False

    def write(self, data: bytes) -> None:
        assert data

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


def asking() -> tuple[AnswerClient, Wire, asyncio.Future]:
    client, wire = AnswerClient(), Wire()
    client.connection_made(wire)  # pyright: ignore[reportArgumentType]
    return client, wire, client.ask(7, b"POST")


def plan() -> LoadPlan:
    return LoadPlan(run="resumed", url="http://x", bearers=[], first_question=0, streams=1)


async def test_a_stream_ends_with_its_last_chunk_wherever_that_is_cut():
    client, _, ending = asking()
    data = HEAD + chunk(STARTED + TOKENS) + chunk(DONE) + LAST_CHUNK
    for position in range(len(data)):
        client.data_received(data[position : position + 1])
    reply = await asyncio.wait_for(ending, 60)
    assert reply.ended_s is not None
    assert text_of(reply.events()) == "Two days."


async def test_the_first_text_is_no_other_event():
    client, _, ending = asking()
    client.data_received(HEAD + chunk(STARTED + b'id: a1:2\nevent: token\ndata: {"text":""}\n\n'))
    client.data_received(chunk(b": alive\n\n"))
    client.cut()
    assert (await ending).first_text_s is None


async def test_the_first_text_is_timed_at_the_read_that_brought_it():
    client, _, ending = asking()
    client.data_received(HEAD + chunk(STARTED))
    client.data_received(chunk(TOKENS))
    client.cut()
    reply = await ending
    assert reply.first_text_s is not None
    assert reply.first_text_s >= reply.asked_s
    assert reply.ended_s is None


async def test_a_refusal_is_a_whole_reply():
    client, _, ending = asking()
    client.data_received(b"HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}")
    reply = await asyncio.wait_for(ending, 60)
    assert (reply.status(), reply.events()) == (429, [])


async def test_a_cut_resets_the_connection_and_ends_the_reply():
    client, wire, ending = asking()
    client.cut()
    assert wire.aborted
    assert (await ending).ended_s is None


def test_a_cut_event_is_no_event():
    assert [event.name for event in parse_events(STARTED + DONE[:-1])] == ["started"]


@given(st.integers(0, 150))
def test_what_came_of_a_cut_body_is_its_beginning(length: int):
    body = chunk(STARTED) + chunk(TOKENS)
    assert (STARTED + TOKENS).startswith(received_body(body[:length]).rstrip(b"\r\n"))


async def test_an_event_that_comes_twice_is_wrong():
    client, _, ending = asking()
    client.data_received(HEAD + chunk(STARTED + TOKENS) + LAST_CHUNK)
    reply = await ending
    followed = Followed(plan(), 0, "http://x")
    followed.take(reply)
    assert (followed.last_sequence, followed.wrong) == (3, "")
    followed.take(reply)
    assert followed.wrong == "event 1 after 3"


async def test_an_event_that_is_missing_is_wrong():
    client, _, ending = asking()
    client.data_received(HEAD + chunk(STARTED + DONE) + LAST_CHUNK)
    followed = Followed(plan(), 0, "http://x")
    followed.take(await ending)
    assert followed.wrong == "event 4 after 1"


@given(st.integers(1, 60))
def test_requests_are_read_however_they_are_cut(size: int):
    data = b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
    data += b"PUT /b HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
    reader = RequestReader()
    found = [
        request for start in range(0, len(data), size) for request in reader.feed(data[start : start + size])
    ]
    assert [(request.method, request.path, request.body) for request in found] == [
        ("POST", "/a", b"abc"),
        ("PUT", "/b", b"de"),
    ]


def test_what_is_no_request_is_refused():
    try:
        RequestReader().feed(b"nonsense\r\n\r\n")
    except MalformedError:
        return
    raise AssertionError("it was read")
