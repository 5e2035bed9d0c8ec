"""An unasked suggestion in a real browser: shown, opened as an answer, put into the reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Route, expect

from tests.browser.answers import SUPPORTED, done, refill_sources, units
from tests.browser.console_page import ConsolePage
from tests.browser.stand_in import StandIn

LINE = "Your plan pays from day 23."
SUGGESTION = {
    "suggestion_id": "s1",
    "document_id": "refill",
    "title": "Refills",
    "heading": "When",
    "lines": [LINE],
    "document_url": "/d",
    "step": 17,
}
FLAG = {"name": "chest_pain", "text": "Possible heart attack. Dial 911 now.", "call": "911"}
HAND_OVER = """turns => dispatchEvent(new CustomEvent("assistant:turns", { detail: turns }))"""
TURNS = [{"who": "agent", "text": "Hello"}, {"who": "customer", "text": "When may I refill?"}]


def test_a_suggestion_is_opened_and_put_into_the_reply(
    stand_in: StandIn, at: Callable[..., ConsolePage], check: Callable[[ConsolePage], None]
) -> None:
    stand_in.answers(refill_sources(), *units((SUPPORTED, "supported", [1])), done(mode="written"))
    console, asked = at(), list[Any]()
    read: dict[str, Any] = {"red_flags": [FLAG], "suggestion": None}

    def answer(route: Route) -> None:
        asked.append(route.request.post_data_json)
        route.fulfill(json=read if route.request.url.endswith("/v1/turns") else {})

    console.page.route("**/v1/turns**", answer)
    console.page.evaluate(HAND_OVER, TURNS)
    expect(console.page.get_by_role("alert")).to_contain_text("Call: 911")
    check(console)
    read |= {"red_flags": [], "suggestion": SUGGESTION}
    console.page.evaluate(HAND_OVER, TURNS)
    bar = console.page.get_by_role("region", name="Suggestion")
    expect(bar).to_contain_text(LINE)
    check(console)
    bar.get_by_role("button", name="Open as an answer").click()
    bar.get_by_role("button", name="Put into the reply").click()
    expect(bar).to_have_count(0)
    expect(console.reply).to_have_value(LINE)
    console.wait_until(lambda: len(asked) == 4)
    assert [(one["kind"], one["step"]) for one in asked[2:]] == [("opened", 17), ("inserted", 17)]
    assert (
        console.page.evaluate("JSON.stringify([{...localStorage}, {...sessionStorage}])").count("Hello") == 0
    )
