"""The table of faults says what was seen, all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from tests.faults import table
from tests.faults.cells import CELLS, Cell
from tests.faults.holes import TOLD, FaultCells
from tests.faults.table import PAGE, Row, lines_of, rendered, tell


def row(cell: Cell, *, sees: str = "503 `x`, retryable") -> Row:
    return Row(cell.dependency, cell.fault, "reset", sees, "nothing", "`line`", "`figure`")


ROWS = [row(cell) for cell in CELLS]


def test_the_committed_page_has_every_cell_and_nothing_else() -> None:
    found: list[Cell] = []
    for how, _ in lines_of(PAGE.read_text(encoding="utf-8")):
        dependency, _, fault = how.removeprefix("**").partition("** ")
        found.append(Cell(dependency, fault.partition(": ")[0]))
    assert sorted(map(str, found)) == sorted(map(str, CELLS))


def test_what_is_seen_must_stand_in_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(table.COLLECT, raising=False)
    page = tmp_path / "faults.md"
    page.write_text(rendered(ROWS), encoding="utf-8")
    monkeypatch.setattr(table, "PAGE", page)
    tell(ROWS[-1])
    with pytest.raises(AssertionError, match="does not say"):
        tell(row(CELLS[-1], sees="200"))
    with pytest.raises(AssertionError, match="not among the cells"):
        tell(row(Cell("OpenSearch", "on fire")))


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
