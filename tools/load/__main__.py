"""The service under load, beside a relay by hand: every figure with what is asked of it.

python -m tools.load              about five minutes on two cores; fails unless every figure holds
python -m tools.load --quick      less than a minute; fails unless every answer is right
python -m tools.load --profile F  where the CPU of short answers goes, as a flame graph in the file F (SVG)
"""

from __future__ import annotations

import argparse
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tools.load.scene import Run, Scene
from tools.load.stand_ins import ADDED_TO_MS, FIRST_TOKEN_S, TOKEN_S
from tools.load.workload import ANSWER_TOKENS, LoadOutcome
from tools.processes import Started, end_on_signals
from tools.tables import Figure, figures_table

MOST_MANY_P99_MS = 130
MOST_SHORT_CPU_MS = 14
MOST_MEMORY_MIB = 215
MOST_GROWTH_MIB = 5
MOST_GENERATOR_CPU = 0.9
"""Above it the load generator is what is measured."""
SHORT_TOKENS = 20
_SHORT: dict[str, Any] = {"streams": 32, "tokens": SHORT_TOKENS, "delayed": False}
"""As many short answers as the service can, while stand-ins answer at once."""
_RECORDS_TIMEOUT_S = 10.0
_SETTLE_S = 1.0
_RAMP_S = 2.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured."""

    pairs: int = 5
    """Of runs, bare and service; each figure is the median over them."""
    single_answers: int = 7
    many_answers: int = 2
    """Of each of many streams, one after the other; the first is the ramp when there are several."""
    tokens: int = ANSWER_TOKENS
    streams: int = 200
    short_s: float = 3.0
    rounds: int = 5
    resumed_streams: int = 500
    judges_times: bool = True


QUICK = Effort(
    pairs=1,
    single_answers=2,
    many_answers=1,
    tokens=30,
    streams=100,
    short_s=1.0,
    rounds=2,
    resumed_streams=50,
    judges_times=False,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """Bare's run and the service's, one right after the other."""

    bare: Run
    service: Run


@dataclass(frozen=True, slots=True)
class Pairs:
    """All pairs of one benchmark, by what was run."""

    single: list[Pair] = field(default_factory=list[Pair])
    many: list[Pair] = field(default_factory=list[Pair])
    short: list[Pair] = field(default_factory=list[Pair])


@dataclass(frozen=True, slots=True)
class Rounds:
    """The same load again and again on one process."""

    runs: Sequence[Run]
    resident_bytes: Sequence[int]
    """After each round."""
    peak_bytes: int


# --- measuring ------------------------------------------------------------------------------------------


def measure(scene: Scene, effort: Effort, *, say: Callable[[str], None]) -> list[Figure]:
    """Measure every figure."""
    service = scene.start_warm_service()
    pairs = measure_pairs(scene, service, effort, say=say)
    say("streams cut and resumed")
    resumed = scene.load(service, streams=effort.resumed_streams, ramp_s=2 * _RAMP_S, cut=True)
    service.stop()
    say("memory")
    rounds = measure_rounds(scene, effort)
    say("records")
    state = _state_with_records(scene)
    return [
        *pair_rows(pairs, streams=effort.streams),
        *memory_rows(rounds, streams=effort.streams),
        resumed_row(resumed.outcome, streams=effort.resumed_streams),
        errors_row([pair.service for pair in (*pairs.single, *pairs.many, *pairs.short)] + [*rounds.runs]),
        kept_row(records=state["records"], answers=scene.answered),
        unknown_row(state["unknown"]),
    ]


def measure_pairs(scene: Scene, service: Started, effort: Effort, *, say: Callable[[str], None]) -> Pairs:
    """Run every kind of load on both, ``effort.pairs`` times; the most streams on a process for each core."""
    pairs, services = Pairs(), [service]
    services += [scene.start_warm_service() for _ in range(1, os.cpu_count() or 1)]
    ramp_s = FIRST_TOKEN_S + effort.tokens * TOKEN_S
    single: dict[str, Any] = {"streams": 1, "answers": effort.single_answers, "tokens": SHORT_TOKENS}
    many: dict[str, Any] = {
        "streams": effort.streams,
        "answers": effort.many_answers,
        "ramp_s": ramp_s,
        "tokens": effort.tokens,
    }
    for number in range(effort.pairs):
        say(f"pair {number + 1} of {effort.pairs}")

        def pair(targets: Sequence[Started], backwards: bool = number % 2 == 1, **plan: Any) -> Pair:
            if backwards:
                run = scene.load(*targets, **plan)
                return Pair(scene.load(scene.bare, **plan), run)
            return Pair(scene.load(scene.bare, **plan), scene.load(*targets, **plan))

        pairs.single.append(pair([service], **single))
        pairs.many.append(pair(services, **many))
        pairs.short.append(pair([service], **_SHORT, duration_s=effort.short_s))
    for beside in services[1:]:
        beside.stop()
    return pairs


def measure_rounds(scene: Scene, effort: Effort) -> Rounds:
    """Run many streams again and again on a fresh service."""
    service = scene.start_warm_service()
    runs: list[Run] = []
    resident: list[int] = []
    for _ in range(effort.rounds):
        runs.append(scene.load(service, streams=effort.streams, ramp_s=_RAMP_S, tokens=effort.tokens))
        time.sleep(_SETTLE_S)  # what an answer leaves behind (records, log) is done by then
        resident.append(service.resident_bytes())
    status = Path(f"/proc/{service.pid}/status").read_text(encoding="ascii")
    peak_kib = next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]
    service.stop()
    return Rounds(runs, resident, int(peak_kib) * 1024)


def _state_with_records(scene: Scene) -> dict[str, Any]:
    """Return the stand-ins' state once every answer has its record, or after 10 s."""
    until_s = time.monotonic() + _RECORDS_TIMEOUT_S
    while (state := scene.state())["records"] < scene.answered and time.monotonic() < until_s:
        time.sleep(0.1)
    return state


