"""Programs that some tests need and this machine may lack.

A run skips such a test and says so in its last line ("skipped: 3 need tesseract"). With CI=true the test
fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import NoReturn

import pytest

_NEEDS = "needs "


def require(program: str | Path) -> str:
    """Return the path of a program, given by name or path. Skip the test without it; with CI=true fail it."""
    return shutil.which(str(program)) or lacks(Path(program).name)


def lacks(name: str) -> NoReturn:
    """Skip the test, which needs a program that was not found; with CI=true fail it."""
    if os.environ.get("CI") == "true":
        pytest.fail(
            f"{_NEEDS}{name}, which is not installed here. In CI a step before the tests installs it."
        )
    pytest.skip(_NEEDS + name)


class MissingPrograms:
    """A plugin of the process that reports: counts the tests that lacked a program."""

    def __init__(self) -> None:
        self._missing: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.skipped and isinstance(report.longrepr, tuple):
            reason = report.longrepr[2].removeprefix("Skipped: ")
            if reason.startswith(_NEEDS):
                self._missing[reason.removeprefix(_NEEDS)] += 1

    def pytest_unconfigure(self, config: pytest.Config) -> None:
        """Write the last line of the run."""
        if self._missing:
            told = [f"{n} need{'s' * (n == 1)} {program}" for program, n in sorted(self._missing.items())]
            reporter = config.get_terminal_writer()
            reporter.line(f"skipped: {', '.join(told)}")


def run_node(script: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    node = shutil.which("node", path=f"{Path(sys.executable).parent}") or shutil.which("node")
    if node is None:
        pytest.fail("Node is not installed: make setup")
    command = [node, str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
