"""Stations: everything with a security group or an address in a subnet, with its kind."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from template_checks.facts import IntendedPaths
from template_checks.networks import Key, Network, Peer, key_of, networks_of
from template_checks.policies import trusted_services
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, items, targets, text

GROUP = "AWS::EC2::SecurityGroup"
SERVICE = "AWS::ECS::Service"
VPC = "AWS::EC2::VPC"
_GROUP_ID = re.compile(r"^sg-[0-9a-z]+$")
_SUBNET_ID = re.compile(r"^subnet-[0-9a-z-]+$")
_WITHOUT_ADDRESS = (
    GROUP,
    "AWS::EC2::SecurityGroupIngress",
    "AWS::EC2::SecurityGroupEgress",
    "AWS::EC2::SubnetRouteTableAssociation",
    "AWS::EC2::SubnetNetworkAclAssociation",
    "AWS::EC2::SubnetCidrBlock",
    "AWS::EC2::FlowLog",
    "AWS::EC2::NatGateway",
    "AWS::SSM::Parameter",
    "AWS::IAM::Role",
    "AWS::IAM::Policy",
    "AWS::IAM::ManagedPolicy",
)
"""Types that name groups or subnets and have no address in them, or are checked as routes."""
_JOB_PRINCIPALS = ("sagemaker.amazonaws.com", "emr-serverless.amazonaws.com")
"""Services that run jobs. A role for one of them that no resource uses belongs to jobs started later."""


class Kind(StrEnum):
    """Kinds that a resource's type decides. An owner's names for functions and tasks are added to them."""

    NLB = "network load balancer"
    ALB = "application load balancer"
    SEARCH = "search domain"
    MODELS = "model instances"
    JOBS = "jobs"
    AWS = "endpoints of AWS services"
    SYSTEM = "company system"
    S3 = "S3"
    DYNAMODB = "DynamoDB"


_TYPES = {
    "AWS::OpenSearchService::Domain": Kind.SEARCH,
    "AWS::SageMaker::Model": Kind.MODELS,
    "AWS::EMRServerless::Application": Kind.JOBS,
    "AWS::SSM::Document": Kind.JOBS,  # a runbook has no address; what it starts has
}


def _kind(resource: Resource, intended: IntendedPaths) -> str:
    """Return what a resource is for; its type and name if neither its type nor its owner says."""
    properties = resource.properties
    found: str | None = _TYPES.get(resource.type)
    match resource.type:
        case "AWS::ElasticLoadBalancingV2::LoadBalancer":
            found = Kind.NLB if text(properties.get("Type")) == "network" else Kind.ALB
        case "AWS::Lambda::Function":
            # The entry point of an image gets the handler's name as its command.
            command = items(at(properties.get("ImageConfig"), "Command"))
            handler = text(properties.get("Handler") or next(iter(command), None))
            found = next(
                (k for name, k in intended.functions.items() if handler.startswith(f"{name}.")), None
            )
        case "AWS::EC2::VPCEndpoint":
            is_aws = re.match(r"(cn\.)?com\.amazonaws\.(?!vpce\.)", text(properties.get("ServiceName")))
            found = Kind.AWS if is_aws else Kind.SYSTEM
        case "AWS::EC2::SecurityGroup":
            found = intended.unattached_groups.get(text(properties.get("GroupDescription")))
        case "AWS::ECS::Service":
            found = intended.tasks
        case _:
            pass
    return found or f"{resource.type} {resource.logical_id}"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Station:
    """One thing with addresses in a VPC; ``resource`` is its security group if no resource here has it."""

    name: str
    kind: str
    resource: Resource
    vpc: Key
    groups: tuple[Key, ...]
    subnets: tuple[Value, ...]
    networks: tuple[Network, ...]
    roles: tuple[Value, ...] = field(default=())
    """With which it calls AWS."""

    @property
    def peer(self) -> Peer:
        return Peer(groups=self.groups, networks=self.networks)

    @property
    def row_name(self) -> str:
        """The name in rows: a company system's own, else the kind."""
        return f"{self.kind} {self.name}" if self.kind == Kind.SYSTEM else str(self.kind)

    @property
    def finding_name(self) -> str:
        """The name in findings: kind and own name."""
        return f"{self.kind} ({self.name})"

    @property
    def has_known_subnets(self) -> bool:
        """Whether the templates contain its subnets, and so their routes and network ACLs."""
        return bool(self.subnets) and all(isinstance(subnet, Target) for subnet in self.subnets)


