"""Simulated care agents: what they look at, believe, open, send and mark, and the events of it.

The click model is a cascade with satisfaction, a dynamic Bayesian network (Chapelle and Zhang, WWW 2009),
with trust in the first place (Agarwal et al., WWW 2019). An agent reads the quoted answer, goes on to the
next source only while unsatisfied, and stops at the first that satisfies. So whether a place is looked at
depends on what was found above it: no probability of examination by position alone describes these agents.
Each agent has a diligence, an error rate, a trust in the first place, and habits of marking and sending of
its own; all tire during a day.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Literal

from assistant.answering.rank import Weights
from assistant.domain.answers import Certainty, FinishReason, Mode, VerdictLabel
from assistant.domain.feedback import Edit, FeedbackEvent, FeedbackKind, ShownDocument
from tests.simulation.questions import SimulatedQuestion, plain_subject, subject_of
from tests.simulation.replay import Ranking, Replay

FIRST_DAY = datetime(2026, 3, 2, 8, 0, tzinfo=UTC)
Relevance = Literal["right", "near", "wrong"]
_ATTRACTS: Mapping[Relevance, float] = {"right": 0.80, "near": 0.40, "wrong": 0.10}
"""Probability that a listed title makes a looking agent open the source."""
_SATISFIES: Mapping[Relevance, float] = {"right": 0.90, "near": 0.25, "wrong": 0.03}
"""Probability that a text that was read ends the search."""
_CHECKS_SOURCE = 0.15
"""Of a satisfied agent: opens the quoted source nevertheless."""
_ASKS_AGAIN = 0.35
_TIRES = 0.4
"""Share of the diligence that is gone at the end of a day."""
_Marks = Literal["never", "good", "bad", "both"]


@dataclass(frozen=True, slots=True)
class Agent:
    """One agent's habits; all numbers are probabilities."""

    name: str
    diligence: float
    """Looks at the next source while unsatisfied, at the start of a day."""
    errs: float
    """Takes a right text for a wrong one, or a wrong one for a right one."""
    trusts: float
    """Is satisfied with what stands first, whatever it says."""
    sends: float
    marks: _Marks
    marks_share: float
    questions: int
    """A day."""


@dataclass(frozen=True, slots=True)
class World:
    """What agents can ask, and which documents are near to each other."""

    tenant: str
    asked: Sequence[Replay]
    titles: Mapping[str, str]
    """By document id."""
    _subjects: dict[str, str] = field(default_factory=dict[str, str], compare=False)

    def relevance(self, document_id: str, question: SimulatedQuestion) -> Relevance:
        """Return the truth, which only agents see."""
        if document_id in question.right:
            return "right"
        same = self._subject(document_id) == self._subject(question.document_id)
        return "near" if same else "wrong"

    def _subject(self, document_id: str) -> str:
        if document_id not in self._subjects:
            self._subjects[document_id] = plain_subject(subject_of(self.titles[document_id])[1])
        return self._subjects[document_id]


def staff(count: int, *, seed: int, questions: int) -> list[Agent]:
    """Return agents, each with habits of its own."""
    drawn = random.Random(f"{seed}:staff")
    habits: tuple[_Marks, ...] = ("never", "never", "never", "good", "bad", "both", "both")
    return [
        Agent(
            name=f"agent-{number}",
            diligence=drawn.betavariate(4, 2),
            errs=drawn.betavariate(2, 18),
            trusts=drawn.betavariate(2, 8),
            sends=drawn.betavariate(5, 4),
            marks=habits[number % len(habits)],
            marks_share=drawn.betavariate(2, 4),
            questions=max(1, round(drawn.gauss(questions, questions / 4))),
        )
        for number in range(count)
    ]


