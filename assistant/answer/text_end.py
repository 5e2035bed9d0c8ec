"""How a text ended: a model's text, and the whole answer.

| what ended it                                                 | finish reason                | code       |
| the model; a quote                                            | STOP                         | none       |
| the model had no more tokens, or its service cut it           | LENGTH, CONTENT_FILTER       | none       |
| a check, or a failure of the model, after some text was shown | LENGTH, CONTENT_FILTER       | what failed|
| a quote took the place of a text that could not be shown      | STOP                         | what failed|
| no text could be shown, and one was due                       | SOURCES_ONLY                 | what failed|
| nothing answers, or nothing is asked                          | NO_EVIDENCE                  | none       |
| ``CANCELLED``, ``DISCONNECTED``: nobody reads it any more      | none                         | its own    |
| ``LATE``, ``OVERDUE``, an error: the model's text alone        | none                         | its own    |
| an unexpected error                                           | none                         | "internal" |
"""

from __future__ import annotations

from dataclasses import dataclass

from assistant.domain.answers import FinishReason, Outcome


@dataclass(frozen=True, slots=True)
class TextEnd:
    """How a text ended."""

    finish_reason: FinishReason | None = None
    """None where it did not come to its end, or nobody reads that."""
    code: str | None = None
    """Of what failed, cut it, or ended it early: "overloaded", "generation_late", "cancelled"."""
    reason: str | None = None
    """In words for the agent, why there is no text; of a failure its code."""

    @property
    def is_left(self) -> bool:
        """Whether nobody reads the text any more."""
        return self in (CANCELLED, DISCONNECTED)

    @property
    def is_cut(self) -> bool:
        """Whether the last sentence of a model's text may lack its end."""
        return self.finish_reason in (FinishReason.LENGTH, FinishReason.CONTENT_FILTER)

    @property
    def outcome(self) -> Outcome:
        """How the answer's record says it."""
        if self.finish_reason is not None:
            return Outcome.DONE
        return {CANCELLED: Outcome.CANCELLED, DISCONNECTED: Outcome.DISCONNECTED}.get(self, Outcome.FAILED)

    def __str__(self) -> str:
        return self.code or str(self.finish_reason)


CANCELLED = TextEnd(code="cancelled")
"""The agent cancelled it."""
DISCONNECTED = TextEnd(code="disconnected")
"""Its reader left, and did not come back in time."""
LATE = TextEnd(code="generation_late")
"""The model's first text did not come within the tenant's limit."""
OVERDUE = TextEnd(code="deadline")
"""The deadline of the whole answer passed."""
