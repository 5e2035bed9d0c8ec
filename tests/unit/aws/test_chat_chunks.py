"""From the bytes of both framings to text."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.aws.event_stream import ChatChunkParser, ChatStreamError, EventStreamParser
from assistant.domain.answers import Usage
from assistant.local.gateway import payload_part
from tests.unit.aws.cutting import cut_anywhere

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
    frames, chunks = EventStreamParser(), ChatChunkParser()

    found = "".join(chunks.feed(payload) for read in reads for payload in frames.feed(read))

    assert found == "".join(texts)
    assert chunks.done
    last = chunks.last_delta()
    assert (last.finish_reason, last.usage) == ("stop", Usage(prompt_tokens=7, completion_tokens=3))


def test_text_of_one_read_is_merged() -> None:
    assert ChatChunkParser().feed(chunk("one ") + chunk("two")) == "one two"


def test_nothing_after_the_end_mark_counts() -> None:
    parser = ChatChunkParser()

    assert parser.feed(chunk("a") + b"data: [DONE]\n\n" + chunk("b")) == "a"


@pytest.mark.parametrize(
    "event",
    [
        b"data: {\n\n",
        b"data: 3\n\n",
        b"data: []\n\n",
        b"data: {}\n\n",
        b'data: {"choices": 3}\n\n',
        b'data: {"choices": [3]}\n\n',
        b'data: {"choices": [{}]}\n\n',
        b'data: {"choices": [], "usage": {"prompt_tokens": "many"}}\n\n',
        b"data: \xff\xfe\n\n",
        chunk(3),
        chunk(["text"]),
    ],
)
def test_what_is_no_chat_completion_is_an_error(event: bytes) -> None:
    with pytest.raises(ChatStreamError, match="no chat completion"):
        ChatChunkParser().feed(event)


def test_an_error_of_the_model_is_named_by_its_code_without_its_text() -> None:
    event = b'data: {"error": {"code": "cuda_oom", "message": "while answering: my secret question"}}\n\n'

    with pytest.raises(ChatStreamError) as caught:
        ChatChunkParser().feed(event)

    assert "cuda_oom" in str(caught.value)
    assert "secret" not in str(caught.value)


def test_an_error_says_which_text_came_before_it() -> None:
    with pytest.raises(ChatStreamError) as caught:
        ChatChunkParser().feed(chunk("one ") + chunk("two") + b"data: {\n\n" + chunk("three"))

    assert caught.value.text == "one two"


def test_an_end_by_another_reason_is_an_error() -> None:
    with pytest.raises(ChatStreamError, match="content_filter"):
        ChatChunkParser().feed(chunk(finish_reason="content_filter"))
