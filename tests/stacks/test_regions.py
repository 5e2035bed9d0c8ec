"""Tenants of GovCloud, whose templates ``make check-templates`` judges, and of a region without Bedrock."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from cfnlint.helpers import REGIONS
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from assistant.domain.errors import ConfigurationError
from stacks.models.stack import ModelsStack
from stacks.tenant import read_tenants
from stacks.tenant_stack import WITH_BUDGETS
from stacks.validators import templates_of
from tests.fakes.tenant_files import with_own_llm
from tests.stacks.synthesized import ROOT, synthesize
from tests.stacks.values import deployed, stack_with

LOCK = ROOT / "images.lock.toml"
GOVCLOUD = {"tenants": "tests/govcloud/tenants", "images": "tests/govcloud/images.lock.toml"}
WITHOUT_BEDROCK = "ap-east-1"
"""AWS publishes the images there."""


def sandbox(folder: Path) -> Path:
    """Return a folder with the sandbox in a region without Bedrock."""
    shutil.copytree(ROOT / "tests/tenants/connectors", folder / "tenants/connectors")
    text = (ROOT / "tests/tenants/sandbox.toml").read_text(encoding="utf-8")
    (folder / "tenants/sandbox.toml").write_text(text.replace("us-east-1", WITHOUT_BEDROCK), encoding="utf-8")
    return folder / "tenants"


def test_the_regions_with_budgets_are_those_of_cloudformation() -> None:
    known = {
        region
        for region in REGIONS
        if "AWS::Budgets::Budget" in PROVIDER_SCHEMA_MANAGER.get_resource_types(region)
    }

    assert known == WITH_BUDGETS


@pytest.mark.parametrize("stage", [{}, {"stage": "account"}], ids=["tenant", "account"])
def test_govcloud_has_no_budgets(stage: Mapping[str, str], tmp_path: Path) -> None:
    done = synthesize(tmp_path / "out", validated=False, source=ROOT, **GOVCLOUD, **stage)

    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]
    texts = [each.path.read_text(encoding="utf-8") for each in templates_of(tmp_path / "out")]
    assert texts
    assert not [text for text in texts if "AWS::Budgets::Budget" in text or "budgets.amazonaws.com" in text]
    assert not [text for text in texts if "console.aws.amazon.com" in text or "arn:aws:" in text]


def test_trials_are_refused_where_no_registry_of_aws_is_known() -> None:
    lock = deployed("sandbox").images
    registries = {
        name: accounts for name, accounts in lock.registries.items() if name != "deep-learning-containers"
    }
    tenant = replace(deployed("sandbox"), images=lock.model_copy(update={"registries": registries}))
    says = r"sandbox: \[models\] trials = true.*no account of us-east-1 under \[registries\.deep-learning"

    with pytest.raises(ConfigurationError, match=says):
        stack_with(ModelsStack, tenant)


def test_bedrock_is_refused_where_the_region_has_none(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigurationError, match=r"generation\.bedrock: botocore knows no Bedrock in ap-east-1"
    ):
        read_tenants(folder=sandbox(tmp_path), only="sandbox", images=LOCK)


def test_a_tenant_with_a_model_of_its_own_has_no_finding_where_the_region_has_no_bedrock(
    tmp_path: Path,
) -> None:
    tenants = sandbox(tmp_path)
    file = tenants / "sandbox.toml"
    file.write_text(with_own_llm(file.read_text(encoding="utf-8")), encoding="utf-8")

    done = synthesize(tmp_path / "out", validated=True, tenants=str(tenants))

    assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]
    assert not [each for each in templates_of(tmp_path / "out") if "bedrock" in str(each.body).lower()]
