"""HTTP with a bearer token: typed errors, bounded retries, responses read into the API's types.

``answer_events`` yields the events of one streamed answer, and reconnects where a connection fails.
"""

from __future__ import annotations

import asyncio
import ssl
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import httpx
from pydantic import BaseModel, Field, ValidationError

from assistant.answer import events
from assistant.answer.events import AnswerEvent, Checked, Done, Problem
from assistant.domain.answers import ChatTurn
from assistant.domain.clock import back_off_s
from assistant.domain.documents import SearchFilters
from assistant.domain.errors import AssistantError, ConfigurationError, DependencyError
from assistant.domain.identity import ContextToken, PlainContext
from assistant.domain.public import PublicModel, RecordId

_CONNECT_TIMEOUT_S = 5.0
_SEND_TIMEOUT_S = 30.0
Body = TypeVar("Body", bound=BaseModel)


class UnreachableError(DependencyError):
    """The service does not answer, broke the connection, or sent an invalid response."""

    code: ClassVar[str] = "service_unreachable"


class RefusedByServiceError(AssistantError):
    """The service answered with a problem body; the message is the service's."""

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
    """Too many requests (429), or a dependency is unavailable or the endpoints are paused (503): retry later,
    after ``retry_after_s`` where it is known."""

    code: ClassVar[str] = "unavailable"


