"""Questions, and the events of one answer over as many connections as it takes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from pydantic import Field

from assistant.answering.events import AnswerEvent, Done, Problem
from assistant.client.connection import (
    Call,
    Connection,
    Frame,
    RefusedByServiceError,
    UnreachableError,
    frames,
)
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


# One answer's events, over as many connections as it takes.


_STREAM = {"accept": "text/event-stream"}


class AnswerStream:
    """Reads the events of one answer. After a cut it goes on behind the last event, while the service keeps
    them; before the first one the question is sent again under the same key, which joins the first answer."""

    def __init__(self, connection: Connection, call: Call) -> None:
        self._connection = connection
        self._call = call
        self._failures = 0
        self._has_ended = False

    @classmethod
    def asking(cls, connection: Connection, question: Question) -> AnswerStream:
        is_kept = question.resume_window_s > 0
        headers = _STREAM | ({"idempotency-key": uuid.uuid4().hex} if is_kept else {})
        return cls(
            connection,
            Call("POST", "/v1/answers", json=question.body(), headers=headers, is_repeatable=is_kept),
        )

    @classmethod
    def coming_back(cls, connection: Connection, answer_id: str, *, after: str | None) -> AnswerStream:
        return cls(connection, _following(answer_id, after=after))

    async def events(self) -> AsyncGenerator[AnswerEvent]:
        """Yield the events, the last one ``Done`` or ``Problem``; unknown ones are passed over.

        Raises RefusedByServiceError (before the first event, or when the events are no longer kept),
        UnreachableError.
        """
        while not self._has_ended:
            try:
                async with aclosing(self._connected()) as found:
                    async for event in found:
                        yield event
            except (RefusedByServiceError, UnreachableError) as error:
                self._failures += 1
                await self._connection.wait_or_raise(
                    error, self._failures, is_repeatable=self._call.is_repeatable
                )

    async def _connected(self) -> AsyncGenerator[AnswerEvent]:
        """Yield what one connection brings. Raises UnreachableError when it ends before the answer does."""
        async with (
            self._connection.open(self._call) as response,
            aclosing(frames(response.aiter_lines())) as found,
        ):
            async for frame in found:
                self._failures = 0
                self._mark(frame)
                if frame.event is not None:
                    yield frame.event
                if self._has_ended:
                    return
        raise UnreachableError("The service ended the answer in the middle; see its log.")

    def _mark(self, frame: Frame) -> None:
        """Keep where the stream is, and how it would go on from there."""
        self._has_ended = isinstance(frame.event, Done | Problem)
        if frame.id is not None and self._call.is_repeatable:
            self._call = _following(frame.id.rpartition(":")[0], after=frame.id)


def _following(answer_id: str, *, after: str | None) -> Call:
    headers = _STREAM | ({"last-event-id": after} if after else {})
    return Call("GET", f"/v1/answers/{answer_id}/events", headers=headers)
