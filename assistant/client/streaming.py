"""Questions, and the events of one answer over as many connections as it takes."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from pydantic import BaseModel, Field

from assistant.answering.events import (
    AnswerEvent,
    Done,
    ElementChanged,
    Problem,
    SentenceEnded,
    Sources,
    Started,
    Token,
)
from assistant.client.connection import (
    Call,
    Connection,
    RefusedByServiceError,
    UnreachableError,
    parse_response,
)
from assistant.domain.answers import RecordId
from assistant.domain.documents import SearchFilters
from assistant.domain.live import ContextToken, PlainContext
from assistant.domain.public import PublicModel

_STREAM = {"accept": "text/event-stream"}
_EVENTS: dict[str, type[BaseModel]] = {
    model.event: model for model in (Started, Sources, SentenceEnded, ElementChanged, Done, Problem)
}


class Question(PublicModel):
    """The body of ``POST /v1/answers``. The service checks its limits."""

    question: str
    conversation_id: RecordId | None = None
    filters: SearchFilters = SearchFilters()
    max_tokens: int | None = None
    context: ContextToken | PlainContext | None = Field(default=None, repr=False)
    """Whose live data the answer may show: the care application's token for this conversation."""
    resume_window_s: int = Field(default=15, ge=0, le=30)
    """Seconds that the service goes on without a reader; so long ``stream`` may reconnect. With 0 the answer
    ends when its reader leaves or the connection fails."""

    def body(self) -> dict[str, Any]:
        """Return the JSON body without the service's defaults."""
        found = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return found | ({"resume_window_s": self.resume_window_s} if self.resume_window_s else {})

    def idempotency_headers(self) -> dict[str, str]:
        """Return a new key for an answer that is kept: a repeat under it joins the first answer."""
        return {"idempotency-key": uuid.uuid4().hex} if self.resume_window_s > 0 else {}


def stream_call(question: Question) -> Call:
    """Return the call that asks the question and streams the answer."""
    key = question.idempotency_headers()
    return Call("POST", "/v1/answers", json=question.body(), headers=_STREAM | key, is_repeatable=bool(key))


def resume_call(answer_id: str, *, after: str | None) -> Call:
    """Return the call for the events of an answer after the event id ``after``; all without it."""
    headers = _STREAM | ({"last-event-id": after} if after else {})
    return Call("GET", f"/v1/answers/{answer_id}/events", headers=headers)


async def answer_events(connection: Connection, call: Call) -> AsyncGenerator[AnswerEvent]:
    """Yield the events of one answer, the last one ``Done`` or ``Problem``; unknown ones are ignored.

    After a failed connection it resumes after the last event, while the service keeps them. Before the first
    event it sends the question again under the same key, which joins the first answer. Raises
    RefusedByServiceError (before the first event, or when the events are no longer kept), UnreachableError.
    """
    failures = 0
    while True:
        try:
            async with connection.open(call) as response, aclosing(_frames(response.aiter_lines())) as frames:
                async for event_id, event in frames:
                    failures = 0
                    if event_id is not None and call.is_repeatable:
                        call = resume_call(event_id.rpartition(":")[0], after=event_id)
                    if event is not None:
                        yield event
                    if isinstance(event, Done | Problem):
                        return
            error = UnreachableError("The service ended the answer in the middle; read its log.")
        except (RefusedByServiceError, UnreachableError) as failure:
            error = failure
        failures += 1
        await connection.wait_or_raise(error, failures, is_repeatable=call.is_repeatable)


async def _frames(lines: AsyncIterator[str]) -> AsyncGenerator[tuple[str | None, AnswerEvent | None]]:
    """Yield id and event of each server-sent event; the event is None when its name is unknown.

    Comments are ignored, several data lines are joined. Raises UnreachableError for data that breaks the
    event's schema.
    """
    name, event_id, data = "message", None, list[str]()
    async for line in lines:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "event":
            name = value
        elif field == "id":
            event_id = value
        elif field == "data":
            data.append(value)
        elif not line:
            if data:
                yield event_id, _event(name, "\n".join(data))
            name, event_id, data = "message", None, []


class _TokenData(BaseModel):
    text: str


def _event(name: str, data: str) -> AnswerEvent | None:
    if name == Token.event:
        return Token(parse_response(_TokenData, data).text)
    if (model := _EVENTS.get(name)) is None:
        return None
    event = parse_response(model, data)
    assert isinstance(event, Started | Sources | SentenceEnded | ElementChanged | Done | Problem)  # noqa: S101 - as in _EVENTS
    return event
