"""The service as a client sees it: HTTP with a bearer token, answers as server-sent events."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from assistant.answering.events import AnswerEvent, Done, Problem, SentenceEnded, Sources, Started, Token
from assistant.domain.errors import AssistantError, DependencyError
from assistant.service.wire import StoredAnswer, WholeAnswer

_TIMEOUT = httpx.Timeout(connect=5.0, read=30.0, write=10.0, pool=5.0)
"""Reading waits for three missed heartbeats (10 s each)."""
_EVENTS: dict[str, type[BaseModel]] = {
    model.event: model for model in (Started, Sources, SentenceEnded, Done, Problem)
}
_Body = TypeVar("_Body", bound=BaseModel)


class _TokenData(BaseModel):
    text: str


class RefusedByServiceError(AssistantError):
    """The service answered with a problem; the message is its own."""

    code: ClassVar[str] = "refused_by_service"


@dataclass(frozen=True, slots=True)
class ServiceClient:
    """Calls one service in the name of one token. Raises DependencyError when it cannot be reached."""

    base_url: str
    token: str

    async def ask(self, question: str) -> AsyncGenerator[AnswerEvent]:
        """Yield the events of one streamed answer; unknown ones are passed over.

        Raises RefusedByServiceError for an error status, DependencyError for a broken stream.
        """
        async with (
            self._client(accept="text/event-stream") as client,
            _failures_named(self.base_url),
            client.stream("POST", "/v1/answers", json={"question": question}) as response,
        ):
            if response.is_error:
                await response.aread()
                raise _refusal(response)
            async for name, data in _server_sent_events(response.aiter_lines()):
                event = _decode(name, data)
                if event is not None:
                    yield event

    async def ask_whole(self, question: str) -> WholeAnswer:
        """Return one whole answer in one body. Raises as ``ask`` does."""
        async with self._client(accept="application/json") as client, _failures_named(self.base_url):
            response = await client.post(
                "/v1/answers", json={"question": question}, timeout=httpx.Timeout(5.0, read=120.0)
            )
            if response.is_error:
                raise _refusal(response)
            return _understand(WholeAnswer, response.content)

    async def answer(self, answer_id: str) -> StoredAnswer:
        """Return the answer's record and what was said of it. Raises as ``ask`` does."""
        async with self._client(accept="application/json") as client, _failures_named(self.base_url):
            response = await client.get(f"/v1/answers/{answer_id}")
            if response.is_error:
                raise _refusal(response)
            return _understand(StoredAnswer, response.content)

    def _client(self, *, accept: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            base_url=self.base_url,
            headers={"Authorization": f"Bearer {self.token}", "Accept": accept},
            timeout=_TIMEOUT,
            trust_env=False,  # a proxy of the environment has no part in a call to this machine
        )


@asynccontextmanager
async def _failures_named(base_url: str) -> AsyncGenerator[None]:
    try:
        yield
    except httpx.TransportError as error:
        raise DependencyError(
            f"The service at {base_url} does not answer ({type(error).__name__}); "
            "see assistant local status and its log."
        ) from None


async def _server_sent_events(lines: AsyncIterator[str]) -> AsyncGenerator[tuple[str, str]]:
    """Yield (event, data) of a stream: comments are passed over, several data lines are joined."""
    name, data = "message", list[str]()
    async for line in lines:
        if line.startswith(":"):
            continue
        field, _, value = line.partition(":")
        if field == "event":
            name = value.removeprefix(" ")
        elif field == "data":
            data.append(value.removeprefix(" "))
        elif not line:
            if data:
                yield name, "\n".join(data)
            name, data = "message", []


def _decode(name: str, data: str) -> AnswerEvent | None:
    if name == Token.event:
        return Token(_understand(_TokenData, data).text)
    model = _EVENTS.get(name)
    if model is None:
        return None
    event = _understand(model, data)
    assert isinstance(event, Started | Sources | SentenceEnded | Done | Problem)  # noqa: S101 - as in _EVENTS
    return event


def _understand(model: type[_Body], body: str | bytes) -> _Body:
    try:
        return model.model_validate_json(body, extra="ignore")
    except ValidationError as error:
        raise DependencyError(
            f"The service sent a {model.__name__} that this command cannot read: "
            f"{error.error_count()} fields are wrong."
        ) from None


def _refusal(response: httpx.Response) -> AssistantError:
    try:
        problem = Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        return DependencyError(f"The service answered {response.status_code} without saying why.")
    return RefusedByServiceError(f"{problem.detail} ({problem.code})")
