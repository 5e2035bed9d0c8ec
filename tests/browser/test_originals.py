"""Tables of a document as tables, and its original file at the cited page: in the page of a link and in the
console."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Route, expect

from assistant.documents.formats import convert
from assistant.documents.parsing.render import render
from assistant.service.documents import _link_page  # pyright: ignore[reportPrivateUsage]
from tests.browser.answers import REFILL, refill_document
from tests.browser.console_page import OpenConsole
from tests.browser.stand_in import StandIn

PDF = (Path(__file__).parents[1] / "data" / "tariff.pdf").read_bytes()
SERVICE = "http://service.test"


def stored() -> dict[str, Any]:
    """The tariff as the service sends it: the last row of the first table is cited, said to be on page 2."""
    parsed = render(convert("tariff.pdf", PDF)).parsed
    cited = parsed.tables[0].rows[-1]
    tables = [
        {"header": table.header, "rows": [[(cell.start, cell.end) for cell in row] for row in table.rows]}
        for table in parsed.tables
    ]
    sections = [
        {"headings": part.headings, "start": part.span.start, "end": part.span.end}
        for part in parsed.sections
    ]
    return {
        "title": "Tariff",
        "text": parsed.text,
        "sections": sections,
        "span": (parsed.text.rindex("Plan", 0, cited[0].start), cited[-1].end),
        "tables": tables,
        "original": {"name": "tariff.pdf", "media_type": "application/pdf", "page": 2},
    }


@pytest.fixture
def linked(browser: Browser) -> Page:
    """The page of a link, with its own headers, before a service that has the tariff."""
    document = stored() | {"is_cited_version": True}

    def answer(route: Route) -> None:
        asked = json.loads(route.request.post_data or "")
        assert asked["token"] == "secret"
        if asked["format"] == "original":
            route.fulfill(body=PDF, content_type="application/pdf")
        else:
            route.fulfill(json=document)

    html, headers = _link_page()
    page = browser.new_page()
    page.route(f"{SERVICE}/v1/documents/linked", answer)
    page.route(
        f"{SERVICE}/open",
        lambda route: route.fulfill(body=html, headers={**headers, "content-type": "text/html"}),
    )
    page.goto(f"{SERVICE}/open#secret")
    return page


def test_a_link_shows_tables_and_opens_the_original_at_its_page(linked: Page) -> None:
    expect(linked.locator("table")).to_have_count(2)
    expect(linked.locator("th").first).to_have_text("Plan")
    expect(linked.locator("tr.cited td")).to_have_text(["World", "$39.00", "$44.00", "unlimited"])
    expect(linked.locator("pre").first).not_to_contain_text("World")
    linked.get_by_role("button", name="Open the original at page 2").click()
    linked.wait_for_url("blob:**")
    assert linked.url.endswith("#page=2")
    assert "secret" not in linked.url


def test_the_console_shows_tables_and_opens_the_original_at_its_page(
    answered: OpenConsole, stand_in: StandIn
) -> None:
    stand_in.documents[REFILL] = refill_document() | stored()
    console = answered()
    console.citations.first.click()
    table = console.panel.locator("table").first
    expect(table.locator("th")).to_have_text(["Plan", "Fee private", "Fee business", "Minutes"])
    expect(table.locator("tr", has=console.page.locator("mark"))).to_contain_text("World")
    console.page.route("**/*format=original*", lambda route: route.fulfill(body=PDF))
    with console.page.context.expect_page() as opened:
        console.panel.get_by_role("button", name="Open the original at page 2").click()
    assert opened.value.url.startswith("blob:")
    assert opened.value.url.endswith("#page=2")
