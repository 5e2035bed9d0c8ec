"""The table: each figure beside what is asked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tools.load import measuring
from tools.load.measuring import Pair, added_ms, median_of, medians
from tools.load.scene import Run
from tools.load.workload import LoadOutcome
from tools.tables import Figure

MOST_GENERATOR_CPU = 0.9
"""Above it the load generator is what is measured."""
_MIB = 1024 * 1024


def pair_rows(pairs: measuring.Pairs, *, missing_records: int, many_streams: int) -> list[Figure]:
    """Return the figures that are measured against bare."""
    short_ms, bare_ms = medians(pairs.rate, _cpu_an_answer_ms)
    answers = sum(pair.service.outcome.answers for pair in pairs.rate)
    return [
        _beside("added to the first token, one stream, p50", pairs.single, percent=50),
        _without_ranking("of it without ranking and quoting", pairs.single, above_ms=5),
        _beside("added to the first token, 50 streams, p50", pairs.fifty, percent=50),
        _without_ranking("of it without ranking and quoting", pairs.fifty, above_ms=5),
        _beside("added to the first token, 50 streams, p99", pairs.fifty, percent=99),
        _many(pairs.many, streams=many_streams),
        _cpu(pairs.fifty),
        Figure(
            f"CPU of an answer of {measuring.RATE_TOKENS} tokens, stand-ins without delay",
            "≤ 3.5 ms",
            f"{short_ms:.1f} ms (bare {bare_ms:.2f} ms)",
            short_ms <= 3.5,
        ),
        Figure(
            "of these, records found afterwards",
            "every one",
            f"{answers - missing_records} of {answers}",
            missing_records == 0 and answers > 0,
            timed=False,
        ),
        errors_row("answers of all pairs", [pair.service.outcome for pair in pairs.all()]),
    ]


def _beside(what: str, pairs: Sequence[Pair], *, percent: float) -> Figure:
    difference = median_of(pairs, lambda pair: added_ms(pair.service, percent) - added_ms(pair.bare, percent))
    service, bare = medians(pairs, lambda run: added_ms(run, percent))
    return Figure(what, "", f"bare + {difference:.1f} ms: {service:.1f} ms (bare {bare:.1f} ms)", holds=True)


def _without_ranking(what: str, pairs: Sequence[Pair], *, above_ms: float) -> Figure:
    def added(pair: Pair) -> float:
        return measuring.added_without_ranking_ms(pair.service, 50) - added_ms(pair.bare, 50)

    difference = median_of(pairs, added)
    asked = f"≤ bare + {above_ms:.0f} ms"
    return Figure(what, asked, f"bare + {difference:.1f} ms", holds=difference <= above_ms)


def _many(pairs: Sequence[Pair], *, streams: int) -> Figure:
    service, bare = medians(pairs, lambda run: added_ms(run, 99))
    share = median_of(pairs, lambda pair: pair.service.stand_ins_cpu_s / pair.service.outcome.wall_s)
    busy = max(run.outcome.cpu_share for pair in pairs for run in (pair.bare, pair.service))
    void = ", void" if busy > MOST_GENERATOR_CPU else ""
    return Figure(
        f"added to the first token, {streams} streams, a process for each core, p99",
        "≤ 100 ms; load generator ≤ 90 % CPU",
        f"{service:.0f} ms (bare {bare:.0f} ms); of one core: stand-ins {share:.0%}, "
        f"load generator {busy:.0%}{void}",
        service <= 100 and not void,
    )


def _cpu(pairs: Sequence[Pair]) -> Figure:
    ratio = median_of(
        pairs, lambda pair: pair.service.cpu_per_1000_tokens_s / pair.bare.cpu_per_1000_tokens_s
    )
    service, bare = medians(pairs, lambda run: run.cpu_per_1000_tokens_s)
    return Figure(
        "CPU per 1,000 tokens at 50 streams",
        "≤ 2.8 x bare",
        f"{ratio:.2f}x: {service:.3f} s (bare {bare:.3f} s)",
        ratio <= 2.8,
    )


def _cpu_an_answer_ms(run: Run) -> float:
    return run.cpu_s / run.outcome.answers * 1000 if run.outcome.answers else float("inf")


def rounds_rows(rounds: measuring.Rounds) -> list[Figure]:
    """Return the figures of many streams over several rounds."""
    growth, count = rounds.growth_bytes / _MIB, len(rounds.runs)
    return [
        errors_row(f"{rounds.streams} streams, {count} rounds", [run.outcome for run in rounds.runs]),
        Figure(
            "memory in these rounds, at the peak",
            "≤ 200 MiB",
            f"{rounds.peak_bytes / _MIB:.0f} MiB",
            rounds.peak_bytes <= 200 * _MIB,
            timed=False,
        ),
        Figure(f"growth between rounds two and {count}", "≤ 5 MiB", f"{growth:.1f} MiB", growth <= 5),
    ]


def resumed_row(run: Run, *, streams: int) -> Figure:
    outcome = run.outcome
    return Figure(
        f"{streams} streams cut and resumed at random points",
        "every text equal to the uninterrupted one",
        f"{outcome.answers} equal, resumed {outcome.resumed} times{_errors([outcome])}",
        outcome.answers == streams and not outcome.errors,
        timed=False,
    )


def killed_row(outcome: LoadOutcome, *, streams: int) -> Figure:
    return Figure(
        f"{streams} streams on two services, one of them killed while streaming",
        "`interrupted` after all that was kept, or the whole text",
        f"{outcome.interrupted} interrupted, {outcome.answers} whole{_errors([outcome])}",
        outcome.interrupted + outcome.answers == streams and outcome.interrupted > 0,
        timed=False,
    )


def errors_row(what: str, outcomes: Sequence[LoadOutcome]) -> Figure:
    return Figure(
        f"{what}: every text right",
        "no error",
        f"{sum(outcome.answers for outcome in outcomes):,} answers{_errors(outcomes) or ', no error'}",
        not any(outcome.errors for outcome in outcomes),
        timed=False,
    )


def _errors(outcomes: Sequence[LoadOutcome]) -> str:
    counted = sum((Counter(outcome.errors) for outcome in outcomes), Counter[str]())
    return "".join(f"; {count} x {what}" for what, count in counted.most_common())
