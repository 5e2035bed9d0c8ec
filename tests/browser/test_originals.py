"""Tables of a document as tables, and its original file at the cited page: in the page of a link and in the
console."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from playwright.sync_api import expect

from assistant.documents.formats import convert
from assistant.documents.parsing.render import render
from tests.browser.answers import REFILL, refill_document
from tests.browser.console_page import OpenConsole
from tests.browser.stand_in import StandIn

PDF = (Path(__file__).parents[1] / "data" / "tariff.pdf").read_bytes()


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
