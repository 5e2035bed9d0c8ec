"""The committed questions: paraphrased, with the documents that answer them."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from assistant.domain.errors import ConfigurationError
from assistant.domain.public import PublicModel

Split = Literal["tuning", "held_out"]


class EvaluationQuestion(PublicModel):
    """One line of ``evaluation/<tenant>.jsonl``."""

    qid: str
    question: str
    answerable: bool
    relevant: tuple[str, ...]
    """Ids of all documents that answer it; empty for an unanswerable one."""
    split: Split
    """Thresholds are chosen on ``tuning``; no document is relevant in both splits."""
    answer_contains: tuple[str, ...] = ()
    """Short strings that a right answer holds: a number, a code, a desk."""


def load_questions(path: Path) -> list[EvaluationQuestion]:
    """Read a file of questions. Raises ConfigurationError naming the line."""
    questions: list[EvaluationQuestion] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            questions.append(EvaluationQuestion.model_validate_json(line))
        except ValidationError as error:
            raise ConfigurationError(f"{path}:{number}: {error.errors()[0]['msg']}") from None
    return questions


def draw(questions: Sequence[EvaluationQuestion], *, count: int, seed: str) -> list[EvaluationQuestion]:
    """Return ``count`` questions chosen by a seed such as a commit's hash; a seed always draws the same."""
    return sorted(questions, key=lambda q: sha256(f"{seed}:{q.qid}".encode()).digest())[:count]
