"""The network stack: isolation, the rules of its groups, existing networks, zones."""

from __future__ import annotations

from typing import Any

import pytest

from assistant.domain.errors import ConfigurationError
from stacks.network import NetworkStack
from stacks.outputs import Workload
from stacks.tenant import DeployedTenant
from tests.stacks.values import deployed, resources_of, stack_with, template_of, with_sections

EXISTING = {
    "vpc_id": "vpc-0aaaaaaaaaaaaaaaa",
    "cidr": "10.9.0.0/16",
    "subnet_ids": ["subnet-a", "subnet-b", "subnet-c"],
    "route_table_ids": ["rtb-a"],
}
_NO_WHERE = "255.255.255.255/32"


def network_of(tenant: DeployedTenant) -> NetworkStack:
    return stack_with(NetworkStack, tenant)


@pytest.fixture(scope="module")
def stack() -> NetworkStack:
    return network_of(deployed("pharmacy"))


@pytest.fixture(scope="module")
def template(stack: NetworkStack) -> dict[str, Any]:
    return template_of(stack)


@pytest.fixture(scope="module")
def in_existing_vpc() -> dict[str, Any]:
    tenant = with_sections(
        deployed("pharmacy"),
        network={"vpc": EXISTING, "endpoints": {"kms": "vpce-1"}, "prefix_lists": {"s3": "pl-1"}},
    )
    return template_of(network_of(tenant))


def test_each_zone_of_the_file_has_a_subnet(template: dict[str, Any]) -> None:
    subnets = resources_of(template, "AWS::EC2::Subnet")

    zones = {name: body["Properties"]["AvailabilityZone"] for name, body in subnets.items()}
    assert zones == {"Subnet1": "us-east-1a", "Subnet2": "us-east-1b", "Subnet3": "us-east-1c"}
    assert not any(body["Properties"]["MapPublicIpOnLaunch"] for body in subnets.values())


def test_a_third_zone_moves_no_subnet() -> None:
    two = with_sections(
        deployed("clinic"),
        deployment={**_section(deployed("clinic"), "deployment"), "zones": ["us-east-1a", "us-east-1b"]},
    )

    of_two = resources_of(template_of(network_of(two)), "AWS::EC2::Subnet")
    of_three = resources_of(template_of(network_of(deployed("clinic"))), "AWS::EC2::Subnet")

    assert of_two.items() <= of_three.items()


def test_each_workload_has_a_security_group_whose_id_is_an_output(
    stack: NetworkStack, template: dict[str, Any]
) -> None:
    workloads = set(Workload) - {Workload.CONNECTORS}  # no source of the tenant has one
    assert set(stack.outputs.security_group_ids) == workloads
    assert {f"{workload}Group" for workload in workloads} <= set(
        resources_of(template, "AWS::EC2::SecurityGroup")
    )


def test_no_group_allows_all_egress_before_its_rules_exist(template: dict[str, Any]) -> None:
    groups = resources_of(template, "AWS::EC2::SecurityGroup")

    for name, group in groups.items():
        (only,) = group["Properties"]["SecurityGroupEgress"]
        assert only["CidrIp"] == _NO_WHERE, name
        assert "SecurityGroupIngress" not in group["Properties"], name


def test_client_certificates_open_a_second_port_for_health_checks() -> None:
    edge = {**_section(deployed("pharmacy"), "edge"), "client_certificates": "s3://bucket/ca.pem"}

    template = template_of(network_of(with_sections(deployed("pharmacy"), edge=edge)))

    ports = {
        p["FromPort"]
        for p in _rules(template, "AWS::EC2::SecurityGroupIngress")
        if _id(p["GroupId"]) == "AlbGroup"
    }
    assert ports == {443, 8443}


def test_with_prefix_lists_a_group_may_connect_only_to_their_gateways() -> None:
    tenant = with_sections(
        deployed("pharmacy"), network={"prefix_lists": {"s3": "pl-11111111", "dynamodb": "pl-22222222"}}
    )

    rules = _rules(template_of(network_of(tenant)), "AWS::EC2::SecurityGroupEgress")

    assert not [p for p in rules if p.get("CidrIp") == "0.0.0.0/0"]
    assert {p["DestinationPrefixListId"] for p in rules if "DestinationPrefixListId" in p} == {
        "pl-11111111",
        "pl-22222222",
    }


