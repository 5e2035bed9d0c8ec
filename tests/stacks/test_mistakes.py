"""Twenty-three mistakes, planted in our templates and in others: each is refused, with a fix."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from assistant.cli.tenant_templates import facts_of, load_facts
from template_checks.findings import Status
from template_checks.mistakes import Report
from tests.stacks.mistakes import planted_in_models, planted_in_policies, planted_in_services
from tests.stacks.mistakes.planted import PLANTED, Planted
from tests.stacks.mistakes.scene import Scene
from tests.stacks.mistakes.table import MISTAKE
from tests.stacks.synthesized import ROOT, assembly_folder

FOREIGN = Path(__file__).parent / "foreign"
TENANTS = ("pharmacy", "clinic", "sandbox")
assert planted_in_models
assert planted_in_policies
assert planted_in_services


@pytest.fixture(scope="module")
def ours(assembly: Path, care_assembly: Path) -> Scene:
    facts = facts_of(ROOT / "tenants" / "pharmacy.toml", root=ROOT)
    return Scene.read([assembly_folder(assembly, "pharmacy"), care_assembly], facts=facts)


@pytest.fixture(scope="module")
def foreign() -> Scene:
    """Two stacks and the consumer's template, in YAML with short tags."""
    folder = FOREIGN / "support_chat"
    return Scene.read([folder], facts=load_facts(folder / "facts.toml"))


def refused(report: Report) -> set[int]:
    return {verdict.mistake.number for verdict in report.verdicts if verdict.status is Status.REFUSED}


def assert_refused(scene: Scene, planted: Planted) -> None:
    changed = scene.copy()
    planted.change(changed)
    report = changed.check()
    (verdict,) = (one for one in report.verdicts if one.mistake.number == planted.number)
    findings = [one for one in verdict.findings if one.code == planted.code and one.status is Status.REFUSED]
    assert findings, [(one.code, one.status, one.message) for one in verdict.findings]
    for finding in findings:
        assert finding.where
        assert finding.property
        assert finding.message.endswith(".")
        assert finding.fix.endswith(".")
    assert refused(report) - {planted.number, *planted.also} == set()


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_a_mistake_in_our_templates_is_refused(
    ours: Scene, planted: Planted, record_property: Callable[[str, object], None]
) -> None:
    record_property(MISTAKE, ("ours, changed", planted.number))
    assert_refused(ours, planted)


@pytest.mark.parametrize("planted", PLANTED, ids=str)
def test_a_mistake_in_foreign_templates_is_refused(
    foreign: Scene, planted: Planted, record_property: Callable[[str, object], None]
) -> None:
    record_property(MISTAKE, ("foreign, changed", planted.number))
    assert_refused(foreign, planted)


WRONG = sorted((FOREIGN / "wrong").glob("*.yaml"))


@pytest.mark.parametrize("path", WRONG, ids=lambda path: path.stem)
def test_a_small_foreign_template_is_refused_for_its_only_mistake(
    path: Path, record_property: Callable[[str, object], None]
) -> None:
    number = int(path.stem.partition("_")[0])
    record_property(MISTAKE, ("foreign, written", number))
    facts = path.with_suffix(".toml")
    report = Scene.read([path], facts=load_facts(facts if facts.exists() else FOREIGN / "facts.toml")).check()
    assert refused(report) == {number}


@pytest.mark.parametrize("tenant", TENANTS)
def test_our_templates_pass(assembly: Path, tenant: str) -> None:
    facts = facts_of(ROOT / "tenants" / f"{tenant}.toml", root=ROOT)
    report = Scene.read([assembly_folder(assembly, tenant)], facts=facts).check()
    assert [one for verdict in report.verdicts for one in verdict.findings] == []


def test_our_templates_pass_together_with_the_care_side(ours: Scene) -> None:
    assert [one for verdict in ours.check().verdicts for one in verdict.findings] == []


@pytest.mark.parametrize("name", ["support_chat", "claims_desk"])
def test_correct_foreign_templates_pass(name: str) -> None:
    report = Scene.read([FOREIGN / name], facts=load_facts(FOREIGN / name / "facts.toml")).check()
    assert [one for verdict in report.verdicts for one in verdict.findings] == []


def test_checks_without_their_facts_are_not_proven(ours: Scene, foreign: Scene) -> None:
    for scene in (ours, foreign):
        report = Scene(scene.templates, facts=load_facts(FOREIGN / "facts.toml")).check()
        open_ = {one.mistake.number for one in report.verdicts if one.status is Status.NOT_PROVEN}
        assert {3, 7, 12, 14, 22} <= open_
        assert not report.is_clean


def test_every_part_of_every_mistake_is_planted() -> None:
    from template_checks.mistakes import all_mistakes

    parts = {(one.number, code) for one in all_mistakes() for code in one.parts if one.parts}
    planted = {(one.number, one.code) for one in PLANTED}
    # That a target is not told cannot be refused.
    assert parts - planted == {(1, "nlb-to-alb-path")}
