"""Counts of suggestions, without a word, a document or an agent: what a threshold is fitted on.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``suggestions#DAY`` | ``STEP#KIND#SUGGESTION`` | that one was shown, opened or inserted |
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from math import sqrt
from typing import Literal

from pydantic import Field

from assistant.domain.clock import Clock
from assistant.domain.public import PublicModel
from assistant.stores.events import EVENTS_TABLE
from assistant.stores.store import Store
from assistant.stores.table import EXPIRES_AT, Range, Table, keyed

STEPS = 20
"""Of a probability: counts say in which twentieth a suggestion was."""
KEPT_DAYS = 180
LEAST_OPENED = 50
"""Opened suggestions above a threshold, before it is moved."""
_Z = 1.96
SuggestionKind = Literal["shown", "opened", "inserted"]


class StepCounts(PublicModel):
    """Suggestions whose probability lay in one twentieth."""

    step: int = Field(ge=0, lt=STEPS)
    shown: int = 0
    opened: int = 0
    inserted: int = 0


class SuggestionCounts(PublicModel):
    """``GET /v1/turns/counts``."""

    days: int
    steps: tuple[StepCounts, ...]

    def least(self, *, right: float) -> float | None:
        """Return the lowest probability from which agents inserted at least the share ``right`` of what they
        opened, by the lower end of its 95 % interval; None without enough marks."""
        opened = inserted = 0
        found: float | None = None
        for one in sorted(self.steps, key=lambda one: -one.step):
            opened, inserted = opened + one.opened, inserted + one.inserted
            if opened >= LEAST_OPENED and _lower_end(inserted, opened) >= right:
                found = one.step / STEPS
        return found


def _lower_end(hits: int, total: int) -> float:
    """Return the lower end of Wilson's interval."""
    share, spread = hits / total, _Z * _Z / total
    width = _Z * sqrt(share * (1 - share) / total + spread / (4 * total))
    return (share + spread / 2 - width) / (1 + spread)


def step_of(probability: float) -> int:
    return min(int(probability * STEPS), STEPS - 1)


class StoredCounts:
    """The counts of one tenant. All methods raise RecordsUnavailableError."""

    def __init__(self, table: Table, *, clock: Clock) -> None:
        self._table, self._clock = table, clock

    async def note(self, kind: SuggestionKind, suggestion_id: str, *, step: int) -> None:
        """Count what became of a suggestion; a repetition counts once."""
        now = self._clock.now()
        expires = int((now + timedelta(days=KEPT_DAYS)).timestamp())
        await self._table.insert(
            keyed((_day(now), f"{step:02}#{kind}#{suggestion_id}"), **{EXPIRES_AT: expires})
        )

    async def of_days(self, days: int) -> SuggestionCounts:
        """Return the counts of today and the days before."""
        now, counted = self._clock.now(), Counter[tuple[int, str]]()
        for back in range(days):
            for item in await self._table.query(Range(_day(now - timedelta(days=back)))):
                step, kind, _ = item["sk"].split("#", 2)
                counted[int(step), kind] += 1
        steps: Sequence[int] = sorted({step for step, _ in counted})
        kinds: Sequence[SuggestionKind] = ("shown", "opened", "inserted")
        return SuggestionCounts(
            days=days,
            steps=tuple(
                StepCounts(step=step, **{kind: counted[step, kind] for kind in kinds}) for step in steps
            ),
        )


COUNTS = Store(EVENTS_TABLE, lambda table, clock: StoredCounts(table, clock=clock))


def _day(at: datetime) -> str:
    return f"suggestions#{at:%Y-%m-%d}"
