"""Turns errors into statuses and problem bodies (RFC 9457), and declares them for the OpenAPI file."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import structlog
from pydantic import BaseModel, ValidationError
from starlette.types import Send

from assistant.answer.events import Problem
from assistant.domain import errors
from assistant.domain.errors import AssistantError, EndpointPausedError, InvalidRequestError, TooLargeError

# Class of errors, status, title. The first row that an error is an instance of counts, so subclasses come
# first.
STATUSES: tuple[tuple[type[AssistantError], int, str], ...] = (
    (errors.UnreadableRequestError, 400, "The request is not readable"),
    (errors.UnauthenticatedError, 401, "Sign in"),
    (errors.ForbiddenError, 403, "Not allowed"),
    (errors.LabelsWidenedError, 403, "Not yours to widen"),
    (errors.NotFoundError, 404, "Not found"),
    (errors.ConflictError, 409, "Conflict"),
    (errors.ContextUsedError, 409, "The customer's context was used before"),
    (errors.WithdrawnError, 410, "A source was withdrawn"),
    (TooLargeError, 413, "Too large"),
    (errors.ContextRefusedError, 422, "The customer's context is not valid"),
    (InvalidRequestError, 422, "The request breaks its schema"),
    (errors.DocumentInvalidError, 422, "The document is not well-formed"),
    (errors.PassageTooLongError, 422, "Too long for the model"),
    (errors.OverloadedError, 429, "Too much at once"),
    (errors.TenantNotServedError, 503, "The tenant is not served"),
    (EndpointPausedError, 503, "The model endpoints are paused"),
    (errors.AnswerInterruptedError, 503, "The answer was interrupted"),
    (errors.DependencyError, 503, "A dependency does not answer"),
    (errors.DeadlineExceededError, 503, "Too late"),
)
NOT_FOUND = "There is no such thing, or it is not yours."
"""One body for a resource that does not exist and for another caller's."""
_RETRY_AFTER_S = 2.0
"""``Retry-After`` of a 429 or 503 whose error gives none."""
_log = structlog.get_logger(__name__)
INTERNAL_PROBLEM = Problem(
    title="Internal error",
    status=500,
    detail="Something went wrong in the service; its log has the trace id.",
    code=AssistantError.code,
    retryable=False,
)
"""The body for an unexpected error, without details."""


def problem_of(error: AssistantError) -> Problem:
    """Return the problem for an error. An error without a row in ``STATUSES`` is a defect: it is logged, and
    becomes a 500."""
    for kind, status, title in STATUSES:
        if isinstance(error, kind):
            code, retryable = error.code, error.retryable
            findings = error.findings if isinstance(error, errors.ReplyFindingsError) else ()
            return Problem.model_validate(
                {
                    "title": title,
                    "status": status,
                    "detail": error.message,
                    "code": code,
                    "retryable": retryable,
                    "findings": findings,
                }
            )
    _log.error("error_without_status", exc_info=error)
    return INTERNAL_PROBLEM


def log_failure(problem: Problem) -> None:
    """Log a failed dependency with its reason, so that operators see it too. Details of our errors contain no
    user text."""
    if problem.status >= 500 and problem.code not in (AssistantError.code, EndpointPausedError.code):
        _log.warning("dependency_failed", code=problem.code, detail=problem.detail)


def problem_headers(problem: Problem, *, retry_after_s: float | None = None) -> dict[str, str]:
    """Return the headers of a problem's response."""
    headers = {
        "content-type": "application/problem+json",
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
    }
    if problem.status == 401:
        headers["www-authenticate"] = "Bearer"
    if problem.status in {429, 503}:
        headers["retry-after"] = str(math.ceil(retry_after_s or _RETRY_AFTER_S))
    if problem.status == 413:
        headers["connection"] = "close"  # the rest of the body is not read
    return headers


def problem_body(problem: Problem) -> bytes:
    return orjson.dumps(problem.model_dump(mode="json"))


async def send_problem(send: Send, problem: Problem, *, retry_after_s: float | None = None) -> None:
    """Send a problem as the response of a raw ASGI request."""
    headers = problem_headers(problem, retry_after_s=retry_after_s)
    await send_refusal(send, problem.status, problem_body(problem), headers)


