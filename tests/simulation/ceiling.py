"""The ceiling: weights as a learner gives them, fitted to the true labels of the agents' questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assistant.answering.rank import INDEX_FEATURES, Weights, WeightsFile, read_weights, shipped_weights
from tests.simulation.replay import UNIT_FEATURES, Replay, is_right_first

Array = NDArray[np.float64]
_PULLS = (0.0003, 0.001, 0.003, 0.01, 0.03)
_STEPS, _RATE = 300, 0.05


def weights_of(features: Mapping[str, float], documents: Mapping[str, float], *, why: str) -> Weights:
    """Return ranker weights as a weights file would hold them."""
    content = WeightsFile(
        kind="ranker",
        features={name: round(value, 6) for name, value in features.items()},
        documents={name: round(value, 6) for name, value in sorted(documents.items())},
        fitted_on=why,
    )
    return read_weights(content.model_dump_json().encode(), name=why, kind="ranker")


def true_labels(asked: Sequence[Replay], *, pulls: Sequence[float] = _PULLS) -> Weights:
    """Return weights and offsets fitted to the true labels of the agents' questions.

    Listwise softmax over the final scores of the candidates with units, pulled to the shipped weights. The
    pull is chosen by two-fold validation over the agents' questions. The test questions are not used.
    """
    halves = asked[::2], asked[1::2]

    def right(pull: float) -> int:
        folds = ((halves[0], halves[1]), (halves[1], halves[0]))
        fitted = [(fit(part, pull), check) for part, check in folds]
        return sum(is_right_first(one, weights) for weights, check in fitted for one in check)

    return fit(asked, max(pulls, key=right))


@dataclass(frozen=True, slots=True)
class _Row:
    """One question's candidates with units."""

    columns: Array
    """What the index weights multiply, shape (candidates, ``INDEX_FEATURES``)."""
    fixed: Array
    documents: NDArray[np.int64]
    """Place of each candidate's offset."""
    right: Array


def fit(asked: Sequence[Replay], pull: float) -> Weights:
    """Return the weights that make the right documents most likely, by Adam with a quadratic pull."""
    shipped, share = shipped_weights("ranker"), shipped_weights("reranker").features["index"]
    names = sorted({name for one in asked for name in one.found.document_ids})
    rows = _rows(asked, {name: at for at, name in enumerate(names)}, share)
    count = len(INDEX_FEATURES)
    prior = np.concatenate([[shipped.features[name] for name in INDEX_FEATURES], np.zeros(len(names))])
    values, first, second = prior.copy(), np.zeros_like(prior), np.zeros_like(prior)
    for step in range(1, _STEPS + 1):
        gradient = pull * (values - prior)
        for row in rows:
            scores = row.columns @ values[:count] + row.fixed + share * values[count + row.documents]
            expected = np.exp(scores - scores.max())
            wanted = expected * row.right
            change = (expected / expected.sum() - wanted / wanted.sum()) / len(rows)
            gradient[:count] += row.columns.T @ change
            np.add.at(gradient, count + row.documents, share * change)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        values -= _RATE * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    features: dict[str, float] = dict(zip(INDEX_FEATURES, map(float, values[:count]), strict=True))
    offsets = dict(zip(names, map(float, values[count:]), strict=True))
    return weights_of(features, offsets, why="true labels")


def _rows(asked: Sequence[Replay], place: Mapping[str, int], share: float) -> list[_Row]:
    """Return the questions that have a right document among the candidates with units."""
    reranker, rows = shipped_weights("reranker"), list[_Row]()
    for one in asked:
        found = one.found
        read = {at: units for at, units in enumerate(found.units) if units is not None}
        right = np.array([float(found.document_ids[at] in found.question.right) for at in read])
        if right.any():
            fixed = [reranker.score(dict(zip(UNIT_FEATURES, units, strict=True))) for units in read.values()]
            documents = np.array([place[found.document_ids[at]] for at in read])
            rows.append(_Row(one.standard()[list(read)] * share, np.array(fixed), documents, right))
    return rows
