"""The learners that the simulation teaches: the product's, behind its public functions, and a naive one."""

from __future__ import annotations

from collections.abc import Sequence

from assistant.answering.retrieve import Weights, read_weights, shipped_weights
from assistant.domain.errors import ConflictError, InvalidRequestError
from assistant.domain.feedback import FeedbackEvent
from assistant.tuning.ranking import LearningPlan, learn
from assistant.tuning.signals import Caps, SignalCollector
from tests.simulation.proof import Counting, Learner


class Product:
    """What ``assistant learn ranking`` learns, before the gate: every result serves the next day."""

    name = "product, without the gate"

    def __init__(self, *, tenant: str, seed: int = 0) -> None:
        self._tenant, self._seed = tenant, seed
        self._served = {shipped_weights("ranker").sha256: shipped_weights("ranker")}
        self.refusals: list[str] = []
        """What the learner said where it refused."""

    def learn(self, events: Sequence[FeedbackEvent], *, serving: Weights) -> Weights | None:
        self._served[serving.sha256] = serving
        collector = SignalCollector(tenant=self._tenant, rankers=self._served)
        for event in events:
            collector.add(event)
        try:
            learned = learn(collector.signals(seed=self._seed, caps=Caps()), LearningPlan())
        except (ConflictError, InvalidRequestError) as refusal:
            self.refusals.append(refusal.message)
            return None
        return read_weights(learned.file(fitted_on="simulation"), name="simulation", kind="ranker")


def learner_of(name: str, *, tenant: str, seed: int) -> Learner:
    """Return a learner by name. Raises SystemExit for an unknown name."""
    match name:
        case "product":
            return Product(tenant=tenant, seed=seed)
        case "counting":
            return Counting()
        case _:
            raise SystemExit(f"There is no learner {name}: use product or counting.")
