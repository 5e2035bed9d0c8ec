"""Questions with known answers: gold units of single documents, written blind: without sight of the code.

{"qid": "clinic-a-002", "kind": "plain", "question": "From what reading down do we call … too low?",
 "documents": ["NHLBI-0000077-1"], "gold": ["Hypotension is … lower than 90/60 mmHg."],
 "answer_contains": ["90/60 mmHg"]}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Literal

from assistant.domain.errors import ConfigurationError
from assistant.domain.public import PublicModel
from assistant.models.recorded import RowT, read_rows

Split = Literal["tuning", "held_out"]
"""The half of a question: prompts, weights and bounds are chosen on ``tuning``, and measured on the other."""
Kind = Literal["plain", "condition", "messy", "double", "follow_up", "unanswerable"]


class EvaluationQuestion(PublicModel):
    """One line of ``evaluation/<tenant>.jsonl``."""

    qid: str
    kind: Kind
    question: str
    documents: tuple[str, ...]
    """Ids of the documents that answer it, two for a double question unless one answers both halves. Empty:
    nothing answers it."""
    gold: tuple[str, ...] = ()
    """Verbatim excerpts that together are the answer."""
    answer_contains: tuple[str, ...] = ()
    """Strings that a right answer holds, all of them: a number, a code, a desk."""
    telltale: tuple[str, ...] = ()
    """Strings of the other branch of a condition: an answer that holds one states the wrong branch."""
    other_branch: tuple[str, ...] = ()
    """Verbatim excerpts of the other branch, for a reader: no code uses them."""
    must: tuple[str, ...] = ()
    """What a good reply to the patient states, in words of the question's author. For a person who judges
    replies, as is ``must_not``: no code uses them."""
    must_not: tuple[str, ...] = ()
    """What would be wrong or dangerous to state."""
    clean: str | None = None
    """For a messy question: ``qid`` of the same question asked cleanly."""
    after: str | None = None
    """For a follow-up: ``qid`` of the question asked just before."""
    near: str | None = None
    """For an unanswerable question: id of the document that comes nearest."""
    note: str = ""
    """A remark of the author."""

    @property
    def answerable(self) -> bool:
        return bool(self.documents)

    @property
    def document(self) -> str:
        """The document that the question is counted under: splits and intervals go by it."""
        return self.documents[0] if self.documents else self.near or self.qid

    @property
    def split(self) -> Split:
        """The half, chosen by document, so that nothing learned from a document is judged on it."""
        return split_of(self.document)


def split_of(document_id: str) -> Split:
    """Return the half that a document's questions are in: by its id's hash, so it never changes."""
    return "held_out" if int(sha256(document_id.encode()).hexdigest(), 16) % 2 else "tuning"


def load_rows(path: Path, form: type[RowT], *, key: str = "id") -> list[RowT]:
    """Read a file of questions, one a line; ``key``: the field that no two lines may share.

    Raises ConfigurationError naming the line.
    """
    rows = read_rows(path, form)
    if len({getattr(row, key) for row in rows}) < len(rows):
        raise ConfigurationError(f"{path}: a {key} occurs twice. Give each line its own.")
    return rows


def load_questions(path: Path) -> list[EvaluationQuestion]:
    """Read a file of questions about documents. Raises ConfigurationError naming the line."""
    questions = load_rows(path, EvaluationQuestion, key="qid")
    known = {question.qid for question in questions}
    for question in questions:
        for other in (question.clean, question.after):
            if other is not None and other not in known:
                raise ConfigurationError(f"{path}: {question.qid} names {other}, which is not in the file.")
    return questions


def draw(questions: Sequence[EvaluationQuestion], *, count: int, seed: str) -> list[EvaluationQuestion]:
    """Return up to ``count`` questions in an order that ``seed`` decides; the same seed draws the same."""
    return sorted(questions, key=lambda q: sha256(f"{seed}:{q.qid}".encode()).digest())[:count]


@dataclass(frozen=True, slots=True)
class TenantQuestions:
    """One tenant's questions and their file."""

    sha256: str
    """Hash of the file: a run is compared with the series only by the same questions."""
    all: tuple[EvaluationQuestion, ...]
    asked: tuple[EvaluationQuestion, ...]
    """Those of ``all`` that are asked; a follow-up still finds the question before it in ``all``."""

    @classmethod
    def of(cls, path: Path, *, asks: Callable[[EvaluationQuestion], bool] | None = None) -> TenantQuestions:
        """Read a file. ``asks`` says of each question whether it is asked; None: all are.

        Raises ConfigurationError.
        """
        questions = tuple(load_questions(path))
        asked = questions if asks is None else tuple(filter(asks, questions))
        return cls(sha256(path.read_bytes()).hexdigest(), questions, asked)
