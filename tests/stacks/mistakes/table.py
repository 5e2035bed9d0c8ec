"""How many of the mistakes were planted and refused, printed at the end of a run."""

from __future__ import annotations

from collections import defaultdict

import pytest

MISTAKE = "mistake"
"""The user property of a report: (where it was planted, its number)."""
ALL = frozenset(range(1, 24))


class MistakeTable:
    """A plugin of the process that reports: without xdist the only one, with it the controller."""

    def __init__(self) -> None:
        self._refused: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._failed: set[tuple[str, int]] = set()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, value in report.user_properties:
            if name == MISTAKE and report.when == "call":
                where, number = value  # type: ignore[misc]
                self._refused[where][number] += report.passed
                if not report.passed:
                    self._failed.add((where, number))

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self._refused:
            return
        terminalreporter.section("template mistakes refused")
        for where, counts in sorted(self._refused.items()):
            refused = {n for n, count in counts.items() if count and (where, n) not in self._failed}
            terminalreporter.write_line(
                f"{where:18} {len(refused)} of {len(ALL)} mistakes, {sum(counts.values())} ways"
            )
            for number in sorted(ALL - refused) if not _is_chosen(terminalreporter.config) else ():
                terminalreporter.write_line(f"HOLE {where}: mistake {number}", red=True)


def _is_chosen(config: pytest.Config) -> bool:
    """Return whether the run has only some of the tests: a missing mistake is then no failure."""
    chosen = config.option.keyword or config.option.markexpr or getattr(config.option, "lf", False)
    return bool(chosen) or any("::" in argument for argument in config.args)
