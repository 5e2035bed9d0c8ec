"""``docs/faults.md``: what the service depends on, and what a test here saw of each fault.

Each test gives its row to ``tell``, which fails while the page says something else: change the page by hand,
and its last column, what to do. At night a run of the whole folder fails when a row has no passed test.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.stage.faulty_proxy import Fault, Kind, Request

PAGE = Path(__file__).parents[2] / "docs" / "faults.md"
_BETWEEN = "<br>"


@dataclass(frozen=True)
class Dependency:
    """What the service depends on: a whole address, or some requests to one that it shares."""

    name: str
    address: str
    mark: str | None = None
    """Stands in the path or the body of its requests; its address is its own when None."""

    def fault(self, kind: Kind, **how: Any) -> Fault:
        return Fault(kind, self.is_of, **how) if self.mark is not None else Fault(kind, **how)

    def is_of(self, request: Request) -> bool:
        mark = self.mark or ""
        return mark in request.path or mark.encode() in request.body


EMBEDDING = Dependency("embedding endpoint", "sagemaker", "clinic-embedding/invocations")
LLM = Dependency("LLM endpoint", "sagemaker", "clinic-llm/invocations")
SEARCH = Dependency("OpenSearch", "opensearch")
RECORDS = Dependency("DynamoDB: records", "dynamodb", "-clinic-records")
EVENTS = Dependency("DynamoDB: claims of keys", "dynamodb", "-clinic-events")
STATES = Dependency("DynamoDB: document states", "dynamodb", "-clinic-states")
DOCUMENTS = Dependency("S3: documents", "s3")
QUEUE = Dependency("SQS: ingestion queue", "sqs")
KEYS = Dependency("issuer keys: JWKS address", "jwks")
KEYS_PARAMETER = Dependency("issuer keys: SSM parameter", "ssm", "/issuer-keys")
POWER = Dependency("SSM: power", "ssm", "/power")
LINK_SECRET = Dependency("KMS: link secret", "kms")
DEPENDENCIES = (
    EMBEDDING,
    LLM,
    SEARCH,
    RECORDS,
    EVENTS,
    STATES,
    DOCUMENTS,
    QUEUE,
    KEYS,
    KEYS_PARAMETER,
    POWER,
    LINK_SECRET,
)

DOWN_AT_START = "down at start"
DOWN_WHILE_STREAMING = "down while streaming"
SLOW = "slow"
WRONG_ANSWER = "wrong answer"
FAULTS = (DOWN_AT_START, DOWN_WHILE_STREAMING, SLOW, WRONG_ANSWER)
"""Each dependency has a row of each."""
THE_SERVICE = Dependency("the service itself", "")


@dataclass(frozen=True)
class Cell:
    dependency: str
    fault: str


noted: list[Cell] = []
"""What the test that runs now has told of."""


def tell(
    what: Dependency,
    fault: str,
    *,
    made_by: str,
    sees: str,
    recorded: str,
    log: str = "none",
    figure: str = "none",
) -> None:
    """Hand in what was seen. ``sees`` is the status or last event that the caller gets, with code and
    ``retryable``. Raises AssertionError when the page says something else."""
    noted.append(Cell(what.name, fault))
    how = f"**{what.name}** {fault}: {made_by}"
    effect = tuple(value.replace("|", "\\|") for value in (sees, recorded, log, figure))
    assert rows_of(PAGE.read_text(encoding="utf-8")).get(how) == effect, (
        f"{PAGE.name} does not say what was seen just now:\n| {' | '.join((how, *effect))} |"
    )


def rows_of(page: str) -> dict[str, tuple[str, ...]]:
    """Return what fails in each row of the page, with how it was made, and its effect without what to do."""
    lines = [line.strip("| ").split(" | ") for line in page.splitlines() if line.startswith("| ")][2:]
    return {how: tuple(effect) for faults, *effect, _ in lines for how in faults.split(_BETWEEN)}


ELSEWHERE = {"clock off by 45 s", "clock off by 5 minutes"}
"""Proven by ``tests/unit/service/test_identity.py``."""


def cells() -> list[Cell]:
    """Return the faults of the page that are proven here."""
    names = {each.name for each in (*DEPENDENCIES, THE_SERVICE)}
    found: list[Cell] = []
    for how in rows_of(PAGE.read_text(encoding="utf-8")):
        name, _, rest = how.removeprefix("**").partition("** ")
        fault = rest.partition(": ")[0]
        if name in names and fault not in ELSEWHERE:
            found.append(Cell(name, fault))
    return found


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
            terminalreporter.write_line(f"{len(self._told)} of {len(cells())} cells have a test that passed")
            for hole in self._holes():
                terminalreporter.write_line(f"HOLE {hole.dependency}: {hole.fault}", red=True)

    def _holes(self) -> list[Cell]:
        option = self._config.option
        chosen = option.keyword or option.markexpr or getattr(option, "lf", False)
        in_part = any("::" in argument or argument.endswith(".py") for argument in self._config.args)
        at_night = os.environ.get("EXAMPLES") == "new"
        if not self._told or chosen or in_part or not at_night:
            return []
        return [cell for cell in cells() if cell not in self._told]
