"""What a company asks of everything in its accounts reaches every resource: names, paths, boundary, tags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stacks.validators import StackTemplate, templates_of
from tests.stacks.synthesized import synthesize


@pytest.fixture(scope="module")
def templates(company_assembly: Path) -> list[StackTemplate]:
    return list(templates_of(company_assembly))


def of_type(templates: list[StackTemplate], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for template in templates:
        for logical_id, resource in template.body["Resources"].items():
            if resource["Type"] == kind:
                yield f"{template.stage}/{template.stack}/{logical_id}", resource["Properties"]


def test_jobs_are_only_for_a_tenant_that_asks_for_them(templates: list[StackTemplate]) -> None:
    stacks = {(template.stage, template.stack): template.body for template in templates}
    learning = stacks["Scribe", "Learning"]
    kinds = {resource["Type"] for resource in learning["Resources"].values()}
    assert ("Company", "Corpus") in stacks
    assert ("Scribe", "Corpus") not in stacks
    assert kinds.isdisjoint({"AWS::S3::Bucket", "AWS::SSM::Document"})
    assert "sagemaker.amazonaws.com" not in str(learning)


def test_every_role_has_the_company_s_boundary_and_path(templates: list[StackTemplate]) -> None:
    roles = dict(of_type(templates, "AWS::IAM::Role"))
    assert len(roles) > 10
    for name, role in roles.items():
        assert "policy/acme-boundary" in str(role["PermissionsBoundary"]), name
        if name.startswith("Company/"):
            assert role["Path"].startswith("/acme/assistant/"), name


def test_every_stack_and_parameter_has_the_company_s_prefix(templates: list[StackTemplate]) -> None:
    whole = str([template.body for template in templates if template.stage == "Company"])
    assert "/acme/company/power" in whole
    assert "/assistant/company/" not in whole.replace("/acme/assistant/company/", "")  # the path of roles


def test_stacks_are_deployed_with_the_company_s_bootstrap(templates: list[StackTemplate]) -> None:
    for template in templates:
        assert template.body["Parameters"]["BootstrapVersion"]["Default"] == "/cdk-bootstrap/acme/version"
        assert "hnb659fds" not in str(template.body)


def test_every_taggable_resource_has_the_required_tags(templates: list[StackTemplate]) -> None:
    buckets = dict(of_type(templates, "AWS::S3::Bucket"))
    assert buckets
    for name, bucket in buckets.items():
        if name.startswith("Company/"):
            assert {"Key": "owner", "Value": "care-platform"} in bucket["Tags"], name


def test_only_the_company_s_folder_of_tenants_is_read(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("schema_version = 9")
    done = synthesize(tmp_path / "out", tenants=str(tmp_path))
    assert done.returncode == 1
    assert "broken.toml" in done.stderr
    assert "Traceback" not in done.stderr
