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
    del changed[stack]["Resources"][logical_id]
    assert [str(loss) for loss in losses(pins, changed)] == [
        f"{stack}: {logical_id} ({kind}) would be deleted: its logical id is no longer in the template"
    ]


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
    assert (loss.stack, loss.logical_id) == (stack, logical_id)
    assert loss.reason.startswith(f"would be replaced: {path} was ")


def test_another_type_under_the_same_id_is_a_replacement(stacks: Stacks, pins: PinnedStacks) -> None:
    changed = copy.deepcopy(stacks)
    stack, logical_id = of_type(changed, "AWS::KMS::Key")
    changed[stack]["Resources"][logical_id]["Type"] = "AWS::KMS::ReplicaKey"
    assert [loss.reason for loss in losses(pins, changed)] == [
        "would be replaced: its logical id is now a AWS::KMS::ReplicaKey"
    ]


def test_a_renamed_stack_loses_everything(stacks: Stacks, pins: PinnedStacks) -> None:
    stack, _ = of_type(stacks, "AWS::DynamoDB::Table")
    moved = {f"{name}-2" if name == stack else name: template for name, template in stacks.items()}
    assert {loss.logical_id for loss in losses(pins, moved)} == set(pins[stack])


def harmless(template: dict[str, Any]) -> None:
    for resource in template["Resources"].values():
        resource.setdefault("Properties", {})["Tags"] = [{"Key": "team", "Value": "care"}]


def test_a_change_that_replaces_nothing_passes(stacks: Stacks, pins: PinnedStacks) -> None:
    changed = copy.deepcopy(stacks)
    for template in changed.values():
        harmless(template)
    assert losses(pins, changed) == []
