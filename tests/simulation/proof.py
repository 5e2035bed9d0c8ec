"""Ten simulated days of learning, judged on questions that no agent asked: gains, attacks, ceiling, curve."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from assistant.answering.rank import Weights, shipped_weights
from assistant.domain.feedback import FeedbackEvent
from assistant.evaluation.measures import Estimate, estimate
from tests.simulation.agents import Agent, Days, PoisonedDays, RandomDays, Serving, World
from tests.simulation.ceiling import true_labels
from tests.simulation.replay import Replay, is_right_first

BOOTSTRAPS = 2_000
Array = NDArray[np.float64]
Say = Callable[[str], None]


class Learner(Protocol):
    """Learns a ranker's weights from events. It never sees questions, relevance or the agents' habits."""

    def learn(self, events: Sequence[FeedbackEvent], *, serving: Serving) -> Serving | None:
        """Return what serves the next day; None where it refuses, and ``serving`` stays."""
        ...


# --- measuring ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Gain:
    """Questions with a right document first, in percent, and the difference with its 95 % interval: paired by
    question, drawn by document."""

    before: float
    after: float
    difference: Estimate

    @property
    def points(self) -> float:
        return 100 * self.difference.value

    @property
    def questions(self) -> int:
        return self.difference.questions

    def __str__(self) -> str:
        low, high = 100 * self.difference.low, 100 * self.difference.high
        return (
            f"{self.before:5.1f} → {self.after:5.1f}  {self.points:+5.1f} [{low:+.1f}, {high:+.1f}]"
            f"  n={self.questions}"
        )


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """Questions that judge, by group; every test question is of a family that no agent asked."""

    groups: Mapping[str, Sequence[Replay]]

    def compare(self, before: Weights, after: Weights) -> dict[str, Gain]:
        """Return the gain per group."""
        return {name: _gain(replays, before, after) for name, replays in self.groups.items() if replays}


def _gain(replays: Sequence[Replay], before: Weights, after: Weights) -> Gain:
    was, now = (np.array([is_right_first(one, each) for one in replays], float) for each in (before, after))
    clusters = {str(at): one.found.question.document_id for at, one in enumerate(replays)}
    difference = estimate(dict(zip(clusters, (now - was).tolist(), strict=True)), clusters)
    assert difference is not None
    return Gain(100 * float(was.mean()), 100 * float(now.mean()), difference)


# --- scenarios ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Course:
    """What happened in one scenario."""

    name: str
    serving: Serving
    """After the last day."""
    refused_days: list[int] = field(default_factory=list[int])
    signals_by_day: list[int] = field(default_factory=list[int])
    curve: list[dict[str, Gain]] = field(default_factory=list[dict[str, Gain]])
    """After each day, against the shipped ranker; empty where no curve was asked for."""
    learning_s: float = 0.0

    @property
    def signals(self) -> int:
        return sum(self.signals_by_day)


def run_days(
    name: str, days: Days, learner: Learner, *, count: int, judge: HeldOutSet | None = None,
    say: Say = lambda _: None,
) -> Course:  # fmt: skip
    """Have agents work ``count`` days; after each one learn from all events so far and serve the result."""
    shipped = shipped_weights("ranker")
    course, events = Course(name, Serving(shipped)), list[FeedbackEvent]()
    for number in range(count):
        today = days.day(number, course.serving)
        events += today
        course.signals_by_day.append(len(today))
        began_s = time.process_time()
        learned = learner.learn(events, serving=course.serving)
        course.learning_s += time.process_time() - began_s
        if learned is None:
            course.refused_days.append(number + 1)
        else:
            course.serving = learned
        if judge is not None:
            course.curve.append(judge.compare(shipped, course.serving.live))
        say(f"{name}: day {number + 1}, {course.signals} signals{', refused' if learned is None else ''}")
    return course


# --- the whole ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """All scenarios of one tenant, one learner and one seed."""

    tenant: str
    seed: int
    days: int
    agents: int
    courses: Mapping[str, Course]
    against_shipped: Mapping[str, Mapping[str, Gain]]
    """By scenario and group."""
    poison_against_honest: Mapping[str, Gain]
    in_reach: Mapping[str, float]
    """Percent of each group's questions whose right document is among those that agents see."""
    replay_differs: int

    def misses(self) -> list[str]:
        """Return what the issue asks and this run does not give: the gain, then all that must not happen."""
        gain = self.against_shipped["honest"]["asked about"].points
        standing = [f"documents asked about: {gain:+.1f}, asked +5"] if gain < 5.0 else []
        return standing + self.harm()

    def harm(self) -> list[str]:
        """Return what learning may not do and this run did. A gain that is too small is no harm."""
        found: list[str] = []
        honest = self.against_shipped["honest"]
        asked, others = honest["asked about"], honest["others"]
        if others.points < -1.0:
            found.append(f"other documents: {others.points:+.1f}, never below -1")
        worst = min((day["others"].points for day in self.courses["honest"].curve), default=0.0)
        if worst < -1.0:
            found.append(f"other documents on the worst day: {worst:+.1f}, never below -1")
        if min(asked.questions, others.questions) < 400:
            found.append("fewer than 400 test questions in a group")
        for group, one in self.against_shipped["random clicks"].items():
            if abs(one.points) > 1.0:
                found.append(f"random clicks, {group}: {one.points:+.1f}, asked no change")
        for group, one in self.poison_against_honest.items():
            if one.points < -1.0:
                found.append(f"poisoned day, {group}: {one.points:+.1f} against honest days")
        if self.replay_differs:
            found.append(f"the replay of {self.replay_differs} questions is not the product's order")
        return found

    def lines(self) -> list[str]:
        """Return the report as a table of text."""
        lines = [
            f"{self.tenant}: {self.days} days, {self.agents} agents, seed {self.seed}",
            "right document first, percent: shipped → learned, gain [95 % interval], questions",
        ]
        for name, groups in self.against_shipped.items():
            course = self.courses.get(name)
            told = f"{course.signals} signals, learning {course.learning_s:.1f} s" if course else "no signals"
            refused = f", refused on days {course.refused_days}" if course and course.refused_days else ""
            lines.append(f"  {name}: {told}{refused}")
            lines += [f"    {group:24} {one}" for group, one in groups.items()]
        lines.append("  poisoned day against the same days without it")
        lines += [f"    {group:24} {one}" for group, one in self.poison_against_honest.items()]
        lines.append("  learning curve of honest days (gain by day)")
        for group in self.courses["honest"].curve[0] if self.courses["honest"].curve else ():
            gains = " ".join(f"{day[group].points:+5.1f}" for day in self.courses["honest"].curve)
            lines.append(f"    {group:24} {gains}")
        reach = ", ".join(f"{group} {share:.1f}" for group, share in self.in_reach.items())
        lines.append(f"  right document among the shown ones under shipped weights, percent: {reach}")
        lines += [f"  MISS {miss}" for miss in self.misses()] or ["  every figure of the issue is met"]
        return lines


