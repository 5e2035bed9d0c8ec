"""The simulation of care agents, on a kept sample of what the answer path found (``sample.jsonl.gz``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from assistant.answering.rank import shipped_weights
from assistant.domain.feedback import FeedbackEvent, FeedbackKind
from tests.simulation.agents import Days, PoisonedDays, RandomDays, Serving, World, staff
from tests.simulation.ceiling import true_labels, weights_of
from tests.simulation.proof import HeldOutSet, Scene, digest, prove, run_days
from tests.simulation.replay import SOURCES_SHOWN, Replay, differences, read

SAMPLE = Path(__file__).with_name("sample.jsonl.gz")


@pytest.fixture(scope="module")
def replays() -> list[Replay]:
    found = read(SAMPLE)
    assert found is not None
    return [Replay(one) for one in found]


@pytest.fixture(scope="module")
def asked(replays: list[Replay]) -> list[Replay]:
    return [one for one in replays if one.found.question.side == "agents"]


@pytest.fixture(scope="module")
def test_set(replays: list[Replay]) -> HeldOutSet:
    return HeldOutSet({"all": [one for one in replays if one.found.question.side == "test"]})


@pytest.fixture
def world(asked: list[Replay]) -> World:
    titles = {name: name.rpartition("-")[0] for one in asked for name in one.found.document_ids}
    return World("clinic", asked, titles)


class Recording:
    """A learner that keeps what it is given, and refuses."""

    def __init__(self) -> None:
        self.seen: list[FeedbackEvent] = []

    def learn(self, events: Sequence[FeedbackEvent], *, serving: Serving) -> Serving | None:
        self.seen = list(events)
        return None


def test_the_replay_is_the_products_own_order(replays: list[Replay]) -> None:
    assert len(replays) > 100
    assert differences(replays) == 0


def test_a_replay_follows_other_weights(replays: list[Replay]) -> None:
    shipped = shipped_weights("ranker")
    second = replays[0].rank(shipped).document_ids[1]
    lifted = weights_of(shipped.features, {second: 50.0}, why="test")
    assert replays[0].rank(lifted).document_ids[0] == second


def test_agents_and_test_share_no_family(replays: list[Replay]) -> None:
    families = {
        side: {one.found.question.family for one in replays if one.found.question.side == side}
        for side in ("agents", "test")
    }
    assert families["agents"]
    assert families["test"]
    assert not families["agents"] & families["test"]


def test_the_same_seed_gives_the_same_events(world: World) -> None:
    agents, shipped = staff(6, seed=1, questions=8), shipped_weights("ranker")
    once, again, other = (Days(world, agents, seed=seed).day(0, Serving(shipped)) for seed in (1, 1, 2))
    assert digest(once) == digest(again)
    assert digest(once) != digest(other)


def test_events_tell_what_the_service_records_and_nothing_of_agents_or_truth(world: World) -> None:
    agents = staff(6, seed=1, questions=8)
    learner = Recording()
    run_days("honest", Days(world, agents, seed=1), learner, count=1)
    assert learner.seen
    for event in learner.seen:
        said = event.model_dump_json()
        assert all(shown.propensity == 1.0 for shown in event.documents)
        assert not any(one.name in said for one in agents)
        assert not any(one.found.question.text in said for one in world.asked)


def test_agents_who_never_mark_give_no_verdict(world: World) -> None:
    agents = [replace(one, marks="never") for one in staff(6, seed=1, questions=8)]
    kinds = {event.kind for event in Days(world, agents, seed=1).day(0, Serving(shipped_weights("ranker")))}
    assert FeedbackKind.VERDICT not in kinds
    assert FeedbackKind.SENT in kinds


def test_agents_without_diligence_open_only_what_stands_first(world: World) -> None:
    agents = [replace(one, diligence=0.0) for one in staff(6, seed=1, questions=8)]
    events = Days(world, agents, seed=1).day(0, Serving(shipped_weights("ranker")))
    opened = [event for event in events if event.opened]
    assert opened
    assert all(event.opened == event.documents[0].document_id for event in opened)


def test_a_refusal_keeps_the_shipped_weights(world: World, test_set: HeldOutSet) -> None:
    course = run_days(
        "honest", Days(world, staff(4, seed=1, questions=4), seed=1), Recording(), count=2, judge=test_set
    )
    assert course.refused_days == [1, 2]
    assert [day["all"].points for day in course.curve] == [0.0, 0.0]


def test_a_bot_marks_a_thousand_answers_in_one_day(world: World) -> None:
    days = PoisonedDays(world, staff(4, seed=1, questions=4), seed=1)
    honest, poisoned = (
        days.day(number, Serving(shipped_weights("ranker"))) for number in (0, days.poisoned_day)
    )
    verdicts = [event for event in poisoned if event.kind is FeedbackKind.VERDICT]
    assert len(verdicts) >= days.verdicts
    assert len(honest) < days.verdicts


def test_chance_opens_all_places_alike(world: World) -> None:
    days = RandomDays(world, staff(20, seed=1, questions=60), seed=1)
    events = [event for event in days.day(0, Serving(shipped_weights("ranker"))) if event.opened]
    places = [
        next(one.position for one in event.documents if one.document_id == event.opened) for event in events
    ]
    shares = [places.count(place) / len(places) for place in range(1, SOURCES_SHOWN + 1)]
    assert sum(shares) == pytest.approx(1.0)
    assert all(0.8 < share * SOURCES_SHOWN < 1.2 for share in shares)


def test_true_labels_rank_the_agents_own_questions_better(asked: list[Replay]) -> None:
    own = HeldOutSet({"own": asked}).compare(shipped_weights("ranker"), true_labels(asked, pulls=(0.001,)))
    assert own["own"].difference.low > 0


def test_a_learner_that_makes_documents_nobody_asked_about_worse_does_harm(
    world: World, test_set: HeldOutSet
) -> None:
    shipped = shipped_weights("ranker")
    backwards = weights_of({name: -value for name, value in shipped.features.items()}, {}, why="test")

    class Backwards(Recording):
        def learn(self, events: Sequence[FeedbackEvent], *, serving: Serving) -> Serving | None:
            return Serving(backwards)

    judge = HeldOutSet({"asked about": test_set.groups["all"], "others": test_set.groups["all"]})
    few = replace(world, asked=world.asked[:12])
    scene = Scene(few, staff(2, seed=1, questions=2), judge, days=1, seed=1)
    harm = prove(scene, Backwards).harm()
    assert any(line.startswith("other documents") for line in harm)
    assert any(line.startswith("random clicks") for line in harm)
