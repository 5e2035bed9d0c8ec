"""Figures are judged as the issue asks."""

from __future__ import annotations

import math

from tools.load.figures import killed_row, pair_rows, resumed_row, rounds_rows
from tools.load.measuring import Pair, Pairs, Rounds, costs, percentile
from tools.load.scene import Run
from tools.load.workload import ADDED_TO_MS, LoadOutcome
from tools.tables import figures_table

MIB = 1024 * 1024


def run(
    *,
    added_ms: float = 2.0,
    ranking_ms: float = 0.0,
    cpu_s: float = 0.04,
    answers: int = 100,
    generator_cpu_s: float = 0.1,
) -> Run:
    outcome = LoadOutcome(
        first_text_ms=[ADDED_TO_MS + added_ms] * 10,
        ranking_ms=[ranking_ms] * 10,
        answers=answers,
        tokens=1000,
        wall_s=1.0,
        cpu_s=generator_cpu_s,
    )
    return Run(outcome, cpu_s, stand_ins_cpu_s=0.2)


def pairs(bare: Run, service: Run) -> Pairs:
    every = [Pair(bare, service)] * 3
    return Pairs(single=every, fifty=every, many=every, rate=every)


def missed(bare: Run, service: Run, *, missing_records: int = 0) -> list[str]:
    rows = pair_rows(pairs(bare, service), missing_records=missing_records, many_streams=200)
    return [row.what for row in rows if not row.holds]


def test_as_good_as_bare_misses_nothing():
    assert missed(run(), run()) == []


def test_what_is_added_is_compared_with_bare_without_ranking():
    assert missed(run(), run(added_ms=22, ranking_ms=16)) == []
    assert missed(run(), run(added_ms=22, ranking_ms=14)) == ["of it without ranking and quoting"] * 2


def test_many_streams_have_a_limit_of_their_own():
    late = run(added_ms=101, ranking_ms=99)
    assert [what[-26:] for what in missed(run(), late)] == ["a process for each core, p99"[-26:]]


def test_cpu_is_compared_with_bare():
    assert missed(run(), run(cpu_s=0.113)) == ["CPU per 1,000 tokens at 50 streams"]


def test_a_short_answer_has_a_limit_of_cpu():
    assert [what[:6] for what in missed(run(answers=10), run(answers=10))] == ["CPU of"]


def test_a_busy_load_generator_voids():
    rows = pair_rows(pairs(run(), run(generator_cpu_s=0.95)), missing_records=0, many_streams=200)
    assert [row.measured.endswith("void") for row in rows if not row.holds] == [True]


def test_a_missing_record_is_a_miss():
    assert missed(run(), run(), missing_records=1) == ["of these, records found afterwards"]


def test_an_error_is_a_miss_and_is_named():
    service = run()
    service.outcome.fail("another text")
    rows = pair_rows(pairs(run(), service), missing_records=0, many_streams=200)
    assert "12 x another text" in next(row.measured for row in rows if not row.holds)


def test_memory_grows_from_the_second_round_on():
    rounds = Rounds(200, [run()] * 5, [90 * MIB, 100 * MIB, 101 * MIB, 102 * MIB, 106 * MIB], 130 * MIB)
    assert [row.holds for row in rounds_rows(rounds)] == [True, True, False]


def test_every_cut_stream_must_end_whole():
    assert resumed_row(run(answers=3), streams=3).holds
    assert not resumed_row(run(answers=2), streams=3).holds


def test_a_kill_must_have_interrupted_somebody():
    assert killed_row(LoadOutcome(interrupted=2, answers=2), streams=4).holds
    assert not killed_row(LoadOutcome(interrupted=0, answers=4), streams=4).holds
    assert not killed_row(LoadOutcome(interrupted=2, answers=1), streams=4).holds


def test_percentiles_are_exact():
    values = [float(number) for number in range(1, 101)]
    assert (percentile(values, 50), percentile(values, 99), percentile([7.0], 99)) == (50.0, 99.0, 7.0)
    assert percentile([], 50) == math.inf


def test_the_table_marks_what_is_missed():
    rows = [resumed_row(run(answers=3), streams=3), resumed_row(run(answers=2), streams=3)]
    assert [line.endswith("(missed) |") for line in figures_table(rows).splitlines()[2:]] == [False, True]


def test_costs_are_summed_over_stacks():
    found = {cost.function: cost for cost in costs("run (a.py:1);ask (b.py:2) 3\nrun (a.py:9) 1\n")}
    assert (found["run (a.py)"].self_share, found["run (a.py)"].total_share) == (0.25, 1.0)
    assert found["ask (b.py)"].self_share == 0.75
