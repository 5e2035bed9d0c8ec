"""An agent's work from question to verdict in a real browser, with the product as ``assistant tenant up``
starts it.

No test here depends on the small model's words.
"""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.answers import QUESTION, UNANSWERABLE
from tests.browser.console_page import ANSWER_LIMIT_MS, ConsolePage

TABLE_QUESTION = "What do I do when a delivery that must stay cold arrives warm?"


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


def test_the_lines_of_an_answer_are_copied_as_internal_text(console: ConsolePage) -> None:
    console.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    console.sign_in()
    console.ask_to_the_end(QUESTION)
    console.button("Copy these lines").click()
    expect(console.button("Copied: internal lines")).to_be_visible()
    copied: str = console.page.evaluate("navigator.clipboard.readText()")
    assert "75 percent" in copied


def test_a_table_is_a_table_on_a_phone_and_when_the_answer_is_read_again(console: ConsolePage) -> None:
    console.page.set_viewport_size({"width": 390, "height": 844})
    console.sign_in()
    console.ask_to_the_end(TABLE_QUESTION)
    for _ in range(2):
        expect(console.answer.locator("th")).to_have_text(["Situation", "First action"])
        expect(console.answer.get_by_role("row", name="Card red or missing")).to_be_visible()
        expect(console.answer).not_to_contain_text("First action:")
        width: int = console.page.evaluate("document.documentElement.scrollWidth")
        assert width <= 390
        console.page.reload()


def test_a_question_without_an_answer_shows_a_notice(console: ConsolePage) -> None:
    console.sign_in()
    console.ask_to_the_end(UNANSWERABLE)
    expect(console.page.locator(".outcome")).to_contain_text("Not in the knowledge base")
    expect(console.answer).to_have_count(0)
    expect(console.status).to_have_text("Not in the knowledge base")
    expect(console.page.locator(".sources h2")).to_contain_text("Nearest, but no answer")


def test_a_follow_up_keeps_the_conversation_and_a_new_one_is_empty(console: ConsolePage) -> None:
    console.sign_in()
    console.ask_to_the_end(QUESTION)
    console.question.fill("And what do I tell the patient?")
    console.question.press("Alt+Enter")
    console.await_end()
    expect(console.turns).to_have_count(2)
    console.turns.first.click()
    expect(console.page.locator("#question-title")).to_have_text(QUESTION)
    console.button("New question").click()
    expect(console.turns).to_have_count(0)
    console.page.reload()
    expect(console.question).to_be_visible()
    expect(console.turns).to_have_count(0)
