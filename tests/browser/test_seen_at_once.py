"""What an agent sees of a quoted answer without scrolling: its marked lines.

The committed questions are asked of the product in a real browser. ``EXAMPLES=new pytest
tests/browser/test_seen_at_once.py`` asks 40 of each tenant, and ``SCREENSHOTS=folder`` keeps what was seen.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import AT_NIGHT, seen_questions
from tests.browser.console_page import ANSWER_LIMIT_MS, ConsolePage, OpenConsole
from tests.browser.product import Product, running_product

pytestmark = pytest.mark.timeout(1800)
TENANTS = ("pharmacy", "clinic") if AT_NIGHT else ("pharmacy",)
WINDOWS = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}
LEAST_SEEN = 0.95
_LOOKS, _LOOK_MS = 20, 100
_MARKED = """() => {
  const isSeen = (mark) => [...mark.getClientRects()].filter((box) => box.width > 0).every((box) => {
    const at = document.elementFromPoint(box.left + Math.min(box.width / 2, 20), box.top + box.height / 2);
    return at !== null && (mark.contains(at) || at.contains(mark));
  });
  return [...document.querySelectorAll(".answer mark")].map(isSeen);
}"""
"""Returns of each marked line of the answer whether all of it is inside the window and under nothing else."""


@pytest.fixture
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product of its own: other tests count the clinic's documents."""
    with running_product(tmp_path_factory.mktemp("clinic")) as product:
        product.assistant("knowledge", "add", "--tenant", "clinic")
        yield product


def settled(console: ConsolePage) -> list[bool]:
    """Return which marked lines are seen, when all are or the page has had time to bring them into view."""
    for _ in range(_LOOKS):
        marked: list[bool] = console.page.evaluate(_MARKED)
        if all(marked):
            return marked
        console.page.wait_for_timeout(_LOOK_MS)
    return console.page.evaluate(_MARKED)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("tenant", TENANTS)
def test_the_marked_lines_of_an_answer_are_seen_without_scrolling(
    tenant: str,
    window: str,
    request: pytest.FixtureRequest,
    open_console: OpenConsole,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    product: Product = request.getfixturevalue("clinic" if tenant == "clinic" else "product")
    more: dict[str, Any] = {"has_touch": True} if window == "phone" else {}
    console = open_console(product.url, viewport=WINDOWS[window], **more)
    console.sign_in(tenant=tenant)
    seen: list[bool] = []
    hidden: list[str] = []
    for question in seen_questions(tenant):
        console.button("New question").click()
        console.ask(question.question)
        console.await_end()
        expect(console.page.locator(".sheet")).to_be_visible(timeout=ANSWER_LIMIT_MS)
        marked = settled(console)
        seen += marked
        if not all(marked):
            hidden.append(question.qid)
        if folder := os.environ.get("SCREENSHOTS"):
            state = "hidden" if not all(marked) else "seen"
            console.page.screenshot(path=Path(folder) / f"{tenant}-{window}-{question.qid}-{state}.png")
    record_testsuite_property(f"{tenant}, {window}: marked lines", len(seen))
    record_testsuite_property(f"{tenant}, {window}: seen", sum(seen))
    assert seen
    assert sum(seen) >= LEAST_SEEN * len(seen), hidden
