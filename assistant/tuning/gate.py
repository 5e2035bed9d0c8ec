"""Holds learned ranker weights against questions with known answers before they may serve.

The tenant's evaluation questions are the protected set. Their candidates are observed once under the ranker
in service and ranked again by other weights, so that a job needs neither an index nor a model endpoint. One
half (``tuning``, by hash of the document) may be read by learning: it shortens a step that loses there. The
other half is sealed: it is opened once for a release, and each opening is a look that costs significance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError

from assistant.answering.rank import INDEX_FEATURES, Weights, read_weights, shipped_weights, standardised
from assistant.domain.errors import ConfigurationError
from assistant.domain.public import PublicModel
from assistant.evaluation.judging import Observed
from assistant.evaluation.questions import Kind, QuestionResult, Split, first_fault, split_of
from assistant.tuning.ranking import artifact_hash

SEALED: Split = "held_out"
MARGIN = 0.02
"""Non-inferiority margin: a release must be shown to lose less."""
ALPHA = 0.05
"""One-sided, of all looks at one sealed set together."""
LOOKS = 20
"""Looks that one set of questions allows: Bonferroni, so that each is at ALPHA / LOOKS. The next one needs
other questions."""
LEAST_QUESTIONS = 60
LEAST_OF_GROUP = 30
"""Questions from which on a group of them is protected by itself."""
MARGIN_OF_GROUP = 0.05
RESAMPLES = 20_000
_SEED = 20_261_121
AMONG = (1, 3)
"""Right document first; right document among three."""


class ObservedCandidate(PublicModel):
    """A candidate as it was ranked: every one of the search, so that features are standardised as served."""

    document_id: str
    score: float
    features: dict[str, float]
    """Raw values; ``index`` where the document's units were read."""


class ProtectedQuestion(PublicModel):
    """A question with a known answer, and what ranking knew of its candidates. It holds no text."""

    qid: str
    kind: Kind
    document: str
    """The document that it is counted under: halves and resampling go by it."""
    right: tuple[str, ...]
    candidates: tuple[ObservedCandidate, ...]

    @property
    def split(self) -> Split:
        return split_of(self.document)

    @property
    def features(self) -> dict[str, dict[str, float]]:
        """By document, raw."""
        return {candidate.document_id: candidate.features for candidate in self.candidates}


class ProtectedSet(PublicModel):
    """All questions of a tenant that can be ranked again."""

    schema_version: Literal[1] = 1
    tenant: str
    questions_sha256: str
    """Of the file of questions: looks are counted by it."""
    index_version: str
    ranker: str
    """SHA-256 of the weights under which candidates were observed."""
    left_out: int = Field(ge=0)
    """Questions without an answer, or that are answered in several parts."""
    questions: tuple[ProtectedQuestion, ...]

    def half(self, split: Split) -> tuple[ProtectedQuestion, ...]:
        return tuple(question for question in self.questions if question.split == split)


def protected_question(observed: Observed, result: QuestionResult) -> ProtectedQuestion | None:
    """Return what an observed question protects; None where it has no answer, or has several parts."""
    question, evidence = observed.question, observed.prepared.found.evidence
    if not question.answerable or len(evidence) != 1:
        return None
    judged = {one.document_id for part in result.parts for one in part.ranking if one.is_right}
    return ProtectedQuestion(
        qid=question.qid,
        kind=question.kind,
        document=question.document,
        right=tuple(sorted({*question.documents, *judged})),
        candidates=tuple(
            ObservedCandidate(
                document_id=candidate.document_id,
                score=round(candidate.score, 6),
                features={
                    name: round(value, 6)
                    for name, value in candidate.features.items()
                    if name in INDEX_FEATURES or name == "index"
                },
            )
            for candidate in evidence[0].ranked
        ),
    )


