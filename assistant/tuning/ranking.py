"""Learns ranker weights and offsets of documents from what agents did with answers.

One question has at most one right document among its candidates. It is not observed; acts are evidence of it.

    P(right = d) = softmax over candidates of the served score, moved by the weights and offsets to learn
    label of d   = P(right = d | acts on all answers to the question)

``evidence`` estimates P(acts | right = d) before weights are learned; the estimator takes the labels anew at
each step, which maximises the likelihood of the acts. docs/decisions/0047 has the options and their figures.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256

import numpy as np

from assistant.answering.rank import INDEX_FEATURES, Weights, WeightsFile, shipped_weights
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.tuning.estimator import Estimator, softmax
from assistant.tuning.evidence import LEAST_DIFFERENCE, LEAST_RISE, Behaviour, behaviour_of, evidence_of
from assistant.tuning.signals import Flags, Floats, Numbers, Signals

FEATURES = len(INDEX_FEATURES)
MOST_OFFSETS = 3_000
"""Documents with an offset in one artifact; a desk item holds 400 KB."""
NOT_AMONG_THEM = 0.05
"""Probability that no candidate is right."""
_STEPS = 200
_STRONGEST_OF_QUESTION = np.log(100.0)
"""Bound on the log likelihood ratio of all answers to a question: agents err alike about a near document."""


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
    """Mean loss of a question without pull: before, after."""

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
    design = Candidates.of(signals)
    unmoved = np.zeros(design.size)
    before = (1.0 - NOT_AMONG_THEM) * design.probabilities(unmoved)
    behaviour = behaviour_of(signals, before)
    _check_judgements(behaviour)
    agents = len(np.unique(signals.agents[behaviour.counted]))
    if agents < plan.least_agents:
        raise InvalidRequestError(
            f"{agents} agents are left without those who contradict all others; "
            f"{plan.least_agents} are needed."
        )
    rows, evidence = _by_question(signals, evidence_of(signals, behaviour, before), behaviour.counted)
    asked = design.take(rows.first)
    acts = Acts(evidence, rows.weights)
    pull = np.r_[np.full(FEATURES, plan.weight_pull), np.full(len(signals.names), plan.offset_pull)]
    free = _free_documents(signals, plan)
    bound = np.r_[np.full(FEATURES, plan.most_weight), np.where(free, plan.most_offset, 0.0)]
    moved = Estimator(pull=pull, bound=bound, steps=_STEPS).fit(asked, acts.labels)
    shipped = shipped_weights("ranker").features
    return Learned(
        weights={name: shipped[name] + float(moved[at]) for at, name in enumerate(INDEX_FEATURES)},
        documents={
            name: float(offset)
            for name, offset in zip(signals.names, moved[FEATURES:], strict=True)
            if offset
        },
        behaviour=behaviour,
        signals=int(behaviour.counted.sum()),
        questions=len(rows.first),
        agents=agents,
        loss=(acts.loss(asked.probabilities(unmoved)), acts.loss(asked.probabilities(moved))),
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
    against = (judged & ~signals.judged_good).any() or signals.opened.any() or signals.wrong.any()
    if not against or not (judged & signals.judged_good).any():
        raise InvalidRequestError(
            f"All {len(signals)} answers were judged {'bad' if against else 'good'}: nothing tells one "
            "document from another. Choose a longer window."
        )


def _check_judgements(behaviour: Behaviour) -> None:
    """Raise ConflictError where judgements look like chance, or most of them contradict the others."""
    difference = max((rates.difference for rates in behaviour.channels.values()), default=0.0)
    rise, counted = max(behaviour.rise.values(), default=0.0), behaviour.counted.mean()
    if rise >= LEAST_RISE and difference >= LEAST_DIFFERENCE and counted >= 0.5:
        return
    told = ", ".join(
        f"{name} {rates.difference:+.2f} ({behaviour.rise.get(name, 0.0):.1f} standard errors)"
        for name, rates in behaviour.channels.items()
    )
    raise ConflictError(
        "Agents accept right and wrong documents alike, as chance would: P(accepted | right) less "
        f"P(accepted | wrong) is {told or 'not known'}; it must reach {LEAST_DIFFERENCE} and {LEAST_RISE:g} "
        f"standard errors for those who gave half of the judgements; {counted:.0%} count. "
        "Nothing is learned of this window."
    )


# One row for each question


@dataclass(frozen=True, slots=True)
class Questions:
    """The different questions among the answers that count."""

    first: Numbers
    """Row of an answer to each."""
    weights: Floats
    """Mean of its answers'."""


