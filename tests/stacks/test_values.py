"""The stage that stacks are tested in is like the deployed one."""

from __future__ import annotations

import aws_cdk as cdk
import pytest

from tests.stacks.values import deployed, stage_for, template_of, with_sections


@pytest.mark.parametrize("name", ["pharmacy", "clinic", "sandbox"])
def test_a_stage_has_its_zones_without_a_lookup(name: str) -> None:
    tenant = deployed(name)
    stack = cdk.Stack(stage_for(tenant), "Zones")
    cdk.CfnOutput(stack, "Names", value=",".join(stack.availability_zones))

    assert template_of(stack)["Outputs"]["Names"]["Value"] == ",".join(tenant.place.zones)


def test_stacks_of_a_stage_refer_to_each_other_weakly() -> None:
    stage = stage_for(deployed("sandbox"))
    producer = cdk.Stack(stage, "Producer")
    consumer = cdk.Stack(stage, "Consumer")
    made = cdk.CfnResource(producer, "Made", type="AWS::CloudFormation::WaitConditionHandle")
    cdk.CfnOutput(consumer, "Seen", value=made.get_att("Id").to_string())

    assert "Fn::GetStackOutput" in template_of(consumer)["Outputs"]["Seen"]["Value"]


def test_only_the_replaced_section_changes() -> None:
    tenant = deployed("pharmacy")

    changed = with_sections(tenant, network={"cidr": "10.99.0.0/20"})

    assert changed.config.network.cidr == "10.99.0.0/20"
    assert changed.config.reach == tenant.config.reach
