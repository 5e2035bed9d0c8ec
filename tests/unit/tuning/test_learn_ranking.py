"""From feedback to a release: learning, trial, promotion and the way back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

import pytest

from assistant.answering.rank import shipped_weights
from assistant.domain.answers import VerdictLabel
from assistant.domain.desk import DeskItem, DeskKind, RankerRelease, ReleaseState
from assistant.domain.errors import ConfigurationError, ConflictError, InvalidRequestError, NotFoundError
from assistant.domain.feedback import FeedbackEvent
from assistant.tuning.gate import ProtectedSet
from assistant.tuning.ranking import LearningPlan
from assistant.tuning.releases import (
    LearningReport,
    LearningRequest,
    LearnRanking,
    Release,
    Releases,
    report_of,
    weights_of,
)
from tests.fakes.clock import SteppedClock
from tests.fakes.learning_stores import MemoryDesk, MemoryFeedback
from tests.fakes.synthetic_feedback import DAY, START, World, event, feedback, three_documents
from tests.unit.tuning.test_gate import protected_set

NOW = START + 10 * DAY
TITLES_COUNT_MORE = World(change={"title_cosine": 0.6})
EVENTS = tuple(feedback(1_200, TITLES_COUNT_MORE))
GAINS = protected_set(by_title=True)
LOSES = protected_set()
REQUEST = LearningRequest(since=START, until=NOW, seed=7)


class Learning:
    """A tenant's stores, and a learner over them."""

    def __init__(
        self,
        *,
        events: Iterable[FeedbackEvent] = EVENTS,
        protected: ProtectedSet = GAINS,
        desk: MemoryDesk | None = None,
    ) -> None:
        self.clock = SteppedClock(NOW)
        self.desk = desk or MemoryDesk()
        self.feedback = MemoryFeedback(events)
        self.releases = Releases(self.desk, clock=self.clock)
        self.learner = LearnRanking(
            tenant="pharmacy", feedback=self.feedback, desk=self.desk, protected=protected, clock=self.clock
        )

    async def learn(self, request: LearningRequest = REQUEST) -> Release[RankerRelease]:
        return await self.learner.learn(request)

    async def states(self) -> dict[str, ReleaseState]:
        return {one.name: one.content.state for one in await self.releases.all()}

    async def act(
        self, trial: Release[RankerRelease], count: int, *, good: int, others: int, others_good: int
    ) -> None:
        """Let agents judge answers of the trial and beside it."""
        served = (
            (trial.content.artifact_hash, count, good),
            (shipped_weights("ranker").sha256, others, others_good),
        )
        for arm, (ranker, number, accepted) in enumerate(served):
            self.feedback.events += [
                event(
                    100_000 * (arm + 1) + n,
                    three_documents(),
                    agent=n % 10,
                    at=self.clock.now() + timedelta(seconds=1),
                    label=VerdictLabel.GOOD if n < accepted else VerdictLabel.BAD,
                    weights={"ranker": ranker},
                )
                for n in range(number)
            ]
        self.clock.step(60)


def told(release: Release[RankerRelease]) -> LearningReport:
    report = report_of(release.content)
    assert report is not None
    return report


async def test_what_gains_is_put_on_trial_with_all_that_is_needed_to_judge_it() -> None:
    release = await Learning().learn()
    content, report = release.content, told(release)
    assert (release.name, content.state, content.seed) == ("ranker-000001", ReleaseState.TRIAL, 7)
    assert content.window == (START, NOW)
    assert (content.signals, content.agents) == (1_200, 10)
    assert content.prior_hash == shipped_weights("ranker").sha256
    assert content.trial_started_at == NOW
    assert report.weights_after["title_cosine"] > report.weights_before["title_cosine"] + 0.1
    assert (report.gate.passed, report.gate.look) == (True, 1)
    assert weights_of(release.content).sha256 == content.artifact_hash


async def test_a_report_of_the_release_before_is_read_and_its_look_is_counted() -> None:
    learning = Learning(protected=LOSES)
    release = await learning.learn()
    report = told(release)
    opened = report.model_copy(update={"gate": report.gate.model_copy(update={"look": 1})})
    earlier = json.dumps(json.loads(opened.model_dump_json()) | {"examination": [1.0, 0.5]})
    await learning.releases.move(release, ReleaseState.REFUSED, "a test", report=earlier)
    [stored] = await learning.releases.all()
    assert told(stored) == opened


