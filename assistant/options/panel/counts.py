"""Counts of suggestions, without words, documents or agents, from which the threshold is chosen.

| partition (``pk``) | sort (``sk``) | item |
| --- | --- | --- |
| ``suggestions#2026-11-20`` | ``17#opened#<suggestion's id>`` | one of step 17, shown that day, was opened |

An id begins with its day, ends with a MAC of agent and step, and says nothing else: a mark counts for the
agent that the suggestion was shown to, without a stored name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Literal

from pydantic import Field

from assistant.domain.clock import Clock
from assistant.domain.public import PublicModel
from assistant.stores.events import EVENTS_TABLE
from assistant.stores.store import Store
from assistant.stores.table import EXPIRES_AT, Range, Table, keyed

STEPS = 20
"""Steps of a probability: 0.87 is in step 17, from 0.85 to 0.9."""
KEPT_DAYS = 180
_DAY_CHARACTERS = 10
"""With which an id begins."""
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


def step_of(probability: float) -> int:
    """Return the step of a probability: 17 for 0.87, 19 for 1.0."""
    return min(int(probability * STEPS), STEPS - 1)


class StoredCounts:
    """The counts of one tenant. All methods raise RecordsUnavailableError."""

    def __init__(self, table: Table, *, clock: Clock) -> None:
        self._table, self._clock = table, clock

    async def note(self, kind: SuggestionKind, suggestion_id: str, *, step: int) -> None:
        """Count that a suggestion was shown, opened or inserted; a repetition counts once."""
        expires = int((self._clock.now() + timedelta(days=KEPT_DAYS)).timestamp())
        day = suggestion_id[:_DAY_CHARACTERS]
        await self._table.insert(
            keyed((f"suggestions#{day}", f"{step:02}#{kind}#{suggestion_id}"), **{EXPIRES_AT: expires})
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