_ERROR_BY_STATUS: dict[int, type[RefusedByServiceError]] = {
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
    """Return the error for a problem body, or for a problem that ended a stream."""
    return _ERROR_BY_STATUS.get(problem.status, RefusedByServiceError)(problem, retry_after_s=retry_after_s)


@dataclass(frozen=True, slots=True)
class Patience:
    """Limits of retries and timeouts. ``Patience(attempts=1)`` never retries."""

    attempts: int = 4
    """Attempts in a row that fail; new text of an answer's stream resets the count."""
    first_wait_s: float = 0.2
    longest_wait_s: float = 5.0
    """When the service asks for a longer wait (``Retry-After``), its error is raised instead."""
    read_timeout_s: float = 30.0
    """Three missed heartbeats of a stream (10 s each)."""
    whole_timeout_s: float = 110.0
    """For a whole answer in one body: the service's own longest deadline is 100 s."""

    def wait_s(self, failures: int, *, asked_s: float | None = None) -> float | None:
        """Return the wait after so many failures in a row; None to give up.

        Waits double; up to half of each is random, so that clients do not all retry at once.
        """
        if failures >= self.attempts or (asked_s or 0.0) > self.longest_wait_s:
            return None
        wait_s = back_off_s(failures - 1, first_s=self.first_wait_s, longest_s=self.longest_wait_s)
        return max(asked_s or 0.0, wait_s)


def parse_response(model: type[Body], body: str | bytes) -> Body:
    """Return the body as ``model``; unknown fields are ignored. Raises UnreachableError."""
    try:
        return model.model_validate_json(body, extra="ignore")
    except ValidationError as error:
        raise UnreachableError(
            f"The service sent an invalid {model.__name__}: {error.error_count()} fields are wrong."
        ) from None


def _error_of_response(response: httpx.Response) -> RefusedByServiceError | UnreachableError:
    """Return the error for a response with an error status, whose body was read."""
    try:
        problem = Problem.model_validate_json(response.content, extra="ignore")
    except ValidationError:
        return UnreachableError(f"The service answered {response.status_code} without a problem body.")
    return refusal(problem, retry_after_s=_seconds(response.headers.get("retry-after")))


def _seconds(header: str | None) -> float | None:
    """Return ``Retry-After`` in seconds, the only form that the service sends."""
    return float(header) if header is not None and header.isascii() and header.isdigit() else None


@dataclass(frozen=True, slots=True)
class Call:
    """One request. Ids, keys and content hashes make every request of the API safe to repeat."""

    method: str
    path: str
    params: Mapping[str, str | int | list[str]] | None = None
    json: Any = None
    headers: Mapping[str, str] | None = None
    read_timeout_s: float | None = None
    """Instead of the connection's own."""
    is_repeatable: bool = True
    """False when a repeat could start a second answer: then only a refused request is sent again."""


class Connection:
    """Sends calls to one service with one caller's token."""

    def __init__(
        self,
        base_url: str,
        *,
        token: str | Path | None,
        patience: Patience,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.base_url = base_url
        self.patience = patience
        self._token = token
        self._client = httpx.AsyncClient(
            base_url=base_url,
            timeout=self._timeout(patience.read_timeout_s),
            verify=base_url.startswith("https:") if tls is None else tls,  # authorities take 0.1 s to read
            trust_env=False,  # no proxy of the environment between here and a private service
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def send(self, call: Call) -> httpx.Response:
        """Return the response. Raises RefusedByServiceError, UnreachableError when no attempt is left."""
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
        """Wait for the next attempt; raise the error when none is left, or when a retry cannot succeed."""
        is_retryable = error.problem.retryable if isinstance(error, RefusedByServiceError) else is_repeatable
        wait_s = self.patience.wait_s(failures, asked_s=error.retry_after_s)
        if not is_retryable or wait_s is None:
            raise error
        await asyncio.sleep(wait_s)

    @asynccontextmanager
    async def open(self, call: Call) -> AsyncGenerator[httpx.Response]:
        """Open a streamed response with a success status. Raises as ``send``, without retries."""
        async with (
            self._named_failures(),
            self._client.stream(
                call.method,
                call.path,
                params=call.params,
                json=call.json,
                headers=self._headers(call),
                timeout=self._timeout(call.read_timeout_s),
            ) as response,
        ):
            if not response.is_success:
                await response.aread()
                raise _error_of_response(response)
            yield response

    async def _send_once(self, call: Call) -> httpx.Response:
        """Return the whole response of one attempt. Raises RefusedByServiceError, UnreachableError."""
        async with self.open(call) as response:
            await response.aread()
            return response

    def _headers(self, call: Call) -> Mapping[str, str]:
        """Return the call's headers with the token that is in its file now. Raises ConfigurationError."""
        try:
            token = self._token.read_text().strip() if isinstance(self._token, Path) else self._token
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"The file of the token cannot be read: {error}.") from None
        return {**(call.headers or {}), **({"authorization": f"Bearer {token}"} if token else {})}

    def _timeout(self, read_s: float | None) -> httpx.Timeout:
        return httpx.Timeout(
            _SEND_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S, read=read_s or self.patience.read_timeout_s
        )

    @asynccontextmanager
    async def _named_failures(self) -> AsyncGenerator[None]:
        """Turn an error of httpx inside the block into UnreachableError."""
        try:
            yield
        except httpx.RequestError as error:
            is_local = httpx.URL(self.base_url).host in ("127.0.0.1", "localhost", "::1")
            advice = "start it with make demo or assistant tenant up" if is_local else "check that it runs"
            reason = f"{type(error).__name__}: {error}".rstrip(": ")
            raise UnreachableError(
                f"The service at {self.base_url} does not answer ({reason}); {advice}, and read its log."
            ) from None


# --- the events of an answer -------------------------------------------------------------------------------


_STREAM = {"accept": "text/event-stream"}
_EVENTS: tuple[Any, ...] = get_args(AnswerEvent)
"""The classes of events; each has its name on the wire as ``event``."""


class Question(PublicModel):
    """The body of ``POST /v1/answers``. The service checks its limits."""

    question: str = ""
    turns: tuple[ChatTurn, ...] = Field(default=(), repr=False)
    """The chat that it is about, oldest first: without a question its open ones are asked."""
    conversation_id: RecordId | None = None
    filters: SearchFilters = SearchFilters()
    mode: Literal["auto", "quoted"] = "auto"
    max_tokens: int | None = None
    context: ContextToken | PlainContext | None = Field(default=None, repr=False)
    """Whose live data the answer may show: the care application's token for this conversation."""
    resume_window_s: int = Field(default=15, ge=0, le=30)
    """Seconds that the service goes on without a reader; so long ``stream`` may reconnect. With 0 the answer
    ends when its reader leaves or the connection fails."""

    def body(self) -> dict[str, Any]:
        """Return the JSON body without the service's defaults."""
        body = self.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
        return body | ({"resume_window_s": self.resume_window_s} if self.resume_window_s else {})

    def idempotency_headers(self) -> dict[str, str]:
        """Return a new key for an answer that is kept: a repeat under it joins the first answer."""
        return {"idempotency-key": uuid.uuid4().hex} if self.resume_window_s > 0 else {}


def stream_call(question: Question) -> Call:
    """Return the call that asks the question and streams the answer."""
    key = question.idempotency_headers()
    return Call("POST", "/v1/answers", json=question.body(), headers=_STREAM | key, is_repeatable=bool(key))


def resume_call(event_id: str) -> Call:
    """Return the call for an answer's events after the one with this id, ``<answer id>:<number>``."""
    answer_id, _, _ = event_id.rpartition(":")
    return Call("GET", f"/v1/answers/{answer_id}/events", headers=_STREAM | {"last-event-id": event_id})


async def answer_events(connection: Connection, call: Call) -> AsyncGenerator[AnswerEvent]:
    """Yield the events of one answer, the last one ``Done`` or ``Problem``, or ``Checked`` where a model
    checks the text (``Done.check_follows``); unknown ones are ignored.

    When a connection fails, it is opened again:

    - before the first event, with the question under the same key, which joins the first answer;
    - after it, with the id of the last event: the service sends the events after that one;
    - a service task that knows the answer only from its record sends the whole answer: events that were
      yielded before are left out.

    A connection without a new event is one more failure in a row. Raises RefusedByServiceError,
    UnreachableError.
    """
    failures, yielded, has_ended = 0, _Yielded(), False
    while True:
        try:
            async with connection.open(call) as response, aclosing(_frames(response.aiter_lines())) as frames:
                async for event_id, event in frames:
                    if event_id is not None and call.is_repeatable:
                        call = resume_call(event_id)
                    if event is not None and (new := yielded.new_of(event)) is not None:
                        # each replay sends elements again
                        failures = failures if isinstance(new, events.ElementChanged) else 0
                        yield new
                    if _is_last(event):
                        return
                    has_ended = has_ended or isinstance(event, Done)
            error = UnreachableError("The service ended the answer in the middle; read its log.")
        except (RefusedByServiceError, UnreachableError) as failure:
            error = failure
        if has_ended:  # the answer is whole; its check is lost
            return
        failures += 1
        await connection.wait_or_raise(error, failures, is_repeatable=call.is_repeatable)


def _is_last(event: AnswerEvent | None) -> bool:
    if isinstance(event, Done):
        return not event.check_follows
    return isinstance(event, Checked | Problem)


class _Yielded:
    """What was yielded of an answer, so that nothing is yielded twice when the service sends the answer
    again.

    A replay begins with ``Started``. Example: the tokens "The par" were yielded; the replay sends "The parcel
    is", of which ``new_of`` returns "cel is".
    """

    def __init__(self) -> None:
        self._yielded_chars = 0
        """Characters of the text that were yielded."""
        self._received_chars = 0
        """Characters of the text since the last ``Started``, which a replay sends again."""
        self._kinds: set[type[AnswerEvent]] = set()
        """Which of ``Started`` and ``Sources`` were yielded: an answer has one of each."""
        self._sentences = 0
        """Number of ``SentenceEnded`` events that were yielded; their indexes count from 0."""

    def new_of(self, event: AnswerEvent) -> AnswerEvent | None:
        """Return the event, a token without the text that was yielded before; None where nothing is new."""
        match event:
            case events.Token():
                replayed = max(0, self._yielded_chars - self._received_chars)
                self._received_chars += len(event.text)
                self._yielded_chars = max(self._yielded_chars, self._received_chars)
                text = event.text[replayed:]
                return events.Token(text) if text else None
            case events.SentenceEnded():
                is_new = event.index >= self._sentences
                self._sentences = max(self._sentences, event.index + 1)
                return event if is_new else None
            case events.Started() | events.Sources():
                is_new = type(event) not in self._kinds
                self._kinds.add(type(event))
                if isinstance(event, events.Started):
                    self._received_chars = 0
                return event if is_new else None
            case _:
                return event


async def _frames(lines: AsyncIterator[str]) -> AsyncGenerator[tuple[str | None, AnswerEvent | None]]:
    """Yield id and event of each server-sent event; the event is None when its name is unknown.

    ``id: a1:7``, ``event: token``, ``data: {"text": "The"}``, a blank line → ``("a1:7", Token("The"))``.
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
    """Data of a ``token`` event."""

    text: str


def _event(name: str, data: str) -> AnswerEvent | None:
    """Return the event of a name with its JSON data; None for an unknown name. ``Token`` is no pydantic
    model."""
    if name == events.Token.event:
        return events.Token(parse_response(_TokenData, data).text)
    model = next((model for model in _EVENTS if model.event == name), None)
    return None if model is None else parse_response(model, data)
