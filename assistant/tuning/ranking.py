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
from assistant.tuning.estimator import Estimator, LabelsOf, softmax
from assistant.tuning.signals import CHANNELS, Flags, Floats, Numbers, Signals

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
    agents: int
    """Agents whose answers count."""

    def file(self, share_of_weights: float = 1.0, share_of_offsets: float = 1.0, *, fitted_on: str) -> bytes:
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
    before = (1.0 - NOT_AMONG_THEM) * softmax(design.base)
    behaviour = behaviour_of(signals, before)
    _check_judgements(behaviour)
    agents = len(np.unique(signals.agents[behaviour.counted]))
    if agents < plan.least_agents:
        raise InvalidRequestError(
            f"{agents} agents are left without those who contradict all others; "
            f"{plan.least_agents} are needed."
        )
    first, evidence, shares = _by_question(
        signals, evidence_of(signals, behaviour, before), behaviour.counted
    )
    pull = np.r_[np.full(FEATURES, plan.weight_pull), np.full(len(signals.names), plan.offset_pull)]
    free = _free_documents(signals, plan)
    bound = np.r_[np.full(FEATURES, plan.most_weight), np.where(free, plan.most_offset, 0.0)]
    moved = Estimator(pull=pull, bound=bound, steps=_STEPS).fit(
        design.take(first), labels_of(evidence, shares)
    )
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
        agents=agents,
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


def _by_question(signals: Signals, evidence: Floats, counted: Flags) -> tuple[Numbers, Floats, Floats]:
    """Return of each question the row of its first answer, the evidence of all its answers in the order of
    that one's candidates, and the mean of their weights.

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
    return rows[first], limited, weights


def labels_of(evidence: Floats, weights: Floats) -> LabelsOf:
    """Return what gives P(right = d | acts) times the question's weight, by P(right = d | one is)."""
    highest = np.maximum(evidence.max(axis=1, keepdims=True), 0.0)
    likelihood, otherwise = np.exp(evidence - highest), NOT_AMONG_THEM * np.exp(-highest)

    def labels(chance: Floats) -> Floats:
        joint = (1.0 - NOT_AMONG_THEM) * chance * likelihood
        return weights[:, None] * joint / (joint.sum(axis=1, keepdims=True) + otherwise)

    return labels


# Scores as a function of weights and offsets


@dataclass(frozen=True, slots=True)
class Candidates:
    """The ``Design`` of answers' candidates: weights of features, then offsets of documents. At 0 the shipped
    ranker stands, whichever ranker served."""

    documents: Numbers
    """(n, k)"""
    base: Floats
    """(n, k) Scores under the shipped ranker."""
    standard: Floats
    """(n, k, 6) Features as serving standardised them."""
    steepness: Floats
    """(n, k) What a candidate's final score gains where its first-stage score gains 1."""
    count: int
    """Of all documents."""

    @property
    def size(self) -> int:
        return FEATURES + self.count

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
        return cls(np.maximum(signals.documents, 0), scores, standard, steepness, len(signals.names))

    def take(self, rows: Numbers) -> Candidates:
        """Return the design of these answers."""
        return Candidates(
            self.documents[rows], self.base[rows], self.standard[rows], self.steepness[rows], self.count
        )

    def scores(self, weights: Floats) -> Floats:
        of_features = (self.standard.reshape(-1, FEATURES) @ weights[:FEATURES]).reshape(self.base.shape)
        return self.base + self.steepness * (of_features + weights[FEATURES:][self.documents])

    def gradient(self, errors: Floats) -> Floats:
        moved = (errors * self.steepness).ravel()
        of_documents = np.bincount(self.documents.ravel(), moved, minlength=self.count)
        return np.r_[moved @ self.standard.reshape(-1, FEATURES), of_documents]


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


# What agents' acts say of each candidate
#
# Everything is estimated by straight lines over the shipped ranker's probability of being right, which no act
# of the window has moved:
# - Trust: what is shown first is accepted too often although it is wrong: P(accepted | right) and
#   P(accepted | wrong) for each way to judge (the trust bias of Agarwal et al., WWW 2019).
# - Agents: the same for each agent, and for each day of one, shrunk towards those of all. An agent, or a day
#   of one, whose judgements do not rise with the ranker's own probability, or fall with it, is left out.
# - Opened sources: the same for each position, with one slope for all of them.

