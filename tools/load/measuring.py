"""Measures the service: in interleaved pairs with ``bare``, alone over rounds, cut, killed, and profiled."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from assistant.aws.clients import open_client
from assistant.aws.dynamodb_records import DynamoDbAnswerRecords
from tools.load.scene import RECORDS_TABLE, REGION, Run, Scene
from tools.load.workload import ADDED_TO_MS, FIRST_TOKEN_S, TOKEN_S, Effort, LoadOutcome
from tools.processes import Started

FEW_STREAMS = 50
RATE_TOKENS = 20
RATE_STREAMS = 32
_SINGLE_TOKENS = 20


@dataclass(frozen=True, slots=True)
class Pair:
    """Bare's run and the service's, one right after the other."""

    bare: Run
    service: Run


@dataclass(slots=True)
class Pairs:
    """All pairs of one benchmark, by what was run."""

    single: list[Pair] = field(default_factory=list[Pair])
    fifty: list[Pair] = field(default_factory=list[Pair])
    many: list[Pair] = field(default_factory=list[Pair])
    rate: list[Pair] = field(default_factory=list[Pair])

    def all(self) -> list[Pair]:
        return [*self.single, *self.fifty, *self.many, *self.rate]


def measure_pairs(scene: Scene, service: Started, effort: Effort, *, say: Callable[[str], None]) -> Pairs:
    """Run every kind of load on both, ``effort.pairs`` times; the most streams on a process for each core."""
    pairs = Pairs()
    services = [service, *(scene.start_warm_service() for _ in range(1, os.cpu_count() or 1))]
    for number in range(effort.pairs):
        turn = _Turn(scene, service, effort, backwards=number % 2 == 1)
        say(f"pair {number + 1} of {effort.pairs}: one stream")
        scene.pace(tokens=_SINGLE_TOKENS)
        pairs.single.append(
            turn.run(run="streams", streams=1, answers=effort.single_answers, tokens=_SINGLE_TOKENS)
        )
        scene.pace(tokens=effort.stream_tokens)
        say(f"pair {number + 1} of {effort.pairs}: {FEW_STREAMS} streams")
        pairs.fifty.append(turn.streams(FEW_STREAMS, answers=effort.stream_answers))
        say(f"pair {number + 1} of {effort.pairs}: {effort.many_streams} streams")
        pairs.many.append(turn.streams(effort.many_streams, answers=effort.many_answers, on=services))
        say(f"pair {number + 1} of {effort.pairs}: as many answers as it can")
        scene.pace(delayed=False, tokens=RATE_TOKENS)
        pairs.rate.append(
            turn.run(run="rate", streams=RATE_STREAMS, duration_s=effort.rate_s, tokens=RATE_TOKENS)
        )
    scene.pace()
    for beside in services[1:]:
        beside.stop()
    return pairs


@dataclass(frozen=True, slots=True)
class _Turn:
    scene: Scene
    service: Started
    effort: Effort
    backwards: bool

    def streams(self, count: int, *, answers: int, on: Sequence[Started] = ()) -> Pair:
        whole_s = FIRST_TOKEN_S + self.effort.stream_tokens * TOKEN_S
        tokens = self.effort.stream_tokens
        return self.run(on=on, run="streams", streams=count, answers=answers, ramp_s=whole_s, tokens=tokens)

    def run(self, *, on: Sequence[Started] = (), **plan: Any) -> Pair:
        """Run a plan on bare and on the service, or on all processes of it in ``on``."""
        services = on or [self.service]
        if self.backwards:
            service = self.scene.load(*services, **plan)
            return Pair(self.scene.load(self.scene.bare, **plan), service)
        bare = self.scene.load(self.scene.bare, **plan)
        return Pair(bare, self.scene.load(*services, **plan))


def added_ms(run: Run, percent: float) -> float:
    """Return what a run added to the first token, at a percentile; infinite when there was no text."""
    return percentile(run.outcome.first_text_ms, percent) - ADDED_TO_MS


def added_without_ranking_ms(run: Run, percent: float) -> float:
    """Return the same without the time that each answer spent on ranking and quoting."""
    both = zip(run.outcome.first_text_ms, run.outcome.ranking_ms, strict=True)
    rest = [whole - own for whole, own in both]
    return percentile(rest, percent) - ADDED_TO_MS


def percentile(values: Sequence[float], percent: float) -> float:
    """Return the exact percentile by nearest rank; infinite of nothing."""
    if not values:
        return math.inf
    ordered = sorted(values)
    return ordered[max(0, math.ceil(percent / 100 * len(ordered)) - 1)]


def median_of(pairs: Sequence[Pair], value: Callable[[Pair], float]) -> float:
    return statistics.median(value(pair) for pair in pairs)


def medians(pairs: Sequence[Pair], value: Callable[[Run], float]) -> tuple[float, float]:
    """Return the service's median and bare's."""
    return median_of(pairs, lambda pair: value(pair.service)), median_of(pairs, lambda pair: value(pair.bare))


# --- endurance ------------------------------------------------------------------------------------------


_RAMP_S = 2.0
_FIND_TIMEOUT_S = 10.0
_SETTLE_S = 1.0
_READERS = 32


@dataclass(frozen=True, slots=True)
class Rounds:
    """The same load again and again on one process."""

    streams: int
    runs: Sequence[Run]
    resident_bytes: Sequence[int]
    """After each round."""
    peak_bytes: int

    @property
    def growth_bytes(self) -> int:
        """From the second round's end to the last one's."""
        return self.resident_bytes[-1] - self.resident_bytes[min(1, len(self.resident_bytes) - 1)]


def measure_rounds(scene: Scene, effort: Effort, *, say: Callable[[str], None]) -> Rounds:
    """Run many streams five times on a fresh service."""
    service = scene.start_warm_service()
    scene.pace(tokens=effort.stream_tokens)
    runs: list[Run] = []
    resident: list[int] = []
    for number in range(effort.rounds):
        say(f"memory: round {number + 1} of {effort.rounds}")
        tokens = effort.stream_tokens
        streams = effort.many_streams
        runs.append(scene.load(service, run="streams", streams=streams, ramp_s=_RAMP_S, tokens=tokens))
        time.sleep(_SETTLE_S)  # what an answer leaves behind (records, log) is done by then
        resident.append(service.resident_bytes())
    peak = _peak_bytes(service)
    service.stop()
    scene.pace()
    return Rounds(effort.many_streams, runs, resident, peak)


def measure_resumed(scene: Scene, service: Started, effort: Effort) -> Run:
    """Cut every stream at a random point and let it go on."""
    return scene.load(service, run="resumed", streams=effort.resumed_streams, ramp_s=_RAMP_S * 2, seed=1)


def measure_killed(scene: Scene, effort: Effort) -> LoadOutcome:
    """Kill one of two services on the same store while both stream; its clients go on at the other."""
    doomed, other = scene.start_warm_service(), scene.start_warm_service()
    streams = effort.killed_streams
    with scene.loading(
        doomed, run="killed", streams=streams, ramp_s=_RAMP_S, resume_url=other.url, seed=2
    ) as generator:
        generator.begun()
        doomed.kill()
        outcome = generator.outcome()
    other.stop()
    return outcome


def count_missing_records(scene: Scene, answer_ids: Sequence[str]) -> int:
    """Ask the store, by the product's own adapter, for the record of every answer; return how many it lacks.

    A record that is still on its way is waited for, at most 10 s.
    """
    return asyncio.run(_missing(scene.stand_ins.url, answer_ids))


async def _missing(url: str, answer_ids: Sequence[str]) -> int:
    missing = list(answer_ids)
    until_s = time.monotonic() + _FIND_TIMEOUT_S
    async with open_client("dynamodb", region=REGION, endpoint_url=url) as client:
        records = DynamoDbAnswerRecords(client, table=RECORDS_TABLE)
        try:
            while missing and time.monotonic() < until_s:
                missing = await _without_record(records, missing)
        finally:
            await records.close()
    return len(missing)


async def _without_record(records: DynamoDbAnswerRecords, answer_ids: Sequence[str]) -> list[str]:
    places = asyncio.Semaphore(_READERS)

    async def lacks(answer_id: str) -> bool:
        async with places:
            return await records.get_answer(answer_id) is None

    found = await asyncio.gather(*map(lacks, answer_ids))
    return [answer_id for answer_id, missing in zip(answer_ids, found, strict=True) if missing]


def _peak_bytes(process: Started) -> int:
    """Return the most memory that a process ever held (Linux: VmHWM)."""
    status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024


# --- profiling ------------------------------------------------------------------------------------------


_HZ = 250
_TOP = 60
_STREAMS_PLAN: dict[str, Any] = {"run": "streams", "streams": 100, "answers": 3, "ramp_s": 4.0}
_RATE_PLAN: dict[str, Any] = {"run": "rate", "streams": RATE_STREAMS, "duration_s": 8.0} | {
    "tokens": RATE_TOKENS
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
    with tempfile.NamedTemporaryFile(mode="r", encoding="utf-8") as raw:
        options = f"--pid {service.pid} --format raw --rate {_HZ} --duration 600 --output {raw.name}"
        command = [spy, "record", *options.split()]
        watching = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run = scene.load(service, **plan)
        finally:
            watching.send_signal(2)  # it writes what it has
            watching.wait(30)
        return _table(what, run, costs(raw.read()))


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
