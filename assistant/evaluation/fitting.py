"""Fits the weights files on the tuning halves of the committed questions: ``make fit``.

Ranker, reranker and quoter: listwise softmax. Of the candidates of one question (documents of a search,
documents that were read, units of a right document) the right ones should take the most probability; an L2
pull towards the prior keeps some 300 questions from moving what they say little about. Gate: logistic
regression, both labels weighing the same. Nothing is standardised that the answer path does not standardise,
so that a weight in a file multiplies the feature as it is. Everything is deterministic.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from assistant.answering.evidence import Evidence
from assistant.answering.retrieve import INDEX_FEATURES, Kind, Weights, WeightsFile, standardised
from assistant.evaluation.judging import Observed, is_gold
from assistant.evaluation.questions import EvaluationQuestion

DECIMALS = 4
_PRIORS = Path(__file__).with_name("priors.toml")
PULL: Mapping[Kind, float] = {"ranker": 10.0, "reranker": 5.0, "quoter": 5.0, "gate": 2.0}
"""Strength of the prior, in questions: a weight that is off by 1 costs half of this."""
_STEPS, _RATE = 400, 0.05
_GATE_STEPS, _GATE_RATE = 3_000, 0.3
_UNIT_COSINE = "unit_cosine"

Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Choice:
    """One list to choose from: a row of features for each candidate, and which rows are right."""

    rows: Matrix
    right: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class GateRow:
    """What the gate read for one question, and whether there is an answer."""

    features: Mapping[str, float]
    answerable: bool


@dataclass(frozen=True, slots=True)
class Thresholds:
    """``[gate]`` of a tenant file."""

    answered: float
    possibly: float


def fit_listwise(choices: Sequence[Choice], prior: Sequence[float], *, pull: float) -> list[float]:
    """Return the weights that make the right rows likely, by Adam from the prior on."""
    start = np.array(prior, float)
    weights, first, second = start.copy(), np.zeros_like(start), np.zeros_like(start)
    if not choices:
        return weights.tolist()
    for step in range(1, _STEPS + 1):
        gradient = pull * (weights - start)
        for choice in choices:
            chance = _softmax(choice.rows @ weights)
            wanted = np.zeros_like(chance)
            right = list(choice.right)
            wanted[right] = chance[right] / chance[right].sum()
            gradient += choice.rows.T @ (chance - wanted)
        gradient /= len(choices)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        weights = weights - _RATE * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
    return weights.tolist()


def fit_gate(rows: Sequence[GateRow], names: Sequence[str], *, pull: float) -> tuple[list[float], float]:
    """Return weights and bias of a logistic model. The features are scaled inside, for the pull to be even,
    and the scale is folded into the weights that are returned."""
    values = np.array([[row.features.get(name, 0.0) for name in names] for row in rows], float)
    labels = np.array([row.answerable for row in rows], bool)
    if not labels.any() or labels.all():
        raise ValueError("The gate is fitted on answerable and unanswerable questions: one kind is missing.")
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    deviation[deviation < 1e-9] = 1.0
    scaled = (values - mean) / deviation
    share = float(labels.mean())
    even: Matrix = np.where(labels, 0.5 / share, 0.5 / (1 - share))
    weights: Matrix = np.zeros(len(names))
    bias = 0.0
    for _ in range(_GATE_STEPS):
        off: Matrix = even * (1 / (1 + np.exp(-(scaled @ weights + bias))) - labels)
        weights = weights - _GATE_RATE * (scaled.T @ off + pull * weights) / len(labels)
        bias -= _GATE_RATE * float(off.mean())
    folded: Matrix = weights / deviation
    return folded.tolist(), bias - float(folded @ mean)


def choose_thresholds(
    rows: Iterable[tuple[float, bool]], *, most_answered: float = 0.08, most_refused: float = 0.04
) -> Thresholds:
    """Return thresholds over (probability, answerable): at most ``most_answered`` of the unanswerable are
    answered, at most ``most_refused`` of the answerable refused."""
    kept = list(rows)
    unanswerable = sorted((value for value, answerable in kept if not answerable), reverse=True)
    answerable = sorted(value for value, answerable in kept if answerable)
    answered = _between(unanswerable, int(most_answered * len(unanswerable)))
    possibly = _between(answerable, int(most_refused * len(answerable)), above=False)
    return Thresholds(answered=max(answered, possibly), possibly=possibly)


def _between(ordered: Sequence[float], count: int, *, above: bool = True) -> float:
    """Return a threshold that ``count`` of the ordered values pass (``above``) or miss."""
    if not ordered:
        return 0.5
    edge = ordered[min(count, len(ordered) - 1)]
    if above:
        before = ordered[count - 1] if count > 0 else 1.0
        return round(min(1.0, max((edge + before) / 2, edge + 0.5 * 10**-DECIMALS)), DECIMALS)
    return round(max(0.0, edge - 0.5 * 10**-DECIMALS), DECIMALS)


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


def quoter_choices(observed: Iterable[Observed], names: Sequence[str]) -> list[Choice]:
    """Return the units of each right document that was read."""
    choices: list[Choice] = []
    for question, evidence in _answerable(observed):
        for name in question.documents:
            units = evidence.scored.get(name, ())
            rows = [[one.features.get(feature, 0.0) for feature in names] for one in units]
            _add(choices, rows, [at for at, one in enumerate(units) if is_gold(one.unit.text, question.gold)])
    return choices


def reranker_choices(
    observed: Iterable[Observed],
    names: Sequence[str],
    *,
    ranker_before: Weights,
    ranker: Mapping[str, float],
    quoter: Mapping[str, float],
) -> list[Choice]:
    """Return the documents that were read, with the scores that the new ranker and quoter give them."""
    choices: list[Choice] = []
    for question, evidence in _answerable(observed):
        found = {one.document_id: one.features for one in evidence.ranked}
        standard = standardised(
            {name: {f: v for f, v in given.items() if f in INDEX_FEATURES} for name, given in found.items()},
            INDEX_FEATURES,
        )
        rows: list[list[float]] = []
        right: list[int] = []
        for name, units in evidence.scored.items():
            raised = found[name].get("index", 0.0) - ranker_before.score(standard[name])  # of a named code
            features = {
                **found[name],
                "index": _product(ranker, standard[name]) + raised,
                **_unit_features([one.features for one in units], quoter),
            }
            if name in question.documents:
                right.append(len(rows))
            rows.append([features.get(feature, 0.0) for feature in names])
        _add(choices, rows, right)
    return choices


def gate_rows(observed: Iterable[Observed]) -> list[GateRow]:
    """Return what the gate read for each part of each message; a missing code is no matter of weights."""
    return [
        GateRow(evidence.gate_features, one.question.answerable)
        for one in observed
        for evidence in one.prepared.evidence
        if evidence.gate_features and evidence.gate.probability
    ]


def message_probability(observed: Observed, weights: Weights) -> float:
    """Return the probability by which a message is let through: of its parts the highest."""
    return max(
        (
            weights.probability(one.gate_features) if one.gate.probability and one.gate_features else 0.0
            for one in observed.prepared.evidence
        ),
        default=0.0,
    )


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


def prior_of(kind: Kind, names: Sequence[str]) -> list[float]:
    """Return what the weights of these features are pulled towards: those of ``priors.toml``, else 0."""
    prior = tomllib.loads(_PRIORS.read_text(encoding="utf-8")).get(kind, {})
    return [float(prior.get(name, 0.0)) for name in names]


def _answerable(observed: Iterable[Observed]) -> Iterable[tuple[EvaluationQuestion, Evidence]]:
    for one in observed:
        if one.question.answerable:
            for evidence in one.prepared.evidence:
                yield one.question, evidence


def _unit_features(units: Sequence[Mapping[str, float]], quoter: Mapping[str, float]) -> dict[str, float]:
    """Return the reranker's features of a document's units: it runs before units have vectors."""
    plain = {name: weight for name, weight in quoter.items() if name != _UNIT_COSINE}
    scores = sorted((_product(plain, features) for features in units), reverse=True)
    return {"best_unit": scores[0] if scores else 0.0, "best_units": sum(scores[:3]) / 3}


def _product(weights: Mapping[str, float], values: Mapping[str, float]) -> float:
    return sum(weight * values.get(name, 0.0) for name, weight in weights.items())


def _add(choices: list[Choice], rows: Sequence[Sequence[float]], right: Sequence[int]) -> None:
    if right and len(rows) > 1:
        choices.append(Choice(np.array(rows, float), tuple(right)))


def _softmax(scores: Matrix) -> Matrix:
    raised = np.exp(scores - scores.max())
    return raised / raised.sum()
