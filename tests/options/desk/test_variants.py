"""Counts by variant, their intervals, and when a canary is worse."""

from __future__ import annotations

from datetime import timedelta

import pytest

from assistant.domain.answers import AnswerRecord, Outcome, Sentence, Support, Verdict, VerdictLabel
from assistant.options.models_lab.commands.canary import (
    Share,
    VariantCounts,
    count_variants,
    harm_of,
    rise,
    share,
)
from tests.contracts.samples import NOON, answer
from tests.fakes.answering import InMemoryRecords

WITHHELD = Sentence(index=0, start=0, end=4, support=Support.UNSUPPORTED, citations=(), detail="withheld")


def counts(answers: int, **fates: int) -> VariantCounts:
    made = VariantCounts(answers)
    made.fates |= fates  # pyright: ignore[reportArgumentType, reportCallIssue, reportAttributeAccessIssue]
    return made


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (81, 263, 0.2553, 0.3662)],
)
def test_a_share_has_wilson_s_interval(count: int, of: int, low: float, high: float) -> None:
    """The third is the example of Newcombe's first paper (1998, Statistics in Medicine 17:857, table I)."""
    found = share(count, of)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-4), pytest.approx(high, abs=1e-4))


def test_the_difference_of_two_shares_has_newcombe_s_interval() -> None:
    """56 of 70 and 48 of 80: 0.0524 to 0.3339 (1998, Statistics in Medicine 17:873, table II, method 10)."""
    low, high = rise(share(48, 80), share(56, 70))
    assert (low, high) == (pytest.approx(0.0524, abs=1e-4), pytest.approx(0.3339, abs=1e-4))


def test_a_share_of_nothing_may_be_anything() -> None:
    assert share(0, 0) == Share(0, 0, 0.0, 0.0, 1.0)
    assert harm_of({"AllTraffic": counts(100, bad=5, good=95)}) == []


def test_a_canary_is_worse_only_beyond_the_interval_of_the_difference() -> None:
    served = counts(1_000, good=450, bad=50, withheld=20, failed=2)
    alike = counts(50, good=18, bad=4, withheld=2, failed=0)
    worse = counts(50, good=10, bad=12, withheld=2, failed=9)
    assert harm_of({"AllTraffic": served, "Canary": alike}) == []
    assert harm_of({"AllTraffic": served, "Canary": worse}) == ["bad", "failed"]


def test_20_percent_of_50_stand_out_against_10_percent_of_1000_and_16_do_not() -> None:
    """As the option's page says it."""
    served = share(100, 1_000)
    assert rise(served, share(10, 50))[0] > 0 > rise(served, share(8, 50))[0]


async def test_answers_are_counted_by_variant_with_their_last_mark() -> None:
    records = InMemoryRecords()

    async def put(number: int, *marks: VerdictLabel, **changes: object) -> AnswerRecord:
        record = answer(f"a{number}", minute=number).model_copy(update=changes)
        await records.put_answer(record)
        for at, label in enumerate(marks):
            verdict = Verdict(verdict_id=f"v{number}-{at}", label=label)
            await records.append_verdict(record.answer_id, verdict, agent="ana")
        return record

    good, bad = VerdictLabel.GOOD, VerdictLabel.BAD
    await put(1, bad, good, variant="AllTraffic", model_digest="a" * 64)
    await put(2, variant="AllTraffic", model_digest="a" * 64, fallback="generation_interrupted")
    await put(3, bad, variant="Canary", model_digest="c" * 64, sentences=(WITHHELD,))
    await put(4, variant="Canary", model_digest="c" * 64, outcome=Outcome.FAILED)
    await put(5, good, variant="Canary", model_digest="c" * 64, fallback="empty_answer")
    await put(6, bad, variant=None)
    await put(90, bad, variant="Canary")

    found = await count_variants(records, since=NOON, until=NOON + timedelta(hours=1))

    assert set(found) == {"AllTraffic", "Canary"}
    served, canary = found["AllTraffic"], found["Canary"]
    assert (served.answers, served.digests) == (2, {"a" * 64})
    assert served.fates == {"good": 1, "bad": 0, "withheld": 0, "failed": 1}
    assert (canary.answers, canary.digests) == (3, {"c" * 64})
    assert canary.fates == {"good": 1, "bad": 1, "withheld": 2, "failed": 1}
    assert canary.share("bad") == share(1, 2)
    assert canary.share("withheld") == share(2, 3)
