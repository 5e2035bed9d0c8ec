"""The use case of the product: a question becomes a streamed answer with checked sources, and a record."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from assistant.answering.asking import AnswerRequest, PreparedAnswer
from assistant.answering.events import AnswerEvent
from assistant.answering.services import TenantServices
from assistant.domain.clock import Deadline
from assistant.domain.identity import Identity


class AnswerQuestion:
    """Answers questions of one tenant's agents. One instance serves all requests of a process.

    Two steps, so that what goes wrong before the first event can still be an HTTP status::

        prepared = await answer_question.prepare(request, identity=identity, deadline=deadline)
        async with aclosing(answer_question.stream(prepared)) as events:
            async for event in events: ...
    """

    def __init__(self, services: TenantServices) -> None:
        self._services = services

    async def prepare(
        self, asking: AnswerRequest, *, identity: Identity, deadline: Deadline
    ) -> PreparedAnswer:
        """Look the conversation up, embed, search, judge the evidence and build the prompt.

        Raises NotFoundError (no such conversation, or another agent's), TooLargeError (the question does
        not fit the model's context), EmbeddingUnavailableError, SearchUnavailableError,
        RecordsUnavailableError, OverloadedError, DeadlineExceededError. Nothing is recorded then.
        """
        raise NotImplementedError

    def stream(self, prepared: PreparedAnswer) -> AsyncGenerator[AnswerEvent, None]:
        """Yield started, sources, (token | sentence)*, then done or error; once for each prepared answer.

        The record is written before the last event, so a client that saw ``done`` can mark the answer;
        a store that fails loses the record (a warning), not the answer. After ``prepared.cancel(cause)``
        the endpoint's connection is closed, the record written, and the stream ends with an ``error``
        event of code ``cancelled``, or with nothing when the reader is gone. Cancelling the task that
        reads, or closing the generator, does the same without an event and counts as disconnected. The
        reader must close the generator (``contextlib.aclosing``). A stream never begun leaves no record.
        """
        raise NotImplementedError

    async def settle(self, *, within_s: float) -> int:
        """Wait for record writes that outlived their reader; return how many are still not done."""
        raise NotImplementedError