async def send_refusal(send: Send, status: int, body: bytes, headers: Mapping[str, str]) -> None:
    """Send the whole response of a raw ASGI request that is refused."""
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    raw.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


def invalid_request(error: ValidationError) -> AssistantError:
    """Return the error for a body or query that breaks its schema. It names fields, never values."""
    details = error.errors(include_url=False, include_context=False, include_input=False)
    too_long = [item for item in details if item["type"] == "string_too_long"]
    if too_long:
        return TooLargeError(f"{_name(too_long[0]['loc'])}: {too_long[0]['msg']}.")
    unknown = [_name(item["loc"]) for item in details if item["type"] == "extra_forbidden"]
    if unknown:
        return InvalidRequestError(f"Unknown field {', '.join(unknown[:5])}; leave it out.")
    wrong = "; ".join(f"{_name(item['loc'])}: {item['msg']}" for item in details[:5])
    return InvalidRequestError(f"{wrong}.")


def _name(location: Sequence[int | str]) -> str:
    """Return the name of a field: ``turns.0.text``."""
    return ".".join(str(part)[:64] for part in location) or "body"


REFERENCE = "#/components/schemas/{model}"
_MEANINGS = {
    400: "Not readable",
    401: "No valid token",
    403: "Role missing",
    404: "Not there, or not yours",
    409: "An id, key or context was used before for something else, or an answer has its most of a kind",
    410: "A document that the answer shows was withdrawn since",
    413: "Too large",
    422: "Breaks the schema",
    429: "Too much at once; see Retry-After",
    500: "A defect of the service; its log has the trace id",
    503: "A dependency does not answer, or the model endpoints are paused; see Retry-After",
}
_DECLARED_HEADERS = {
    401: {"WWW-Authenticate": {"description": "Bearer", "required": True, "schema": {"type": "string"}}},
    429: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
    503: {"Retry-After": {"$ref": "#/components/headers/RetryAfter"}},
}
SHARED_HEADERS: dict[str, Any] = {
    "RetryAfter": {
        "description": "Seconds after which the same request may succeed.",
        "required": True,
        "schema": {"type": "integer", "minimum": 1},
    },
    "AnswerId": {
        "description": "The answer, for verdicts and for reading it back.",
        "required": True,
        "schema": {"type": "string"},
    },
}


def declared(
    *statuses: int, body: type[BaseModel] | None = None, meanings: dict[int, str] | None = None
) -> dict[str, Any]:
    """Return FastAPI's arguments for a route that needs a token: ``@router.get(path, **declared(404))``.

    They declare its error statuses, to which those of every such route are added, and the JSON body that it
    reads. ``meanings``: descriptions of statuses in place of the usual ones.
    """
    usual = (401, 403, 422, 429, 503) if body is None else (400, 401, 403, 413, 422, 429, 503)
    declaration = {"responses": problems(*usual, *statuses, meanings=meanings)}
    return declaration if body is None else declaration | {"openapi_extra": body_of(body)}


def problems(
    *statuses: int, content: dict[str, Any] | None = None, meanings: dict[int, str] | None = None
) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI responses of error statuses, 500 included. ``content``: their media types where the
    body is no problem."""
    content = content or {"application/problem+json": {"schema": reference("Problem")}}
    descriptions = _MEANINGS | (meanings or {})
    return {
        status: {"description": descriptions[status], "content": content}
        | ({"headers": _DECLARED_HEADERS[status]} if status in _DECLARED_HEADERS else {})
        for status in sorted({*statuses, 500})
    }


def body_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the OpenAPI request body of a route that reads its JSON itself, with its own limits."""
    schema = reference(model.__name__)
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def links(*operations: str, **parameters: str) -> dict[str, Any]:
    """Return OpenAPI links to the operations that continue this one. Each parameter is where its value is in
    the response's body: ``links("read_answer", answer_id="answer_id")``."""
    fields = {name: f"$response.body#/{path}" for name, path in parameters.items()}
    return {name: {"operationId": name, "parameters": fields} for name in operations}


def reference(model: str) -> dict[str, str]:
    """Return the OpenAPI reference to a model's schema."""
    return {"$ref": REFERENCE.format(model=model)}
