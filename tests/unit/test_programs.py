"""A test without its program is skipped and counted in the last line; in CI it fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.programs import MissingPrograms, lacks, require


def test_a_program_that_is_here_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    program = tmp_path / "reader"
    program.touch(mode=0o755)
    assert require(program) == str(program)
    assert require("sh").endswith("/sh")


def test_a_missing_program_skips_the_test(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"needs reader$"):
        require(tmp_path / "reader")


def test_in_ci_a_missing_program_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="needs reader, which is not installed"):
        lacks("reader")


def test_the_last_line_counts_by_program(
    pytestconfig: pytest.Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(pytestconfig.get_terminal_writer(), "line", told.append)
    plugin = MissingPrograms()
    for reason in ("needs reader", "needs reader", "needs server", "another reason"):
        report = pytest.TestReport(
            nodeid="x",
            location=("x", 1, "x"),
            keywords={},
            outcome="skipped",
            longrepr=("x", 1, f"Skipped: {reason}"),
            when="setup",
        )
        plugin.pytest_runtest_logreport(report)
    plugin.pytest_unconfigure(pytestconfig)
    assert told == ["skipped: 2 need reader, 1 needs server"]