LEAST_RISE = 3.0
"""Standard errors by which acceptance must rise with the ranker's probability over all agents, else it is
taken for chance."""
LEAST_DIFFERENCE = 0.15
"""Of P(accepted | right) and P(accepted | wrong): below it judgements are taken for chance."""
_STRONGEST = 20.0
"""Bound on the likelihood ratio of one judgement."""
_MARKED_WRONG = 0.1
"""P(marked as wrongly cited | right) / P(marked | wrong)."""
_FOUND_NEXT = 4.0
"""Ratio for a document that the agent accepted when they asked again."""
_REFORMULATED = 1 / 3
"""Ratio for the quoted document when the agent asked again. Only those who ask again leave an event, so that
no rate can be estimated."""
_USUAL = (20.0, 0.9, 0.3)
"""Judgements of right and as many of wrong documents, and their rates: what was known before."""
_AGENT_STRENGTH = 3.0
"""Judgements of each sort that an agent's own rates are shrunk with towards those of all."""
_LEAST_OPENED = 50
"""Opened sources from which on they count."""


@dataclass(frozen=True, slots=True)
class Rates:
    """P(accepted | the quoted document is right) and P(accepted | it is wrong)."""

    right: float
    wrong: float

    @property
    def difference(self) -> float:
        return self.right - self.wrong


@dataclass(frozen=True, slots=True)
class Behaviour:
    """How agents judge, as estimated."""

    channels: Mapping[str, Rates]
    differences: Floats
    """By agent: P(accepted | right) less P(accepted | wrong)."""
    left_out: tuple[str, ...]
    """Pseudonyms of agents whose judgements are no evidence or contradict everything."""
    counted: Flags
    """(n,) Whose answers count."""
    rise: Mapping[str, float]
    """By way to judge: how far acceptance rises with the ranker's own probability, in standard errors; over
    all agents, since those who were left out were chosen by it."""


def behaviour_of(signals: Signals, chance: Floats) -> Behaviour:
    """Return how agents judge, and which answers count. ``chance``: P(right) by the shipped ranker, (n, k).

    Rates are estimated again without the days and agents that are left out, until none else has to be. Days
    come first: a bot's day must not cost its agent's others.
    """
    right, good = chance[np.arange(len(signals)), signals.quoted], signals.judged_good
    rated = (signals.channel >= 0) & (signals.channel != CHANNELS.index("reformulated"))
    counted = np.ones(len(signals), bool)

    def differences(units: Numbers) -> Floats:
        """Return P(accepted | right) less P(accepted | wrong) by unit."""
        pooled = _rates(right[rated & counted], good[rated & counted])
        differences_found = np.full(int(units.max(initial=-1)) + 1, pooled.difference)
        for unit in np.unique(units[rated & counted]):
            of_unit = rated & counted & (units == unit)
            strength = (_AGENT_STRENGTH, pooled.right, pooled.wrong)
            differences_found[unit] = _rates(right[of_unit], good[of_unit], strength).difference
        return differences_found

    while True:
        by_unit = (
            (differences(units) < LEAST_DIFFERENCE)[units] for units in (signals.shifts, signals.agents)
        )
        against = next((rows & counted for rows in by_unit if (rows & counted).any()), ~counted)
        if not (against & counted).any() or against[rated & counted].all():
            break
        counted &= ~against
    names = np.array(signals.agent_names)
    of_channel = {name: rated & (signals.channel == number) for number, name in enumerate(CHANNELS)}
    return Behaviour(
        channels={
            name: _rates(right[of & counted], good[of & counted])
            for name, of in of_channel.items()
            if (of & counted).any()
        },
        differences=differences(signals.agents),
        left_out=tuple(sorted({*names[signals.agents]} - {*names[signals.agents[counted]]})),
        counted=counted,
        rise={name: _rise(right[of], good[of]) for name, of in of_channel.items() if of.any()},
    )


