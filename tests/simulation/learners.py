"""The learner that the simulation teaches: the product's, with its gate and a trial."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from assistant.answering.rank import shipped_weights
from assistant.domain.desk import ReleaseState
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.domain.feedback import FeedbackEvent
from assistant.tuning.gate import ProtectedSet
from assistant.tuning.releases import LearningRequest, LearnRanking, Releases, of_state, report_of, weights_of
from tests.fakes.clock import SteppedClock
from tests.fakes.learning_stores import MemoryDesk, MemoryFeedback
from tests.simulation.agents import FIRST_DAY, Serving

TRIAL_SHARE_PERCENT = 50
"""A trial at the default of 10 percent would take six of the ten days to reach its sample."""


class Gated:
    """The product's whole way: learn, gate, a trial for half of the conversations, live by what they show."""

    def __init__(self, *, tenant: str, protected: ProtectedSet, seed: int = 0) -> None:
        self._tenant, self._protected, self._seed = tenant, protected, seed
        self._desk, self._clock = MemoryDesk(), SteppedClock(FIRST_DAY)
        self.refusals: list[str] = []

    def learn(self, events: Sequence[FeedbackEvent], *, serving: Serving) -> Serving | None:
        return asyncio.run(self._day(events))

    async def _day(self, events: Sequence[FeedbackEvent]) -> Serving | None:
        """End a day: promote the trial if it has earned it, else learn anew; return what serves then."""
        until = max(event.at for event in events) + timedelta(minutes=1)
        self._clock.step((until - self._clock.now()).total_seconds())
        feedback, releases = (
            MemoryFeedback(events, tenant=self._tenant),
            Releases(self._desk, clock=self._clock),
        )
        before = len(self.refusals)
        try:
            if of_state(await releases.all(), ReleaseState.TRIAL) is not None:
                await releases.promote(feedback)
            await self._learn(feedback, LearningRequest(
                since=FIRST_DAY, until=until, seed=self._seed, share_percent=TRIAL_SHARE_PERCENT
            ))  # fmt: skip
        except (ConflictError, InvalidRequestError) as refusal:
            self.refusals.append(refusal.message)
        found = await releases.all()
        live, trial = (of_state(found, state) for state in (ReleaseState.LIVE, ReleaseState.TRIAL))
        if live is None and trial is None and len(self.refusals) > before:
            return None
        return Serving(
            shipped_weights("ranker") if live is None else weights_of(live.content),
            None if trial is None else weights_of(trial.content),
            TRIAL_SHARE_PERCENT,
        )

    async def _learn(self, feedback: MemoryFeedback, request: LearningRequest) -> None:
        learning = LearnRanking(
            tenant=self._tenant,
            feedback=feedback,
            desk=self._desk,
            protected=self._protected,
            clock=self._clock,
        )
        release = await learning.learn(request)
        if release.content.state is ReleaseState.REFUSED:
            report = report_of(release.content)
            self.refusals.append("gate: " + "; ".join(report.gate.refused_because if report else ()))
