"""Live data in the console with nothing stood in: the real service, and the sample order system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime

import httpx
import pytest
from playwright.sync_api import expect

from assistant.laptop.tokens import CareCase, Grant, issue_context
from tests.browser.console_page import ConsolePage
from tests.browser.product import Product
from tools.systems import read_order_data

QUESTION = "Where is her order, and may I refill it?"
CASE = CareCase("PT-204417", {"order": ("4471-2208",), "prescription": ("7301842-04417",)})
ANOTHER = CareCase("PT-300001", {"order": ("4471-2208",), "prescription": ("7301842-04417",)})
"""A context by mistake: the ids are not of its customer."""
STEP = "Read the order's status from the order system, not from an older note:"

Check = Callable[[ConsolePage], None]


@pytest.fixture
def orders(product: Product) -> Iterator[httpx.Client]:
    """The order system, well again at the end."""
    with httpx.Client(base_url=product.addresses["orders"], timeout=10, trust_env=False) as client:
        yield client
        client.put("/control/fault", content="")


@pytest.fixture
def of_the_customer() -> tuple[str, ...]:
    """What an answer shows of the case, as the console writes it. The system counts its dates from today."""
    data = read_order_data(today=datetime.now(UTC).date())
    [promised] = [row["promised_on"] for row in data["deliveries"] if row["order_id"] in CASE.ids["order"]]
    [fill] = [
        row["next_fill_date"]
        for row in data["prescriptions"]
        if row["prescription_id"] in CASE.ids["prescription"]
    ]
    days = map(date.fromisoformat, (promised, fill))
    shown = (f"{day:%b} {day.day}, {day.year}" for day in days)
    return ("Delayed", "Filled and shipped", *shown)


def in_conversation(console: ConsolePage, product: Product, case: CareCase) -> None:
    """Sign in, and come from the care application with a context that it signed."""
    console.sign_in()
    token = issue_context(
        case,
        Grant("pharmacy", "amira"),
        state_dir=product.state,
        issuer="https://care.pharmacy.example.com",
        audience="assistant-context",
    )
    console.page.evaluate("token => { location.hash = `context=${token}` }", token)
    expect(console.page.locator(".context-bar")).to_contain_text(f"Live data of {case.customer}")


def test_the_steps_of_a_procedure_show_the_live_order(
    console: ConsolePage,
    product: Product,
    orders: httpx.Client,
    check: Check,
    of_the_customer: tuple[str, ...],
) -> None:
    in_conversation(console, product, CASE)
    console.ask_to_the_end(QUESTION)
    expect(console.answer).to_contain_text(STEP)
    status = console.page.get_by_role("group", name="Order status, order 4471-2208: Delayed").first
    expect(status).to_contain_text("orders, ")
    for words in of_the_customer:
        expect(console.answer).to_contain_text(words)
    expect(console.answer.locator(".element:not(.ready)")).to_have_count(0)
    check(console)


def test_while_the_order_system_is_down_the_text_stands_and_a_second_try_fills_it(
    console: ConsolePage,
    product: Product,
    orders: httpx.Client,
    check: Check,
    of_the_customer: tuple[str, ...],
) -> None:
    orders.put("/control/fault", content="status=503")
    in_conversation(console, product, CASE)
    console.ask_to_the_end(QUESTION)
    expect(console.answer).to_contain_text(STEP)
    failed = console.answer.locator(".element.failed").first
    expect(failed).to_contain_text("orders did not answer")
    assert not [words for words in of_the_customer if words in console.answer.inner_text()]
    check(console)
    orders.put("/control/fault", content="")

    def filled() -> bool:
        """Try again until the system's circuit has closed."""
        again = console.answer.get_by_role("button", name="Try again").first
        if again.is_visible() and again.is_enabled():
            again.click()
        return console.answer.locator(".element.ready").count() > 0

    console.wait_until(filled)
    assert [words for words in of_the_customer if words in console.answer.inner_text()]


def test_another_customer_s_context_shows_the_text_and_no_value(
    console: ConsolePage,
    product: Product,
    orders: httpx.Client,
    check: Check,
    of_the_customer: tuple[str, ...],
) -> None:
    in_conversation(console, product, ANOTHER)
    console.ask_to_the_end(QUESTION)
    expect(console.answer).to_contain_text(STEP)
    expect(console.answer.locator(".element.not_allowed").first).to_be_visible()
    expect(console.answer.locator(".element.ready")).to_have_count(0)
    assert not [words for words in of_the_customer if words in console.answer.inner_text()]
    check(console)
