"""The ASGI application of the service: streams on raw ASGI, FastAPI for the rest; the console's files."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant.answering.events import Problem
from assistant.api import answers, desk, documents, errors, health
from assistant.api.answers import EVENTS_PATH, Answers
from assistant.api.auth import Service, ServiceOf, service_of
from assistant.api.browsers import OtherOrigins
from assistant.api.chat import CHAT_PATH, complete_chat
from assistant.api.delivery import ClientGoneError
from assistant.api.errors import NOT_FOUND, problem_of
from assistant.api.health import ReadinessProbe, operations_application
from assistant.api.openapi import openapi_document, rendered
from assistant.api.wire import ConsoleConfig
from assistant.domain.errors import AssistantError, InvalidRequestError, NotFoundError

_DEFAULT_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_JSON_OBJECT: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}}
DIST = Path(__file__).parent / "console" / "dist"
_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}
_PAGE = "index.html"
_NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The console is not built</title></head>
<body><main><h1>The console is not built</h1>
<p>Run <code>make demo</code>, or <code>node assistant/api/console/build.mjs</code> in the repository.</p>
</main></body></html>
"""
_log = structlog.get_logger(__name__)
_description_router = APIRouter(tags=["operation"])
_console_router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Application:
    """Sends questions to their raw endpoint and everything else to the routes."""

    answers: Answers
    routes: ASGIApp
    operations: ASGIApp
    operations_port: int | None
    """Port of the operators' listener; ``operations`` alone serves its requests."""
    origins: OtherOrigins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        if self.operations_port is not None and scope["server"][1] == self.operations_port:
            await self.operations(scope, receive, _with_default_headers(send))
        else:
            await self._admitting(scope, receive, send)

    @cached_property
    def _admitting(self) -> ASGIApp:
        return self.origins.admit(self._serve)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/v1/answers" and scope["method"] == "POST":
            await self.answers.ask(scope, receive, send)
        elif scope["path"] == CHAT_PATH and scope["method"] == "POST":
            await complete_chat(self.answers, scope, receive, send)
        elif scope["method"] == "GET" and EVENTS_PATH.fullmatch(scope["path"]):
            await self.answers.resume(scope, receive, send)
        else:
            await self.routes(scope, receive, _with_default_headers(send))


def build_application(
    service: Service,
    answers: Answers,
    *,
    operations_port: int | None = None,
    origins: OtherOrigins,
) -> Application:
    routes = build_routes()
    routes.state.service = service
    routes.state.origins = origins
    routes.state.console_files = _read_console()
    readiness = ReadinessProbe(
        service.tenants, check_keys=service.keys.check, deployed=service.deployed, clock=service.clock
    )
    return Application(
        answers=answers,
        routes=routes,
        operations=operations_application(service.metrics, readiness=readiness),
        operations_port=operations_port,
        origins=origins,
    )


def build_routes() -> FastAPI:
    """Return the routes that FastAPI serves; their state is set by ``build_application``."""
    routes = FastAPI(
        title="Private care assistant",
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # the operation's id in the OpenAPI file
    )
    for router in (answers.router, documents.router, documents.audit_router, desk.router, health.router):
        routes.include_router(router)
    routes.include_router(_description_router)
    routes.include_router(_console_router)  # last: it takes every name at the top
    routes.add_exception_handler(AssistantError, _on_own_error)
    routes.add_exception_handler(RequestValidationError, _on_validation_error)
    routes.add_exception_handler(HTTPException, _on_http_error)
    routes.add_exception_handler(ClientGoneError, _on_client_gone)
    routes.add_exception_handler(Exception, _on_unexpected)
    return routes


@_description_router.get("/openapi.json", response_class=Response, responses={200: _JSON_OBJECT})
async def openapi(request: Request) -> Response:
    """This description."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = rendered(openapi_document(request.app))
    return Response(state.openapi, media_type="application/json")


async def _on_own_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, AssistantError)  # noqa: S101 - as registered
    problem = problem_of(error)
    errors.log_failure(problem)
    return _response(problem, retry_after_s=error.retry_after_s)


async def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - as registered
    wrong = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()[:5])
    return _response(problem_of(InvalidRequestError(f"{wrong}.")))


async def _on_http_error(_request: Request, error: Exception) -> Response:
    """Handle the router's own refusals: an unknown path, a method that a path does not have."""
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
    template = getattr(request.scope.get("route"), "path", "unknown")
    _log.error("request_failed", path_template=template, exc_info=error)
    service_of(request).metrics.count_internal_error()
    return _response(errors.internal_problem())


def _response(problem: Problem, *, retry_after_s: float | None = None, more: Any = None) -> Response:
    headers = errors.problem_headers(problem, retry_after_s=retry_after_s) | dict(more or {})
    return Response(errors.problem_body(problem), problem.status, headers=headers)


def _with_default_headers(send: Send) -> Send:
    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            message["headers"] = headers + [item for item in _DEFAULT_HEADERS if item[0] not in present]
        await send(message)

    return with_headers


@dataclass(frozen=True, slots=True)
class _ConsoleFile:
    """A file of the console's build, read when the process started."""

    content: bytes
    media_type: str
    etag: str


def _read_console() -> Mapping[str, _ConsoleFile]:
    """Return the build's files by name. No request reads the disk: a caller's name is looked up here only."""
    return {
        path.name: _read_file(path)
        for path in (sorted(DIST.iterdir()) if DIST.is_dir() else ())
        if path.suffix in _MEDIA_TYPES and not path.name.startswith(".") and path.is_file()
    }


def _read_file(path: Path) -> _ConsoleFile:
    content = path.read_bytes()
    return _ConsoleFile(content, _MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


@_console_router.get("/config.json")
async def console_config(service: ServiceOf) -> ConsoleConfig:
    return service.console


@_console_router.get("/")
async def console_page(request: Request) -> Response:
    if _PAGE not in request.app.state.console_files:
        return HTMLResponse(_NOT_BUILT, 404, headers=_headers(request))
    return _file(request, _PAGE)


@_console_router.get("/{name}")
async def console_file(request: Request, name: str) -> Response:
    """A file of the build."""
    return _file(request, name)


def _file(request: Request, name: str) -> Response:
    files: Mapping[str, _ConsoleFile] = request.app.state.console_files
    if (found := files.get(name)) is None:
        raise NotFoundError(NOT_FOUND)
    headers = _headers(request) | {"etag": found.etag}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


def _headers(request: Request) -> dict[str, str]:
    origins: OtherOrigins = request.app.state.origins
    return {
        **origins.console_headers(service_of(request).console.issuer),
        "cache-control": "no-cache",  # browsers ask each time; an unchanged file answers 304 by its ETag
    }
