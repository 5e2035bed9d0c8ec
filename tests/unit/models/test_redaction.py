"""A clean line describes a call and contains no text of a person."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assistant.models.redaction import Replace, redacted
from assistant.option import joined

QUESTION = "Mrs Doe, born 1961-02-03, asks about warfarin"
REQUEST = {
    "model": "Qwen3-8B",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": QUESTION}],
    "max_tokens": 256,
    "temperature": 0.0,
    "stream": True,
    "user": "Jane Doe",
}
ANSWER = {
    "id": "chatcmpl-12",
    "model": "Qwen3-8B",
    "choices": [{"message": {"role": "assistant", "content": "Ask her doctor."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 31, "completion_tokens": 5, "total_tokens": 36},
}


def captured(data: Any, *, encoding: str = "JSON") -> dict[str, Any]:
    text = data if isinstance(data, str) else json.dumps(data)
    if encoding == "BASE64":
        text = base64.b64encode(text.encode()).decode()
    return {"observedContentType": "application/json", "mode": "INPUT", "data": text, "encoding": encoding}


def line(request: Any = REQUEST, response: Any = ANSWER, *, encoding: str = "JSON", **event: Any) -> bytes:
    return json.dumps(
        {
            "captureData": {
                "endpointInput": captured(request, encoding=encoding),
                "endpointOutput": captured(response, encoding=encoding),
            },
            "eventMetadata": {
                "eventId": "9c2f8d4e-0000-4000-8000-1d7b54b0e6a1",
                "inferenceId": "answer-17",
                "inferenceTime": "2026-11-20T12:00:00Z",
                "customAttributes": [QUESTION],
            }
            | event,
            "eventVersion": "0",
        }
    ).encode()


def kept(raw: bytes, *, passages_percent: int = 0) -> Iterator[bytes]:
    return redacted(raw, passages_percent=passages_percent)


def clean(raw: bytes) -> dict[str, Any]:
    (only,) = kept(raw)
    return orjson.loads(only)


def strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for part in value.values() for text in strings(part)]
    if isinstance(value, list):
        return [text for part in value for text in strings(part)]
    return [value] if isinstance(value, str) else []


@pytest.mark.parametrize("encoding", ["JSON", "BASE64"])
def test_ids_times_counts_and_sizes_are_kept(encoding: str) -> None:
    found = clean(line(encoding=encoding))

    for text in (QUESTION, "Doe", "warfarin", "Be brief", "Ask her doctor"):
        assert text not in json.dumps(found)
    assert found["event_id"] == "9c2f8d4e-0000-4000-8000-1d7b54b0e6a1"
    assert found["inference_id"] == "answer-17"
    assert found["inference_time"] == "2026-11-20T12:00:00Z"
    assert found["request"]["parameters"] == {"max_tokens": 256, "temperature": 0.0, "stream": True}
    assert found["request"]["messages"] == [
        {"role": "system", "characters": 9},
        {"role": "user", "characters": len(QUESTION)},
    ]
    assert found["request"]["sha256"] == hashlib.sha256(json.dumps(REQUEST).encode()).hexdigest()
    assert found["response"]["usage"] == {"prompt_tokens": 31, "completion_tokens": 5, "total_tokens": 36}
    assert (found["response"]["finish_reason"], found["response"]["characters"]) == ("stop", 15)


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("event", {"eventId": QUESTION}),
        ("event", {"inferenceId": "Jane Doe"}),
        ("event", {"inferenceTime": "on 2026-11-20 Mrs Doe called"}),
        ("request", {"max_tokens": "Doe"}),
        ("request", {"messages": [{"role": "Doe", "name": "Doe"}]}),
        ("response", {"choices": [{"finish_reason": "Doe", "message": {"content": "Doe"}}]}),
        ("response", {"usage": {"prompt_tokens": "Doe", "Doe": 3}}),
    ],
)
def test_a_text_in_place_of_an_id_or_a_number_does_not_pass(part: str, change: dict[str, Any]) -> None:
    parts = {"request": REQUEST, "response": ANSWER}
    given = change if part == "event" else {part: parts[part] | change}
    assert "Doe" not in b"".join(kept(line(**given))).decode()


def test_a_streamed_answer_is_measured_over_its_parts() -> None:
    parts = [
        {"id": "chatcmpl-12", "model": "Qwen3-8B", "choices": [{"delta": {"content": "Ask "}}]},
        {"choices": [{"delta": {"content": "her."}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}},
    ]
    stream = "".join(f"data: {json.dumps(part)}\n\n" for part in parts) + "data: [DONE]\n\n"

    response = clean(line(response=stream))["response"]

    assert (response["id"], response["characters"], response["finish_reason"]) == ("chatcmpl-12", 8, "stop")
    assert response["usage"]["total_tokens"] == 11


@pytest.mark.parametrize("raw", [b"{", b"[]", b'"Mrs Doe"', b"\xff\xfe Doe", b'{"captureDatum": "Doe"}'])
def test_only_the_size_is_kept_of_an_unreadable_line(raw: bytes) -> None:
    unreadable = {"schema_version": 3, "readable": False, "event_version": None}
    assert clean(raw) == {**unreadable, "size_bytes": len(raw)}


@pytest.mark.parametrize("data", ["é", "a", "=", "no base64!"])
def test_a_body_that_is_not_base64_is_empty_and_the_next_lines_are_kept(data: str) -> None:
    broken = json.loads(line())
    broken["captureData"]["endpointInput"] |= {"data": data, "encoding": "BASE64"}

    first, second = map(orjson.loads, kept(json.dumps(broken).encode() + b"\n" + line()))

    assert first["request"]["size_bytes"] == 0
    assert second["inference_id"] == "answer-17"


KEYS = ("model", "messages", "inputs", "choices", "usage", "role", "content", "delta", "id", "prompt_tokens")
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(request=JSON, response=JSON)
def test_arbitrary_calls_raise_no_error_and_pass_no_text(request: Any, response: Any) -> None:
    marked = json.loads(json.dumps([request, response]).replace('": "', '": "Mrs. Doe, '))

    found = clean(line(*marked))

    assert not [text for text in strings(found) if "Doe" in text]


EMBEDDED = {"inputs": [QUESTION], "normalize": True, "truncate": False}


def embedded(purpose: str, number: int) -> bytes:
    return line(EMBEDDED, "", customAttributes=[f"purpose={purpose}"], eventId=f"event-{number}")


def test_an_embedded_question_is_kept_by_its_length() -> None:
    found = clean(embedded("question", 1))

    assert found["purpose"] == "question"
    assert found["request"]["inputs"] == [{"characters": len(QUESTION)}]
    assert "Doe" not in json.dumps(found)


@pytest.mark.parametrize("percent", [0, 10, 100])
def test_of_embedded_passages_the_share_is_kept_and_of_questions_all(percent: int) -> None:
    passages = b"\n".join(embedded("passage", number) for number in range(1000))
    questions = b"\n".join(embedded("question", number) for number in range(50))

    lines = list(kept(passages + b"\n" + questions, passages_percent=percent))
    purposes = [orjson.loads(one)["purpose"] for one in lines]

    assert purposes.count("question") == 50
    assert abs(purposes.count("passage") - 10 * percent) <= (30 if 0 < percent < 100 else 0)
    assert lines == list(kept(passages + b"\n" + questions, passages_percent=percent))


def test_an_unknown_attribute_is_no_purpose_and_is_not_kept() -> None:
    found = clean(line(EMBEDDED, "", customAttributes=["purpose=Mrs Doe"]))
    assert found["purpose"] is None
    assert "Doe" not in json.dumps(found)


@pytest.mark.parametrize("version", ["1", 0, None, "Mrs Doe, born 1961-02-03"])
def test_a_line_of_another_schema_is_unreadable_and_names_it(version: object) -> None:
    raw = orjson.dumps(orjson.loads(line()) | {"eventVersion": version})
    found = clean(raw)
    named = version if version == "1" else None
    assert found == {
        "schema_version": 3,
        "readable": False,
        "size_bytes": len(raw),
        "event_version": named,
    }


PROMPT = (
    "<document 1>\nTitle: Refills\n[1.1] Ask Marisol Quintero, ext. 4471.\n</document>\n\n"
    "<document 2>\nTitle: Mail\n[2.1] Wait.\n</document>\n\n"
    "Question: Marisol Quintero, member ID 88213 04417, called from 555-017-2299: may she refill warfarin?"
)
REPLY = "Tell Marisol Quintero that a refill is due after 14 days [1.1]."
CANARIES = ("Marisol", "Quintero", "88213", "04417", "555-017-2299", "4471", "Title")


@pytest.fixture(scope="module")
def replace() -> Replace:
    (made,) = joined(lambda option: option.replacer())
    return made


def told(raw: bytes, replace: Replace | None) -> dict[str, Any]:
    (only,) = redacted(raw, passages_percent=100, replace=replace)
    return orjson.loads(only)


def asked(*contents: tuple[str, str]) -> dict[str, Any]:
    return {"model": "m", "messages": [{"role": role, "content": content} for role, content in contents]}


def test_words_are_kept_without_documents_and_patients_data(replace: Replace) -> None:
    parts = [REPLY[:12], REPLY[12:30], REPLY[30:]]  # a name that a stream cuts is found in the whole
    streamed = "".join(
        f"data: {json.dumps({'choices': [{'delta': {'content': part}}]})}\n\n" for part in parts
    )
    found = told(line(asked(("system", "Be brief."), ("user", PROMPT)), streamed), replace)

    assert not [canary for canary in CANARIES if canary in json.dumps(found)]
    system, user = found["request"]["messages"]
    assert (system["text"], user["role"], user["characters"]) == ("Be brief.", "user", len(PROMPT))
    assert user["text"].startswith("Question: <PERSON>")
    assert user["text"].endswith("may she refill warfarin?")
    assert found["response"]["text"] == "Tell <PERSON> that a refill is due after 14 days [1.1]."
    assert found["response"]["characters"] == len(REPLY)


def test_no_word_is_kept_of_a_reply_or_its_check(replace: Replace) -> None:
    system, live = "Write for the patient.", "Live values of this person:\n- Order status: Out for delivery\n"
    user = f"<lines>\n- Refill: After 14 days.\n</lines>\n\n{live}"
    for messages in ([("system", system), ("user", user)], [("user", system + user)]):
        answered = json.dumps({"choices": [{"message": {"content": "It is out for delivery."}}]})
        found = told(line(asked(*messages), answered), replace)
        assert found["request"]["messages"][-1].keys() == {"role", "characters"}
        assert "delivery" not in json.dumps(found)


@pytest.mark.parametrize(
    ("content", "kept_text"),
    [
        ("<document 1>\nTitle: Ref", ""),  # cut in a document
        (
            "Before. <document 1>a</document> Between. <document 2>b</document> After.",
            "Before.  Between.  After.",
        ),
        ("</document> After.", "After."),
        ("No document.", "No document."),
    ],
)
def test_no_cut_lets_a_document_pass(content: str, kept_text: str, replace: Replace) -> None:
    (message,) = told(line(asked(("user", content))), replace)["request"]["messages"]
    assert message["text"] == kept_text


def broken(text: str) -> str:
    raise RuntimeError(text)


def test_where_the_filter_fails_no_word_passes(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    found = told(line(asked(("user", PROMPT)), ANSWER), broken)
    assert found["request"]["messages"] == [{"role": "user", "characters": len(PROMPT)}]
    assert "text" not in found["response"]
    printed = capsys.readouterr()
    # Which of them gets the line depends on whether this process has configured logging.
    logged = printed.out + printed.err + caplog.text
    assert "captured_text_dropped" in logged
    assert not [canary for canary in CANARIES if canary in logged]


def test_of_embedded_texts_the_questions_are_kept(replace: Replace) -> None:
    question, passage = (told(embedded(purpose, 1), replace) for purpose in ("question", "passage"))
    assert question["request"]["inputs"][0]["text"].endswith("asks about warfarin")
    assert "Doe" not in json.dumps(question)
    assert passage["request"]["inputs"] == [{"characters": len(QUESTION)}]