@dataclass(frozen=True, slots=True)
class Scene:
    """Who works on what, for how long, and what judges it."""

    world: World
    agents: Sequence[Agent]
    judge: HeldOutSet
    days: int
    seed: int
    replay_differs: int = 0

    def course(self, name: str, kind: type[Days], learner: Learner, *, say: Say) -> Course:
        """Run one scenario; the honest one is judged after each day."""
        days = kind(self.world, self.agents, seed=self.seed)
        judge = self.judge if name == "honest" else None
        return run_days(name, days, learner, count=self.days, judge=judge, say=say)


def prove(scene: Scene, teach: Callable[[], Learner], *, say: Say = lambda _: None) -> Proof:
    """Run every scenario with a new learner each, and judge it."""
    plans: Mapping[str, type[Days]] = {
        "honest": Days,
        "random clicks": RandomDays,
        "poisoned day": PoisonedDays,
    }
    courses = {name: scene.course(name, kind, teach(), say=say) for name, kind in plans.items()}
    shipped, judge = shipped_weights("ranker"), scene.judge
    against = {name: judge.compare(shipped, one.serving.live) for name, one in courses.items()}
    say("ceiling")
    against["true labels (ceiling)"] = judge.compare(shipped, true_labels(scene.world.asked))
    return Proof(
        tenant=scene.world.tenant,
        seed=scene.seed,
        days=scene.days,
        agents=len(scene.agents),
        courses=courses,
        against_shipped=against,
        poison_against_honest=judge.compare(
            courses["honest"].serving.live, courses["poisoned day"].serving.live
        ),
        in_reach={name: _in_reach(replays, shipped) for name, replays in judge.groups.items() if replays},
        replay_differs=scene.replay_differs,
    )


def _in_reach(replays: Sequence[Replay], weights: Weights) -> float:
    reached = [bool(set(one.rank(weights).shown) & one.found.question.right) for one in replays]
    return 100 * sum(reached) / len(reached)


def digest(events: Iterable[FeedbackEvent]) -> str:
    """Return what two runs of the same seed have in common."""
    return hashlib.sha256("\n".join(event.event_id for event in events).encode()).hexdigest()
