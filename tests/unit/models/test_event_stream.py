"""From the bytes of AWS's event stream and of server-sent events to text, cut anywhere."""

from __future__ import annotations

import struct
from zlib import crc32

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.domain.answers import Usage
from assistant.models.chat_server import ChatStreamError, CompletionParser, ServerSentEventParser
from assistant.models.sagemaker import EventStreamParser
from tests.stage.sagemaker_runtime import payload_part, stream_exception


def cut_anywhere(stream: bytes, data: st.DataObject) -> list[bytes]:
    positions = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=20), label="cuts"))
    return [stream[start:end] for start, end in zip([0, *positions], [*positions, len(stream)], strict=True)]


def fed(pieces: list[bytes]) -> tuple[list[bytes], EventStreamParser]:
    parser = EventStreamParser()
    return [payload for piece in pieces for payload in parser.feed(piece)], parser


def test_an_exception_in_the_stream_is_a_fault_after_what_came_before_it() -> None:
    fault = stream_exception("ModelStreamError", "gone", error_code="StreamBroken")

    found, parser = fed([payload_part(b"text") + fault + payload_part(b"late")])

    assert found == [b"text"]
    assert parser.fault == "ModelStreamError StreamBroken: gone"


@pytest.mark.parametrize("position", [0, 5, 9, 20, -20, -1])
def test_a_flipped_byte_anywhere_is_a_fault(position: int) -> None:
    message = bytearray(payload_part(b"a payload of some length"))
    message[position] ^= 0x40

    found, parser = fed([bytes(message)])

    assert found == []
    assert parser.fault is not None
    assert parser.fault.startswith("corrupt ")


def test_a_message_without_an_end_is_bounded() -> None:
    prelude = struct.pack("!II", 20_000_000, 0)

    _, parser = fed([prelude + struct.pack("!I", crc32(prelude)), *[bytes(400_000)] * 6])

    assert parser.fault is not None


@pytest.mark.parametrize(
    "head", [b"\x01a\x63", b"\x01a\x07\x00", b"\x02\xff\xff\x07\x00\x00", b"\x01a\x07\x00\x09x"]
)
def test_unreadable_headers_are_a_fault(head: bytes) -> None:
    prelude = struct.pack("!II", 16 + len(head), len(head))
    message = prelude + struct.pack("!I", crc32(prelude)) + head

    found, parser = fed([message + struct.pack("!I", crc32(message))])

    assert found == []
    assert parser.fault is not None


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


def test_comments_and_other_fields_are_no_data_and_one_space_after_the_colon_is_none() -> None:
    assert ServerSentEventParser().feed(b": ping\n\nevent: x\nid: 1\ndata: a\n\n") == [b"a"]
    assert ServerSentEventParser().feed(b"data:a\n\ndata:  b\n\n") == [b"a", b" b"]


@pytest.mark.parametrize("line", [b"data: " + b"x" * 400_000 + b"\n", b"x" * 400_000])
def test_an_event_without_an_end_is_bounded(line: bytes) -> None:
    parser = ServerSentEventParser()

    def feed_for_ever() -> None:
        for _ in range(4):
            parser.feed(line)

    with pytest.raises(ChatStreamError, match="over"):
        feed_for_ever()


TEXTS = st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=8)
USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


def chunk(content: object = None, *, finish_reason: object = None, **more: object) -> bytes:
    delta = {} if content is None else {"content": content}
    body = {"choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}], **more}
    return b"data: " + orjson.dumps(body) + b"\n\n"


def completion(texts: list[str]) -> bytes:
    first = chunk(None, object="chat.completion.chunk")
    last = chunk(finish_reason="stop") + b"data: " + orjson.dumps({"choices": [], "usage": USAGE}) + b"\n\n"
    return first + b"".join(map(chunk, texts)) + last + b"data: [DONE]\n\n"


@given(texts=TEXTS, data=st.data())
def test_text_is_the_same_however_both_framings_are_cut(texts: list[str], data: st.DataObject) -> None:
    parts = cut_anywhere(completion(texts), data)  # inside UTF-8 characters too
    reads = cut_anywhere(b"".join(map(payload_part, parts)), data)
    parser = CompletionParser(EventStreamParser())

    found = "".join(parser.feed(read)[0] for read in reads)

    assert found == "".join(texts)
    assert parser.is_done
    last = parser.last_delta()
    assert last is not None
    assert (last.finish_reason, last.usage) == ("stop", Usage(prompt_tokens=7, completion_tokens=3))


@pytest.mark.parametrize(
    "event",
    [
        b"data: {\n\n",
        b"data: 3\n\n",
        b'data: {"choices": [3]}\n\n',
        b'data: {"choices": [], "usage": {"prompt_tokens": "many"}}\n\n',
        b"data: \xff\xfe\n\n",
        chunk(3),
    ],
)
def test_what_is_no_chat_completion_is_an_error(event: bytes) -> None:
    assert CompletionParser().feed(event) == ("", "the model's stream is no chat completion")


def test_an_error_of_the_model_is_named_by_its_code_without_its_text() -> None:
    event = b'data: {"error": {"code": "cuda_oom", "message": "while answering: my secret question"}}\n\n'

    _, fault = CompletionParser().feed(event)

    assert "cuda_oom" in str(fault)
    assert "secret" not in str(fault)


def test_an_end_by_another_reason_is_an_error() -> None:
    _, fault = CompletionParser().feed(chunk(finish_reason="content_filter"))

    assert "content_filter" in str(fault)
