"""``docs/faults.md``: every row is what a test here saw. ``python -m tests.faults.table`` writes it.

Each test gives its row to ``tell``. In a normal run the row must stand in the page as it is; when the page is
written, rows are collected in the file that the variable names.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import orjson

from tests.faults.advice import ADVICE
from tests.faults.cells import CELLS, Cell

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "faults.md"
COLLECT = "ASSISTANT_TESTS_FAULT_ROWS"
"""Names the file that rows are collected in while the page is written."""
_BETWEEN = "<br>"
_HEAD = """# Faults

What happens when a dependency of the service fails, as `tests/faults` sees it with a model that writes.
Retryable: agents ask, or bring the document, again. In every row a question called the model at most once, no
record was written twice, and after the fault the next question was answered and recorded.
`python -m tests.faults.table` writes this page.

| what fails: made by | the agent sees | recorded | log line | figure | what to do |
| --- | --- | --- | --- | --- | --- |
"""


@dataclass(frozen=True)
class Row:
    """What a test saw of one fault."""

    dependency: str
    fault: str
    made_by: str
    sees: str
    """Status or last event that the caller gets, with code and ``retryable``."""
    recorded: str
    log: str
    figure: str

    @property
    def cell(self) -> Cell:
        return Cell(self.dependency, self.fault)

    @property
    def how(self) -> str:
        """What fails, and how it was made: rows that differ by nothing else are one line of the page."""
        return f"**{self.dependency}** {self.fault}: {self.made_by}"

    def effect(self) -> str:
        """Return what follows the fault in the page's line."""
        values = (*(getattr(self, each.name) for each in fields(self)[3:]), ADVICE[self.cell])
        return " | ".join(value.replace("|", "\\|") for value in values) + " |"


noted: list[Cell] = []
"""What the test that runs now has told of."""


def tell(row: Row) -> None:
    """Hand in what was seen. Raises AssertionError when the page says something else."""
    assert row.cell in CELLS, f"{row.cell} is not among the cells: add it there"
    noted.append(row.cell)
    if (collected := os.environ.get(COLLECT)) is not None:
        with Path(collected).open("ab") as file:
            file.write(orjson.dumps(astuple(row)) + b"\n")
        return
    shown = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    assert (row.how, row.effect()) in lines_of(shown), (
        f"{PAGE.name} does not say what was seen just now; look at it, then write the page anew with "
        f"`python -m tests.faults.table`:\n{row.how} | {row.effect()}"
    )


def lines_of(page: str) -> list[tuple[str, str]]:
    """Return what fails in each row of the page, with how it was made, and its effect."""
    lines = [line.removeprefix("| ") for line in page.splitlines() if line.startswith("| ")][2:]
    parts = [line.partition(" | ") for line in lines]
    return [(how, effect) for faults, _, effect in parts for how in faults.split(_BETWEEN)]


def rendered(rows: list[Row]) -> str:
    """Return the page. Raises ValueError when a cell has no row, or two that differ."""
    by_cell: dict[Cell, Row] = {}
    for row in rows:
        if by_cell.setdefault(row.cell, row) != row:
            raise ValueError(f"Two tests saw different things of {row.cell}:\n{by_cell[row.cell]}\n{row}")
    if missing := [str(cell) for cell in CELLS if cell not in by_cell]:
        raise ValueError(f"No test told of: {'; '.join(missing)}")
    effects: dict[str, list[str]] = {}
    order = list(dict.fromkeys(cell.dependency for cell in CELLS))
    for cell in sorted(CELLS, key=lambda cell: order.index(cell.dependency)):
        effects.setdefault(by_cell[cell].effect(), []).append(by_cell[cell].how)
    parts = [_HEAD, *(f"| {_BETWEEN.join(faults)} | {effect}\n" for effect, faults in effects.items())]
    return "".join(parts)


def main() -> int:
    """Run the tests, and write the page from what they saw."""
    with tempfile.TemporaryDirectory() as folder:
        collected = Path(folder) / "rows.jsonl"
        command = [sys.executable, "-m", "pytest", "-q", str(Path(__file__).parent), *sys.argv[1:]]
        status = subprocess.run(
            command, cwd=ROOT, env=os.environ | {COLLECT: str(collected), "EXAMPLES": "new"}, check=False
        ).returncode
        if status != 0:
            return status
        rows = [Row(*orjson.loads(line)) for line in collected.read_bytes().splitlines()]
    PAGE.write_text(rendered(rows), encoding="utf-8")
    sys.stdout.write(f"{PAGE.relative_to(ROOT)}: {len(CELLS)} rows\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
