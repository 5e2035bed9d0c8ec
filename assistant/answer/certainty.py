"""Decides whether anything is near a question. It says nothing of whether a section answers it."""

from __future__ import annotations

from assistant.domain.answers import GateDecision
from assistant.tenant.tenant import GateSection


class Gate:
    """One tenant's gate.

    A model is not asked, and no section is shown, where the nearest passage or title is farther than
    ``GateSection.hopeless_cosine``. Whether what is near answers is for the model, or for the agent, to see.

    Example::

        decision = Gate(tenant.gate).run(best_cosine=0.61)
        if not decision.passed: ...  # nothing is near
    """

    def __init__(self, settings: GateSection) -> None:
        self._least = settings.hopeless_cosine

    def run(self, best_cosine: float) -> GateDecision:
        """Judge the cosine of the nearest passage or title; -1 where there is none."""
        return GateDecision(
            passed=best_cosine >= self._least, best_cosine=round(best_cosine, 4), min_cosine=self._least
        )
