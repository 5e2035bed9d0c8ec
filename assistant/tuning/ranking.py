"""Learns ranker weights and offsets of documents from what agents did with answers.

One question has at most one right document among its candidates. It is not observed; acts are evidence of it.

    P(right = d) = softmax over candidates of the served score, moved by the weights and offsets to learn
    loss         = - sum over answers of weight * log sum over d of P(right = d) * P(acts | right = d)
                   + pull of both towards the shipped ranker

The gradient of an answer is its softmax less its posterior: the listwise fit of ``evaluation/fitting.py``,
with labels that are probabilities. ``behaviour`` estimates P(acts | right = d) before weights are learned.
docs/decisions/0047 has the options and their figures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from assistant.answering.rank import INDEX_FEATURES, Weights, WeightsFile, shipped_weights
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.tuning.behaviour import (
    LEAST_DIFFERENCE,
    LEAST_RISE,
    Behaviour,
    Doubles,
    behaviour_of,
    evidence_of,
)
from assistant.tuning.signals import FEATURES, Flags, Floats, Numbers, Signals

MOST_OFFSETS = 3_000
"""Documents with an offset in one artifact; a desk item holds 400 KB."""
NOT_AMONG_THEM = 0.05
"""Probability that no candidate is right."""
_STEPS, _RATE = 160, 0.03
_CHUNK = 8_192
"""Answers whose arrays are in use at once: 8 MB."""


_STRONGEST_OF_QUESTION = 100.0
"""Bound on the likelihood ratio of all answers to one question: agents err alike about a near document."""


@dataclass(frozen=True, slots=True)
class LearningPlan:
    """How much is needed, how strongly the prior holds, how far weights may move."""

    least_signals: int = 300
    least_agents: int = 5
    weight_pull: float = 10.0
    """Strength of the prior in questions: a weight that is off by 1 costs half of this."""
    offset_pull: float = 5.0
    most_weight: float = 0.6
    """Largest change of one weight; the shipped ones are between 0.1 and 1.4."""
    most_offset: float = 0.5
    """Largest offset of a document, in units of the score."""
    least_of_document: int = 3
    """Answers that quoted, opened or marked a document, by two agents at least, for it to get an offset."""


@dataclass(frozen=True, slots=True)
class Learned:
    """The result before the gate."""

    weights: Mapping[str, float]
    documents: Mapping[str, float]
    behaviour: Behaviour
    signals: int
    """Answers that count."""
    questions: int
    """Different questions that they were given to."""
    agents: int
    """Agents whose answers count."""
    loss: tuple[float, float]
    """Mean loss of an answer without pull: before, after."""

    def file(self, *, share_of_weights: float = 1.0, share_of_offsets: float = 1.0, fitted_on: str) -> bytes:
        """Return the bytes of a ranker's weights file, with shares of the steps from the shipped one."""
        shipped = shipped_weights("ranker").features
        moved = {
            name: round(shipped[name] + share_of_weights * (value - shipped[name]), 4) + 0.0
            for name, value in self.weights.items()
        }
        largest = sorted(self.documents.items(), key=lambda one: (-abs(one[1]), one[0]))[:MOST_OFFSETS]
        offsets = {name: round(share_of_offsets * value, 4) + 0.0 for name, value in sorted(largest)}
        content = WeightsFile(
            kind="ranker",
            features=moved,
            documents={name: value for name, value in offsets.items() if value},
            fitted_on=fitted_on,
        )
        return (json.dumps(content.model_dump(), separators=(",", ":")) + "\n").encode()


def artifact_hash(raw: bytes) -> str:
    """Return the SHA-256 (hex) that a release is named by."""
    return sha256(raw).hexdigest()


