"""The console's build and its unit tests by Node's test runner; and that it builds, type-checks and works
where the folder of an option's view is deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from tests.browser.console_page import OpenConsole
from tests.browser.product import REPOSITORY
from tests.browser.stand_in import QUESTION, StandIn
from tests.stage.programs import run_node

CONSOLE = Path("assistant", "service", "console")
BUILT = REPOSITORY / CONSOLE
OPTIONS = Path("assistant", "options")
ALL = "desk helpdesk live overview panel"
TSC = REPOSITORY / "node_modules" / "typescript" / "bin" / "tsc"


@pytest.fixture(
    scope="module", params=[ALL, *(pytest.param(name, marks=pytest.mark.night) for name in ALL.split())]
)
def left_out(request: pytest.FixtureRequest) -> str:
    """Return the options whose views are deleted."""
    return request.param


@pytest.fixture(scope="module")
def without(left_out: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the console of a copy from which the views are deleted; without all of them it is built too."""
    copy = tmp_path_factory.mktemp("copy")
    shutil.copytree(REPOSITORY / CONSOLE, copy / CONSOLE, ignore=shutil.ignore_patterns("dist"))
    shutil.copytree(
        REPOSITORY / OPTIONS, copy / OPTIONS, ignore=shutil.ignore_patterns("*.py", "__pycache__")
    )
    (copy / "node_modules").symlink_to(REPOSITORY / "node_modules")
    for name in left_out.split():
        shutil.rmtree(copy / OPTIONS / name / "view")
    if left_out == ALL:
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


@pytest.mark.night
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


def test_the_console_s_unit_tests_pass() -> None:
    done = run_node(BUILT / "run_tests.mjs")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


def test_the_build_is_reproducible() -> None:
    before = {path.name: path.read_bytes() for path in (BUILT / "dist").iterdir()}
    assert run_node(BUILT / "build.mjs").returncode == 0
    assert {path.name: path.read_bytes() for path in (BUILT / "dist").iterdir()} == before


def test_the_wire_types_match_the_api() -> None:
    done = run_node(BUILT / "check_wire.mjs")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


@pytest.mark.parametrize(
    ("schema", "drift"),
    [
        ("Done", lambda properties: properties.pop("citations")),
        ("Source", lambda properties: properties.update(n={"type": "string"})),
    ],
    ids=["field gone", "other type"],
)
def test_a_difference_between_wire_types_and_api_is_found(
    tmp_path: Path, schema: str, drift: Callable[[Any], object]
) -> None:
    document: dict[str, Any] = json.loads((REPOSITORY / "docs" / "openapi.json").read_text(encoding="utf-8"))
    drift(document["components"]["schemas"][schema]["properties"])
    drifted = tmp_path / "openapi.json"
    drifted.write_text(json.dumps(document), encoding="utf-8")
    done = run_node(BUILT / "check_wire.mjs", str(drifted))
    assert done.returncode != 0
    assert "is not assignable to" in done.stdout
