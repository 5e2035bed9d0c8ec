"""What each thing in the tenant's network is for, and the paths that are meant to be: written once, by
meaning, and nowhere derived from the code that makes the templates."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum

from template_checks.networks import Key, Network, Peer, key_of, networks_of
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, items, targets, text


class Kind(StrEnum):
    CARE_SIDE = "care side"
    NLB = "network load balancer"
    ALB = "application load balancer"
    ORCHESTRATOR = "orchestrator"
    SEARCH = "search domain"
    INGESTION = "ingestion functions"
    SET_UP = "set-up functions"
    REDACTOR = "redactor"
    MODELS = "model instances"
    JOBS = "jobs"
    AWS = "endpoints of AWS services"
    SYSTEM = "company system"
    S3 = "S3"
    DYNAMODB = "DynamoDB"


@dataclass(frozen=True, slots=True)
class Path:
    """TCP connections that are meant to be."""

    source: Kind
    target: Kind
    ports: tuple[int, ...] = (443,)


_CALLERS = (Kind.ORCHESTRATOR, Kind.INGESTION, Kind.SET_UP, Kind.REDACTOR, Kind.JOBS)
DECLARED = (
    # The one way in: TLS from the care side to the ALB, encrypted again to the tasks.
    Path(Kind.CARE_SIDE, Kind.NLB),
    Path(Kind.NLB, Kind.ALB, (443, 8443)),
    Path(Kind.ALB, Kind.ORCHESTRATOR, (8700,)),
    # Who searches, who writes the index, who sets it up.
    Path(Kind.ORCHESTRATOR, Kind.SEARCH),
    Path(Kind.INGESTION, Kind.SEARCH),
    Path(Kind.SET_UP, Kind.SEARCH),
    # Who calls AWS. The instances of models fetch their artifact and write what they capture, no more.
    *(Path(caller, Kind.AWS) for caller in _CALLERS),
    *(Path(caller, Kind.S3) for caller in (*_CALLERS, Kind.MODELS)),
    # Behind gateway endpoints the two share route tables and, without prefix lists, rules: who reaches one
    # reaches the other, and roles and endpoint policies decide.
    *(Path(caller, Kind.DYNAMODB) for caller in (*_CALLERS, Kind.MODELS)),
)
SYSTEM_CALLERS = (Kind.ORCHESTRATOR, Kind.INGESTION)
"""Who may be the one caller of a company system, on the one port of its entry."""

_FUNCTIONS = {
    "receive_documents": Kind.INGESTION,
    "ingest_documents": Kind.INGESTION,
    "withdraw_documents": Kind.INGESTION,
    "purge_index": Kind.INGESTION,
    "apply_search_schema": Kind.SET_UP,
    "create_link_secret": Kind.SET_UP,
    "redact_capture": Kind.REDACTOR,
    "sweep_quarantine": Kind.REDACTOR,
}
_TYPES = {
    "AWS::ECS::Service": Kind.ORCHESTRATOR,
    "AWS::OpenSearchService::Domain": Kind.SEARCH,
    "AWS::SageMaker::Model": Kind.MODELS,
    "AWS::EMRServerless::Application": Kind.JOBS,
    "AWS::SSM::Document": Kind.JOBS,  # a runbook has no address itself: what it starts there has
}
JOB_PRINCIPALS = ("sagemaker.amazonaws.com", "emr-serverless.amazonaws.com")
"""Who runs jobs: a role for one of them that nothing in the templates uses is a job's, started later."""
_SPARE = {
    "Jobs of the assistant": Kind.JOBS,
    "Redactor of the assistant": Kind.REDACTOR,
    "Ingestion of the assistant": Kind.INGESTION,
    "Schema of the assistant": Kind.SET_UP,
}
"""Groups that nothing in the templates carries, by their description: jobs are started with it later."""


def kind_of(resource: Resource) -> Kind | str:
    """Return what a resource is for; its type and name where nothing here tells that."""
    properties = resource.properties
    match resource.type:
        case "AWS::ElasticLoadBalancingV2::LoadBalancer":
            return Kind.NLB if text(properties.get("Type")) == "network" else Kind.ALB
        case "AWS::Lambda::Function":
            handler = re.match(r"lambdas\.(\w+)\.", text(properties.get("Handler")))
            found = _FUNCTIONS.get(handler.group(1)) if handler else None
        case "AWS::EC2::VPCEndpoint":
            is_aws = re.match(r"(cn\.)?com\.amazonaws\.(?!vpce\.)", text(properties.get("ServiceName")))
            found = Kind.AWS if is_aws else Kind.SYSTEM
        case "AWS::EC2::SecurityGroup":
            found = _SPARE.get(text(properties.get("GroupDescription")))
        case _:
            found = _TYPES.get(resource.type)
    return found or f"{resource.type} {resource.logical_id}"