def learn(signals: Signals, plan: LearningPlan) -> Learned:
    """Return weights and offsets. The same signals and plan give the same result.

    Raises InvalidRequestError where the window is empty, has too few signals or agents, or judges all answers
    alike; ConflictError where judgements look like chance.
    """
    _check_amount(signals, plan)
    model = ScoreModel.of(signals)
    before = model.probabilities(np.zeros(FEATURES), np.zeros(len(signals.names)))
    behaviour, counted = behaviour_of(signals, before)
    _check_judgements(behaviour, counted)
    evidence = evidence_of(signals, behaviour, counted)
    of_agents = len(np.unique(signals.agents[counted]))
    if of_agents < plan.least_agents:
        raise InvalidRequestError(
            f"{of_agents} agents are left without those who contradict all others; "
            f"{plan.least_agents} are needed."
        )
    rows, evidence, of_questions = _by_question(signals, evidence, counted)
    fit = Fit(model.take(rows), evidence, of_questions, _free_documents(signals, plan), plan)
    weights, offsets = fit.run()
    shipped = shipped_weights("ranker").features
    return Learned(
        weights={
            name: shipped[name] + float(change) for name, change in zip(INDEX_FEATURES, weights, strict=True)
        },
        documents={
            name: float(offset) for name, offset in zip(signals.names, offsets, strict=True) if offset != 0.0
        },
        behaviour=behaviour,
        signals=int(counted.sum()),
        questions=len(rows),
        agents=of_agents,
        loss=(fit.loss(np.zeros(FEATURES), np.zeros(len(signals.names))), fit.loss(weights, offsets)),
    )


def _check_amount(signals: Signals, plan: LearningPlan) -> None:
    left = ", ".join(f"{count} {reason}" for reason, count in signals.left_out.items()) or "none left out"
    if not len(signals):
        raise InvalidRequestError(f"The window holds no signal to learn from ({left}). Choose a longer one.")
    agents = len(np.unique(signals.agents))
    if len(signals) < plan.least_signals or agents < plan.least_agents:
        raise InvalidRequestError(
            f"The window holds {len(signals)} answers by {agents} agents that count ({left}); "
            f"{plan.least_signals} by {plan.least_agents} are needed. Choose a longer one."
        )
    judged = signals.channel >= 0
    against = (judged & ~signals.judged_good) | signals.opened.any(axis=1) | signals.wrong.any(axis=1)
    if not against.any() or not (judged & signals.judged_good).any():
        which = "good" if not against.any() else "bad"
        raise InvalidRequestError(
            f"All {len(signals)} answers were judged {which}: nothing tells one document from another. "
            "Choose a longer window."
        )


def _check_judgements(behaviour: Behaviour, counted: Flags) -> None:
    """Raise ConflictError where judgements look like chance, or most of them contradict the others."""
    differences = [rates.difference for rates in behaviour.channels.values()]
    rise = max(behaviour.z.values(), default=0.0)
    if rise >= LEAST_RISE and max(differences) >= LEAST_DIFFERENCE and counted.mean() >= 0.5:
        return
    said = ", ".join(
        f"{name} {rates.difference:+.2f} ({behaviour.z.get(name, 0.0):.1f} standard errors)"
        for name, rates in behaviour.channels.items()
    )
    raise ConflictError(
        "Agents accept right and wrong documents alike, as chance would: P(accepted | right) less "
        f"P(accepted | wrong) is {said or 'not known'}; it must reach {LEAST_DIFFERENCE} and {LEAST_RISE:g} "
        f"standard errors for those who gave half of the judgements; {counted.mean():.0%} count. "
        "Nothing is learned of this window."
    )


def _by_question(signals: Signals, evidence: Floats, counted: Flags) -> tuple[Numbers, Floats, Floats]:
    """Return one row for each question, the evidence of all its answers, and its weight.

    A question has one right document, however often it was asked: its answers are judgements of several
    agents (Dawid and Skene), not so many lists to fit.
    """
    rows = np.flatnonzero(counted)
    order = np.argsort(signals.documents[rows], axis=1, kind="stable")
    aligned = np.take_along_axis(evidence[rows], order, axis=1)
    _, first, at = np.unique(signals.questions[rows], return_index=True, return_inverse=True)
    sums = np.zeros((len(first), evidence.shape[1]), np.float32)
    np.add.at(sums, at, aligned)
    of_questions = np.zeros_like(sums)
    np.put_along_axis(of_questions, order[first], sums, axis=1)
    limit = np.log(_STRONGEST_OF_QUESTION)
    weights = np.bincount(at, signals.weights[rows]) / np.bincount(at)
    return rows[first], np.clip(of_questions, -limit, limit), weights.astype(np.float32)