def read_protected(path: Path, *, tenant: str) -> ProtectedSet:
    """Read a file of protected questions. Raises ConfigurationError."""
    advice = "Write it anew: assistant learn questions."
    try:
        protected = ProtectedSet.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}. {advice}") from None
    except ValidationError as error:
        raise ConfigurationError(f"{path}: {first_fault(error)}. {advice}") from None
    if protected.tenant != tenant:
        raise ConfigurationError(
            f"{path}: its questions are of the tenant {protected.tenant}, not of {tenant}."
        )
    return protected


# Ranking again


class Replay:
    """Ranks protected questions by other weights than those they were observed under."""

    def __init__(self, questions: Sequence[ProtectedQuestion], *, observed_under: Weights) -> None:
        self._before = observed_under
        self._questions = [
            (question, standardised(question.features, INDEX_FEATURES)) for question in questions
        ]

    def hits(self, weights: Weights) -> NDArray[np.float64]:
        """Return 1.0 or 0.0 for each question, a row for each of ``AMONG``: whether a right document is among
        so many.

        Exact where the same four documents are read; a document that would be read anew keeps the distance
        that it had behind those that were.
        """
        reranks, places = shipped_weights("reranker").features["index"], list[int]()
        for question, standard in self._questions:
            scores = dict[str, float]()
            for candidate in question.candidates:
                name, values = candidate.document_id, standard[candidate.document_id]
                change = weights.score(values) - self._before.score(values)
                change += weights.documents.get(name, 0.0) - self._before.documents.get(name, 0.0)
                scores[name] = candidate.score + (reranks if "index" in candidate.features else 1.0) * change
            ranked = sorted(scores, key=lambda name: (-scores[name], name))
            right = [place for place, name in enumerate(ranked) if name in question.right]
            places.append(min(right, default=len(ranked)))
        return np.array([[float(place < among) for place in places] for among in AMONG])


# The gate


class Check(PublicModel):
    """One comparison of before and after. Values are shares of questions from 0 to 1."""

    name: str
    questions: int
    before: float
    after: float
    low: float
    """Of the paired difference, after less before: one-sided bound at this look's level."""
    bound: float
    passed: bool
    said: str = ""
    """What failed, and by how much."""


class GateReport(PublicModel):
    """What a release is judged by; kept with it, also when it is refused."""

    schema_version: Literal[1] = 1
    artifact_hash: str
    questions_sha256: str
    index_version: str
    """Of the index in which the questions' candidates were observed."""
    passed: bool
    refused_because: tuple[str, ...] = ()
    look: int = Field(default=0, ge=0)
    """Number of this opening of the sealed half; 0 where it stayed closed."""
    looks_allowed: int = LOOKS
    alpha: float = ALPHA
    level: float = ALPHA / LOOKS
    margin: float = MARGIN
    open_half: tuple[Check, ...] = ()
    sealed_half: tuple[Check, ...] = ()
    share_of_weights: float = 1.0
    """Of the learned step that was kept after the open half was asked."""
    share_of_offsets: float = 1.0


def check_artifact(raw: bytes, *, expected_hash: str) -> Weights:
    """Return the weights of an artifact that may be judged or served.

    Raises ConfigurationError for bytes with another hash, of another kind, with unknown features or without
    one of those that ranking needs.
    """
    if artifact_hash(raw) != expected_hash:
        raise ConfigurationError(
            f"The ranker artifact's SHA-256 is {artifact_hash(raw)[:16]}…, its release names "
            f"{expected_hash[:16]}…. Learn it again; do not edit an artifact."
        )
    weights = read_weights(raw, name="ranker artifact", kind="ranker")
    unknown = sorted(weights.features.keys() - set(INDEX_FEATURES))
    missing = sorted(set(INDEX_FEATURES) - weights.features.keys())
    if unknown or missing:
        raise ConfigurationError(
            f"The ranker artifact does not fit this release: unknown features {unknown}, missing {missing}. "
            "Learn it with this release."
        )
    return weights