def profile_service(scene: Scene, *, into: Path) -> None:
    """Draw where the service's CPU goes while it gives short answers."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if spy is None:
        raise SystemExit("py-spy is not installed. Run: pip install py-spy")
    service = scene.start_warm_service()
    command = [spy, "record", "--pid", str(service.pid), "--rate", "250", "--output", str(into)]
    watching = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        run = scene.load(service, **_SHORT, duration_s=8.0)
    finally:
        watching.send_signal(signal.SIGINT)  # it writes what it has
        watching.wait(30)
    print(f"{run.outcome.answers} answers, {run.cpu_an_answer_ms:.1f} ms of CPU each: {into}")


# --- figures --------------------------------------------------------------------------------------------


def pair_rows(pairs: Pairs, *, streams: int) -> list[Figure]:
    """Return the figures that are measured beside bare."""
    single, bare_single = (_median(pairs.single, lambda run: added_ms(run, 50)), _bare(pairs.single, 50))
    many, bare_many = _median(pairs.many, lambda run: added_ms(run, 99)), _bare(pairs.many, 99)
    busy = max(
        run.outcome.cpu_s / run.outcome.wall_s for pair in pairs.many for run in (pair.bare, pair.service)
    )
    void = ", void" if busy > MOST_GENERATOR_CPU else ""
    stand_ins = _median(pairs.many, lambda run: run.stand_ins_cpu_s / run.outcome.wall_s)
    short_ms = _median(pairs.short, lambda run: run.cpu_an_answer_ms)
    bare_ms = statistics.median(pair.bare.cpu_an_answer_ms for pair in pairs.short)
    return [
        Figure(
            "added to the first text, one stream, p50",
            "",
            f"bare + {single - bare_single:.1f} ms: {single:.1f} ms (bare {bare_single:.1f} ms)",
            holds=True,
        ),
        Figure(
            f"added to the first text, {streams} streams, a process for each core, p99",
            f"≤ {MOST_MANY_P99_MS} ms; load generator ≤ {MOST_GENERATOR_CPU:.0%} CPU",
            f"{many:.0f} ms (bare {bare_many:.0f} ms); of one core: stand-ins {stand_ins:.0%}, "
            f"load generator {busy:.0%}{void}",
            many <= MOST_MANY_P99_MS and not void,
        ),
        Figure(
            f"CPU of an answer of {SHORT_TOKENS} tokens, stand-ins without delay",
            f"≤ {MOST_SHORT_CPU_MS} ms",
            f"{short_ms:.1f} ms: {short_ms / bare_ms:.0f} x bare ({bare_ms:.2f} ms)",
            short_ms <= MOST_SHORT_CPU_MS,
        ),
    ]


def added_ms(run: Run, percent: float) -> float:
    """Return what a run added to the first text, at a percentile; infinite when there was no text."""
    return percentile(run.outcome.first_text_ms, percent) - ADDED_TO_MS


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the exact percentile by nearest rank; infinite of nothing."""
    if not values:
        return math.inf
    return sorted(values)[max(0, math.ceil(percent / 100 * len(values)) - 1)]


