"""What of a tenant's templates costs by the hour."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Resource = Mapping[str, Any]
Kind = Literal["endpoint", "search", "unit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """``amount`` of something with a price, in one part of the bill."""

    part: str
    kind: Kind
    name: str
    """Of its price: an instance, or a unit."""
    amount: float
    only_on: bool = False
    """It is not there while the tenant is paused."""


BY_USE = frozenset(
    {
        "AWS::ApplicationAutoScaling::ScalableTarget",
        "AWS::CloudTrail::Trail",
        "AWS::DynamoDB::Table",
        "AWS::EC2::FlowLog",
        "AWS::ECR::Repository",
        "AWS::ECS::Service",
        "AWS::EMRServerless::Application",
        "AWS::Events::Rule",
        "AWS::Lambda::EventSourceMapping",
        "AWS::Lambda::Function",
        "AWS::Logs::LogGroup",
        "AWS::Logs::MetricFilter",
        "AWS::S3::Bucket",
        "AWS::SNS::Topic",
        "AWS::SQS::Queue",
        "AWS::SSM::Document",
        "AWS::SageMaker::Endpoint",
        "AWS::Scheduler::Schedule",
        "AWS::StepFunctions::StateMachine",
        "AWS::XRay::Group",
    }
)
"""Paid by what goes through or lies in them, or priced with another resource: nothing an hour themselves."""
FREE = frozenset(
    {
        "AWS::ApplicationAutoScaling::ScalingPolicy",
        "AWS::Budgets::Budget",
        "AWS::EC2::NetworkAcl",
        "AWS::EC2::NetworkAclEntry",
        "AWS::EC2::RouteTable",
        "AWS::EC2::SecurityGroup",
        "AWS::EC2::SecurityGroupEgress",
        "AWS::EC2::SecurityGroupIngress",
        "AWS::EC2::Subnet",
        "AWS::EC2::SubnetNetworkAclAssociation",
        "AWS::EC2::SubnetRouteTableAssociation",
        "AWS::EC2::VPC",
        "AWS::EC2::VPCEndpointService",
        "AWS::EC2::VPCEndpointServicePermissions",
        "AWS::ECS::Cluster",
        "AWS::ElasticLoadBalancingV2::Listener",
        "AWS::ElasticLoadBalancingV2::TargetGroup",
        "AWS::IAM::ManagedPolicy",
        "AWS::IAM::Policy",
        "AWS::IAM::Role",
        "AWS::Lambda::LayerVersion",
        "AWS::Lambda::Permission",
        "AWS::S3::BucketPolicy",
        "AWS::SNS::Subscription",
        "AWS::SNS::TopicPolicy",
        "AWS::SQS::QueuePolicy",
        "AWS::SSM::Parameter",
        "AWS::SageMaker::Model",
    }
)


def priced(templates: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """Yield what costs by the hour, in the order of the templates."""
    resources = [body for template in templates for body in template.get("Resources", {}).values()]
    tasks = _tasks(resources)
    for resource in resources:
        yield from _lines(resource, tasks=tasks)


def unknown_types(templates: Iterable[Mapping[str, Any]]) -> set[str]:
    """Return resource types of which nobody said whether they cost by the hour."""
    found = {body["Type"] for template in templates for body in template.get("Resources", {}).values()}
    return {one for one in found - BY_USE - FREE - set(_PRICED) if not one.startswith("Custom::")}


def _lines(resource: Resource, *, tasks: int) -> Iterator[Line]:
    properties = resource.get("Properties", {})
    match resource["Type"]:
        case "AWS::SageMaker::EndpointConfig":
            yield from _endpoint(properties)
        case "AWS::OpenSearchService::Domain":
            yield from _search(properties)
        case "AWS::ECS::TaskDefinition":
            yield _unit("Tasks", "task_vcpu", tasks * int(properties["Cpu"]) / 1024)
            yield _unit("Tasks", "task_gib", tasks * int(properties["Memory"]) / 1024)
        case "AWS::ElasticLoadBalancingV2::LoadBalancer":
            kind = properties.get("Type", "application")
            yield _unit("Balancers", f"{kind}_balancer", 1)
        case "AWS::EC2::VPCEndpoint" if properties.get("VpcEndpointType") == "Interface":
            yield _unit("Interface endpoints", "interface_endpoint_zone", len(properties["SubnetIds"]))
        case "AWS::KMS::Key":
            yield _unit("Keys, alarms, dashboard", "key", 1)
        case "AWS::CloudWatch::Dashboard":
            yield _unit("Keys, alarms, dashboard", "dashboard", 1)
        case "AWS::CloudWatch::Alarm":
            watched = sum("MetricStat" in part for part in properties.get("Metrics", ())) or 1
            yield _unit("Keys, alarms, dashboard", "alarm_metric", watched, only_on="Condition" in resource)
        case _:
            return


_PRICED = (
    "AWS::SageMaker::EndpointConfig",
    "AWS::OpenSearchService::Domain",
    "AWS::ECS::TaskDefinition",
    "AWS::ElasticLoadBalancingV2::LoadBalancer",
    "AWS::EC2::VPCEndpoint",
    "AWS::KMS::Key",
    "AWS::CloudWatch::Dashboard",
    "AWS::CloudWatch::Alarm",
)


def _endpoint(properties: Mapping[str, Any]) -> Iterator[Line]:
    """An endpoint's configuration is there while paused, and costs nothing: its instances do."""
    for variant in properties["ProductionVariants"]:
        count = float(variant["InitialInstanceCount"])
        yield Line(
            part="Endpoints", kind="endpoint", name=variant["InstanceType"], amount=count, only_on=True
        )
        if volume := variant.get("VolumeSizeInGB"):
            yield _unit("Endpoints", "endpoint_volume_gib_month", count * volume, only_on=True)


def _search(properties: Mapping[str, Any]) -> Iterator[Line]:
    cluster = properties["ClusterConfig"]
    count = float(cluster["InstanceCount"])
    yield Line(part="Search", kind="search", name=cluster["InstanceType"], amount=count)
    if cluster.get("DedicatedMasterEnabled"):
        masters = float(cluster["DedicatedMasterCount"])
        yield Line(part="Search", kind="search", name=cluster["DedicatedMasterType"], amount=masters)
    yield _unit("Search", "search_volume_gib_month", count * properties["EBSOptions"]["VolumeSize"])


def _tasks(resources: Iterable[Resource]) -> int:
    """Return the least number of tasks that run: what scaling keeps."""
    return max(
        (
            int(resource["Properties"]["MinCapacity"])
            for resource in resources
            if resource["Type"] == "AWS::ApplicationAutoScaling::ScalableTarget"
            and resource["Properties"].get("ServiceNamespace") == "ecs"
        ),
        default=0,
    )


def _unit(part: str, name: str, amount: float, *, only_on: bool = False) -> Line:
    return Line(part=part, kind="unit", name=name, amount=amount, only_on=only_on)
