"""Which paths security groups, network ACLs and routes open, on networks of a few resources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant.cli.aws.templates import prove
from template_checks.facts import Facts
from template_checks.reachability import Report
from template_checks.scene import Opening, meets
from template_checks.templates import Template, Templates

Resources = dict[str, dict[str, Any]]


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def ref(name: str) -> dict[str, str]:
    return {"Ref": name}


def group_id(name: str) -> dict[str, list[str]]:
    return {"Fn::GetAtt": [name, "GroupId"]}


def small_network(**more: dict[str, Any]) -> Resources:
    """Return a VPC with a service (tasks) and a search domain in a subnet each, each with a closed group."""
    made: Resources = {
        "Vpc": resource("AWS::EC2::VPC", CidrBlock="10.0.0.0/16"),
        "Service": resource(
            "AWS::ECS::Service",
            NetworkConfiguration={
                "AwsvpcConfiguration": {"Subnets": [ref("One")], "SecurityGroups": [group_id("Tasks")]}
            },
        ),
        "Domain": resource(
            "AWS::OpenSearchService::Domain",
            VPCOptions={"SubnetIds": [ref("Two")], "SecurityGroupIds": [group_id("Search")]},
        ),
    }
    for name in ("Tasks", "Search"):
        made[name] = resource(
            "AWS::EC2::SecurityGroup",
            VpcId=ref("Vpc"),
            GroupDescription=name,
            SecurityGroupEgress=[{"IpProtocol": "icmp", "CidrIp": "255.255.255.255/32"}],
        )
    for number, name in enumerate(("One", "Two")):
        made[name] = resource("AWS::EC2::Subnet", VpcId=ref("Vpc"), CidrBlock=f"10.0.{number}.0/24")
        made[f"Table{name}"] = resource("AWS::EC2::RouteTable", VpcId=ref("Vpc"))
        made[f"Association{name}"] = resource(
            "AWS::EC2::SubnetRouteTableAssociation",
            SubnetId=ref(name),
            RouteTableId=ref(f"Table{name}"),
        )
    return made | more


def out_rule(group: str, **rule: Any) -> dict[str, Any]:
    return resource("AWS::EC2::SecurityGroupEgress", GroupId=group_id(group), **{"IpProtocol": "tcp", **rule})


def in_rule(group: str, **rule: Any) -> dict[str, Any]:
    return resource(
        "AWS::EC2::SecurityGroupIngress", GroupId=group_id(group), **{"IpProtocol": "tcp", **rule}
    )


def ports(first: int, last: int | None = None) -> dict[str, int]:
    return {"FromPort": first, "ToPort": first if last is None else last}


def templates(resources: Mapping[str, Any]) -> Templates:
    template = Template(
        name="Small",
        path=Path("small.template.json"),
        document={"Resources": resources},
        account="111122223333",
        region="us-east-1",
    )
    return Templates([template])


def proven(resources: Mapping[str, Any]) -> Report:
    return prove(templates(resources))


def paths(report: Report) -> set[tuple[str, str, str]]:
    """Return who reaches whom on what."""
    return {(row.source, row.target, row.port) for row in report.rows}


def codes(report: Report, *, status: str = "refused") -> set[str]:
    return {finding.code for finding in report.findings if finding.status == status}


TASKS_TO_SEARCH = {
    "Out": out_rule("Tasks", DestinationSecurityGroupId=group_id("Search"), **ports(443)),
    "In": in_rule("Search", SourceSecurityGroupId=group_id("Tasks"), **ports(443)),
}
DECLARED = ("orchestrator", "search domain", "tcp 443")


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


TO_NO_SUBNET: Resources = {
    "Out": out_rule("Tasks", CidrIp="10.0.0.0/16", **ports(443)),
    "In": in_rule("Search", CidrIp="10.0.1.0/24", **ports(443)),
}
TO_A_PARAMETER: Resources = {
    "Out": out_rule("Tasks", DestinationSecurityGroupId=group_id("Search"), **ports(0, 65535)),
    "In": in_rule("Search", SourceSecurityGroupId=group_id("Tasks"), FromPort=ref("P"), ToPort=ref("P")),
}
WIDE: Resources = {
    "Out": out_rule("Tasks", CidrIp="10.0.0.0/16", **ports(400, 500)),
    "In": in_rule("Search", CidrIp="10.0.0.0/24", **ports(450, 600)),
}
ALL_IN = (200, False, "allow", "0.0.0.0/0", (0, 65535))
PATHS: Mapping[str, tuple[Resources, set[tuple[str, str, str]]]] = {
    "no rules": ({}, set()),
    "a rule in alone": ({"In": TASKS_TO_SEARCH["In"]}, set()),
    "a rule out alone": ({"Out": TASKS_TO_SEARCH["Out"]}, set()),
    "rules at both ends": (TASKS_TO_SEARCH, {DECLARED}),
    "the ports that both open": (WIDE, {("orchestrator", "search domain", "tcp 450-500")}),
    "another subnet's addresses": (TO_NO_SUBNET, set()),
    "a port that is a parameter": (TO_A_PARAMETER, {("orchestrator", "search domain", "tcp")}),
    "an ACL without entries": ({**TASKS_TO_SEARCH, **acl()}, set()),
    "an ACL's entry": (
        {**TASKS_TO_SEARCH, **acl((100, False, "allow", "10.0.0.0/24", (443, 443)))},
        {DECLARED},
    ),
    "the ACL's lower number": (
        {**TASKS_TO_SEARCH, **acl(ALL_IN, (100, False, "deny", "10.0.0.0/24", (443, 443)))},
        set(),
    ),
}


@pytest.mark.parametrize("name", PATHS)
def test_a_path_is_open_where_every_rule_on_it_is(name: str) -> None:
    more, opened = PATHS[name]
    report = proven(small_network(**more))

    assert paths(report) == opened
    assert codes(report) == ({"reach-undeclared-path"} if opened - {DECLARED} else set())


def test_a_group_without_any_rule_out_may_connect_to_everything() -> None:
    network = small_network(In=TASKS_TO_SEARCH["In"])
    del network["Tasks"]["Properties"]["SecurityGroupEgress"]

    assert paths(proven(network)) == {DECLARED}


def test_all_protocols_are_everything() -> None:
    network = small_network()
    for name in ("Tasks", "Search"):
        network[name]["Properties"]["SecurityGroupEgress"] = [{"IpProtocol": "-1", "CidrIp": "0.0.0.0/0"}]
        network[name]["Properties"]["SecurityGroupIngress"] = [{"IpProtocol": "-1", "CidrIp": "10.0.0.0/16"}]

    assert ("search domain", "orchestrator", "everything") in paths(proven(network))


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


def document(*actions: str, on: Any = "*", **more: Any) -> dict[str, Any]:
    return {"Statement": [{"Effect": "Allow", "Action": list(actions), "Resource": on, **more}]}


def calling(*actions: str, on: Any = "*", **more: dict[str, Any]) -> Resources:
    """Return the network with a task that may call actions, by a role with the tenant's tag."""
    network = small_network(
        Role=resource(
            "AWS::IAM::Role",
            Policies=[{"PolicyDocument": document(*actions, on=on)}],
            Tags=[{"Key": "tenant", "Value": "pharmacy"}],
        ),
        Definition=resource("AWS::ECS::TaskDefinition", TaskRoleArn={"Fn::GetAtt": ["Role", "Arn"]}),
        **more,
    )
    network["Service"]["Properties"]["TaskDefinition"] = ref("Definition")
    return network


