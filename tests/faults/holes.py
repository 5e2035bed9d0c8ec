"""What no test told of: a run of the whole folder, as at night, fails when a cell has no passed test."""

from __future__ import annotations

import os

import pytest

from tests.faults.cells import CELLS, Cell

TOLD = "fault"
"""The user property of a report: (dependency, fault)."""


class FaultCells:
    """A plugin of the process that reports: without xdist the only one, with it the controller."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._told: set[Cell] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.when == "teardown" and report.passed:  # the fixture judges what comes after the fault
            for name, value in report.user_properties:
                if name == TOLD:
                    dependency, fault = value  # type: ignore[misc]
                    self._told.add(Cell(dependency, fault))

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and self._holes():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._told:
            terminalreporter.section("faults")
            terminalreporter.write_line(f"{len(self._told)} of {len(CELLS)} cells have a test that passed")
            for hole in self._holes():
                terminalreporter.write_line(f"HOLE {hole.dependency}: {hole.fault}", red=True)

    def _holes(self) -> list[Cell]:
        option = self._config.option
        chosen = option.keyword or option.markexpr or getattr(option, "lf", False)
        in_part = any("::" in argument or argument.endswith(".py") for argument in self._config.args)
        at_night = os.environ.get("EXAMPLES") == "new"
        if not self._told or chosen or in_part or not at_night:
            return []
        return [cell for cell in CELLS if cell not in self._told]
