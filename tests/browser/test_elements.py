"""Live data in an answer: it fills while the text stands, says where it is from and when, and stays text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.console_page import ConsolePage, OpenConsole
from tests.browser.product import Held
from tests.browser.stand_in import StandIn, done, refill_sources, units

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


CARD = (value("Status", "Being prepared"), value("Next fill", "24 Nov 2026", tone="warning"))
WHOLE = {"place": "inline", "start": 0, "end": len(LABEL)}
STATES = {"procedures": "answered", "reviews": "empty", "forum": "late", "community": "not_asked"}
ASKED = [{"name": name, "kind": "qa", "weight": 0.25, "state": state} for name, state in STATES.items()]
REFUSED = {"state": "not_allowed", "problem": "not_allowed", "detail": "Your role may not see this."}
SHOWN: list[tuple[tuple[Any, ...], str, tuple[str, ...]]] = [
    (
        script(ready(*CARD, kind="card", title="Refill")),
        ".element.is-card",
        ("Refill", "order 4471-2208", "Being prepared", "Next fill", "24 Nov 2026"),
    ),
    (
        (("token", {"text": LABEL}), ready(value("Status", "Shipped"), display=WHOLE), done(mode="quoted")),
        ".part-head .badge",
        ("Live values; no document is quoted",),
    ),
    (script(element(**REFUSED)), ".element.not_allowed:not(:has(button))", (REFUSED["detail"],)),
    (script(asked=ASKED), ".asked", ("procedures · reviews (nothing found)",)),
    (script(asked=ASKED), ".sheet :is(.notice, .limit)", ("forum did not answer",)),
]


def test_values_their_refusals_and_the_sources_that_were_asked_are_told(
    at: Open, stand_in: StandIn, check: Check
) -> None:
    console = at()
    for events, place, words in SHOWN:
        stand_in.answers(*events)
        console.ask_to_the_end(QUESTION)
        for word in words:
            expect(console.page.locator(place)).to_contain_text(word)
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
    table.get_by_label("Source 2").click()
    expect(console.panel).to_be_visible()
