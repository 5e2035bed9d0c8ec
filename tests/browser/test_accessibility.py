"""axe finds nothing and nothing scrolls sideways: in each state, light and dark, and at 200 % zoom."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.answers import QUESTION, SUPPORTED, UNANSWERABLE, UNSUPPORTED, WRONG_NUMBER
from tests.browser.console_page import ConsolePage
from tests.browser.product import Rehearsal
from tests.browser.scripted_llm import Broken, Held, ScriptedLlm

VIEWS: dict[str, dict[str, Any]] = {
    "1280x720": {},
    "dark": {"color_scheme": "dark"},
    # 200 % zoom of the same window: half the size in CSS pixels.
    "200 % zoom": {"viewport": {"width": 640, "height": 360}, "device_scale_factor": 2},
}


@pytest.fixture(params=VIEWS.values(), ids=list(VIEWS))
def view(
    request: pytest.FixtureRequest,
    rehearsal: Rehearsal,
    open_console: Callable[..., ConsolePage],
) -> ConsolePage:
    return open_console(rehearsal.url, **request.param)


def test_signing_in(view: ConsolePage, check: Callable[[ConsolePage], None]) -> None:
    view.open()
    expect(view.button("Sign in")).to_be_visible()
    check(view)
    view.sign_in(roles=("agent", "knowledge_owner"))
    expect(view.question).to_be_visible()
    check(view)


def test_an_answer_from_its_first_word_to_the_verdict(
    view: ConsolePage, llm: ScriptedLlm, check: Callable[[ConsolePage], None]
) -> None:
    middle = Held()
    llm.says(SUPPORTED, middle, f"{UNSUPPORTED} {WRONG_NUMBER}")
    view.sign_in()
    view.ask(QUESTION)
    expect(view.answer).to_contain_text(SUPPORTED[:20])
    check(view)
    middle.released.set()
    view.await_end()
    check(view)
    view.citations.first.focus()
    expect(view.page.locator(".is-pointed-at")).to_have_count(1)
    check(view)
    view.citations.first.press("Enter")
    expect(view.panel.locator("mark.passage")).to_be_visible()
    check(view)
    view.page.keyboard.press("Escape")
    view.button("Edit as reply").click()
    check(view)
    view.button("Bad").click()
    view.button("Save the mark").click()
    expect(view.page.locator("#reason-missing")).to_be_visible()
    check(view)
    view.page.get_by_label("Wrong", exact=True).check()
    view.button("Save the mark").click()
    expect(view.page.locator(".latest")).to_be_visible()
    view.button("Send").click()
    expect(view.page.locator(".sent-list")).to_be_visible()
    check(view)


def test_answers_that_went_wrong(
    view: ConsolePage, llm: ScriptedLlm, check: Callable[[ConsolePage], None]
) -> None:
    view.sign_in()
    view.ask_to_the_end(UNANSWERABLE)
    expect(view.page.locator(".outcome")).to_be_visible()
    check(view)
    llm.says("The first half", Broken())
    view.ask_to_the_end(QUESTION)
    expect(view.notice).to_contain_text("generation_interrupted")
    check(view)
    llm.fails(500)
    view.ask_to_the_end(QUESTION)
    expect(view.notice).to_contain_text("Sources only")
    check(view)


def test_a_long_answer_to_a_long_question(
    view: ConsolePage, llm: ScriptedLlm, check: Callable[[ConsolePage], None]
) -> None:
    llm.says(" ".join([SUPPORTED, UNSUPPORTED] * 12), "x" * 300)
    view.sign_in()
    view.ask_to_the_end(" ".join([QUESTION] * 6) + " " + "y" * 200)
    expect(view.page.locator(".measure")).to_be_attached()
    check(view)


def test_the_list_of_keys(view: ConsolePage, check: Callable[[ConsolePage], None]) -> None:
    view.sign_in()
    view.button("Keyboard").click()
    expect(view.page.get_by_role("dialog")).to_be_visible()
    check(view)


def test_the_knowledge_page(view: ConsolePage, check: Callable[[ConsolePage], None]) -> None:
    view.sign_in(roles=("agent", "knowledge_owner"))
    view.page.get_by_role("link", name="Knowledge").click()
    expect(view.page.locator(".documents")).to_be_visible()
    check(view)
    view.page.get_by_role("button", name="Withdraw").first.click()
    expect(view.page.get_by_role("dialog")).to_be_visible()
    check(view)
