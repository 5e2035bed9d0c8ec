"""Questions with known answers: gold units of single documents, written blind."""

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
Kind = Literal["plain", "condition", "messy", "double", "follow_up", "unanswerable"]


class PlantedReply(PublicModel):
    """A right reply to the patient with one change, that makes it wrong unless it is ``reworded``."""

    kind: Literal["number", "date", "negation", "name", "reworded"]
    text: str

    @property
    def measures(self) -> tuple[str, ...]:
        """The measures of whether the check finds a fault in it."""
        if self.kind == "reworded":
            return ("rewordings_stopped",)
        return "planted_named", f"planted_{self.kind}"


class EvaluationQuestion(PublicModel):
    """One line of ``evaluation/<tenant>.jsonl``."""

    qid: str
    kind: Kind
    question: str
    documents: tuple[str, ...]
    """Ids of the documents that answer it; of a double question perhaps two. Empty: nothing answers it."""
    gold: tuple[str, ...] = ()
    """Verbatim excerpts that together are the answer."""
    answer_contains: tuple[str, ...] = ()
    """Strings that a right answer holds, all of them: a number, a code, a desk."""
    telltale: tuple[str, ...] = ()
    """Strings of the other branch of a condition: an answer that holds one states the wrong branch."""
    other_branch: tuple[str, ...] = ()
    must: tuple[str, ...] = ()
    """What a good reply to the patient states, in words of the question's author; a person judges by it."""
    must_not: tuple[str, ...] = ()
    """What would be wrong or dangerous to state."""
    planted: tuple[PlantedReply, ...] = ()
    clean: str | None = None
    """``qid`` of the same question asked cleanly, of a messy one."""
    after: str | None = None
    """``qid`` of the question asked just before, of a follow-up."""
    near: str | None = None
    """Id of the document that comes nearest, of an unanswerable one."""
    note: str = ""

    @property
    def answerable(self) -> bool:
        return bool(self.documents)

    @property
    def document(self) -> str:
        """The document that the question is counted under: splits and intervals go by it."""
        return self.documents[0] if self.documents else self.near or self.qid

    @property
    def split(self) -> Split:
        """By document, so that nothing learned of a document is judged on it."""
        return split_of(self.document)


def split_of(document_id: str) -> Split:
    """Return the half that a document's questions are in."""
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
    """Return ``count`` questions chosen by a seed such as a commit's hash; a seed always draws the same."""
    return sorted(questions, key=lambda q: sha256(f"{seed}:{q.qid}".encode()).digest())[:count]


@dataclass(frozen=True, slots=True)
class TenantQuestions:
    """One tenant's questions and their file."""

    path: Path
    sha256: str
    all: tuple[EvaluationQuestion, ...]
    asked: tuple[EvaluationQuestion, ...]

    @classmethod
    def of(cls, path: Path, *, asks: Callable[[EvaluationQuestion], bool] | None = None) -> TenantQuestions:
        """Read a file; ``asks`` chooses what is asked of it, None: all. Raises ConfigurationError."""
        every = tuple(load_questions(path))
        asked = every if asks is None else tuple(filter(asks, every))
        return cls(path, sha256(path.read_bytes()).hexdigest(), every, asked)
