"""The ASGI application of the service, and its OpenAPI file.

Streams are raw ASGI; FastAPI serves all other routes, and the console's files. ``OtherOrigins`` says which
pages of other origins may call.

``python -m tools.pages schemas`` writes docs/openapi.json; a test compares it with the code. Links in it
lead from an operation's response to the operations that continue it: stateful tests follow them.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from pathlib import Path
from typing import Any, get_args
from urllib.parse import urlsplit

import orjson
import structlog
from fastapi import APIRouter, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from pydantic import TypeAdapter
from pydantic.json_schema import JsonSchemaMode
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from assistant.answer.events import AnswerEvent, Problem
from assistant.answer.request import AnswerRequest
from assistant.domain.answers import Verdict
from assistant.domain.documents import Document
from assistant.domain.errors import AssistantError, InvalidRequestError, NotFoundError
from assistant.domain.public import PublicModel
from assistant.option import joined
from assistant.service import answers, documents, errors, health, uploads, wire
from assistant.service.answers import Answers
from assistant.service.errors import NOT_FOUND
from assistant.service.health import ReadinessProbe, operations_application
from assistant.service.identity import Service, ServiceOf, service_of
from assistant.service.streams import TAKE, ClientGoneError
from assistant.service.wire import ConsoleConfig

_DEFAULT_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),
)
_JSON_OBJECT: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}}
DIST = Path(__file__).parent / "console" / "dist"
_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}
_PAGE = "index.html"
_OF_A_BODY = ("content-length", "content-type")
"""Headers that a response without a body must not have."""
_NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The console is not built</title></head>
<body><main><h1>The console is not built</h1>
<p>Run <code>make demo</code>, or <code>node assistant/service/console/build.mjs</code> in the repository.</p>
</main></body></html>
"""
_log = structlog.get_logger(__name__)
_description_router = APIRouter(tags=["operation"])
_console_router = APIRouter(include_in_schema=False)


@dataclass(frozen=True)
class Application:
    """Sends streamed answers to their raw endpoints and everything else to the routes."""

    answers: Answers
    raw: Sequence[RawRoute]
    routes: ASGIApp
    """The FastAPI application."""
    operations: ASGIApp
    """Health, readiness and metrics for operators."""
    operations_port: int | None
    """Port of the operators' listener, all of whose requests go to ``operations``; None: there is none."""
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
        """``_serve`` behind the check of origins."""
        return self.origins.admit(self._serve)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; ``scope[TAKE]`` counts the bytes of its body until its end (``take_bytes``)."""
        with self.answers.service.bodies.of_request() as scope[TAKE]:
            await self._route(scope, receive, send)

    async def _route(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request to the raw endpoint of its method and path, else to FastAPI."""
        if raw := next((route for route in self.raw if route.takes(scope)), None):
            await raw.endpoint(self.answers, scope, receive, send)
        else:
            await self.routes(scope, receive, _with_default_headers(send))


def build_application(
    service: Service,
    answers: Answers,
    *,
    operations_port: int | None = None,
    origins: OtherOrigins,
) -> Application:
    """Return the application of one process. ``operations_port``: see ``Application``."""
    routes = build_routes()
    routes.state.service = service
    headers = origins.console_headers(service.console.issuer)
    routes.state.console_files = _read_console(headers)
    keys = service.verifier.keys
    readiness = ReadinessProbe(
        service.tenants, check_keys=keys.check, deployed=service.deployed, clock=service.clock
    )
    return Application(
        answers=answers,
        raw=raw_routes(),
        routes=routes,
        operations=operations_application(service.metrics, readiness=readiness),
        operations_port=operations_port,
        origins=origins,
    )


