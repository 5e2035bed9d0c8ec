"""Confluence as a source, end to end, on both wire formats."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import DocumentState
from assistant.options.sources.section import ConfluenceConnector
from tests.options.sources.conftest import sync_of
from tests.unit.documents.scene import Knowledge

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


@pytest.fixture(params=[CLOUD, DATA_CENTER])
async def confluence(request: pytest.FixtureRequest) -> AsyncGenerator[tuple[Confluence, str]]:
    made = Confluence(request.param)
    server = TestServer(made.application())
    await server.start_server()
    yield made, str(server.make_url("/wiki" if request.param == CLOUD else "/confluence"))
    await server.close()


def settings(served: tuple[Confluence, str], folder: Path, **fields: object) -> ConfluenceConnector:
    (folder / "token").write_text("token")
    common: dict[str, object] = {"kind": "confluence", "url": served[1], "edition": served[0].edition}
    common |= {"spaces": ["KB"], "secret": f"file:{folder}/token", "requests_per_second": 1_000}
    if served[0].edition == CLOUD:
        common["user"] = "me@x.example"
    groups = {"personnel": ["hr"], "both": ["hr", "staff"]}
    return ConfluenceConnector.model_validate({**common, "groups": groups, **fields})


Served = tuple[Confluence, str]


async def test_pages_come_change_and_go(confluence: Served, knowledge: Knowledge, tmp_path: Path) -> None:
    served = confluence[0]
    served.pages = {str(number): Page(f"<p>Body {number}.</p>") for number in range(1, 61)}  # 3 lists
    sync = sync_of(knowledge, settings(confluence, tmp_path))
    first = await sync()
    assert (first.changed, first.errors) == (60, ())
    served.pages["7"] = Page("<p>Another body.</p>", version=2)
    served.pages["8"].status = "trashed"
    served.pages["9"].space = "ELSEWHERE"
    del served.pages["10"]
    second = await sync()
    assert (second.changed, second.deleted, second.errors) == (1, 3, ())
    document = await knowledge.stores.documents.get("wiki:7")
    assert document
    assert document.content == "<p>Another body.</p>"
    assert await knowledge.stores.documents.get("wiki:8") is None
    for gone in ("8", "9", "10"):  # moved or deleted after it was listed
        async with sync.connect() as connector:
            assert await connector.fetch(gone, deadline=Deadline.after(9, clock=SystemClock())) is None


async def test_restrictions_become_labels_or_the_page_is_withheld(
    confluence: Served, knowledge: Knowledge, tmp_path: Path
) -> None:
    served = confluence[0]
    served.pages = {
        "open": Page("<p>A.</p>"),
        "personnel": Page("<p>B.</p>", groups=("personnel",), users=("author",)),
        "below": Page("<p>C.</p>", above=("open", "personnel")),
        "any": Page("<p>D.</p>", groups=("both", "strangers")),
        "and": Page("<p>E.</p>", groups=("both",), above=("personnel",)),
        "user": Page("<p>F.</p>", users=("author",)),
        "below-user": Page("<p>G.</p>", groups=("both",), above=("user",)),
        "strangers": Page("<p>H.</p>", groups=("strangers",)),
        "no-ancestor": Page("<p>I.</p>", above=("gone",)),
    }
    if served.edition == DATA_CENTER:
        served.pages["no-ancestor"].above = ("strangers",)
    sync = sync_of(knowledge, settings(confluence, tmp_path))
    run = await sync()
    assert (run.changed, run.refused) == (5, 4)
    labels = {status.document_id: status.labels for status in await knowledge.stores.states.list()}
    assert labels == {
        "wiki:open": (),
        "wiki:personnel": ("hr",),
        "wiki:below": ("hr",),
        "wiki:any": ("hr", "staff"),
        "wiki:and": ("hr",),
    }
    served.pages["personnel"].groups = ()  # its user alone, and all below it; no page's version changes
    assert (await sync()).refused == 7
    assert (await knowledge.status("wiki:below")).state is DocumentState.WITHHELD


def html(_: web.Request) -> web.Response:
    return web.Response(text="<html>Sign in</html>", content_type="text/html")


def redirect(_: web.Request) -> web.Response:
    return web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"})


def status(number: int) -> Any:
    return lambda _: web.json_response({"message": "no"}, status=number)


@pytest.mark.parametrize("fault", [html, redirect, status(401), status(403), status(500)])
async def test_an_answer_that_is_no_list_withdraws_nothing(
    confluence: Served, knowledge: Knowledge, tmp_path: Path, fault: Any
) -> None:
    served = confluence[0]
    served.pages = {"1": Page("<p>A.</p>")}
    sync = sync_of(knowledge, settings(confluence, tmp_path))
    await sync()
    served.fault = fault
    run = await sync()
    assert run.errors[0].startswith("dependency_unavailable: ")
    assert run.deleted == 0
    assert (await knowledge.status("wiki:1")).state is not DocumentState.WITHDRAWN


async def test_a_page_that_fails_stops_no_other(
    confluence: Served, knowledge: Knowledge, tmp_path: Path
) -> None:
    served = confluence[0]
    served.pages = {name: Page("<p>A.</p>") for name in ("1", "2", "3")}
    sync = sync_of(knowledge, settings(confluence, tmp_path))
    assert (await sync()).changed == 3
    served.fault = lambda request: status(500)(request) if "/2" in request.path else None
    served.pages["3"] = Page("<p>B.</p>", version=2)
    run = await sync()
    assert (run.changed, run.refused) == (1, 1)
    assert run.succeeded_at
    assert run.succeeded_at > run.started_at
    assert run.errors[0].startswith("2: ")
    assert (await knowledge.status("wiki:2")).state is DocumentState.WITHHELD
    served.fault = lambda _: None
    assert (await sync()).refused == 0
    assert (await knowledge.status("wiki:2")).state is not DocumentState.WITHHELD


async def test_what_asks_to_wait_or_breaks_off_is_asked_again(
    confluence: Served, knowledge: Knowledge, tmp_path: Path
) -> None:
    served = confluence[0]
    served.pages = {str(number): Page("<p>A.</p>") for number in range(30)}
    asked = 0

    def every_seventh(request: web.Request) -> web.Response | None:
        nonlocal asked
        asked += 1
        if asked % 21 == 7:
            return web.Response(status=429, headers={"Retry-After": "0"})
        if asked % 21 == 14 and request.transport:
            request.transport.close()
        return None

    served.fault = every_seventh
    run = await sync_of(knowledge, settings(confluence, tmp_path))()
    assert (run.changed, run.errors) == (30, ())
    assert asked > 60


async def test_a_next_page_on_another_host_is_not_asked(
    confluence: Served, knowledge: Knowledge, tmp_path: Path
) -> None:
    served = confluence[0]
    served.pages = {str(number): Page("<p>A.</p>") for number in range(30)}
    served.next_host = "https://elsewhere.example"
    run = await sync_of(knowledge, settings(confluence, tmp_path))()
    assert "another host" in run.errors[0]
    assert not run.deleted


@pytest.mark.parametrize(
    "wrong",
    [
        {"url": "http://wiki.example"},
        {"url": "https://me:pw@wiki.example"},  # pragma: allowlist secret
        {"secret": None},
        {"user": "me", "edition": "data-center"},
    ],
)
def test_settings_name_what_is_wrong(wrong: dict[str, object]) -> None:
    right = {"kind": "confluence", "url": "https://x.example/wiki", "edition": "cloud", "spaces": ["KB"]}
    with pytest.raises(ValidationError):
        ConfluenceConnector.model_validate({**right, "secret": "state:token", **wrong})
