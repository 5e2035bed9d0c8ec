"""What the page reports of an answer beside marks and replies; no report stands in an agent's way."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.answers import QUESTION
from tests.browser.console_page import OpenConsole
from tests.browser.stand_in import StandIn


def test_an_opened_source_is_reported_once(answered: OpenConsole, stand_in: StandIn) -> None:
    console = answered()
    for _ in range(2):
        console.citations.first.click()
        expect(console.panel.locator("mark.passage").first).to_be_visible()
        console.page.keyboard.press("Escape")
    console.wait_until(lambda: len(stand_in.acts) > 0)
    console.ask_to_the_end(QUESTION)
    assert [(act["kind"], act.get("n")) for act in stand_in.acts] == [("opened_source", 1)]


def test_a_refused_report_is_repeated_and_not_shown(answered: OpenConsole, stand_in: StandIn) -> None:
    stand_in.acts_refused = 1
    console = answered()
    console.citations.first.click()
    expect(console.panel.locator("mark.passage").first).to_be_visible()
    console.wait_until(lambda: len(stand_in.acts) == 1)
    expect(console.page.get_by_role("alert")).to_have_count(0)


def test_agents_read_what_is_kept_and_see_no_desk(at: OpenConsole) -> None:
    console = at()
    expect(console.page.locator(".purpose")).to_contain_text("kept to improve the answers")
    expect(console.page.locator("nav .tabs a")).to_have_text(["Answers"])