class ScoreModel:
    """Scores of all answers' candidates as a function of weights and offsets."""

    def __init__(
        self, *, documents: NDArray[np.int32], scores: Floats, standard: Floats, steepness: Floats, count: int
    ) -> None:
        self.documents, self.scores, self.standard, self.steepness = documents, scores, standard, steepness
        self.count = count

    @classmethod
    def of(cls, signals: Signals) -> ScoreModel:
        """Return the model at whose origin the shipped ranker stands, whichever ranker served."""
        standard = _standard(signals)
        reranks = shipped_weights("reranker").features["index"]
        steepness = np.where(np.isfinite(signals.stage), reranks, 1.0).astype(np.float32)
        scores = signals.scores.copy()
        shipped = _vector(shipped_weights("ranker"))
        for number, ranker in enumerate(signals.rankers):
            rows = signals.served == number
            change = (shipped - _vector(ranker)).astype(np.float32)
            offsets = np.array([ranker.documents.get(name, 0.0) for name in signals.names], np.float32)
            if rows.any() and (change.any() or offsets.any()):
                moved = standard[rows] @ change - offsets[signals.documents[rows]]
                scores[rows] += steepness[rows] * moved
        return cls(
            documents=np.maximum(signals.documents, 0),
            scores=scores,
            standard=standard,
            steepness=steepness,
            count=len(signals.names),
        )

    def __len__(self) -> int:
        return len(self.scores)

    def take(self, rows: Numbers) -> ScoreModel:
        """Return the model of these answers."""
        return ScoreModel(
            documents=self.documents[rows],
            scores=self.scores[rows],
            standard=self.standard[rows],
            steepness=self.steepness[rows],
            count=self.count,
        )

    def probabilities(self, weights: Doubles, offsets: Doubles, rows: slice = slice(None)) -> Floats:
        """Return P(right = d), (n, k); the rows sum to 1 less ``NOT_AMONG_THEM``."""
        moved = (
            self.standard[rows] @ weights.astype(np.float32)
            + offsets.astype(np.float32)[self.documents[rows]]
        )
        scores = self.scores[rows] + self.steepness[rows] * moved
        raised = np.exp(scores - scores.max(axis=1, keepdims=True))
        return (1.0 - NOT_AMONG_THEM) * raised / raised.sum(axis=1, keepdims=True)


def _vector(ranker: Weights) -> Doubles:
    return np.array([ranker.features.get(name, 0.0) for name in INDEX_FEATURES], np.float64)


