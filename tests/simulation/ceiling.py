"""The ceiling: weights as a learner gives them, fitted to the true labels of the agents' questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from assistant.answering.rank import INDEX_FEATURES, Weights, WeightsFile, read_weights, shipped_weights
from assistant.tuning.estimator import Estimator, Floats
from assistant.tuning.ranking import FEATURES, Candidates
from tests.simulation.replay import UNIT_FEATURES, Replay, is_right_first

_PULLS = (0.0003, 0.001, 0.003, 0.01, 0.03)
_STEPS = 300


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

    The pull to the shipped weights is chosen by two-fold validation over the agents' questions. The test
    questions are not used.
    """
    halves = asked[::2], asked[1::2]

    def right(pull: float) -> int:
        folds = ((halves[0], halves[1]), (halves[1], halves[0]))
        fitted = [(fit(part, pull), check) for part, check in folds]
        return sum(is_right_first(one, weights) for weights, check in fitted for one in check)

    return fit(asked, max(pulls, key=right))


def fit(asked: Sequence[Replay], pull: float) -> Weights:
    """Return the weights that make the right documents most likely among the candidates with units."""
    shipped, reranker = shipped_weights("ranker").features, shipped_weights("reranker")
    names = sorted({name for one in asked for name in one.found.document_ids})
    rows = [(one, {at: units for at, units in enumerate(one.found.units) if units}) for one in asked]
    rows = [(one, read) for one, read in rows if {one.found.document_ids[at] for at in read} & _right(one)]
    shape = len(rows), max(len(read) for _, read in rows)
    documents, right = np.zeros(shape, int), np.zeros(shape)
    base, steepness, standard = np.full(shape, -np.inf), np.zeros(shape), np.zeros((*shape, FEATURES))
    before = np.array([shipped[name] for name in INDEX_FEATURES])
    for row, (one, read) in enumerate(rows):
        found = [one.found.document_ids[at] for at in read]
        documents[row, : len(read)] = np.searchsorted(names, found)
        right[row, : len(read)] = [name in _right(one) for name in found]
        standard[row, : len(read)] = one.standard()[list(read)]
        steepness[row, : len(read)] = reranker.features["index"]
        units = [reranker.score(dict(zip(UNIT_FEATURES, values, strict=True))) for values in read.values()]
        base[row, : len(read)] = units + steepness[row, : len(read)] * (standard[row, : len(read)] @ before)
    design = Candidates(documents, base, standard, steepness, len(names))

    def wanted(chance: Floats) -> Floats:
        likely = chance * right
        return likely / likely.sum(axis=1, keepdims=True)

    moved = Estimator(pull=pull * len(rows), steps=_STEPS).fit(design, wanted).tolist()
    features: dict[str, float] = dict(zip(INDEX_FEATURES, before + moved[:FEATURES], strict=True))
    return weights_of(features, dict(zip(names, moved[FEATURES:], strict=True)), why="true labels")


def _right(one: Replay) -> frozenset[str]:
    return one.found.question.right
