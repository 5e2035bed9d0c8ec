"""What of OpenAI's request is taken, and what is refused."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from assistant.domain.errors import InvalidRequestError, UnreadableRequestError
from assistant.model_server.generation import parse_chat_request

MESSAGES = [{"role": "user", "content": "What is code 79?"}]


def for_runtime(**fields: Any) -> dict[str, Any]:
    body = orjson.dumps({"messages": MESSAGES, **fields})
    return orjson.loads(parse_chat_request(body).for_runtime(most_tokens=100))


def test_known_fields_reach_the_runtime() -> None:
    fields = {
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "top_p": 0.9,
        "seed": 3,
        "stop": ["\n"],
        "max_tokens": 7,
    }

    assert for_runtime(**fields) == {"messages": MESSAGES, **fields}


def test_unknown_fields_are_tolerated_and_stay_here() -> None:
    assert set(for_runtime(user="agent", n_predict=999, id_slot=0)) == {"messages", "stream", "max_tokens"}


def test_answers_have_an_end_when_none_is_asked_for() -> None:
    assert for_runtime()["max_tokens"] == 100
    assert for_runtime(max_tokens=10_000)["max_tokens"] == 100


def test_the_newer_name_of_the_limit_is_taken() -> None:
    assert for_runtime(max_completion_tokens=5)["max_tokens"] == 5


def test_a_seed_of_more_than_32_bits_is_folded() -> None:
    assert for_runtime(seed=2**40 + 5)["seed"] == 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("messages", "hello"),
        ("messages", [{"role": "user"}]),
        ("messages", [{"role": "wizard", "content": "x"}]),
        ("messages", [{"role": "user", "content": [{"type": "text", "text": "a"}]}]),
        ("stream", "yes"),
        ("max_tokens", 0),
        ("temperature", 3),
        ("temperature", float("nan")),
        ("top_p", 0),
        ("seed", 1.5),
        ("stop", [3]),
        ("n", 2),
        ("response_format", {"type": "json_object"}),
        ("tools", [{"type": "function"}]),
        ("stream_options", {"include_usage": "yes"}),
    ],
)
def test_a_wrong_type_or_what_is_not_served_is_refused_by_name(field: str, value: object) -> None:
    body = orjson.dumps({"messages": MESSAGES, field: value}).replace(
        b'"temperature":null', b'"temperature":"nan"'
    )

    with pytest.raises(InvalidRequestError, match=field):
        parse_chat_request(body)


def test_what_is_empty_of_the_not_served_is_tolerated() -> None:
    assert for_runtime(tools=[], logprobs=False)


@pytest.mark.parametrize("body", [b"{", b"\xff"])
def test_what_is_no_json_is_unreadable(body: bytes) -> None:
    with pytest.raises(UnreadableRequestError):
        parse_chat_request(body)


@pytest.mark.parametrize("body", [b"3", b"[]"])
def test_what_is_no_object_is_invalid(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        parse_chat_request(body)