def _by_question(signals: Signals, evidence: Floats, counted: Flags) -> tuple[Questions, Floats]:
    """Return the questions, and the evidence of all their answers in the order of the first one's candidates.

    A question has one right document, however often it was asked: its answers are judgements of several
    agents (Dawid and Skene), not so many lists to fit.
    """
    rows = np.flatnonzero(counted)
    order = np.argsort(signals.documents[rows], axis=1, kind="stable")
    _, first, at = np.unique(signals.questions[rows], return_index=True, return_inverse=True)
    sums = np.zeros((len(first), evidence.shape[1]))
    np.add.at(sums, at, np.take_along_axis(evidence[rows], order, axis=1))
    of_questions = np.zeros_like(sums)
    np.put_along_axis(of_questions, order[first], sums, axis=1)
    weights = np.bincount(at, signals.weights[rows]) / np.bincount(at)
    limited = np.clip(of_questions, -_STRONGEST_OF_QUESTION, _STRONGEST_OF_QUESTION)
    return Questions(rows[first], weights), limited


class Acts:
    """What all acts on each question say of its candidates."""

    def __init__(self, evidence: Floats, weights: Floats) -> None:
        highest = np.maximum(evidence.max(axis=1, keepdims=True), 0.0)
        self._likelihood = np.exp(evidence - highest)
        self._otherwise = NOT_AMONG_THEM * np.exp(-highest)
        self._weights = weights[:, None]

    def labels(self, chance: Floats) -> Floats:
        """Return P(right = d | acts) times the question's weight. ``chance``: P(right = d | one is)."""
        joint = (1.0 - NOT_AMONG_THEM) * chance * self._likelihood
        return self._weights * joint / (joint.sum(axis=1, keepdims=True) + self._otherwise)

    def loss(self, chance: Floats) -> float:
        """Return the mean negative log likelihood."""
        joint = (1.0 - NOT_AMONG_THEM) * (chance * self._likelihood).sum(axis=1, keepdims=True)
        return float(-(self._weights * np.log(joint + self._otherwise)).sum() / self._weights.sum())


# Scores as a function of weights and offsets


class Candidates:
    """The ``Design`` of answers' candidates: weights of features, then offsets of documents. At 0 the shipped
    ranker stands, whichever ranker served."""

    def __init__(
        self, *, documents: Numbers, scores: Floats, standard: Floats, steepness: Floats, count: int
    ) -> None:
        """``standard``: features as serving standardised them, (n, k, 6). ``steepness``: what a candidate's
        final score gains where its first-stage score gains 1, (n, k). ``count``: of all documents."""
        self.documents, self.base, self.standard, self.steepness = documents, scores, standard, steepness
        self._count = count
        self.size = FEATURES + count

    @classmethod
    def of(cls, signals: Signals) -> Candidates:
        standard = _standard(signals)
        reranks = shipped_weights("reranker").features["index"]
        steepness = np.where(np.isfinite(signals.stage), reranks, 1.0)
        shipped, scores = _vector(shipped_weights("ranker")), signals.scores.copy()
        for number, ranker in enumerate(signals.rankers):
            rows = signals.served == number
            offsets = _offsets(signals, ranker)[signals.documents[rows]]
            scores[rows] += steepness[rows] * (standard[rows] @ (shipped - _vector(ranker)) - offsets)
        documents = np.maximum(signals.documents, 0)
        return cls(
            documents=documents,
            scores=scores,
            standard=standard,
            steepness=steepness,
            count=len(signals.names),
        )

    def take(self, rows: Numbers) -> Candidates:
        """Return the design of these answers."""
        return Candidates(
            documents=self.documents[rows],
            scores=self.base[rows],
            standard=self.standard[rows],
            steepness=self.steepness[rows],
            count=self._count,
        )

    def scores(self, weights: Floats) -> Floats:
        of_features = (self.standard.reshape(-1, FEATURES) @ weights[:FEATURES]).reshape(self.base.shape)
        return self.base + self.steepness * (of_features + weights[FEATURES:][self.documents])

    def gradient(self, errors: Floats) -> Floats:
        moved = (errors * self.steepness).ravel()
        of_documents = np.bincount(self.documents.ravel(), moved, minlength=self._count)
        return np.r_[moved @ self.standard.reshape(-1, FEATURES), of_documents]

    def probabilities(self, weights: Floats) -> Floats:
        """Return P(right = d), given that one of the candidates is, (n, k)."""
        return softmax(self.scores(weights))


