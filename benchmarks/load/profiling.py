"""Where the service's CPU goes: py-spy looks at it from outside while it is loaded."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.load.pairs import RATE_STREAMS, RATE_TOKENS
from benchmarks.load.scene import Run, Scene
from benchmarks.load.started_processes import Started

_HZ = 250
_TOP = 60
_STREAMS_PLAN: dict[str, Any] = {"run": "streams", "streams": 100, "answers": 3, "ramp_s": 4.0}
_RATE_PLAN: dict[str, Any] = {
    "run": "rate",
    "streams": RATE_STREAMS,
    "duration_s": 8.0,
    "tokens": RATE_TOKENS,
}


@dataclass(frozen=True, slots=True)
class Cost:
    """What one function takes of the process's CPU."""

    function: str
    self_share: float
    total_share: float
    """With all that it calls."""


def profile_service(scene: Scene, *, into: Path) -> None:
    """Profile the service in both modes and write the tables of its functions (Markdown)."""
    spy = shutil.which("py-spy", path=f"{Path(sys.executable).parent}:{os.environ.get('PATH', '')}")
    if spy is None:
        raise SystemExit("py-spy is not here: pip install py-spy")
    service = scene.start_warm_service()
    parts = [_profiled(scene, service, spy, _STREAMS_PLAN, "streams of 200 tokens")]
    scene.pace(delayed=False, tokens=RATE_TOKENS)
    parts.append(_profiled(scene, service, spy, _RATE_PLAN, f"no delays, {RATE_TOKENS} tokens"))
    scene.pace()
    into.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _profiled(scene: Scene, service: Started, spy: str, plan: dict[str, Any], what: str) -> str:
    raw = service.stderr.with_suffix(".raw")
    command = [
        spy,
        "record",
        "--pid",
        str(service.pid),
        "--format",
        "raw",
        "--rate",
        str(_HZ),
        "--duration",
        "600",
    ]
    watching = subprocess.Popen(
        [*command, "--output", str(raw)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        run = scene.load(service, **plan)
    finally:
        watching.send_signal(2)  # it writes what it has
        watching.wait(30)
    return _table(what, run, costs(raw.read_text(encoding="utf-8")))


def costs(folded: str) -> list[Cost]:
    """Return the functions of folded stacks (``a;b;c COUNT``), the dearest with callees first."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    samples = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_function(frame) for frame in stack.split(";") if frame]
        if not frames or not count.isdigit():
            continue
        samples += int(count)
        own[frames[-1]] += int(count)
        for frame in set(frames):
            total[frame] += int(count)
    return [Cost(name, own[name] / samples, share / samples) for name, share in total.most_common()]


def _function(frame: str) -> str:
    """Return ``name (file)`` without the line, which would split a function's cost."""
    head, _, place = frame.rpartition(" (")
    return f"{head} ({place.split(':')[0].rstrip(')')})" if head else frame


def _table(what: str, run: Run, found: list[Cost]) -> str:
    answers, tokens = run.outcome.answers or 1, run.outcome.tokens or 1
    each_us = run.cpu_s / answers * 1e6
    lines = [
        f"## {what}: {answers} answers, {each_us:,.0f} µs of CPU each, "
        f"{run.cpu_s / tokens * 1e6:.1f} µs a token",
        "",
        "| function | own µs an answer | with callees |",
        "| --- | ---: | ---: |",
    ]
    lines += [
        f"| {cost.function} | {cost.self_share * each_us:,.0f} | {cost.total_share * each_us:,.0f} |"
        for cost in found[:_TOP]
    ]
    lines += ["", "| function, by its own cost | own µs an answer |", "| --- | ---: |"]
    own = sorted(found, key=lambda cost: -cost.self_share)[:_TOP]
    lines += [f"| {cost.function} | {cost.self_share * each_us:,.0f} |" for cost in own]
    return "\n".join(lines)
