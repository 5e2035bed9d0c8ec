"""The event stream's parser: the library's own decoder is the measure, and nothing depends on the cuts."""

from __future__ import annotations

import struct
from zlib import crc32

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from assistant.aws.event_stream import EventStreamParser
from assistant.local.gateway import encode_message, payload_part, stream_exception
from tests.unit.aws.cutting import cut_anywhere

PAYLOADS = st.lists(st.binary(max_size=200), max_size=8)


def fed(pieces: list[bytes]) -> tuple[list[bytes], EventStreamParser]:
    parser = EventStreamParser()
    return [payload for piece in pieces for payload in parser.feed(piece)], parser


@given(payloads=PAYLOADS, data=st.data())
def test_payloads_are_the_same_however_the_bytes_are_cut(payloads: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(map(payload_part, payloads))

    found, parser = fed(cut_anywhere(stream, data))

    assert found == payloads
    assert parser.fault is None
    assert parser.pending_bytes == 0


@given(payloads=PAYLOADS)
def test_payloads_are_those_of_the_library_s_decoder(payloads: list[bytes]) -> None:
    stream = b"".join(map(payload_part, payloads))
    library = EventStreamBuffer()
    library.add_data(stream)

    assert fed([stream])[0] == [event.payload for event in library]


def test_headers_of_every_type_are_skipped() -> None:
    values = [b"\x00", b"\x01", b"\x02x", b"\x03xx", b"\x04" + bytes(4), b"\x05" + bytes(8)]
    values += [b"\x06\x00\x03abc", b"\x08" + bytes(8), b"\x09" + bytes(16)]
    extra = b"".join(b"\x01" + bytes([97 + number]) + value for number, value in enumerate(values))
    whole = payload_part(b"text")
    (head_bytes,) = struct.unpack_from("!I", whole, 4)
    head = whole[12 : 12 + head_bytes] + extra
    prelude = struct.pack("!II", 16 + len(head) + 4, len(head))
    message = prelude + struct.pack("!I", crc32(prelude)) + head + b"text"
    message += struct.pack("!I", crc32(message))

    assert fed([message])[0] == [b"text"]


def test_an_event_of_another_type_gives_nothing() -> None:
    message = encode_message({":message-type": "event", ":event-type": "initial-response"}, b"{}")

    found, parser = fed([message, payload_part(b"a")])

    assert found == [b"a"]
    assert parser.fault is None


def test_a_cut_message_stays_pending() -> None:
    found, parser = fed([payload_part(b"whole"), payload_part(b"half")[:-1]])

    assert found == [b"whole"]
    assert parser.pending_bytes == len(payload_part(b"half")) - 1


def test_an_exception_in_the_stream_is_a_fault_after_what_came_before_it() -> None:
    fault = stream_exception("ModelStreamError", "gone", error_code="StreamBroken")

    found, parser = fed([payload_part(b"text") + fault + payload_part(b"late")])

    assert found == [b"text"]
    assert parser.fault is not None
    assert (parser.fault.kind, parser.fault.message) == ("ModelStreamError", "StreamBroken: gone")


@pytest.mark.parametrize("position", [0, 5, 9, 20, -20, -1])
def test_a_flipped_byte_anywhere_is_a_fault(position: int) -> None:
    message = bytearray(payload_part(b"a payload of some length"))
    message[position] ^= 0x40

    found, parser = fed([bytes(message)])

    assert found == []
    assert parser.fault is not None
    assert parser.fault.kind == "corrupt"


def test_garbage_is_a_fault_before_a_whole_message_came() -> None:
    _, parser = fed([b"<html><body>Bad gateway"])

    assert parser.fault is not None


def test_a_message_that_claims_to_be_huge_is_a_fault_at_once() -> None:
    prelude = struct.pack("!II", 3_000_000, 0)

    _, parser = fed([prelude + struct.pack("!I", crc32(prelude))])

    assert parser.fault is not None


def test_nothing_is_decoded_after_a_fault() -> None:
    parser = EventStreamParser()
    parser.feed(b"garbage garbage")

    assert parser.feed(payload_part(b"text")) == []
