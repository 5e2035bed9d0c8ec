"""From a patient's message to the reply in the chat, in Chromium, over the processes of the demo.

``CHATS=24`` (``check-helpdesk``) takes chats of writers who saw neither code nor documents, and prints
the agent's actions and the product's seconds: the driver acts as soon as it can.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pytest
from playwright.sync_api import (
    Browser,
    BrowserContext,
    FrameLocator,
    Locator,
    Page,
    Route,
    expect,
    sync_playwright,
)

from assistant.evaluation.questions import load_rows
from assistant.evaluation.trials import WrittenChat
from assistant.options.helpdesk.chats import MOST_CHARACTERS
from assistant.terminal.loading import load_if_empty
from assistant.terminal.local import LocalRuntime, local_runtime
from assistant.terminal.terminal import GlobalOptions, Terminal
from tests.browser.conftest import FLAGS, STEP_LIMIT_MS
from tests.browser.product import REPOSITORY
from tests.stage.programs import require

CHATS = int(os.environ.get("CHATS", "1"))
ASKED = "My card was charged twice for one order. When do I get my money back?"
HOWS = ("stopped", "found", "nothing")
WRITTEN = "I look into it and write to you here."
RUN_AXE = """
axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations.map(
  ({ id, nodes }) => `${id} ${nodes[0].html}`))
