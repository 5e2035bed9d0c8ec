"""The resources that exist once per account and region: shared items, retention and the roles' boundary."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest

from assistant.tenant.deployed_names import ACCOUNT_VERSION
from stacks.account import AccountStage
from stacks.application import build
from stacks.tenant import ROOT, DeployedTenant
from tests.stacks.synthesized import templates_in
from tests.stacks.values import deployed, only, resources_of, template_of
from tests.stage.tenant_files import committed_tenant

ACCOUNT = "111122223333"
SNAPSHOTS = Path(__file__).with_name("snapshots")
VERSION = {5: "3676789ce766"}
"""Of the account stage, and the digest of its snapshot."""


def account_stages(tenants: list[DeployedTenant], folder: Path) -> list[AccountStage]:
    context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    return AccountStage.for_places(cdk.App(context=context), tenants, folder=folder)


def template(tenants: list[DeployedTenant], folder: Path) -> dict[str, Any]:
    (stage,) = account_stages(tenants, folder)
    stack = stage.node.find_child("Account")
    assert isinstance(stack, cdk.Stack)
    return template_of(stack)


@pytest.fixture(scope="module")
def shared(assembly: Path) -> Mapping[str, Any]:
    """The template of the three tenants' one place, by default."""
    return templates_in(assembly / f"assembly-Account-{ACCOUNT}-us-east-1")["Account"]


SERVICE_ROLES = {
    "search_service_role": "opensearchservice.amazonaws.com",
    "ecs_service_role": "ecs.amazonaws.com",
    "ecs_scaling_role": "ecs.application-autoscaling.amazonaws.com",
    "sagemaker_scaling_role": "sagemaker.application-autoscaling.amazonaws.com",
}


def services_with_a_role(template: Mapping[str, Any]) -> set[str]:
    made = resources_of(template, "AWS::IAM::ServiceLinkedRole").values()
    return {body["Properties"]["AWSServiceName"] for body in made}


def test_each_service_of_the_stacks_has_its_service_linked_role(shared: Mapping[str, Any]) -> None:
    assert services_with_a_role(shared) == set(SERVICE_ROLES.values())


def test_existing_items_are_not_created(tmp_path: Path) -> None:
    items = (*SERVICE_ROLES, "log_policy", "repositories", "boundary", "budget_topic", "trail")
    (tmp_path / f"{ACCOUNT}-us-east-1.toml").write_text("".join(f'{item} = "existing"\n' for item in items))

    assert "Resources" not in template([deployed("sandbox")], tmp_path)


def test_one_tenant_s_account_stage_has_what_the_others_of_its_place_need(tmp_path: Path) -> None:
    for name, prefix in (("pharmacy", "assistant"), ("clinic", "care")):
        text = committed_tenant(name).replace(
            "[deployment]\n", f'[deployment]\nname_prefix = "{prefix}"\n', 1
        )
        (tmp_path / f"{name}.toml").write_text(text)
    context = json.loads((ROOT / "cdk.json").read_text(encoding="utf-8"))["context"]
    made = build(context | {"stage": "account", "tenant": "clinic", "tenants": str(tmp_path)})
    (stage,) = [each for each in made.node.children if isinstance(each, AccountStage)]
    stack = stage.node.find_child("Account")
    assert isinstance(stack, cdk.Stack)
    policies = resources_of(template_of(stack), "AWS::IAM::ManagedPolicy").values()
    names = {body["Properties"]["ManagedPolicyName"] for body in policies}
    assert names == {"assistant-boundary", "care-boundary"}


def test_another_template_of_the_account_stage_has_another_version(shared: Mapping[str, Any]) -> None:
    """A deployment of a tenant refuses an account stage that is older than its release."""
    rows = (SNAPSHOTS / "Account-111122223333-us-east-1" / "Account.txt").read_bytes()
    assert {ACCOUNT_VERSION: hashlib.sha256(rows).hexdigest()[:12]} == VERSION, "raise ACCOUNT_VERSION"
    assert shared["Outputs"]["Version"]["Value"] == str(ACCOUNT_VERSION)


def test_the_boundary_fits_its_quota(shared: Mapping[str, Any]) -> None:
    document = only(shared, "AWS::IAM::ManagedPolicy")["PolicyDocument"]

    assert (
        len(json.dumps(document, separators=(",", ":"))) <= 6144
    )  # characters of a managed policy, IAM quotas
