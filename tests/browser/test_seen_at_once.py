"""What an agent sees of a quoted answer without scrolling, in a window of 1440 by 900.

The committed questions are asked of the product in a real browser.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import expect

from assistant.evaluation.judging import holds_all, normal
from assistant.evaluation.questions import draw, load_questions
from tests.browser.conftest import OpenConsole
from tests.browser.console_page import ANSWER_LIMIT_MS
from tests.browser.product import Product, running_product

pytestmark = pytest.mark.timeout(1800)
COUNTS = {"pharmacy": 40, "clinic": 40} if os.environ.get("EXAMPLES") == "new" else {"pharmacy": 8}
_QUESTIONS = Path(__file__).parents[2] / "evaluation"
_SEED = "seen at once"
_SEEN = """(roots) => {
  const isSeen = (node) => {
    const range = document.createRange();
    range.selectNodeContents(node);
    return [...range.getClientRects()].filter((box) => box.width > 0).every((box) => {
      const at = document.elementFromPoint(box.left + Math.min(box.width / 2, 20), box.top + box.height / 2);
      return at !== null && (node.parentElement.contains(at) || at.contains(node.parentElement));
    });
  };
  const texts = [];
  for (const root of document.querySelectorAll(roots)) {
    const walker = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) if (isSeen(walker.currentNode)) texts.push(walker.currentNode.data);
    texts.push(" ");
  }
  return texts.join("");
}"""
"""Returns the text of elements that is inside the window and under nothing else."""


@pytest.fixture
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    """A product of its own: other tests count the clinic's documents."""
    with running_product(tmp_path_factory.mktemp("clinic")) as product:
        product.assistant("knowledge", "add", "--tenant", "clinic")
        yield product


@pytest.mark.parametrize("tenant", COUNTS)
def test_what_an_answer_holds_is_seen_without_scrolling(
    tenant: str,
    request: pytest.FixtureRequest,
    open_console: OpenConsole,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    product: Product = request.getfixturevalue("clinic" if tenant == "clinic" else "product")
    held_out = [
        question
        for question in load_questions(_QUESTIONS / f"{tenant}.jsonl")
        if question.split == "held_out" and question.answerable and question.after is None
    ]
    console = open_console(product.url, viewport={"width": 1440, "height": 900})
    console.sign_in(tenant=tenant)
    right, seen, seen_with_source, hidden = 0, 0, 0, list[str]()
    for question in draw(held_out, count=COUNTS[tenant], seed=_SEED):
        console.button("New question").click()
        console.ask(question.question)
        console.await_end()
        expect(console.page.locator(".sheet")).to_be_visible(timeout=ANSWER_LIMIT_MS)
        is_right = console.answer.count() > 0 and holds_all(
            normal(console.answer.inner_text()), question.answer_contains
        )
        in_answer, with_source = (
            holds_all(normal(console.page.evaluate(_SEEN, roots)), question.answer_contains)
            for roots in (".answer", ".answer, .panel")
        )
        right, seen, seen_with_source = right + is_right, seen + in_answer, seen_with_source + with_source
        if is_right and not with_source:
            hidden.append(question.qid)
    record_testsuite_property(f"{tenant}: right", right)
    record_testsuite_property(f"{tenant}: seen in the answer", seen)
    record_testsuite_property(f"{tenant}: seen in the answer or its source", seen_with_source)
    assert right > 0
    assert hidden == []
