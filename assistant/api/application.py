"""The ASGI application of the service: the streaming path on its own, FastAPI for the rest."""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant.answering.events import Problem
from assistant.api import answers, audit_routes, console_files, document_routes, health_routes, link_page
from assistant.api.answers import EVENTS_PATH, AnswerRequests
from assistant.api.chat_completions import CHAT_PATH, ChatCompletions
from assistant.api.limits import ClientGoneError
from assistant.api.problems import (
    NOT_FOUND,
    internal_problem,
    log_failure,
    problem_body,
    problem_headers,
    problem_of,
)
from assistant.api.wiring import Service, service_of
from assistant.domain.errors import AssistantError, InvalidRequestError, NotFoundError

_DEFAULT_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Application:
    """Sends questions to their raw endpoint and everything else to the routes."""

    answers: AnswerRequests
    chat: ChatCompletions
    routes: ASGIApp
    operations: ASGIApp
    operations_port: int | None
    """The listener for operators: what comes in there is served by ``operations`` alone."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self.operations_port is not None and scope["server"][1] == self.operations_port:
            await self.operations(scope, receive, _with_default_headers(send))
        elif scope["path"] == "/v1/answers" and scope["method"] == "POST":
            await self.answers.ask(scope, receive, send)
        elif scope["path"] == CHAT_PATH and scope["method"] == "POST":
            await self.chat.complete(scope, receive, send)
        elif scope["method"] == "GET" and EVENTS_PATH.fullmatch(scope["path"]):
            await self.answers.resume(scope, receive, send)
        else:
            await self.routes(scope, receive, _with_default_headers(send))


def build_application(
    service: Service, answers: AnswerRequests, *, operations_port: int | None = None
) -> Application:
    routes = build_routes()
    routes.state.service = service
    routes.state.console_files = console_files.read_console()
    return Application(
        answers=answers,
        chat=ChatCompletions(answers),
        routes=routes,
        operations=health_routes.operations_application(service),
        operations_port=operations_port,
    )


def build_routes() -> FastAPI:
    routes = FastAPI(
        title="Private care assistant",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # the operation's id in the OpenAPI file
    )
    for module in (answers, audit_routes, document_routes, health_routes, link_page, console_files):
        routes.include_router(module.router)
    routes.add_exception_handler(AssistantError, _on_own_error)
    routes.add_exception_handler(RequestValidationError, _on_validation_error)
    routes.add_exception_handler(HTTPException, _on_http_error)
    routes.add_exception_handler(ClientGoneError, _on_client_gone)
    routes.add_exception_handler(Exception, _on_unexpected)
    return routes


async def _on_own_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AssistantError)  # noqa: S101 - as registered
    problem = problem_of(error)
    log_failure(problem)
    return _response(problem, retry_after_s=error.retry_after_s)


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as registered
    wrong = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()[:5])
    return _response(problem_of(InvalidRequestError(f"{wrong}.")))


async def _on_http_error(_request: Request, error: Exception) -> Response:
    """What the router itself refuses: an unknown path, a method that a path does not have."""
    assert isinstance(error, HTTPException)  # noqa: S101 - as registered
    if error.status_code == 404:
        return _response(problem_of(NotFoundError(NOT_FOUND)))
    problem = Problem(
        title="Not possible here",
        status=error.status_code,
        detail=str(error.detail),
        code="method_not_allowed" if error.status_code == 405 else InvalidRequestError.code,
        retryable=False,
    )
    return _response(problem, more=error.headers)


async def _on_client_gone(_request: Request, _error: Exception) -> Response:
    return Response(status_code=400)  # nobody reads it


async def _on_unexpected(request: Request, error: Exception) -> Response:
    _log.error("request_failed", path_template=_template(request), exc_info=error)
    service_of(request).metrics.count_internal_error()
    return _response(internal_problem())


def _template(request: Request) -> str:
    route = request.scope.get("route")
    return getattr(route, "path", "unknown")


def _response(problem: Problem, *, retry_after_s: float | None = None, more: Any = None) -> Response:
    headers = problem_headers(problem, retry_after_s=retry_after_s) | dict(more or {})
    return Response(problem_body(problem), problem.status, headers=headers)


def _with_default_headers(send: Send) -> Send:
    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            message["headers"] = headers + [item for item in _DEFAULT_HEADERS if item[0] not in present]
        await send(message)

    return with_headers
