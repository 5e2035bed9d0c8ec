"""Ten simulated days of learning, judged on questions that no agent asked: gains, attacks, ceiling, curve."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from assistant.answering.rank import Weights, shipped_weights
from assistant.domain.feedback import FeedbackEvent, FeedbackKind
from tests.simulation.agents import Agent, Days, PoisonedDays, RandomDays, Serving, World
from tests.simulation.ceiling import true_labels, weights_of
from tests.simulation.replay import Replay, is_right_first

BOOTSTRAPS = 2_000
Array = NDArray[np.float64]
Say = Callable[[str], None]


class Learner(Protocol):
    """Learns a ranker's weights from events. It never sees questions, relevance or the agents' habits."""

    name: str
    refusals: list[str]
    """What it said where it refused."""

    def learn(self, events: Sequence[FeedbackEvent], *, serving: Serving) -> Serving | None:
        """Return what serves the next day; None where it refuses, and ``serving`` stays."""
        ...


class Counting:
    """The naive learner to beat: a document's offset follows its share of good signals, whatever its place.

    It knows nothing of position bias, caps or poison, and stands in the report for comparison only.
    """

    name = "counting"

    def __init__(self) -> None:
        self.refusals: list[str] = []

    _steepness, _pull = 0.3, 20.0

    def learn(self, events: Sequence[FeedbackEvent], *, serving: Serving) -> Serving | None:
        good: dict[str, float] = {}
        bad: dict[str, float] = {}
        for event in events:
            if event.opened:
                good[event.opened] = good.get(event.opened, 0.0) + 1.0
            elif event.documents and event.kind in (FeedbackKind.SENT, FeedbackKind.VERDICT):
                into = bad if event.label == "bad" else good
                first = event.documents[0].document_id
                into[first] = into.get(first, 0.0) + 1.0
        shipped = shipped_weights("ranker").features
        offsets = {
            name: self._steepness * (good.get(name, 0.0) - bad.get(name, 0.0))
            / (self._pull + good.get(name, 0.0) + bad.get(name, 0.0)) * 3.0
            for name in good.keys() | bad.keys()
        }  # fmt: skip
        return Serving(weights_of(shipped, offsets, why="counting"))


# --- measuring ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Estimate:
    """A difference in points, with its 95 % interval: bootstrap, paired by question, drawn by document."""

    questions: int
    before: float
    after: float
    low: float
    high: float

    @property
    def gain(self) -> float:
        return self.after - self.before

    def __str__(self) -> str:
        return (
            f"{self.before:5.1f} → {self.after:5.1f}  {self.gain:+5.1f} [{self.low:+.1f}, {self.high:+.1f}]"
            f"  n={self.questions}"
        )


@dataclass(frozen=True, slots=True)
class HeldOutSet:
    """Questions that judge, by group; every test question is of a family that no agent asked."""

    groups: Mapping[str, Sequence[Replay]]

    def compare(self, before: Weights, after: Weights) -> dict[str, Estimate]:
        """Return per group the share of questions with a right document first, in percent."""
        return {
            name: _paired(
                np.array([is_right_first(one, before) for one in replays], dtype=np.float64),
                np.array([is_right_first(one, after) for one in replays], dtype=np.float64),
                [one.found.question.document_id for one in replays],
            )
            for name, replays in self.groups.items()
            if replays
        }


def _paired(before: Array, after: Array, clusters: Sequence[str]) -> Estimate:
    names, at = np.unique(np.array(clusters), return_inverse=True)
    gains, sizes = np.zeros(len(names)), np.zeros(len(names))
    np.add.at(gains, at, after - before)
    np.add.at(sizes, at, 1.0)
    drawn = np.random.default_rng(20_26).integers(0, len(names), size=(BOOTSTRAPS, len(names)))
    means = 100 * gains[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    low, high = np.percentile(means, [2.5, 97.5])
    return Estimate(
        len(before), 100 * float(before.mean()), 100 * float(after.mean()), float(low), float(high)
    )


# --- scenarios ------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Course:
    """What happened in one scenario."""

    name: str
    serving: Serving
    """After the last day."""
    refused_days: list[int] = field(default_factory=list[int])
    signals_by_day: list[int] = field(default_factory=list[int])
    curve: list[dict[str, Estimate]] = field(default_factory=list[dict[str, Estimate]])
    """After each day, against the shipped ranker; empty where no curve was asked for."""
    learning_s: float = 0.0
    refusals: list[str] = field(default_factory=list[str])

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
        course.refusals = learner.refusals
        if learned is None:
            course.refused_days.append(number + 1)
        else:
            course.serving = learned
        if judge is not None:
            course.curve.append(judge.compare(shipped, course.serving.live))
        say(f"{name}: day {number + 1}, {course.signals} signals{', refused' if learned is None else ''}")
    return course


def perfect(agents: Iterable[Agent]) -> list[Agent]:
    """Return the agents as if they looked at everything, never erred and marked every answer."""
    return [
        replace(one, diligence=1.0, errs=0.0, trusts=0.0, marks="both", marks_share=1.0, sends=1.0)
        for one in agents
    ]


# --- the whole ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Proof:
    """All scenarios of one tenant, one learner and one seed."""

    tenant: str
    seed: int
    learner: str
    days: int
    agents: int
    courses: Mapping[str, Course]
    against_shipped: Mapping[str, Mapping[str, Estimate]]
    """By scenario and group."""
    poison_against_honest: Mapping[str, Estimate]
    in_reach: Mapping[str, float]
    """Percent of each group's questions whose right document is among those that agents see."""
    replay_differs: int

    def misses(self) -> list[str]:
        """Return what the issue asks and this run does not give: the gain, then all that must not happen."""
        gain = self.against_shipped["honest"]["asked about"].gain
        standing = [f"documents asked about: {gain:+.1f}, asked +5"] if gain < 5.0 else []
        return standing + self.harm()

    def harm(self) -> list[str]:
        """Return what learning may not do and this run did. A gain that is too small is no harm."""
        found: list[str] = []
        honest = self.against_shipped["honest"]
        asked, others = honest["asked about"], honest["others"]
        if others.gain < -1.0:
            found.append(f"other documents: {others.gain:+.1f}, never below -1")
        worst = min((day["others"].gain for day in self.courses["honest"].curve), default=0.0)
        if worst < -1.0:
            found.append(f"other documents on the worst day: {worst:+.1f}, never below -1")
        if min(asked.questions, others.questions) < 400:
            found.append("fewer than 400 test questions in a group")
        for group, one in self.against_shipped["random clicks"].items():
            if abs(one.gain) > 1.0:
                found.append(f"random clicks, {group}: {one.gain:+.1f}, asked no change")
        for group, one in self.poison_against_honest.items():
            if one.gain < -1.0:
                found.append(f"poisoned day, {group}: {one.gain:+.1f} against honest days")
        if self.replay_differs:
            found.append(f"the replay of {self.replay_differs} questions is not the product's order")
        return found

    def lines(self) -> list[str]:
        """Return the report as a table of text."""
        lines = [
            f"{self.tenant}: {self.learner}, {self.days} days, {self.agents} agents, seed {self.seed}",
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
            gains = " ".join(f"{day[group].gain:+5.1f}" for day in self.courses["honest"].curve)
            lines.append(f"    {group:24} {gains}")
        reach = ", ".join(f"{group} {share:.1f}" for group, share in self.in_reach.items())
        lines.append(f"  right document among the shown ones under shipped weights, percent: {reach}")
        lines += [f"  MISS {miss}" for miss in self.misses()] or ["  every figure of the issue is met"]
        return lines

    def json(self) -> str:
        """Return the report for a program."""
        honest = self.courses["honest"]
        content = {
            "tenant": self.tenant,
            "seed": self.seed,
            "learner": self.learner,
            "days": self.days,
            "agents": self.agents,
            "scenarios": {name: _plain(groups) for name, groups in self.against_shipped.items()},
            "poison_against_honest": _plain(self.poison_against_honest),
            "signals_by_day": {name: one.signals_by_day for name, one in self.courses.items()},
            "refused_days": {name: one.refused_days for name, one in self.courses.items()},
            "refusals": {name: one.refusals for name, one in self.courses.items()},
            "learning_cpu_s": {name: round(one.learning_s, 2) for name, one in self.courses.items()},
            "weights": {name: one.serving.live.sha256 for name, one in self.courses.items()},
            "curve": [_plain(day) for day in honest.curve],
            "in_reach": {group: round(share, 2) for group, share in self.in_reach.items()},
            "replay_differs": self.replay_differs,
            "misses": self.misses(),
        }
        return json.dumps(content, indent=1)


def _plain(groups: Mapping[str, Estimate]) -> dict[str, dict[str, float]]:
    return {
        name: {key: round(value, 2) for key, value in (asdict(one) | {"gain": one.gain}).items()}
        for name, one in groups.items()
    }


@dataclass(frozen=True, slots=True)
class Scene:
    """Who works on what, for how long, and what judges it."""

    world: World
    agents: Sequence[Agent]
    judge: HeldOutSet
    days: int
    seed: int
    replay_differs: int = 0

    def course(
        self, name: str, kind: type[Days], learner: Learner, *, agents: Sequence[Agent], say: Say
    ) -> Course:
        """Run one scenario; the honest one is judged after each day."""
        days = kind(self.world, agents, seed=self.seed)
        judge = self.judge if name == "honest" else None
        return run_days(name, days, learner, count=self.days, judge=judge, say=say)


def prove(scene: Scene, teach: Callable[[], Learner], *, say: Say = lambda _: None) -> Proof:
    """Run every scenario with a new learner each, and judge it."""
    honest, learner = scene.agents, teach()
    plans: Mapping[str, tuple[type[Days], Sequence[Agent], Learner]] = {
        "honest": (Days, honest, learner),
        "random clicks": (RandomDays, honest, teach()),
        "poisoned day": (PoisonedDays, honest, teach()),
        "perfect agents": (Days, perfect(honest), teach()),
        "honest, counting": (Days, honest, Counting()),
        "poisoned day, counting": (PoisonedDays, honest, Counting()),
    }
    courses = {
        name: scene.course(name, kind, taught, agents=agents, say=say)
        for name, (kind, agents, taught) in plans.items()
    }
    shipped, judge = shipped_weights("ranker"), scene.judge
    against = {name: judge.compare(shipped, one.serving.live) for name, one in courses.items()}
    say("ceiling")
    against["true labels (ceiling)"] = judge.compare(shipped, true_labels(scene.world.asked))
    return Proof(
        tenant=scene.world.tenant,
        seed=scene.seed,
        learner=learner.name,
        days=scene.days,
        agents=len(honest),
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