@dataclass(frozen=True)
class RawRoute:
    """A route that writes its own stream."""

    method: str
    path: str
    """It may have ``{answer_id}`` in it."""
    endpoint: Callable[[Answers, Scope, Receive, Send], Awaitable[None]]
    describe: Callable[[], dict[str, Any]]
    """Returns its operation object of the OpenAPI file."""

    def takes(self, scope: Scope) -> bool:
        return scope["method"] == self.method and self._pattern.fullmatch(scope["path"]) is not None

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile(self.path.replace("{answer_id}", "[A-Za-z0-9_-]{1,64}"))


@dataclass(frozen=True, slots=True)
class Routes:
    """Routes of an option."""

    router: APIRouter | None = None
    """Those that FastAPI serves."""
    raw: Sequence[RawRoute] = ()
    read: Sequence[type[PublicModel]] = ()
    """Bodies that routes read themselves: FastAPI does not know them."""
    written: Sequence[type[PublicModel]] = ()
    """Models that routes write themselves."""
    of_an_answer: Sequence[str] = ()
    """Operations that continue an answer."""


@cache
def option_routes() -> list[Routes]:
    return joined(lambda option: option.routes())


def raw_routes() -> list[RawRoute]:
    return [*_RAW, *chain.from_iterable(routes.raw for routes in option_routes())]


def build_routes() -> FastAPI:
    """Return the routes that FastAPI serves; their state is set by ``build_application``."""
    routes = FastAPI(
        title="Private care assistant",
        openapi_url=None,
        redirect_slashes=False,
        generate_unique_id_function=lambda route: route.name,  # the operation's id in the OpenAPI file
    )
    knowledge = (uploads.router, documents.router, documents.audit_router)
    of_options = (of_option.router for of_option in option_routes() if of_option.router is not None)
    for router in (answers.router, *knowledge, *of_options, health.router):
        routes.include_router(router)
    routes.include_router(_description_router)
    routes.include_router(_console_router)  # last: it takes every name at the top
    for kind in (AssistantError, RequestValidationError, HTTPException, ClientGoneError, Exception):
        routes.add_exception_handler(kind, _on_error)
    return routes


