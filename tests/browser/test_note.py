"""The note of a conversation in a real browser: made on request, shown and copied."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from playwright.sync_api import Route, expect

from tests.browser.console_page import ConsolePage

NOTE = "28 Nov 2026, 10:02 to 10:04 CST\n\nAsked 10:02: When may it be refilled?\n  On day 23.\n"


def test_the_note_is_shown_and_copied(
    answered: Callable[..., ConsolePage], check: Callable[[ConsolePage], None]
) -> None:
    console, asked = answered(), list[Any]()

    def note(route: Route) -> None:
        asked.append(route.request.headers["accept"])
        route.fulfill(status=200, content_type="text/plain", body=NOTE)

    console.page.route("**/v1/conversations/*/note?zone=*", note)
    console.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    console.button("Note of this conversation").click()
    dialog = console.page.get_by_role("dialog", name="Note of this conversation")
    expect(dialog.get_by_role("textbox")).to_have_value(NOTE)
    assert asked == ["text/plain"]
    check(console)
    dialog.get_by_role("button", name="Copy").click()
    expect(dialog.get_by_role("button", name="Copied: the note")).to_be_visible()
    assert console.page.evaluate("navigator.clipboard.readText()") == NOTE
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
