"""The table: each figure beside what is asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tools.load.measuring import RATE_TOKENS, Pair, Pairs, Rounds, added_ms, median_of
from tools.load.scene import Run
from tools.load.workload import LoadOutcome

MOST_GENERATOR_CPU = 0.9
"""Above it the load generator is what is measured."""
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Row:
    what: str
    asked: str
    measured: str
    holds: bool
    timed: bool = True
    """Whether the machine's speed decides it."""


def pair_rows(pairs: Pairs, *, missing_records: int, many_streams: int) -> list[Row]:
    """Return the figures that are measured against bare."""
    rate = median_of(pairs.rate, lambda pair: pair.service.answers_per_s / pair.bare.answers_per_s)
    service, bare = median_of(pairs.rate, _service(_rate)), median_of(pairs.rate, _bare(_rate))
    answers = sum(pair.service.outcome.answers for pair in pairs.rate)
    return [
        _beside("added to the first token, one stream, p50", pairs.single, percent=50, above_ms=3),
        _beside("the same, 50 streams, p50", pairs.fifty, percent=50, above_ms=4),
        _beside("the same, 50 streams, p99", pairs.fifty, percent=99, above_ms=20),
        _many(pairs.many, streams=many_streams),
        _cpu(pairs.fifty),
        Row(
            f"stand-ins without delay, answers of {RATE_TOKENS} tokens: requests per second",
            "≥ 20 % of bare's",
            f"{rate:.1%}: {service:.0f}/s (bare {bare:.0f}/s)",
            rate >= 0.2,
        ),
        Row(
            "of these, records found afterwards",
            "every one",
            f"{answers - missing_records} of {answers}",
            missing_records == 0 and answers > 0,
            timed=False,
        ),
        errors_row("answers of all pairs", [pair.service.outcome for pair in pairs.all()]),
    ]


def _beside(what: str, pairs: Sequence[Pair], *, percent: float, above_ms: float) -> Row:
    difference = median_of(pairs, lambda pair: added_ms(pair.service, percent) - added_ms(pair.bare, percent))
    service = median_of(pairs, lambda pair: added_ms(pair.service, percent))
    bare = median_of(pairs, lambda pair: added_ms(pair.bare, percent))
    return Row(
        what,
        f"≤ bare + {above_ms:.0f} ms",
        f"bare + {difference:.1f} ms: {service:.1f} ms (bare {bare:.1f} ms)",
        difference <= above_ms,
    )


def _many(pairs: Sequence[Pair], *, streams: int) -> Row:
    ratio = median_of(pairs, lambda pair: added_ms(pair.service, 99) / added_ms(pair.bare, 99))
    service = median_of(pairs, lambda pair: added_ms(pair.service, 99))
    bare = median_of(pairs, lambda pair: added_ms(pair.bare, 99))
    busy = max(run.outcome.cpu_share for pair in pairs for run in (pair.bare, pair.service))
    void = ", void" if busy > MOST_GENERATOR_CPU else ""
    return Row(
        f"the same, {streams} streams, p99",
        "≤ 3 x bare's and ≤ 60 ms; load generator ≤ 90 % CPU",
        f"{ratio:.1f} x bare's: {service:.1f} ms (bare {bare:.1f} ms); load generator {busy:.0%} CPU{void}",
        ratio <= 3 and service <= 60 and not void,
    )


def _cpu(pairs: Sequence[Pair]) -> Row:
    ratio = median_of(
        pairs, lambda pair: pair.service.cpu_per_1000_tokens_s / pair.bare.cpu_per_1000_tokens_s
    )
    service, bare = median_of(pairs, _service(_cpu_s)), median_of(pairs, _bare(_cpu_s))
    return Row(
        "CPU per 1,000 tokens at 50 streams",
        "≤ 2.0 x bare",
        f"{ratio:.2f}x: {service:.3f} s (bare {bare:.3f} s)",
        ratio <= 2.0,
    )


def rounds_rows(rounds: Rounds) -> list[Row]:
    """Return the figures of many streams over several rounds."""
    growth = rounds.growth_bytes / _MIB
    return [
        errors_row(
            f"{rounds.streams} streams, {len(rounds.runs)} rounds", [run.outcome for run in rounds.runs]
        ),
        Row(
            "memory in these rounds, at the peak",
            "≤ 200 MiB",
            f"{rounds.peak_bytes / _MIB:.0f} MiB",
            rounds.peak_bytes <= 200 * _MIB,
            timed=False,
        ),
        Row(f"growth between rounds two and {len(rounds.runs)}", "≤ 5 MiB", f"{growth:.1f} MiB", growth <= 5),
    ]


def resumed_row(run: Run, *, streams: int) -> Row:
    outcome = run.outcome
    return Row(
        f"{streams} streams cut and resumed at random points",
        "every text equal to the uninterrupted one",
        f"{outcome.answers} equal, resumed {outcome.resumed} times{_errors([outcome])}",
        outcome.answers == streams and not outcome.errors,
        timed=False,
    )


def killed_row(outcome: LoadOutcome, *, streams: int) -> Row:
    return Row(
        f"{streams} streams on two services, one of them killed while streaming",
        "`interrupted` after all that was kept, or the whole text",
        f"{outcome.interrupted} interrupted, {outcome.answers} whole{_errors([outcome])}",
        outcome.interrupted + outcome.answers == streams and outcome.interrupted > 0,
        timed=False,
    )


def errors_row(what: str, outcomes: Sequence[LoadOutcome]) -> Row:
    return Row(
        f"{what}: every text right",
        "no error",
        f"{sum(outcome.answers for outcome in outcomes):,} answers{_errors(outcomes) or ', no error'}",
        not any(outcome.errors for outcome in outcomes),
        timed=False,
    )


def table(rows: Sequence[Row]) -> str:
    """Return the figures as Markdown."""
    lines = ["| what | asked | measured |", "| --- | --- | --- |"]
    lines += [
        f"| {row.what} | {row.asked} | {row.measured}{'' if row.holds else ' (missed)'} |" for row in rows
    ]
    return "\n".join(lines)


def _errors(outcomes: Sequence[LoadOutcome]) -> str:
    counted: dict[str, int] = {}
    for outcome in outcomes:
        for what, count in outcome.errors.items():
            counted[what] = counted.get(what, 0) + count
    return "".join(
        f"; {count} x {what}" for what, count in sorted(counted.items(), key=lambda pair: -pair[1])
    )


def _rate(run: Run) -> float:
    return run.answers_per_s


def _cpu_s(run: Run) -> float:
    return run.cpu_per_1000_tokens_s


def _bare(value: Callable[[Run], float]) -> Callable[[Pair], float]:
    return lambda pair: value(pair.bare)


def _service(value: Callable[[Run], float]) -> Callable[[Pair], float]:
    return lambda pair: value(pair.service)