"""


@dataclass(frozen=True)
class Walked:
    """One message and its reply.

    ``how`` the agent came to the own text: beside what was ``found``, one that the guard before *Send*
    ``stopped``, or where there was ``nothing``.
    """

    actions: int
    seconds: float
    how: str


@pytest.fixture(scope="module")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRuntime]:
    state = tmp_path_factory.mktemp("helpdesk")
    runtime = local_runtime(GlobalOptions(REPOSITORY / "tenants", state, 0, json=False), Terminal())
    with runtime.site(command="a test"):
        asyncio.run(load_if_empty(runtime, "pharmacy"))
        yield runtime


@pytest.fixture(scope="module")
def browser(runtime: LocalRuntime) -> Iterator[Browser]:  # started first: its commands run loops of their own
    assert runtime.address is not None
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=require("chromium"), args=list(FLAGS))
        expect.set_options(timeout=STEP_LIMIT_MS)
        yield browser
        browser.close()


@pytest.fixture
def desk(browser: Browser, runtime: LocalRuntime) -> Iterator[Page]:
    context = _context(browser, width=1_400)
    page = context.new_page()
    page.goto(f"{_address(runtime)}/")
    yield page
    context.close()


def _context(browser: Browser, *, width: int) -> BrowserContext:
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.set_default_timeout(STEP_LIMIT_MS)
    return context


def _address(runtime: LocalRuntime) -> str:
    return runtime.address.systems["orders"]


def _panel(desk: Page) -> FrameLocator:
    return desk.frame_locator("aside iframe")


def walked(desk: Page, patient: Page, text: str) -> Walked:
    """Write as a patient, and answer with what the panel has; count what an agent presses or types."""
    patient.get_by_label("Your message").fill(text)
    began_s = time.monotonic()
    patient.keyboard.press("Enter")
    expect(patient.locator(".messages .own")).to_have_count(1)
    chat = patient.evaluate("sessionStorage.getItem('helpdesk-chat')")[:6]
    desk.locator(f".queue button[data-chat='{chat}']").click()
    panel = _panel(desk)
    expect(panel.locator(".chat-bar strong")).to_contain_text(chat)
    answer = panel.get_by_role("button", name="Answer the customer")
    answer.click()
    expect(answer).to_be_enabled()  # it is not while an answer is written
    send, write = panel.get_by_role("button", name="Send", exact=True), panel.locator("#edit-reply")
    expect(panel.locator("#reply")).to_have_count(0)  # no text is proposed
    how, actions = "found" if write.is_visible() else "nothing", 3
    if how == "found":
        write.click()
        box = panel.get_by_label("Your reply to the patient")
        expect(box).to_have_value("")
        box.fill(WRITTEN)
        actions += 2
    elif how == "nothing":
        desk.get_by_label("Your message").fill(WRITTEN)
        send = desk.locator("main").get_by_role("button", name="Send")
        actions += 1
    send.click()
    reply, stopped = (
        patient.locator(".messages .other"),
        panel.get_by_role("button", name="I checked: use it"),
    )
    until_s = time.monotonic() + STEP_LIMIT_MS / 1_000
    while reply.count() == 0:
        assert time.monotonic() < until_s, panel.locator(".reply").inner_text()
        if stopped.is_visible():  # the guard before Send
            panel.get_by_label("Why is it right?").fill("The page says so.")
            stopped.click()
            send.click()
            actions, how = actions + 3, "stopped"
    return Walked(actions, time.monotonic() - began_s, how)


def _messages() -> list[str]:
    if CHATS == 1:
        return [ASKED]
    paths = sorted((REPOSITORY / "evaluation/chats").glob("held_out_*.jsonl"))
    chats = [chat for path in paths for chat in load_rows(path, WrittenChat)]
    said = [[turn.text for turn in chat.turns if turn.who == "customer"] for chat in chats]
    texts = [turns[-1][:MOST_CHARACTERS] for turns in said if turns]
    return random.Random(int(os.environ.get("SEED", "1"))).sample(texts, CHATS)  # noqa: S311


def test_five_actions_lead_from_a_message_to_the_agents_own_reply_in_the_chat(
    desk: Page, browser: Browser, runtime: LocalRuntime
) -> None:
    found: list[Walked] = []
    for text in _messages():
        context = _context(browser, width=420)
        patient = context.new_page()
        patient.goto(f"{_address(runtime)}/patient")
        found.append(walked(desk, patient, text))
        context.close()
    lines = [_told("all", found), *(_told(how, [one for one in found if one.how == how]) for how in HOWS)]
    sys.stdout.write("\n".join(["", *lines, ""]))
    assert {(one.how, one.actions) for one in found} <= {("found", 5), ("stopped", 8), ("nothing", 4)}


def _told(how: str, found: Sequence[Walked]) -> str:
    seconds = sorted(one.seconds for one in found) or [0.0]
    return (
        f"{how}: {len(found)} chats, {max((one.actions for one in found), default=0)} actions at most, "
        f"{seconds[0]:.2f} s, {statistics.median(seconds):.2f} s, {seconds[-1]:.2f} s (least, median, most)"
    )


def test_a_message_that_is_sent_late_leaves_the_text_for_another_patient(
    desk: Page, browser: Browser, runtime: LocalRuntime
) -> None:
    context, chats, held = _context(browser, width=420), list[Locator](), list[Route]()
    for text in ("First.", "Second."):
        patient = context.new_page()
        patient.goto(f"{_address(runtime)}/patient")
        patient.get_by_label("Your message").fill(text)
        patient.keyboard.press("Enter")
        expect(patient.locator(".messages .own")).to_have_count(1)
        chat = patient.evaluate("sessionStorage.getItem('helpdesk-chat')")[:6]
        chats.append(desk.locator(f".queue button[data-chat='{chat}']"))
    message, first, second = desk.get_by_label("Your message"), *chats
    desk.route("**/helpdesk/desk/*/messages", lambda route: held.append(route))
    first.click()
    message.fill("For the first.")
    with desk.expect_request("**/helpdesk/desk/*/messages"):
        message.press("Enter")
    expect(message).not_to_be_editable()
    second.click()
    message.fill("For the second.")
    held.pop().continue_()
    expect(first).to_contain_text("For the first.")
    first.click()
    expect(message).to_have_value("")
    second.click()
    expect(message).to_have_value("For the second.")
    context.close()


@pytest.mark.parametrize("width", [360, 1_280])
def test_both_pages_are_accessible(browser: Browser, runtime: LocalRuntime, width: int) -> None:
    axe = (REPOSITORY / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 800}, bypass_csp=True)
    patient, desk = context.new_page(), context.new_page()
    patient.goto(f"{_address(runtime)}/patient")
    assert patient.evaluate(f"{axe};{RUN_AXE}") == []
    patient.get_by_label("Your message").fill(ASKED)
    patient.keyboard.press("Enter")
    expect(patient.locator(".messages .own")).to_have_count(1)
    assert patient.evaluate(f"{axe};{RUN_AXE}") == []
    desk.goto(f"{_address(runtime)}/")
    desk.locator(".queue button").last.click()
    expect(_panel(desk).locator(".chat-bar")).to_be_visible()
    assert desk.evaluate(f"{axe};{RUN_AXE}") == []
    context.close()
