"""Which paths security groups, network ACLs and routes open, on networks of a few resources."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from template_checks.scene import Opening, meets
from tests.unit.template_checks.small_network import (
    codes,
    group_id,
    in_rule,
    out_rule,
    paths,
    ports,
    proven,
    ref,
    resource,
    small_network,
)

TASKS_TO_SEARCH = {
    "Out": out_rule("Tasks", DestinationSecurityGroupId=group_id("Search"), **ports(443)),
    "In": in_rule("Search", SourceSecurityGroupId=group_id("Tasks"), **ports(443)),
}
DECLARED = ("orchestrator", "search domain", "tcp 443")


def test_without_rules_nothing_is_reached() -> None:
    assert paths(proven(small_network())) == set()


def test_rules_at_both_ends_open_a_path() -> None:
    report = proven(small_network(**TASKS_TO_SEARCH))

    assert paths(report) == {DECLARED}
    assert codes(report) == set()


@pytest.mark.parametrize("missing", ["Out", "In"])
def test_a_rule_at_one_end_opens_no_path(missing: str) -> None:
    rules = {name: rule for name, rule in TASKS_TO_SEARCH.items() if name != missing}

    assert paths(proven(small_network(**rules))) == set()


def test_a_group_without_any_rule_out_may_connect_to_everything() -> None:
    network = small_network(In=TASKS_TO_SEARCH["In"])
    del network["Tasks"]["Properties"]["SecurityGroupEgress"]

    assert paths(proven(network)) == {DECLARED}


def test_a_path_has_only_the_ports_that_both_ends_open() -> None:
    wide = {
        "Out": out_rule("Tasks", CidrIp="10.0.0.0/16", **ports(400, 500)),
        "In": in_rule("Search", CidrIp="10.0.0.0/24", **ports(450, 600)),
    }

    report = proven(small_network(**wide))

    assert paths(report) == {("orchestrator", "search domain", "tcp 450-500")}
    assert codes(report) == {"reach-undeclared-path"}


def test_addresses_of_another_subnet_are_not_allowed_in() -> None:
    rules = {
        "Out": out_rule("Tasks", CidrIp="10.0.0.0/16", **ports(443)),
        "In": in_rule("Search", CidrIp="10.0.1.0/24", **ports(443)),
    }

    assert ("orchestrator", "search domain", "tcp 443") not in paths(proven(small_network(**rules)))


def test_all_protocols_are_everything() -> None:
    network = small_network()
    for name in ("Tasks", "Search"):
        network[name]["Properties"]["SecurityGroupEgress"] = [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}]
        network[name]["Properties"]["SecurityGroupIngress"] = [{"IpProtocol": "-1", "CidrIp": "10.0.0.0/16"}]

    assert ("search domain", "orchestrator", "everything") in paths(proven(network))


def test_a_rule_whose_port_is_a_parameter_counts_as_open() -> None:
    rules = {
        "Out": out_rule("Tasks", DestinationSecurityGroupId=group_id("Search"), **ports(0, 65535)),
        "In": in_rule("Search", SourceSecurityGroupId=group_id("Tasks"), FromPort=ref("P"), ToPort=ref("P")),
    }

    assert ("orchestrator", "search domain", "tcp") in paths(proven(small_network(**rules)))


def test_a_rule_for_any_address_is_undeclared_even_without_a_route() -> None:
    report = proven(small_network(Door=in_rule("Tasks", CidrIp="0.0.0.0/0", **ports(8700))))

    assert ("0.0.0.0/0", "orchestrator", "tcp 8700") in paths(report)
    assert codes(report) == {"reach-undeclared-path"}


@pytest.mark.parametrize(
    ("way", "opener"),
    [
        ("GatewayId", "AWS::EC2::InternetGateway"),
        ("NatGatewayId", "AWS::EC2::NatGateway"),
        ("VpcPeeringConnectionId", "AWS::EC2::VPCPeeringConnection"),
        ("TransitGatewayId", "AWS::EC2::TransitGatewayAttachment"),
    ],
)
def test_a_route_out_is_a_path_and_its_gateway_an_opening(way: str, opener: str) -> None:
    more = {
        "Way": resource(opener),
        "Route": resource(
            "AWS::EC2::Route",
            RouteTableId=ref("TableOne"),
            DestinationCidrBlock="192.168.0.0/16",
            **{way: ref("Way")},
        ),
        "Out": out_rule("Tasks", CidrIp="192.168.0.0/16", **ports(443)),
    }

    report = proven(small_network(**more))

    assert ("orchestrator", "192.168.0.0/16", "tcp 443") in paths(report)
    assert codes(report) == {"reach-opening", "reach-route", "reach-undeclared-path"}


def test_a_route_of_one_subnet_is_not_used_by_another() -> None:
    more = {
        "Route": resource(
            "AWS::EC2::Route",
            RouteTableId=ref("TableTwo"),
            DestinationCidrBlock="192.168.0.0/16",
            VpcPeeringConnectionId="pcx-1",
        ),
        "Out": out_rule("Tasks", CidrIp="0.0.0.0/0", **ports(443)),
    }

    report = proven(small_network(**more))

    assert paths(report) == set()
    assert codes(report) == {"reach-route"}


def acl(*entries: tuple[int, bool, str, str, tuple[int, int]]) -> dict[str, Any]:
    """Return a network ACL of the domain's subnet: number, egress, action, block, ports."""
    made = {
        "Acl": resource("AWS::EC2::NetworkAcl", VpcId=ref("Vpc")),
        "AclOfTwo": resource(
            "AWS::EC2::SubnetNetworkAclAssociation", SubnetId=ref("Two"), NetworkAclId=ref("Acl")
        ),
    }
    for number, egress, action, block, (first, last) in entries:
        made[f"Entry{number}{egress}"] = resource(
            "AWS::EC2::NetworkAclEntry",
            NetworkAclId=ref("Acl"),
            RuleNumber=number,
            Egress=egress,
            RuleAction=action,
            CidrBlock=block,
            Protocol=6,
            PortRange={"From": first, "To": last},
        )
    return made


