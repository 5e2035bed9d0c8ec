"""The table of faults says what was seen, all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.faults import table
from tests.faults.table import DEPENDENCIES, FAULTS, TOLD, Cell, Dependency, FaultCells, cells, tell

CELLS = cells()
PAGE = "| faults | sees | recorded | log | figure | do |\n| --- | --- | --- | --- | --- | --- |\n"


def test_the_committed_page_has_each_dependency_in_each_fault_and_says_nothing_twice() -> None:
    assert {Cell(one.name, fault) for one, fault in product(DEPENDENCIES, FAULTS)} <= set(CELLS)
    assert len(CELLS) == len(set(CELLS))


def test_what_is_seen_must_stand_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "faults.md"
    page.write_text(f"{PAGE}| **a** down: reset<br>**b** slow: late | 503 | nothing | `l` | `f` | wait |\n")
    monkeypatch.setattr(table, "PAGE", page)
    seen = {"made_by": "late", "recorded": "nothing", "log": "`l`", "figure": "`f`"}
    tell(Dependency("b", "b"), "slow", sees="503", **seen)
    for name, sees in (("b", "200"), ("c", "503")):
        with pytest.raises(AssertionError, match="does not say"):
            tell(Dependency(name, name), "slow", sees=sees, **seen)


@pytest.mark.parametrize(
    ("cells", "arguments", "status"),
    [
        (CELLS, ["tests"], pytest.ExitCode.OK),
        (CELLS[1:], ["tests"], pytest.ExitCode.TESTS_FAILED),
        (CELLS[1:], ["tests/faults/test_clock.py"], pytest.ExitCode.OK),
        ((), ["tests"], pytest.ExitCode.OK),
    ],
    ids=["whole", "a hole", "one file", "other tests"],
)
def test_a_run_of_all_faults_at_night_fails_on_a_hole(
    cells: Sequence[Cell], arguments: list[str], status: pytest.ExitCode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXAMPLES", "new")
    option = SimpleNamespace(keyword="", markexpr="")
    plugin = FaultCells(cast("Any", SimpleNamespace(option=option, args=arguments)))
    for cell in cells:
        told = [(TOLD, (cell.dependency, cell.fault))]
        report = SimpleNamespace(when="teardown", passed=True, user_properties=told)
        plugin.pytest_runtest_logreport(cast("Any", report))
    session = SimpleNamespace(exitstatus=pytest.ExitCode.OK)
    plugin.pytest_sessionfinish(cast("Any", session))
    assert session.exitstatus == status