def interface(service: str, **properties: Any) -> Resources:
    """Return an interface endpoint with a group, and the rules by which tasks reach it."""
    return {
        "Endpoint": resource(
            "AWS::EC2::VPCEndpoint",
            VpcEndpointType="Interface",
            ServiceName=f"com.amazonaws.us-east-1.{service}",
            SubnetIds=[ref("One"), ref("Two")],
            SecurityGroupIds=[group_id("Door")],
            **{"PrivateDnsEnabled": True, "VpcId": ref("Vpc"), **properties},
        ),
        "Door": resource(
            "AWS::EC2::SecurityGroup",
            VpcId=ref("Vpc"),
            GroupDescription="Door",
            SecurityGroupEgress=[{"IpProtocol": "icmp", "CidrIp": "255.255.255.255/32"}],
        ),
        "OutToDoor": out_rule("Tasks", DestinationSecurityGroupId=group_id("Door"), **ports(443)),
        "InToDoor": in_rule("Door", SourceSecurityGroupId=group_id("Tasks"), **ports(443)),
    }


def gateway(service: str, *tables: str, **properties: Any) -> Resources:
    return {
        "Gateway": resource(
            "AWS::EC2::VPCEndpoint",
            ServiceName=f"com.amazonaws.us-east-1.{service}",
            VpcId=ref("Vpc"),
            RouteTableIds=[ref(table) for table in tables],
            **properties,
        ),
        "OutToGateway": out_rule("Tasks", CidrIp="0.0.0.0/0", **ports(443)),
    }


