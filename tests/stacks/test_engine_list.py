"""The list of what ministack lacks, at each change. ``make check-engine`` deploys by it."""

from __future__ import annotations

from pathlib import Path

from template_checks.upgrades import templates_by_stack_name
from tests.engine.assembly import read_lacks
from tests.stacks.synthesized import ROOT, assembly_folder

LACKS = read_lacks()


def test_the_list_only_shrinks() -> None:
    """``rows`` falls with each row that is taken out. It is never raised."""
    assert len(LACKS.stubs) + len(LACKS.attributes) + len(LACKS.properties) == LACKS.rows


def test_each_row_stands_for_a_resource_of_an_example(assembly: Path) -> None:
    types = {
        resource["Type"]
        for tenant in ("pharmacy", "clinic", "sandbox")
        for template in templates_by_stack_name(assembly_folder(assembly, tenant)).values()
        for resource in template["Resources"].values()
    }

    listed = {*LACKS.stubs, *(row.type for row in (*LACKS.attributes, *LACKS.properties))}
    assert listed - types == set()


def test_the_list_is_that_of_the_locked_engine() -> None:
    locked = (ROOT / "requirements/engine.txt").read_text(encoding="utf-8")
    assert f"\n{LACKS.engine.replace(' ', '==')} " in locked
