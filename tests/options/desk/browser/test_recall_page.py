"""The page of recall in Chromium: changes with counts, replies with their lines, decisions, export."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Locator, expect

from tests.browser.console_page import ConsolePage
from tests.options.desk.browser.conftest import Site

OpenRecall = Callable[..., ConsolePage]
VIEWS: dict[str, dict[str, Any]] = {
    "1280x800": {},
    "dark": {"color_scheme": "dark"},
    "360 px": {"viewport": {"width": 360, "height": 740}},
}


def replies(console: ConsolePage, document: str) -> Locator:
    return console.page.locator(".recall-reply").filter(has_text=f"Title of {document}")


@pytest.mark.parametrize("options", VIEWS.values(), ids=list(VIEWS))
def test_axe_finds_nothing(
    recall: OpenRecall, check: Callable[[ConsolePage], None], options: dict[str, Any]
) -> None:
    console = recall(**options)
    expect(console.page.locator(".recall-reply")).to_have_count(3)
    check(console)
    console.page.get_by_role("button", name="What was sent").first.click()
    expect(console.page.locator(".recall-history")).to_be_visible()
    console.button("Not needed").first.click()
    expect(console.page.get_by_text("Note: say why")).to_be_visible()
    check(console)


def test_changes_have_counts_and_lines_stand_side_by_side(recall: OpenRecall) -> None:
    console = recall()
    table = console.page.get_by_role("region", name="Table of changes")
    expect(table.get_by_role("row").filter(has_text="Title of parking")).to_contain_text(
        "Nobody received words that changed"
    )
    expect(table.get_by_role("row").filter(has_text="Title of wait")).to_contain_text("2 replies")
    lines = replies(console, "wait").first.locator(".recall-line")
    expect(lines.locator("del").first).to_contain_text("two")
    expect(lines.locator("ins").first).to_contain_text("three")
    gone = replies(console, "gone").first
    expect(gone).to_contain_text("Withdrawn: no line stands in its place.")
    expect(gone).not_to_contain_text("5550100")
    expect(replies(console, "wait").filter(has_text="To customer C-1044, chat chat-7")).to_have_count(1)
    link = replies(console, "wait").first.get_by_role("link", name="Open the conversation")
    assert (link.get_attribute("href") or "").startswith("https://desk.example/c/")


def test_a_reply_is_taken_and_closed_and_a_late_decision_is_refused(recall: OpenRecall, site: Site) -> None:
    console = recall()
    console.page.get_by_role("button", name="2 replies on Title of wait").click()
    expect(console.page.locator(".recall-reply")).to_have_count(2)
    first = console.page.locator(".recall-reply").filter(has_text="Sent by ann")
    first.get_by_role("button", name="Take").click()
    expect(first).to_contain_text("Taken by rosa.")
    first.get_by_label("Note").fill("By phone.")
    first.get_by_role("button", name="Patient has the new words").click()
    expect(first.locator(".badge")).to_have_text("Patient has the new words")
    first.get_by_role("button", name="What was sent").click()
    expect(first).to_contain_text("Sent as s1.")
    expect(first.locator(".recall-history li")).to_have_count(3)
    second = console.page.locator(".recall-reply").filter(has_text="Sent by bob")
    (listed,) = [
        item
        for item in site.run(site.scene.listed(document_id="wait"))
        if item["item"]["reply"]["agent"] == "bob"
    ]
    decided = site.scene.decide(listed["item_id"], revision=1, do="not_needed", note="A test.")
    assert site.run(decided).is_success
    second.get_by_role("button", name="Take").click()
    expect(second.locator(".badge")).to_have_text("Not needed")
