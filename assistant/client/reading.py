"""From bytes of the service to its types."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from assistant.answering.events import AnswerEvent, Done, Problem, SentenceEnded, Sources, Started, Token
from assistant.client.errors import RefusedByServiceError, UnreachableError, refusal

Body = TypeVar("Body", bound=BaseModel)
_EVENTS: dict[str, type[BaseModel]] = {
    model.event: model for model in (Started, Sources, SentenceEnded, Done, Problem)
}


class _TokenData(BaseModel):
    text: str


@dataclass(frozen=True, slots=True)
class Frame:
    """One server-sent event."""

    id: str | None
    event: AnswerEvent | None
    """None for an event that is not known here."""


async def frames(lines: AsyncIterator[str]) -> AsyncGenerator[Frame]:
    """Yield the events of a stream: comments are passed over, several data lines are joined.

    Raises UnreachableError for data that is not as the event's schema says.
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
                yield Frame(event_id, _event(name, "\n".join(data)))
            name, event_id, data = "message", None, []


def understand(model: type[Body], body: str | bytes) -> Body:
    """Return the body as ``model``; fields that it does not have are passed over. Raises UnreachableError."""
    try:
        return model.model_validate_json(body, extra="ignore")
    except ValidationError as error:
        raise UnreachableError(
            f"The service sent a {model.__name__} that this client cannot read: "
            f"{error.error_count()} fields are wrong."
        ) from None


def refused(response: httpx.Response) -> RefusedByServiceError | UnreachableError:
    """Return the error for an error status, its body being read."""
    try:
        problem = Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        return UnreachableError(f"The service answered {response.status_code} without saying why.")
    return refusal(problem, retry_after_s=_seconds(response.headers.get("retry-after")))


def _event(name: str, data: str) -> AnswerEvent | None:
    if name == Token.event:
        return Token(understand(_TokenData, data).text)
    model = _EVENTS.get(name)
    if model is None:
        return None
    event = understand(model, data)
    assert isinstance(event, Started | Sources | SentenceEnded | Done | Problem)  # noqa: S101 - as in _EVENTS
    return event


def _seconds(header: str | None) -> float | None:
    """Return ``Retry-After`` in its form of seconds, the only one that the service sends."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None
