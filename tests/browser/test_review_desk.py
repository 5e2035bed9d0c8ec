"""The review desk: from the queue to a resolution, by mouse and keyboard, with two people and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.stand_in import StandIn

OpenDesk = OpenConsole
ZOOMED = {"viewport": {"width": 640, "height": 360}, "device_scale_factor": 2}


@pytest.fixture
def desk(stand_in: StandIn, open_console: OpenConsole) -> OpenDesk:
    """Open the stand-in's review desk as a reviewer."""

    def open_desk(reviewer: str = "rosa", **options: Any) -> ConsolePage:
        stand_in.agent, stand_in.roles = reviewer, ("reviewer",)
        console = open_console(stand_in.url, **{"viewport": {"width": 1280, "height": 800}, **options})
        console.open()
        console.button("Sign in").click()
        expect(lines(console).first).to_be_visible()
        return console

    return open_desk


def lines(console: ConsolePage) -> Locator:
    return console.page.locator(".case-link")


def title(console: ConsolePage) -> Locator:
    return console.page.locator("#case-title")


def begin_approved_answer(console: ConsolePage) -> None:
    """Open the first case and choose to resolve it by an approved answer."""
    lines(console).first.click()
    console.page.get_by_label("Approved answer").check()


def test_a_case_is_resolved_by_keyboard_alone(desk: OpenDesk, stand_in: StandIn) -> None:
    console = desk()
    keyboard = console.page.keyboard
    keyboard.press("Alt+Shift+L")
    expect(lines(console).first).to_be_focused()
    keyboard.press("j")
    keyboard.press("ArrowDown")
    keyboard.press("k")
    expect(lines(console).nth(1)).to_be_focused()
    keyboard.press("Enter")
    expect(title(console)).to_be_focused()
    keyboard.press("Alt+Shift+R")
    keyboard.press("ArrowUp")  # the last of the four
    expect(console.page.locator("#kind-dismissed")).to_be_checked()
    keyboard.press("Tab")
    keyboard.type("The agent misread the scale.")
    keyboard.press("Control+Enter")
    expect(title(console)).to_be_focused()
    expect(console.page.locator(".case-head")).to_contain_text("Dismissed")
    keyboard.press("Escape")
    expect(lines(console).nth(1)).to_be_focused()
    sent = {"revision": 1, "kind": "dismissed", "note": "The agent misread the scale."}
    assert stand_in.desk.changes == [("cases/case-2/resolution", sent)]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"color_scheme": "dark"}, id="dark"),
        pytest.param({"viewport": {"width": 320, "height": 640}}, id="320 px"),
        pytest.param(ZOOMED, id="200 % zoom", marks=pytest.mark.night),
    ],
)
def test_the_desk_is_accessible(
    desk: OpenDesk, check: Callable[[ConsolePage], None], options: dict[str, Any]
) -> None:
    console = desk(**options)
    check(console)
    begin_approved_answer(console)
    console.button("Save the resolution").click()
    expect(console.page.locator(".outcome .item-facts")).to_be_visible()
    check(console)
    console.button("Gaps").click()
    expect(console.page.locator(".gap")).to_be_visible()
    check(console)
    console.button("Decided").click()
    console.page.locator(".item-head button").click()
    expect(console.page.locator(".revisions")).to_be_visible()
    check(console)