@_description_router.get("/openapi.json", response_class=Response, responses={200: _JSON_OBJECT})
async def openapi(request: Request) -> Response:
    """This description."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = rendered(openapi_document(request.app))
    return Response(state.openapi, media_type="application/json")


async def _on_error(request: Request, error: Exception) -> Response:
    """Return the problem of a failed request."""
    match error:
        case AssistantError():
            problem = errors.problem_of(error)
            errors.log_failure(problem)
            return _response(problem, retry_after_s=error.retry_after_s)
        case RequestValidationError():
            faults = "; ".join(f"{item['loc'][-1]}: {item['msg']}" for item in error.errors()[:5])
            return _response(errors.problem_of(InvalidRequestError(f"{faults}.")))
        case HTTPException(status_code=404):
            return _response(errors.problem_of(NotFoundError(NOT_FOUND)))
        case HTTPException():  # the router's own refusal: a method that a path does not have
            problem = Problem(
                title="Not possible here",
                status=error.status_code,
                detail=str(error.detail),
                code="method_not_allowed" if error.status_code == 405 else InvalidRequestError.code,
                retryable=False,
            )
            return _response(problem, more=error.headers)
        case ClientGoneError():
            return Response(status_code=400)  # nobody reads it
        case _:
            template = getattr(request.scope.get("route"), "path", "unknown")
            _log.error("request_failed", path_template=template, exc_info=error)
            service_of(request).metrics.count_internal_error()
            return _response(errors.INTERNAL_PROBLEM)


def _response(problem: Problem, *, retry_after_s: float | None = None, more: Any = None) -> Response:
    """Return the response for a problem; ``more``: further headers."""
    headers = errors.problem_headers(problem, retry_after_s=retry_after_s) | dict(more or {})
    return Response(errors.problem_body(problem), problem.status, headers=headers)


def _with_default_headers(send: Send) -> Send:
    """Return a ``send`` that adds the default headers which a response does not set itself."""

    async def with_headers(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            headers: list[tuple[bytes, bytes]] = list(message.get("headers", ()))
            present = {name.lower() for name, _ in headers}
            message["headers"] = headers + [item for item in _DEFAULT_HEADERS if item[0] not in present]
        await send(message)

    return with_headers


def _read_console(headers: Mapping[str, str]) -> Mapping[str, Response]:
    """Return the files of the console's build by name, as responses. Requests are answered from these alone,
    so that no caller's name reaches the disk. Without a build, only a page that says so."""
    files: dict[str, Response] = {_PAGE: HTMLResponse(_NOT_BUILT, 404, headers=headers)}
    for path in sorted(DIST.iterdir()) if DIST.is_dir() else ():
        if path.suffix in _MEDIA_TYPES and not path.name.startswith(".") and path.is_file():
            content = path.read_bytes()
            file_headers = {**headers, "etag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}
            files[path.name] = Response(content, headers=file_headers, media_type=_MEDIA_TYPES[path.suffix])
    return files


@_console_router.get("/config.json")
async def console_config(service: ServiceOf) -> ConsoleConfig:
    return service.console


@_console_router.get("/")
async def console_page(request: Request) -> Response:
    return await console_file(request, _PAGE)


@_console_router.get("/{name}")
async def console_file(request: Request, name: str) -> Response:
    """A file of the build."""
    files: Mapping[str, Response] = request.app.state.console_files
    if (file := files.get(name)) is None:
        raise NotFoundError(NOT_FOUND)
    if request.headers.get("if-none-match", "") != file.headers.get("etag"):
        return file
    kept = {name: value for name, value in file.headers.items() if name not in _OF_A_BODY}
    return Response(status_code=304, headers=kept)


# Of cross-origin calls: what they may use, and for how many seconds browsers keep that answer
_METHODS = ("GET", "POST", "DELETE")
_SENT_HEADERS = ("authorization", "content-type", "idempotency-key", "last-event-id", "mcp-protocol-version")
_READ_HEADERS = ("retry-after", "etag")
_PREFLIGHT_KEPT_S = 600


@dataclass(frozen=True, slots=True)
class OtherOrigins:
    """Origins (``https://care.example.org``) beside the service's own that may use it in a browser; empty:
    none may."""

    framing: Sequence[str] = ()
    """Pages that may hold the console in a frame."""
    calling: Sequence[str] = ()
    """Pages whose scripts may call the API, with a bearer token; no cookie is ever accepted."""

    def console_headers(self, issuer: str) -> dict[str, str]:
        """Return the headers of the console's files that say what its page may do, and where it may be."""
        headers = {
            "content-security-policy": content_security_policy(issuer, framing=self.framing),
            "cross-origin-opener-policy": "same-origin",
            "cache-control": "no-cache",  # browsers ask each time; an unchanged file answers 304 by its ETag
        }
        if not self.framing:
            headers["x-frame-options"] = "DENY"  # it cannot name origins; frame-ancestors goes before it
        return headers

    def admit(self, application: ASGIApp) -> ASGIApp:
        """Return the application with CORS for the calling origins: preflights, and headers of all
        responses."""
        if not self.calling:
            return application
        return CORSMiddleware(
            application,
            allow_origins=self.calling,
            allow_methods=_METHODS,
            allow_headers=_SENT_HEADERS,
            expose_headers=_READ_HEADERS,
            max_age=_PREFLIGHT_KEPT_S,
        )


def content_security_policy(issuer: str, *, framing: Sequence[str] = ()) -> str:
    """Return the policy of the console: its own files, calls to its own origin and the issuer, frames in
    ``framing``."""
    parts = urlsplit(issuer)
    ancestors = " ".join(framing) or "'none'"
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' {parts.scheme}://{parts.netloc}; "
        f"form-action 'none'; frame-ancestors {ancestors}; base-uri 'none'"
    )


# Statuses of a question that is refused before its first event
REFUSED_QUESTIONS = (400, 401, 403, 404, 409, 410, 413, 422, 429, 503)
# Operations that continue an answer
_OF_AN_ANSWER = ("read_answer", "follow_answer", "give_verdict", "cancel_answer")


