"""Walks what ``make demo`` leaves, in Chromium: offered questions, lines of the simulated patients, each
role's first page, each link, and from a message to the agent's own reply. The demo is the real command,
started once in a new state folder. By night with the clinic, which loads longest, and with every story.

``CHATS=24`` (``check-helpdesk``) takes chats of writers who saw neither code nor documents, and prints the
agent's actions and the product's seconds: the driver acts as soon as it can.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, BrowserContext, FrameLocator, Locator, Page, Route, expect

from assistant.evaluation.questions import load_rows
from assistant.evaluation.trials import WrittenChat
from assistant.options.helpdesk.chats import MOST_CHARACTERS
from assistant.options.helpdesk.patients import Story, shipped_stories
from assistant.tenant.tenant import load_tenant
from tests.browser.conftest import STEP_LIMIT_MS
from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.product import REPOSITORY
from tests.conftest import AT_NIGHT

LOAD_LIMIT_S = 240.0
CHATS = int(os.environ.get("CHATS", "1"))
ASKED = "My card was charged twice for one order. When do I get my money back?"
HOWS = ("stopped", "found", "nothing")
WRITTEN = "I look into it and write to you here."
RUN_AXE = """
axe.run(document, { resultTypes: ["violations"] }).then(({ violations }) => violations.map(
  ({ id, nodes }) => `${id} ${nodes[0].html}`))
"""
QUOTING = "shop"
"""Its answers are never written by a model."""
RED, EMERGENCY = ".notice.bad, .badge.bad", re.compile("Call: |^Emergency$")
"""What is red, and the words of what is meant to be: a banner, and its cases at the review desk."""
SAID = re.compile(r"\S.{10}", re.DOTALL)
"""A reply that has some words."""
pytestmark = pytest.mark.timeout(600)
NIGHT = pytest.mark.night
BY_DAY = ("A warm insulin parcel", "A swelling face")
"""The stories of each change: the first has most lines, the second is an emergency."""
STORIES = [
    pytest.param(story, id=story.name, marks=() if story.name in BY_DAY else NIGHT)
    for story in shipped_stories()
]


@dataclass(frozen=True)
class Demo:
    """A demo that runs, and what its terminal has shown."""

    terminal: Path

    @property
    def lines(self) -> list[str]:
        return self.terminal.read_text(encoding="utf-8").splitlines()

    def await_line(self, words: str) -> str:
        """Return the first line with these words."""
        until_s = time.monotonic() + LOAD_LIMIT_S
        while time.monotonic() < until_s:
            if found := next((line for line in self.lines if words in line), None):
                return found
            time.sleep(0.2)
        raise AssertionError("\n".join((f"no {words}:", *self.lines)))

    def address(self, page: str) -> str:
        return self.await_line(f"{page}  http").split()[-1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    folder = tmp_path_factory.mktemp("demo")
    for beside in ("knowledge", "evaluation", "model_artifacts"):
        (folder / beside).symlink_to(REPOSITORY / beside)
    ignored = shutil.ignore_patterns("connectors", *(() if AT_NIGHT else ("clinic.toml",)))
    tenants = shutil.copytree(REPOSITORY / "tenants", folder / "tenants", ignore=ignored)
    (tenants / "connectors").symlink_to(REPOSITORY / "tenants" / "connectors")
    options = ("--tenants", str(tenants), "--state", str(folder / "state"), "--port", "0")
    command = (sys.executable, "-m", "assistant.cli.main", *options, "demo")
    environment = {name: value for name, value in os.environ.items() if name != "CI"}
    with (folder / "terminal").open("wb") as terminal:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=environment, stdout=terminal, stderr=subprocess.STDOUT
        )
        try:
            yield Demo(folder / "terminal")
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def assert_sound(page: Page, *, at: str) -> None:
    """Assert that nothing of the page is red, and that each of its links leads somewhere: on this machine to
    a page, elsewhere to a name that can exist (RFC 2606 reserves the others)."""
    frames = [frame.locator("body") for frame in page.frames]
    red = [text for body in frames for text in body.locator(RED).all_inner_texts()]
    assert [text for text in red if not EMERGENCY.search(text)] == [], at
    links: list[str] = [
        url for body in frames for url in body.locator("a[href]").evaluate_all("all => all.map(a => a.href)")
    ]
    for url in sorted({link.partition("#")[0] for link in links if link.startswith("http")}):
        host = urlsplit(url).hostname or ""
        assert not host.endswith((".example", ".test", ".invalid", "example.com")), f"{at}: {url}"
        if host in ("127.0.0.1", "localhost"):
            assert httpx.get(url, timeout=10).status_code == 200, f"{at}: {url}"


@pytest.mark.parametrize("story", STORIES)
def test_every_line_of_a_simulated_patient_gets_a_reply(demo: Demo, browser: Browser, story: Story) -> None:
    demo.await_line("pharmacy: ")
    context = browser.new_context(viewport={"width": 1400, "height": 900})
    context.set_default_timeout(60_000)
    patient, desk = context.new_page(), context.new_page()
    desk.goto(demo.address("Agents' desk"))
    patient.goto(demo.address("A patient"))
    for number, line in enumerate(story.lines, start=1):
        patient.get_by_label("Your message").fill(line)
        patient.keyboard.press("Enter")
        expect(patient.locator(".messages .own")).to_have_count(number)
        chat = patient.evaluate("sessionStorage.getItem('helpdesk-chat')")[:6]
        row = desk.locator(f".queue button[data-chat='{chat}']")
        expect(row).to_contain_text(line[:20])
        row.click()
        panel = desk.frame_locator("aside iframe")
        expect(panel.locator(".chat-bar strong")).to_contain_text(chat)
        reply_to(panel)
        assert_sound(desk, at=line)
        panel.get_by_role("button", name="Send", exact=True).click()
        expect(patient.locator(".messages .other")).to_have_count(number)
    assert_sound(patient, at=story.name)
    context.close()


def reply_to(panel: FrameLocator) -> None:
    """Let the customer's message be answered, and a reply be written."""
    answer = panel.get_by_role("button", name="Answer the customer")
    answer.click()
    expect(answer).to_be_enabled()  # it is not while an answer is written
    reply: Locator = panel.get_by_label("Your reply to the patient")
    edit = panel.locator("#edit-reply")
    expect(reply.or_(edit).first).to_be_visible()
    if not reply.is_visible():
        edit.click()
    if panel.get_by_text("Nothing to answer").count():  # thanks
        reply.fill("You are welcome.")
    expect(reply).to_have_value(SAID)
    send = panel.get_by_role("button", name="Send", exact=True)
    expect(send).to_be_enabled()
    if (use := panel.get_by_role("button", name="I checked: use it")).count():  # the check found something
        panel.get_by_label("Why is it right?").fill("911 was called for this.")
        use.click()
        expect(send).to_be_enabled()


