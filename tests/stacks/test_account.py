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
from tests.stacks.values import deployed, only, resources_of, template_of
from tests.stage.tenant_files import committed_tenant

ACCOUNT = "111122223333"
SNAPSHOTS = Path(__file__).with_name("snapshots")
VERSION = {5: "39dc0a362f0c"}
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
def shared(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The template of the three tenants' one place, by default."""
    tenants = [deployed(name) for name in ("pharmacy", "clinic", "sandbox")]
    return template(tenants, tmp_path_factory.mktemp("accounts"))


SERVICE_ROLES = {
    "search_service_role": "opensearchservice.amazonaws.com",
    "ecs_service_role": "ecs.amazonaws.com",
    "ecs_scaling_role": "ecs.application-autoscaling.amazonaws.com",
    "sagemaker_scaling_role": "sagemaker.application-autoscaling.amazonaws.com",
}


def services_with_a_role(template: Mapping[str, Any]) -> set[str]:
    made = resources_of(template, "AWS::IAM::ServiceLinkedRole").values()
    return {body["Properties"]["AWSServiceName"] for body in made}


def test_each_service_of_the_stacks_has_its_service_linked_role(shared: dict[str, Any]) -> None:
    assert services_with_a_role(shared) == set(SERVICE_ROLES.values())


def test_existing_items_are_not_created(tmp_path: Path) -> None:
    items = (*SERVICE_ROLES, "log_policy", "repositories", "boundary", "budget_topic", "trail")
    (tmp_path / f"{ACCOUNT}-us-east-1.toml").write_text("".join(f'{item} = "existing"\n' for item in items))

    assert "Resources" not in template([deployed("sandbox")], tmp_path)


def test_resources_are_retained_unless_the_first_creation_fails(shared: dict[str, Any]) -> None:
    kept = {
        name: (body.get("DeletionPolicy"), body.get("UpdateReplacePolicy"))
        for name, body in shared["Resources"].items()
    }

    assert set(kept.values()) == {("RetainExceptOnCreate", "Retain")}, kept


def test_each_own_image_has_a_repository_scanned_encrypted_and_unmovable(shared: dict[str, Any]) -> None:
    own = {image.repository for image in deployed("pharmacy").images.images.values() if image.is_own}

    repositories = [body["Properties"] for body in resources_of(shared, "AWS::ECR::Repository").values()]

    assert {one["RepositoryName"] for one in repositories} == own
    for one in repositories:
        assert one["ImageTagMutability"] == "IMMUTABLE"
        assert one["ImageScanningConfiguration"] == {"ScanOnPush": True}
        assert one["EncryptionConfiguration"]["EncryptionType"] == "KMS"


def test_search_domains_and_audit_rules_of_this_account_write_through_the_log_policy(
    shared: dict[str, Any],
) -> None:
    policy = json.loads(only(shared, "AWS::Logs::ResourcePolicy")["PolicyDocument"])
    statement, of_rules = policy["Statement"]
    group = f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:*-Observability-AuditEvents*"
    rules = {"aws:SourceArn": f"arn:aws:events:us-east-1:{ACCOUNT}:rule/*"}
    assert (of_rules["Principal"], of_rules["Resource"]) == ({"Service": "events.amazonaws.com"}, group)
    assert of_rules["Condition"] == {"ArnLikeIfExists": rules}

    assert statement["Principal"] == {"Service": "es.amazonaws.com"}
    assert statement["Condition"]["StringEquals"] == {"aws:SourceAccount": ACCOUNT}
    assert statement["Condition"]["ArnLike"] == {"aws:SourceArn": f"arn:aws:es:us-east-1:{ACCOUNT}:domain/*"}
    assert statement["Resource"] == f"arn:aws:logs:us-east-1:{ACCOUNT}:log-group:*-Data-Search*"


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


def test_another_template_of_the_account_stage_has_another_version(shared: dict[str, Any]) -> None:
    """A deployment of a tenant refuses an account stage that is older than its release."""
    rows = (SNAPSHOTS / "Account-111122223333-us-east-1" / "Account.txt").read_bytes()
    assert {ACCOUNT_VERSION: hashlib.sha256(rows).hexdigest()[:12]} == VERSION, "raise ACCOUNT_VERSION"
    assert shared["Outputs"]["Version"]["Value"] == str(ACCOUNT_VERSION)


def test_the_boundary_fits_its_quota(shared: dict[str, Any]) -> None:
    document = only(shared, "AWS::IAM::ManagedPolicy")["PolicyDocument"]

    assert (
        len(json.dumps(document, separators=(",", ":"))) <= 6144
    )  # characters of a managed policy, IAM quotas
