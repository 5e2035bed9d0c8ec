"""A real Chromium and the real product. After each test, no page may have broken the console's policy."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from assistant.evaluation.questions import EvaluationQuestion, draw, load_questions
from tests.browser.console_page import ConsolePage, Faults, OpenConsole
from tests.browser.product import REPOSITORY, Product, Rehearsal, ScriptedLlm, rehearsal_of, running_product
from tests.browser.stand_in import (
    LOST,
    QUESTION,
    REFILL,
    StandIn,
    quoted_refill,
    refill_document,
    running_stand_in,
)
from tests.stage.programs import require

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
STEP_LIMIT_MS = 60_000
AT_NIGHT = os.environ.get("EXAMPLES") == "new"

_RUN_AXE = """async () => {
  const { violations } = await axe.run(document, { resultTypes: ["violations"] });
  return violations.flatMap(({ id, nodes }) => nodes.map(({ target, failureSummary }) =>
    `${id}: ${target.join(" ")}: ${failureSummary}`));
}"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    expect.set_options(timeout=STEP_LIMIT_MS)


@pytest.fixture(scope="session")
def product(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Product]:
    with running_product(tmp_path_factory.mktemp("product")) as product:
        product.assistant("knowledge", "add", "--tenant", "pharmacy", *pharmacy_paths())
        yield product


def pharmacy_paths() -> list[str]:
    """Return a dozen of the pharmacy's files, which the tests ask about: each is embedded. At night all."""
    folder = REPOSITORY / "knowledge" / "pharmacy"
    if AT_NIGHT:
        return [str(folder)]
    named = {REFILL, *chain.from_iterable(one.documents for one in seen_questions("pharmacy"))}
    return [str(path) for path in sorted(folder.iterdir()) if path.stem in named]


def seen_questions(tenant: str) -> Sequence[EvaluationQuestion]:
    """Return the committed questions that are asked of a tenant in a browser."""
    asked = [
        question
        for question in load_questions(REPOSITORY / "evaluation" / f"{tenant}.jsonl")
        if question.split == "held_out" and question.answerable and question.after is None
    ]
    return draw(asked, count=40 if AT_NIGHT else 8, seed="seen at once")


@pytest.fixture(scope="session")
def rehearsal(product: Product) -> Iterator[Rehearsal]:
    """The service whose model is scripted."""
    with rehearsal_of(product) as rehearsal:
        yield rehearsal


@pytest.fixture
def llm(rehearsal: Rehearsal) -> ScriptedLlm:
    return rehearsal.llm


@pytest.fixture
def stand_in() -> Iterator[StandIn]:
    """A service that the test writes, without the product."""
    with running_stand_in() as stand_in:
        yield stand_in


@pytest.fixture
def at(stand_in: StandIn, open_console: OpenConsole) -> OpenConsole:
    """Open the console of the stand-in in a window of an agent's usual size, and sign in."""
    stand_in.documents |= {REFILL: refill_document(), LOST: refill_document()}
    stand_in.answers(*quoted_refill())

    def sign_in(**options: Any) -> ConsolePage:
        console = open_console(stand_in.url, **{"viewport": {"width": 1280, "height": 800}, **options})
        console.open()
        console.button("Sign in").click()
        expect(console.question).to_be_visible()
        return console

    return sign_in


@pytest.fixture
def answered(stand_in: StandIn, at: OpenConsole) -> OpenConsole:
    """Open the console as ``at`` does and ask to the answer's end; the answer is of these events, if any."""

    def ask(*events: Any, question: str = QUESTION, **options: Any) -> ConsolePage:
        if events:
            stand_in.answers(*events)
        console = at(**options)
        console.ask_to_the_end(question)
        return console

    return ask


def lifetime(fixture_name: str, config: pytest.Config) -> Literal["session", "module"]:
    """Return how long one Chromium runs: its event loop would stand in the way of asynchronous tests."""
    return "session" if all("tests/browser" in argument for argument in config.args) else "module"


@pytest.fixture(scope=lifetime)
def browser() -> Iterator[Browser]:
    chromium = require("chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(FLAGS))
        yield browser
        browser.close()


@cache
def _profile(browser: Browser, options: str, number: int) -> tuple[BrowserContext, Faults]:
    """Return a profile with a window that stays: a new one costs four times the CPU of a tab."""
    context, faults = browser.new_context(**json.loads(options)), Faults()
    context.set_default_timeout(STEP_LIMIT_MS)
    faults.watch(context)
    context.new_page()
    return context, faults


def _as_new(context: BrowserContext) -> None:
    """Close a profile's tabs, and take back what a test left in it."""
    for page in context.pages[1:]:
        if page.url.startswith("http"):
            page.evaluate("localStorage.clear()")
        page.close()
    context.unroute_all()
    context.clear_cookies()
    context.clear_permissions()


@pytest.fixture
def open_console(browser: Browser) -> Iterator[OpenConsole]:
    """Open a tab in a browser profile without a past. Fails at the end if a tab recorded a fault."""
    opened: list[tuple[str, BrowserContext, Faults]] = []

    def open_at(url: str, **options: Any) -> ConsolePage:
        given = json.dumps({"viewport": {"width": 1280, "height": 720}} | options, sort_keys=True)
        others = sum(given == each for each, *_ in opened)  # a second person in a test has a second profile
        context, faults = _profile(browser, given, others)
        opened.append((given, context, faults))
        return ConsolePage(context.new_page(), url, faults)

    yield open_at
    for _, context, _ in opened:
        _as_new(context)
    assert [faults.taken() for *_, faults in opened] == [Faults() for _ in opened]


@pytest.fixture
def console(product: Product, open_console: OpenConsole) -> ConsolePage:
    """A tab that shows the product's console."""
    return open_console(product.url)


@pytest.fixture
def stage(rehearsal: Rehearsal, open_console: OpenConsole) -> ConsolePage:
    """A tab that shows the console of the service with the scripted model."""
    return open_console(rehearsal.url)


@pytest.fixture(scope="session")
def axe_source() -> str:
    root = Path(__file__).parents[2]
    return (root / "node_modules" / "axe-core" / "axe.min.js").read_text(encoding="utf-8")


@pytest.fixture
def check(axe_source: str) -> Callable[[ConsolePage], None]:
    def check(view: ConsolePage) -> None:
        _run_axe(view.page, axe_source)
        assert not view.has_sideways_scroll()

    return check


def _run_axe(page: Page, source: str) -> None:
    if not page.evaluate("'axe' in window"):
        page.evaluate(source)
    assert page.evaluate(_RUN_AXE) == []