def answer_links(answer_id: str, conversation_id: str) -> dict[str, Any]:
    """Return the OpenAPI links to the operations that continue an answer. The arguments are where its ids are
    in the response's body: "answer_id"."""
    of_options = chain.from_iterable(routes.of_an_answer for routes in option_routes())
    return errors.links(*_OF_AN_ANSWER, *of_options, answer_id=answer_id) | errors.links(
        "read_conversation", conversation_id=conversation_id
    )


EVENTS: tuple[type[AnswerEvent], ...] = get_args(AnswerEvent)
_STREAM = (
    "One of the server-sent events (`id`, `event`, `data`) of the stream, UTF-8. Their order is: started,"
    " preview (where a model reads the conversation), sources, red_flags once at most, any number of token,"
    " sentence and element, then done or error; checked after a done with check_follows; and nothing after it"
    ". `data` is JSON; its schema stands under the event's name in x-events. Ids are"
    " `<answer_id>:<sequence>`, the sequence counting up from 1; an event without an"
    " id is of this connection only. Where started comes a second time, the answer comes again from its "
    "record: what came before is dropped. When nothing flows for 10 s the comment `: alive` comes. Clients "
    "ignore unknown events and fields. Texts of tokens are Markdown: a checked sentence, or a quoted unit of "
    "a document. A stream that ends without done or error was cut."
)
_EVENT_ORDER = [
    "started",
    "preview",
    "sources",
    ["token", "sentence", "element"],
    ["done", "error"],
    "checked",
]
_EVENT_ID = "^[A-Za-z0-9_-]{1,64}:[1-9][0-9]{0,8}$"
KEY: dict[str, Any] = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "A repeat under the same key, by the same agent within 15 minutes, joins the first "
    "answer; with another request it is refused (409). Where the first answer was interrupted, the "
    "request begins a new one. That the task which wrote it is gone shows when the answer's deadline is "
    "over: until then a repeat waits for the record, and gets the error interrupted at the end.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[\\x21-\\x7e]+$"},
}
_LAST_EVENT_ID: dict[str, Any] = {
    "name": "Last-Event-ID",
    "in": "header",
    "required": False,
    "description": "Id of the last event that was seen: those after it come, where the task that writes "
    "the answer is asked. Without it, all.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}:[0-9]{1,9}$"},
}
ANSWER_ID: dict[str, Any] = {
    "name": "answer_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[A-Za-z0-9_-]+$"},
}


def streamed(
    endpoint: Callable[..., Any], summary: str, body: type[Any], *parameters: dict[str, Any]
) -> dict[str, Any]:
    """Return the operation of a raw endpoint that answers as a stream or as one body."""
    content = {
        "text/event-stream": _event_stream(),
        "application/json": {"schema": errors.reference("WholeAnswer")},
    }
    links = answer_links("answer_id", "conversation_id")
    return {
        "summary": summary,
        "operationId": endpoint.__name__,
        "parameters": [KEY, *parameters],
        **errors.body_of(body),
        **described(
            endpoint,
            {"description": "The answer", "content": content, "links": links},
            errors.problems(*REFUSED_QUESTIONS),
        ),
    }


def described(
    endpoint: Callable[..., Any], good: dict[str, Any], bad: dict[int | str, dict[str, Any]]
) -> dict[str, Any]:
    """Return tag, description and responses of a raw endpoint. The description is its docstring, as one
    line."""
    return {
        "tags": ["answers"],
        "description": " ".join((endpoint.__doc__ or "").split()),
        "responses": {"200": good} | {str(status): response for status, response in bad.items()},
    }


def _event_stream() -> dict[str, Any]:
    """Return the media type object of a stream of events."""
    return {
        "schema": {"description": _STREAM, "oneOf": [_event_schema(event) for event in EVENTS]},
        "x-events": {event.event: errors.reference(event.__name__) for event in EVENTS},
        "x-event-order": _EVENT_ORDER,
        "x-event-id": _EVENT_ID,
        "x-heartbeat": {"comment": "alive", "after_s": 10},
    }


