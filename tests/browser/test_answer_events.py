"""What stands beside an answer: emergencies, an approved answer, a section to read, the source that opens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.answers import (
    CITED_TITLE,
    OFFERED,
    OVERDOSE,
    QUESTION,
    SECTION,
    SUPPORTED,
    UNSUPPORTED,
    done,
    quoted_refill,
    refill_sources,
    units,
    withheld,
)
from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.scripted_llm import Held
from tests.browser.stand_in import StandIn

At = OpenConsole
Check = Callable[[ConsolePage], None]

DESK = {"width": 1440, "height": 900}
PHONE = {"width": 390, "height": 844}
OFFERED_TEXT = "The plan pays from day 23 of a 30-day supply."


def begins(stand_in: StandIn) -> Held:
    """Let the stand-in say all that an answer can have, and hold it back before its first word."""
    held = Held()
    stand_in.started = {
        "red_flags": [OVERDOSE],
        "unchecked_language": "es",
        "recorded_model": "a model, 20 Nov 2026",
    }
    first, *last = units((f"{SUPPORTED} ", "supported", [1]), (UNSUPPORTED, "unsupported", [1, 3]))
    gap = withheld("17 mg", index=9, at=len(SUPPORTED) + 1)
    also = [{**SECTION, "title": "Lost medication"}]
    ending = done(mode="written", degraded=["reranking"], also=also)
    stand_in.answers(
        refill_sources(section=SECTION, offered=OFFERED), held, first, last[0], gap, *last[1:], ending
    )
    return held


def test_one_key_puts_the_offered_answer_into_the_reply(at: At, stand_in: StandIn) -> None:
    held = begins(stand_in)
    console = at()
    console.ask(QUESTION)
    expect(console.page.locator(".offered")).to_contain_text(OFFERED_TEXT)
    console.page.keyboard.press("Alt+Shift+KeyU")
    expect(console.reply).to_be_focused()
    expect(console.reply).to_have_value(OFFERED_TEXT)
    expect(console.button("Record as sent")).to_be_disabled()
    held.released.set()
    console.await_end()
    expect(console.reply).to_be_focused()
    expect(console.button("Record as sent")).to_be_enabled()
    console.wait_until(lambda: any(act["kind"] == "offered_used" for act in stand_in.acts))


def test_a_discarded_offer_gives_the_focus_back(at: At, stand_in: StandIn) -> None:
    held = begins(stand_in)
    console = at()
    console.ask(QUESTION)
    console.button("Put into the reply").click()
    console.button("Discard edit").click()
    expect(console.button("Put into the reply")).to_be_focused()
    held.released.set()
    console.await_end()
    expect(console.button("Put into the reply")).to_be_focused()


def test_the_section_is_read_first_and_opens_again_with_one_key(at: At, stand_in: StandIn) -> None:
    held = begins(stand_in)
    console = at()
    console.ask(QUESTION)
    section = console.page.locator("details.section")
    expect(section).to_contain_text(f"From the document: {CITED_TITLE}")
    expect(section.locator("li").first).to_be_visible()
    held.released.set()
    console.await_end()
    expect(section.locator("li").first).to_be_hidden()
    console.page.keyboard.press("Alt+Shift+KeyD")
    expect(section.locator("li").first).to_be_visible()
    expect(section.locator("summary")).to_be_focused()
    console.page.keyboard.press("Alt+Shift+KeyD")
    expect(section.locator("li").first).to_be_hidden()


def test_one_key_opens_the_source_of_a_sentence_to_check(answered: OpenConsole, stand_in: StandIn) -> None:
    begins(stand_in).released.set()
    console = answered()
    expect(console.page.locator(".flag")).to_contain_text("Check with the source")
    console.page.keyboard.press("Alt+Shift+KeyC")
    expect(console.page.locator("#panel-title")).to_be_focused()
    console.page.keyboard.press("Escape")
    check = console.page.locator(".sentence.unsupported .citation").first
    expect(check).to_be_focused()


def test_the_notice_of_an_unchecked_language_stands_until_the_agent_has_read(
    at: At, stand_in: StandIn
) -> None:
    held = begins(stand_in)
    console = at()
    console.ask(QUESTION)
    notice = console.page.get_by_role("alert").filter(has_text="Emergencies are not checked in Spanish here")
    expect(notice).to_be_in_viewport(ratio=1)
    held.released.set()
    console.await_end()
    expect(notice).to_be_in_viewport(ratio=1)
    key = console.button("I have read it")
    key.press("Enter")
    expect(key).to_have_count(0)
    expect(console.page.locator("#answer-title")).to_be_focused()
    expect(console.page.locator(".emergency")).to_be_visible()


@pytest.mark.parametrize("has_section", [True, False], ids=["section", "quoted"])
def test_the_source_opens_by_itself_and_leaves_the_focus(
    at: At, stand_in: StandIn, has_section: bool
) -> None:
    held = Held()
    if has_section:
        held = begins(stand_in)
    console = at(viewport=DESK)
    console.ask(QUESTION)
    expect(console.panel.locator("mark.passage").first).to_be_in_viewport(ratio=1)
    expect(console.page.locator("#panel-title")).to_contain_text(CITED_TITLE)
    expect(console.question).to_be_focused()
    held.released.set()
    console.await_end()
    console.page.keyboard.press("Escape")
    expect(console.panel).to_have_count(0)
    expect(console.question).to_be_focused()
    assert stand_in.acts == []


def test_a_citation_of_the_open_source_takes_the_focus_into_it(answered: OpenConsole) -> None:
    console = answered()
    expect(console.panel).to_be_visible()
    console.citations.first.click()
    expect(console.page.locator("#panel-title")).to_be_focused()
    console.page.keyboard.press("Escape")
    expect(console.citations.first).to_be_focused()


@pytest.mark.parametrize(
    "options",
    [
        {"viewport": DESK},
        {"viewport": DESK, "color_scheme": "dark"},
        {"viewport": PHONE},
        {"viewport": {"width": 320, "height": 700}},
    ],
    ids=["1440x900", "dark", "390x844", "320 px"],
)
def test_axe_finds_nothing_in_all_that_an_answer_can_have(
    at: At, stand_in: StandIn, check: Check, options: dict[str, Any]
) -> None:
    held = begins(stand_in)
    console = at(**options)
    console.ask(QUESTION)
    expect(console.page.locator(".offered")).to_be_visible()
    check(console)
    held.released.set()
    console.await_end()
    check(console)
    for key in ("KeyD", "KeyO", "KeyU"):
        console.page.keyboard.press(f"Alt+Shift+{key}")
    expect(console.reply).to_be_visible()
    check(console)
    stand_in.started = {}
    keys = [
        (name, {**data, "is_key": True}) if name == "sentence" else (name, data)
        for name, data in quoted_refill()
    ]
    stand_in.answers(*keys)
    console.ask_to_the_end(QUESTION)
    expect(console.answer.locator("mark").first).to_be_visible()
    check(console)
