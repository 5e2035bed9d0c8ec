"""Whether all that a workload's roles call is reachable, on a network of a few resources."""

from __future__ import annotations

from typing import Any

import pytest

from assistant.cli.aws.templates import prove
from template_checks.facts import Facts
from template_checks.reachability import Report
from tests.unit.template_checks.small_network import (
    Resources,
    codes,
    group_id,
    in_rule,
    out_rule,
    ports,
    proven,
    ref,
    resource,
    small_network,
    templates,
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
            VpcId=ref("Vpc"),
            SubnetIds=[ref("One"), ref("Two")],
            SecurityGroupIds=[group_id("Door")],
            **{"PrivateDnsEnabled": True, **properties},
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


def judged(report: Report) -> list[tuple[str, str]]:
    return [(row.service, row.judged) for row in report.calls]


def test_a_call_with_an_endpoint_and_rules_is_reachable() -> None:
    report = proven(calling("kms:Decrypt", **interface("kms")))

    assert judged(report) == [("kms", "reachable")]
    assert codes(report) == set()


def test_a_service_without_an_endpoint_is_refused() -> None:
    report = proven(calling("kms:Decrypt", "sqs:SendMessage", **interface("kms")))

    assert judged(report) == [("kms", "reachable"), ("sqs", "refused")]
    assert codes(report) == {"reach-no-endpoint"}


def test_an_endpoint_that_the_facts_know_is_not_proven() -> None:
    report = prove(templates(calling("sqs:SendMessage")), facts=Facts(existing_endpoints=("sqs",)))

    assert codes(report) == set()
    assert codes(report, status="not proven") == {"reach-endpoint-untold"}


@pytest.mark.parametrize("rule", ["OutToDoor", "InToDoor"])
def test_an_endpoint_without_its_rule_is_refused(rule: str) -> None:
    network = calling("kms:Decrypt", **interface("kms"))
    del network[rule]

    assert codes(proven(network)) == {"reach-missing-path"}


def test_an_endpoint_without_private_dns_is_refused() -> None:
    network = calling("kms:Decrypt", **interface("kms", PrivateDnsEnabled=False))

    assert codes(proven(network)) == {"reach-no-name"}


def test_an_endpoint_in_another_vpc_is_not_used() -> None:
    network = calling("kms:Decrypt", **interface("kms"))
    network["Endpoint"]["Properties"]["VpcId"] = "vpc-0123456789abcdef0"

    assert "reach-no-endpoint" in codes(proven(network))


def test_a_gateway_endpoint_in_the_subnets_table_is_reachable() -> None:
    report = proven(calling("s3:GetObject", **gateway("s3", "TableOne")))

    assert judged(report) == [("s3", "reachable")]
    assert [(row.source, row.target, row.by) for row in report.rows] == [
        ("orchestrator", "S3", "gateway endpoint")
    ]


def test_a_gateway_endpoint_in_another_table_is_not_reachable() -> None:
    report = proven(calling("s3:GetObject", **gateway("s3", "TableTwo")))

    assert codes(report) == {"reach-no-route"}
    assert report.rows == ()


def test_a_rule_to_private_addresses_leads_to_no_gateway() -> None:
    network = calling("s3:GetObject", **gateway("s3", "TableOne"))
    network["OutToGateway"]["Properties"]["CidrIp"] = "10.0.0.0/8"

    report = proven(network)

    assert codes(report) == {"reach-missing-path"}
    assert report.rows == ()


def test_a_rule_to_a_prefix_list_leads_to_a_gateway() -> None:
    network = calling("s3:GetObject", **gateway("s3", "TableOne"))
    network["OutToGateway"] = out_rule("Tasks", DestinationPrefixListId="pl-11111111", **ports(443))

    assert codes(proven(network)) == set()


OWN = {
    "StringEquals": {
        "aws:PrincipalAccount": "111122223333",
        "aws:PrincipalTag/tenant": "pharmacy",
        "aws:ResourceAccount": ["111122223333"],
    }
}


def test_a_perimeter_allows_the_tenant() -> None:
    policy = document("kms:Decrypt", Condition=OWN)

    assert codes(proven(calling("kms:Decrypt", **interface("kms", PolicyDocument=policy)))) == set()


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {"aws:PrincipalAccount": "444455556666"}},
        {"StringEquals": {"aws:PrincipalTag/tenant": "clinic"}},
        {"StringEquals": {"aws:ResourceAccount": "444455556666"}},
    ],
)
def test_a_perimeter_for_others_refuses_the_tenant(condition: dict[str, Any]) -> None:
    policy = document("kms:Decrypt", Condition=condition)

    report = proven(calling("kms:Decrypt", **interface("kms", PolicyDocument=policy)))

    assert codes(report) == {"reach-endpoint-policy"}


def test_a_condition_that_no_template_decides_is_not_proven() -> None:
    policy = document("kms:Decrypt", Condition={"StringEquals": {"aws:PrincipalOrgID": "o-1"}})

    report = proven(calling("kms:Decrypt", **interface("kms", PolicyDocument=policy)))

    assert codes(report) == set()
    assert codes(report, status="not proven") == {"reach-endpoint-policy"}


def test_an_action_that_the_policy_leaves_out_is_refused() -> None:
    policy = document("kms:Decrypt")

    report = proven(calling("kms:Decrypt", "kms:Encrypt", **interface("kms", PolicyDocument=policy)))

    assert codes(report) == {"reach-endpoint-policy"}
    assert "kms:Encrypt" in report.findings[0].message


def test_a_bucket_that_the_policy_leaves_out_is_refused() -> None:
    policy = document("s3:GetObject", on="arn:aws:s3:::one/*")
    buckets = ["arn:aws:s3:::one/*", "arn:aws:s3:::two/*"]

    report = proven(calling("s3:GetObject", on=buckets, **gateway("s3", "TableOne", PolicyDocument=policy)))

    assert codes(report) == {"reach-endpoint-policy"}


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
    assert codes(pulling_images(document("s3:GetObject", Condition=OWN))) == {"reach-endpoint-policy"}


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


@pytest.mark.parametrize("action", ["iot:Publish", "*"])
def test_an_action_whose_endpoint_is_not_known_is_refused(action: str) -> None:
    assert codes(proven(calling(action))) == {"reach-unknown-service"}


def test_a_managed_policy_outside_the_templates_is_not_proven() -> None:
    network = calling("kms:Decrypt", **interface("kms"))
    network["Role"]["Properties"]["ManagedPolicyArns"] = ["arn:aws:iam::aws:policy/ReadOnlyAccess"]

    assert codes(proven(network), status="not proven") == {"reach-policy-untold"}
