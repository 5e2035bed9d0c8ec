"""The learners that the simulation teaches: the product's, with and without its gate, and a naive one."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import timedelta

from assistant.answering.rank import Weights, read_weights, shipped_weights
from assistant.domain.desk import ReleaseState
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.domain.feedback import FeedbackEvent
from assistant.tuning.gate import ProtectedSet
from assistant.tuning.ranking import LearningPlan, learn
from assistant.tuning.releases import LearningRequest, LearnRanking, Releases, of_state, report_of, weights_of
from assistant.tuning.signals import Caps, SignalCollector
from tests.fakes.clock import SteppedClock
from tests.fakes.learning_stores import MemoryDesk, MemoryFeedback
from tests.simulation.agents import FIRST_DAY, Serving
from tests.simulation.proof import Counting, Learner

TRIAL_SHARE_PERCENT = 50
"""A trial at the default of 10 percent would take six of the ten days to reach its sample."""


class Ungated:
    """What the product's learner gives before the gate: every result serves the next day."""

    name = "the product's learner without the gate"

    def __init__(self, *, tenant: str, seed: int = 0) -> None:
        self._tenant, self._seed = tenant, seed
        self._served: dict[str, Weights] = {}
        self.refusals: list[str] = []
        """What the learner said where it refused."""

    def learn(self, events: Sequence[FeedbackEvent], *, serving: Serving) -> Serving | None:
        self._served[shipped_weights("ranker").sha256] = shipped_weights("ranker")
        self._served[serving.live.sha256] = serving.live
        collector = SignalCollector(rankers=self._served)
        for event in events:
            collector.add(event)
        try:
            learned = learn(collector.signals(seed=self._seed, caps=Caps()), LearningPlan())
        except (ConflictError, InvalidRequestError) as refusal:
            self.refusals.append(refusal.message)
            return None
        return Serving(read_weights(learned.file(fitted_on="simulation"), name="simulation", kind="ranker"))


class Gated:
    """The product's whole way: learn, gate, a trial for half of the conversations, live by what they show."""

    name = "the product's learner, gate and trial"

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


def learner_of(name: str, *, tenant: str, seed: int, protected: ProtectedSet | None) -> Learner:
    """Return a new learner by name. Raises SystemExit for an unknown name."""
    if name == "product" and protected is not None:
        return Gated(tenant=tenant, protected=protected, seed=seed)
    if name == "ungated":
        return Ungated(tenant=tenant, seed=seed)
    if name == "counting":
        return Counting()
    raise SystemExit(f"There is no learner {name}: use product, ungated or counting.")
