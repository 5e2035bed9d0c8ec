"""Figures are judged as is asked."""

from __future__ import annotations

import math
from dataclasses import replace

from tools.load.__main__ import QUICK, Measured, Run, kept_rows, percentile, timed_rows
from tools.load.stand_ins import ADDED_TO_MS
from tools.load.workload import LoadOutcome

EFFORT = QUICK._replace(streams=200, resumed_streams=3)
STATE = {"records": 300, "unknown": {}}


def run(
    *, added_ms: float = 2.0, cpu_s: float = 0.04, answers: int = 100, generator_cpu_s: float = 0.1
) -> Run:
    outcome = LoadOutcome([ADDED_TO_MS + added_ms] * 10, answers=answers, wall_s=1.0, cpu_s=generator_cpu_s)
    return Run(outcome, cpu_s)


def measured(service: Run | None = None) -> Measured:
    every = [service or run()] * 3
    return Measured(every, every, [run()], [100.0, 101.0, 180.0], LoadOutcome(answers=3))


def missed(service: Run | None = None) -> list[str]:
    rows = timed_rows(measured(service), EFFORT)
    return [row.what.split(",")[0] for row in rows if not row.holds]


def failed(found: Measured, *, state: dict[str, object] | None = None, answered: int = 300) -> list[str]:
    rows = kept_rows(found, EFFORT, state or STATE, answered)
    assert not any(row.timed for row in rows)
    return [row.measured for row in rows if not row.holds]


def test_a_fast_service_misses_nothing():
    assert missed() == []
    assert failed(measured()) == []


def test_many_streams_and_a_short_answer_have_a_limit():
    assert missed(run(added_ms=129)) == []
    assert missed(run(added_ms=131)) == ["added to the first text"]
    assert missed(run(cpu_s=1.5)) == ["CPU of an answer of 20 tokens"]


def test_a_busy_load_generator_voids():
    assert missed(run(generator_cpu_s=0.95)) == ["added to the first text"]


def test_no_answers_are_a_miss():
    empty = Run(LoadOutcome(wall_s=1.0), 1.0)
    assert missed(empty) == ["added to the first text", "CPU of an answer of 20 tokens"]


def test_an_error_is_a_miss_and_is_named():
    service = run()
    service.outcome.errors["another text"] = 2
    assert failed(replace(measured(), short=[service])) == ["500 answers; 2 x another text"]


def test_a_missing_record_and_an_unknown_call_are_misses():
    assert failed(measured(), state={**STATE, "records": 299}) == ["299 of 300"]
    assert failed(measured(), state={**STATE, "records": 0}, answered=0) == ["0 of 0"]
    unknown = {**STATE, "unknown": {"DynamoDB.ImportTable": 2}}
    assert failed(measured(), state=unknown) == ["2 x DynamoDB.ImportTable"]


def test_memory_has_a_limit_and_grows_from_the_second_round_on():
    grown = replace(measured(), resident_mib=[90.0, 100.0, 101.0, 106.0, 215.0])
    assert [row.what for row in timed_rows(grown, EFFORT) if not row.holds] == [
        "growth between rounds two and 4"
    ]
    assert failed(grown) == []
    assert failed(replace(measured(), resident_mib=[90.0, 216.0])) == ["216 MiB"]


def test_every_cut_stream_must_end_whole():
    assert failed(replace(measured(), resumed=LoadOutcome(answers=2))) == ["2 equal, resumed 0 times"]


def test_percentiles_are_exact():
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50.0, 99.0, 7.0)
    assert percentile([], 50) == math.inf
