"""The table of benchmarks and checks, their short forms, and how old a night run may be."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest

from tools import scheduled_checks
from tools.scheduled_checks import (
    BUDGET_S,
    MOST_COMMITS,
    MOST_DAYS,
    MOST_DAYS_WEEKLY,
    Check,
    NightRun,
    is_due,
    overdue,
    read_checks,
    read_nights,
    run_nights,
    run_short,
)

ROOT = Path(__file__).parents[3]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
CHECKS = {check.name: check for check in read_checks()}
TODAY = date(2026, 11, 25)
LISTED = date(2026, 1, 1)
LOAD = Check(name="bench-load", listed=LISTED, short="make bench-load", night="make bench-load")
WEEKLY = Check(name="check-corpus", listed=LISTED, night="make check-corpus", weekly=True, why="Spark")


def nights(days: int, name: str = "bench-load") -> dict[str, NightRun]:
    return {name: NightRun(date=TODAY - timedelta(days), commit="c" * 40, seconds=9, figures=("all",))}


# --- the table --------------------------------------------------------------------------------------------
def test_every_benchmark_and_check_of_the_makefile_has_a_row() -> None:
    targets = set(re.findall(r"^((?:bench|check|evaluate)(?:-[\w-]+)?):", MAKEFILE, re.M))
    of_each_change = {"check", "check-company", "check-full", "check-night", "check-short", "check-templates"}
    assert targets - of_each_change <= CHECKS.keys()


def test_short_forms_fit_the_budget() -> None:
    assert sum(check.seconds for check in CHECKS.values()) <= BUDGET_S
    assert all((check.seconds > 0) == (check.short is not None) for check in CHECKS.values())


def test_a_check_without_a_short_form_is_a_step_of_ci_or_says_why() -> None:
    steps = set(re.findall(r'^step "([^"]+)"', (ROOT / ".ci" / "run").read_text(encoding="utf-8"), re.M))
    assert {check.ci for check in CHECKS.values() if check.ci} <= steps
    with pytest.raises(ValueError, match="say why"):
        Check(name="bench", listed=TODAY, night="make bench")


def test_the_night_runs_are_of_checks_of_the_table() -> None:
    assert read_nights().keys() <= {check.name for check in CHECKS.values() if check.night}


# --- night runs -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("runs", "commits", "age"),
    [
        ({}, {}, "has no night run since 2026-01-01, when it was listed"),
        (nights(MOST_DAYS + 1), {}, "ran last on 2026-11-10, 15 days ago (14 are allowed)"),
        (nights(0), {"c" * 40: MOST_COMMITS + 1}, "ran last 51 commits ago, at cccccccc (50 are allowed)"),
    ],
)
def test_a_night_run_that_is_too_old_is_refused(
    runs: Mapping[str, NightRun], commits: Mapping[str, int], age: str
) -> None:
    (sentence,) = overdue([LOAD], runs, today=TODAY, commits=commits)
    assert sentence == f'bench-load {age}. Run make check-night ARGS="bench-load" and commit night.json.'


def test_the_age_is_of_the_last_run_or_of_the_row_and_a_shallow_clone_and_a_week_go_by_date() -> None:
    assert overdue([LOAD], nights(MOST_DAYS), today=TODAY, commits={"c" * 40: MOST_COMMITS}) == []
    assert overdue([LOAD], nights(0), today=TODAY, commits={}) == []
    new = LOAD.model_copy(update={"listed": TODAY - timedelta(MOST_DAYS)})
    assert overdue([new], {}, today=TODAY, commits={}) == []
    assert len(overdue([new], {}, today=TODAY + timedelta(1), commits={})) == 1
    runs = nights(MOST_DAYS_WEEKLY, WEEKLY.name)
    assert overdue([WEEKLY], runs, today=TODAY, commits={"c" * 40: 400}) == []
    assert overdue([WEEKLY], runs, today=TODAY + timedelta(1), commits={}) != []


def test_the_short_forms_fail_by_a_night_run_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scheduled_checks, "read_nights", dict)
    assert run_short([LOAD.model_copy(update={"short": "true"})]) == 1
    assert "bench-load has no night run since 2026-01-01, when it was listed" in capsys.readouterr().out


def test_a_short_form_runs_without_the_arguments_of_make(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MAKEFLAGS", "ARGS=bench-load")
    short = LOAD.model_copy(update={"night": None, "short": 'test -z "$MAKEFLAGS"'})
    assert run_short([short]) == 0
    assert run_short([short.model_copy(update={"short": "exit 3"})]) == 1


def test_a_short_form_runs_where_its_paths_were_touched_since_the_last_landed_release(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def git(*words: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.com", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout

    (tmp_path / "a").touch()
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "first")
    (tmp_path / "commits").write_text(git("rev-parse", "HEAD"))
    (tmp_path / "a").write_text("touched")
    monkeypatch.setattr(scheduled_checks, "ROOT", tmp_path)
    monkeypatch.setattr(scheduled_checks, "LANDED", tmp_path / "commits")
    short = LOAD.model_copy(update={"night": None, "short": "exit 3", "paths": ("b",)})
    assert run_short([short]) == 0
    assert run_short([short.model_copy(update={"paths": ("b", "a")})]) == 1
    assert run_short([short.model_copy(update={"paths": ()})]) == 1
    (tmp_path / "commits").write_text("0" * 40)  # a clone that lacks the release
    assert run_short([short]) == 1


def test_a_night_writes_down_what_passed_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(scheduled_checks, "ROOT", tmp_path)
    monkeypatch.setattr(scheduled_checks, "NIGHTS", tmp_path / "night.json")
    fails, passes = (LOAD.model_copy(update={"night": each}) for each in ("echo no; exit 1", "echo 3 passed"))
    assert run_nights([fails], []) == 1
    assert read_nights() == {}
    assert run_nights([passes, WEEKLY.model_copy(update={"night": "exit 1"})], ["bench-load"]) == 0
    assert read_nights()["bench-load"].figures == ("3 passed",)


def test_a_night_goes_on_where_it_ended() -> None:
    assert is_due(LOAD, None, head="d" * 40, today=TODAY)
    assert is_due(LOAD, nights(0)["bench-load"], head="d" * 40, today=TODAY)
    assert not is_due(LOAD, nights(0)["bench-load"], head="c" * 40, today=TODAY)
    assert not is_due(WEEKLY, nights(1, WEEKLY.name)[WEEKLY.name], head="d" * 40, today=TODAY)
    assert is_due(WEEKLY, nights(6, WEEKLY.name)[WEEKLY.name], head="c" * 40, today=TODAY)
