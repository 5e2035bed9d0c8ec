"""Fits the weights files on the tuning halves of the committed questions: ``make fit``.

Documents and units: listwise softmax. Of the candidates of one question the right ones should take the most
probability; an L2 penalty on standardised features keeps some 300 questions from saying more than they know.
The gate and the head of readings: logistic regression with the same penalty. Everything is deterministic, and
the scale is folded into the weights, so that a weight in a file multiplies the feature as it is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from assistant.answering.evidence import Evidence
from assistant.answering.rank import INDEX_FEATURES, Kind, WeightsFile, standardised
from assistant.evaluation.judging import Observed, holds_all, is_gold, normal
from assistant.evaluation.questions import EvaluationQuestion

DECIMALS = 4
PENALTY: Mapping[Kind, float] = {
    "ranker": 0.01,
    "units": 0.02,
    "unit_vectors": 0.02,
    "reranker": 0.01,
    "gate": 0.005,
    "live": 0.0015,
}
_STEPS, _RATE = 1_500, 0.05
_STILL = 1e-6

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """One list to choose from: a row of features for each candidate, and which rows are right."""

    rows: Matrix
    right: tuple[int, ...]


def fit_listwise(choices: Sequence[Choice], *, penalty: float) -> list[float]:
    """Return the weights that make the right rows likely, each right row alike."""
    scale = _scale(np.concatenate([choice.rows for choice in choices]))
    rows = [choice.rows / scale for choice in choices]
    wanted = [_even(choice) for choice in choices]

    def gradient(weights: Matrix) -> Matrix:
        total = 2 * penalty * weights
        for one, right in zip(rows, wanted, strict=True):
            total = total + one.T @ (_softmax(one @ weights) - right) / len(rows)
        return total

    return (_descend(gradient, rows[0].shape[1]) / scale).tolist()


def fit_logistic(
    rows: Matrix, labels: Sequence[bool], *, penalty: float, standardise: bool = True
) -> tuple[list[float], float]:
    """Return weights and bias of a logistic model, shape (features,)."""
    mean, scale = rows.mean(axis=0), _scale(rows)
    if not standardise:
        mean, scale = np.zeros_like(mean), np.ones_like(scale)
    scaled = np.hstack([(rows - mean) / scale, np.ones((len(rows), 1))])
    wanted = np.array(labels, float)

    def gradient(weights: Matrix) -> Matrix:
        held = 2 * penalty * weights
        held[-1] = 0.0
        return scaled.T @ (1 / (1 + np.exp(-(scaled @ weights))) - wanted) / len(rows) + held

    weights = _descend(gradient, scaled.shape[1])
    folded = weights[:-1] / scale
    return folded.tolist(), float(weights[-1] - folded @ mean)


def _descend(gradient: Callable[[Matrix], Matrix], size: int) -> Matrix:
    """Return where the gradient ends, by Adam from zero."""
    weights, first, second = np.zeros(size), np.zeros(size), np.zeros(size)
    for step in range(1, _STEPS + 1):
        now = gradient(weights)
        if float(np.abs(now).max()) < _STILL:
            break
        first, second = 0.9 * first + 0.1 * now, 0.999 * second + 0.001 * now**2
        change = (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
        weights = weights - _RATE * change * (1 - step / (_STEPS + 1))
    return weights


def ranker_choices(observed: Iterable[Observed]) -> list[Choice]:
    """Return the candidates of each search with their standardised features."""
    choices: list[Choice] = []
    for question, evidence in _answerable(observed):
        found = {
            one.document_id: {name: one.features[name] for name in INDEX_FEATURES if name in one.features}
            for one in evidence.ranked
        }
        standard = standardised(found, INDEX_FEATURES)
        rows = [[standard[name].get(feature, 0.0) for feature in INDEX_FEATURES] for name in found]
        _add(choices, rows, [at for at, name in enumerate(found) if name in question.documents])
    return choices


def unit_choices(observed: Iterable[Observed], names: Sequence[str]) -> list[Choice]:
    """Return the units of each right document that was read."""
    choices: list[Choice] = []
    for question, evidence in _answerable(observed):
        for name in question.documents:
            units = evidence.scored.get(name, ())
            rows = [[one.features.get(feature, 0.0) for feature in names] for one in units]
            _add(choices, rows, [at for at, one in enumerate(units) if is_gold(one.unit.text, question.gold)])
    return choices


def document_choices(observed: Iterable[Observed], names: Sequence[str]) -> list[Choice]:
    """Return the documents that were ranked again, with what their units say of them."""
    choices: list[Choice] = []
    for question, evidence in _answerable(observed):
        again = [one for one in evidence.ranked if "index" in one.features]
        rows = [[one.features.get(feature, 0.0) for feature in names] for one in again]
        _add(choices, rows, [at for at, one in enumerate(again) if one.document_id in question.documents])
    return choices


def gate_rows(observed: Iterable[Observed], names: Sequence[str]) -> tuple[Matrix, list[bool]]:
    """Return what the gate read of each message with one question, and whether its section was right."""
    rows: list[list[float]] = []
    labels: list[bool] = []
    for one in observed:
        evidence = one.prepared.found.evidence[0]
        if len(one.prepared.found.evidence) > 1 or not evidence.features or evidence.section is None:
            continue
        text = normal(" ".join(unit.unit.text for unit in evidence.section.units))
        rows.append([evidence.features.get(name, 0.0) for name in names])
        labels.append(one.question.answerable and holds_all(text, one.question.answer_contains))
    return np.array(rows, float), labels


def weights_file(
    kind: Kind, names: Sequence[str], values: Sequence[float], *, fitted_on: str, bias: float = 0.0
) -> bytes:
    """Return the bytes of a weights file: four decimals, the same for the same weights."""
    content = WeightsFile(
        kind=kind,
        features={name: round(value, DECIMALS) + 0.0 for name, value in zip(names, values, strict=True)},
        bias=round(bias, DECIMALS) + 0.0,
        fitted_on=fitted_on,
    )
    return (json.dumps(content.model_dump(exclude={"documents"}), indent=1) + "\n").encode()


def _answerable(observed: Iterable[Observed]) -> Iterable[tuple[EvaluationQuestion, Evidence]]:
    for one in observed:
        if one.question.answerable:
            for evidence in one.prepared.found.evidence:
                yield one.question, evidence


def _add(choices: list[Choice], rows: Sequence[Sequence[float]], right: Sequence[int]) -> None:
    if right and len(rows) > 1:
        choices.append(Choice(np.array(rows, float), tuple(right)))


def _even(choice: Choice) -> Matrix:
    wanted = np.zeros(len(choice.rows))
    wanted[list(choice.right)] = 1 / len(choice.right)
    return wanted


def _scale(rows: Matrix) -> Matrix:
    deviation = rows.std(axis=0)
    deviation[deviation < 1e-9] = 1.0
    return deviation


def _softmax(scores: Matrix) -> Matrix:
    raised = np.exp(scores - scores.max())
    return raised / raised.sum()
