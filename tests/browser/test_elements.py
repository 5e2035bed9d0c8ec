"""Live data in an answer: it fills while the text stands, says where it is from and when, and stays text."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.answers import done, refill_sources, units
from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.scripted_llm import Held
from tests.browser.stand_in import StandIn

PHONE = {"width": 320, "height": 700}
LABEL = "[order status]"
TEXT = f"1. Open the order. It is {LABEL} now.\n"
AS_OF = "2026-11-21T14:02:00Z"
QUESTION = "Where is her order?"
HOSTILE = '<img src=x onerror="alert(1)"> **bold** [x](javascript:alert(1)) {{orders.status}}'

Open = OpenConsole
Check = Callable[[ConsolePage], None]


def value(label: str, text: str, **changes: Any) -> dict[str, Any]:
    name = label.lower().replace(" ", "_")
    return {"name": name, "label": label, "text": text, "tone": "neutral", "citations": [], **changes}


def element(**changes: Any) -> tuple[str, dict[str, Any]]:
    """The event of an element that waits; its place is the label in ``TEXT``."""
    start = TEXT.index(LABEL)
    body: dict[str, Any] = {
        "id": "e1",
        "name": "orders.status",
        "kind": "status",
        "state": "pending",
        "title": "Order status",
        "source": "orders",
        "as_of": None,
        "about": "order 4471-2208",
        "data": None,
        "problem": None,
        "detail": "",
        "retryable": False,
        "display": {"place": "inline", "start": start, "end": start + len(LABEL)},
    }
    return "element", body | changes


def ready(*values: dict[str, Any], **changes: Any) -> tuple[str, dict[str, Any]]:
    of = changes.get("id", "e1")
    texts = [{"element_id": of, "value": value["text"], "mac": "1795773600.code"} for value in values]
    return element(state="ready", as_of=AS_OF, data={"values": list(values)}, texts=texts, **changes)


def failed(**changes: Any) -> tuple[str, dict[str, Any]]:
    detail = "orders did not answer. Try again, or look there yourself."
    return element(
        state="failed", problem="system_unavailable", detail=detail, **({"retryable": True} | changes)
    )


def script(*events: Any, **ending: Any) -> tuple[Any, ...]:
    return (refill_sources(), *units((TEXT, "supported", [1])), *events, done(mode="quoted", **ending))


def comparison() -> tuple[str, dict[str, Any]]:
    columns = [value("Price", ""), value("Noise", ""), value("Reviews", "")]
    rows = [
        {
            "title": "Quiet Mist 200",
            "citations": [1],
            "values": [
                value("Price", "$59.00"),
                value("Noise", "24 dB", tone="good"),
                value("Reviews", "4.4 of 5", citations=[2]),
            ],
        },
        {
            "title": "Arctic Breeze Pro with a name that is long",
            "citations": [3],
            "values": [value("Price", "$84.50"), value("Reviews", "3.1 of 5", tone="warning")],
        },
    ]
    place = {"place": "block", "start": len(TEXT), "end": len(TEXT)}
    return element(
        id="e2",
        name="catalogue.comparison",
        kind="table",
        state="ready",
        title="Comparison",
        source="catalogue",
        as_of="2026-11-03",
        about="",
        data={"values": [], "columns": columns, "rows": rows},
        display=place,
    )


def test_an_element_waits_as_a_skeleton_and_fills_while_the_text_stands(
    at: Open, stand_in: StandIn, check: Check
) -> None:
    held = Held()
    stand_in.answers(
        *script(element(), held, ready(value("Status", "Shipped", tone="good"))),
    )
    console = at()
    console.ask(QUESTION)
    waiting = console.answer.locator(".element")
    expect(waiting).to_contain_text("Asking orders")
    expect(console.answer).to_contain_text("Open the order. It is")
    expect(console.answer).not_to_contain_text(LABEL)
    check(console)
    held.released.set()
    console.await_end()
    shown = console.page.get_by_role("group", name="Order status, order 4471-2208: Shipped")
    expect(shown).to_contain_text("orders, ")
    expect(console.answer).to_contain_text("now.")
    check(console)


def test_a_card_shows_its_values_with_their_labels_and_what_was_asked(
    answered: OpenConsole, check: Check
) -> None:
    fields = (value("Status", "Being prepared"), value("Next fill", "24 Nov 2026", tone="warning"))
    console = answered(*script(ready(*fields, kind="card", title="Refill")))
    card = console.answer.locator(".element.is-card")
    for words in ("Refill", "order 4471-2208", "Status", "Being prepared", "Next fill", "24 Nov 2026"):
        expect(card).to_contain_text(words)
    check(console)


def test_an_answer_of_live_values_alone_quotes_no_document(answered: OpenConsole, check: Check) -> None:
    whole = {"place": "inline", "start": 0, "end": len(LABEL)}
    status = ready(value("Status", "Shipped", tone="good"), display=whole)
    console = answered(("token", {"text": LABEL}), status, done(mode="quoted"))
    badge = console.page.locator(".part-head .badge")
    expect(badge).to_have_text("Live values; no document is quoted")
    check(console)


def test_a_failed_element_says_so_and_can_be_asked_again(
    answered: OpenConsole, stand_in: StandIn, check: Check
) -> None:
    stand_in.answers(*script(failed()))
    stand_in.refilled = [ready(value("Status", "Delivered"))[1]]
    console = answered()
    expect(console.answer.locator(".element")).to_contain_text("orders did not answer")
    check(console)
    console.answer.get_by_role("button", name="Try again").click()
    expect(console.answer.locator(".element.ready")).to_contain_text("Delivered")
    assert [path for path, _ in stand_in.tried] == ["/v1/answers/answer-1/elements/e1"]


def test_what_is_not_allowed_offers_no_second_try(answered: OpenConsole, check: Check) -> None:
    detail = "Your role may not see this."
    console = answered(*script(element(state="not_allowed", problem="not_allowed", detail=detail)))
    refused = console.answer.locator(".element.not_allowed")
    expect(refused).to_contain_text(detail)
    expect(refused.get_by_role("button")).to_have_count(0)
    check(console)


def test_data_of_a_system_stay_text(answered: OpenConsole) -> None:
    link = ready(value("Status", HOSTILE), kind="link", title=HOSTILE)
    link[1]["data"]["url"] = "javascript:alert(1)"
    console = answered(*script(link))
    shown = console.answer.locator(".element")
    expect(shown).to_contain_text(HOSTILE)
    expect(shown.locator("img, strong, script, a")).to_have_count(0)


@pytest.mark.parametrize("window", [PHONE, {"width": 1280, "height": 800}], ids=["phone", "desk"])
def test_a_comparison_reads_on_a_phone_and_on_a_desk(
    answered: OpenConsole, check: Check, window: dict[str, int]
) -> None:
    console = answered(*script(comparison()), question="Which one is quieter?", viewport=window)
    table = console.page.get_by_role("table", name="Comparison")
    expect(table.get_by_role("row")).to_have_count(3)
    expect(table.get_by_role("rowheader")).to_have_count(2)
    first = table.get_by_role("row").nth(1)
    expect(first).to_contain_text("Quiet Mist 200")
    expect(first.get_by_role("cell").nth(1)).to_contain_text("24 dB")
    expect(table.get_by_role("row").nth(2)).to_contain_text("not stated")
    expect(console.page.locator(".element-table")).to_contain_text("catalogue, 3 Nov 2026")
    check(console)


def test_a_value_of_a_comparison_opens_the_review_that_it_is_quoted_from(
    answered: OpenConsole,
) -> None:
    console = answered(*script(comparison()), question="Which one is quieter?")
    console.page.get_by_role("table", name="Comparison").get_by_label("Source 2").click()
    expect(console.panel).to_be_visible()


def test_the_page_says_which_sources_were_asked_and_which_did_not_answer(
    answered: OpenConsole, check: Check
) -> None:
    states = {"procedures": "answered", "reviews": "empty", "forum": "late", "community": "not_asked"}
    asked = [{"name": name, "kind": "qa", "weight": 0.25, "state": state} for name, state in states.items()]
    console = answered(*script(asked=asked))
    part = console.page.locator(".asked")
    expect(console.notice).to_contain_text("forum did not answer")
    expect(part).to_contain_text("procedures · reviews (nothing found)")
    expect(part).not_to_contain_text("community")
    check(console)


def test_a_value_in_a_line_of_text_says_what_was_asked(answered: OpenConsole, check: Check) -> None:
    console = answered(*script(ready(value("Status", "Shipped"))))
    shown = console.page.get_by_role("group", name="Order status, order 4471-2208: Shipped")
    expect(shown).to_contain_text("order 4471-2208 · orders, ")
    check(console)


def signed_context(**claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.signature"


def test_an_expired_context_says_where_a_new_one_is_from(at: Open) -> None:
    console = at()
    console.page.evaluate(
        "token => { location.hash = `context=${token}` }", signed_context(customer="C-1042", exp=1)
    )
    expect(console.page.locator(".context-bar")).to_contain_text("link has expired")
