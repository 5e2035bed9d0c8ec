"""Calls from a VPC that reach an endpoint and that do not; policies of the S3 endpoint."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from template_checks.findings import Status
from tests.unit.template_checks.small_templates import ABSENT, OPEN, PASSED, REFUSED, verdict

VPC = """
Vpc: {Type: AWS::EC2::VPC, Properties: {CidrBlock: 10.0.0.0/16, EnableDnsHostnames: true}}
Net: {Type: AWS::EC2::Subnet, Properties: {VpcId: !Ref Vpc}}
Table: {Type: AWS::EC2::RouteTable, Properties: {VpcId: !Ref Vpc}}
Link:
  Type: AWS::EC2::SubnetRouteTableAssociation
  Properties: {SubnetId: !Ref Net, RouteTableId: !Ref Table}
Role:
  Type: AWS::IAM::Role
  Properties:
    Policies:
      - PolicyDocument: {Statement: [{Effect: Allow, Action: [ACTIONS], Resource: "*"}]}
F:
  Type: AWS::Lambda::Function
  Properties: {Role: !GetAtt Role.Arn, VpcConfig: {SubnetIds: [!Ref Net], SecurityGroupIds: [sg-1]}}
"""
NAT = """
Out:
  Type: AWS::EC2::Route
  Properties: {RouteTableId: !Ref Table, DestinationCidrBlock: 0.0.0.0/0, NatGatewayId: n}
"""
QUEUE = """
Queue:
  Type: AWS::EC2::VPCEndpoint
  Properties: {VpcId: !Ref Vpc, VpcEndpointType: Interface, ServiceName: com.amazonaws.eu-west-1.sqs, MORE}
"""
POLLED = (
    "Poll: {Type: AWS::Lambda::EventSourceMapping, Properties: {FunctionName: !Ref F, EventSourceArn: q}}"
)
ZONE = """
Zone:
  Type: AWS::Route53::HostedZone
  Properties: {Name: sqs.eu-west-1.amazonaws.com, VPCs: [{VPCId: !Ref Vpc}]}
"""


@pytest.mark.parametrize(
    ("actions", "more", "status"),
    [
        ("sqs:SendMessage", "", REFUSED),
        ("sqs:SendMessage", NAT, ABSENT),
        ("sqs:SendMessage", QUEUE.replace("MORE", "PrivateDnsEnabled: true"), PASSED),
        ("sqs:SendMessage", QUEUE.replace("MORE", "PrivateDnsEnabled: false"), REFUSED),
        ("sqs:SendMessage", QUEUE.replace(", MORE", ""), REFUSED),
        ("sqs:SendMessage", QUEUE.replace("MORE", "PrivateDnsEnabled: false") + ZONE, PASSED),
        ("sqs:ReceiveMessage", POLLED, ABSENT),
        ("sqs:ReceiveMessage", "", REFUSED),
        ("logs:PutLogEvents, ec2:CreateNetworkInterface", "", ABSENT),
        ("es:ESHttpGet, iam:PassRole", "", ABSENT),
    ],
)
def test_a_call_needs_an_endpoint_only_in_a_closed_vpc(
    tmp_path: Path, actions: str, more: str, status: Status
) -> None:
    resources = VPC.replace("ACTIONS", actions) + dedent(more)
    assert verdict(tmp_path, 9, resources, region="eu-west-1") is status


@pytest.mark.parametrize(
    ("facts", "status"), [({"region": "eu-west-1"}, PASSED), ({"region": "eu-west-2"}, REFUSED), ({}, OPEN)]
)
def test_an_endpoint_of_another_region_does_not_count(
    tmp_path: Path, facts: dict[str, str], status: Status
) -> None:
    resources = VPC.replace("ACTIONS", "sqs:SendMessage") + QUEUE.replace("MORE", "PrivateDnsEnabled: true")
    assert verdict(tmp_path, 9, resources, **facts) is status


def test_an_endpoint_outside_the_templates_counts_when_the_facts_name_it(tmp_path: Path) -> None:
    resources = VPC.replace("ACTIONS", "sqs:SendMessage")
    assert verdict(tmp_path, 9, resources, existing_endpoints=["sqs"]) is PASSED


POLICY = """
E:
  Type: AWS::EC2::VPCEndpoint
  Properties: {{ServiceName: !Sub "com.amazonaws.${{AWS::Region}}.s3", VpcId: v, PolicyDocument: {policy}}}
R:
  Type: AWS::EC2::VPCEndpoint
  Properties:
    {{ServiceName: !Sub "com.amazonaws.${{AWS::Region}}.ecr.dkr", VpcId: v, VpcEndpointType: Interface,
     PrivateDnsEnabled: true}}
"""
LAYERS = '!Sub "arn:aws:s3:::prod-${AWS::Region}-starport-layer-bucket/*"'
EVERYTHING = '{Effect: Allow, Action: "s3:*", Resource: "*"}'


@pytest.mark.parametrize(
    ("policy", "status"),
    [
        (EVERYTHING, PASSED),
        (f'{{Effect: Allow, Action: "s3:GetObject", Resource: {LAYERS}}}', PASSED),
        (
            '{Effect: Allow, Action: "s3:Get*", '
            'Resource: "arn:aws:s3:::prod-eu-west-1-starport-layer-bucket/*"}',
            PASSED,
        ),
        (f'{{Effect: Allow, Action: "s3:PutObject", Resource: {LAYERS}}}', REFUSED),
        ('{Effect: Allow, Action: "s3:*", Resource: "arn:aws:s3:::docs/*"}', REFUSED),
        (
            '{Effect: Allow, Action: "s3:*", Resource: "*", '
            'Condition: {StringEquals: {aws:ResourceAccount: "111122223333"}}}',
            REFUSED,
        ),
        (EVERYTHING + ', {Effect: Deny, Action: "s3:*", NotResource: "arn:aws:s3:::docs/*"}', REFUSED),
    ],
)
def test_image_layers_pass_the_endpoint(tmp_path: Path, policy: str, status: Status) -> None:
    assert verdict(tmp_path, 10, POLICY.format(policy=f"{{Statement: [{policy}]}}")) is status
