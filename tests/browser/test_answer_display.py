"""How the console shows an answer's support, sources and outcome, and what an agent can do next."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from tests.browser.answers import (
    LOST,
    REFILL,
    REFILL_TEXT,
    SUPPORTED,
    UNSUPPORTED,
    done,
    quoted_refill,
    refill_sources,
    units,
)
from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.stand_in import StandIn

PHONE = {"width": 390, "height": 844}
PASTED = "From: a patient\n" + "My claim came back and I do not know what to do about it. " * 8


def test_markdown_is_rendered_as_steps_tables_bold_and_headings(answered: OpenConsole) -> None:
    console = answered()
    expect(console.answer.locator("h4")).to_have_text("Steps")
    expect(console.answer.locator("ol > li")).to_have_count(2)
    expect(console.answer.locator("td")).to_have_text(
        ["Retail, not controlled", "75 percent", "Mail, 90 days", "70 percent13"]
    )
    expect(console.answer.locator("strong").last).to_have_text("offer to queue")
    expect(console.page.locator(".part-head .badge")).to_have_text("Quoted from the documents")


def test_sources_are_grouped_by_document_with_their_dates(answered: OpenConsole) -> None:
    console = answered()
    documents = console.page.locator(".document")
    expect(documents).to_have_count(2)
    expect(documents.first.locator(".in-force")).to_have_text("in force since 13 Apr 2026")
    expect(documents.first.locator(".source-head .link")).to_have_text(["Steps", "Exceptions"])
    expect(documents.last.locator(".source-head .link")).to_have_text(["When this applies"])


def test_an_opened_source_highlights_the_quote_and_names_its_section(
    answered: OpenConsole,
) -> None:
    console = answered()
    console.citations.first.click()
    marks = console.panel.locator("mark.passage")
    expect(marks.first).to_be_in_viewport()
    first = "Cited passage: Find the next fill date. Our thresholds are below."
    expect(marks).to_have_text([first])
    expect(console.page.locator(".whereabouts")).to_have_text("Section 2 of 4: Steps")
    expect(console.panel.locator("h4", has_text="Exceptions")).to_be_visible()
    expect(console.panel.locator("ul > li")).to_have_count(2)


def test_a_reply_begins_empty_and_the_agent_inserts_the_lines(
    answered: OpenConsole, stand_in: StandIn
) -> None:
    parts = units((f"{SUPPORTED} ", "supported", [1]), (UNSUPPORTED, "unsupported", []))
    console = answered(refill_sources(), *parts, done(mode="quoted"))
    console.button("Write a reply").click()
    expect(console.reply).to_have_value("")
    expect(console.reply).to_be_focused()
    console.button("Insert these lines").click()
    expect(console.reply).to_have_value(SUPPORTED)
    console.button("Record as sent").click()
    expect(console.page.get_by_text("Recorded as sent at")).to_be_visible()
    [sent] = [body for kind, body in stand_in.marks if kind == "sent"]
    assert (sent["began_with"], sent["lines"]) == ("lines", [0])


def test_a_quoted_section_says_so_with_a_contact_and_why_no_model_wrote(answered: OpenConsole) -> None:
    console = answered(*quoted_refill(escalation="Claims Desk, ext. 4100", fallback="withheld"))
    expect(console.page.locator(".part-head .badge")).to_contain_text("Quoted from the documents")
    expect(console.page.locator(".escalation")).to_contain_text("Claims Desk, ext. 4100")
    expect(console.page.locator(".fallback")).to_contain_text(
        "each of its sentences states a value that no source holds"
    )
    expect(console.turns.first).to_contain_text("Quoted")


def test_an_unanswered_question_shows_the_reason_and_a_contact(answered: OpenConsole) -> None:
    silence = {
        "finish_reason": "no_evidence",
        "reason": "No document says anything about oil.",
        "citations": [],
    }
    console = answered(refill_sources(), done(**silence, escalation="Pharmacist on duty, ext. 4200"))
    expect(console.page.locator(".outcome")).to_contain_text("No document says anything about oil.")
    expect(console.page.locator(".escalation")).to_have_text("Whom to ask: Pharmacist on duty, ext. 4200")
    expect(console.button("Write a reply")).to_be_visible()


def test_an_alternative_document_is_listed_and_can_be_opened(answered: OpenConsole) -> None:
    console = answered()
    card = console.page.locator(".also-card")
    expect(card).to_be_hidden()
    console.page.keyboard.press("Alt+Shift+KeyO")
    expect(card).to_contain_text("in force since 1 Jun 2026")
    expect(card.locator("li")).to_have_count(2)
    card.get_by_role("button", name="Open the document Lost medication").click()
    expect(console.page.locator("#panel-title")).to_contain_text("Lost medication")


def test_a_question_starts_a_conversation_unless_it_is_a_follow_up(
    at: OpenConsole, stand_in: StandIn
) -> None:
    console = at()
    expect(console.page.get_by_label("New question")).to_be_visible()
    console.ask_to_the_end("One?")
    console.ask_to_the_end("Two?")
    console.question.fill("Three?")
    console.question.press("Alt+Enter")
    expect(console.turns).to_have_count(2)
    console.await_end()
    console.page.get_by_label("Follow up on this answer").check()
    console.ask_to_the_end("Four?")
    expect(console.page.get_by_role("radio", name="New question")).to_be_checked()
    asked = [request.get("conversation_id") for request in stand_in.asked]
    assert asked == [None, None, "conversation-2", "conversation-2"]


def test_earlier_conversations_are_listed_opened_and_removed(at: OpenConsole) -> None:
    console = at()
    for question in ("Question about patient 4711?", "Another one?", "A third?"):
        console.ask_to_the_end(question)
    stored: str = console.page.evaluate("JSON.stringify({...localStorage})")
    assert "4711" not in stored
    assert "amira" not in stored
    kept: list[dict[str, str]] = json.loads(next(iter(json.loads(stored).values())))
    assert [sorted(item) for item in kept] == [["at", "id"]] * 3
    console.page.reload()
    earlier = console.page.locator(".earlier-item")
    expect(earlier).to_have_count(2)
    expect(earlier.last).to_contain_text("Question about patient 4711?")
    earlier.last.locator(".turn-link").click()
    expect(console.page.locator("#question-title")).to_have_text("Question about patient 4711?")
    expect(console.answer.locator("ol > li")).to_have_count(2)
    expect(earlier.first).to_contain_text("A third?")
    console.page.get_by_role("button", name="Remove from this list: A third?").click()
    expect(earlier).to_have_count(1)
    console.button("Clear this list").click()
    expect(earlier).to_have_count(0)
    assert console.page.evaluate("localStorage.length") == 0


def test_the_verdict_buttons_are_visible_without_scrolling(answered: OpenConsole) -> None:
    steps = "".join(f"{n}. Do this, and then do something else as well.\n" for n in range(1, 40))
    console = answered(refill_sources(), *units((steps, "supported", [1])), done(mode="quoted"))
    for name in ("Good", "Bad", "Write a reply"):
        expect(console.button(name)).to_be_in_viewport(ratio=1)
    console.button("Bad").click()
    expect(console.button("Save the mark")).to_be_in_viewport(ratio=1)


def test_on_a_phone_the_sources_open_from_the_answer_and_close_again(
    answered: OpenConsole,
) -> None:
    console = answered(viewport=PHONE)
    expect(console.sources.first).to_be_hidden()
    console.button("Sources (3)").click()
    expect(console.sources.first).to_be_in_viewport()
    opener = console.sources.first.get_by_role("button")
    opener.click()
    expect(console.panel.locator("mark.passage").first).to_be_in_viewport()
    console.button("Close").click()
    expect(opener).to_be_focused()
    console.page.keyboard.press("Alt+Shift+KeyE")
    expect(console.reply).to_be_focused()


def test_on_a_phone_a_citation_shows_a_preview_beside_it(answered: OpenConsole) -> None:
    console = answered(viewport=PHONE)
    console.citations.first.focus()
    expect(console.page.locator("#citation-preview")).to_be_visible()
    # a row is a card, with the name of the column above each value
    cell = console.answer.get_by_role("cell").nth(1)
    expect(cell).to_be_in_viewport(ratio=1)
    label = cell.evaluate("(cell) => getComputedStyle(cell, '::before').content")
    assert label == '"Share that must be used"'


@pytest.mark.parametrize(
    "options",
    [{}, {"color_scheme": "dark"}, {"viewport": PHONE}, {"viewport": {"width": 640, "height": 360}}],
    ids=["1280x800", "dark", "390x844", "200 % zoom"],
)
def test_axe_finds_nothing(
    answered: OpenConsole,
    stand_in: StandIn,
    check: Callable[[ConsolePage], None],
    options: dict[str, Any],
) -> None:
    console = answered(question="Before?", **options)
    findings = {"escalation": "Claims Desk", "fallback": "repetition"}
    stand_in.answers(*quoted_refill(**findings, clarify="Which order? Give the order number."))
    console.ask_to_the_end(PASTED)
    check(console)
    console.page.locator(".earlier").evaluate("(list) => { list.open = true; }")
    check(console)
    if "viewport" in options:
        console.button("Sources (3)").click()
        check(console)
        console.sources.first.get_by_role("button").click()
    expect(console.panel.locator("mark.passage").first).to_be_visible()
    check(console)
    console.button("Close").click()
    console.page.keyboard.press("Alt+Shift+KeyE")
    expect(console.reply).to_be_visible()
    console.button("Bad").click()
    check(console)


def test_a_document_that_comes_late_is_not_shown_under_another_title(
    stand_in: StandIn, answered: OpenConsole
) -> None:
    console, held = answered(), list[Route]()
    start = REFILL_TEXT.index("the pharmacist on duty")
    link = {"start": start, "end": start + 3, "document_id": LOST, "url": None}
    stand_in.documents[REFILL] |= {"links": [link]}
    stand_in.documents[LOST] |= {"title": "Lost medication", "text": "Ask what was lost.", "span": None}
    console.page.reload()
    console.sources.first.get_by_role("button").first.click()
    console.page.route(f"**/v1/documents/{LOST}?*", lambda route: held.append(route))
    console.panel.locator(".text-link").click()
    console.wait_until(lambda: len(held) == 1)
    expect(console.panel).to_contain_text("Opening the stored text")
    console.panel.get_by_role("button", name="Back to source").click()
    expect(console.panel.locator(".stored-text")).to_contain_text("The plan returned")
    with console.page.expect_response(f"**/v1/documents/{LOST}?*"):
        held.pop().continue_()
    console.panel.locator(".text-link").focus()
    expect(console.panel.locator(".stored-text")).not_to_contain_text("Ask what was lost.")
    expect(console.panel.locator(".stored-text")).to_contain_text("The plan returned")


def test_a_mark_that_is_saved_late_leaves_the_next_question_its_focus(answered: OpenConsole) -> None:
    console, held = answered(), list[Route]()
    console.page.route("**/verdict", lambda route: held.append(route))
    console.button("Good").click()
    console.button("Save the mark").click()
    console.wait_until(lambda: len(held) == 1)
    console.button("Bad").click()
    console.question.fill("And the next one?")
    held.pop().continue_()
    expect(console.page.locator(".latest")).to_contain_text("Marked good")
    expect(console.question).to_be_focused()
    expect(console.page.get_by_label("A better answer (optional)")).to_be_visible()
