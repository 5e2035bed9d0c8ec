"""A reply to the patient in a real browser: written into the editor, checked, and written anew."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Route, expect

from tests.browser.console_page import ConsolePage
from tests.browser.product import Held
from tests.browser.stand_in import SUPPORTED, StandIn, done, refill_sources, units

OpenConsole = Callable[..., ConsolePage]
WRONG = "Your plan pays from day 25."
RIGHT = "Your plan pays from day 23."
FOUND = {"kind": "not_held", "start": 0, "end": len(WRONG), "values": ["25"], "id": "f1"}


@pytest.fixture
def console(stand_in: StandIn, answered: OpenConsole) -> ConsolePage:
    held = Held()
    held.released.set()
    stand_in.replies = [
        (
            ("token", {"text": "Your plan pays "}),
            held,
            ("token", {"text": "from day 25."}),
            done(checks=[FOUND]),
        ),
        (("token", {"text": RIGHT}), done()),
    ]
    stand_in.checks, stand_in.guards = {WRONG: [FOUND]}, {"pharmacy": "reason"}
    return answered(refill_sources(), *units((SUPPORTED, "supported", [1])), done(mode="written"))


def test_faults_open_before_anything_is_used_and_a_text_with_them_goes_with_a_reason(
    console: ConsolePage, stand_in: StandIn, check: Callable[[ConsolePage], None]
) -> None:
    console.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    console.page.evaluate("navigator.clipboard.writeText('before')")
    console.button("Reply to the patient").click()
    expect(console.reply).to_have_value(WRONG)
    faults = console.page.locator("#reply-faults")
    expect(faults).to_contain_text("Nothing of this answer says 25")
    check(console)
    for key in ("Record as sent", "Copy"):
        console.button(key).click()
        expect(faults).to_be_focused()
    assert console.page.evaluate("navigator.clipboard.readText()") == "before"
    assert stand_in.marks == []
    use = console.button("I checked: use it")
    expect(use).to_be_disabled()
    console.page.get_by_label("Why is it right?").fill("The plan changed today.")
    use.click()
    console.button("Copy").click()
    expect(console.button("Copied")).to_be_visible()
    assert console.page.evaluate("navigator.clipboard.readText()") == WRONG
    console.button("Record as sent").click()
    expect(console.page.get_by_text("Recorded as sent at")).to_be_visible()
    [sent] = [body for kind, body in stand_in.marks if kind == "sent"]
    assert (sent["confirmed"], sent["reason"]) == (["f1"], "The plan changed today.")


def test_a_reply_goes_once_and_as_checked_however_slow_the_check_is(
    console: ConsolePage, stand_in: StandIn
) -> None:
    console.button("Reply to the patient").click()
    expect(console.reply).to_have_value(WRONG)
    held: list[Route] = []
    console.page.route("**/reply/check", lambda route: held.append(route))
    console.reply.fill(RIGHT)
    console.wait_until(lambda: len(held) == 1)
    held.pop().continue_()
    console.reply.press("Control+Enter")
    console.wait_until(lambda: len(held) == 1)
    expect(console.reply).not_to_be_editable()
    console.reply.press("Control+Enter")
    console.question.fill("What about the next one?")
    held.pop().continue_()
    expect(console.page.get_by_text("Recorded as sent at")).to_have_count(1)
    expect(console.question).to_be_focused()
    assert [body["text"] for kind, body in stand_in.marks if kind == "sent"] == [RIGHT]
    assert held == []
