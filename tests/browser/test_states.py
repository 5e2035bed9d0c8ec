"""The states of an answer, from the first progress message to each of its ends.

Most tests use the real gateway and service with a scripted model. The others use the stand-in, for answers
that the real service gives rarely.
"""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.answers import (
    CITED_PASSAGE,
    CITED_TITLE,
    QUESTION,
    SUPPORTED,
    UNSUPPORTED,
    done,
    refill_sources,
    units,
)
from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.scripted_llm import Held, ScriptedLlm
from tests.browser.stand_in import StandIn


def test_progress_is_visible_within_a_second(stage: ConsolePage, llm: ScriptedLlm) -> None:
    first = Held()
    llm.says(first, "Late.")
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.page.locator(".progress")).to_be_visible(timeout=1_000)
    expect(stage.page.locator(".elapsed")).to_have_text(re.compile(r"^[1-9]\d*\.\d s$"))
    first.released.set()
    stage.await_end()


def test_hovering_over_a_citation_previews_its_passage_and_a_click_opens_it(
    stage: ConsolePage, llm: ScriptedLlm
) -> None:
    llm.says(SUPPORTED)
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    citation = stage.citations.first
    card = stage.page.locator(f".source[data-source='{citation.inner_text()}']")
    citation.hover()
    expect(card).to_have_class("source is-pointed-at")
    expect(card.locator(".snippet")).to_contain_text("reject code 79")
    stage.question.hover()
    expect(card).to_have_class("source")
    citation.click()
    expect(stage.panel.locator("mark.passage").first).to_be_in_viewport()
    expect(stage.panel.locator("mark.passage").first).to_contain_text(CITED_PASSAGE)
    expect(stage.panel.locator("#panel-title")).to_contain_text(CITED_TITLE)
    stage.button("Close").click()
    expect(citation).to_be_focused()


HALF = ("token", {"text": "The first half "})
REST = ("token", {"text": "and the rest."})


def test_a_stopped_answer_keeps_its_text_and_notice_after_a_reload(
    at: OpenConsole, stand_in: StandIn
) -> None:
    middle = Held()
    stand_in.answers(refill_sources(), HALF, middle, REST, done())
    console = at()
    console.ask(QUESTION)
    expect(console.answer).to_have_text("The first half")
    console.page.keyboard.press("Alt+Shift+KeyS")
    expect(console.notice).to_contain_text("Stopped")
    console.wait_until(lambda: bool(stand_in.cancelled))
    middle.released.set()
    console.wait_until(lambda: bool(stand_in.conversations))
    console.page.reload()
    expect(console.notice).to_contain_text("Stopped")
    expect(console.answer).to_have_text("The first half")


def test_an_unsupported_sentence_is_marked_with_its_reason(answered: OpenConsole) -> None:
    parts = units((f"{SUPPORTED} ", "supported", [1]), (UNSUPPORTED, "unsupported", []))
    console = answered(refill_sources(), *parts, done())
    sentences = console.page.locator(".sentence")
    expect(sentences.nth(0).locator(".citation")).to_have_count(1)
    expect(sentences.nth(0).locator(".flag")).to_have_count(0)
    expect(sentences.nth(1).locator(".flag")).to_have_text("Check with the source: the model named none")
    expect(console.status).to_contain_text("1 sentence to check")
    console.edit_reply()
    console.reply.fill(f"{SUPPORTED} {UNSUPPORTED}")
    expect(console.page.locator("#reply-hint")).to_contain_text("1 sentence of the answer")
    console.reply.fill(SUPPORTED)
    expect(console.page.locator("#reply-hint")).to_contain_text("until you record or discard it.")


def test_a_failed_answer_keeps_its_text_and_offers_a_retry(answered: OpenConsole, stand_in: StandIn) -> None:
    broken = {"title": "The model broke off", "status": 502, "detail": "x", "code": "generation_interrupted"}
    console = answered(refill_sources(), HALF, ("error", {**broken, "retryable": True}))
    expect(console.notice).to_contain_text("generation_interrupted")
    expect(console.answer).to_have_text("The first half")
    stand_in.answers(refill_sources(), *units((SUPPORTED, "supported", [1])), done())
    console.button("Ask again").click()
    console.await_end()
    expect(console.answer).to_contain_text(SUPPORTED)
