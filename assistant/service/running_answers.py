"""The answers that this process is writing, so that their owner can cancel them."""

from __future__ import annotations

from assistant.answering.asking import PreparedAnswer
from assistant.answering.interruption import Cause
from assistant.domain.identity import Identity


class RunningAnswers:
    def __init__(self) -> None:
        self._answers: dict[tuple[str, str], PreparedAnswer] = {}

    def __len__(self) -> int:
        return len(self._answers)

    def add(self, prepared: PreparedAnswer) -> None:
        self._answers[prepared.identity.tenant, prepared.answer_id] = prepared

    def remove(self, prepared: PreparedAnswer) -> None:
        del self._answers[prepared.identity.tenant, prepared.answer_id]

    def cancel(self, answer_id: str, *, identity: Identity) -> bool:
        """Cancel the answer if it runs and is the caller's own; say whether it was."""
        prepared = self._answers.get((identity.tenant, answer_id))
        if prepared is None or prepared.identity.agent != identity.agent:
            return False
        prepared.cancel(Cause.CANCELLED)
        return True
