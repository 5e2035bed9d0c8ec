"""The console of the stand-in in a real Chromium, whose calls to recall a running service answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Route

from tests.browser.conftest import axe_source, browser, check, open_console, stand_in
from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.stand_in import StandIn
from tests.options.desk.recall_scene import PLAIN_IDS, WAIT, RecallScene, recall_scene

__all__ = ["axe_source", "browser", "check", "open_console", "stand_in"]
Result = TypeVar("Result")
MORE = f'{PLAIN_IDS}[desk.recall]\nconversation_url = "https://desk.example/c/{{conversation_id}}"\n'


@dataclass
class Site:
    """A running service in a thread of its own."""

    loop: asyncio.AbstractEventLoop
    scene: RecallScene

    def run(self, work: Coroutine[Any, Any, Result]) -> Result:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(60)

    def answer(self, route: Route) -> None:
        """Answer a call of the page as the service does to the reviewer."""
        request, service = route.request, self.scene.service
        path = request.url[request.url.index("/v1/") :]
        headers = self.scene.desk.reviewer("rosa") | {"content-type": "application/json"}
        body = request.post_data
        response = self.run(service.client.request(request.method, path, content=body, headers=headers))
        route.fulfill(
            status=response.status_code,
            body=response.content,
            content_type=response.headers["content-type"],
        )


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """Two replies whose line changed, one on a withdrawn document, and a change on which nothing was sent."""
    begun: list[Site] = []
    is_begun, stopping = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with recall_scene(tmp_path, more=MORE) as scene:
            await scene.service.know("gone", "Fax the form to 5550100.")
            await scene.service.know("parking", "Park behind the house.")
            await scene.sent("s1", context={"customer": "C-1044", "ids": {"chat": ["chat-7"]}})
            await scene.sent("s2", agent="bob")
            await scene.sent("s3", question="Where do I fax the form?")
            await scene.sweep()
            await scene.service.know("wait", WAIT.replace("two days", "three days"))
            await scene.service.know("parking", "Park in front of the house.")
            await scene.service.withdraw("gone")
            await scene.sweep()
            begun.append(Site(asyncio.get_running_loop(), scene))
            is_begun.set()
            await stopping.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert is_begun.wait(60), "the service did not start"
    yield begun[0]
    begun[0].loop.call_soon_threadsafe(stopping.set)
    thread.join(60)


@pytest.fixture
def recall(site: Site, stand_in: StandIn, open_console: OpenConsole) -> Any:
    """Open the page as a reviewer."""

    def open_page(**options: Any) -> ConsolePage:
        stand_in.agent, stand_in.roles = "rosa", ("reviewer",)
        console = open_console(stand_in.url, **{"viewport": {"width": 1280, "height": 800}, **options})
        console.page.route("**/v1/recalls**", site.answer)
        console.open()
        console.button("Sign in").click()
        console.page.get_by_role("link", name="Recall").click()
        return console

    return open_page