@dataclass(frozen=True, slots=True)
class Gate:
    """Judges weights against those in service."""

    protected: ProtectedSet
    observed_under: Weights
    in_service: Weights

    def refusal(self, *, looks: int) -> str | None:
        """Return why the sealed half may not be opened, or None. ``looks``: openings of it so far."""
        questions = len(self.protected.half(SEALED))
        if questions < LEAST_QUESTIONS:
            return (
                f"The sealed half has {questions} questions; {LEAST_QUESTIONS} are needed. Write more "
                "evaluation questions."
            )
        if looks >= LOOKS:
            return (
                f"The sealed half was opened {looks} times, and {LOOKS} looks share its significance of "
                f"{ALPHA:g}. Write other evaluation questions."
            )
        return None

    def checks(self, half: Split, weights: Weights) -> tuple[Check, ...]:
        """Compare on one half. A loss on the half that learning may read is no release, and no look is
        counted; the sealed half is judged at this look's level. Count the look before calling."""
        questions, level = self.protected.half(half), ALPHA / LOOKS if half == SEALED else None
        if not questions:
            return ()
        replay = Replay(questions, observed_under=self.observed_under)
        before, after = replay.hits(self.in_service), replay.hits(weights)
        checks: list[Check] = []
        for row, among in enumerate(AMONG):
            for group, rows in groups([question.kind for question in questions]).items():
                clusters = [questions[at].document for at in rows]
                name = f"right document {'first' if among == 1 else 'among three'}, {group}"
                pairs = before[row, rows], after[row, rows]
                checks.append(paired_check(name, *pairs, clusters, level=level, is_whole=group == "all"))
        return tuple(checks)


def groups(kinds: Sequence[Kind]) -> dict[str, list[int]]:
    """Return rows by group of questions: all, and each kind with enough of them."""
    of_kind = {kind: [row for row, other in enumerate(kinds) if other == kind] for kind in sorted(set(kinds))}
    enough = {kind: rows for kind, rows in of_kind.items() if LEAST_OF_GROUP <= len(rows) < len(kinds)}
    return {"all": list(range(len(kinds))), **enough}


def paired_check(
    name: str,
    before: NDArray[np.float64],
    after: NDArray[np.float64],
    clusters: Sequence[str],
    *,
    level: float | None,
    is_whole: bool,
) -> Check:
    """Compare pairs of values from 0 to 1. The whole must be shown to lose less than the margin; a group,
    which is too small for that, must not lose more than its own. Without ``level`` (open half) the mean must
    not fall.
    """
    difference = float((after - before).mean())
    if level is None:
        low, bound = difference, 0.0 if is_whole else -MARGIN_OF_GROUP
    else:
        low = lower_bound(after - before, clusters, level=level) if is_whole else difference
        bound = -MARGIN if is_whole else -MARGIN_OF_GROUP
    passed = low >= bound - 1e-9
    said = (
        ""
        if passed
        else f"{name}: {before.mean():.1%} before, {after.mean():.1%} after; the difference may be "
        f"{100 * low:+.1f} points, {100 * (bound - low):.1f} below the bound of {100 * bound:+.1f}"
    )
    return Check(
        name=name,
        questions=len(before),
        before=round(float(before.mean()), 4),
        after=round(float(after.mean()), 4),
        low=round(low, 4),
        bound=bound,
        passed=passed,
        said=said,
    )


def lower_bound(differences: NDArray[np.float64], clusters: Sequence[str], *, level: float) -> float:
    """Return the one-sided lower bound of a mean of paired differences, by bootstrap over clusters."""
    names, at = np.unique(np.array(clusters), return_inverse=True)
    sums, counts = np.bincount(at, differences), np.bincount(at)
    random = np.random.default_rng(_SEED)
    means = np.empty(RESAMPLES)
    for start in range(0, RESAMPLES, 1_000):
        drawn = random.integers(0, len(names), size=(1_000, len(names)))
        means[start : start + 1_000] = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    return float(np.quantile(means, level))
