"""The SSE parser, by the standard's rules."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.aws.event_stream import EventTooLargeError, ServerSentEventParser
from tests.unit.aws.cutting import cut_anywhere

DATA = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n\0"), max_size=30)
EVENTS = st.lists(st.lists(DATA, min_size=1, max_size=3), max_size=6)


def encoded(events: list[list[str]], line_end: str) -> bytes:
    return "".join(
        "".join(f"data: {line}{line_end}" for line in lines) + line_end for lines in events
    ).encode()


@given(events=EVENTS, line_end=st.sampled_from(["\n", "\r\n", "\r"]), data=st.data())
def test_events_are_the_same_however_the_bytes_are_cut(
    events: list[list[str]], line_end: str, data: st.DataObject
) -> None:
    parser = ServerSentEventParser()

    found = [event for piece in cut_anywhere(encoded(events, line_end), data) for event in parser.feed(piece)]

    assert found == ["\n".join(lines).encode() for lines in events]


PIECES = [b"data: ", b"data:", b"\n", b"\n\n", b"\n\ndata: ", b"\r", b"\r\n", b"x", b" ", b": ping", b"id: 1"]


@given(pieces=st.lists(st.sampled_from(PIECES), max_size=20), data=st.data())
def test_whole_events_at_once_are_what_they_are_byte_by_byte(
    pieces: list[bytes], data: st.DataObject
) -> None:
    stream = b"".join(pieces)
    cut, by_byte = ServerSentEventParser(), ServerSentEventParser()

    found = [event for piece in cut_anywhere(stream, data) for event in cut.feed(piece)]

    assert found == [event for byte in stream for event in by_byte.feed(bytes([byte]))]


def test_comments_and_other_fields_are_no_data() -> None:
    assert ServerSentEventParser().feed(b": ping\n\nevent: x\nid: 1\ndata: a\n\n") == [b"a"]


def test_one_space_after_the_colon_is_not_data() -> None:
    assert ServerSentEventParser().feed(b"data:a\n\ndata:  b\n\n") == [b"a", b" b"]


def test_an_event_without_its_blank_line_waits() -> None:
    parser = ServerSentEventParser()

    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"\n") == [b"a"]


def test_an_event_of_two_lines_may_be_cut_between_them() -> None:
    parser = ServerSentEventParser()

    assert parser.feed(b"data: a\n") == []
    assert parser.feed(b"data: b\n\n") == [b"a\nb"]


@pytest.mark.parametrize("line", [b"data: " + b"x" * 400_000 + b"\n", b"x" * 400_000])
def test_an_event_without_an_end_is_bounded(line: bytes) -> None:
    parser = ServerSentEventParser()

    def feed_for_ever() -> None:
        for _ in range(4):
            parser.feed(line)

    with pytest.raises(EventTooLargeError):
        feed_for_ever()
