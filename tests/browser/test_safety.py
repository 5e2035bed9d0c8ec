"""What the console prevents a hostile answer, document or tab from doing.

In every test of this folder, the fixture fails on policy violations and on requests that leave the machine.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Route, expect

from assistant.service.app import content_security_policy
from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.product import ScriptedLlm
from tests.browser.stand_in import QUESTION, SUPPORTED, done, refill_sources, units
from tests.browser.stand_in import policy as stand_in_policy

HOSTILE = (
    '<img src="https://evil.example/x" onerror="document.title=1"><script>document.title=2</script> '
    '[click](javascript:alert(3)) <a href="https://evil.example">here</a> <style>body{display:none}</style>'
)


def test_markup_in_an_answer_is_shown_as_text(answered: OpenConsole) -> None:
    console = answered(refill_sources(), *units((f"{HOSTILE}. {SUPPORTED}", "supported", [1])), done())
    expect(console.answer).to_contain_text('<img src="https://evil.example/x"')
    expect(console.answer.locator("img, script, style, a")).to_have_count(0)
    expect(console.page).to_have_title(re.compile("Answers"))


def test_markup_in_a_question_is_shown_as_text(stage: ConsolePage, llm: ScriptedLlm) -> None:
    llm.says(SUPPORTED)
    stage.sign_in()
    stage.ask_to_the_end(f"{QUESTION} {HOSTILE}")
    expect(stage.page.locator("#question-title")).to_contain_text("<script>")
    expect(stage.page.locator("#question-title *")).to_have_count(0)


def test_trusted_types_block_markup(console: ConsolePage) -> None:
    console.open()
    refused = console.page.evaluate(
        "(() => { try { document.body.innerHTML = '<b>x</b>'; return false; } catch { return true; } })()"
    )
    assert refused
    console.wait_until(lambda: bool(console.faults.violations and console.faults.errors))
    assert [violation.split()[0] for violation in console.faults.violations] == ["require-trusted-types-for"]
    console.faults.violations.clear()
    console.faults.errors.clear()


def test_the_token_is_only_in_memory(console: ConsolePage) -> None:
    console.sign_in()
    stored: str = console.page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie])"
    )
    assert "eyJ" not in stored
    assert json.loads(stored)[0] == {}
    assert "code=" not in console.page.url


def test_signing_out_removes_the_conversation(stage: ConsolePage, llm: ScriptedLlm) -> None:
    llm.says(SUPPORTED)
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    stage.edit_reply()
    stage.button("Sign out").click()
    expect(stage.button("Sign in")).to_be_visible()
    assert stage.page.evaluate("sessionStorage.length") == 0


def test_the_next_agent_in_a_tab_sees_nothing_of_the_previous_one(
    stage: ConsolePage, llm: ScriptedLlm
) -> None:
    llm.says(SUPPORTED)
    stage.sign_in(agent="amira")
    stage.ask_to_the_end(QUESTION)
    stage.edit_reply()
    stage.reply.fill("About patient 4711")
    stage.page.context.clear_cookies()  # the issuer has forgotten her: the reload asks who it is
    stage.page.reload()
    stage.button("Sign in").click()
    stage.page.get_by_label("Tenant").select_option("pharmacy")
    stage.page.get_by_label("Agent name").fill("ben")
    stage.button("Sign in").click()
    expect(stage.question).to_be_visible()
    expect(stage.turns).to_have_count(0)
    stage.wait_until(lambda: "ben" in stage.page.evaluate("JSON.stringify({...sessionStorage})"))
    assert "4711" not in stage.page.evaluate("JSON.stringify({...sessionStorage})")


def test_an_expired_sign_in_keeps_the_unsent_edit(stage: ConsolePage, llm: ScriptedLlm) -> None:
    llm.says(SUPPORTED)
    stage.sign_in()
    stage.ask_to_the_end(QUESTION)
    stage.edit_reply()
    stage.reply.fill("Half a reply on code 79")
    problem = {
        "title": "Sign in",
        "status": 401,
        "detail": "x",
        "code": "unauthenticated",
        "retryable": False,
    }
    stage.page.route("**/sent", lambda route: route.fulfill(status=401, json=problem))
    stage.button("Record as sent").click()
    expect(stage.page.locator(".banner")).to_contain_text("Your sign-in has ended")
    stage.page.unroute("**/sent")
    stage.button("Sign in again").click()
    expect(stage.reply).to_have_value("Half a reply on code 79")
    stage.button("Record as sent").click()
    expect(stage.page.locator(".sent-list summary")).to_have_count(1)


def test_the_stand_in_has_the_policy_of_the_service() -> None:
    issuer = "http://127.0.0.1:1"
    assert stand_in_policy(issuer) == content_security_policy(issuer)


@pytest.mark.parametrize("name", ["console.js", "console.css", "index.html"])
def test_the_build_contains_no_external_address(name: str) -> None:
    dist = Path(__file__).parents[2] / "assistant" / "service" / "console" / "dist"
    text = (dist / name).read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[\w.-]+", text))
    shown = "http://127.0.0.1"  # in the command that gives the demo a model
    assert addresses <= {"http://www.w3.org", shown}, "only XML name spaces, which are never loaded"


def test_a_document_link_opens_anywhere_and_its_token_is_never_sent_in_an_address(
    stage: ConsolePage, llm: ScriptedLlm, browser: Browser
) -> None:
    llm.says(SUPPORTED)
    stage.sign_in()
    answers: list[str] = []

    def keep(route: Route) -> None:  # Chromium may drop the body of a stream that the page has read
        response = route.fetch()
        answers.append(response.text())
        route.fulfill(response=response)

    stage.page.route("**/v1/answers", keep)
    stage.ask_to_the_end(QUESTION)
    found = re.search(r'"document_url":"(/open#[^"]+)"', answers[0])
    assert found is not None
    _, _, token = found[1].partition("#")
    context = browser.new_context()
    try:
        page = context.new_page()
        sent: list[str] = []
        page.on("request", lambda request: sent.append(f"{request.url} {request.headers.get('referer')}"))
        page.goto(stage.url + found[1])
        expect(page.locator("mark")).not_to_be_empty()
        expect(page.locator("h1")).not_to_have_text("Opening…")
        assert [token in address for address in sent] == [False, False]
        assert token not in page.evaluate("location.href")
    finally:
        context.close()
