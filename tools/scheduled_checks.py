"""Runs the benchmarks and checks of ``benchmarks/checks.toml``: their short forms, or all of them by night.

python -m tools.scheduled_checks short             short forms; refuses a night run that is too old
python -m tools.scheduled_checks night [NAME...]   night forms; a run that ended early goes on

``benchmarks/night.json`` has the last night run of each that passed (docs/decisions/0099-checks-by-night.md).
"""
# An entry of the table, ``[[check]]``: name = "bench-load", listed = 2026-11-25, short = "make bench-load
# ARGS=--quick", seconds = 60, night = "make bench-load".

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Self

import orjson
from pydantic import TypeAdapter, model_validator

from assistant.tenant.toml_file import StrictModel, read_strict

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "benchmarks" / "checks.toml"
NIGHTS = ROOT / "benchmarks" / "night.json"
LANDED = ROOT / "tests" / "landed" / "commits"
"""The landed releases, the last one first."""
BUDGET_S = 240
"""Seconds of all short forms together, on two cores; printed, and a test sums ``Check.seconds``."""
MOST_DAYS, MOST_COMMITS = 14, 50
"""Age at which a night run is too old: either decides."""
WEEKLY_DAYS, MOST_DAYS_WEEKLY = 6, 28
"""Days after which a weekly check runs again, and is too old."""
_LIMIT_S = 3 * 3600
"""Limit of one night form."""
_LAST_LINES = 20
_SHORT_LIMIT_S = 600


class Check(StrictModel):
    """A benchmark or check."""

    name: str
    listed: date
    """When it came into the table: until its first night run its age counts from then."""
    short: str | None = None
    """Command that runs on each change. It judges results only, no times."""
    seconds: int = 0
    """What the short form takes on two cores."""
    paths: tuple[str, ...] = ()
    """Folders and files: the short form runs where one differs from the last landed release. None: always."""
    ci: str | None = None
    """Step of ``.ci/run`` that runs it on every change, in place of a short form."""
    night: str | None = None
    """Command that runs by night; None: it runs by hand, or only by ``short`` or ``ci``."""
    weekly: bool = False
    """Whether it runs once a week: it fetches gigabytes, or compiles."""
    why: str = ""
    """Why it has no short form, or runs nowhere."""

    @model_validator(mode="after")
    def _runs_or_says_why(self) -> Self:
        if not (self.short or self.ci) and not self.why:
            raise ValueError(f"{self.name} has neither short nor ci; say why")
        if self.night is None and not self.why:
            raise ValueError(f"{self.name} has no night form; say why")
        return self


class NightRun(StrictModel):
    """The last night run of a check that passed."""

    date: date
    commit: str
    seconds: int
    figures: tuple[str, ...]
    """The rows of its tables, or its last lines."""


class _Table(StrictModel):
    check: tuple[Check, ...]


_RUNS = TypeAdapter(dict[str, NightRun])


def read_checks() -> tuple[Check, ...]:
    return read_strict(TABLE, _Table).check


def read_nights() -> dict[str, NightRun]:
    return _RUNS.validate_json(NIGHTS.read_bytes()) if NIGHTS.exists() else {}


def _git(*arguments: str) -> str | None:
    """Return what git prints; None where it fails."""
    command = ["git", *arguments]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return completed.stdout.strip() if completed.returncode == 0 else None


# --- night runs -------------------------------------------------------------------------------------------


def overdue(
    checks: Iterable[Check], nights: Mapping[str, NightRun], *, today: date, commits: Mapping[str, int]
) -> list[str]:
    """Return a sentence for each check whose last night run is too old.

    ``commits``: number of later commits, by the commit of a run. Where a run's commit is missing there (a
    shallow clone), its date alone decides, as for weekly checks.
    """
    sentences: list[str] = []
    for check in checks:
        if check.night is None:
            continue
        run, most_days = nights.get(check.name), MOST_DAYS_WEEKLY if check.weekly else MOST_DAYS
        if run is None:
            if (today - check.listed).days <= most_days:
                continue
            age = f"has no night run since {check.listed}, when it was listed"
        elif (today - run.date).days > most_days:
            age = f"ran last on {run.date}, {(today - run.date).days} days ago ({most_days} are allowed)"
        elif not check.weekly and (count := commits.get(run.commit, 0)) > MOST_COMMITS:
            age = f"ran last {count} commits ago, at {run.commit[:8]} ({MOST_COMMITS} are allowed)"
        else:
            continue
        sentences.append(
            f'{check.name} {age}. Run make check-night ARGS="{check.name}" and commit {NIGHTS.name}.'
        )
    return sentences


def commits_since(nights: Mapping[str, NightRun]) -> dict[str, int]:
    """Return the number of commits after each run's, for the commits that this clone has."""
    counts = {run.commit: _git("rev-list", "--count", f"{run.commit}..HEAD") for run in nights.values()}
    return {commit: int(count) for commit, count in counts.items() if count is not None}


