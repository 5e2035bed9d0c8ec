"""Every mutation, or a seeded sample of them, run through the checks."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tests.stacks.mistakes.scene import Scene
from tests.stacks.mutations.changes import Mutation
from tests.stacks.mutations.in_models import models
from tests.stacks.mutations.in_services import services
from tests.stacks.mutations.in_the_network import network


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    scene: str
    mutation: Mutation
    codes: frozenset[str]
    """Of the findings that refuse it; none where it passes."""


def all_of(scene: Scene) -> list[Mutation]:
    """Return every mutation of a set of templates."""
    read = scene.copy()
    return [*network(read), *models(read.copy()), *services(read.copy())]


def outcomes(scenes: Mapping[str, Scene], *, seed: int, most: int | None = None) -> Iterator[Outcome]:
    """Yield the outcomes of the mutations of all sets, or of ``most`` of them, as many of each mistake."""
    chosen = sampled({name: all_of(scene) for name, scene in scenes.items()}, seed=seed, most=most)
    for name, mutation in chosen:
        changed = scenes[name].copy()
        mutation.change(changed)
        findings = changed.broken() or changed.refused()
        codes = frozenset(finding.code for finding in findings)
        yield Outcome(scene=name, mutation=mutation, codes=codes)


def sampled(
    mutations: Mapping[str, Sequence[Mutation]], *, seed: int, most: int | None
) -> list[tuple[str, Mutation]]:
    """Return all mutations, or at most ``most``, taken from the operators in turn."""
    draw = random.Random(seed)  # noqa: S311 - a sample that can be drawn again
    by_operator: dict[tuple[int, str], list[tuple[str, Mutation]]] = {}
    for name, found in mutations.items():
        for mutation in found:
            by_operator.setdefault((mutation.number, mutation.operator), []).append((name, mutation))
    for of_operator in by_operator.values():
        draw.shuffle(of_operator)
    if most is None:
        return [one for of_operator in by_operator.values() for one in of_operator]
    turns = list(by_operator.values())
    draw.shuffle(turns)
    chosen: list[tuple[str, Mutation]] = []
    while len(chosen) < most and any(turns):
        for of_operator in turns:
            if of_operator and len(chosen) < most:
                chosen.append(of_operator.pop())
    return chosen
