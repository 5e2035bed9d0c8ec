"""The real MediaWiki as a source, end to end."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

from aiohttp import web
from aiohttp.test_utils import TestServer

from assistant.domain.documents import DocumentState
from assistant.options.sources.section import MediaWikiConnector
from tests.options.sources.conftest import Wiki, sync_of
from tests.unit.documents.scene import Knowledge


async def titles_of(knowledge: Knowledge) -> dict[str, tuple[str, ...] | None]:
    found = await knowledge.stores.states.list()
    return {one.title: one.labels for one in found if one.state is not DocumentState.WITHDRAWN}


async def test_pages_come_change_move_and_go(wiki: Wiki, knowledge: Knowledge) -> None:
    for title in ("Refill", "Returns", "Opening hours"):
        await asyncio.to_thread(wiki.edit, title, f"About {title} in our '''pharmacy'''.")
    await asyncio.to_thread(wiki.edit, "Help:Pay", "Pay is on the 25th.")
    sync = sync_of(knowledge, wiki.settings(namespaces=[0, 12], labels={"12": ["hr"]}))
    first = await sync()
    assert (first.changed, first.refused, first.errors) == (5, 0, ())
    everyone = dict.fromkeys(["Main Page", "Refill", "Returns", "Opening hours"], ())
    assert await titles_of(knowledge) == {**everyone, "Help:Pay": ("hr",)}
    await knowledge.work()

    await asyncio.to_thread(wiki.edit, "Refill", "Wait until day 24.")
    await asyncio.to_thread(wiki.edit, "Opening hours", "#REDIRECT [[Refill]]")
    await asyncio.to_thread(wiki.php, "moveBatch.php", text="Returns|Help:Returns\n")
    await asyncio.to_thread(wiki.php, "deleteBatch.php", text="Main Page\n")
    second = await sync()
    assert (second.changed, second.deleted, second.errors) == (2, 2, ())
    assert await titles_of(knowledge) == {"Refill": (), "Help:Pay": ("hr",), "Help:Returns": ("hr",)}
    [refill] = [one for one in await knowledge.stores.states.list() if one.title == "Refill"]
    document = await knowledge.stores.documents.get(refill.document_id)
    assert document
    assert "Wait until day 24." in document.content
    assert document.url == f"{wiki.address}/index.php/Refill"
    third = await sync()
    assert (third.changed, third.deleted, third.errors) == (0, 0, ())


async def test_an_answer_that_is_no_answer_of_a_wiki_withdraws_nothing(
    knowledge: Knowledge, stack: AsyncExitStack
) -> None:
    """A proxy's page, an error in a body with the status 200, and a server that wants rest."""
    listed = {"query": {"allpages": [{"pageid": 7, "ns": 0, "title": "Refill"}]}}
    info = {
        "pageid": 7,
        "ns": 0,
        "protection": [],
        "contentmodel": "wikitext",
        "canonicalurl": "https://a.b/R",
    }
    page = {"query": {"pages": [{**info, "revisions": [{"timestamp": "2026-11-23T08:00:00Z"}]}]}}
    text = {"parse": {"title": "Refill", "pageid": 7, "text": "<p>Wait until day 24.</p>"}}
    begin, recent = {"curtimestamp": "2026-11-23T08:00:00Z"}, {"query": {"recentchanges": []}}
    answers: list[web.Response] = []

    async def answer(request: web.Request) -> web.Response:
        return answers.pop(0)

    app = web.Application()
    app.router.add_get("/api.php", answer)
    server = await stack.enter_async_context(TestServer(app))
    settings = MediaWikiConnector(kind="mediawiki", api=f"http://127.0.0.1:{server.port}/api.php")
    sync = sync_of(knowledge, settings)
    resting = web.Response(status=429, headers={"Retry-After": "0"})
    answers += [resting, *map(web.json_response, (begin, listed, page, text, listed))]
    assert ((await sync()).changed, answers) == (1, [])
    html = web.Response(text="<html>Sign in</html>", content_type="text/html")
    denied = {"error": {"code": "readapidenied", "info": "You need read permission."}}
    for bad in (html, web.json_response(denied), web.Response(status=500), web.json_response({})):
        answers += [web.json_response(recent), bad]
        run = await sync()
        assert (run.deleted, bool(run.errors), answers) == (0, True, [])
    assert await titles_of(knowledge) == {"Refill": ()}
