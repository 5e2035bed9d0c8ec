"""Weights files: what ranking, quoting and the gate learned from questions with known answers.

A file is JSON of the form of ``Weights``; its SHA-256 stands in every record that it shaped. The shipped
ones lie beside this module under ``weights/``. A model of a dozen weights is a dot product: nothing is
imported for it, and a reader of a record can do it by hand.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from math import exp
from typing import Literal

from pydantic import Field, FiniteFloat, ValidationError

from assistant.domain.errors import ConfigurationError
from assistant.domain.public import PublicModel

Kind = Literal["ranker", "reranker", "quoter", "gate"]


class WeightsFile(PublicModel):
    """The content of a weights file."""

    schema_version: Literal[1] = 1
    kind: Kind
    features: dict[str, FiniteFloat] = Field(min_length=1)
    """Weight by feature name. A feature that is computed and not named here counts nothing."""
    bias: FiniteFloat = 0.0
    fitted_on: str
    """What it was fitted on, in words."""


class Weights:
    """One weights file, ready to score."""

    __slots__ = ("bias", "features", "kind", "sha256")

    def __init__(self, content: WeightsFile, *, sha256: str) -> None:
        self.kind = content.kind
        self.features = content.features
        self.bias = content.bias
        self.sha256 = sha256

    def score(self, values: Mapping[str, float]) -> float:
        """Return bias + Σ weight · value; a feature without a value counts as 0."""
        get = values.get
        return self.bias + sum(weight * get(name, 0.0) for name, weight in self.features.items())

    def probability(self, values: Mapping[str, float]) -> float:
        """Return the logistic function of the score."""
        score = max(-40.0, min(40.0, self.score(values)))
        return 1.0 / (1.0 + exp(-score))


def read_weights(raw: bytes, *, name: str, kind: Kind) -> Weights:
    """Return the weights of a file's bytes. Raises ConfigurationError naming the file and what is wrong."""
    try:
        content = WeightsFile.model_validate_json(raw)
    except ValidationError as error:
        raise ConfigurationError(f"{name}: not a weights file: {error.errors()[0]['msg']}.") from None
    if content.kind != kind:
        raise ConfigurationError(f'{name}: kind is "{content.kind}"; it must be "{kind}" here.')
    return Weights(content, sha256=hashlib.sha256(raw).hexdigest())


@lru_cache
def shipped_weights(kind: Kind) -> Weights:
    """Return the repository's own weights of a kind."""
    resource = files("assistant.answering").joinpath("weights", f"{kind}.json")
    return read_weights(resource.read_bytes(), name=f"weights/{kind}.json", kind=kind)
