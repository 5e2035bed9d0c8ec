"""Writes and checks replies to the answers of an evaluation, and the planted replies of its questions."""

from __future__ import annotations

from contextlib import aclosing
from statistics import fmean

from assistant.answer.events import Done
from assistant.answer.record import RecordWriter
from assistant.answer.services import TenantServices
from assistant.domain.clock import Deadline
from assistant.domain.errors import ConflictError
from assistant.evaluation.judging import WRITTEN_DEADLINE_S, AskedAfter, identity_of
from assistant.evaluation.questions import EvaluationQuestion
from assistant.models.recorded import prompt_sha256
from assistant.options.reply.write import ReplyPlan, ReplyRequest, WriteReply


class RepliesOfAnswers:
    """``AfterWritten``: the reply to the patient, its check, and the checks of the planted ones."""

    def __init__(self, services: TenantServices, records: RecordWriter) -> None:
        self._services, self._reply = services, WriteReply(services, records)
        self._identity = identity_of(services)

    async def run(self, answer_id: str, question: EvaluationQuestion) -> AskedAfter | None:
        """Return None for an answer that cites nothing to write a reply from."""
        request = ReplyRequest(reply_to=answer_id, conversation_id=answer_id)
        try:
            reply = await self._reply.prepare(request, identity=self._identity, deadline=self._deadline())
        except ConflictError:
            return None
        return AskedAfter(await self._judged(reply, question), prompt_sha256(reply.prompt.messages))

    async def _judged(self, reply: ReplyPlan, question: EvaluationQuestion) -> dict[str, float]:
        """Let the model write the reply, check it and the planted ones, and return their values by measure.
        Raises AssistantError."""
        async with aclosing(self._reply.stream(reply)) as stream:
            [done] = [event async for event in stream if isinstance(event, Done)]
        is_stopped = any(check.stops for check in done.checks)
        verdicts = {"reply_faults": [is_stopped], "checks_read": [not done.degraded]}
        for planted in question.planted:
            checked = await self._reply.check(reply.lines, planted.text, deadline=self._deadline())
            verdicts["checks_read"].append(not checked.degraded)
            for name in planted.measures:
                verdicts.setdefault(name, []).append(any(check.stops for check in checked.checks))
        return {name: fmean(flags) for name, flags in verdicts.items()}

    def _deadline(self) -> Deadline:
        return Deadline.after(WRITTEN_DEADLINE_S, clock=self._services.clock)
