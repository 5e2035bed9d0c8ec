"""The committed snapshots of templates: any change of a template shows in a review."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from tests.stacks.snapshot import changes, committed, snapshots

REGENERATE = "The templates changed. Run make snapshots, review what changed, and commit it."


def test_the_templates_are_as_committed(assembly: Path, company_assembly: Path) -> None:
    difference = changes(committed(), snapshots(assembly) | snapshots(company_assembly))
    assert not difference, f"{REGENERATE}\n{difference}"


def test_a_changed_property_changes_the_resource_s_line(assembly: Path, tmp_path: Path) -> None:
    account, changed = (tmp_path / name / "assembly-Account" for name in ("as it is", "changed"))
    for each in (account, changed):
        shutil.copytree(assembly / "assembly-Account-111122223333-us-east-1", each)
    (template,) = changed.glob("*.template.json")
    document = json.loads(template.read_text(encoding="utf-8"))
    name, resource = next(iter(document["Resources"].items()))
    resource["Properties"]["Planted"] = True
    template.write_text(json.dumps(document), encoding="utf-8")
    difference = changes(snapshots(account.parent), snapshots(changed.parent)).splitlines()
    lines = [line for line in difference if line[0] in "+-" and not line.startswith(("+++", "---"))]
    assert [line.split()[0] for line in lines] == [f"-{name}", f"+{name}"]


def test_a_changed_right_of_the_company_is_printed(company_assembly: Path, tmp_path: Path) -> None:
    stage, changed = "assembly-Company", tmp_path
    shutil.copytree(company_assembly / stage, changed / stage)
    before = snapshots(changed)
    file = next(changed.glob("assembly-Company/*Data*.template.json"))
    document = json.loads(file.read_text(encoding="utf-8"))
    policies = [one for one in document["Resources"].values() if one["Type"] == "AWS::S3::BucketPolicy"]
    policies[0]["Properties"]["PolicyDocument"]["Statement"][0]["Action"] = "s3:GetPlanted"
    file.write_text(json.dumps(document), encoding="utf-8")
    printed = changes(before, snapshots(changed)).splitlines()
    assert [line for line in printed if line[0] == "+" and "GetPlanted" in line]