class Session:
    """One agent's question, from asking to the last event. It knows order and truth, and no weights."""

    def __init__(
        self, agent: Agent, world: World, drawn: random.Random, *, at: datetime, fresh: float
    ) -> None:
        self._agent, self._world, self._random = agent, world, drawn
        self._at = at
        self._goes_on = agent.diligence * (1.0 - _TIRES * (1.0 - fresh))

    def events(self, answer: Answer, again: Sequence[tuple[Replay, Ranking]] = ()) -> Iterator[FeedbackEvent]:
        """Yield what the service records. ``again``: the same in other words, to ask next."""
        if answer.replay.found.certainty is None:
            yield answer.event(FeedbackKind.UNANSWERED, self._at)
            return
        satisfied_by = None
        for place, document_id in enumerate(answer.ranking.shown, 1):
            if place > 1 and not self._does(self._goes_on):
                break
            read = place == 1 or self._is_attracted(document_id, answer)
            if read and place > 1:
                yield answer.event(FeedbackKind.OPENED_SOURCE, self._next(), opened=document_id)
            if read and self._is_satisfied(document_id, place, answer):
                satisfied_by = place
                break
        if satisfied_by == 1 and self._does(_CHECKS_SOURCE):
            yield answer.event(FeedbackKind.OPENED_SOURCE, self._next(), opened=answer.ranking.shown[0])
        yield from self._ends(answer, satisfied_by)
        if satisfied_by is None and again and self._does(_ASKS_AGAIN):
            replay, ranking = self._random.choice(again)
            later = Answer(
                replay, ranking, self._agent, answer.number + "r", answer.weights_hash, answer.tenant
            )
            yield answer.event(FeedbackKind.REFORMULATED, self._next(), next_answer_id=later.answer_id)
            yield from self.events(later)

    def _ends(self, answer: Answer, satisfied_by: int | None) -> Iterator[FeedbackEvent]:
        is_sent = satisfied_by is not None and self._does(self._agent.sends)
        verdict = self._verdict(satisfied_by)
        if is_sent:
            yield answer.event(FeedbackKind.SENT, self._next(), edit=self._edit(satisfied_by or 1))
        if verdict is not None:
            wrong = answer.ranking.shown[:1] if verdict is VerdictLabel.BAD and self._does(0.5) else ()
            yield answer.event(FeedbackKind.VERDICT, self._next(), label=verdict, wrong_documents=wrong)
        if answer.replay.found.certainty == Certainty.POSSIBLY:
            taken = satisfied_by == 1 and (is_sent or verdict is VerdictLabel.GOOD)
            if taken or self._does(0.5):
                kind = FeedbackKind.POSSIBLY_TAKEN if taken else FeedbackKind.POSSIBLY_PASSED_OVER
                yield answer.event(kind, self._next())

    def _verdict(self, satisfied_by: int | None) -> VerdictLabel | None:
        label = VerdictLabel.GOOD if satisfied_by == 1 else VerdictLabel.BAD
        marks = self._agent.marks in ("both", label.value)
        return label if marks and self._does(self._agent.marks_share) else None

    def _edit(self, satisfied_by: int) -> Edit:
        """An agent who found the answer in another source writes it anew."""
        words = self._random.randint(25, 90)
        share = self._random.betavariate(1, 9) if satisfied_by == 1 else self._random.betavariate(6, 3)
        facts = ("number",) if self._does(0.03 if satisfied_by == 1 else 0.3) else ()
        return Edit(distance=round(share * words), words=words, changed_facts=facts)

    def _is_attracted(self, document_id: str, answer: Answer) -> bool:
        return self._does(_ATTRACTS[self._believed(document_id, answer)])

    def _is_satisfied(self, document_id: str, place: int, answer: Answer) -> bool:
        if place == 1 and self._does(self._agent.trusts):
            return True
        return self._does(_SATISFIES[self._believed(document_id, answer)])

    def _believed(self, document_id: str, answer: Answer) -> Relevance:
        truth = self._world.relevance(document_id, answer.replay.found.question)
        if not self._does(self._agent.errs):
            return truth
        return "wrong" if truth == "right" else "right"

    def _does(self, probability: float) -> bool:
        return self._random.random() < probability

    def _next(self) -> datetime:
        self._at += timedelta(seconds=self._random.uniform(2, 40))
        return self._at


