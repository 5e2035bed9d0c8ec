"""Reads the turns of a chat as a question is read, up to the best section, and tells how certain that one is.

No model is called but the embedding model, nothing is kept, and no live system is asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from assistant.answer.answer import AnswerQuestion
from assistant.answer.call import SideTasks
from assistant.answer.question import AnswerIds, begin_call
from assistant.answer.request import AnswerRequest
from assistant.answer.section import PartQuote, Section
from assistant.answer.services import TenantServices
from assistant.domain.answers import ChatTurn, RedFlag
from assistant.domain.clock import Deadline
from assistant.domain.identity import Identity


@dataclass(frozen=True, slots=True)
class FoundInTurns:
    """Red flags and the best section for the last turn, which is the customer's."""

    red_flags: tuple[RedFlag, ...]
    unchecked_language: str | None
    """Language of the turn if it is not one that is checked for red flags."""
    part: PartQuote | None
    """None where the turn asks nothing, or nothing is near."""
    degraded: tuple[str, ...] = ()
    """Steps that were left out."""

    def suggested(self, *, least: float) -> tuple[Section, float] | None:
        """Return the section and the probability that it is right; None if there is no section, the
        probability is below ``least``, or there are red flags, which are shown alone."""
        part = self.part
        if part is None or not part.is_found or part.section is None or self.red_flags:
            return None
        return (part.section, part.probability) if part.probability >= least else None


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
        ids = AnswerIds.of(request, services)
        call = begin_call(services, ids, labels=identity.labels, deadline=deadline)
        try:
            with SideTasks() as beside:
                question = await answers.open_question.run(request, identity=identity, ids=ids, call=call)
                reading = await answers.read.run(question, call)
                red_flags = beside.begin(answers.read.raise_flags(question, reading, call))
                part, degraded = None, reading.degraded
                if reading.kept.asks:
                    # one suggestion, of the first question
                    [finding] = await answers.find.run(reading.parts[:1], call)
                    part = await answers.quote.choose.run(finding, call)
                    degraded = (*degraded, *finding.degraded, *part.degraded)
                raised = await red_flags
            return FoundInTurns(
                raised.flags,
                reading.unchecked_language,
                part if part is not None and part.section is not None else None,
                (*degraded, *raised.degraded),
            )
        finally:
            call.steps.root.end()
