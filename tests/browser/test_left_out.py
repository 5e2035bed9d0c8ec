"""The folder of an option's view is deleted: the console builds, type-checks and works without its parts."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.answers import QUESTION
from tests.browser.console_page import OpenConsole
from tests.browser.product import REPOSITORY
from tests.browser.stand_in import StandIn
from tests.programs import run_node

CONSOLE = Path("assistant", "service", "console")
OPTIONS = Path("assistant", "options")
ALL = "desk helpdesk live overview panel"
TSC = REPOSITORY / "node_modules" / "typescript" / "bin" / "tsc"


@pytest.fixture(scope="module", params=[*ALL.split(), ALL])
def left_out(request: pytest.FixtureRequest) -> str:
    """Return the options whose views are deleted."""
    return request.param


@pytest.fixture(scope="module")
def without(left_out: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the console of a copy from which the views are deleted, built."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(REPOSITORY / CONSOLE, copy / CONSOLE, ignore=shutil.ignore_patterns("dist"))
    shutil.copytree(
        REPOSITORY / OPTIONS, copy / OPTIONS, ignore=shutil.ignore_patterns("*.py", "__pycache__")
    )
    (copy / "node_modules").symlink_to(REPOSITORY / "node_modules")
    for name in left_out.split():
        shutil.rmtree(copy / OPTIONS / name / "view")
    done = run_node(copy / CONSOLE / "build.mjs")
    assert done.returncode == 0, done.stderr
    return copy / CONSOLE


def test_each_view_is_tried() -> None:
    assert ALL.split() == sorted(path.parent.name for path in (REPOSITORY / OPTIONS).glob("*/view"))


def test_the_rest_type_checks_and_matches_the_api(without: Path) -> None:
    done = run_node(TSC, "--project", str(without))
    assert done.returncode == 0, done.stdout
    done = run_node(without / "check_wire.mjs", str(REPOSITORY / "docs" / "openapi.json"))
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("left_out", [ALL], indirect=True)
def test_the_rest_passes_its_unit_tests(without: Path) -> None:
    done = run_node(without / "run_tests.mjs")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize("left_out", [ALL], indirect=True)
def test_the_page_works_without_the_parts_of_the_view(
    without: Path, stand_in: StandIn, at: OpenConsole
) -> None:
    stand_in.dist = without / "dist"
    stand_in.roles = ("agent", "reviewer")
    console = at()
    console.page.evaluate("() => { location.hash = 'context=e30.e30.x' }")
    console.ask_to_the_end(QUESTION)
    expect(console.answer.locator("h4")).to_have_text("Steps")
    assert "context" not in stand_in.asked[0]
    expect(console.page.locator(".context-bar")).to_have_count(0)
    expect(console.page.get_by_role("link", name="Review")).to_have_count(0)
