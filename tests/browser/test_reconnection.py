"""Lost connections during an answer, a killed service, and a paused tenant."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.answers import QUESTION, SUPPORTED
from tests.browser.console_page import ConsolePage
from tests.browser.product import Rehearsal
from tests.browser.scripted_llm import Held, ScriptedLlm

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
    expect(stage.notice).to_have_count(0)
    assert llm.calls == calls + 1

    llm.says(FIRST, MIDDLE, END)
    stage.button("New question").click()
    stage.ask_to_the_end(QUESTION)
    whole = stage.page.locator(".sentence-text").all_inner_texts(), stage.citations.all_inner_texts()
    assert cut == whole


def test_a_notice_is_shown_while_the_connection_is_lost(
    stage: ConsolePage, llm: ScriptedLlm, rehearsal: Rehearsal
) -> None:
    one, two = Held(), Held()
    llm.says(FIRST, one, MIDDLE, two, END)
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.answer).to_contain_text(SUPPORTED)
    with rehearsal.front.down():
        expect(stage.page.locator(".progress")).to_contain_text(LOST)
        expect(stage.status).to_have_text("Connection lost, coming back")
        expect(stage.answer).to_contain_text(SUPPORTED)
        one.released.set()
    expect(stage.page.locator(".progress")).to_contain_text("Writing")
    expect(stage.status).to_have_text("Connected again, the answer goes on")
    two.released.set()
    stage.await_end()
    expect(stage.answer).to_contain_text(END)


def test_an_online_event_reconnects_immediately(
    stage: ConsolePage, llm: ScriptedLlm, rehearsal: Rehearsal
) -> None:
    middle = Held()
    llm.says(FIRST, middle, REST)
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.answer).to_contain_text(SUPPORTED)
    stage.page.context.set_offline(True)
    rehearsal.front.cut()
    expect(stage.page.locator(".progress")).to_contain_text(LOST)
    middle.released.set()
    stage.page.context.set_offline(False)
    stage.await_end()
    expect(stage.answer).to_contain_text(END)


def test_a_question_whose_response_was_lost_is_answered_once(
    stage: ConsolePage, llm: ScriptedLlm, rehearsal: Rehearsal
) -> None:
    llm.says(SUPPORTED)
    stage.sign_in()
    calls, questions = llm.calls, rehearsal.front.questions
    rehearsal.front.cut_next_answers(2)
    stage.ask_to_the_end(QUESTION)
    assert rehearsal.front.has_cut_all
    assert rehearsal.front.questions - questions == 3
    assert llm.calls == calls + 1
    expect(stage.answer).to_contain_text(SUPPORTED)
    expect(stage.turns).to_have_count(1)
    stage.page.reload()
    expect(stage.answer).to_contain_text(SUPPORTED)
    expect(stage.turns).to_have_count(1)


def test_an_answer_can_be_stopped_while_the_connection_is_lost(
    stage: ConsolePage, llm: ScriptedLlm, rehearsal: Rehearsal
) -> None:
    middle = Held()
    llm.says(FIRST, middle, REST)
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.answer).to_contain_text(SUPPORTED)
    with rehearsal.front.down():
        expect(stage.page.locator(".progress")).to_contain_text(LOST)
        stage.page.keyboard.press("Alt+Shift+KeyS")
        expect(stage.notice).to_contain_text("Stopped")
        expect(stage.answer).to_contain_text(SUPPORTED)
    middle.released.set()


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


def test_a_reload_during_an_answer_resumes_it(stage: ConsolePage, llm: ScriptedLlm) -> None:
    middle = Held()
    llm.says(FIRST, middle, REST)
    calls = llm.calls
    stage.sign_in()
    stage.ask(QUESTION)
    expect(stage.answer).to_contain_text(SUPPORTED)
    assert "reject" not in stage.page.evaluate("sessionStorage.getItem('care-console.tab')").replace(
        QUESTION, ""
    )
    stage.page.reload()
    expect(stage.answer).to_contain_text(SUPPORTED)
    middle.released.set()
    stage.await_end()
    expect(stage.answer).to_contain_text(END)
    expect(stage.citations).not_to_have_count(0)
    expect(stage.turns).to_have_count(1)
    expect(stage.question).to_have_value("")
    assert llm.calls == calls + 1


def test_a_verdict_waits_for_a_late_record(
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
    with locked(rehearsal.state_of("pharmacy") / "records.sqlite"):
        middle.released.set()
        stage.await_end()
        expect(stage.page.locator(".record-follows")).to_be_visible()
        check(stage)
        stage.button("Good").click()
        with stage.page.expect_response("**/verdict") as refused:
            stage.button("Save the mark").click()
        assert refused.value.status in {404, 503}
        expect(stage.button("Saving…")).to_be_disabled()
    expect(stage.page.locator(".latest")).to_contain_text("Marked good")
    expect(stage.page.locator(".record-follows")).to_have_count(0)


@pytest.fixture
def paused(rehearsal: Rehearsal) -> Iterator[Path]:
    """Pause the pharmacy; the file that holds its power state."""
    power = rehearsal.state_of("pharmacy") / "power"
    power.write_text("paused", encoding="utf-8")
    yield power
    power.unlink(missing_ok=True)


def test_a_paused_assistant_shows_a_notice_with_the_next_step(
    paused: Path, stage: ConsolePage, llm: ScriptedLlm, check: Callable[[ConsolePage], None]
) -> None:
    llm.says(SUPPORTED)
    stage.sign_in()
    notice = stage.notice.filter(has_text="The assistant is paused.")
    ask_until_paused(stage)
    expect(notice).to_contain_text("Ask the platform team to wake them")
    expect(stage.status).to_have_text("The assistant is paused")
    expect(stage.turns).to_have_text(re.compile("Paused"))
    check(stage)
    paused.unlink()

    def is_awake() -> bool:
        stage.button("Ask again").click()
        stage.await_end()
        return notice.count() == 0

    stage.wait_until(is_awake)
    expect(stage.answer).to_contain_text(SUPPORTED)
    expect(stage.turns).to_have_count(1)


def ask_until_paused(stage: ConsolePage) -> None:
    """Ask until the pause takes effect: the service reads the power state every 2 s."""

    def is_paused() -> bool:
        stage.button("New question").click()
        stage.ask_to_the_end(QUESTION)
        return stage.notice.filter(has_text="paused").count() == 1

    stage.wait_until(is_paused)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Lock the database: no other connection can write while the block runs."""
    connection = sqlite3.connect(file, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()