def test_without_prefix_lists_two_gateways_are_one_rule(template: dict[str, Any]) -> None:
    anywhere = [
        _id(p["GroupId"])
        for p in _rules(template, "AWS::EC2::SecurityGroupEgress")
        if p.get("CidrIp") == "0.0.0.0/0"
    ]

    assert len(anywhere) == len(set(anywhere))
    assert not {"NlbGroup", "AlbGroup", "SearchGroup"} & set(anywhere)


def test_flow_logs_are_written_only_by_this_account_s_service(template: dict[str, Any]) -> None:
    (role,) = resources_of(template, "AWS::IAM::Role").values()

    (trust,) = role["Properties"]["AssumeRolePolicyDocument"]["Statement"]
    assert trust["Condition"]["StringEquals"] == {"aws:SourceAccount": "111122223333"}


def test_the_stack_is_protected_because_others_depend_on_it(stack: NetworkStack) -> None:
    assert stack.termination_protection


def test_an_existing_vpc_is_not_changed(in_existing_vpc: dict[str, Any]) -> None:
    kinds = {body["Type"] for body in in_existing_vpc["Resources"].values()}

    assert not kinds & {
        "AWS::EC2::VPC",
        "AWS::EC2::Subnet",
        "AWS::EC2::RouteTable",
        "AWS::EC2::NetworkAcl",
        "AWS::EC2::SubnetNetworkAclAssociation",
    }
    groups = resources_of(in_existing_vpc, "AWS::EC2::SecurityGroup").values()
    assert {group["Properties"]["VpcId"] for group in groups} == {EXISTING["vpc_id"]}


def test_in_an_existing_vpc_the_named_subnets_are_recorded(in_existing_vpc: dict[str, Any]) -> None:
    logs = resources_of(in_existing_vpc, "AWS::EC2::FlowLog").values()

    assert [log["Properties"]["ResourceId"] for log in logs] == EXISTING["subnet_ids"]
    assert {log["Properties"]["ResourceType"] for log in logs} == {"Subnet"}


def test_the_company_s_endpoints_are_allowed_by_the_vpc_s_range(in_existing_vpc: dict[str, Any]) -> None:
    rules = _rules(in_existing_vpc, "AWS::EC2::SecurityGroupEgress")

    callers = {_id(p["GroupId"]) for p in rules if p.get("CidrIp") == EXISTING["cidr"]}
    assert callers == {
        "OrchestratorGroup",
        "IngestionGroup",
        "SchemaGroup",
        "RedactorGroup",
        "LearningGroup",
        "JobsGroup",
    }


def test_the_parser_has_one_way_and_it_is_the_gateway_of_s3() -> None:
    network = {"prefix_lists": {"s3": "pl-63a5400a", "dynamodb": "pl-02cd2c6b"}}
    template = template_of(network_of(with_sections(deployed("pharmacy"), network=network)))
    for kind, rules in (("Egress", 1), ("Ingress", 0)):
        found = _rules(template, f"AWS::EC2::SecurityGroup{kind}")
        own = [rule for rule in found if _id(rule["GroupId"]) == "ParserGroup"]
        assert [(r["DestinationPrefixListId"], r["FromPort"]) for r in own] == [("pl-63a5400a", 443)] * rules


def test_a_network_that_is_too_small_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="/16 to a /24"):
        network_of(with_sections(deployed("pharmacy"), network={"cidr": "10.64.0.0/25"}))


def _section(tenant: DeployedTenant, name: str) -> dict[str, Any]:
    return getattr(tenant.config, name).model_dump(mode="json")


def _rules(template: dict[str, Any], kind: str) -> list[dict[str, Any]]:
    return [body["Properties"] for body in resources_of(template, kind).values()]


def _id(reference: Any) -> str:
    return reference["Fn::GetAtt"][0]
