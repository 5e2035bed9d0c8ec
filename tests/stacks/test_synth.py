"""``make synth`` as a gate: it sees a planted finding, explains every exception, repeats itself exactly."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from assistant.settings.search_schema import (
    LINK_SECRET_RESOURCE,
    SEARCH_ACCESS_RESOURCE,
    SEARCH_SCHEMA_RESOURCE,
)
from stacks.acknowledgements import TABLE
from stacks.policy import Acknowledgement
from stacks.validators.findings import Finding, explains, templates_of
from stacks.validators.nag_report import read_silenced, rows_without_effect
from tests.stacks.synthesized import ROOT, synthesize

PLANTED = """
import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from stacks import tenant_stage

class Planted(tenant_stage.TenantStage):
    def _add_stacks(self):
        super()._add_stacks()
        s3.Bucket(self.node.find_child("Data"), "Open")

tenant_stage.TenantStage = Planted
from stacks.application import build
build().synth()
"""


def test_a_planted_finding_ends_the_plain_command_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    app = f"{sys.executable} {tmp_path}/planted.py"
    options = ["--quiet", "--app", app, "--output", str(tmp_path / "out"), "-c", "tenant=sandbox"]
    done = subprocess.run(
        [ROOT / "node_modules/.bin/cdk", "synth", *options, "**"],
        cwd=ROOT,
        env={
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "PYTHONPATH": str(ROOT),
            "HOME": str(tmp_path),
        },
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "AwsSolutions::AwsSolutions-S1" in said
    assert "HIPAA.Security::HIPAA.Security-S3BucketSSLRequestsOnly" in said
    assert {
        Path(line.split()[0]).parts[2] for line in said.splitlines() if line.startswith("   Sandbox/")
    } == {"Open"}


def contents(folder: Path) -> Mapping[str, str]:
    """Every file but those that hold paths of a run, and locks of who reads the folder, by hash."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
        and not path.name.endswith((".metadata.json", "tree.json", "validation-report.json", ".lock"))
    }


def test_two_synths_are_the_same_to_the_byte(assembly: Path, tmp_path: Path) -> None:
    done = synthesize(tmp_path / "again")
    assert done.returncode == 0, done.stderr[-2000:]
    first = {name: digest for name, digest in contents(assembly).items() if name != "whole"}
    assert contents(tmp_path / "again") == first
    assert len(first) > 30


def test_it_asks_nothing_of_an_account(assembly: Path) -> None:
    for manifest in assembly.rglob("manifest.json"):
        assert "missing" not in json.loads(manifest.read_text(encoding="utf-8"))


def test_no_helper_function_of_the_cdk_s_own_is_in_it(assembly: Path) -> None:
    ours = {SEARCH_SCHEMA_RESOURCE, SEARCH_ACCESS_RESOURCE, LINK_SECRET_RESOURCE}
    made = {
        resource["Type"]
        for template in templates_of(assembly)
        for resource in template.body["Resources"].values()
        if resource["Type"].startswith("Custom::")
    }
    assert made == ours


def test_there_is_no_literal_account_or_partition_beside_the_tenant_s_own(assembly: Path) -> None:
    published = json.dumps(tenant_accounts())
    for template in templates_of(assembly):
        for account in accounts_in(json.dumps(template.body)):
            assert account in published, f"{template.stack}: {account}"


def tenant_accounts() -> list[str]:
    from assistant.settings import load_images, load_tenants

    own = [
        tenant.deployment.account for tenant in load_tenants(ROOT / "tenants").values() if tenant.deployment
    ]
    lock = load_images(ROOT / "images.lock.toml")
    return own + [account for name in lock.images for account in lock.accounts(name).values()]


def accounts_in(text: str) -> set[str]:
    import re

    return set(re.findall(r"(?<![0-9a-f-])(\d{12})(?![0-9a-f])", text))  # the last part of a UUID is none


@pytest.fixture(scope="module")
def tag_properties() -> Mapping[str, str]:
    """Type = property that holds its tags, for all that CloudFormation's schemas call taggable."""
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    found: dict[str, str] = {}
    for kind in PROVIDER_SCHEMA_MANAGER.get_resource_types("us-east-1"):
        tagging: Any = PROVIDER_SCHEMA_MANAGER.get_resource_schema("us-east-1", kind).schema.get(
            "tagging", {}
        )
        if tagging.get("taggable"):
            found[kind] = str(tagging.get("tagProperty", "/properties/Tags")).rpartition("/")[2]
    return found


def test_every_resource_says_whose_it_is_what_it_costs_to_and_what_it_holds(
    assembly: Path, tag_properties: Mapping[str, str]
) -> None:
    untagged: list[str] = []
    seen = 0
    for template in templates_of(assembly):
        for logical_id, resource in template.body["Resources"].items():
            if resource["Type"] not in tag_properties:
                continue
            seen += 1
            tags = tag_keys(resource.get("Properties", {}).get(tag_properties[resource["Type"]]))
            if not {"tenant", "cost-center", "data-class"} <= tags:
                untagged.append(f"{template.stage}/{template.stack}/{logical_id} {resource['Type']}")
    assert untagged == []
    assert seen > 200


def tag_keys(tags: object) -> set[str]:
    match tags:
        case dict():
            return set(tags)
        case list():
            return {tag["Key"] for tag in tags}
        case _:
            return set()


# --- the table of exceptions ------------------------------------------------------------------------------

ROW = Acknowledgement(
    construct="Data/Search", findings=("AwsSolutions::AwsSolutions-OS3", "cfn-lint::W1"), reason="Because."
)


def test_a_row_that_silenced_nothing_is_found(tmp_path: Path) -> None:
    report = tmp_path / "validation-report.json"
    silenced = {"acknowledgedAt": "Pharmacy/Data/Search", "acknowledgedId": "AwsSolutions::AwsSolutions-OS3"}
    report.write_text(
        json.dumps({"pluginReports": [{"pluginName": "a", "suppressedViolations": [silenced]}]})
    )
    assert rows_without_effect([ROW], read_silenced(report)) == []
    assert rows_without_effect([ROW], set()) == [("Data/Search", "AwsSolutions::AwsSolutions-OS3")]


@pytest.mark.parametrize(
    ("construct", "rule", "explained"),
    [
        ("Data/Search", "cfn-lint::W1", True),
        ("Data/Search/Domain", "cfn-lint::W1", True),
        ("Data/SearchElse", "cfn-lint::W1", False),
        ("Data", "cfn-lint::W1", False),
        ("Data/Search", "cfn-lint::W2", False),
    ],
)
def test_a_row_explains_its_construct_and_what_is_below(construct: str, rule: str, explained: bool) -> None:
    finding = Finding(stage="Pharmacy", construct=construct, rule=rule, message="")
    assert explains(ROW, finding) is explained


def test_every_row_gives_a_reason_and_a_record_that_exists() -> None:
    rows = [row for rows in TABLE.values() for row in rows]
    assert rows
    assert [row for row in rows if len(row.reason) < 20] == []
    records = {path.stem for path in (ROOT / "docs/decisions").glob("*.md")}
    assert {row.decision for row in rows if row.decision} <= records


def test_no_finding_is_explained_twice() -> None:
    seen = [(row.construct, finding) for rows in TABLE.values() for row in rows for finding in row.findings]
    assert sorted(seen) == sorted(set(seen))
