"""The network stack: isolation, the rules of its groups, existing networks, zones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError
from stacks.network import NetworkStack
from stacks.tenant import DeployedTenant
from tests.stacks.synthesized import assembly_folder, templates_in
from tests.stacks.values import deployed, resources_of, stack_with, template_of, with_sections

_NO_WHERE = "255.255.255.255/32"


def network_of(tenant: DeployedTenant) -> NetworkStack:
    return stack_with(NetworkStack, tenant)


def test_a_third_zone_moves_no_subnet() -> None:
    two = with_sections(
        deployed("clinic"),
        deployment={**_section(deployed("clinic"), "deployment"), "zones": ["us-east-1a", "us-east-1b"]},
    )

    of_two = resources_of(template_of(network_of(two)), "AWS::EC2::Subnet")
    of_three = resources_of(template_of(network_of(deployed("clinic"))), "AWS::EC2::Subnet")

    assert of_two.items() <= of_three.items()


@pytest.mark.parametrize("tenant", ["pharmacy", "clinic", "sandbox"])
def test_no_group_allows_all_egress_before_its_rules_exist(assembly: Path, tenant: str) -> None:
    template = templates_in(assembly_folder(assembly, tenant))["Network"]
    for name, group in resources_of(template, "AWS::EC2::SecurityGroup").items():
        (only,) = group["Properties"]["SecurityGroupEgress"]
        assert only["CidrIp"] == _NO_WHERE, name
        assert "SecurityGroupIngress" not in group["Properties"], name


def test_with_prefix_lists_a_group_connects_to_their_gateways_alone_and_the_parser_to_s3_s(
    company_assembly: Path,
) -> None:
    template = dict(templates_in(assembly_folder(company_assembly, "company"))["Network"])

    rules = _rules(template, "AWS::EC2::SecurityGroupEgress")
    assert not [p for p in rules if p.get("CidrIp") == "0.0.0.0/0"]
    own = [p for p in rules if _id(p["GroupId"]) == "ParserGroup"]
    assert [(p["DestinationPrefixListId"], p["FromPort"]) for p in own] == [("pl-6ea54007", 443)]
    into = _rules(template, "AWS::EC2::SecurityGroupIngress")
    assert not [p for p in into if _id(p["GroupId"]) == "ParserGroup"]


def test_a_network_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="/16 to a /24"):
        network_of(with_sections(deployed("pharmacy"), network={"cidr": "10.64.0.0/25"}))


def _section(tenant: DeployedTenant, name: str) -> dict[str, Any]:
    return getattr(tenant.config, name).model_dump(mode="json")


def _rules(template: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [body["Properties"] for body in resources_of(template, kind).values()]


def _id(reference: Any) -> str:
    return reference["Fn::GetAtt"][0]