# What stands in a VPC: everything that carries a security group or has an address in a subnet.


GROUP = "AWS::EC2::SecurityGroup"
SUBNET = "AWS::EC2::Subnet"
VPC = "AWS::EC2::VPC"
_GROUP_ID = re.compile(r"^sg-[0-9a-z]+$")
_SUBNET_ID = re.compile(r"^subnet-[0-9a-z-]+$")
_PLUMBING = (
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
"""What names groups or subnets and has no address in them, or is judged as a route."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Station:
    """One thing with addresses in a VPC; ``resource`` is its group where nothing here carries it."""

    name: str
    kind: Kind | str
    resource: Resource
    vpc: Key
    groups: tuple[Key, ...]
    subnets: tuple[Value, ...]
    networks: tuple[Network, ...]
    roles: tuple[Value, ...] = field(default=())
    """By which it calls AWS."""

    @property
    def peer(self) -> Peer:
        return Peer(groups=self.groups, networks=self.networks)

    @property
    def resource_name(self) -> str:
        """Return how findings name it."""
        return f"{self.kind} ({self.name})"

    @property
    def has_known_subnets(self) -> bool:
        """Whether the templates hold its subnets, and so what routes and network ACLs they have."""
        return bool(self.subnets) and all(isinstance(subnet, Target) for subnet in self.subnets)


def stations(templates: Templates) -> list[Station]:
    """Return everything that stands in a VPC, then the groups that nothing here carries."""
    found = [station for resource in templates.of() for station in _station(resource)]
    carried = {group for station in found for group in station.groups}
    used = tuple({key_of(subnet): subnet for station in found for subnet in station.subnets}.values())
    spare = [
        Station(
            name=group.logical_id,
            kind=kind_of(group),
            resource=group,
            vpc=key_of(group.properties.get("VpcId")),
            groups=(group,),
            subnets=used,
            networks=networks_of(used),
        )
        for group in templates.of(GROUP)
        if group not in carried
    ]
    return [_with_jobs(station, templates, found) for station in (*found, *spare)]


def _with_jobs(station: Station, templates: Templates, found: list[Station]) -> Station:
    """Return where jobs run with the roles that they will be started with."""
    if station.kind != Kind.JOBS:
        return station
    used = {key_of(role) for other in found for role in other.roles}
    roles = [role for role in templates.of("AWS::IAM::Role") if role not in used and _runs_jobs(role)]
    return replace(station, roles=tuple(Target(role, "Arn") for role in roles))


def _runs_jobs(role: Resource) -> bool:
    trust = role.properties.get("AssumeRolePolicyDocument")
    return any(
        text(service) in JOB_PRINCIPALS
        for statement in items(at(trust, "Statement"))
        for service in items(at(statement, "Principal", "Service"))
    )


def _station(resource: Resource) -> Iterator[Station]:
    if resource.type in _PLUMBING:
        return
    named, plain = targets(dict(resource.properties)), list(_texts(dict(resource.properties)))
    groups = _unique([*_groups(named), *filter(_GROUP_ID.match, plain)])
    subnets = _unique([*_subnets(named), *filter(_SUBNET_ID.match, plain)])
    if not groups and not subnets:
        return
    keys = tuple(key_of(group) for group in groups)
    yield Station(
        name=_name(resource),
        kind=kind_of(resource),
        resource=resource,
        vpc=_vpc(keys, subnets),
        groups=keys,
        subnets=tuple(subnets),
        networks=networks_of(subnets),
        roles=tuple(_roles(resource)),
    )


def _name(resource: Resource) -> str:
    """Return the tag ``Name`` of a resource, or its logical id."""
    tags = items(resource.properties.get("Tags"))
    names = (text(at(tag, "Value")) for tag in tags if text(at(tag, "Key")) == "Name")
    return next(names, resource.logical_id)


def _vpc(groups: tuple[Key, ...], subnets: list[Value]) -> Key:
    for group in groups:
        if isinstance(group, Resource) and "VpcId" in group.properties:
            return key_of(group.properties["VpcId"])
    for subnet in subnets:
        if isinstance(subnet, Target):
            return key_of(subnet.resource.properties.get("VpcId"))
    return "an unknown VPC"


def _groups(named: Iterable[Target]) -> Iterator[Value]:
    for target in named:
        of_vpc = target.resource.type == VPC and target.attribute == "DefaultSecurityGroup"
        if target.resource.type == GROUP or of_vpc:
            yield target


def _subnets(named: Iterable[Target]) -> Iterator[Value]:
    for target in named:
        if target.resource.type == SUBNET and target.attribute in ("Ref", "SubnetId"):
            yield Target(target.resource)


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
