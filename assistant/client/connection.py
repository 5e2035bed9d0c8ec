"""HTTP with a bearer token: typed errors, bounded retries, and responses read into the API's types."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import httpx
from pydantic import BaseModel, ValidationError

from assistant.answering.events import AnswerEvent, Done, Problem, SentenceEnded, Sources, Started, Token
from assistant.domain.errors import AssistantError, DependencyError


class UnreachableError(DependencyError):
    """The service does not answer, broke off, or sent what is none of its answers."""

    code: ClassVar[str] = "service_unreachable"


class RefusedByServiceError(AssistantError):
    """The service answered with a problem; the message is its own."""

    code: ClassVar[str] = "refused_by_service"

    def __init__(self, problem: Problem, *, retry_after_s: float | None = None) -> None:
        super().__init__(f"{problem.detail} ({problem.code})", retry_after_s=retry_after_s)
        self.problem = problem


class RejectedError(RefusedByServiceError):
    """The request is wrong (400, 413, 422): the same again fails again."""

    code: ClassVar[str] = "rejected"


class SignInError(RefusedByServiceError):
    """The token is missing, wrong or expired (401)."""

    code: ClassVar[str] = "sign_in"


class NotAllowedError(RefusedByServiceError):
    """The token's roles do not allow this (403)."""

    code: ClassVar[str] = "not_allowed"


class NotThereError(RefusedByServiceError):
    """There is no such thing, or it is another's (404)."""

    code: ClassVar[str] = "not_there"


class ConflictingError(RefusedByServiceError):
    """The id or key was used for something else, or the answer's events are not kept (409)."""

    code: ClassVar[str] = "conflicting"


class UnavailableError(RefusedByServiceError):
    """Too much at once (429), a dependency is down or the endpoints are paused (503): try again later,
    after ``retry_after_s`` where it is known."""

    code: ClassVar[str] = "unavailable"


_KINDS: dict[int, type[RefusedByServiceError]] = {
    400: RejectedError,
    401: SignInError,
    403: NotAllowedError,
    404: NotThereError,
    409: ConflictingError,
    413: RejectedError,
    422: RejectedError,
    429: UnavailableError,
    503: UnavailableError,
}


def refusal(problem: Problem, *, retry_after_s: float | None = None) -> RefusedByServiceError:
    """Return the error for a problem, also for one that came as a stream's last event."""
    return _KINDS.get(problem.status, RefusedByServiceError)(problem, retry_after_s=retry_after_s)


# How often the client tries, and how long it waits in between.


@dataclass(frozen=True, slots=True)
class Patience:
    """Bounds of trying again. ``Patience(attempts=1)`` never does."""

    attempts: int = 4
    """Tries in a row that bring nothing; whatever an answer's stream brings begins the count anew."""
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    """A service that asks for a longer wait (``Retry-After``) has its error raised instead."""
    read_timeout_s: float = 30.0
    """Three heartbeats of a stream that never came (10 s each)."""
    whole_timeout_s: float = 110.0
    """For a whole answer in one body: the service's own longest deadline is 100 s."""

    def wait_s(self, failures: int, *, asked_s: float | None = None) -> float | None:
        """Return how long to wait after so many failures in a row; None to give up.

        Waits double from try to try; up to half of each is random, so that clients do not come back at once.
        """
        if failures >= self.attempts or (asked_s or 0.0) > self.longest_wait_s:
            return None
        doubled = min(self.first_wait_s * 2 ** (failures - 1), self.longest_wait_s)
        return max(asked_s or 0.0, doubled * random.uniform(0.5, 1.0))  # noqa: S311 - nothing secret


# From bytes of the service to its types.


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


# HTTP with a bearer token: failures named, and calls that may be repeated repeated within bounds.


_CONNECT_TIMEOUT_S = 5.0
_SEND_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Call:
    """One request. All of the API may be sent twice: ids, keys and content hashes make it one."""

    method: str
    path: str
    params: Mapping[str, str | int | list[str]] | None = None
    json: Any = None
    headers: Mapping[str, str] | None = None
    read_timeout_s: float | None = None
    """Instead of the connection's own."""
    is_repeatable: bool = True
    """False when a repeat could begin a second answer: then only what was refused is sent again."""


class Connection:
    """Calls one service in the name of one token."""

    def __init__(
        self, base_url: str, *, token: str | None, patience: Patience, tls: ssl.SSLContext | None = None
    ) -> None:
        self.base_url = base_url
        self.patience = patience
        self._client = httpx.AsyncClient(
            base_url=base_url,
            headers={"authorization": f"Bearer {token}"} if token else {},
            timeout=self._timeout(patience.read_timeout_s),
            verify=True if tls is None else tls,
            trust_env=False,  # a proxy of the environment has no part in a call to a private service
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, call: Call) -> httpx.Response:
        """Return the response. Raises RefusedByServiceError, UnreachableError when no try is left."""
        failures = 0
        while True:
            try:
                return await self._send_once(call)
            except (RefusedByServiceError, UnreachableError) as error:
                failures += 1
                await self.wait_or_raise(error, failures, is_repeatable=call.is_repeatable)

    async def wait_or_raise(
        self, error: RefusedByServiceError | UnreachableError, failures: int, *, is_repeatable: bool = True
    ) -> None:
        """Return when it is time to try again; raise the error when there is no sense in it."""
        is_refusal = isinstance(error, RefusedByServiceError)
        may_succeed = error.problem.retryable if isinstance(error, RefusedByServiceError) else is_repeatable
        wait_s = self.patience.wait_s(failures, asked_s=error.retry_after_s if is_refusal else None)
        if not may_succeed or wait_s is None:
            raise error
        await asyncio.sleep(wait_s)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncGenerator[httpx.Response]:
        """Open a streamed response, its status looked at. Raises as ``send``, but never tries again."""
        async with (
            self._failures_named(),
            self._client.stream(
                call.method,
                call.path,
                params=call.params,
                json=call.json,
                headers=call.headers,
                timeout=self._timeout(call.read_timeout_s),
            ) as response,
        ):
            if not response.is_success:
                await response.aread()
                raise refused(response)
            yield response

    async def _send_once(self, call: Call) -> httpx.Response:
        async with self.open(call) as response:
            await response.aread()
            return response

    def _timeout(self, read_s: float | None) -> httpx.Timeout:
        return httpx.Timeout(
            _SEND_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S, read=read_s or self.patience.read_timeout_s
        )

    @asynccontextmanager
    async def _failures_named(self) -> AsyncGenerator[None]:
        try:
            yield
        except httpx.RequestError as error:
            here = httpx.URL(self.base_url).host in ("127.0.0.1", "localhost", "::1")
            advice = "start it with make demo or assistant local up" if here else "see whether it runs"
            raise UnreachableError(
                f"The service at {self.base_url} does not answer ({type(error).__name__}); "
                f"{advice}, and see its log."
            ) from None
