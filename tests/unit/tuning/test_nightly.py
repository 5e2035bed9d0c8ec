"""The nightly turn of the ranking loop: when it promotes, learns, or leaves everything as it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from assistant.answering.rank import shipped_weights
from assistant.domain.desk import RankerRelease, ReleaseState
from assistant.domain.errors import AssistantError, ConflictError, InvalidRequestError
from assistant.tuning.releases import REST, WINDOW, LearningRequest, LearnRanking, Release, Releases, Turn
from tests.fakes.clock import SteppedClock
from tests.fakes.learning_stores import MemoryDesk, MemoryFeedback
from tests.unit.tuning.test_gate import protected_set

TONIGHT = datetime.fromisoformat("2026-11-21T02:30:00+00:00")
HASH = "a" * 64


def content(state: ReleaseState, **more: object) -> RankerRelease:
    shipped = shipped_weights("ranker")
    return RankerRelease.model_validate(
        {
            "artifact_hash": HASH,
            "weights_json": "{}",
            "state": state,
            "window": (TONIGHT - WINDOW, TONIGHT),
            "signals": 900,
            "agents": 12,
            "prior_hash": shipped.sha256,
            "seed": 0,
            "report": "{}",
            **more,
        }
    )


class FakeLearner(LearnRanking):
    """Learns a release of a given state, or fails."""

    def __init__(self, feedback: MemoryFeedback, desk: MemoryDesk, clock: SteppedClock) -> None:
        protected = protected_set(1)
        super().__init__(tenant="clinic", feedback=feedback, desk=desk, protected=protected, clock=clock)
        self.state, self.error = ReleaseState.TRIAL, None
        self.asked: list[LearningRequest] = []

    state: ReleaseState
    error: AssistantError | None

    async def learn(self, request: LearningRequest) -> Release[RankerRelease]:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        known = await self.releases.all()
        return await self.releases.put(self.releases.next(known, content(self.state), "as the gate said"))


@dataclass
class Scene:
    learner: FakeLearner
    clock: SteppedClock

    @property
    def releases(self) -> Releases:
        return self.learner.releases

    async def turn(self) -> Turn:
        return await self.learner.turn()


def scene() -> Scene:
    clock = SteppedClock(TONIGHT)
    return Scene(FakeLearner(MemoryFeedback((), tenant="clinic"), MemoryDesk(), clock), clock)


async def test_without_a_trial_the_next_release_is_learned_from_ninety_days() -> None:
    night = scene()
    turn = await night.turn()
    assert turn == Turn("on_trial", "ranker-000001", "as the gate said")
    (request,) = night.learner.asked
    assert (request.since, request.until) == (TONIGHT - WINDOW, TONIGHT)


async def test_a_refusal_of_the_gate_is_told() -> None:
    night = scene()
    night.learner.state = ReleaseState.REFUSED
    assert (await night.turn()).outcome == "refused"


@pytest.mark.parametrize("error", [InvalidRequestError("too few"), ConflictError("another learner")])
async def test_a_window_that_cannot_be_learned_from_waits_with_its_reason(error: AssistantError) -> None:
    night = scene()
    night.learner.error = error
    assert await night.turn() == Turn("waits", None, error.message)


async def test_after_a_refusal_the_loop_rests_for_its_looks_are_few() -> None:
    night = scene()
    await night.releases.put(night.releases.next((), content(ReleaseState.REFUSED), "worse"))
    night.clock.step((REST - timedelta(minutes=1)).total_seconds())
    assert (await night.turn()).outcome == "waits"
    assert night.learner.asked == []
    night.clock.step(120)
    assert (await night.turn()).outcome == "on_trial"


async def test_a_running_trial_without_its_sample_waits() -> None:
    night = scene()
    running = content(
        ReleaseState.TRIAL, trial_started_at=TONIGHT, trial_ends_at=TONIGHT + timedelta(days=14)
    )
    await night.releases.put(night.releases.next((), running, ""))
    turn = await night.turn()
    assert (turn.outcome, turn.release) == ("waits", "ranker-000001")
    assert "200 more are needed" in turn.reason
    assert night.learner.asked == []


async def test_a_trial_that_is_over_without_its_sample_makes_room_for_the_next() -> None:
    night = scene()
    over = content(
        ReleaseState.TRIAL,
        trial_started_at=TONIGHT - timedelta(days=14),
        trial_ends_at=TONIGHT - timedelta(minutes=1),
    )
    await night.releases.put(night.releases.next((), over, ""))
    assert (await night.turn()).outcome == "on_trial"
