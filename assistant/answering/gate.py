"""Decides whether the chosen section answers, for a tenant without a model, and what is hopeless with one.

A logistic model (weights of kind ``gate``) reads raw scores of the best document and returns the probability
that its section answers the question. Without a model the tenant file's utility of right and wrong answers
decides between *answered*, *possibly* and *refused*. Where a model writes, its refusal is the refusal: the
gate stops only a question that is far from every document.
"""

from __future__ import annotations

from collections.abc import Mapping

from assistant.answering.rank import Weights, shipped_weights
from assistant.domain.answers import Certainty, GateDecision
from assistant.settings.tenant import GateSection

NOTHING_VISIBLE = GateDecision(passed=False, best_cosine=0.0, coverage=0.0, probability=0.0)
"""The decision where filters and access labels exclude every document."""


class Gate:
    """One tenant's gate.

    Example::

        decision, certainty = Gate(tenant.gate).run(features)
        if certainty is None: ...  # refused
    """

    def __init__(self, settings: GateSection) -> None:
        self.weights: Weights = shipped_weights("gate")
        self.answered_from, self.possibly_from = settings.thresholds
        self._hopeless_below = settings.hopeless_cosine

    def run(self, features: Mapping[str, float]) -> tuple[GateDecision, Certainty | None]:
        """Judge the best document by its features (``rank.document_features`` and those of the index): return
        the decision, and how sure the answer is; None: not in the knowledge base.

        A title with a number names one thing ("Reject 75"), so that a question with other numbers is never
        answered for certain from it.
        """
        probability = self.weights.probability(features)
        certainty = None
        if probability >= self.possibly_from:
            is_sure = probability >= self.answered_from and not features.get("title_other_number")
            certainty = Certainty.ANSWERED if is_sure else Certainty.POSSIBLY
        decision = GateDecision(
            passed=certainty is not None,
            best_cosine=round(features.get("passage_cosine", 0.0), 4),
            coverage=round(features.get("coverage", 0.0), 4),
            probability=round(probability, 4),
            answered_from=round(self.answered_from, 4),
            possibly_from=round(self.possibly_from, 4),
        )
        return decision, certainty

    def is_hopeless(self, best_cosine: float) -> bool:
        """Return whether no model needs to read the documents: the nearest passage or title is farther than
        those of 98 % of the answerable questions of the tuning halves."""
        return best_cosine < self._hopeless_below


def explain(*, title: str | None) -> str:
    """Return why there is no answer, for the agent. ``title``: of the nearest document."""
    if title is None:
        return "The knowledge base holds nothing that these filters and your access rights let through."
    return f"Not in the knowledge base. The nearest document is “{title}”."
