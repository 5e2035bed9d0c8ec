"""axe finds nothing and nothing scrolls sideways: in each state, light and dark, and at 200 % zoom."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.product import Rehearsal
from tests.browser.stand_in import QUESTION, UNANSWERABLE, StandIn, done, refill_sources

ZOOMED = {"viewport": {"width": 640, "height": 360}, "device_scale_factor": 2}
"""200 % of the same window: half the size in CSS pixels."""
VIEWS = [
    pytest.param({}, id="1280x720"),
    pytest.param({"color_scheme": "dark", **ZOOMED}, id="dark, 200 % zoom"),
    pytest.param({"color_scheme": "dark"}, id="dark", marks=pytest.mark.night),
    pytest.param(ZOOMED, id="200 % zoom", marks=pytest.mark.night),
]


@pytest.fixture(params=VIEWS)
def view(
    request: pytest.FixtureRequest,
    rehearsal: Rehearsal,
    open_console: OpenConsole,
) -> ConsolePage:
    return open_console(rehearsal.url, **request.param)


def test_sign_in_keys_and_knowledge(view: ConsolePage, check: Callable[[ConsolePage], None]) -> None:
    view.open()
    expect(view.button("Sign in")).to_be_visible()
    check(view)
    view.sign_in(roles=("agent", "knowledge_owner"))
    expect(view.question).to_be_visible()
    check(view)
    view.button("Keyboard").click()
    expect(view.page.get_by_role("dialog")).to_be_visible()
    check(view)
    view.page.keyboard.press("Escape")
    view.page.get_by_role("link", name="Knowledge").click()
    expect(view.page.locator(".documents")).to_be_visible()
    check(view)
    view.page.get_by_role("button", name="Withdraw").first.click()
    expect(view.page.get_by_role("dialog")).to_be_visible()
    check(view)


@pytest.fixture(params=VIEWS)
def written(request: pytest.FixtureRequest, at: OpenConsole) -> ConsolePage:
    """A tab that shows the stand-in's console."""
    return at(**request.param)


def test_answers_that_went_wrong(
    written: ConsolePage, stand_in: StandIn, check: Callable[[ConsolePage], None]
) -> None:
    stand_in.answers(refill_sources(), done(finish_reason="no_evidence", citations=[]))
    written.ask_to_the_end(UNANSWERABLE)
    expect(written.page.locator(".outcome")).to_be_visible()
    check(written)
    broken = {"title": "Broken off", "status": 502, "detail": "x", "code": "generation_interrupted"}
    half = ("token", {"text": "The first half"})
    stand_in.answers(refill_sources(), half, ("error", {**broken, "retryable": True}))
    written.ask_to_the_end(QUESTION)
    expect(written.notice).to_contain_text("generation_interrupted")
    check(written)
    stand_in.answers(refill_sources(), done(finish_reason="sources_only", reason="late", citations=[]))
    written.ask_to_the_end(QUESTION)
    expect(written.notice).to_contain_text("Sources only")
    check(written)
