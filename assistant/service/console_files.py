"""The console as it was built, under a policy that lets nothing in from outside."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

from fastapi import APIRouter, Request
from starlette.responses import FileResponse, HTMLResponse, Response

from assistant.domain.errors import NotFoundError
from assistant.service.problems import NOT_FOUND
from assistant.service.wire import ConsoleConfig
from assistant.service.wiring import ServiceOf

DIST = Path(__file__).parent / "console" / "dist"
_MEDIA_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}
_NOT_BUILT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>The console is not built</title></head>
<body><main><h1>The console is not built</h1>
<p>Run <code>make demo</code>, or <code>node assistant/service/console/build.mjs</code> in the repository.</p>
</main></body></html>
"""

router = APIRouter(include_in_schema=False)


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
    if not (DIST / "index.html").is_file():
        return HTMLResponse(_NOT_BUILT, 503, headers=_headers(service.console))
    return _file(request, service.console, DIST / "index.html")


@router.get("/{name}")
async def console_file(request: Request, service: ServiceOf, name: str) -> Response:
    """A file of the build's one folder; the route takes no slash, and dots lead nowhere."""
    path = DIST / name
    if path.suffix not in _MEDIA_TYPES or name.startswith(".") or not path.is_file():
        raise NotFoundError(NOT_FOUND)
    return _file(request, service.console, path)


def _file(request: Request, console: ConsoleConfig, path: Path) -> Response:
    response = FileResponse(
        path, media_type=_MEDIA_TYPES[path.suffix], headers=_headers(console), stat_result=path.stat()
    )
    if request.headers.get("if-none-match") == response.headers["etag"]:
        return Response(status_code=304, headers=_headers(console) | {"etag": response.headers["etag"]})
    return response


def _headers(console: ConsoleConfig) -> dict[str, str]:
    return {
        "content-security-policy": content_security_policy(console.issuer),
        "cache-control": "no-cache",  # asked for anew each time; an unchanged file answers 304 by its ETag
        "cross-origin-opener-policy": "same-origin",
        "x-frame-options": "DENY",
    }