async def test_what_loses_on_the_open_half_is_stored_as_refused_and_the_sealed_half_stays_closed() -> None:
    learning = Learning(protected=LOSES)
    release = await learning.learn()
    gate = told(release).gate
    assert release.content.state is ReleaseState.REFUSED
    assert (gate.look, gate.sealed_half) == (0, ())
    assert "right document first, all: 100.0% before" in gate.refused_because[0]
    assert await learning.states() == {"ranker-000001": ReleaseState.REFUSED}


async def test_what_loses_on_the_sealed_half_alone_is_refused_and_the_look_counted() -> None:
    mixed = GAINS.model_copy(update={"questions": (*GAINS.half("tuning"), *LOSES.half("held_out"))})
    learning = Learning(protected=mixed)
    looks = [told(await learning.learn(replace(REQUEST, seed=seed))).gate for seed in (1, 2)]
    assert [gate.look for gate in looks] == [1, 2]
    assert all("below the bound of -2.0" in gate.refused_because[0] for gate in looks)


async def test_a_step_that_loses_is_shortened_until_it_does_not() -> None:
    world = World(change={"title_cosine": 0.6}, offsets={"d0": 3.0, "d1": -3.0})
    learning = Learning(events=feedback(1_500, world), protected=LOSES)
    report = told(await learning.learn(replace(REQUEST, plan=LearningPlan(weight_pull=1e9))))
    assert report.gate.share_of_offsets < 1.0 == report.gate.share_of_weights
    assert all(check.passed for check in report.gate.open_half)


async def test_a_dry_run_stores_nothing_and_takes_no_look() -> None:
    learning = Learning()
    release = await learning.learn(replace(REQUEST, dry_run=True))
    assert told(release).gate.look == 0
    assert await learning.states() == {}


async def test_an_empty_window_is_refused_and_nothing_is_stored() -> None:
    learning = Learning()
    with pytest.raises(InvalidRequestError, match="holds no signal"):
        await learning.learn(replace(REQUEST, since=NOW, until=NOW + DAY))
    assert await learning.states() == {}


async def test_an_event_of_another_tenant_is_refused_and_nothing_is_stored() -> None:
    other = event(9, three_documents(), label=VerdictLabel.GOOD, tenant="clinic")
    learning = Learning(events=(*EVENTS, other))
    with pytest.raises(InvalidRequestError, match="of the tenant clinic"):
        await learning.learn()
    assert await learning.states() == {}


async def test_questions_that_unknown_weights_ranked_are_refused() -> None:
    unknown = GAINS.model_copy(update={"ranker": "9" * 64})
    with pytest.raises(ConfigurationError, match="Observe them again"):
        await Learning(protected=unknown).learn()


class SlowDesk(MemoryDesk):
    """Two learners read it before either has written."""

    def __init__(self) -> None:
        super().__init__()
        self._both = asyncio.Barrier(2)

    async def list(self, kind: DeskKind, *, listed: str | None = None, limit: int = 5_000) -> list[DeskItem]:
        found = await super().list(kind, listed=listed, limit=limit)
        await self._both.wait()
        return found


async def test_of_two_learners_at_once_one_is_refused_clearly() -> None:
    desk = SlowDesk()
    learners = [Learning(desk=desk).learn(replace(REQUEST, seed=seed)) for seed in (1, 2)]
    done = await asyncio.gather(*learners, return_exceptions=True)
    [refused] = [one for one in done if isinstance(one, BaseException)]
    assert isinstance(refused, ConflictError)
    assert "Another learner stored ranker-000001" in refused.message
    [item] = await MemoryDesk.list(desk, DeskKind.RANKER_RELEASE)
    assert item.revision == 2


async def test_nothing_is_learned_while_a_trial_runs() -> None:
    learning = Learning()
    await learning.learn()
    with pytest.raises(ConflictError, match="ranker-000001 is on trial"):
        await learning.learn()


async def test_a_trial_whose_time_is_over_ends_when_the_next_is_learned() -> None:
    learning = Learning()
    await learning.learn()
    learning.clock.step(15 * 86_400)
    await learning.learn()
    assert await learning.states() == {
        "ranker-000002": ReleaseState.TRIAL,
        "ranker-000001": ReleaseState.ROLLED_BACK,
    }


