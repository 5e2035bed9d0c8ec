"""Tenants of GovCloud, whose templates ``make check-templates`` judges, and of a region without Bedrock."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from cfnlint.helpers import REGIONS
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from assistant.domain.errors import ConfigurationError
from stacks.tenant import read_tenants
from stacks.tenant_stack import WITH_BUDGETS
from stacks.validators import StackTemplate, run_cfn_lint, templates_of
from tests.stacks.synthesized import ROOT, kept

LOCK = ROOT / "images.lock.toml"
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


def test_govcloud_has_no_budgets_and_names_no_other_partition() -> None:
    texts = [each.path.read_text(encoding="utf-8") for each in templates_of(kept("govcloud"))]

    assert texts
    assert not [text for text in texts if "AWS::Budgets::Budget" in text or "budgets.amazonaws.com" in text]
    assert not [text for text in texts if "console.aws.amazon.com" in text or "arn:aws:" in text]


@pytest.mark.parametrize(("region", "found"), [("us-gov-west-1", {"cfn-lint::E3006"}), ("us-east-1", set())])
def test_a_template_is_linted_in_its_region(region: str, found: set[str], tmp_path: Path) -> None:
    limit = {"BudgetType": "COST", "TimeUnit": "MONTHLY"}
    body = {"Resources": {"Month": {"Type": "AWS::Budgets::Budget", "Properties": {"Budget": limit}}}}
    path = tmp_path / "Observability.template.json"
    path.write_text(json.dumps(body), encoding="utf-8")
    template = StackTemplate(stage="Gov", stack="Observability", region=region, path=path, body=body)

    assert {finding.rule for finding in run_cfn_lint([template])} == found


def test_bedrock_is_refused_where_the_region_has_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"bedrock\.model: botocore knows no Bedrock in ap-east-1"):
        read_tenants(folder=sandbox(tmp_path), only="sandbox", images=LOCK)
