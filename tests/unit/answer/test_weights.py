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
        (b"{", "JSON"),
        (raw(features={}), "at least 1"),
        (raw(schema_version=2), "1"),
        (raw(kind="judge"), "live"),
        (raw().replace(b"2.0", b"NaN"), "finite"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_with_its_name(content: bytes, said: str) -> None:
    with pytest.raises(ConfigurationError, match=r"live\.json: not a weights file") as raised:
        read_weights(content, name="live.json", kind="live")
    assert said in raised.value.message


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_repository_ships_weights_of_every_kind(kind: Kind) -> None:
    weights = shipped_weights(kind)
    assert weights.kind == kind
    assert weights is shipped_weights(kind)