@pytest.mark.parametrize("role", ["agent", "knowledge_owner", "auditor", "reviewer", "manager"])
def test_the_first_page_of_each_role_is_sound(demo: Demo, open_console: OpenConsole, role: str) -> None:
    console: ConsolePage = open_console(demo.address("Console"))
    console.sign_in(roles=(role,))
    expect(console.page.locator("main")).to_be_visible()
    expect(console.page.locator(".progress")).to_have_count(0)
    assert_sound(console.page, at=role)


@pytest.mark.parametrize("tenant", ["pharmacy", "shop", pytest.param("clinic", marks=NIGHT)])
def test_every_offered_question_has_an_answer_and_a_reply(
    demo: Demo, open_console: OpenConsole, tenant: str
) -> None:
    demo.await_line(f"{tenant}: ")  # its documents are loaded
    console = open_console(demo.address("Console"))
    console.sign_in(tenant=tenant)
    offered = load_tenant(REPOSITORY / "tenants" / f"{tenant}.toml").answers.examples
    for question in offered:
        console.page.locator(".examples button", has_text=question).click()
        console.await_end()
        expect(console.answer).to_be_visible()
        if tenant != QUOTING:
            console.edit_reply()
            expect(console.reply).to_have_value(SAID)
        assert_sound(console.page, at=question)
        console.button("New question").click()


def test_the_terminal_begins_with_the_address_and_stays_short(demo: Demo) -> None:
    demo.await_line("All tenants are loaded")
    assert demo.lines[0].startswith("Console  http://127.0.0.1:")
    assert len(demo.lines) <= 40, demo.lines


# --- a message and the agent's own reply ---
@dataclass(frozen=True)
class Walked:
    """One message and its reply.

    ``how`` the agent came to the own text: beside what was ``found``, one that the guard before *Send*
    ``stopped``, or where there was ``nothing``.
    """

    actions: int
    seconds: float
    how: str


@pytest.fixture
def desk(browser: Browser, demo: Demo) -> Iterator[Page]:
    demo.await_line("pharmacy: ")
    context = _context(browser, width=1_400)
    page = context.new_page()
    page.goto(demo.address("Agents' desk"))
    yield page
    context.close()


def _context(browser: Browser, *, width: int) -> BrowserContext:
    context = browser.new_context(viewport={"width": width, "height": 900})
    context.set_default_timeout(STEP_LIMIT_MS)
    return context


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
    desk: Page, browser: Browser, demo: Demo
) -> None:
    found: list[Walked] = []
    for text in _messages():
        context = _context(browser, width=420)
        patient = context.new_page()
        patient.goto(demo.address("A patient"))
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
    desk: Page, browser: Browser, demo: Demo
) -> None:
    context, chats, held = _context(browser, width=420), list[Locator](), list[Route]()
    for text in ("First.", "Second."):
        patient = context.new_page()
        patient.goto(demo.address("A patient"))
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
def test_both_pages_are_accessible(browser: Browser, demo: Demo, width: int) -> None:
    axe = (REPOSITORY / "node_modules/axe-core/axe.min.js").read_text(encoding="utf-8")
    context = browser.new_context(viewport={"width": width, "height": 800}, bypass_csp=True)
    patient, desk = context.new_page(), context.new_page()
    patient.goto(demo.address("A patient"))
    assert patient.evaluate(f"{axe};{RUN_AXE}") == []
    patient.get_by_label("Your message").fill(ASKED)
    patient.keyboard.press("Enter")
    expect(patient.locator(".messages .own")).to_have_count(1)
    assert patient.evaluate(f"{axe};{RUN_AXE}") == []
    desk.goto(demo.address("Agents' desk"))
    desk.locator(".queue button").last.click()
    expect(_panel(desk).locator(".chat-bar")).to_be_visible()
    assert desk.evaluate(f"{axe};{RUN_AXE}") == []
    context.close()