def _event_schema(event: type[Any]) -> dict[str, Any]:
    """Return the schema of one event; the stream's schema is "one of" these."""
    return {
        "type": "object",
        "required": ["event", "data"],
        "properties": {
            "id": {"type": "string", "pattern": _EVENT_ID},
            "event": {"const": event.event},
            "data": json_text(event.__name__),
        },
    }


def json_text(model: str) -> dict[str, Any]:
    """Return the schema of a string that holds a model as JSON."""
    return {
        "type": "string",
        "contentMediaType": "application/json",
        "contentSchema": errors.reference(model),
    }


def _describe_events() -> dict[str, Any]:
    return {
        "summary": "Resume an answer",
        "operationId": "follow_answer",
        "parameters": [ANSWER_ID, _LAST_EVENT_ID],
        **described(
            Answers.resume,
            {"description": "The events", "content": {"text/event-stream": _event_stream()}},
            errors.problems(401, 403, 404, 422, 429, 503),
        ),
    }


_RAW = (
    RawRoute("POST", "/v1/answers", Answers.ask, lambda: streamed(Answers.ask, "Ask", AnswerRequest)),
    RawRoute("GET", "/v1/answers/{answer_id}/events", Answers.resume, _describe_events),
)
API_VERSION = "2.0.0"
# Models that raw endpoints read, or that routes read themselves: FastAPI does not know them
_READ = (
    AnswerRequest,
    Verdict,
    Document,
    wire.WithholdRequest,
    wire.ReleaseRequest,
    wire.RestoreContentRequest,
    wire.LinkToken,
)
# Models that raw endpoints write
_WRITTEN = (*EVENTS, wire.WholeAnswer)
# Paths that need no token
_OPEN_PATHS = ("/healthz", "/openapi.json")


def openapi_document(routes: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI 3.1 description of the whole service."""
    document = get_openapi(
        title="Private care assistant",
        version=API_VERSION,
        description="Private question answering for customer-care agents. The token chooses the tenant.",
        routes=routes.routes,
    )
    components: dict[str, Any] = document.setdefault("components", {})
    schemas: dict[str, Any] = components.setdefault("schemas", {})
    read = chain(_READ, *(of_option.read for of_option in option_routes()))
    written = chain(_WRITTEN, *(of_option.written for of_option in option_routes()))
    schemas |= _schemas([*read], "validation") | _schemas([*written], "serialization")
    for unused in ("HTTPValidationError", "ValidationError"):  # FastAPI's own 422 body is never sent
        schemas.pop(unused, None)
    paths: defaultdict[str, dict[str, Any]] = defaultdict(dict, document["paths"])
    for route in raw_routes():
        paths[route.path][route.method.lower()] = route.describe()
    document["paths"] = dict(paths)
    components["headers"] = errors.SHARED_HEADERS
    components["securitySchemes"] = {"bearer": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}}
    document["security"] = [{"bearer": []}]
    for open_path in _OPEN_PATHS:
        paths[open_path]["get"]["security"] = []
    return document


def _schemas(kinds: Sequence[type], mode: JsonSchemaMode) -> dict[str, Any]:
    """Return the JSON schemas of models by name: as they are read ("validation") or written
    ("serialization")."""
    inputs: list[tuple[str, JsonSchemaMode, TypeAdapter[Any]]] = [
        (kind.__name__, mode, TypeAdapter[Any](kind)) for kind in kinds
    ]
    _, schemas = TypeAdapter.json_schemas(inputs, ref_template=errors.REFERENCE)
    definitions: dict[str, Any] = schemas["$defs"]
    return definitions


def rendered(document: dict[str, Any]) -> bytes:
    """Return the document as docs/openapi.json has it: sorted, so that a diff shows only what changed."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS) + b"\n"