def test_a_network_acl_without_entries_closes_its_subnet() -> None:
    assert paths(proven(small_network(**TASKS_TO_SEARCH, **acl()))) == set()


def test_a_network_acl_passes_what_it_allows() -> None:
    entries = acl((100, False, "allow", "10.0.0.0/24", (443, 443)))

    assert paths(proven(small_network(**TASKS_TO_SEARCH, **entries))) == {DECLARED}


def test_the_entry_with_the_lower_number_decides() -> None:
    entries = acl(
        (200, False, "allow", "0.0.0.0/0", (0, 65535)), (100, False, "deny", "10.0.0.0/24", (443, 443))
    )

    assert paths(proven(small_network(**TASKS_TO_SEARCH, **entries))) == set()


def test_a_network_acl_that_blocks_answers_closes_the_path() -> None:
    role = resource(
        "AWS::IAM::Role",
        Policies=[
            {"PolicyDocument": {"Statement": {"Effect": "Allow", "Action": "es:ESHttpGet", "Resource": "*"}}}
        ],
    )
    definition = resource("AWS::ECS::TaskDefinition", TaskRoleArn={"Fn::GetAtt": ["Role", "Arn"]})
    network = small_network(**TASKS_TO_SEARCH, Role=role, Definition=definition)
    network["Service"]["Properties"]["TaskDefinition"] = ref("Definition")
    inward = (100, False, "allow", "10.0.0.0/16", (443, 443))

    without_answer = proven({**network, **acl(inward)})
    with_answer = proven({**network, **acl(inward, (100, True, "allow", "10.0.0.0/16", (1024, 65535)))})

    assert codes(without_answer) == {"reach-missing-path"}
    assert codes(with_answer) == set()


def test_the_vpcs_default_group_is_refused() -> None:
    network = small_network()
    configuration = network["Service"]["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    configuration["SecurityGroups"] = [{"Fn::GetAtt": ["Vpc", "DefaultSecurityGroup"]}]

    assert "reach-default-group" in codes(proven(network))


def test_in_an_existing_vpc_routes_are_not_proven() -> None:
    network = small_network(**TASKS_TO_SEARCH)
    vpc = network["Service"]["Properties"]["NetworkConfiguration"]["AwsvpcConfiguration"]
    vpc["Subnets"] = ["subnet-0aaaaaaaaaaaaaaaa"]
    network["Domain"]["Properties"]["VPCOptions"]["SubnetIds"] = ["subnet-0bbbbbbbbbbbbbbbb"]

    report = proven(network)

    assert [row.judged for row in report.rows] == ["declared; routes not in template: not proven"]
    assert codes(report, status="not proven") == {"reach-routes-untold"}
    assert "routes not in template: not proven" in report.findings[0].message
    assert report.status == "not proven"


def test_rules_of_a_group_that_no_template_makes_are_not_proven() -> None:
    network = small_network(**TASKS_TO_SEARCH)
    network["Domain"]["Properties"]["VPCOptions"]["SecurityGroupIds"] = ["sg-0123456789abcdef0"]

    assert "reach-rules-untold" in codes(proven(network), status="not proven")


_PORTS = st.tuples(st.integers(0, 65535), st.integers(0, 65535)).map(sorted)
_OPENINGS = st.lists(
    st.builds(lambda kind, pair: Opening(kind, *pair), st.sampled_from(["tcp", "udp", "all"]), _PORTS),
    max_size=5,
)


@given(some=_OPENINGS, others=_OPENINGS, port=st.integers(0, 65535))
def test_a_port_is_open_where_both_ends_open_it(
    some: list[Opening], others: list[Opening], port: int
) -> None:
    def opens(openings: list[Opening]) -> bool:
        return any(opening.holds(port) for opening in openings)

    # `udp` against `all` is met as `udp`, so TCP of the one side needs TCP of the other
    assert opens(meets(some, others)) == (opens(some) and opens(others))


def test_other_protocols_pass_a_network_acl_that_allows_all() -> None:
    network = small_network(
        Out=out_rule("Tasks", IpProtocol="50", DestinationSecurityGroupId=group_id("Search")),
        In=in_rule("Search", IpProtocol="50", SourceSecurityGroupId=group_id("Tasks")),
        **acl((100, False, "allow", "0.0.0.0/0", (0, 65535))),
    )
    closed = paths(proven(network))
    network["Entry100False"]["Properties"]["Protocol"] = -1

    assert closed == set()
    assert paths(proven(network)) == {("orchestrator", "search domain", "50")}


@given(one=_PORTS, other=_PORTS, port=st.integers(0, 65535))
def test_ports_without_some_are_the_others(one: list[int], other: list[int], port: int) -> None:
    left = Opening("tcp", *one).without(Opening("all", *other))

    assert any(opening.holds(port) for opening in left) == (
        one[0] <= port <= one[1] and not other[0] <= port <= other[1]
    )
