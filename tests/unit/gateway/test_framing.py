"""The gateway's framing, read by the library that real clients read it with."""

from __future__ import annotations

from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from assistant.local.gateway.event_stream import payload_part, stream_exception
from assistant.local.gateway.response_cutting import ResponseCutter


@given(payload=st.binary(max_size=2000))
def test_a_part_is_what_the_library_decodes(payload: bytes) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(payload_part(payload))

    event = next(buffer)

    assert event.payload == payload
    assert event.headers[":event-type"] == "PayloadPart"
    assert event.headers[":message-type"] == "event"


def test_an_exception_is_what_the_library_decodes() -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(stream_exception("ModelStreamError", "gone", error_code="StreamBroken"))

    event = next(buffer)

    assert event.headers[":message-type"] == "exception"
    assert event.headers[":exception-type"] == "ModelStreamError"
    assert event.payload == b'{"Message":"gone","ErrorCode":"StreamBroken"}'


@given(piece=st.binary(min_size=1, max_size=300), seed=st.integers(0, 1000))
def test_parts_are_the_piece_again_and_none_is_empty(piece: bytes, seed: int) -> None:
    parts = list(ResponseCutter(seed).cut(piece))

    assert b"".join(parts) == piece
    assert all(parts)


def test_the_same_seed_cuts_at_the_same_places() -> None:
    pieces = [b"a piece of a stream"] * 20
    first, second = ResponseCutter(3), ResponseCutter(3)

    assert [list(first.cut(piece)) for piece in pieces] == [list(second.cut(piece)) for piece in pieces]


def test_characters_are_cut_too() -> None:
    cutter = ResponseCutter(0)

    parts = [part for _ in range(50) for part in cutter.cut("Größe 😀".encode())]

    assert not all(part.decode(errors="replace").encode() == part for part in parts)
