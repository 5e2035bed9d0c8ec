"""Every route that knows its caller is behind the agent's rate: a new route without it fails here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any, cast

import httpx
import pytest
import pytest_asyncio

from assistant.domain.identity import Role
from assistant.service.app import build_routes, openapi_document
from tests.stage.running_service import RunningService, Scene, running_service

OPEN = {("get", "/healthz"), ("get", "/openapi.json"), ("post", "/v1/panel/sessions")}
"""Without a caller: they write nothing, and read no store. A code of a panel names its caller."""
LINKED = "/v1/documents/linked"
"""Its caller is the agent of the link, which is in the body."""


def routed() -> Iterator[tuple[str, str]]:
    """Yield the method and path of every route: those of FastAPI's router, and those beside it."""
    application = build_routes()
    for path, operations in openapi_document(application)["paths"].items():
        yield from ((method, path) for method in operations)
    for route in cast("list[Any]", application.routes):
        described = getattr(route, "include_in_schema", True)
        for method in getattr(route, "methods", None) or ():
            if not described and method not in ("GET", "HEAD"):
                yield method.lower(), route.path


ROUTES = sorted(set(routed()) - OPEN)
WRITES = [(method, path) for method, path in ROUTES if method not in ("get", "head")]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningService]:
    """Each agent may send one question, one write and one read a minute. Each route has agents of its own."""
    async with running_service(tmp_path_factory.mktemp("rates"), Scene(per_minute=1)) as service:
        await service.know("wait", "The wait is two days.")
        yield service


def test_the_walk_sees_the_routes_beside_the_router_and_those_without_a_description() -> None:
    assert {("post", "/v1/answers"), ("post", "/v1/chat/completions")} <= set(WRITES)
    assert ("post", "/v1/uploads") in WRITES
    assert len(WRITES) >= 20


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("method", "path"), ROUTES, ids=lambda part: part.strip("/"))
async def test_a_route_refuses_an_agent_who_is_over_the_rate(
    service: RunningService, method: str, path: str
) -> None:
    agent, everything = f"ann {method} {path}", [role.value for role in Role]
    headers = service.headers(agent, roles=everything, accept="application/json")
    body: dict[str, Any] = {}
    if path == LINKED:
        asked = await service.answered(agent=agent)
        body = {"token": asked["sources"][0]["document_url"].partition("#")[2]}
        headers = {}

    async def call() -> httpx.Response:
        filled = path.replace("{", "").replace("}", "")
        return await service.client.request(method, filled, headers=headers, json=body)

    first, second = await call(), await call()
    assert first.status_code != 429
    assert second.status_code == 429, f"{method} {path} has no rate for each agent"
    assert 1 <= int(second.headers["retry-after"]) <= 60
    if method != "head":
        problem = second.json()
        refusal = problem.get("error", problem)
        assert refusal["code"] == "overloaded"
        assert "the most of one agent" in refusal.get("detail", refusal.get("message"))
    if path != LINKED:
        other = service.headers(f"bob {method} {path}", roles=everything)
        response = await service.client.request(method, path, headers=other, json=body)
        assert response.status_code != 429