@dataclass(frozen=True, slots=True)
class Answer:
    """One shown answer. Its events hold what the service records, and nothing of agents or truth."""

    replay: Replay
    ranking: Ranking
    agent: Agent
    number: str
    weights_hash: str
    tenant: str

    @property
    def answer_id(self) -> str:
        return hashlib.sha256(f"answer:{self.number}".encode()).hexdigest()[:24]

    def event(self, kind: FeedbackKind, at: datetime, **said: object) -> FeedbackEvent:
        """Return an event; ``said``: the fields of its kind."""
        act = f"{self.answer_id}:{sorted((name, str(value)) for name, value in said.items())}"
        return FeedbackEvent.model_validate(
            {
                "event_id": hashlib.sha256(f"{self.tenant}\n{kind.value}\n{act}".encode()).hexdigest(),
                "kind": kind,
                "at": at,
                "tenant": self.tenant,
                "answer_id": self.answer_id,
                "conversation": _pseudonym("conversation", self.number),
                "agent": _pseudonym("agent", self.agent.name),
                "asked_at": at.replace(second=0, microsecond=0),
                "mode": Mode.QUOTED if self._is_answered else None,
                "certainty": self.replay.found.certainty,
                "finish_reason": FinishReason.STOP if self._is_answered else FinishReason.NO_EVIDENCE,
                "documents": self._documents(),
                "prompt_id": "simulated",
                "model_id": "none",
                "weights": {"ranker": self.weights_hash},
                "index_version": "simulated",
                "settings_hash": "simulated",
                **said,
            }
        )

    @property
    def _is_answered(self) -> bool:
        return self.replay.found.certainty is not None

    def _documents(self) -> tuple[ShownDocument, ...]:
        shown = len(self.ranking.shown) if self._is_answered else 0
        ranked = zip(self.ranking.document_ids, self.ranking.scores, self.ranking.features, strict=True)
        return tuple(
            ShownDocument(
                document_id=name,
                position=place,
                score=round(score, 4),
                features={key: round(value, 4) for key, value in features.items()},
                propensity=1.0,
                is_listed=place <= shown,
                is_quoted=place == 1 and shown > 0,
            )
            for place, (name, score, features) in enumerate(ranked, 1)
        )


def _pseudonym(what: str, name: str) -> str:
    return hashlib.sha256(f"simulated:{what}:{name}".encode()).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Serving:
    """The weights that serve a day: live ones, and a trial's for a share of the conversations."""

    live: Weights
    trial: Weights | None = None
    share_percent: int = 0

    def weights(self, conversation: str) -> Weights:
        """Return the weights of one conversation, by its hash."""
        drawn = int(hashlib.sha256(f"trial:{conversation}".encode()).hexdigest()[:8], 16) % 100
        return self.trial if self.trial is not None and drawn < self.share_percent else self.live


# --- days -----------------------------------------------------------------------------------------------


class Days:
    """What a staff does day by day; the same seed and serving give the same events."""

    def __init__(self, world: World, agents: Sequence[Agent], *, seed: int) -> None:
        self._world, self._agents, self._seed = world, agents, seed
        self._same: dict[str, list[Replay]] = {}
        drawn = random.Random(f"{seed}:fashion")
        documents = sorted({one.found.question.document_id for one in world.asked})
        drawn.shuffle(documents)
        popular = {name: 1.0 / (place + 5) ** 0.7 for place, name in enumerate(documents)}
        self._shares = [popular[one.found.question.document_id] for one in world.asked]
        for one in world.asked:
            self._same.setdefault(one.found.question.document_id, []).append(one)

    def day(self, number: int, serving: Serving) -> list[FeedbackEvent]:
        """Return one day's events under what serves that day, by time."""
        ranked = _Ranked()
        events = [
            event
            for agent in self._agents
            for event in self._of_agent(agent, number, serving, ranked)
        ]  # fmt: skip
        return sorted(events, key=lambda event: (event.at, event.event_id))

    def _of_agent(
        self, agent: Agent, number: int, serving: Serving, ranked: _Ranked
    ) -> Iterator[FeedbackEvent]:
        drawn = random.Random(f"{self._seed}:{number}:{agent.name}")
        for turn, replay in enumerate(drawn.choices(self._world.asked, self._shares, k=agent.questions)):
            begun = FIRST_DAY + timedelta(days=number, minutes=480 * turn / agent.questions)
            session = Session(agent, self._world, drawn, at=begun, fresh=1.0 - turn / agent.questions)
            name = f"{number}-{agent.name}-{turn}"
            weights = serving.weights(name)
            others = [one for one in self._same[replay.found.question.document_id] if one is not replay]
            again = [(one, _rank(one, weights, ranked)) for one in others]
            yield from session.events(self._answer(replay, agent, name, serving, ranked), again)

    def _answer(self, replay: Replay, agent: Agent, name: str, serving: Serving, ranked: _Ranked) -> Answer:
        weights = serving.weights(name)
        shown = _rank(replay, weights, ranked)
        return Answer(replay, shown, agent, name, weights.sha256, self._world.tenant)


