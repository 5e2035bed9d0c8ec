"""Feedback with a known answer: candidates with random features, agents who follow a hidden ranker.

It is made for checks of the learner's arithmetic, not as a proof that learning pays: its agents choose by the
same family of models that the learner fits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import numpy as np

from assistant.answering.rank import INDEX_FEATURES, shipped_weights
from assistant.domain.answers import VerdictLabel
from assistant.domain.feedback import FeedbackEvent, FeedbackKind, ShownDocument

START = datetime(2026, 10, 1, 8, tzinfo=UTC)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class World:
    """How questions look and which document is right."""

    change: Mapping[str, float] = field(default_factory=dict[str, float])
    """What the true ranker weighs more or less than the shipped one."""
    offsets: Mapping[str, float] = field(default_factory=dict[str, float])
    documents: int = 40
    candidates: int = 8


@dataclass(frozen=True, slots=True)
class Agents:
    """How agents judge."""

    count: int = 10
    accepts_right: float = 0.95
    accepts_wrong: float = 0.25
    flips: frozenset[int] = frozenset()
    """Agents who mark good what is wrong, and bad what is right."""
    opens: float = 0.0
    """P(opens the right source | the quoted one is wrong), at position 2; it falls with the position."""


_REST = {
    name: field.get_default(call_default_factory=True) for name, field in FeedbackEvent.model_fields.items()
}


def feedback(
    answers: int, world: World | None = None, agents: Agents | None = None, *, seed: int = 0, days: int = 10
) -> Iterator[FeedbackEvent]:
    """Yield one verdict for each answer, and openings of sources, by time."""
    world, agents = world or World(), agents or Agents()
    random = np.random.default_rng(seed)
    truth = np.array(
        [shipped_weights("ranker").features[n] + world.change.get(n, 0.0) for n in INDEX_FEATURES]
    )
    shipped = np.array([shipped_weights("ranker").features[name] for name in INDEX_FEATURES])
    for number in range(answers):
        names = [f"d{one}" for one in random.permutation(world.documents)[: world.candidates]]
        values = random.normal(size=(len(names), len(INDEX_FEATURES)))
        values = (values - values.mean(axis=0)) / values.std(axis=0)
        offsets = np.array([world.offsets.get(name, 0.0) for name in names])
        right = _drawn(random, values @ truth + offsets)
        order = np.argsort(-(values @ shipped), kind="stable")
        shown = [
            ShownDocument.model_construct(  # unchecked: a tenth of the time
                document_id=names[at],
                position=position,
                score=float(values[at] @ shipped),
                features=dict(zip(INDEX_FEATURES, map(float, values[at]), strict=True)),
                propensity=1.0,
                is_listed=position <= 5,
                is_quoted=position == 1,
            )
            for position, at in enumerate(order, start=1)
        ]
        at = START + days * DAY * (number / answers)
        yield from _acts(number, shown, names[right], agents, at=at, random=random)


def _drawn(random: np.random.Generator, scores: np.ndarray) -> int:
    raised = np.exp(scores - scores.max())
    return int(random.choice(len(scores), p=raised / raised.sum()))


def _acts(
    number: int,
    shown: list[ShownDocument],
    right: str,
    agents: Agents,
    *,
    at: datetime,
    random: np.random.Generator,
) -> Iterator[FeedbackEvent]:
    agent = int(random.integers(agents.count))
    is_right = shown[0].document_id == right
    good = random.random() < (agents.accepts_right if is_right else agents.accepts_wrong)
    label = VerdictLabel.GOOD if good != (agent in agents.flips) else VerdictLabel.BAD
    yield event(number, shown, agent=agent, at=at, label=label)
    position = next(one.position for one in shown if one.document_id == right)
    if not is_right and position <= 5 and random.random() < agents.opens * 2 / position:
        yield event(number, shown, agent=agent, at=at, opened=right)


def event(
    number: int,
    shown: list[ShownDocument],
    *,
    agent: int = 0,
    at: datetime = START,
    label: VerdictLabel | None = None,
    opened: str | None = None,
    **changes: object,
) -> FeedbackEvent:
    """Return an event on answer ``number``: a verdict, or an opened source."""
    kind = FeedbackKind.OPENED_SOURCE if opened else FeedbackKind.VERDICT
    fields: dict[str, object] = {
        "event_id": sha256(f"{number} {kind} {opened} {changes}".encode()).hexdigest(),
        "kind": kind,
        "at": at,
        "tenant": "pharmacy",
        "answer_id": f"answer-{number}",
        "conversation": f"{number:032x}",
        "agent": f"{agent:032x}",
        "asked_at": at,
        "documents": tuple(shown),
        "prompt_id": "quoted",
        "model_id": "none",
        "weights": {"ranker": shipped_weights("ranker").sha256},
        "index_version": "1",
        "settings_hash": "0",
        "label": label,
        "opened": opened,
    }
    return FeedbackEvent.model_construct(**{**_REST, **fields, **changes})


def three_documents(*, quoted: str = "a") -> list[ShownDocument]:
    """Return a short list to choose from."""
    return [
        ShownDocument(
            document_id=name,
            position=position,
            score=3.0 - position,
            features={"title_cosine": 1.0 / position},
            propensity=1.0,
            is_listed=True,
            is_quoted=name == quoted,
        )
        for position, name in enumerate("abc", start=1)
    ]
