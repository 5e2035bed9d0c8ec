"""Holds a tuned embedding model against the one in service before it may serve.

Both answer the same questions about documents that the tuned model never saw, each from an index of its own
vectors. What an agent sees must not get worse; what the vector leg finds should get better. Every opening of
a file of questions is counted, as for rankers (``gate``).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import orjson
from pydantic import AwareDatetime, Field

from assistant.domain.errors import ConfigurationError
from assistant.domain.public import PublicModel
from assistant.evaluation.measures import Estimate, Results, ValueOf, estimate
from assistant.evaluation.questions import QuestionResult
from assistant.private_files import make_private_folder
from assistant.tuning.gate import ALPHA, LEAST_QUESTIONS, LOOKS, Check, groups, paired_check, read_form

TRAINING_FACTS = "training.json"
VECTOR_LEG, SUM = "vector leg, nDCG@10", "whole sum, nDCG@10"


class TuningFacts(PublicModel, extra="ignore"):
    """``training.json`` beside tuned weights, as far as the gate reads it."""

    task: Literal["embedding"]
    training_set: str
    held_out: tuple[str, ...]
    """Documents of which no pair was made."""
    mix: float = Field(gt=0, le=1)
    """Share of the tuned weights; the rest is the base model's."""
    set: Mapping[str, Any]
    """The manifest of the pairs."""

    @property
    def tenant(self) -> str:
        return str(self.set.get("tenant", ""))


class Gain(PublicModel):
    """A measure of both models on the same questions, from 0 to 1, with a 95 % interval of the difference."""

    name: str
    group: str
    before: float
    after: float
    difference: Estimate


class EmbeddingReport(PublicModel):
    """What a tuned embedding model is judged by."""

    schema_version: Literal[1] = 1
    tenant: str
    model_sha256: str
    training_set: str
    base_model: str
    questions_sha256: str
    made_at: AwareDatetime
    look: int
    looks_allowed: int = LOOKS
    level: float = ALPHA / LOOKS
    left_out: int
    """Questions about documents that the model was trained on."""
    gains: tuple[Gain, ...]
    checks: tuple[Check, ...]
    refused_because: tuple[str, ...]

    @property
    def passed(self) -> bool:
        return not self.refused_because


def read_tuning_facts(folder: Path, *, tenant: str) -> TuningFacts:
    """Return the facts beside tuned weights. Raises ConfigurationError."""
    advice = "Name a folder that the training job wrote."
    facts = read_form(folder / TRAINING_FACTS, TuningFacts, advice=advice)
    if facts.tenant != tenant:
        raise ConfigurationError(
            f"{folder} was tuned on pairs of {facts.tenant or 'nobody'}, not of {tenant}."
        )
    return facts


def gains_of(before: Results, after: Results) -> tuple[Gain, ...]:
    """Return nDCG@10 of the vector leg and of the whole sum: of all questions, and by kind."""
    asked = list(before.values())
    gains = [
        _gain(name, group, {asked[row].qid: asked[row] for row in rows}, after, value)
        for name, value in _GAINS.items()
        for group, rows in groups([result.question.kind for result in asked]).items()
    ]
    return tuple(gain for gain in gains if gain is not None)


def checks_of(before: Results, after: Results) -> tuple[Check, ...]:
    """Return the checks that what an agent sees did not get worse, at this look's level."""
    checks: list[Check] = []
    for name, value in _PROTECTED.items():
        old, new = _values(before, value), _values(after, value)
        qids = sorted(old.keys() & new.keys())
        if not qids:
            continue
        clusters = [before[qid].cluster for qid in qids]
        was, now = (np.array([one[qid] for qid in qids]) for one in (old, new))
        is_whole = len(qids) >= LEAST_QUESTIONS
        checks.append(paired_check(name, was, now, clusters, level=ALPHA / LOOKS, is_whole=is_whole))
    return tuple(checks)


def refusals(gains: Collection[Gain], checks: Collection[Check]) -> tuple[str, ...]:
    """Return why a model may not serve; nothing where it may."""
    found = [check.said for check in checks if not check.passed]
    asked = next((check.questions for check in checks if check.name == _FIRST), 0)
    if asked < LEAST_QUESTIONS:
        found.append(f"{asked} questions about unseen documents; {LEAST_QUESTIONS} are needed.")
    found += [
        f"{VECTOR_LEG}: {100 * gain.difference.value:+.1f} points. A tuned model must find more."
        for gain in gains
        if (gain.name, gain.group) == (VECTOR_LEG, "all") and gain.difference.value <= 0
    ]
    return tuple(found)


def count_look(path: Path, *, questions_sha256: str, model_sha256: str) -> int:
    """Write down that these questions are asked for this model, before they are; return the look's number.

    The same model on the same questions is the same look. Raises ConfigurationError where none is left.
    """
    make_private_folder(path.parent)
    looks = _looks(path)
    of_questions = [model for questions, model in looks if questions == questions_sha256]
    if model_sha256 in of_questions:
        return of_questions.index(model_sha256) + 1
    if len(of_questions) >= LOOKS:
        raise ConfigurationError(
            f"These questions were asked for {LOOKS} models, and {LOOKS} looks share their significance of "
            f"{ALPHA:g}. Write other questions."
        )
    with path.open("ab") as file:
        file.write(orjson.dumps({"questions": questions_sha256, "model": model_sha256}) + b"\n")
    return len(of_questions) + 1


def _looks(path: Path) -> list[tuple[str, str]]:
    if not path.is_file():
        return []
    try:
        rows = [orjson.loads(line) for line in path.read_bytes().splitlines()]
        return [(str(row["questions"]), str(row["model"])) for row in rows]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ConfigurationError(
            f"{path}: the ledger of looks is damaged. Restore it: without it no gate holds."
        ) from None


def _gain(name: str, group: str, before: Results, after: Results, value: ValueOf) -> Gain | None:
    old, new = _values(before, value), _values(after, value)
    both = old.keys() & new.keys()
    clusters = {qid: before[qid].cluster for qid in both}
    difference = estimate({qid: new[qid] - old[qid] for qid in both}, clusters)
    if difference is None:
        return None
    was, now = (float(np.mean([one[qid] for qid in sorted(both)])) for one in (old, new))
    return Gain(name=name, group=group, before=round(was, 4), after=round(now, 4), difference=difference)


def _values(results: Results, value: ValueOf) -> dict[str, float]:
    found = {qid: value(result, results) for qid, result in results.items()}
    return {qid: one for qid, one in found.items() if one is not None}


def _right(result: QuestionResult, _: Results) -> float | None:
    """Questions without strings of a right answer judge ranking alone."""
    return float(result.right) if result.question.answer_contains else None


_FIRST = "right document first"
_GAINS: Mapping[str, ValueOf] = {VECTOR_LEG: lambda r, _: r.vector_ndcg, SUM: lambda r, _: r.ndcg}
_PROTECTED: Mapping[str, ValueOf] = {
    SUM: lambda r, _: r.ndcg,
    _FIRST: lambda r, _: r.first,
    "right document among three": lambda r, _: r.three,
    "quoted answer right": _right,
    "unanswerable: not answered without a warning": lambda r, _: (
        None if r.question.answerable else float(r.outcome != "answered")
    ),
}
