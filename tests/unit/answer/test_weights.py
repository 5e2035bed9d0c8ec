"""Weights files: what they hold, and what is wrong with one."""

from __future__ import annotations

import hashlib
import json
from typing import Any, get_args

import pytest

from assistant.answer.scores import Kind, read_weights, shipped_weights
from assistant.domain.errors import ConfigurationError

CONTENT: dict[str, Any] = {
    "schema_version": 1,
    "kind": "live",
    "features": {"coverage": 2.0, "margin": -1.0},
    "bias": 0.5,
    "fitted_on": "a test",
}


def raw(**changes: Any) -> bytes:
    content = CONTENT | changes
    return json.dumps({name: value for name, value in content.items() if value is not None}).encode()


def test_the_hash_is_of_the_file_s_bytes() -> None:
    content = raw()
    weights = read_weights(content, name="live.json", kind="live")
    assert weights.sha256 == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "JSON"),
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"[]", "object"),
        (raw(features={}), "at least 1"),
        (raw(features={"coverage": "much"}), "number"),
        (raw(features=None), "required"),
        (raw(fitted_on=None), "required"),
        (raw(schema_version=2), "1"),
        (raw(kind="judge"), "live"),
        (raw(extra=1), "Extra"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(content: bytes, said: str) -> None:
    with pytest.raises(ConfigurationError, match=r"live\.json: not a weights file") as raised:
        read_weights(content, name="live.json", kind="live")
    assert said in raised.value.message


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity"])
def test_a_weight_is_a_finite_number(number: bytes) -> None:
    content = raw().replace(b"2.0", number)
    with pytest.raises(ConfigurationError, match="not a weights file"):
        read_weights(content, name="live.json", kind="live")


def test_a_file_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match='kind is "live"; it must be "ranker" here'):
        read_weights(raw(), name="weights/ranker.json", kind="ranker")


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_repository_ships_weights_of_every_kind(kind: Kind) -> None:
    weights = shipped_weights(kind)
    assert weights.kind == kind
    assert weights is shipped_weights(kind)
