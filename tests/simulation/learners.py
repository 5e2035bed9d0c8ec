"""The learners that the simulation teaches: the product's, behind its public function, and a naive one."""

from __future__ import annotations

from tests.simulation.proof import Counting, Learner


def learner_of(name: str) -> Learner:
    """Return a learner by name. Raises SystemExit for an unknown name."""
    if name == "counting":
        return Counting()
    raise SystemExit(f"There is no learner {name}: use product or counting.")
