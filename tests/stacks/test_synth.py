"""``make synth`` as a gate: it finds a planted mistake, needs a reason per exception, is reproducible."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from assistant.cli.tenant import write_tenant
from assistant.domain.errors import ConfigurationError
from assistant.tenant.manifests import load_compatibility, load_images
from assistant.tenant.tenant import load_tenants
from assistant.terminal.terminal import GlobalOptions
from stacks.application import warn_of_ends
from stacks.policy import Acknowledgement
from stacks.tenant import read_tenants
from stacks.validators import (
    REPORT,
    TABLE,
    Finding,
    explains,
    read_silenced,
    require_packs,
    rows_without_effect,
    templates_of,
)
from tests.stacks.synthesized import LIMIT_S, ROOT, WHOLE, assembly_folder, synthesize

PLANTED = """
import aws_cdk as cdk
from aws_cdk import aws_s3 as s3
from stacks import account

class Planted(account.AccountStage):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        s3.Bucket(self.node.find_child("Account"), "Open")

account.AccountStage = Planted
from stacks.application import build
build().synth()
"""


def test_a_planted_finding_fails_the_plain_command(tmp_path: Path) -> None:
    (tmp_path / "planted.py").write_text(PLANTED)
    app = f"{sys.executable} {tmp_path}/planted.py"
    options = ["--quiet", "--app", app, "--output", str(tmp_path / "out"), "-c", "tenants=tests/tenants"]
    options += ["-c", "stage=account"]
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
        timeout=LIMIT_S,
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert "AwsSolutions::AwsSolutions-S1" in said
    assert "HIPAA.Security::HIPAA.Security-S3BucketSSLRequestsOnly" in said
    assert {
        Path(line.split()[0]).parts[2] for line in said.splitlines() if line.startswith("   Account-")
    } == {"Open"}


def test_only_the_tenant_s_and_registries_accounts_are_literal(assembly: Path) -> None:
    tenants = load_tenants(ROOT / "tests/tenants").tenants.values()
    known = {tenant.deployment.account for tenant in tenants if tenant.deployment}
    stages = [tenant.stage_id for tenant in tenants if tenant.deployment]
    lock = load_images(ROOT / "images.lock.toml")
    known |= {account for name in lock.images for account in lock.accounts(name).values()}
    for template in (each for each in templates_of(assembly) if each.stage in stages):
        # the last part of a UUID is none
        written = set(re.findall(r"(?<![0-9a-f-])(\d{12})(?![0-9a-f])", json.dumps(template.body)))
        assert written <= known, template.stack


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


def test_every_resource_has_tags_for_tenant_cost_and_data(
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


ROW = Acknowledgement(
    construct="Data/Search", findings=("AwsSolutions::AwsSolutions-OS3", "cfn-lint::W1"), reason="Because."
)


def test_templates_that_no_pack_has_seen_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"no report of AwsSolutions, HIPAA\.Security"):
        require_packs(tmp_path / REPORT)
    seen = {"pluginReports": []}  # as the CDK writes it where the packs found nothing
    (tmp_path / REPORT).write_text(json.dumps(seen))
    require_packs(tmp_path / REPORT)
    seen = {"pluginReports": [{"pluginName": "AwsSolutions"}]}
    (tmp_path / REPORT).write_text(json.dumps(seen))
    with pytest.raises(ConfigurationError, match=r"no report of HIPAA\.Security"):
        require_packs(tmp_path / REPORT)


def test_an_exception_without_effect_is_found(tmp_path: Path) -> None:
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
def test_an_exception_covers_its_construct_and_descendants(
    construct: str, rule: str, explained: bool
) -> None:
    finding = Finding(stage="Pharmacy", construct=construct, rule=rule, message="")
    assert explains(ROW, finding) is explained


def test_every_exception_has_a_reason_and_an_existing_decision() -> None:
    rows = [row for rows in TABLE.values() for row in rows]
    assert rows
    assert [row for row in rows if len(row.reason) < 20] == []
    records = {path.stem for path in (ROOT / "docs/decisions").glob("*.md")}
    assert {row.decision for row in rows if row.decision} <= records


@pytest.mark.night
@pytest.mark.parametrize("source", ["pharmacy", "sandbox"])
def test_a_new_tenant_s_templates_have_no_finding(tmp_path: Path, source: str) -> None:
    shutil.copytree(ROOT / "tests/tenants", tmp_path / "tenants")
    options = GlobalOptions(tenants_dir=tmp_path / "tenants", state_dir=tmp_path, port=None, json=False)
    write_tenant(options, "mine", copied=source)

    beside = read_tenants(folder=tmp_path / "tenants", only=None, images=ROOT / "images.lock.toml")
    assert [tenant.name for tenant in beside] == ["clinic", "mine", "pharmacy", "sandbox"]
    done = synthesize(tmp_path / "out", validated=True, tenants=str(tmp_path / "tenants"), tenant="mine")
    assert done.returncode == 0, done.stderr[-4000:]
    assert [line.split(":")[0] for line in prove(tmp_path / "out", tmp_path).stdout.splitlines()] == ["mine"]


def prove(assembly: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Prove the templates of the tenants of ``folder``."""
    for beside in ("images.lock.toml", "model_artifacts"):
        (folder / beside).symlink_to(ROOT / beside)
    command = [sys.executable, "-m", "tools.template_proofs", str(assembly)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=600
    )


