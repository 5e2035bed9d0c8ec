"""Confluence as a source, end to end, on both wire formats."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import ValidationError

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import DocumentState
from assistant.options.sources.section import ConfluenceConnector
from tests.options.sources.confluence_server import CLOUD, DATA_CENTER, Confluence, Page
from tests.options.sources.pages import sync_of
from tests.unit.documents.knowledge import Knowledge


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


async def test_a_secret_that_is_missing_is_in_the_record_of_the_run(
    confluence: Served, knowledge: Knowledge, tmp_path: Path
) -> None:
    run = await sync_of(knowledge, settings(confluence, tmp_path, secret="file:none"))()
    assert run.errors[0].startswith("configuration_invalid: ")
    assert run.succeeded_at is None


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


async def test_a_space_that_is_not_shown_is_an_error(
    confluence: Served, knowledge: Knowledge, tmp_path: Path
) -> None:
    run = await sync_of(knowledge, settings(confluence, tmp_path, spaces=["OTHER"]))()
    assert "no s" in run.errors[0]


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
