"""Reads the turns of a chat as a question is read, up to the section, and says how certain it is.

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
"""Margin where no second document was found."""


@dataclass(frozen=True, slots=True)
class FoundInTurns:
    """What was found for the last turn of a customer."""

    red_flags: tuple[RedFlag, ...]
    unchecked_language: str | None
    evidence: Evidence | None
    """None where the turn asks nothing, or nothing is near."""
    degraded: tuple[str, ...] = ()

    def suggested(self, *, least: float) -> tuple[Section, float] | None:
        """Return the section that is certain enough to be shown, and how likely it is right; None where there
        is none, it is less likely than ``least``, or an emergency comes first."""
        evidence = self.evidence
        if evidence is None or not evidence.is_found or evidence.section is None or self.red_flags:
            return None
        probability = probability_of(evidence)
        return (evidence.section, probability) if probability >= least else None


def features_of(evidence: Evidence) -> dict[str, float]:
    """Return what tells a right document from a wrong one: how far it is ahead, how near, how much of the
    question's weight its section has (mass), and whether another document contends with it."""
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
    """Return how likely the section's document answers (``make fit ARGS=suggest``)."""
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
        """Return what was found. Raises as ``AnswerQuestion.prepare``."""
        services, answers = self._services, self._answers
        services.index_watch.require_own()  # of another tenant's index nothing is searched
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
