"""Figures are judged as is asked."""

from __future__ import annotations

import math

from tools.load.__main__ import (
    Pair,
    Pairs,
    Rounds,
    errors_row,
    kept_row,
    memory_rows,
    pair_rows,
    percentile,
    resumed_row,
    unknown_row,
)
from tools.load.scene import Run
from tools.load.stand_ins import ADDED_TO_MS
from tools.load.workload import LoadOutcome
from tools.tables import figures_table

MIB = 1024 * 1024


def run(
    *, added_ms: float = 2.0, cpu_s: float = 0.04, answers: int = 100, generator_cpu_s: float = 0.1
) -> Run:
    outcome = LoadOutcome([ADDED_TO_MS + added_ms] * 10, answers=answers, wall_s=1.0, cpu_s=generator_cpu_s)
    return Run(outcome, cpu_s, stand_ins_cpu_s=0.2)


def missed(service: Run, *, bare: Run | None = None) -> list[str]:
    every = [Pair(bare or run(), service)] * 3
    rows = pair_rows(Pairs(single=every, many=every, short=every), streams=200)
    return [row.what.split(",")[0] for row in rows if not row.holds]


def test_as_good_as_bare_misses_nothing():
    assert missed(run()) == []


def test_one_stream_is_told_beside_bare():
    every = [Pair(run(), run(added_ms=22.0))]
    first, *_ = pair_rows(Pairs(single=every, many=every, short=every), streams=200)
    assert first.measured == "bare + 20.0 ms: 22.0 ms (bare 2.0 ms)"


def test_many_streams_have_a_limit():
    assert missed(run(added_ms=129)) == []
    assert missed(run(added_ms=131)) == ["added to the first text"]


def test_a_short_answer_has_a_limit_of_cpu_and_is_told_beside_bare():
    assert missed(run(cpu_s=1.5)) == ["CPU of an answer of 20 tokens"]
    every = [Pair(run(), run(cpu_s=1.2))]
    *_, short = pair_rows(Pairs(single=every, many=every, short=every), streams=200)
    assert (short.measured, short.holds) == ("12.0 ms: 30 x bare (0.40 ms)", True)


def test_a_busy_load_generator_voids():
    assert missed(run(generator_cpu_s=0.95)) == ["added to the first text"]
    assert missed(run(), bare=run(generator_cpu_s=0.95)) == ["added to the first text"]


def test_no_answers_are_a_miss():
    empty = Run(LoadOutcome(wall_s=1.0), 1.0, stand_ins_cpu_s=0.0)
    assert missed(empty) == ["added to the first text", "CPU of an answer of 20 tokens"]


def test_an_error_is_a_miss_and_is_named():
    service = run()
    service.outcome.errors["another text"] = 2
    row = errors_row([run(), service])
    assert (row.measured, row.holds) == ("200 answers; 2 x another text", False)
    assert errors_row([run()]).holds


def test_a_missing_record_is_a_miss():
    assert kept_row(records=100, answers=100).holds
    assert not kept_row(records=99, answers=100).holds
    assert not kept_row(records=0, answers=0).holds


def test_a_call_that_no_stand_in_knows_is_a_miss():
    assert unknown_row({}).holds
    row = unknown_row({"DynamoDB.ImportTable": 2})
    assert (row.measured, row.holds, row.timed) == ("2 x DynamoDB.ImportTable", False, False)


def test_memory_grows_from_the_second_round_on():
    resident = [mib * MIB for mib in (90, 100, 101, 102, 106)]
    assert [row.holds for row in memory_rows(Rounds([run()] * 5, resident, 215 * MIB), streams=200)] == [
        True,
        False,
    ]
    assert [row.holds for row in memory_rows(Rounds([run()], resident[:1], 216 * MIB), streams=200)] == [
        False,
        True,
    ]


def test_every_cut_stream_must_end_whole():
    assert resumed_row(LoadOutcome(answers=3), streams=3).holds
    assert not resumed_row(LoadOutcome(answers=2), streams=3).holds


def test_percentiles_are_exact():
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50.0, 99.0, 7.0)
    assert percentile([], 50) == math.inf


def test_the_table_marks_what_is_missed():
    rows = [resumed_row(LoadOutcome(answers=count), streams=3) for count in (3, 2)]
    assert [line.endswith("(missed) |") for line in figures_table(rows).splitlines()[2:]] == [False, True]