def _rates(right: Floats, good: Flags, usual: tuple[float, float, float] = _USUAL) -> Rates:
    """Return the ends of the line of acceptance over P(right), by least squares. ``usual``: judgements of
    certainly right and of certainly wrong documents, each so many, and their rates."""
    count, if_right, if_wrong = usual
    total, x, xx = len(right) + 2 * count, right.sum() + count, (right**2).sum() + count
    y, xy = good.sum() + count * (if_right + if_wrong), (right * good).sum() + count * if_right
    slope = (total * xy - x * y) / (total * xx - x**2)
    wrong = (y - slope * x) / total
    ends = np.clip([wrong + slope, wrong], 0.02, 0.98)
    return Rates(float(ends[0]), float(ends[1]))


def _rise(right: Floats, good: Flags) -> float:
    """Return the slope of acceptance over P(right), in standard errors; 0 where P(right) does not vary."""
    x = right - right.mean()
    spread = float((x**2).sum())
    if spread < 1e-6 or len(right) < 3:
        return 0.0
    slope = float((x * good).sum()) / spread
    rest = good - good.mean() - slope * x
    error = np.sqrt(float((rest**2).sum()) / (len(right) - 2) / spread)
    return float(slope / max(error, 1e-9))


def evidence_of(signals: Signals, behaviour: Behaviour, chance: Floats) -> Floats:
    """Return log P(acts | right = d) up to a constant, (n, k); 0 for answers that do not count."""
    rows = np.arange(len(signals))
    pooled = max(0.02, float(np.mean([rates.difference for rates in behaviour.channels.values()] or [1.0])))
    trust = np.clip(behaviour.differences[signals.agents] / pooled, 0.0, 1.0)
    evidence = np.zeros(signals.documents.shape)
    for number, channel in enumerate(CHANNELS):
        of = rows[signals.channel == number]
        if channel == "reformulated":
            ratio = np.full(len(of), _REFORMULATED)
        elif (rates := behaviour.channels.get(channel)) is not None:
            accepted, refused = rates.right / rates.wrong, (1 - rates.right) / (1 - rates.wrong)
            ratio = np.where(signals.judged_good[of], accepted, refused) ** trust[of]
        else:
            continue
        evidence[of, signals.quoted[of]] += np.log(np.clip(ratio, 1 / _STRONGEST, _STRONGEST))
    wrong = signals.wrong.copy()
    wrong[rows, signals.quoted] &= signals.channel != CHANNELS.index("verdict")  # the verdict has told it
    evidence += wrong * np.log(_MARKED_WRONG) + signals.found_next * np.log(_FOUND_NEXT)
    judged = chance * np.exp(evidence)
    judged /= judged.sum(axis=1, keepdims=True) + 1.0 - chance.sum(axis=1, keepdims=True)
    evidence += _of_openings(signals, judged, behaviour.counted)
    evidence[~behaviour.counted] = 0.0
    return evidence


def _of_openings(signals: Signals, chance: Floats, counted: Flags) -> Floats:
    """Return what opened sources say, and those that were passed over where another was opened: who opened
    nothing may not have looked. ``chance``: P(right) after the judgements.

    P(opened) is a line over P(right): each position has a level of its own, since agents look at some more
    often than at others, and all have one slope.
    """
    shown = signals.listed & signals.opened.any(axis=1, keepdims=True)
    shown[np.arange(len(signals)), signals.quoted] = False
    used = shown & counted[:, None]
    if int((signals.opened & used).sum()) < _LEAST_OPENED:
        return np.zeros(chance.shape)
    count = np.maximum(used.sum(axis=0), 1)
    right, opened = ((values * used).sum(axis=0) / count for values in (chance, signals.opened))
    x = (chance - right) * used
    slope = max(0.0, float((x * signals.opened).sum()) / max(float((x**2).sum()), 1e-9))
    if_right: Floats = np.clip(opened + slope * (1.0 - right), 0.05, 0.95)
    if_wrong: Floats = np.clip(opened - slope * right, 0.05, 0.95)
    ratio: Floats = np.where(signals.opened, if_right / if_wrong, (1 - if_right) / (1 - if_wrong))
    return np.where(shown, np.log(ratio), 0.0)
