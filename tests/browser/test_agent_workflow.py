"""An agent's work from question to verdict in a real browser, with the product as ``assistant tenant up``
starts it.

No test here depends on the small model's words.
"""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.answers import QUESTION
from tests.browser.console_page import ANSWER_LIMIT_MS, ConsolePage


def test_an_agent_asks_reads_edits_reloads_sends_and_gives_a_verdict(console: ConsolePage) -> None:
    page = console.page
    console.sign_in()

    console.ask(QUESTION)
    expect(page.locator(".progress")).to_be_visible(timeout=1_000)
    expect(console.answer).to_be_visible(timeout=ANSWER_LIMIT_MS)
    console.await_end()
    expect(console.page.locator(".document").first).to_contain_text("79")

    expect(console.panel.locator("mark.passage").first).to_be_in_viewport()
    console.button("Close").click()
    opener = console.sources.first.get_by_role("button")
    opener.click()
    expect(console.panel.locator("mark.passage").first).to_be_in_viewport()
    page.keyboard.press("Escape")
    expect(console.panel).to_have_count(0)
    expect(opener).to_be_focused()

    console.edit_reply()
    console.reply.fill("Dear patient, the first payable day is day 23.")
    answered = console.answer.inner_text()
    page.reload()
    expect(console.reply).to_have_value("Dear patient, the first payable day is day 23.")
    expect(console.turns).to_have_count(1)
    assert console.answer.inner_text() == answered

    console.button("Record as sent").click()
    expect(page.locator(".sent-list summary")).to_contain_text("Recorded as sent at")
    page.locator(".sent-list summary").click()
    expect(page.locator(".sent-text")).to_have_text("Dear patient, the first payable day is day 23.")

    console.button("Bad").click()
    page.get_by_label("Something is missing").check()
    console.button("Save the mark").click()
    expect(page.locator(".latest")).to_contain_text("Marked bad")
    expect(page.locator(".latest")).to_contain_text("something is missing")

    page.reload()
    expect(page.locator(".latest")).to_contain_text("Marked bad")
    expect(page.locator(".sent-list summary")).to_contain_text("Recorded as sent at")
