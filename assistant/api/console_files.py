"""The console as it was built, under a policy that lets nothing in from outside."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, Response

from assistant.api.problems import NOT_FOUND
from assistant.api.wire import ConsoleConfig
from assistant.api.wiring import ServiceOf
from assistant.domain.errors import NotFoundError

DIST = Path(__file__).parent / "console" / "dist"
_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}
_PAGE = "index.html"
_NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The console is not built</title></head>
<body><main><h1>The console is not built</h1>
<p>Run <code>make demo</code>, or <code>node assistant/api/console/build.mjs</code> in the repository.</p>
</main></body></html>
"""

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class ConsoleFile:
    """A file of the build, as it was when the process started."""

    content: bytes
    media_type: str
    etag: str


def read_console() -> Mapping[str, ConsoleFile]:
    """Return the build's files by name. They are read once: no name that a caller sends is looked for on
    the disk."""
    return {
        path.name: _read(path)
        for path in (sorted(DIST.iterdir()) if DIST.is_dir() else ())
        if path.suffix in _MEDIA_TYPES and not path.name.startswith(".") and path.is_file()
    }


def _read(path: Path) -> ConsoleFile:
    content = path.read_bytes()
    return ConsoleFile(content, _MEDIA_TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')


def content_security_policy(issuer: str) -> str:
    parts = urlsplit(issuer)
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
        f"connect-src 'self' {parts.scheme}://{parts.netloc}; "
        "form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    )


@router.get("/config.json")
async def console_config(service: ServiceOf) -> ConsoleConfig:
    return service.console


@router.get("/")
async def console_page(request: Request, service: ServiceOf) -> Response:
    if _PAGE not in request.app.state.console_files:
        return HTMLResponse(_NOT_BUILT, 404, headers=_headers(service.console))
    return _file(request, service.console, _PAGE)


@router.get("/{name}")
async def console_file(request: Request, service: ServiceOf, name: str) -> Response:
    """A file of the build."""
    return _file(request, service.console, name)


def _file(request: Request, console: ConsoleConfig, name: str) -> Response:
    files: Mapping[str, ConsoleFile] = request.app.state.console_files
    if (found := files.get(name)) is None:
        raise NotFoundError(NOT_FOUND)
    headers = _headers(console) | {"etag": found.etag}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


def _headers(console: ConsoleConfig) -> dict[str, str]:
    return {
        "content-security-policy": content_security_policy(console.issuer),
        "cache-control": "no-cache",  # asked for anew each time; an unchanged file answers 304 by its ETag
        "cross-origin-opener-policy": "same-origin",
        "x-frame-options": "DENY",
    }
