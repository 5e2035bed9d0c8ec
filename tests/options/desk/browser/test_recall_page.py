"""The page of recall in Chromium: changes with counts, replies with their lines, decisions, export."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from playwright.sync_api import Locator, Route, expect

from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.stand_in import StandIn
from tests.options.desk.desk_scene import PLAIN_IDS, WAIT, RecallScene, recall_scene

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
            status=response.status_code, body=response.content, content_type=response.headers["content-type"]
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Two replies whose line changed, one on a withdrawn document, and a change on which nothing was sent."""
    begun: list[Site] = []
    is_begun, stopping = threading.Event(), asyncio.Event()

    async def serve() -> None:
        async with recall_scene(tmp_path_factory.mktemp("recall"), more=MORE) as scene:
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

    def open_page() -> ConsolePage:
        stand_in.agent, stand_in.roles = "rosa", ("reviewer",)
        console = open_console(stand_in.url, viewport=WIDE)
        console.page.route("**/v1/recalls**", site.answer)
        console.open()
        console.button("Sign in").click()
        console.page.get_by_role("link", name="Recall").click()
        return console

    return open_page


OpenRecall = Callable[..., ConsolePage]
WIDE: Any = {"width": 1280, "height": 800}
VIEWS: tuple[tuple[Any, Any], ...] = (
    (WIDE, "light"),
    (WIDE, "dark"),
    ({"width": 360, "height": 740}, "light"),
)
"""Size of the window, and its scheme of colours."""


def replies(console: ConsolePage, document: str) -> Locator:
    return console.page.locator(".recall-reply").filter(has_text=f"Title of {document}")


def test_axe_finds_nothing(recall: OpenRecall, check: Callable[[ConsolePage], None]) -> None:
    console = recall()

    def check_each_view() -> None:
        for size, scheme in VIEWS:
            console.page.set_viewport_size(size)
            console.page.emulate_media(color_scheme=scheme)
            check(console)

    expect(console.page.locator(".recall-reply")).to_have_count(3)
    check_each_view()
    console.page.get_by_role("button", name="What was sent").first.click()
    expect(console.page.locator(".recall-history")).to_be_visible()
    console.button("Not needed").first.click()
    expect(console.page.get_by_text("Note: say why")).to_be_visible()
    check_each_view()


def test_changes_have_counts_and_lines_stand_side_by_side(recall: OpenRecall) -> None:
    console = recall()
    table = console.page.get_by_role("region", name="Table of changes")
    expect(table.get_by_role("row").filter(has_text="Title of parking")).to_contain_text(
        "Nobody received words that changed"
    )
    expect(table.get_by_role("row").filter(has_text="Title of wait")).to_contain_text("2 replies")
    lines = replies(console, "wait").first.locator(".recall-line")
    expect(lines.locator("del").first).to_contain_text("two")
    expect(lines.locator("ins").first).to_contain_text("three")
    gone = replies(console, "gone").first
    expect(gone).to_contain_text("Withdrawn: no line stands in its place.")
    expect(gone).not_to_contain_text("5550100")
    expect(replies(console, "wait").filter(has_text="To customer C-1044, chat chat-7")).to_have_count(1)
    link = replies(console, "wait").first.get_by_role("link", name="Open the conversation")
    assert (link.get_attribute("href") or "").startswith("https://desk.example/c/")


def test_a_reply_is_taken_and_closed_and_a_late_decision_is_refused(recall: OpenRecall, site: Site) -> None:
    console = recall()
    console.page.get_by_role("button", name="2 replies on Title of wait").click()
    expect(console.page.locator(".recall-reply")).to_have_count(2)
    first = console.page.locator(".recall-reply").filter(has_text="Sent by ann")
    first.get_by_role("button", name="Take").click()
    expect(first).to_contain_text("Taken by rosa.")
    first.get_by_label("Note").fill("By phone.")
    first.get_by_role("button", name="Patient has the new words").click()
    expect(first.locator(".badge")).to_have_text("Patient has the new words")
    first.get_by_role("button", name="What was sent").click()
    expect(first).to_contain_text("Sent as s1.")
    expect(first.locator(".recall-history li")).to_have_count(3)
    second = console.page.locator(".recall-reply").filter(has_text="Sent by bob")
    (listed,) = [
        item
        for item in site.run(site.scene.listed(document_id="wait"))
        if item["item"]["reply"]["agent"] == "bob"
    ]
    decided = site.scene.decide(listed["item_id"], revision=1, do="not_needed", note="A test.")
    assert site.run(decided).is_success
    second.get_by_role("button", name="Take").click()
    expect(second.locator(".badge")).to_have_text("Not needed")
