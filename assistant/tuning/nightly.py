"""One night's turn of the ranking loop: promotes the release on trial where it may be, or learns the next.

Nothing goes live here but through the gate and a trial. Each release that reaches the sealed half costs one
of its few looks, so after a refusal the loop rests.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, Protocol

from assistant.domain.clock import Clock
from assistant.domain.desk import RankerRelease, ReleaseState
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.learning.ports import FeedbackStore
from assistant.tuning.learn_ranking import LearningRequest
from assistant.tuning.releases import Release, Releases, of_state

WINDOW = timedelta(days=90)
"""Feedback that a release is learned from."""
REST = timedelta(days=7)
"""After a refusal: the sealed half allows twenty looks in all."""


class Learner(Protocol):
    async def learn(self, request: LearningRequest) -> Release[RankerRelease]:
        """As ``LearnRanking.learn``."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """What a night brought. ``waits``: nothing was stored, for the given reason."""

    outcome: Literal["promoted", "on_trial", "refused", "waits"]
    release: str | None
    reason: str


class NightlyRanking:
    """The loop of one tenant."""

    def __init__(
        self, learner: Learner, *, releases: Releases, feedback: FeedbackStore, clock: Clock
    ) -> None:
        self._learner = learner
        self._releases = releases
        self._feedback = feedback
        self._clock = clock

    async def __call__(self) -> Turn:
        """Take one turn. Raises DependencyError, and ConfigurationError for questions that do not fit."""
        now, known = self._clock.now(), await self._releases.all()
        trial, newest = of_state(known, ReleaseState.TRIAL), known[0] if known else None
        if trial is not None:
            try:
                promoted, count = await self._releases.promote(self._feedback)
                return Turn("promoted", promoted.name, str(count))
            except ConflictError as error:
                ends_at = trial.content.trial_ends_at
                if ends_at is None or now < ends_at:
                    return Turn("waits", trial.name, error.message)
        if newest and newest.content.state is ReleaseState.REFUSED and now - newest.item.at < REST:
            return Turn("waits", newest.name, f"{newest.name} was refused less than {REST.days} days ago")
        try:
            learned = await self._learner.learn(LearningRequest(since=now - WINDOW, until=now))
        except (ConflictError, InvalidRequestError) as error:
            return Turn("waits", None, error.message)
        refused = learned.content.state is ReleaseState.REFUSED
        return Turn("refused" if refused else "on_trial", learned.name, learned.item.note)
