"""The answers that this process is writing, so that their owner can cancel them or come back to them."""

from __future__ import annotations

from collections.abc import Iterator

from assistant.api.answer_writing import AnswerWriting
from assistant.domain.identity import Identity


class RunningAnswers:
    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], AnswerWriting] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def __iter__(self) -> Iterator[AnswerWriting]:
        return iter(tuple(self._answers.values()))

    def add(self, writing: AnswerWriting) -> None:
        self._answers[writing.prepared.identity.tenant, writing.prepared.answer_id] = writing

    def remove(self, writing: AnswerWriting) -> None:
        del self._answers[writing.prepared.identity.tenant, writing.prepared.answer_id]

    def find(self, answer_id: str, *, identity: Identity) -> AnswerWriting | None:
        """Return the answer if it is being written here and is the caller's own."""
        writing = self._answers.get((identity.tenant, answer_id))
        return writing if writing and writing.prepared.identity.agent == identity.agent else None

    def logged(self, tenant: str) -> dict[str, AnswerWriting]:
        """Return the tenant's answers that others may follow or cancel through their log, by id."""
        return {
            answer_id: writing
            for (name, answer_id), writing in self._answers.items()
            if name == tenant and writing.log is not None
        }
