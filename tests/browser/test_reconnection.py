"""Lost connections during an answer, a killed service, and a paused tenant."""

from __future__ import annotations

import re
from collections.abc import Callable

from playwright.sync_api import expect

from tests.browser.console_page import ConsolePage
from tests.browser.product import Held, Rehearsal, ScriptedLlm
from tests.browser.stand_in import QUESTION, SUPPORTED

LOST = "Connection lost, coming back…"
FIRST = f"{SUPPORTED} If the"
MIDDLE = "date is near, offer to queue the refill. The system"
END = "sends it on the first payable day."
"""Sentences that a passage supports, cut inside: each is shown when it is whole and checked."""
REST = f"{MIDDLE} {END}"


def text_of(*parts: str) -> str:
    """Return the text that the scripted model writes for its parts: a space follows each word."""
    return "".join(f"{part} " for part in parts).strip()


def test_an_answer_is_complete_after_two_lost_connections(
    stage: ConsolePage, llm: ScriptedLlm, rehearsal: Rehearsal
) -> None:
    one, two = Held(), Held()
    llm.says(FIRST, one, MIDDLE, two, END)
    calls = llm.calls
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.answer).to_contain_text(SUPPORTED)
    rehearsal.front.cut()
    one.released.set()
    expect(stage.answer).to_contain_text("offer to queue the refill.")
    rehearsal.front.cut()
    two.released.set()
    stage.await_end()
    cut = stage.page.locator(".sentence-text").all_inner_texts(), stage.citations.all_inner_texts()
    assert " ".join(" ".join(cut[0]).split()) == text_of(FIRST, MIDDLE, END)
    busy = "The service was busy"  # of a machine that runs other tests as well
    expect(stage.notice.filter(has_not_text=busy)).to_have_count(0)
    assert llm.calls == calls + 2  # it is read, and answered

    llm.says(FIRST, MIDDLE, END)
    stage.button("New question").click()
    stage.ask_to_the_end(QUESTION)
    whole = stage.page.locator(".sentence-text").all_inner_texts(), stage.citations.all_inner_texts()
    assert cut == whole


def test_a_killed_service_leaves_the_written_text_and_a_retry_button(
    stage: ConsolePage,
    llm: ScriptedLlm,
    rehearsal: Rehearsal,
    check: Callable[[ConsolePage], None],
) -> None:
    middle = Held()
    llm.says(FIRST, middle, REST)
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.answer).to_contain_text(SUPPORTED)
    rehearsal.service.kill()
    try:
        expect(stage.page.locator(".progress")).to_contain_text(LOST)
        check(stage)
    finally:
        rehearsal.service.start()
        middle.released.set()
    expect(stage.notice).to_contain_text("Interrupted", timeout=80_000)
    expect(stage.answer).to_contain_text(SUPPORTED)
    check(stage)
    llm.says(SUPPORTED)
    stage.button("Ask again").click()
    stage.await_end()
    expect(stage.answer).to_contain_text(SUPPORTED)
    expect(stage.turns).to_have_count(2)
    stage.page.reload()
    expect(stage.turns).to_have_text([re.compile("Interrupted"), re.compile("Answered")])
