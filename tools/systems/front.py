"""What the sample systems have in common: tokens, a fault on request, and refusals as problem bodies.

``PUT /control/fault`` sets what later requests get: ``status=N``, a problem body with that status;
``delay=S``, the response S seconds late; an empty body ends it. ``GET /control/requests`` lists what came.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI, HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

AGENT_HEADER = "x-assistant-agent"
_NOT_FOUND = "Not found."
_MOST_SEEN = 1_000
T = TypeVar("T")
Next = Callable[[Request], Awaitable[Response]]


@dataclass(slots=True)
class Front:
    """Lets requests with a known token through, unless a fault was asked for."""

    token_files: tuple[Path, ...]
    """Files with one token each, read at each request: a file may be made after the start."""
    _fault: str = ""
    _seen: deque[dict[str, str | None]] = field(default_factory=lambda: deque(maxlen=_MOST_SEEN))

    async def respond(self, request: Request, call_next: Next) -> Response:
        """Return the response to any request for data; controls and pages ask nobody."""
        path = request.url.path
        if not path.startswith("/v1/"):
            return await call_next(request)
        self._seen.append({"path": path, "agent": request.headers.get(AGENT_HEADER)})
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind != "Bearer" or not self._knows(token):
            return _problem(401, "Send a bearer token that this system knows.")
        name, _, value = self._fault.partition("=")
        if name == "status":
            return _problem(int(value), "A fault was asked for.")
        if name == "delay":
            await asyncio.sleep(float(value))
        return await call_next(request)

    async def set_fault(self, request: Request) -> Response:
        """Set the fault of later requests."""
        self._fault = (await request.body()).decode().strip()
        return Response(status_code=204)

    async def requests(self) -> list[dict[str, str | None]]:
        """Return path and agent of each request, the latest thousand."""
        return list(self._seen)

    def _knows(self, token: str) -> bool:
        known: list[bytes] = []
        for file in self.token_files:
            with suppress(FileNotFoundError):
                known.append(file.read_bytes().strip())
        return any(
            known_token and secrets.compare_digest(token.encode(), known_token) for known_token in known
        )


def system_application(
    *, title: str, version: str, description: str, token_files: tuple[Path, ...]
) -> FastAPI:
    """Return an application without routes of its own, behind a ``Front``."""
    app = FastAPI(title=title, version=version, description=description, docs_url=None, redoc_url=None)
    front = Front(token_files)
    app.add_exception_handler(HTTPException, _refusal)
    app.middleware("http")(front.respond)
    app.put("/control/fault", include_in_schema=False)(front.set_fault)
    app.get("/control/requests", include_in_schema=False)(front.requests)
    return app


async def _refusal(_request: Request, error: Exception) -> Response:
    if not isinstance(error, HTTPException):
        raise error
    return _problem(error.status_code, str(error.detail))


def _problem(status: int, detail: str) -> Response:
    body = {"title": "Not served", "status": status, "detail": detail}
    return JSONResponse(body, status_code=status, media_type="application/problem+json")


def only(found: Sequence[T]) -> T:
    """Return the first. Raises HTTPException 404 where there is none."""
    if not found:
        raise HTTPException(404, _NOT_FOUND)
    return found[0]


def require_agent(request: Request) -> None:
    """Raise HTTPException 400 where the caller does not say for which agent it asks."""
    if not request.headers.get(AGENT_HEADER):
        raise HTTPException(400, f"Pass the agent's identity on in {AGENT_HEADER}.")
