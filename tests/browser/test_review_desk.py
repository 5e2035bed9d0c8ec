"""The review desk: from the queue to a resolution, by mouse and keyboard, with two people and refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.product import Product
from tests.browser.stand_in import StandIn
from tests.browser.stand_in_desk import BETTER

OpenDesk = OpenConsole
PARKING = "Where does a visitor get a parking permit for the garage?"
"""No procedure of the pharmacy says anything of it."""
PERMIT = "Visitors get a parking permit at the front desk, ext. 4010."


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


def test_a_case_shows_what_was_asked_shown_and_sent(desk: OpenDesk) -> None:
    console = desk()
    lines(console).first.click()
    expect(title(console)).to_contain_text("When can a 30-day supply be filled again?")
    case = console.page.locator(".case")
    expect(case).to_contain_text("Marked bad: wrong, out of date")
    expect(case).to_contain_text(BETTER)
    expect(case.locator("del").filter(has_text="23")).to_have_text("[removed: 23] ")
    expect(case.locator("ins")).to_have_text(["[added: 25] ", "[added: refill, please.] "])
    case.locator(".case-passage summary").first.click()
    expect(case.locator(".case-passage[open] .snippet")).to_contain_text("NCPDP reject code 79")


def test_a_bad_mark_changes_the_next_agents_answer(product: Product, open_console: OpenConsole) -> None:
    """The real service, at the pharmacy: two people decide."""
    size = {"width": 1280, "height": 800}
    amira, rosa, samuel = (open_console(product.url, viewport=size) for _ in range(3))
    amira.sign_in(agent="amira")
    amira.ask_to_the_end(PARKING)
    amira.button("Bad").click()
    amira.page.get_by_label("Something is missing").check()
    amira.page.get_by_label("A better answer (optional)").fill(PERMIT)
    amira.button("Save the mark").click()
    expect(amira.page.locator(".latest")).to_be_visible()

    rosa.sign_in(agent="rosa", roles=("reviewer",))
    case = lines(rosa).filter(has_text="Marked bad").filter(has_text=PARKING)
    expect_after_refreshing(rosa, case)
    case.click()
    expect(title(rosa)).to_contain_text(PARKING)
    rosa.page.get_by_label("Approved answer").check()
    expect(rosa.page.locator("#approved-text")).to_have_value(PERMIT)
    for box in rosa.page.get_by_role("group", name="Rests on").get_by_role("checkbox").all():
        box.uncheck()
    rosa.button("Save the resolution").click()
    expect(rosa.page.locator(".outcome")).to_contain_text("you may not approve it")

    samuel.sign_in(agent="samuel", roles=("agent", "reviewer"))
    samuel.page.get_by_role("link", name="Review").click()
    samuel.page.get_by_label("State").select_option("proposed")
    lines(samuel).filter(has_text=PARKING).click()
    samuel.button("Approve").click()
    expect(samuel.page.locator(".case-head")).to_contain_text("Resolved")

    approved = amira.page.get_by_text("Approved by your reviewers")
    amira.wait_until(lambda: ask_again(amira) and approved.is_visible())
    expect(amira.answer).to_contain_text(PERMIT)

    samuel.button("Decided").click()
    samuel.page.locator(".item-head button").filter(has_text=PARKING).click()
    samuel.page.get_by_label("Note on a change").fill("The test has ended.")
    samuel.button("Withdraw").click()
    expect(samuel.page.locator(".item-head .badge").first).to_have_text("Withdrawn")


def ask_again(console: ConsolePage) -> bool:
    console.ask_to_the_end(PARKING)
    return True


def expect_after_refreshing(console: ConsolePage, case: Locator) -> None:
    """Refresh the queue until the case is there: the mover works beside the service."""

    def is_there() -> bool:
        console.button("Refresh").click()
        return case.count() > 0

    console.wait_until(is_there)


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
        {"color_scheme": "dark"},
        {"viewport": {"width": 640, "height": 360}, "device_scale_factor": 2},
        {"viewport": {"width": 320, "height": 640}},
    ],
    ids=["dark", "200 % zoom", "320 px"],
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
