"""How the console shows an answer's support, sources and outcome, and what an agent can do next."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Route, expect

from assistant.documents.formats import convert
from assistant.documents.parsing.render import render
from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.product import Held
from tests.browser.stand_in import (
    LOST,
    OFFERED,
    OVERDOSE,
    QUESTION,
    REFILL,
    REFILL_TEXT,
    SECTION,
    SUPPORTED,
    UNSUPPORTED,
    StandIn,
    done,
    quoted_refill,
    refill_document,
    refill_sources,
    units,
    withheld,
)

PHONE = {"width": 390, "height": 844}
PASTED = "From: a patient\n" + "My claim came back and I do not know what to do about it. " * 8


def test_sources_are_grouped_by_document_and_an_opened_one_highlights_the_quote(
    answered: OpenConsole,
) -> None:
    console = answered()
    expect(console.page.locator(".part-head .badge")).to_have_text("Quoted from the documents")
    documents = console.page.locator(".document")
    expect(documents).to_have_count(2)
    expect(documents.first.locator(".in-force")).to_have_text("in force since 13 Apr 2026")
    expect(documents.first.locator(".source-head .link")).to_have_text(["Steps", "Exceptions"])
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
    console.reply.fill(f"{SUPPORTED} {UNSUPPORTED}")
    expect(console.page.locator("#reply-hint")).to_contain_text("1 sentence of the answer")
    console.reply.fill(SUPPORTED)
    expect(console.page.locator("#reply-hint")).to_contain_text("until you record or discard it.")
    console.button("Record as sent").click()
    expect(console.page.get_by_text("Recorded as sent at")).to_be_visible()
    [sent] = [body for kind, body in stand_in.marks if kind == "sent"]
    assert (sent["began_with"], sent["lines"]) == ("lines", [0])


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


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="1280x800"),
        pytest.param({"color_scheme": "dark", "viewport": PHONE}, id="dark, 390x844"),
        pytest.param({"color_scheme": "dark"}, id="dark", marks=pytest.mark.night),
        pytest.param({"viewport": {"width": 640, "height": 360}}, id="200 % zoom", marks=pytest.mark.night),
    ],
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


PDF = (Path(__file__).parents[1] / "data" / "tariff.pdf").read_bytes()


def stored() -> dict[str, Any]:
    """The tariff as the service sends it: the last row of the first table is cited, said to be on page 2."""
    parsed = render(convert("tariff.pdf", PDF)).parsed
    cited = parsed.tables[0].rows[-1]
    tables = [
        {"header": table.header, "rows": [[(cell.start, cell.end) for cell in row] for row in table.rows]}
        for table in parsed.tables
    ]
    sections = [
        {"headings": part.headings, "start": part.span.start, "end": part.span.end}
        for part in parsed.sections
    ]
    return {
        "title": "Tariff",
        "text": parsed.text,
        "sections": sections,
        "span": (parsed.text.rindex("Plan", 0, cited[0].start), cited[-1].end),
        "tables": tables,
        "original": {"name": "tariff.pdf", "media_type": "application/pdf", "page": 2},
    }


def test_the_console_shows_tables_and_opens_the_original_at_its_page(
    answered: OpenConsole, stand_in: StandIn
) -> None:
    stand_in.documents[REFILL] = refill_document() | stored()
    console = answered()
    console.citations.first.click()
    table = console.panel.locator("table").first
    expect(table.locator("th")).to_have_text(["Plan", "Fee private", "Fee business", "Minutes"])
    expect(table.locator("tr", has=console.page.locator("mark"))).to_contain_text("World")
    console.page.route("**/*format=original*", lambda route: route.fulfill(body=PDF))
    with console.page.context.expect_page() as opened:
        console.panel.get_by_role("button", name="Open the original at page 2").click()
    assert opened.value.url.startswith("blob:")
    assert opened.value.url.endswith("#page=2")


DESK = {"width": 1440, "height": 900}


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


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"viewport": DESK, "color_scheme": "dark"}, id="1440x900, dark"),
        pytest.param({"viewport": {"width": 320, "height": 700}}, id="320 px"),
        pytest.param({"viewport": DESK}, id="1440x900", marks=pytest.mark.night),
        pytest.param({"viewport": PHONE}, id="390x844", marks=pytest.mark.night),
    ],
)
def test_axe_finds_nothing_in_all_that_an_answer_can_have(
    at: OpenConsole, stand_in: StandIn, check: Callable[[ConsolePage], None], options: dict[str, Any]
) -> None:
    held = begins(stand_in)
    console = at(**options)
    console.ask(QUESTION)
    expect(console.page.locator(".offered")).to_be_visible()
    check(console)
    held.released.set()
    console.await_end()
    check(console)
    console.page.keyboard.press("Alt+Shift+KeyC")
    expect(console.page.locator("#panel-title")).to_be_focused()
    console.page.keyboard.press("Escape")
    expect(console.page.locator(".sentence.unsupported .citation").first).to_be_focused()
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
