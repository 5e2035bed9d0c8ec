"""Measures on which scale the cosines of an embedding model lie, by packaged pairs of question and answer.

The evidence gate's weights expect the packaged model's cosines
(docs/decisions/0032-cosines-of-another-embedding-model.md).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from assistant.domain.documents import embedding_input
from assistant.domain.errors import ConfigurationError
from assistant.model_server.embedding_runtime import Floats, of_unit_length
from assistant.settings.tenant import SMALLEST_COSINE_GAP

_PAIRS = Path(__file__).with_name("cosine_pairs.json")
_DECIMALS = 3
"""The packaged model's float32 and bfloat16 means differ by less than 0.001."""
Embed = Callable[[str], Floats]
"""Returns the vector of one text, shape (hidden,), of any length."""


@dataclass(frozen=True, slots=True)
class Pair:
    question: str
    answer: str
    """As a passage is embedded: under its title."""


@dataclass(frozen=True, slots=True)
class CosineMeans:
    """Mean cosines of questions with the answers of the other pairs, and with their own."""

    unrelated: float
    related: float

    def refuse_alike(self, model: str) -> None:
        """Raise ConfigurationError where a question is hardly nearer to its own answer than to others."""
        if self.related - self.unrelated > SMALLEST_COSINE_GAP:
            return
        raise ConfigurationError(
            f"{model} does not tell related from unrelated text: a question's mean cosine is {self.related} "
            f"with its answer and {self.unrelated} with other texts. Give the pooling that it was trained "
            "with (--pooling mean or --pooling cls), or take another model."
        )


def packaged_pairs() -> list[Pair]:
    """Return the pairs; each has a subject that no other has."""
    found = json.loads(_PAIRS.read_bytes())["pairs"]
    return [
        Pair(each["question"], embedding_input(title=each["title"], heading="", text=each["answer"]))
        for each in found
    ]


def measure_cosines(embed: Embed) -> CosineMeans:
    """Return the model's mean cosines over the packaged pairs."""
    pairs = packaged_pairs()
    questions = of_unit_length(np.stack([embed(pair.question) for pair in pairs]))
    answers = of_unit_length(np.stack([embed(pair.answer) for pair in pairs]))
    cosines = questions @ answers.T
    own = np.eye(len(pairs), dtype=np.bool_)
    return CosineMeans(
        unrelated=round(float(cosines[~own].mean()), _DECIMALS),
        related=round(float(cosines[own].mean()), _DECIMALS),
    )
