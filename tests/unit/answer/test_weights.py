"""Weights files: what they hold, and what is wrong with one."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import Any, get_args

import pytest
from pydantic import ValidationError

from assistant.answer.scores import Kind, Weights, WeightsFile, shipped_weights

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
    assert Weights.of(content).sha256 == hashlib.sha256(content).hexdigest()


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
def test_a_file_that_holds_no_weights_is_refused(content: bytes, said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Weights.of(content)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_the_repository_ships_weights_of_every_kind(kind: Kind) -> None:
    raw = files("assistant.answer").joinpath("weights", f"{kind}.json").read_bytes()
    assert WeightsFile.model_validate_json(raw).kind == kind
    assert shipped_weights(kind) is shipped_weights(kind)
