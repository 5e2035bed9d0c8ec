"""Ranker weights learned from feedback with a known answer."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from assistant.answering.rank import INDEX_FEATURES, WeightsFile, shipped_weights
from assistant.answering.rank import Weights as RankerWeights
from assistant.domain.answers import VerdictLabel
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.domain.feedback import FeedbackEvent, FeedbackKind
from assistant.tuning.estimator import Estimator, softmax
from assistant.tuning.ranking import (
    FEATURES,
    NOT_AMONG_THEM,
    Candidates,
    Learned,
    LearningPlan,
    labels_of,
    learn,
)
from assistant.tuning.signals import Caps, SignalCollector, Signals
from tests.fakes.synthetic_feedback import START, Agents, World, feedback

SHIPPED = shipped_weights("ranker")
UNCAPPED = Caps(per_agent_day=100_000, per_agent=100_000)
TITLES_COUNT_MORE = World(change={"title_cosine": 0.5, "passage_cosine": -0.5}, offsets={"d3": 0.8})


def collected(events: list[FeedbackEvent], *, caps: Caps = UNCAPPED, seed: int = 0) -> Signals:
    collector = SignalCollector(rankers={SHIPPED.sha256: SHIPPED})
    for event in events:
        collector.add(event)
    return collector.signals(seed=seed, caps=caps)


def learned(
    answers: int = 2_500, world: World | None = None, agents: Agents | None = None, *, seed: int = 0
) -> Learned:
    return learn(collected(list(feedback(answers, world, agents, seed=seed))), LearningPlan())


def moved(result: Learned) -> dict[str, float]:
    return {name: value - SHIPPED.features[name] for name, value in result.weights.items()}


def test_the_gradient_agrees_with_finite_differences() -> None:
    signals = collected(list(feedback(60, TITLES_COUNT_MORE, Agents(opens=0.6))))
    design = Candidates.of(signals)
    random = np.random.default_rng(1)
    evidence = random.normal(size=design.base.shape)
    acts = labels_of(evidence, signals.weights)
    weights, pull = random.normal(0, 0.3, design.size), 3.0
    slope = Estimator(pull=pull).slope(design, acts, weights)

    def objective(at: np.ndarray) -> float:
        right = (softmax(design.scores(at)) * np.exp(evidence)).sum(axis=1)
        loss = -np.log((1.0 - NOT_AMONG_THEM) * right + NOT_AMONG_THEM)
        return float(signals.weights @ loss) + 0.5 * pull * float((at**2).sum())

    step = 1e-5
    for number in (*range(FEATURES), FEATURES, FEATURES + 7, FEATURES + 31):
        move = step * np.eye(design.size)[number]
        expected = (objective(weights + move) - objective(weights - move)) / (2 * step)
        assert slope[number] == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_learning_finds_the_weights_that_agents_follow() -> None:
    change = moved(learned(world=TITLES_COUNT_MORE, agents=Agents(opens=0.6)))
    assert change["title_cosine"] > 0.2 > -0.2 > change["passage_cosine"]


def test_learning_finds_the_document_that_is_right_too_rarely_ranked() -> None:
    offsets = learned(3_000, TITLES_COUNT_MORE, Agents(opens=0.6)).documents
    assert max(offsets, key=lambda name: offsets[name]) == "d3"


def test_more_signals_of_one_kind_move_the_weights_further() -> None:
    steps = [moved(learned(count, TITLES_COUNT_MORE))["title_cosine"] for count in (400, 1_000, 2_500)]
    assert steps == sorted(steps)
    assert steps[0] > 0.0


def test_agents_who_agree_with_the_ranker_change_little() -> None:
    result = learned(agents=Agents(opens=0.6))
    assert max(map(abs, moved(result).values())) < 0.2


def test_no_weight_and_no_offset_leaves_its_bounds() -> None:
    far = World(change=dict.fromkeys(INDEX_FEATURES, 3.0), offsets={"d3": 9.0})
    result = learn(
        collected(list(feedback(1_500, far))), LearningPlan(weight_pull=0.1, offset_pull=0.1, most_weight=0.3)
    )
    assert max(map(abs, moved(result).values())) <= 0.3 + 1e-9
    assert max(map(abs, result.documents.values())) <= 0.5 + 1e-9


def test_the_same_seed_gives_the_same_bytes_and_the_order_of_events_does_not_matter() -> None:
    events = list(feedback(800, TITLES_COUNT_MORE, Agents(opens=0.5)))
    plan = LearningPlan()
    files = [
        learn(collected(some, caps=Caps(per_agent=50), seed=seed), plan).file(fitted_on="a test")
        for some, seed in ((events, 3), (events, 3), (events[::-1], 3), (events, 4))
    ]
    assert files[0] == files[1] == files[2]
    assert files[0] != files[3]


def test_random_verdicts_are_refused() -> None:
    with pytest.raises(ConflictError, match="as chance would"):
        learned(agents=Agents(accepts_right=0.6, accepts_wrong=0.6))


def test_random_openings_change_nothing_that_matters() -> None:
    events = list(feedback(2_000))
    random = np.random.default_rng(5)
    for one in events[:]:
        opened = one.documents[int(random.integers(1, 5))].document_id
        act = {
            "kind": FeedbackKind.OPENED_SOURCE,
            "label": None,
            "opened": opened,
            "event_id": one.event_id[::-1],
        }
        events.append(one.model_copy(update=act))
    without, with_them = learned(2_000), learn(collected(events), LearningPlan())
    assert with_them.weights == pytest.approx(without.weights, abs=0.1)


def bot_of(count: int) -> list[FeedbackEvent]:
    """Return flipped verdicts of one agent, all on one day."""
    flipped = feedback(count, TITLES_COUNT_MORE, Agents(count=1, flips=frozenset({0})), seed=9)
    return [
        one.model_copy(
            update={
                "agent": "b" * 32,
                "answer_id": f"bot-{number}",
                "event_id": f"{number:064x}",
                "conversation": f"b{number:031x}",
                "asked_at": START,
            }
        )
        for number, one in enumerate(flipped)
    ]


def test_a_day_of_1000_flipped_verdicts_by_one_agent_changes_little() -> None:
    honest, bot = list(feedback(1_500, TITLES_COUNT_MORE)), bot_of(1_000)
    alone = learn(collected(honest, caps=Caps()), LearningPlan())
    poisoned = learn(collected(honest + bot, caps=Caps()), LearningPlan())
    assert poisoned.signals <= alone.signals + Caps().per_agent_day
    assert poisoned.weights == pytest.approx(alone.weights, abs=0.05)


def test_of_an_agent_with_one_flipped_day_the_other_days_count() -> None:
    honest = list(feedback(1_500, TITLES_COUNT_MORE))
    agent, first_day = honest[0].agent, min(one.asked_at for one in honest).replace(hour=0, minute=0)
    bot = [
        one.model_copy(update={"agent": agent, "asked_at": first_day - timedelta(days=1)})
        for one in bot_of(40)
    ]
    alone, poisoned = (learn(collected(some, caps=Caps()), LearningPlan()) for some in (honest, honest + bot))
    assert (poisoned.signals, poisoned.behaviour.left_out) == (alone.signals, ())
    assert poisoned.weights == pytest.approx(alone.weights, abs=0.01)


def test_an_agent_who_flips_verdicts_day_after_day_is_left_out() -> None:
    honest, bot = list(feedback(1_500, TITLES_COUNT_MORE)), bot_of(300)
    result = learn(collected(honest + bot), LearningPlan())
    assert result.behaviour.left_out == ("b" * 32,)
    assert result.signals == 1_500


def test_a_bot_that_no_cap_holds_back_makes_the_window_be_refused() -> None:
    events = list(feedback(1_500, TITLES_COUNT_MORE)) + bot_of(1_000)
    with pytest.raises(ConflictError, match="as chance would"):
        learn(collected(events), LearningPlan())


def test_an_agent_who_marks_everything_good_is_left_out() -> None:
    events = [
        one.model_copy(update={"label": VerdictLabel.GOOD}) if one.agent.endswith("0") else one
        for one in feedback(2_000)
    ]
    assert learn(collected(events), LearningPlan()).behaviour.left_out == ("0" * 32,)


def test_trust_in_what_is_first_is_estimated() -> None:
    rates = learned(2_500, agents=Agents(accepts_right=0.9, accepts_wrong=0.4)).behaviour.channels["verdict"]
    assert rates.right == pytest.approx(0.9, abs=0.06)
    assert rates.wrong == pytest.approx(0.4, abs=0.08)


def test_an_answer_that_learned_weights_served_is_learned_from_as_the_shipped_ranker_ranks() -> None:
    events = list(feedback(600))
    other = RankerWeights(
        WeightsFile(
            kind="ranker",
            features=SHIPPED.features | {"title_cosine": SHIPPED.features["title_cosine"] + 0.4},
            documents={"d1": 0.3},
            fitted_on="a test",
        ),
        sha256="e" * 64,
    )
    before = Candidates.of(collected(events)).base
    again: list[FeedbackEvent] = []
    for one in events:
        documents = [
            shown.model_copy(
                update={
                    "score": shown.score
                    + 0.4 * shown.features["title_cosine"]
                    + 0.3 * (shown.document_id == "d1")
                }
            )
            for shown in one.documents
        ]
        again.append(one.model_copy(update={"documents": tuple(documents), "weights": {"ranker": "e" * 64}}))
    collector = SignalCollector(rankers={"e" * 64: other})
    for one in again:
        collector.add(one)
    after = Candidates.of(collector.signals(seed=0, caps=UNCAPPED)).base
    assert (after[:, :8] - before[:, :8]).std(axis=1).max() < 0.05


def test_deviations_over_all_candidates_are_found_from_the_twenty_that_are_kept() -> None:
    """The served scores tell the deviation, whatever unit the raw features have."""
    signals = collected(list(feedback(400)))
    wide = replace(signals, features=signals.features * 7.0)
    standard = Candidates.of(wide).standard
    assert standard[:, :8].std(axis=1).mean() == pytest.approx(1.0, abs=0.02)


def test_a_document_of_one_agent_gets_no_offset() -> None:
    events = [
        one.model_copy(update={"agent": "0" * 32})
        if one.documents[0].document_id == "d3"
        else one.model_copy(update={"agent": f"{1 + n % 9:032x}"})
        for n, one in enumerate(feedback(1_500, TITLES_COUNT_MORE))
    ]
    documents = learn(collected(events), LearningPlan()).documents
    assert "d3" not in documents
    assert len(documents) > 20


def test_too_few_signals_or_agents_are_refused_with_their_numbers() -> None:
    with pytest.raises(InvalidRequestError, match=r"200 answers by 10 agents .* 300 by 5 are needed"):
        learned(200)
    with pytest.raises(InvalidRequestError, match="by 3 agents"):
        learned(400, agents=Agents(count=3))


def test_a_window_of_good_verdicts_alone_is_refused() -> None:
    events = [one.model_copy(update={"label": VerdictLabel.GOOD}) for one in feedback(400)]
    with pytest.raises(InvalidRequestError, match="All 400 answers were judged good"):
        learn(collected(events), LearningPlan())
