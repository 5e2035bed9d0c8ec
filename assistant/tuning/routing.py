"""Learns a router of sources from labelled questions, by multinomial logistic regression.

    P(source | question) = softmax over sources of bias + vector · question + Σ weights of its words
    loss                 = mean cross-entropy against the labels + pull of vector and words towards 0

The label of a question is the source that should come first. Questions are read without the names of their
items, and words of one item's questions alone are left out: they name it. Everything is deterministic by the
order of the questions; the seed only draws the folds of cross-validation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
import orjson
from numpy.typing import NDArray

from assistant.answering.routing import Router, RouterFile, keyword_scores, question_words
from assistant.domain.errors import ConfigurationError
from assistant.domain.public import PublicModel
from assistant.settings.tenant import SourceEntry

Floats = NDArray[np.float64]
LEAST_QUESTIONS = 40
LEAST_GROUPS = 2
"""Groups in whose questions a word occurs, to get a weight: a word of one group is an item's name."""
FOLDS = 5
_STEPS, _RATE = 400, 0.05
_DECIMALS = 5


@dataclass(frozen=True, slots=True)
class LabelledQuestion:
    """A question with the sources that can answer it."""

    text: str
    """With "it" for each item that it names."""
    vector: Sequence[float]
    """Of ``text``, unit length, shape (dimensions,)."""
    sources: tuple[str, ...]
    """Names, the one that should come first at the beginning; never empty."""
    group: str
    """Questions of one group are never both learned from and judged: an item, or the wording."""


@dataclass(frozen=True, slots=True)
class RoutingPlan:
    """How strongly the weights are held at 0."""

    vector_pull: float = 0.005
    word_pull: float = 0.005
    word_scale: float = 0.6
    """Value of a word that occurs, beside a vector of unit length."""
    vector_scale: float = 4.0


class RoutingReport(PublicModel):
    """What cross-validation says of a router. It is kept in ``RouterRelease.report``."""

    schema_version: int = 1
    questions: int
    of_source: dict[str, int]
    """Questions by the source that should come first."""
    right_first: float
    """Share of the questions whose first source the router puts first, each judged by a router that was
    learned without its group."""
    keywords_right_first: float
    """The same of the words that are usual for a kind of source."""
    gain_low: float
    """Lower end of the 95 % interval of the difference, paired, bootstrapped by question."""
    words: int
    refused_because: str = ""


def learn(
    questions: Sequence[LabelledQuestion],
    *,
    sources: Sequence[str],
    embedding_model: str,
    fitted_on: str,
    plan: RoutingPlan | None = None,
) -> RouterFile:
    """Return the router of these questions. Raises ConfigurationError for labels that name no source."""
    plan = plan or RoutingPlan()
    unknown = sorted({name for one in questions for name in one.sources} - set(sources))
    if unknown:
        raise ConfigurationError(
            f"The questions name sources that the tenant does not have: {', '.join(unknown)}."
        )
    groups: dict[str, set[str]] = {}
    for one in questions:
        for word in question_words(one.text):
            groups.setdefault(word, set()).add(one.group)
    words = sorted(word for word, found in groups.items() if len(found) >= LEAST_GROUPS)
    place = {word: at for at, word in enumerate(words)}
    vectors = np.array([one.vector for one in questions], dtype=np.float64) * plan.vector_scale
    present = np.zeros((len(questions), len(words)))
    for row, one in enumerate(questions):
        present[row, [place[word] for word in question_words(one.text) if word in place]] = 1.0
    features = np.hstack([np.ones((len(questions), 1)), vectors, present * plan.word_scale])
    pull = np.concatenate(
        [[0.0], np.full(vectors.shape[1], plan.vector_pull), np.full(len(words), plan.word_pull)]
    )
    weights = _fit(features, _labels(questions, sources), pull)
    dimensions = vectors.shape[1]
    return RouterFile(
        sources=tuple(sources),
        embedding_model=embedding_model,
        bias=_row(weights[0]),
        vector=tuple(_row(row) for row in (weights[1 : 1 + dimensions] * plan.vector_scale).T),
        words={
            word: _row(row)
            for word, row in zip(words, weights[1 + dimensions :] * plan.word_scale, strict=True)
        },
        fitted_on=fitted_on,
    )


def _labels(questions: Sequence[LabelledQuestion], sources: Sequence[str]) -> Floats:
    """Return 1 for the source that should come first, else 0, shape (questions, sources)."""
    labels = np.zeros((len(questions), len(sources)))
    for row, one in enumerate(questions):
        labels[row, sources.index(one.sources[0])] = 1.0
    return labels


def _fit(features: Floats, labels: Floats, pull: Floats) -> Floats:
    """Return the weights, shape (features, sources), by Adam over all questions at once."""
    weights = np.zeros((features.shape[1], labels.shape[1]))
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for step in range(1, _STEPS + 1):
        gradient = features.T @ (_softmax(features @ weights) - labels) / len(labels)
        gradient += pull[:, None] * weights
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.999 * square + 0.001 * gradient**2
        weights -= _RATE * (mean / (1 - 0.9**step)) / (np.sqrt(square / (1 - 0.999**step)) + 1e-8)
    return weights


def _softmax(scores: Floats) -> Floats:
    raised = np.exp(scores - scores.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def _row(values: Floats) -> tuple[float, ...]:
    return tuple(round(float(value), _DECIMALS) for value in values)


def router_bytes(content: RouterFile) -> bytes:
    return orjson.dumps(content.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)


# How well it routes questions that it has not seen


def fold_of(group: str, *, seed: int) -> int:
    return int(sha256(f"{seed} {group}".encode()).hexdigest(), 16) % FOLDS


def first_of(scores: Mapping[str, float]) -> str:
    """Return the source with the highest score; of equal ones the first of the tenant file."""
    return max(scores, key=lambda name: scores[name])


def cross_validated(
    questions: Sequence[LabelledQuestion],
    *,
    sources: Sequence[SourceEntry],
    seed: int = 0,
    plan: RoutingPlan | None = None,
) -> RoutingReport:
    """Return how often the right source comes first: by routers that have not seen a question's group, and by
    the words of the kinds.

    Raises ConfigurationError for too few questions, or labels that name no source.
    """
    if len(questions) < LEAST_QUESTIONS:
        raise ConfigurationError(
            f"{len(questions)} labelled questions are too few to learn from; write {LEAST_QUESTIONS} or more."
        )
    names = [source.name for source in sources]
    folds = [fold_of(one.group, seed=seed) for one in questions]
    right, by_words = np.zeros(len(questions)), np.zeros(len(questions))
    for fold in sorted(set(folds)):
        seen = [one for one, own in zip(questions, folds, strict=True) if own != fold]
        content = learn(seen, sources=names, embedding_model="", fitted_on="", plan=plan)
        router = Router(content, sha256="")
        for at, one in enumerate(questions):
            if folds[at] == fold:
                right[at] = first_of(router.scores(one.text, one.vector)) == one.sources[0]
                by_words[at] = first_of(keyword_scores(one.text, sources)) == one.sources[0]
    draws = np.random.default_rng(seed).integers(0, len(questions), (1_000, len(questions)))
    low = float(np.quantile((right - by_words)[draws].mean(axis=1), 0.025))
    return RoutingReport(
        questions=len(questions),
        of_source=dict(Counter(one.sources[0] for one in questions)),
        right_first=round(float(right.mean()), 4),
        keywords_right_first=round(float(by_words.mean()), 4),
        gain_low=round(low, 4),
        words=len({word for one in questions for word in question_words(one.text)}),
        refused_because="" if low > 0.0 else "it does not route better than the words of the kinds",
    )
