"""An upgrade that replaces or deletes a store, or a resource whose address others use, is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from template_checks.upgrades import (
    STATEFUL_TYPES,
    PinnedStacks,
    losses,
    pin,
    replacing,
    templates_by_stack_name,
)
from tests.stacks.snapshot import PINS, read_pins, replacing_properties
from tests.stacks.synthesized import assembly_folder

TENANTS = ("pharmacy", "clinic", "sandbox")
Stacks = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def pins(stacks: Stacks) -> PinnedStacks:
    return pin(stacks)


@pytest.fixture(scope="module")
def stacks(assembly: Path) -> Stacks:
    return templates_by_stack_name(assembly_folder(assembly, "pharmacy"))


@pytest.mark.parametrize("tenant", TENANTS)
def test_the_committed_pins_match_the_templates(assembly: Path, tenant: str) -> None:
    now = templates_by_stack_name(assembly_folder(assembly, tenant))
    committed = read_pins(PINS / f"{tenant}.json")
    assert [str(loss) for loss in losses(committed, now)] == []
    assert committed == pin(now)


@pytest.mark.parametrize("tenant", TENANTS)
def test_stacks_with_documents_keys_or_addresses_are_protected_from_deletion(
    assembly: Path, tenant: str
) -> None:
    manifest = json.loads((assembly_folder(assembly, tenant) / "manifest.json").read_text(encoding="utf-8"))
    stacks = [
        one["properties"]
        for one in manifest["artifacts"].values()
        if "stackName" in one.get("properties", {})
    ]
    protected = {one["stackName"].rpartition("-")[2] for one in stacks if one.get("terminationProtection")}
    assert protected >= {"Data", "Edge", "Keys", "Network"}


def test_the_replacing_properties_match_cloudformation_s_schemas() -> None:
    assert replacing() == json.loads(json.dumps(replacing_properties()))


def of_type(stacks: Stacks, kind: str) -> tuple[str, str]:
    """Return the first resource of a type, as (stack, logical id)."""
    return next(
        (name, logical_id)
        for name, template in stacks.items()
        for logical_id, resource in template["Resources"].items()
        if resource["Type"] == kind
    )


@pytest.mark.parametrize("kind", sorted(STATEFUL_TYPES - {"AWS::ECR::Repository"}))
def test_a_deleted_resource_is_named(stacks: Stacks, pins: PinnedStacks, kind: str) -> None:
    changed = copy.deepcopy(stacks)
    stack, logical_id = of_type(changed, kind)
    policy = changed[stack]["Resources"].pop(logical_id).get("DeletionPolicy", "Delete")
    (loss,) = losses(pins, changed)
    assert loss.is_kept == (policy != "Delete")
    assert str(loss) == f"{stack}/{logical_id} ({kind}) " + (
        f"would leave its stack, and stays in the account: its policy is {policy}"
        if loss.is_kept
        else "would be deleted: its logical id is no longer in the template"
    )


def test_what_goes_from_a_stack_stays_in_the_account_by_its_policy_alone() -> None:
    kept: dict[str | None, bool] = {}
    for policy in (None, "Delete", "Retain", "RetainExceptOnCreate"):
        resource = {"Type": "AWS::Logs::LogGroup"} | ({"DeletionPolicy": policy} if policy else {})
        before = {"assistant-pharmacy-Learning": {"Resources": {"Logs": resource}}}
        (loss,) = losses(pin(before), {"assistant-pharmacy-Learning": {"Resources": {}}})
        kept[policy] = loss.is_kept
    assert kept == {None: False, "Delete": False, "Retain": True, "RetainExceptOnCreate": True}


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("AWS::EC2::VPC", "CidrBlock", "10.99.0.0/20"),
        ("AWS::ElasticLoadBalancingV2::LoadBalancer", "Scheme", "internet-facing"),
        ("AWS::S3::Bucket", "BucketName", "another"),
        ("AWS::DynamoDB::Table", "KeySchema", [{"AttributeName": "other", "KeyType": "HASH"}]),
        ("AWS::OpenSearchService::Domain", "AdvancedSecurityOptions/Enabled", False),
    ],
)
def test_a_property_that_forces_a_replacement_is_named_with_both_values(
    stacks: Stacks, pins: PinnedStacks, kind: str, path: str, value: object
) -> None:
    changed = copy.deepcopy(stacks)
    stack, logical_id = of_type(changed, kind)
    *parents, last = path.split("/")
    target = changed[stack]["Resources"][logical_id]["Properties"]
    for parent in parents:
        target = target[parent]
    target[last] = value
    (loss,) = losses(pins, changed)
    assert loss.name == f"{stack}/{logical_id}"
    assert loss.reason.startswith(f"would be replaced: {path} was ")
    assert not loss.is_kept, "what the tenant goes on with is empty, also where the old one stays"
    stays = stacks[stack]["Resources"][logical_id].get("UpdateReplacePolicy", "Delete") != "Delete"
    assert loss.reason.endswith("; the old one stays in the account") == stays


def test_another_type_under_the_same_id_is_a_replacement(stacks: Stacks, pins: PinnedStacks) -> None:
    changed = copy.deepcopy(stacks)
    stack, logical_id = of_type(changed, "AWS::KMS::Key")
    changed[stack]["Resources"][logical_id]["Type"] = "AWS::KMS::ReplicaKey"
    assert [loss.reason for loss in losses(pins, changed)] == [
        "would be replaced: its logical id is now a AWS::KMS::ReplicaKey"
    ]


def test_a_renamed_stack_loses_everything(stacks: Stacks, pins: PinnedStacks) -> None:
    stack, logical_id = of_type(stacks, "AWS::DynamoDB::Table")
    moved = {f"{name}-2" if name == stack else name: template for name, template in stacks.items()}
    (loss,) = losses(pins, moved)
    assert (loss.name, loss.is_kept) == (stack, False)
    assert logical_id in loss.reason


def test_a_stack_without_anything_stateful_is_seen_to_be_left_behind_too() -> None:
    topic = {"Resources": {"Topic": {"Type": "AWS::SNS::Topic"}}}
    (loss,) = losses(pin({"assistant-pharmacy-Old": topic}), {})
    assert str(loss) == (
        "assistant-pharmacy-Old (AWS::CloudFormation::Stack) would be left behind: it has no template any "
        "more. Delete it first if it may go"
    )


def harmless(template: dict[str, Any]) -> None:
    for resource in template["Resources"].values():
        resource.setdefault("Properties", {})["Tags"] = [{"Key": "team", "Value": "care"}]


def test_a_change_that_replaces_nothing_passes(stacks: Stacks, pins: PinnedStacks) -> None:
    changed = copy.deepcopy(stacks)
    for template in changed.values():
        harmless(template)
    assert losses(pins, changed) == []
