"""Reads the turns of a chat as a question is read, up to the best section, and tells how certain that one is.

No model is called but the embedding model, nothing is kept, and no live system is asked.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.answer.answer import AnswerQuestion
from assistant.answer.choose import Evidence, Section
from assistant.answer.scores import shipped_weights
from assistant.answer.services import TenantServices, begin_answer
from assistant.answer.sources import SearchScope
from assistant.answer.take import AnswerRequest
from assistant.domain.answers import ChatTurn, RedFlag
from assistant.domain.clock import Deadline
from assistant.domain.identity import Identity

_NO_OTHER = 10.0
"""Margin where no second document was found, and the largest margin that counts."""


@dataclass(frozen=True, slots=True)
class FoundInTurns:
    """Red flags and the best section for the last turn, which is the customer's."""

    red_flags: tuple[RedFlag, ...]
    unchecked_language: str | None
    """Language of the turn if it is not one that is checked for red flags."""
    evidence: Evidence | None
    """None where the turn asks nothing, or nothing is near."""
    degraded: tuple[str, ...] = ()
    """Steps that were left out."""

    def suggested(self, *, least: float) -> tuple[Section, float] | None:
        """Return the section and the probability that it is right; None if there is no section, the
        probability is below ``least``, or there are red flags, which are shown alone."""
        evidence = self.evidence
        if evidence is None or not evidence.is_found or evidence.section is None or self.red_flags:
            return None
        probability = probability_of(evidence)
        return (evidence.section, probability) if probability >= least else None


def features_of(evidence: Evidence) -> dict[str, float]:
    """Return the features that tell a right document from a wrong one, in the order of the fitted weights.

    ``margin``: score above that of the second document. ``cosine``: best cosine with the question. ``mass``:
    share of the question's weight that the section has. ``undisputed``: 1.0 if no other document contends.
    ``words``: log(1 + words of the question).
    """
    order, section = evidence.ranked.order, evidence.section
    margin = order[0].score - order[1].score if len(order) > 1 else _NO_OTHER
    return {
        "margin": min(margin, _NO_OTHER),
        "cosine": evidence.ranked.gate.best_cosine,
        "mass": 0.0 if section is None else section.mass,
        "undisputed": float(evidence.is_undisputed),
        "words": math.log1p(len(evidence.query.question.split())),
    }


def probability_of(evidence: Evidence) -> float:
    """Return the probability that the section's document answers, by the weights of ``make fit
    ARGS=suggest``."""
    return 1.0 / (1.0 + math.exp(-shipped_weights("suggest").score(features_of(evidence))))


class ReadTurns:
    """Reads turns of one tenant's chats, by the steps of its answers.

    Example::

        turns = [ChatTurn(who="customer", text="Is the pen still good?")]
        found = await read.run(turns, identity=ada, deadline=limit)
    """

    def __init__(self, services: TenantServices, answers: AnswerQuestion) -> None:
        self._services, self._answers = services, answers

    async def run(self, turns: Sequence[ChatTurn], *, identity: Identity, deadline: Deadline) -> FoundInTurns:
        """Read the turns. Raises as ``AnswerQuestion.prepare``. It ends all tasks that it began, also on an
        error."""
        services, answers = self._services, self._answers
        services.index_watch.require_own()  # raises if the index is another tenant's
        request = AnswerRequest(turns=tuple(turns), mode="quoted")
        begun = answers.take.begin(request, identity=identity)
        steps = begin_answer(begun, tenant=services.tenant.name, clock=services.clock)
        scope = SearchScope(identity.labels, deadline, steps)
        try:
            question = await answers.take.run(request, identity=identity, begun=begun, scope=scope)
            queries = await answers.read.run(await answers.chat.run(question, scope), scope)
            evidence: Evidence | None = None
            if queries.reading.asks:
                hits = await answers.search.run(queries.each, scope)
                first, *_ = await answers.rank.run(hits, scope)  # one suggestion, of the first question
                evidence = await answers.quote.choose.run(first, scope)
            return FoundInTurns(
                await queries.red_flags,
                queries.unchecked_language,
                evidence if evidence is not None and evidence.section is not None else None,
                tuple(scope.degraded),
            )
        finally:
            for task in scope.tasks:
                task.cancel()
            steps.root.end()
