"""A network of a few resources, written by hand: two stations in one VPC, and rules to add."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from assistant.cli.aws.templates import prove
from template_checks.reachability import Report
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
