"""Feedback events as arrays: what counts, what is left out, and the caps."""

from __future__ import annotations

from datetime import timedelta

import pytest

from assistant.answering.rank import shipped_weights
from assistant.domain.answers import VerdictLabel
from assistant.domain.feedback import Edit, FeedbackEvent, FeedbackKind
from assistant.tuning.signals import CHANNELS, Caps, SignalCollector, Signals
from tests.fakes.synthetic_feedback import DAY, START, event, feedback, three_documents

GOOD, BAD = VerdictLabel.GOOD, VerdictLabel.BAD


def collect(*events: FeedbackEvent, caps: Caps | None = None, seed: int = 0, **kwargs: object) -> Signals:
    shipped = shipped_weights("ranker")
    collector = SignalCollector(rankers={shipped.sha256: shipped}, **kwargs)  # type: ignore[arg-type]
    for one in events:
        collector.add(one)
    return collector.signals(seed=seed, caps=caps or Caps())


def acts(**changes: object) -> FeedbackEvent:
    return event(1, three_documents(), **changes)  # type: ignore[arg-type]


def sent(distance: int, *, words: int = 100, facts: tuple[str, ...] = ()) -> FeedbackEvent:
    edit = Edit(distance=distance, words=words, changed_facts=facts)
    return acts(kind=FeedbackKind.SENT, edit=edit)


def judged(signals: Signals) -> tuple[str, bool] | None:
    channel = int(signals.channel[0])
    return None if channel < 0 else (CHANNELS[channel], bool(signals.judged_good[0]))


def test_an_event_that_comes_twice_counts_once() -> None:
    signals = collect(acts(label=GOOD), acts(label=GOOD))
    assert (len(signals), signals.left_out) == (1, {})


def test_of_two_verdicts_the_later_counts_although_it_came_first() -> None:
    later = acts(label=BAD, at=START + timedelta(minutes=5), event_id="f" * 64)
    assert judged(collect(later, acts(label=GOOD))) == ("verdict", False)


def test_a_verdict_counts_more_than_a_sent_text() -> None:
    assert judged(collect(sent(0), acts(label=BAD))) == ("verdict", False)


@pytest.mark.parametrize(
    ("distance", "facts", "expected"),
    [
        (0, (), ("sent", True)),
        (10, (), ("sent", True)),
        (10, ("dose",), None),
        (40, (), None),
        (80, (), ("sent", False)),
    ],
)
def test_a_sent_text_judges_by_how_much_of_it_was_changed(
    distance: int, facts: tuple[str, ...], expected: object
) -> None:
    assert judged(collect(sent(distance, facts=facts))) == expected


def test_a_bad_verdict_on_the_text_alone_says_nothing_of_the_document() -> None:
    assert judged(collect(acts(label=BAD, reasons=("incomplete",)))) is None
    assert judged(collect(acts(label=BAD, reasons=("incomplete", "wrong_source")))) == ("verdict", False)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (FeedbackKind.POSSIBLY_TAKEN, ("possibly", True)),
        (FeedbackKind.POSSIBLY_PASSED_OVER, ("possibly", False)),
        (FeedbackKind.REFORMULATED, ("reformulated", False)),
    ],
)
def test_what_was_done_with_an_answer_judges_it(kind: FeedbackKind, expected: object) -> None:
    assert judged(collect(acts(kind=kind))) == expected


def test_an_opened_source_is_marked_unless_it_is_the_quoted_one() -> None:
    signals = collect(acts(label=BAD), acts(opened="c"), acts(opened="a"))
    assert [int(column) for column in signals.opened[0].nonzero()[0]] == [2]


def test_a_document_marked_as_wrongly_cited_is_marked() -> None:
    signals = collect(acts(label=BAD, wrong_documents=("a", "unknown")))
    assert [int(column) for column in signals.wrong[0].nonzero()[0]] == [0]


def test_what_was_accepted_after_asking_again_is_marked_in_the_first_answer() -> None:
    first = acts(kind=FeedbackKind.REFORMULATED, next_answer_id="answer-2")
    signals = collect(first, event(2, three_documents(quoted="b"), label=GOOD))
    assert signals.found_next[:, 1].any()


def test_an_unanswered_question_is_no_signal() -> None:
    signals = collect(acts(kind=FeedbackKind.UNANSWERED))
    assert (len(signals), signals.left_out) == (0, {"unanswered": 1})


def test_an_offered_answer_that_was_used_judges_no_document() -> None:
    signals = collect(acts(kind=FeedbackKind.OFFERED_USED, offered="one"))
    assert judged(signals) is None


def test_an_answer_that_unknown_weights_served_is_left_out() -> None:
    signals = collect(acts(label=GOOD, weights={"ranker": "0" * 64}))
    assert signals.left_out == {"served by unknown weights": 1}


def many(count: int, *, of: str, agents: int = 1, days: int = 1) -> list[FeedbackEvent]:
    events = list(feedback(count))
    return [
        one.model_copy(
            update={
                "agent": f"{number % agents:032x}",
                "asked_at": START + (number % days) * DAY,
                "conversation": "c" * 32 if of == "conversation" else one.conversation,
                "documents": events[0].documents if of == "question" else one.documents,
            }
        )
        for number, one in enumerate(events)
    ]


@pytest.mark.parametrize(
    ("of", "caps", "agents", "days", "left"),
    [
        ("agent", Caps(per_agent_day=7, per_agent=1_000), 1, 2, 14),
        ("agent", Caps(per_agent_day=1_000, per_agent=9), 2, 1, 18),
        ("conversation", Caps(per_conversation=4), 5, 1, 4),
        ("question", Caps(per_question=3), 5, 1, 3),
    ],
)
def test_what_is_over_a_cap_is_left_out(of: str, caps: Caps, agents: int, days: int, left: int) -> None:
    signals = collect(*many(40, of=of, agents=agents, days=days), caps=caps)
    assert len(signals) == left
    assert sum(signals.left_out.values()) == 40 - left


def test_the_seed_chooses_what_a_cap_leaves() -> None:
    events = many(40, of="agent")
    caps = Caps(per_agent=5)
    kept = [collect(*events, caps=caps, seed=seed).scores.tolist() for seed in (1, 1, 2)]
    assert kept[0] == kept[1] != kept[2]


def test_an_agent_with_most_of_the_signals_is_weighed_down() -> None:
    busy = [one.model_copy(update={"agent": "0" * 32}) for one in feedback(30)]
    others = [
        event(100 + number, list(one.documents), agent=1 + number % 5, label=GOOD)
        for number, one in enumerate(feedback(30, seed=1))
    ]
    signals = collect(*busy, *others)
    of_busy = signals.agents == signals.agent_names.index("0" * 32)
    assert signals.weights[of_busy].sum() / signals.weights.sum() == pytest.approx(1 / 3, abs=0.01)
    assert signals.weights.mean() == pytest.approx(1.0)


def test_a_rarely_shown_choice_weighs_more_up_to_ten_times() -> None:
    def shown(propensity: float) -> list:
        return [one.model_copy(update={"propensity": propensity}) for one in three_documents()]

    events = [event(n, shown(p), agent=n, label=GOOD) for n, p in enumerate((1.0, 1.0, 0.5, 0.001))]
    weights = collect(*events, caps=Caps(agent_share=1.0)).weights
    assert sorted(round(float(one / min(weights)), 3) for one in weights) == [1.0, 1.0, 2.0, 10.0]