def _vector(ranker: Weights) -> Floats:
    return np.array([ranker.features.get(name, 0.0) for name in INDEX_FEATURES])


def _offsets(signals: Signals, ranker: Weights) -> Floats:
    return np.array([ranker.documents.get(name, 0.0) for name in signals.names])


def _standard(signals: Signals) -> Floats:
    """Return features as serving standardised them, over *all* candidates of the search, (n, k, 6).

    An event holds the best twenty candidates, and serving standardised over some 200. Over the twenty each
    feature has another deviation; the ratio of the two, one for each feature, follows by least squares from
    the first-stage scores, which are linear in the features. The mean cancels in the softmax.
    """
    here = signals.documents >= 0
    known = np.isfinite(signals.features) & here[:, :, None]
    lowest = np.min(np.where(known, signals.features, np.inf), axis=1, keepdims=True)
    values = np.where(known, signals.features, np.where(np.isfinite(lowest), lowest, 0.0))
    centred = _centred(values, here)
    deviation = np.sqrt((centred**2).sum(axis=1, keepdims=True) / here.sum(axis=1)[:, None, None])
    standard = np.where(deviation > 1e-9, centred / np.maximum(deviation, 1e-9), 0.0)
    # Documents whose units were read have their first-stage score in the event; the others' scores are moved
    # by a constant. So each of the two groups has a mean of its own.
    read = here & np.isfinite(signals.stage)
    offsets = np.array([_offsets(signals, ranker) for ranker in signals.rankers])
    scores = np.where(read, signals.stage, signals.scores)
    scores = np.where(here, scores - offsets[signals.served[:, None], signals.documents], 0.0)
    weighed = standard * np.array([_vector(ranker) for ranker in signals.rankers])[signals.served][:, None, :]
    rest = here & ~read
    features = _centred(weighed, read) + _centred(weighed, rest)
    target = _centred(scores[:, :, None], read) + _centred(scores[:, :, None], rest)
    square: Floats = np.einsum("nkf,nkg->fg", features, features)
    held = 0.05 * float(np.trace(square)) / FEATURES + 1e-9
    towards: Floats = np.einsum("nkf,nkg->f", features, target) + held
    pulled: Floats = square + held * np.eye(FEATURES)
    ratio = np.linalg.solve(pulled, towards).astype(np.float64)
    return standard * np.clip(ratio, 0.1, 3.0)


def _centred(values: Floats, group: Flags) -> Floats:
    """Return values (n, k, f) less their mean over the candidates of a group, and 0 for the others."""
    inside = group[:, :, None]
    mean = (values * inside).sum(axis=1, keepdims=True) / np.maximum(inside.sum(axis=1, keepdims=True), 1)
    return np.where(inside, values - mean, 0.0)


def _free_documents(signals: Signals, plan: LearningPlan) -> Flags:
    """Return which documents may have an offset."""
    touched = signals.opened | signals.wrong | signals.found_next
    judged = np.flatnonzero(signals.channel >= 0)
    touched[judged, signals.quoted[judged]] = True
    rows, columns = np.nonzero(touched & (signals.documents >= 0))
    documents = signals.documents[rows, columns]
    pairs = np.unique(np.stack([documents, signals.agents[rows]]), axis=1)
    answers = np.bincount(documents, minlength=len(signals.names))
    agents = np.bincount(pairs[0], minlength=len(signals.names))
    return (answers >= plan.least_of_document) & (agents >= 2)