def asked_first(out: Path, tenant: str) -> list[str]:
    """Return the parameters without default of a tenant's first stack."""
    (template,) = (
        each for each in templates_of(out) if (each.stage, each.stack) == (tenant.capitalize(), "Keys")
    )
    parameters: Mapping[str, Any] = template.body.get("Parameters", {})
    return [name for name, parameter in parameters.items() if "Default" not in parameter]


@pytest.mark.parametrize("tenant", ["pharmacy", "clinic", "sandbox"])
def test_a_tenant_that_is_not_locked_is_synthesized_with_one_warning(assembly: Path, tenant: str) -> None:
    said = (assembly / WHOLE).read_text(encoding="utf-8").splitlines()
    (warning,) = [line for line in said if line.startswith(f"warning: {tenant} ")]
    assert warning.startswith(f"warning: {tenant} cannot be deployed yet: images.lock.toml has no digest of ")
    assert "make images TO=111122223333/us-east-1 ARGS=orchestrator" in warning
    # AWS's tags are good enough without the profile hipaa.
    by_aws = "make images TO=111122223333/us-east-1 ARGS=embedding_tei_cpu" in warning
    assert by_aws == (tenant == "pharmacy")
    assert ("without a hash (model_artifacts/README.md): qwen3-8b" in warning) == (tenant != "sandbox")
    assert asked_first(assembly, tenant) == ["RunMakeImages"]


def test_no_stack_is_deployed_before_the_one_that_asks(assembly: Path) -> None:
    """A deployment of what is not locked ends at the keys, so nothing else may begin without them."""
    for tenant in ("pharmacy", "clinic", "sandbox"):
        manifest = assembly_folder(assembly, tenant) / "manifest.json"
        artifacts = json.loads(manifest.read_text(encoding="utf-8"))["artifacts"]
        stacks = {name for name, each in artifacts.items() if each["type"] == "aws:cloudformation:stack"}
        (first,) = [name for name in stacks if not stacks & set(artifacts[name].get("dependencies", ()))]
        assert artifacts[first]["displayName"].split("/")[1].startswith("Keys")


VERSIONS = (
    "Runtime",
    "EngineVersion",
    "InferenceAmiVersion",
    "ReleaseLabel",
    "Image",
    "ImageUri",
    "LaunchType",
)
"""Properties of templates that name a version of what somebody else supports."""


def versions_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in VERSIONS:
                yield json.dumps(inner)
            elif name == "CompatibleRuntimes":
                yield from inner
            yield from versions_in(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from versions_in(inner)


@pytest.mark.parametrize("name", ["assembly", "company_assembly"])
def test_every_version_in_the_templates_is_a_part_with_an_end(
    name: str, request: pytest.FixtureRequest
) -> None:
    folder: Path = request.getfixturevalue(name)
    table = load_compatibility(ROOT / "model_artifacts" / "compatibility.toml")
    texts = {
        text
        for path in folder.rglob("*.template.json")
        for text in versions_in(json.loads(path.read_bytes()))
    }
    assert texts
    assert [text for text in texts if not table.used(text)] == []


def test_a_synth_warns_of_what_is_no_longer_supported_and_of_what_ends_soon(
    assembly: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def warned(day: date) -> set[str]:
        warn_of_ends(assembly, today=day)
        return {line.partition(", ")[0] for line in capsys.readouterr().err.splitlines()}

    amazon_linux = "warning: Pharmacy: Amazon Linux 2"
    assert warned(date(2025, 12, 1)) == set()
    assert warned(date(2026, 1, 1)) == warned(date(2026, 11, 30)) == {amazon_linux}
    assert warned(date(2027, 5, 5)) > {amazon_linux, "warning: Clinic: Python 3.11"}
    assert amazon_linux in (assembly / WHOLE).read_text(encoding="utf-8")
