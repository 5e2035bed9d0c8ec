"""Every test file is run by exactly one target of the Makefile, or check of ``benchmarks/checks.toml``: its
folder is in one row."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tools.scheduled_checks import read_checks

ROOT = Path(__file__).parents[2]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = {
    target: folders.split() for target, folders in re.findall(r"^([\w-]+)\.tests := (.*)$", MAKEFILE, re.M)
}
ROWS = TARGETS | {
    check.name: folders
    for check in read_checks()
    if (folders := re.findall(r"(?<= )tests/\w+(?= |$)", check.night or ""))
}
"""The folders of each target, and of each check that has one of its own."""
FILES = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("test_*.py"))


def targets_of(file: Path) -> list[str]:
    return [target for target, folders in ROWS.items() for folder in folders if file.is_relative_to(folder)]


def test_a_test_file_is_in_one_row() -> None:
    assert {str(file): found for file in FILES if len(found := targets_of(file)) != 1} == {}


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_its_row(target: str) -> None:
    recipe = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", MAKEFILE, re.M)
    assert recipe is not None
    assert "$($@.tests)" in recipe[1]


@pytest.mark.parametrize("target", ROWS)
def test_a_row_has_tests(target: str) -> None:
    """A folder that is gone would end its target with an error."""
    for folder in ROWS[target]:
        assert any(file.is_relative_to(folder) for file in FILES), folder


def test_a_folder_below_options_is_named_in_the_help() -> None:
    line = re.search(r"^test-options:.*## (.*)$", MAKEFILE, re.M)
    assert line is not None
    assert [each.name for each in sorted((ROOT / "tests/options").glob("[a-z]*/"))] == re.findall(
        r"\w+", line[1].split("T=")[1]
    )


def test_no_test_file_imports_another() -> None:
    """What two files need stands in tests/stage, or in the scene of their folder."""
    imports = re.compile(r"^\s*(?:from|import) tests\.(?:\w+\.)*test_\w+", re.M)
    assert {str(path) for path in (ROOT / "tests").rglob("*.py") if imports.search(path.read_text())} == set()


@pytest.mark.loopback
def test_what_runs_by_night_alone_has_its_fixtures() -> None:
    """Else a fixture that moved is missed at night only."""
    folders = {folder for name, row in ROWS.items() if name not in TARGETS for folder in row}
    planned = subprocess.run(
        [sys.executable, "-m", "pytest", "--setup-plan", "-q", "-p", "no:cacheprovider", *sorted(folders)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert planned.returncode == 0, planned.stdout[-3000:]