def stations(templates: Templates, intended: IntendedPaths) -> list[Station]:
    """Return everything in a VPC, then the security groups that no resource here has."""
    found = [station for resource in templates.of() for station in _station(resource, intended)]
    attached = {group for station in found for group in station.groups}
    used = tuple({key_of(subnet): subnet for station in found for subnet in station.subnets}.values())
    unattached = [
        Station(
            name=group.logical_id,
            kind=_kind(group, intended),
            resource=group,
            vpc=key_of(group.properties.get("VpcId")),
            groups=(group,),
            subnets=used,
            networks=networks_of(used),
        )
        for group in templates.of(GROUP)
        if group not in attached
    ]
    used_roles = {key_of(role) for station in found for role in station.roles}
    roles_of_jobs = tuple(
        Target(role, "Arn")
        for role in templates.of("AWS::IAM::Role")
        if role not in used_roles and any(one in _JOB_PRINCIPALS for one in trusted_services(role))
    )
    return [
        replace(station, roles=roles_of_jobs) if station.kind == Kind.JOBS else station
        for station in (*found, *unattached)
    ]


def _station(resource: Resource, intended: IntendedPaths) -> Iterator[Station]:
    if resource.type in _WITHOUT_ADDRESS:
        return
    properties = dict(resource.properties)
    named, plain = targets(properties), list(_texts(properties))
    groups = _unique([*filter(_is_group, named), *filter(_GROUP_ID.match, plain)])
    own_subnets = [Target(one.resource) for one in named if _is_subnet(one)]
    subnets = _unique([*own_subnets, *filter(_SUBNET_ID.match, plain)])
    if not groups and not subnets:
        return
    keys = tuple(key_of(group) for group in groups)
    tags = items(properties.get("Tags"))
    names = (text(at(tag, "Value")) for tag in tags if text(at(tag, "Key")) == "Name")
    yield Station(
        name=next(names, resource.logical_id),
        kind=_kind(resource, intended),
        resource=resource,
        vpc=_vpc(keys, subnets),
        groups=keys,
        subnets=tuple(subnets),
        networks=networks_of(subnets),
        roles=tuple(_roles(resource)),
    )


def _is_group(target: Target) -> bool:
    is_default = target.resource.type == VPC and target.attribute == "DefaultSecurityGroup"
    return target.resource.type == GROUP or is_default


def _is_subnet(target: Target) -> bool:
    return target.resource.type == "AWS::EC2::Subnet" and target.attribute in ("Ref", "SubnetId")


def _vpc(groups: tuple[Key, ...], subnets: list[Value]) -> Key:
    for group in groups:
        if isinstance(group, Resource) and "VpcId" in group.properties:
            return key_of(group.properties["VpcId"])
    for subnet in subnets:
        if isinstance(subnet, Target):
            return key_of(subnet.resource.properties.get("VpcId"))
    return "an unknown VPC"


def _texts(value: Value) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _roles(resource: Resource) -> Iterator[Value]:
    properties = resource.properties
    match resource.type:
        case "AWS::Lambda::Function":
            yield properties.get("Role")
        case "AWS::SageMaker::Model":
            yield properties.get("ExecutionRoleArn")
        case "AWS::ECS::Service":
            for definition in targets(properties.get("TaskDefinition")):
                for name in ("TaskRoleArn", "ExecutionRoleArn"):
                    yield definition.resource.properties.get(name)
        case _:
            return


def _unique(values: Iterable[Value]) -> list[Value]:
    return list({text(value): value for value in values}.values())
