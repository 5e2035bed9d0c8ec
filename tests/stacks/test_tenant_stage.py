"""What a company asks of everything in its accounts reaches every resource: names, paths, boundary, tags."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stacks.validators import StackTemplate, templates_of
from tests.fakes.tenant_files import committed_tenant
from tests.stacks.synthesized import synthesize

OURS = """
name_prefix = "care"
bootstrap_qualifier = "acme"
permissions_boundary = "CompanyBoundary"
role_path = "/company/care/"
required_tags = { owner = "platform" }
"""


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> list[StackTemplate]:
    folder = tmp_path_factory.mktemp("company")
    text = committed_tenant("sandbox").replace("training = true\ncorpora = true\n", "")
    (folder / "sandbox.toml").write_text(text.replace("[deployment]\n", f"[deployment]\n{OURS}", 1))
    (folder / "broken.toml").write_text("schema_version = 9")  # another tenant's file counts for nothing here
    done = synthesize(folder / "out", tenant="sandbox", tenants=str(folder))
    assert done.returncode == 0, done.stderr[-2000:]
    return list(templates_of(folder / "out"))


def of_type(templates: list[StackTemplate], kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for template in templates:
        for logical_id, resource in template.body["Resources"].items():
            if resource["Type"] == kind:
                yield f"{template.stack}/{logical_id}", resource["Properties"]


def test_jobs_are_only_for_a_tenant_that_asks_for_them(templates: list[StackTemplate]) -> None:
    (learning,) = (template.body for template in templates if template.stack == "Learning")
    kinds = {resource["Type"] for resource in learning["Resources"].values()}
    assert "Corpus" not in {template.stack for template in templates}
    assert kinds.isdisjoint({"AWS::S3::Bucket", "AWS::SSM::Document"})
    assert "sagemaker.amazonaws.com" not in str(learning)


def test_every_role_has_the_company_s_boundary_and_path(templates: list[StackTemplate]) -> None:
    roles = dict(of_type(templates, "AWS::IAM::Role"))
    assert len(roles) > 10
    for name, role in roles.items():
        assert "policy/CompanyBoundary" in str(role["PermissionsBoundary"]), name
        assert role["Path"].startswith("/company/care/"), name


def test_every_stack_and_parameter_has_the_company_s_prefix(templates: list[StackTemplate]) -> None:
    whole = str([template.body for template in templates])
    assert "/care/sandbox/power" in whole
    assert "/assistant/sandbox/" not in whole


def test_stacks_are_deployed_with_the_company_s_bootstrap(templates: list[StackTemplate]) -> None:
    for template in templates:
        assert template.body["Parameters"]["BootstrapVersion"]["Default"] == "/cdk-bootstrap/acme/version"
        assert "hnb659fds" not in str(template.body)


def test_every_taggable_resource_has_the_required_tags(templates: list[StackTemplate]) -> None:
    buckets = dict(of_type(templates, "AWS::S3::Bucket"))
    assert buckets
    for name, bucket in buckets.items():
        assert {"Key": "owner", "Value": "platform"} in bucket["Tags"], name


def test_only_the_company_s_folder_of_tenants_is_read(tmp_path: Path) -> None:
    (tmp_path / "broken.toml").write_text("schema_version = 9")
    done = synthesize(tmp_path / "out", tenants=str(tmp_path))
    assert done.returncode == 1
    assert "broken.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_invalid_file_of_another_tenant_is_ignored(templates: list[StackTemplate]) -> None:
    assert {template.stage for template in templates} == {"Sandbox"}


def test_an_invalid_file_is_reported_with_line_key_and_allowed_values(tmp_path: Path) -> None:
    text = committed_tenant("sandbox").replace("training = true\ncorpora = true\n", "")
    (tmp_path / "sandbox.toml").write_text(text.replace('accelerator = "cpu"', 'accelerator = "abacus"'))
    line = text.splitlines().index('accelerator = "cpu"') + 1
    done = synthesize(tmp_path / "out", tenant="sandbox", tenants=str(tmp_path))
    assert done.returncode == 1
    assert f"sandbox.toml: line {line}: models.accelerator" in done.stderr
    assert "'inf2', 'trn1', 'gpu' or 'cpu'" in done.stderr