def _median(pairs: Sequence[Pair], value: Callable[[Run], float]) -> float:
    """Return the service's median."""
    return statistics.median(value(pair.service) for pair in pairs)


def _bare(pairs: Sequence[Pair], percent: float) -> float:
    return statistics.median(added_ms(pair.bare, percent) for pair in pairs)


def memory_rows(rounds: Rounds, *, streams: int) -> list[Figure]:
    """Return the figures of many streams over several rounds."""
    peak, count = rounds.peak_bytes / _MIB, len(rounds.runs)
    growth = (rounds.resident_bytes[-1] - rounds.resident_bytes[min(1, count - 1)]) / _MIB
    return [
        Figure(
            f"memory of {streams} streams, {count} rounds, at the peak",
            f"≤ {MOST_MEMORY_MIB} MiB",
            f"{peak:.0f} MiB",
            peak <= MOST_MEMORY_MIB,
            timed=False,
        ),
        Figure(
            f"growth between rounds two and {count}",
            f"≤ {MOST_GROWTH_MIB} MiB",
            f"{growth:.1f} MiB",
            growth <= MOST_GROWTH_MIB,
        ),
    ]


def resumed_row(outcome: LoadOutcome, *, streams: int) -> Figure:
    return Figure(
        f"{streams} streams cut and resumed at random points",
        "every text equal to the uninterrupted one",
        f"{outcome.answers} equal, resumed {outcome.resumed} times{_errors([outcome])}",
        outcome.answers == streams and not outcome.errors,
        timed=False,
    )


def errors_row(runs: Sequence[Run]) -> Figure:
    outcomes = [run.outcome for run in runs]
    return Figure(
        "answers of all other runs: every text right",
        "no error",
        f"{sum(outcome.answers for outcome in outcomes):,} answers{_errors(outcomes) or ', no error'}",
        not any(outcome.errors for outcome in outcomes),
        timed=False,
    )


def kept_row(*, records: int, answers: int) -> Figure:
    return Figure(
        "records of all these answers",
        "each has one",
        f"{records:,} of {answers:,}",
        records >= answers > 0,
        timed=False,
    )


def unknown_row(unknown: dict[str, int]) -> Figure:
    calls = "; ".join(f"{count} x {what}" for what, count in unknown.items())
    return Figure("calls that the stand-ins do not know", "none", calls or "none", not unknown, timed=False)


def _errors(outcomes: Sequence[LoadOutcome]) -> str:
    counted = sum((Counter(outcome.errors) for outcome in outcomes), Counter[str]())
    return "".join(f"; {count} x {what}" for what, count in counted.most_common())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--profile", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    end_on_signals()
    effort, began_s = QUICK if arguments.quick else Effort(), time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began_s:6.0f} s  {what}", file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory() as scratch, ExitStack() as processes:
        scene = Scene(processes, Path(scratch))
        if arguments.profile is not None:
            profile_service(scene, into=arguments.profile)
            return 0
        before = os.getloadavg()[0]
        rows = measure(scene, effort, say=say)
    print(figures_table(rows), end="")
    print(f"\n{os.cpu_count()} cores; load average {before:.1f} before, {os.getloadavg()[0]:.1f} after")
    judged = [row for row in rows if effort.judges_times or not row.timed]
    return 0 if all(row.holds for row in judged) else 1


if __name__ == "__main__":
    raise SystemExit(main())
