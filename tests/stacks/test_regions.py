"""Tenants of GovCloud, whose templates ``make check-templates`` judges, and of a region without Bedrock."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from cfnlint.helpers import REGIONS
from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from assistant.cli.aws.templates import refuse_paths
from assistant.domain.errors import ConfigurationError
from stacks.tenant import read_tenants
from stacks.tenant_stack import WITH_BUDGETS
from stacks.validators import StackTemplate, run_cfn_lint, templates_of
from tests.stacks.synthesized import ROOT, synthesize

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


@pytest.fixture(scope="module")
def govcloud(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the tenant's and the account stage's templates."""
    out = tmp_path_factory.mktemp("govcloud")
    for name, stage in (("tenant", {}), ("account", {"stage": "account"})):
        done = synthesize(
            out / name, validated=False, source=ROOT, python=Path(sys.executable), **GOVCLOUD, **stage
        )
        assert done.returncode == 0, done.stderr[-4000:] + done.stdout[-4000:]
    return out


@pytest.mark.parametrize("name", ["tenant", "account"])
def test_govcloud_has_no_budgets_and_names_no_other_partition(name: str, govcloud: Path) -> None:
    texts = [each.path.read_text(encoding="utf-8") for each in templates_of(govcloud / name)]

    assert texts
    assert not [text for text in texts if "AWS::Budgets::Budget" in text or "budgets.amazonaws.com" in text]
    assert not [text for text in texts if "console.aws.amazon.com" in text or "arn:aws:" in text]


def test_every_path_of_govcloud_is_declared(govcloud: Path) -> None:
    file = ROOT / GOVCLOUD["tenants"] / "gov.toml"

    refuse_paths(govcloud / "tenant/assembly-Gov", tenant_file=file, root=ROOT)


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
