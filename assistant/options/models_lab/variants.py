"""What became of the answers that each production variant of the LLM endpoint wrote: a canary beside the
served model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from math import sqrt
from typing import Literal, get_args

from assistant.answer.check import FAILED_CHECKS
from assistant.domain.answers import AnswerRecord, Outcome, VerdictLabel
from assistant.options.feedback.captures import asked_answers
from assistant.stores.records import StoredRecords
from assistant.tenant.deployed_names import CANARY_VARIANT, SERVED_VARIANT

Fate = Literal["good", "bad", "withheld", "failed"]
"""``good``, ``bad``: the last mark. ``withheld``: the model's text was withheld, or a quote replaced it
because a check failed. ``failed``: the model broke off or was late after it had begun."""
FATES: tuple[Fate, ...] = get_args(Fate)
_HARM: tuple[Fate, ...] = ("bad", "withheld", "failed")
_Z = 1.959964
"""Of a two-sided interval of 95 %."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share with its interval: in 95 of 100 samples of such answers the interval holds the true one."""

    number: int
    of: int
    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.number}/{self.of} [{self.low:.2f}, {self.high:.2f}]"


def share(number: int, of: int) -> Share:
    """Return a share with Wilson's score interval (Wilson 1927, JASA 22:209); of nothing it is anything."""
    if not of:
        return Share(0, 0, 0.0, 0.0, 1.0)
    value, square = number / of, _Z * _Z
    middle = (value + square / (2 * of)) / (1 + square / of)
    half = _Z * sqrt(value * (1 - value) / of + square / (4 * of * of)) / (1 + square / of)
    return Share(number, of, value, max(0.0, middle - half), min(1.0, middle + half))


def rise(before: Share, after: Share) -> tuple[float, float]:
    """Return the interval of ``after`` less ``before``, two independent shares (Newcombe 1998, Statistics in
    Medicine 17:873, method 10)."""
    step = after.value - before.value
    low = step - sqrt((after.value - after.low) ** 2 + (before.high - before.value) ** 2)
    return low, step + sqrt((after.high - after.value) ** 2 + (before.value - before.low) ** 2)


@dataclass(slots=True)
class VariantCounts:
    """Answers of one variant, with how many of them had each fate."""

    answers: int = 0
    fates: dict[Fate, int] = field(default_factory=lambda: dict.fromkeys(FATES, 0))
    digests: set[str] = field(default_factory=set[str])
    """SHA-256 of the artifacts that wrote them, as the records say."""

    @property
    def shown_digests(self) -> str:
        return ", ".join(one[:12] for one in sorted(self.digests))

    def share(self, fate: Fate) -> Share:
        """Return the share of the marked answers for a mark, of all answers for the others."""
        marked = self.fates["good"] + self.fates["bad"]
        return share(self.fates[fate], marked if fate in ("good", "bad") else self.answers)


def harm_of(counts: Mapping[str, VariantCounts]) -> list[Fate]:
    """Return in what the canary is worse than the served model by more than the interval of their difference.

    Each of three fates is judged at 95 %: at one look, an equal model seems worse in one of them with a
    chance of some 7 % (three times a fortieth), and each further look adds to it.
    """
    served, canary = (counts.get(name, VariantCounts()) for name in (SERVED_VARIANT, CANARY_VARIANT))
    return [fate for fate in _HARM if rise(served.share(fate), canary.share(fate))[0] > 0]


async def count_variants(
    records: StoredRecords, *, since: datetime, until: datetime
) -> dict[str, VariantCounts]:
    """Return the counts by variant of the answers asked in [since, until). Raises RecordsUnavailableError.

    A call that failed before its response began has no variant: the endpoint's metrics count it.
    """
    counts: dict[str, VariantCounts] = {}
    async for record in asked_answers(records, since=since, until=until):
        if record.variant is None:
            continue
        counted = counts.setdefault(record.variant, VariantCounts())
        counted.answers += 1
        counted.digests |= {record.model_digest} if record.model_digest else set()
        marks = [one.verdict.label for one in await records.list_verdicts(record.answer_id)]
        for fate in _fates(record, marks[-1:]):
            counted.fates[fate] += 1
    return counts


def _fates(record: AnswerRecord, last: Sequence[VerdictLabel]) -> list[Fate]:
    is_checked = record.fallback is None or record.fallback in FAILED_CHECKS
    is_withheld = any(one.detail == "withheld" for one in record.sentences)
    found: dict[Fate, bool] = {
        "good": VerdictLabel.GOOD in last,
        "bad": VerdictLabel.BAD in last,
        "withheld": is_withheld or record.fallback in FAILED_CHECKS,
        "failed": record.outcome is Outcome.FAILED or not is_checked,
    }
    return [fate for fate in FATES if found[fate]]
