"""The matrix of contract tests and adapters: printed at the end of a run, which fails on a hole.

A hole is a test of a suite that did not pass or fail on each of its adapters: skipped, expected to fail,
never reached, or not made for it. A run of chosen tests (``-k``, ``-m``, ``::``) has a matrix, but no holes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

CONTRACT = "contract"
"""The user property of a report: (module, case, adapter)."""
PASSED, FAILED, OTHER = "passed", "failed", "neither"


class ContractMatrix:
    """A plugin of the process that reports: without xdist the only one, with it the controller."""

    def __init__(self, config: pytest.Config, *, suites: Mapping[str, Sequence[str]]) -> None:
        self._config = config
        self._suites = suites
        self._outcomes: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
        """Module → case → adapter → outcome."""

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == CONTRACT:
                module, case, adapter = value  # type: ignore[misc]
                self._note(self._outcomes[module][case], adapter, report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.OK and self._holes():
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._outcomes:
            return
        adapters = list(dict.fromkeys(name for names in self._suites.values() for name in names))
        terminalreporter.section("contracts by adapter")
        terminalreporter.write_line("".join([f"{'':24}", *(f"{name:>12}" for name in adapters)]))
        for module in sorted(self._outcomes):
            cells = [f"{self._cell(module, name):>12}" for name in adapters]
            terminalreporter.write_line("".join([f"{module.removeprefix('test_'):24}", *cells]))
        for hole in self._holes():
            terminalreporter.write_line(f"HOLE {hole}", red=True)

    @staticmethod
    def _note(outcomes: dict[str, str], adapter: str, report: pytest.TestReport) -> None:
        if report.failed:
            outcomes[adapter] = FAILED
        elif report.when == "call":
            outcomes[adapter] = PASSED if report.passed and not hasattr(report, "wasxfail") else OTHER
        else:
            outcomes.setdefault(adapter, OTHER)

    def _cell(self, module: str, adapter: str) -> str:
        if adapter not in self._suites[module]:
            return ""
        cases = self._outcomes[module]
        passed = sum(outcomes.get(adapter) == PASSED for outcomes in cases.values())
        return f"{passed}/{len(cases)}"

    def _holes(self) -> list[str]:
        if not self._outcomes or self._is_of_chosen_tests():
            return []
        missing = [f"{module}: nothing" for module in self._suites if self._expected(module)]
        return missing + [
            f"{module}: {case} on {adapter}"
            for module, cases in sorted(self._outcomes.items())
            for case, outcomes in cases.items()
            for adapter in self._suites[module]
            if outcomes.get(adapter, OTHER) == OTHER
        ]

    def _is_of_chosen_tests(self) -> bool:
        option = self._config.option
        chosen = option.keyword or option.markexpr or getattr(option, "lf", False)
        return bool(chosen) or any("::" in argument for argument in self._config.args)

    def _expected(self, module: str) -> bool:
        """Whether a module that never ran should have: where files are named, only those should."""
        whole = all(Path(argument).is_dir() for argument in self._config.args)
        return whole and module not in self._outcomes
