"""Mutations by operator and resource of every tenant's templates, and harmless variations that must pass.

A sample here; all of them by ``make check-mutations``. The counts are printed. What only an evaluator of
rights sees (mistakes 17, 19 and 20 in part) passes here: tests/stacks/rights refuses it.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from assistant.cli.templates import facts_of
from tests.stacks.mistakes.scene import Scene
from tests.stacks.mutations.harmless import HARMLESS
from tests.stacks.mutations.run import outcomes
from tests.stacks.synthesized import ROOT, assembly_folder

TENANTS = ("pharmacy", "clinic", "sandbox")
SEED = int(os.environ.get("MUTATIONS_SEED", "1"))
MOST = int(os.environ.get("MUTATIONS", "100")) or None
"""How many of them: 0 for all."""
LEAST_REFUSED = 0.7


@pytest.fixture(scope="module")
def scenes(assembly: Path) -> Mapping[str, Scene]:
    """Every tenant's templates, with its facts."""
    return {
        tenant: Scene.read(
            [assembly_folder(assembly, tenant)],
            facts=facts_of(ROOT / "tenants" / f"{tenant}.toml", root=ROOT),
        )
        for tenant in TENANTS
    }


@pytest.mark.timeout(7200 if MOST is None else 900)
def test_mutations_are_refused(
    scenes: Mapping[str, Scene],
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = list(outcomes(scenes, seed=SEED, most=MOST))
    passed = [outcome for outcome in found if not outcome.codes]
    share = 1 - len(passed) / len(found)
    by_number = Counter(outcome.mutation.number for outcome in passed)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{len(found)} mutations, seed {SEED}: {share:.0%} refused; passed: {dict(by_number)}\n"
        )
    record_property("refused", share)
    assert share >= LEAST_REFUSED, [f"{one.scene}: {one.mutation}" for one in passed]


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_variation_passes(scenes: Mapping[str, Scene], name: str) -> None:
    changed = scenes["pharmacy"].copy()
    HARMLESS[name](changed)
    assert changed.refused() == []