OWN = {
    "aws:PrincipalAccount": "111122223333",
    "aws:PrincipalTag/tenant": "pharmacy",
    "aws:ResourceAccount": ["111122223333"],
}


def decrypting(*, without: str = "", **properties: Any) -> Resources:
    """Return the network with a task that calls KMS through its endpoint, without a resource."""
    network = calling("kms:Decrypt", **interface("kms", **properties))
    network.pop(without, None)
    return network


def under(equals: Mapping[str, Any]) -> Resources:
    """Return it with a policy of the endpoint that has a condition."""
    condition = {"StringEquals": equals}
    return decrypting(PolicyDocument=document("kms:Decrypt", Condition=condition))


def reading(
    table: str = "TableOne", *, rule: Mapping[str, Any] | None = None, **properties: Any
) -> Resources:
    """Return the network with a task that reads S3 through a gateway in a subnet's table."""
    network = calling("s3:GetObject", **gateway("s3", table))
    return network | ({"OutToGateway": out_rule("Tasks", **rule, **ports(443))} if rule else {})


NEITHER: set[str] = set()
POLICY = {"reach-endpoint-policy"}
CALLS: Mapping[str, tuple[Resources, set[str], set[str]]] = {
    "an endpoint and its rules": (decrypting(), NEITHER, NEITHER),
    "no endpoint": (calling("sqs:SendMessage", **interface("kms")), {"reach-no-endpoint"}, NEITHER),
    "no rule out": (decrypting(without="OutToDoor"), {"reach-missing-path"}, NEITHER),
    "no rule in": (decrypting(without="InToDoor"), {"reach-missing-path"}, NEITHER),
    "no private DNS": (decrypting(PrivateDnsEnabled=False), {"reach-no-name"}, NEITHER),
    "another VPC's endpoint": (
        decrypting(VpcId="vpc-0123456789abcdef0"),
        {"reach-no-endpoint"},
        NEITHER,
    ),
    "a gateway in the subnet's table": (reading(), NEITHER, NEITHER),
    "a gateway in another table": (reading("TableTwo"), {"reach-no-route"}, NEITHER),
    "a rule to private addresses": (reading(rule={"CidrIp": "10.0.0.0/8"}), {"reach-missing-path"}, NEITHER),
    "a rule to a prefix list": (reading(rule={"DestinationPrefixListId": "pl-11111111"}), NEITHER, NEITHER),
    "a perimeter of the tenant": (under(OWN), NEITHER, NEITHER),
    "another account's": (under({"aws:PrincipalAccount": "444455556666"}), POLICY, NEITHER),
    "another tenant's": (under({"aws:PrincipalTag/tenant": "clinic"}), POLICY, NEITHER),
    "another account's resources": (under({"aws:ResourceAccount": "444455556666"}), POLICY, NEITHER),
    "a condition that no template decides": (under({"aws:PrincipalOrgID": "o-1"}), NEITHER, POLICY),
    "an action that the policy leaves out": (
        calling("kms:Decrypt", "kms:Encrypt", **interface("kms", PolicyDocument=document("kms:Decrypt"))),
        POLICY,
        NEITHER,
    ),
    "a bucket that the policy leaves out": (
        calling(
            "s3:GetObject",
            on=["arn:aws:s3:::one/*", "arn:aws:s3:::two/*"],
            **gateway("s3", "TableOne", PolicyDocument=document("s3:GetObject", on="arn:aws:s3:::one/*")),
        ),
        POLICY,
        NEITHER,
    ),
    "a service that is not known": (calling("iot:Publish"), {"reach-unknown-service"}, NEITHER),
    "every service": (calling("*"), {"reach-unknown-service"}, NEITHER),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_reachable_by_its_endpoint_rules_and_policy(name: str) -> None:
    network, refused, untold = CALLS[name]
    report = proven(network)

    assert codes(report) == refused
    assert codes(report, status="not proven") == untold
    if not refused:
        assert {row.judged for row in report.calls} == {"not proven" if untold else "reachable"}


def test_an_endpoint_that_the_facts_know_is_not_proven() -> None:
    report = prove(templates(calling("sqs:SendMessage")), facts=Facts(existing_endpoints=("sqs",)))

    assert codes(report) == set()
    assert codes(report, status="not proven") == {"reach-endpoint-untold"}


def pulling_images(policy: dict[str, Any]) -> Report:
    network = calling(**gateway("s3", "TableOne", PolicyDocument=policy))
    del network["Definition"]["Properties"]["TaskRoleArn"]
    network["Definition"]["Properties"]["ContainerDefinitions"] = [
        {"Image": "111122223333.dkr.ecr.us-east-1.amazonaws.com/orchestrator@sha256:0"}
    ]
    return proven(network)


LAYERS = "arn:aws:s3:::prod-us-east-1-starport-layer-bucket/*"


def test_layers_of_images_pass_without_the_tenants_conditions() -> None:
    assert codes(pulling_images(document("s3:GetObject", on=LAYERS))) == set()


def test_layers_of_images_do_not_pass_a_perimeter_of_the_tenant_alone() -> None:
    assert codes(pulling_images(document("s3:GetObject", Condition={"StringEquals": OWN}))) == {
        "reach-endpoint-policy"
    }


def function(handler: str = "lambdas.apply_search_schema.handle") -> Resources:
    return {
        "Function": resource(
            "AWS::Lambda::Function",
            Handler=handler,
            VpcConfig={"SubnetIds": [ref("One")], "SecurityGroupIds": [group_id("Tasks")]},
        ),
    }


@pytest.mark.parametrize(
    ("bucket", "expected"),
    [
        ("cloudformation-custom-resource-response-useast1", set[str]()),
        ("cloudformation-custom-resource-response-us-east-1", {"reach-endpoint-policy"}),
    ],
)
def test_a_custom_resource_answers_through_cloudformations_bucket_of_its_region(
    bucket: str, expected: set[str]
) -> None:
    policy = document("s3:PutObject", on=f"arn:aws:s3:::{bucket}/*")
    network = small_network(
        **function(),
        **gateway("s3", "TableOne", PolicyDocument=policy),
        Custom=resource("Custom::SearchSchema", ServiceToken={"Fn::GetAtt": ["Function", "Arn"]}),
    )

    assert codes(proven(network)) == expected


def test_a_function_with_an_undeclared_handler_is_refused() -> None:
    report = proven(small_network(**function("lambdas.anything.handle"), **gateway("s3", "TableOne")))

    assert "reach-undeclared-path" in codes(report)


def test_a_managed_policy_outside_the_templates_is_not_proven() -> None:
    network = calling("kms:Decrypt", **interface("kms"))
    network["Role"]["Properties"]["ManagedPolicyArns"] = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]

    assert codes(proven(network), status="not proven") == {"reach-policy-untold"}
