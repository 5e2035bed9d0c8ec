"""Confluence as Atlassian describes it: routes, parameters, paging and errors; anything else is refused.

Sources, all published by Atlassian and read in public copies:
- Cloud REST v2: ``openapi-v2.v3.json``, version 2.0.0, in github.com/drummonds/gofluence at 2d7837d3.
- Cloud REST v1 (restrictions): ``openapi.yaml`` in github.com/primelib/confluence-client at 6ecbca1b.
- Data Center 10.0.3: ``contracts/confluence-dc-10.0.3-openapi.json`` in
  github.com/zackbunch/jira-dc-mock-server at 03df2679.
The descriptions have no 429; ``Retry-After`` is of Atlassian's page on rate limits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from aiohttp import web

CLOUD, DATA_CENTER = "cloud", "data-center"
_RESTRICTION = "/rest/api/content/{id}/restriction/byOperation/read"
ROUTES: dict[str, dict[str, set[str]]] = {
    CLOUD: {
        "/wiki/api/v2/spaces": {"ids", "keys", "type", "status", "labels", "sort", "cursor", "limit"},
        "/wiki/api/v2/spaces/{id}/pages": {
            "depth",
            "sort",
            "status",
            "title",
            "body-format",
            "cursor",
            "limit",
        },
        "/wiki/api/v2/pages/{id}": {"body-format", "get-draft", "status", "version", "include-version"},
        "/wiki/api/v2/pages/{id}/ancestors": {"limit"},
        f"/wiki{_RESTRICTION}": {"expand", "start", "limit"},
    },
    DATA_CENTER: {
        "/confluence/rest/api/content": {"type", "spaceKey", "title", "status", "expand", "start", "limit"},
        "/confluence/rest/api/content/{id}": {"status", "version", "expand"},
        f"/confluence{_RESTRICTION}": {"expand", "start", "limit"},
    },
}
"""GET routes of each edition and their query parameters."""
_SPACE_ID = "98306"


@dataclass(slots=True)
class Page:
    text: str
    version: int = 1
    above: tuple[str, ...] = ()
    """Ids of the pages above it, the highest first."""
    users: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    status: str = "current"
    space: str = "KB"


@dataclass(slots=True)
class Confluence:
    """One space, KB, that shows ``at_once`` pages of a list at most."""

    edition: Literal["cloud", "data-center"]
    pages: dict[str, Page] = field(default_factory=dict[str, Page])
    at_once: int = 25
    fault: Callable[[web.Request], web.Response | None] = lambda _: None
    """What answers a request in place of the server."""
    next_host: str = ""

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._front])
        answers = (
            (self._spaces, self._of_space, self._page, self._ancestors, self._restriction)
            if self.edition == CLOUD
            else (self._content, self._page, self._restriction)
        )
        for route, answer in zip(ROUTES[self.edition], answers, strict=True):
            app.router.add_get(route, answer)
        return app

    @web.middleware
    async def _front(self, request: web.Request, handler: Any) -> web.StreamResponse:
        if request.headers.get("Authorization") not in ("Bearer token", "Basic bWVAeC5leGFtcGxlOnRva2Vu"):
            return web.json_response({"message": "Unauthorized"}, status=401)
        if (response := self.fault(request)) is not None:
            return response
        resource = request.match_info.route.resource
        if resource is None:
            return web.json_response({"message": "no such route"}, status=404)
        if set(request.query) - ROUTES[self.edition][resource.canonical]:
            return web.json_response({"message": "unknown parameter"}, status=400)
        if not 1 <= int(request.query.get("limit", 25)) <= 250:
            return web.json_response({"message": "limit"}, status=400)
        return await handler(request)

    async def _spaces(self, request: web.Request) -> web.Response:
        keys = request.query["keys"].split(",")
        found = [{"id": _SPACE_ID, "key": "KB", "name": "Knowledge"}] if "KB" in keys else []
        return web.json_response({"results": found, "_links": {"base": "https://x.example/wiki"}})

    async def _of_space(self, request: web.Request) -> web.Response:
        if request.match_info["id"] != _SPACE_ID:
            raise web.HTTPNotFound
        return self._listed(request, "cursor")

    async def _content(self, request: web.Request) -> web.Response:
        if request.query.get("spaceKey") != "KB":
            raise web.HTTPNotFound
        return self._listed(request, "start")

    def _listed(self, request: web.Request, following: str) -> web.Response:
        start = int(request.query.get(following, "0").removeprefix("opaque="))
        pages = [name for name, page in self.pages.items() if page.status == "current" and page.space == "KB"]
        end = start + min(self.at_once, int(request.query.get("limit", 25)))
        links: dict[str, str] = {}
        if end < len(pages):
            value = f"opaque%3D{end}" if following == "cursor" else str(end)
            links["next"] = f"{self.next_host}{request.path}?limit=25&{following}={value}"
        results = [self._shown(name) for name in pages[start:end]]
        return web.json_response({"results": results, "_links": links})

    async def _page(self, request: web.Request) -> web.Response:
        name = request.match_info["id"]
        page = self.pages.get(name)
        if page is None or (page.status != "current" and self.edition == DATA_CENTER):
            raise web.HTTPNotFound
        shown = self._shown(name)
        wanted = request.query.get("body-format") or request.query.get("expand", "")
        if "view" in wanted:
            shown["body"] = {"view": {"representation": "view", "value": page.text}}
        if "ancestors" in wanted:
            shown["ancestors"] = [self._shown(above) for above in page.above]
        return web.json_response(shown)

    async def _ancestors(self, request: web.Request) -> web.Response:
        above = self._known(request).above
        return web.json_response({"results": [{"id": name, "type": "page"} for name in above], "_links": {}})

    async def _restriction(self, request: web.Request) -> web.Response:
        page = self._known(request)
        users = [{"type": "known", "accountId": name} for name in page.users]
        groups = [{"type": "group", "name": name, "id": f"id-{name}"} for name in page.groups]
        both = {"user": {"results": users}, "group": {"results": groups}}
        for each, found in zip(both.values(), (users, groups), strict=True):
            each |= {"start": 0, "limit": 100, "size": len(found)}  # pyright: ignore[reportOperatorIssue, reportArgumentType]
        return web.json_response({"operation": "read", "restrictions": both, "_links": {}})

    def _known(self, request: web.Request) -> Page:
        page = self.pages.get(request.match_info["id"])
        if page is None:
            raise web.HTTPNotFound
        return page

    def _shown(self, name: str) -> dict[str, Any]:
        page = self.pages[name]
        shown: dict[str, Any] = {"id": name, "status": page.status, "title": f"Page {name}"}
        shown["_links"] = {"webui": f"/spaces/KB/pages/{name}"}
        if self.edition == CLOUD:
            space = _SPACE_ID if page.space == "KB" else "1"
            version = {"number": page.version, "createdAt": "2026-11-01T08:00:00.000Z"}
            return {**shown, "spaceId": space, "version": version}
        version = {"number": page.version, "when": "2026-11-01T08:00:00.000Z"}
        return {**shown, "space": {"key": page.space}, "version": version}
