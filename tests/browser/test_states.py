"""How an answer may come and end, as a scripted model behind the real gateway and service makes it."""

from __future__ import annotations

import re

from playwright.sync_api import expect

from tests.browser.answers import (
    CITED_PASSAGE,
    CITED_TITLE,
    QUESTION,
    SUPPORTED,
    UNSUPPORTED,
    WRONG_NUMBER,
)
from tests.browser.console_page import ConsolePage
from tests.browser.scripted_llm import Broken, Held, ScriptedLlm


def test_words_are_shown_before_the_model_has_written_the_rest(stage: ConsolePage, llm: ScriptedLlm) -> None:
    middle = Held()
    llm.says("The first half", middle, "and the rest.")
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.answer).to_have_text(re.compile(r"^The first half\s*$"))
    expect(stage.button("Stop")).to_be_visible()
    middle.released.set()
    expect(stage.answer).to_contain_text("and the rest.")
    stage.await_end()


def test_a_sign_of_life_comes_within_a_second(stage: ConsolePage, llm: ScriptedLlm) -> None:
    first = Held()
    llm.says(first, "Late.")
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.page.locator(".progress")).to_be_visible(timeout=1_000)
    expect(stage.page.locator(".elapsed")).to_have_text(re.compile(r"^[1-9]\d*\.\d s$"))
    first.released.set()
    stage.await_end()


def test_stop_keeps_what_has_come_and_says_so_after_a_reload_too(
    stage: ConsolePage, llm: ScriptedLlm
) -> None:
    middle = Held()
    llm.says("The first half", middle, "and the rest.")
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.answer).to_contain_text("The first half")
    stage.button("Stop").click()
    expect(stage.notice).to_contain_text("Stopped")
    middle.released.set()
    expect(stage.status).to_have_text("The answer was stopped")
    stage.page.reload()
    expect(stage.notice).to_contain_text("Stopped")
    expect(stage.answer).to_have_text(re.compile(r"^The first half\s*$"))


def test_a_sentence_without_support_is_marked_with_words_and_its_reason(
    stage: ConsolePage, llm: ScriptedLlm
) -> None:
    llm.says(f"{SUPPORTED} {UNSUPPORTED} {WRONG_NUMBER}")
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    sentences = stage.page.locator(".sentence")
    expect(sentences.nth(0).locator(".citation")).not_to_have_count(0)
    expect(sentences.nth(0).locator(".flag")).to_have_count(0)
    expect(sentences.nth(1).locator(".flag")).to_have_text("Not supported: no source says this")
    expect(sentences.nth(2).locator(".flag")).to_have_text("Not supported: a number is not in its source")
    expect(stage.status).to_contain_text("2 sentences without support")


def test_pointing_at_a_citation_shows_its_passage_and_pressing_opens_it(
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
    expect(stage.panel.locator("mark.passage")).to_be_in_viewport()
    expect(stage.panel.locator("mark.passage")).to_contain_text(CITED_PASSAGE)
    expect(stage.panel.locator("#panel-title")).to_contain_text(CITED_TITLE)
    stage.button("Close").click()
    expect(citation).to_be_focused()


def test_a_restored_source_shows_its_passage_again(stage: ConsolePage, llm: ScriptedLlm) -> None:
    llm.says(SUPPORTED)
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    number = stage.citations.first.inner_text()
    snippet = stage.page.locator(f".source[data-source='{number}'] .snippet")
    before = snippet.inner_text().strip("…")
    stage.page.reload()
    expect(stage.citations.first).to_be_visible()
    expect(snippet).to_have_count(0)
    stage.citations.first.hover()
    expect(snippet).to_contain_text(before[:30])


def test_an_answer_without_any_support_begins_with_that(stage: ConsolePage, llm: ScriptedLlm) -> None:
    llm.says(f"{UNSUPPORTED} {WRONG_NUMBER}")
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    expect(stage.notice).to_have_text("No sentence of this answer is supported. Read the sources instead.")


def test_the_editor_warns_of_what_is_left_without_support(stage: ConsolePage, llm: ScriptedLlm) -> None:
    llm.says(f"{SUPPORTED} {UNSUPPORTED}")
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    stage.button("Edit as reply").click()
    expect(stage.page.locator("#reply-hint")).to_contain_text("1 sentence of the answer")
    stage.reply.fill(SUPPORTED)
    expect(stage.page.locator("#reply-hint")).to_have_text("Kept in this tab until you send or discard it.")


def test_a_broken_stream_keeps_its_text_and_offers_another_try(stage: ConsolePage, llm: ScriptedLlm) -> None:
    llm.says("The first half", Broken())
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    expect(stage.notice).to_contain_text("generation_interrupted")
    expect(stage.answer).to_contain_text("The first half")
    llm.says(SUPPORTED)
    stage.button("Ask again").click()
    stage.await_end()
    expect(stage.answer).to_contain_text(SUPPORTED)


def test_a_model_that_fails_leaves_the_sources(stage: ConsolePage, llm: ScriptedLlm) -> None:
    llm.fails(500)
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    expect(stage.notice).to_contain_text("Sources only")
    expect(stage.notice).to_contain_text("generation_unavailable")
    expect(stage.sources).not_to_have_count(0)
    expect(stage.button("Write a reply")).to_be_visible()


def test_an_answer_at_its_greatest_length_says_that_it_is_cut(stage: ConsolePage, llm: ScriptedLlm) -> None:
    llm.says(SUPPORTED, finish_reason="length")
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    expect(stage.notice).to_contain_text("Cut short")


def test_another_question_cannot_be_asked_while_one_is_answered(stage: ConsolePage, llm: ScriptedLlm) -> None:
    middle = Held()
    llm.says("The first half", middle, "and the rest.")
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.answer).to_contain_text("The first half")
    stage.ask("Meanwhile, another one?")
    expect(stage.turns).to_have_count(1)
    expect(stage.question).to_have_value("Meanwhile, another one?")
    middle.released.set()
    stage.await_end()
    expect(stage.question).to_have_value("Meanwhile, another one?")