def _standard(signals: Signals) -> Floats:
    """Return features divided by their deviation over *all* candidates of the search, (n, k, 6).

    An event holds the best twenty candidates, serving standardised over all (some 200). First-stage scores
    are linear in the features, so that a least-squares fit of the scores gives weight / deviation. It is
    shrunk towards the median of all answers; the mean cancels in the softmax.
    """
    standard = np.zeros(signals.features.shape, np.float32)
    for number, ranker in enumerate(signals.rankers):
        rows = np.flatnonzero(signals.served == number)
        for chunk in np.array_split(rows, len(rows) // _CHUNK + 1):
            if len(chunk):
                values = _filled(signals, chunk)
                deviations = _deviations(signals, values, chunk, ranker)
                standard[chunk] = values / np.maximum(deviations, 1e-6)[:, None, :]
    return standard


def _filled(signals: Signals, rows: Numbers) -> Floats:
    """Return raw features with the lowest one of the answer where a leg did not find a document."""
    features = signals.features[rows]
    missing = ~np.isfinite(features)
    lowest: Floats = np.min(np.where(missing, np.float32(np.inf), features), axis=1, keepdims=True)
    values = np.where(missing, np.where(np.isfinite(lowest), lowest, np.float32(0.0)), features)
    here = signals.documents[rows] >= 0
    return np.where(here[:, :, None], values, np.float32(0.0)).astype(np.float32)


def _deviations(signals: Signals, values: Floats, rows: Numbers, ranker: Weights) -> Floats:
    """Return the deviation of each feature over all candidates of a search, (n, 6)."""
    x, target, own = _centred(signals, values, rows, ranker)
    weights = _vector(ranker)
    square: Doubles = np.einsum("nkf,nkg->nfg", x, x)
    towards: Doubles = np.einsum("nkf,nk->nf", x, target)
    size: Doubles = np.einsum("nff->nf", square) + 1e-9

    def slopes(strength: float, prior: Doubles) -> Doubles:
        pulled: Doubles = square + strength * size[:, :, None] * np.eye(FEATURES)
        wanted: Doubles = towards + strength * size * prior
        return np.linalg.solve(pulled, wanted[:, :, None]).astype(np.float64)[:, :, 0]

    usual: Doubles = np.median(slopes(1e-4, np.zeros(FEATURES)), axis=0)
    usual = np.where(usual * weights > 0, usual, weights / np.maximum(np.median(own, axis=0), 1e-6))
    usual = np.where(np.abs(usual) > 1e-9, usual, 1.0 / np.maximum(np.median(own, axis=0), 1e-6))
    found: Doubles = slopes(0.02, usual)
    weights = np.where(np.abs(weights) > 1e-9, weights, 1.0)
    deviations: Doubles = weights / np.where(found * weights > 0, found, usual)
    expected: Doubles = np.abs(weights / usual)
    return np.clip(np.abs(deviations), expected / 3, expected * 3).astype(np.float32)


def _centred(
    signals: Signals, values: Floats, rows: Numbers, ranker: Weights
) -> tuple[Doubles, Doubles, Doubles]:
    """Return features (n, k, 6) and first-stage scores (n, k), less their means, and the deviation of the
    features over the candidates of the event (n, 6).

    Documents whose units were read have their first-stage score in the event; the others' scores are moved
    by a constant. So each of the two groups has a mean of its own.
    """
    here = signals.documents[rows] >= 0
    read: Flags = np.isfinite(signals.stage[rows]) & here
    offsets = np.array([ranker.documents.get(name, 0.0) for name in signals.names])
    scores: Doubles = np.where(read, signals.stage[rows], signals.scores[rows]).astype(np.float64)
    target: Doubles = np.where(here, scores - offsets[np.maximum(signals.documents[rows], 0)], 0.0)
    x = values.astype(np.float64)
    for group in (read, here & ~read):
        count = np.maximum(group.sum(axis=1, keepdims=True), 1)
        mean: Doubles = (x * group[:, :, None]).sum(axis=1, keepdims=True) / count[:, :, None]
        x: Doubles = np.where(group[:, :, None], x - mean, x)
        target = np.where(group, target - (target * group).sum(axis=1, keepdims=True) / count, target)
    x = np.where(here[:, :, None], x, 0.0)
    variance: Doubles = (x**2).sum(axis=1) / np.maximum(here.sum(axis=1, keepdims=True), 1)
    return x, target, np.sqrt(variance)


def _free_documents(signals: Signals, plan: LearningPlan) -> Flags:
    """Return which documents may have an offset."""
    touched = signals.opened | signals.wrong | signals.found_next
    judged = signals.channel >= 0
    touched[np.arange(len(signals))[judged], signals.quoted[judged]] = True
    rows, columns = np.nonzero(touched & (signals.documents >= 0))
    documents = signals.documents[rows, columns]
    pairs = np.unique(np.stack([documents, signals.agents[rows]]), axis=1)
    answers = np.bincount(documents, minlength=len(signals.names))
    agents = np.bincount(pairs[0], minlength=len(signals.names))
    return (answers >= plan.least_of_document) & (agents >= 2)


class Fit:
    """Minimises the loss by projected Adam over all answers."""

    def __init__(
        self,
        model: ScoreModel,
        evidence: Floats,
        weights: NDArray[np.floating],
        free: Flags,
        plan: LearningPlan,
    ) -> None:
        self._model, self._plan, self._free = model, plan, free
        self._likelihood = np.exp(evidence - np.maximum(evidence.max(axis=1, keepdims=True), 0.0))
        self._otherwise = np.exp(-np.maximum(evidence.max(axis=1), 0.0))
        self._weights = weights.astype(np.float32)

    def loss(self, weights: Doubles, offsets: Doubles) -> float:
        """Return the mean loss of an answer, without pull."""
        total = 0.0
        for rows in self._chunks():
            chance = self._model.probabilities(weights, offsets, rows)
            seen = (chance * self._likelihood[rows]).sum(axis=1) + NOT_AMONG_THEM * self._otherwise[rows]
            total -= float((self._weights[rows] * np.log(seen)).sum())
        return total / max(float(self._weights.sum()), 1e-9)

    def objective(self, weights: Doubles, offsets: Doubles) -> float:
        """Return the loss of all answers with pull."""
        pull = self._plan.weight_pull * (weights**2).sum() + self._plan.offset_pull * (offsets**2).sum()
        return self.loss(weights, offsets) * float(self._weights.sum()) + 0.5 * float(pull)

    def gradient(self, weights: Doubles, offsets: Doubles) -> tuple[Doubles, Doubles]:
        """Return the gradient of ``objective``."""
        of_weights = self._plan.weight_pull * weights
        of_offsets = self._plan.offset_pull * offsets
        for rows in self._chunks():
            chance = self._model.probabilities(weights, offsets, rows)
            posterior = chance * self._likelihood[rows]
            posterior /= posterior.sum(axis=1, keepdims=True) + NOT_AMONG_THEM * self._otherwise[rows, None]
            # Of the softmax over the candidates, given that one of them is right.
            any_right = posterior.sum(axis=1, keepdims=True)
            off = chance / (1.0 - NOT_AMONG_THEM) * any_right - posterior
            off *= self._weights[rows, None] * self._model.steepness[rows]
            of_weights = of_weights + np.einsum(
                "nk,nkf->f", off, self._model.standard[rows], dtype=np.float64
            )
            of_offsets = of_offsets + np.bincount(
                self._model.documents[rows].ravel(), off.ravel(), minlength=self._model.count
            )
        return of_weights, of_offsets * self._free

    def run(self) -> tuple[Doubles, Doubles]:
        """Return the changes of the weights and the offsets."""
        plan = self._plan
        sizes = (FEATURES, self._model.count)
        values = np.zeros(sum(sizes))
        first, second = np.zeros_like(values), np.zeros_like(values)
        bounds = np.r_[np.full(FEATURES, plan.most_weight), np.full(self._model.count, plan.most_offset)]
        for step in range(1, _STEPS + 1):
            gradient = np.concatenate(self.gradient(values[:FEATURES], values[FEATURES:]))
            first = 0.9 * first + 0.1 * gradient
            second = 0.99 * second + 0.01 * gradient**2
            rate = _RATE * min(1.0, 3.0 * (1 - step / (_STEPS + 1)))
            move = rate * (first / (1 - 0.9**step)) / (np.sqrt(second / (1 - 0.99**step)) + 1e-8)
            values = np.clip(values - move, -bounds, bounds)
        offsets = np.where(self._free, values[FEATURES:], 0.0)
        return values[:FEATURES], offsets

    def _chunks(self) -> list[slice]:
        return [slice(start, start + _CHUNK) for start in range(0, len(self._model), _CHUNK)]