def is_touched(check: Check) -> bool:
    """Return whether something in the check's paths differs from the last landed release, or none is here."""
    (landed, *_) = LANDED.read_text(encoding="utf-8").split()
    return not check.paths or _git("diff", "--quiet", landed, "--", *check.paths) is None


def is_due(check: Check, run: NightRun | None, *, head: str, today: date) -> bool:
    """Return whether the night runs it: not again at the commit ``head``; a weekly one after six days."""
    if check.night is None:
        return False
    if run is None:
        return True
    return (today - run.date).days >= WEEKLY_DAYS if check.weekly else run.commit != head


def figures_of(output: str) -> tuple[str, ...]:
    """Return the rows of the Markdown tables in an output, without their heads: ``indexing | ≥ 12,000 |
    17,008``. Without a table, return its last lines: a summary of pytest, or the table of `assistant
    evaluate`."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    heads = {at + shift for at, line in enumerate(lines) if line.startswith("| ---") for shift in (-1, 0)}
    rows = [line.strip("| ") for at, line in enumerate(lines) if line.startswith("| ") and at not in heads]
    return tuple(rows or lines[-_LAST_LINES:])


def run_nights(checks: Sequence[Check], names: Sequence[str]) -> int:
    """Run the named checks, or all that are due, and write each that passes into ``NIGHTS`` at once, so that
    a run that ends early can go on. Return the exit status. Raises SystemExit with uncommitted changes or an
    unknown name."""
    if dirty := _git("status", "--porcelain", "--", ".", f":!{NIGHTS.relative_to(ROOT)}"):
        raise SystemExit(f"Commit first, so that the runs are those of a commit:\n{dirty}")
    head, today, failed = _git("rev-parse", "HEAD") or "", datetime.now(UTC).date(), list[str]()
    if unknown := set(names) - {check.name for check in checks if check.night}:
        raise SystemExit(f"{', '.join(sorted(unknown))}: no check with a night form in {TABLE.name}.")
    for check in checks:
        due = (
            check.name in names
            if names
            else is_due(check, read_nights().get(check.name), head=head, today=today)
        )
        if not due:
            continue
        output, seconds = _run(check.name, check.night or "", limit_s=_LIMIT_S)
        if output is None:
            failed.append(check.name)
            continue
        run = NightRun(date=today, commit=head, seconds=seconds, figures=figures_of(output))
        nights = dict(sorted((read_nights() | {check.name: run}).items()))
        dumped = orjson.dumps(_RUNS.dump_python(nights, mode="json"), option=orjson.OPT_INDENT_2)
        NIGHTS.write_bytes(dumped + b"\n")
    return _ended(failed)


def run_short(checks: Sequence[Check]) -> int:
    """Run the short forms whose paths were touched, and print which night runs are too old; return the exit
    status, 1 for either."""
    nights, began_s = read_nights(), time.monotonic()
    refused = overdue(checks, nights, today=datetime.now(UTC).date(), commits=commits_since(nights))
    short = [(check.name, check.short) for check in checks if check.short is not None and is_touched(check)]
    failed = [name for name, command in short if _run(name, command, limit_s=_SHORT_LIMIT_S)[0] is None]
    print(f"\n{time.monotonic() - began_s:.0f} s of {BUDGET_S} s", *refused, sep="\n")
    return _ended(failed) or int(bool(refused))


def _run(name: str, command: str, *, limit_s: float) -> tuple[str | None, int]:
    """Run a command, passing its output on; return what it printed, None where it failed, and its seconds."""
    print(f"=== {name}: {command}", flush=True)
    began_s, lines, of_make = time.monotonic(), list[str](), ("ARGS", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    # Without variables of the make that started this: a command may be a make of its own.
    environment = {key: value for key, value in os.environ.items() if key not in of_make}
    with subprocess.Popen(
        ["timeout", f"{limit_s:.0f}", "bash", "-c", command],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        for line in process.stdout or ():
            sys.stdout.write(line)
            lines.append(line)
    seconds = round(time.monotonic() - began_s)
    print(f"=== {name}: {'passed' if process.returncode == 0 else 'FAILED'} after {seconds} s", flush=True)
    return ("".join(lines) if process.returncode == 0 else None), seconds


def _ended(failed: Sequence[str]) -> int:
    """Print the names of failed checks; return the exit status."""
    if failed:
        print(f"Failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("short")
    commands.add_parser("night").add_argument("names", nargs="*", help="these only, due or not")
    arguments = parser.parse_args()
    if arguments.command == "short":
        return run_short(read_checks())
    return run_nights(read_checks(), arguments.names)


if __name__ == "__main__":
    raise SystemExit(main())
