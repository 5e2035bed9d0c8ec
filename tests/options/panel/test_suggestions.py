"""A suggestion in the panel: read from the host's chat, opened as an answer, put into the reply."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect

from tests.options.panel.scene import NOTHING_KEPT, PanelScene, panel_of

LINE = "A refill is due after 25 days."
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


@pytest.mark.parametrize("is_emergency", [True, False])
def test_what_the_chat_gives_is_shown_unasked(
    helpdesk: Callable[..., Page],
    context: BrowserContext,
    scene: PanelScene,
    axe_source: str,
    is_emergency: bool,
) -> None:
    asked: list[Any] = []

    def answer(route: Route) -> None:
        asked.append(route.request.post_data_json)
        flags, suggestion = ([FLAG], None) if is_emergency else ([], SUGGESTION)
        route.fulfill(json={"red_flags": flags, "suggestion": suggestion})

    context.route("**/v1/turns**", answer)
    page = helpdesk(scene.code())
    panel = panel_of(page)
    if is_emergency:
        expect(panel.get_by_role("alert")).to_contain_text("Call: 911")
        return
    bar = panel.get_by_role("region", name="Suggestion")
    expect(bar).to_contain_text(LINE)
    [[turn]] = [one["turns"] for one in asked]
    assert turn["who"] == "customer"
    frame = page.frames[1]
    frame.evaluate(axe_source)
    assert frame.evaluate("axe.run(document).then(({ violations }) => violations.map(({ id }) => id))") == []
    bar.get_by_role("button", name="Open as an answer").click()
    bar.get_by_role("button", name="Insert these lines").click()
    expect(bar).to_have_count(0)
    expect(panel.locator("#reply")).to_have_value(LINE)
    assert [(one["kind"], one["step"]) for one in asked[1:]] == [("opened", 17), ("inserted", 17)]
    assert frame.evaluate(NOTHING_KEPT) == 0