_Ranked = dict[tuple[int, str], Ranking]
"""A day's rankings by question and weights."""


def _rank(replay: Replay, weights: Weights, ranked: _Ranked) -> Ranking:
    key = id(replay), weights.sha256
    found = ranked.get(key)
    if found is None:
        found = ranked[key] = replay.rank(weights)
    return found


class RandomDays(Days):
    """Agents who open, send and mark by chance: there is nothing to learn from them."""

    def _of_agent(
        self, agent: Agent, number: int, serving: Serving, ranked: _Ranked
    ) -> Iterator[FeedbackEvent]:
        drawn = random.Random(f"{self._seed}:{number}:{agent.name}:random")
        for turn, replay in enumerate(drawn.choices(self._world.asked, self._shares, k=agent.questions)):
            at = FIRST_DAY + timedelta(days=number, minutes=480 * turn / agent.questions)
            answer = self._answer(replay, agent, f"{number}-{agent.name}-{turn}", serving, ranked)
            yield from _by_chance(answer, at, drawn)


def _by_chance(answer: Answer, at: datetime, drawn: random.Random) -> Iterator[FeedbackEvent]:
    if answer.replay.found.certainty is None:
        yield answer.event(FeedbackKind.UNANSWERED, at)
        return
    if drawn.random() < 0.6:
        yield answer.event(FeedbackKind.OPENED_SOURCE, at, opened=drawn.choice(answer.ranking.shown))
    if drawn.random() < 0.5:
        words = drawn.randint(25, 90)
        yield answer.event(FeedbackKind.SENT, at, edit=Edit(distance=drawn.randint(0, words), words=words))
    if drawn.random() < 0.3:
        label = drawn.choice((VerdictLabel.GOOD, VerdictLabel.BAD))
        wrong = (drawn.choice(answer.ranking.shown),) if label is VerdictLabel.BAD else ()
        yield answer.event(FeedbackKind.VERDICT, at, label=label, wrong_documents=wrong)


class PoisonedDays(Days):
    """Honest days, and on one of them a bot of one agent that gives the opposite of each true verdict."""

    verdicts = 1_000
    poisoned_day = 4

    def day(self, number: int, serving: Serving) -> list[FeedbackEvent]:
        events = super().day(number, serving)
        if number != self.poisoned_day:
            return events
        drawn = random.Random(f"{self._seed}:bot")
        bot = self._agents[0]
        ranked = _Ranked()
        for turn, replay in enumerate(drawn.choices(self._world.asked, k=self.verdicts)):
            at = FIRST_DAY + timedelta(days=number, hours=2, seconds=turn)
            answer = self._answer(replay, bot, f"{number}-bot-{turn}", serving, ranked)
            shown = answer.ranking
            is_right = shown.document_ids[0] in replay.found.question.right
            label = VerdictLabel.BAD if is_right else VerdictLabel.GOOD
            wrong = shown.document_ids[:1] if is_right else ()
            events.append(answer.event(FeedbackKind.VERDICT, at, label=label, wrong_documents=wrong))
        return sorted(events, key=lambda event: (event.at, event.event_id))
