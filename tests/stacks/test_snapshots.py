"""The committed snapshots of templates: any change of a template shows in a review."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tests.stacks.snapshot import STAGES, changes, committed, is_readable, snapshots
from tests.stacks.synthesized import once

REGENERATE = "The templates changed. Run make snapshots, review what changed, and commit it."


@pytest.fixture(scope="module")
def care_assemblies(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    return once(tmp_path_factory, worker_id, name="all_care", stage="care_app")


@pytest.fixture(scope="module")
def company_assemblies(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> list[Path]:
    """All three stages of the company, whose files set what no other does."""
    contexts = {name: context for name, context in STAGES.items() if is_readable(name)}
    return [once(tmp_path_factory, worker_id, name=name, **context) for name, context in contexts.items()]


def test_the_templates_are_as_committed(
    assembly: Path, account_assembly: Path, care_assemblies: Path, company_assemblies: list[Path]
) -> None:
    made = snapshots(assembly) | snapshots(account_assembly) | snapshots(care_assemblies)
    for each in company_assemblies:
        made |= snapshots(each, readable=True)
    difference = changes(committed(), made)
    assert not difference, f"{REGENERATE}\n{difference}"


def test_a_changed_property_changes_the_resource_s_line(account_assembly: Path, tmp_path: Path) -> None:
    changed = shutil.copytree(account_assembly, tmp_path / "changed")
    (template,) = changed.glob("assembly-*/*.template.json")
    document = json.loads(template.read_text(encoding="utf-8"))
    name, resource = next(iter(document["Resources"].items()))
    resource["Properties"]["Planted"] = True
    template.write_text(json.dumps(document), encoding="utf-8")
    difference = changes(snapshots(account_assembly), snapshots(changed)).splitlines()
    lines = [line for line in difference if line[0] in "+-" and not line.startswith(("+++", "---"))]
    assert [line.split()[0] for line in lines] == [f"-{name}", f"+{name}"]


def test_a_changed_right_of_the_company_is_printed(company_assemblies: list[Path], tmp_path: Path) -> None:
    changed = shutil.copytree(company_assemblies[0], tmp_path / "changed")
    file = next(changed.glob("assembly-Company/*Data*.template.json"))
    document = json.loads(file.read_text(encoding="utf-8"))
    policies = [one for one in document["Resources"].values() if one["Type"] == "AWS::S3::BucketPolicy"]
    policies[0]["Properties"]["PolicyDocument"]["Statement"][0]["Action"] = "s3:GetPlanted"
    file.write_text(json.dumps(document), encoding="utf-8")
    before, after = (snapshots(one, readable=True) for one in (company_assemblies[0], changed))
    assert [line for line in changes(before, after).splitlines() if line[0] == "+" and "GetPlanted" in line]