async def test_a_trial_without_its_sample_is_not_promoted_and_the_count_is_said() -> None:
    learning = Learning()
    await learning.act(await learning.learn(), 20, good=19, others=300, others_good=250)
    with pytest.raises(ConflictError, match=r"180 more are needed .20 of 200 verdicts"):
        await learning.releases.promote(learning.feedback)


async def test_a_trial_that_is_worse_is_not_promoted_and_the_look_is_kept() -> None:
    learning = Learning()
    await learning.act(await learning.learn(), 200, good=150, others=200, others_good=170)
    with pytest.raises(ConflictError, match=r"10\.0 points worse; 2 are allowed"):
        await learning.releases.promote(learning.feedback)
    [release] = await learning.releases.all()
    assert len(told(release).trial_looks) == 1


async def test_no_agent_decides_a_trial_alone() -> None:
    learning = Learning()
    release = await learning.learn()
    await learning.act(release, 200, good=195, others=200, others_good=160)
    learning.feedback.events += [
        event(
            900_000 + number,
            three_documents(),
            agent=99,
            at=learning.clock.now(),
            label=VerdictLabel.BAD,
            weights={"ranker": release.content.artifact_hash},
        )
        for number in range(1_000)
    ]
    learning.clock.step(60)
    _, count = await learning.releases.promote(learning.feedback)
    assert count.answers == 240
    assert count.accepted == 195 / 240


async def test_a_trial_that_was_refused_five_times_stays_refused() -> None:
    learning = Learning()
    await learning.act(await learning.learn(), 200, good=150, others=200, others_good=170)
    for _ in range(5):
        with pytest.raises(ConflictError):
            await learning.releases.promote(learning.feedback)
    learning.feedback.events.clear()
    [trial] = await learning.releases.all()
    learning.clock.step(-60)
    await learning.act(trial, 200, good=200, others=200, others_good=170)
    with pytest.raises(ConflictError, match="refused 5 times"):
        await learning.releases.promote(learning.feedback)


async def promoted(learning: Learning, *, seed: int) -> Release[RankerRelease]:
    release = await learning.learn(replace(REQUEST, seed=seed))
    await learning.act(release, 200, good=180, others=200, others_good=170)
    live, count = await learning.releases.promote(learning.feedback)
    assert (count.answers, count.accepted) == (200, 0.9)
    learning.feedback.events[:] = EVENTS
    return live


async def test_a_trial_that_is_not_worse_goes_live_at_night() -> None:
    learning = Learning()
    await learning.act(await learning.learn(), 200, good=180, others=200, others_good=170)
    turn = await learning.learner.turn()
    assert (turn.outcome, turn.release) == ("promoted", "ranker-000001")
    assert await learning.states() == {"ranker-000001": ReleaseState.LIVE}


async def test_a_release_that_changes_nothing_takes_no_look() -> None:
    learning = Learning()
    await promoted(learning, seed=1)
    again = await learning.learn(replace(REQUEST, seed=1))
    assert told(again).gate.refused_because == ("the learned weights are those in service",)
    assert told(again).gate.look == 0


async def test_rolling_back_a_trial_leaves_what_is_live() -> None:
    learning = Learning()
    await learning.learn()
    taken, now_live = await learning.releases.roll_back()
    assert (taken.content.state, now_live) == (ReleaseState.ROLLED_BACK, None)


async def test_rolling_back_what_is_live_brings_the_one_before_back() -> None:
    learning = Learning()
    first = await promoted(learning, seed=1)
    again = first.content.model_copy(update={"state": ReleaseState.LIVE})
    await learning.releases.move(first, ReleaseState.REPLACED, "a test")
    await learning.releases.put(learning.releases.next([first], again, "a test"))
    taken, now_live = await learning.releases.roll_back()
    assert taken.name == "ranker-000002"
    assert now_live is not None
    assert await learning.states() == {
        "ranker-000002": ReleaseState.ROLLED_BACK,
        "ranker-000001": ReleaseState.LIVE,
    }


async def test_there_is_nothing_to_roll_back_or_promote_where_nothing_was_learned() -> None:
    learning = Learning()
    with pytest.raises(NotFoundError, match="shipped"):
        await learning.releases.roll_back()
    with pytest.raises(NotFoundError, match="no trial"):
        await learning.releases.promote(learning.feedback)
