"""Walks what ``make demo`` leaves, in Chromium: every offered question, every line of the simulated patients,
each role's first page, and each link. The demo is the real command, started once in a new state folder; the
clinic, which loads longest, comes last."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Browser, FrameLocator, Locator, Page, expect

from assistant.options.helpdesk.patients import Story, shipped_stories
from assistant.tenant.tenant import load_tenant
from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.product import REPOSITORY

LOAD_LIMIT_S = 240.0
QUOTING = "shop"
"""Its answers are never written by a model."""
RED, EMERGENCY = ".notice.bad, .badge.bad", re.compile("Call: |^Emergency$")
"""What is red, and the words of what is meant to be: a banner, and its cases at the review desk."""
SAID = re.compile(r"\S.{10}", re.DOTALL)
"""A reply that has some words."""
pytestmark = pytest.mark.timeout(600)


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
    command = (
        sys.executable,
        "-m",
        "assistant.cli.main",
        "--state",
        str(folder / "state"),
        "--port",
        "0",
        "demo",
    )
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


@pytest.mark.parametrize("story", shipped_stories(), ids=lambda story: story.name)
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


@pytest.mark.parametrize("tenant", ["pharmacy", "shop", "clinic"])
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
