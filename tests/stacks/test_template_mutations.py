"""Mutations by operator and resource are refused, and harmless variations of every right set pass.

A sample here; all of them, on every set, by ``make check-mutations``. The counts are printed.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from assistant.cli.tenant_templates import facts_of, load_facts
from template_checks.findings import Status
from template_checks.mistakes import all_mistakes
from tests.stacks.mistakes.independent import WRITTEN, Written
from tests.stacks.mistakes.scene import Scene
from tests.stacks.mutations.harmless import HARMLESS
from tests.stacks.mutations.run import all_of, counted, outcomes
from tests.stacks.synthesized import ROOT, assembly_folder

FOREIGN = Path(__file__).parent / "foreign"
TENANTS = ("pharmacy", "clinic", "sandbox")
SETS = (*TENANTS, "support_chat", "claims_desk")
SEED = int(os.environ.get("MUTATIONS_SEED", "1"))
MOST = int(os.environ.get("MUTATIONS", "100")) or None
"""How many of them: 0 for all."""
LEAST_REFUSED = 0.95
VARIED = SETS if MOST is None else ("pharmacy", "support_chat", "claims_desk")
"""The sets that harmless variations are made of; the tenants' are alike."""


@pytest.fixture(scope="module")
def scenes(assembly: Path, care_assembly: Path) -> Mapping[str, Scene]:
    """Every right set of templates, with its facts."""
    care = {"pharmacy": [care_assembly]}
    return {
        tenant: Scene.read(
            [assembly_folder(assembly, tenant), *care.get(tenant, [])],
            facts=facts_of(ROOT / "tenants" / f"{tenant}.toml", root=ROOT),
        )
        for tenant in TENANTS
    } | {
        name: Scene.read([FOREIGN / name], facts=load_facts(FOREIGN / name / "facts.toml"))
        for name in SETS[len(TENANTS) :]
    }


@pytest.mark.timeout(7200 if MOST is None else 600)
def test_mutations_are_refused_or_not_proven(
    scenes: Mapping[str, Scene],
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = list(outcomes(scenes, seed=SEED, most=MOST))
    counts = counted(found)
    with capsys.disabled():
        sys.stdout.write(f"\n{len(found)} mutations, seed {SEED}: {dict(counts)}\n")
    for name, count in counts.items():
        record_property(name, count)
    passed = [
        f"{outcome.scene}: {outcome.mutation}"
        for outcome in found
        if outcome.status in (Status.PASSED, Status.NOT_APPLICABLE)
    ]
    assert passed == []
    unproven = [f"{one.scene}: {one.mutation}" for one in found if one.status is Status.NOT_PROVEN]
    assert counts["refused"] / len(found) >= LEAST_REFUSED, unproven


def test_every_mistake_has_operators_in_our_templates_and_in_others(scenes: Mapping[str, Scene]) -> None:
    made = {name: Counter(mutation.number for mutation in all_of(scene)) for name, scene in scenes.items()}
    numbers = {mistake.number for mistake in all_mistakes()}
    assert set(made["pharmacy"]) == numbers
    assert set(made["support_chat"]) | set(made["claims_desk"]) == numbers


@pytest.mark.parametrize("written", WRITTEN, ids=str)
@pytest.mark.parametrize("name", ["pharmacy", "support_chat"])
def test_an_independently_written_mistake_is_refused(
    scenes: Mapping[str, Scene], name: str, written: Written
) -> None:
    changed = scenes[name].copy()
    written.change(changed)
    (verdict,) = (one for one in changed.check().verdicts if one.mistake.number == written.number)
    assert verdict.status is Status.REFUSED


@pytest.mark.parametrize("name", HARMLESS)
def test_a_harmless_variation_passes(scenes: Mapping[str, Scene], name: str) -> None:
    found: list[str] = []
    for set_ in VARIED:
        changed = scenes[set_].copy()
        HARMLESS[name](changed)
        report = changed.check()
        found += [
            f"{set_}: {one.where} {one.message}" for verdict in report.verdicts for one in verdict.findings
        ]
    assert found == []


def test_there_are_at_least_thirty_harmless_variations() -> None:
    assert len(HARMLESS) >= 30
