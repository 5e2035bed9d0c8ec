"""What is asked."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from assistant.domain.answers import RecordId
from assistant.domain.documents import SearchFilters
from assistant.domain.public import PublicModel


class Question(PublicModel):
    """The body of ``POST /v1/answers``. The service alone judges its limits."""

    question: str
    conversation_id: RecordId | None = None
    filters: SearchFilters = SearchFilters()
    max_tokens: int | None = None
    resume_window_s: int = Field(default=15, ge=0, le=30)
    """Seconds that the service goes on without a reader: so long ``stream`` may come back after a cut. At 0
    leaving cancels, and a cut is the end."""

    def body(self) -> dict[str, Any]:
        """Return the JSON body; what is as the service has it by itself is left out."""
        found = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return found | ({"resume_window_s": self.resume_window_s} if self.resume_window_s else {})


def asked(question: str | Question) -> Question:
    return Question(question=question) if isinstance(question, str) else question
