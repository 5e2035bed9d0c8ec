"""Mistakes planted in our templates: a named rule, or the proof of paths, refuses each of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.cli.aws.templates import facts_of
from tests.stacks.mistakes.planted import PLANTED, Planted, Scene
from tests.stacks.synthesized import ROOT, assembly_folder

TENANTS = ("pharmacy", "clinic", "sandbox")


@pytest.fixture(scope="module")
def ours(assembly: Path) -> Scene:
    facts = facts_of(ROOT / "tests/tenants/pharmacy.toml", root=ROOT)
    return Scene.read([assembly_folder(assembly, "pharmacy")], facts=facts)


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_a_planted_mistake_is_refused_with_its_fix(ours: Scene, planted: Planted) -> None:
    changed = ours.copy()
    planted.change(changed)
    findings = [one for one in changed.broken() if one.code == planted.code]
    findings = findings or [one for one in changed.refused() if one.code.startswith("reach-")]
    assert findings
    for finding in findings:
        assert finding.where
        assert finding.message.endswith(".")
        assert finding.fix


@pytest.mark.parametrize("tenant", TENANTS)
def test_our_templates_break_no_rule(assembly: Path, tenant: str) -> None:
    facts = facts_of(ROOT / "tests/tenants" / f"{tenant}.toml", root=ROOT)
    assert Scene.read([assembly_folder(assembly, tenant)], facts=facts).broken() == []
