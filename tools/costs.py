"""``python -m tools.costs [cdk.out]``: writes the table of hourly costs into docs/from-nothing.md."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from assistant.domain.errors import ConfigurationError
from assistant.settings.toml_file import read_strict
from template_checks.upgrades import templates_by_stack_name

Resource = Mapping[str, Any]
Kind = Literal["endpoint", "search", "unit"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An amount of something with a price, in one part of the bill."""

    part: str
    kind: Kind
    name: str
    """Name of its price: an instance type, or a unit."""
    amount: float
    only_on: bool = False
    """Whether it costs nothing while the tenant is paused."""


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
"""Paid by use, or priced with another resource: no hourly cost of their own."""
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
    """Return the resource types that are in none of the lists here."""
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
    """Yield an endpoint's instances; while paused the configuration stays without them, and costs nothing."""
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
    """Return the minimum number of tasks that scaling keeps."""
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


FILE = Path(__file__).with_name("prices-2026-11-20.toml")


class Price(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    usd_per_hour: float = Field(gt=0)
    found: Literal["api", "pages", "list", "estimate"]
    """Where the price is from; the head of the file defines each."""
    source: str = Field(min_length=1)


class Prices(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str
    date: str = Field(pattern=r"^\d{4}-\d\d-\d\d$")
    endpoint: Mapping[str, Price]
    """By SageMaker's name of the instance."""
    search: Mapping[str, Price]
    """By OpenSearch Service's name of the instance."""
    unit: Mapping[str, Price]

    def of(self, kind: Literal["endpoint", "search", "unit"], name: str) -> Price:
        """Return a price. Raises ConfigurationError when there is none."""
        table: Mapping[str, Price] = getattr(self, kind)
        try:
            return table[name]
        except KeyError:
            raise ConfigurationError(f"{FILE}: there is no price [{kind}.{name!r}]; add it.") from None


def load_prices(path: Path = FILE) -> Prices:
    """Read the dated file of prices. Raises ConfigurationError naming file, line and key."""
    return read_strict(path, Prices)


PAGE = Path(__file__).parents[1] / "docs" / "from-nothing.md"
BEGIN = "<!-- costs, made by python -m tools.costs -->"
END = "<!-- end of costs -->"
HOURS_A_MONTH = 730


def with_costs(page: str, *, assembly: Path, prices: Prices) -> str:
    """Return the page with a new table of costs, for every tenant of ``cdk.out``.

    Raises ConfigurationError where something has no price.
    """
    head, _, rest = page.partition(BEGIN)
    _, _, tail = rest.partition(END)
    tenants = {
        folder.name.removeprefix("assembly-").lower(): list(
            priced(template for _, template in sorted(templates_by_stack_name(folder).items()))
        )
        for folder in sorted(assembly.glob("assembly-*"))
    }
    return f"{head}{BEGIN}\n{markdown(tenants, prices)}{END}{tail}"


def markdown(tenants: Mapping[str, Sequence[Line]], prices: Prices) -> str:
    """Return a row a part of the bill, two columns a tenant: on and paused, in USD an hour."""
    parts = list(dict.fromkeys(line.part for lines in tenants.values() for line in lines))
    names = list(tenants)
    rows = [
        f"| USD an hour, {prices.region}, prices of {prices.date} | "
        + " | ".join(f"{name} on | {name} paused" for name in names)
        + " |",
        "| --- |" + " --- | --- |" * len(names),
    ]
    for part in parts:
        rows.append(_row(part, [_cost(tenants[name], prices, part=part) for name in names]))
    whole = [_cost(tenants[name], prices) for name in names]
    rows.append(_row("**together**", whole))
    months = [(on * HOURS_A_MONTH, paused * HOURS_A_MONTH) for on, paused in whole]
    rows.append(
        "| USD a month of 730 hours | " + " | ".join(f"{on:,.0f} | {off:,.0f}" for on, off in months) + " |"
    )
    return "\n".join(rows) + "\n"


def _cost(lines: Sequence[Line], prices: Prices, *, part: str | None = None) -> tuple[float, float]:
    """Return the cost an hour while on, and while paused."""
    some = [line for line in lines if part is None or line.part == part]
    costs = [(line, line.amount * prices.of(line.kind, line.name).usd_per_hour) for line in some]
    return sum(cost for _, cost in costs), sum(cost for line, cost in costs if not line.only_on)


def _row(name: str, costs: Sequence[tuple[float, float]]) -> str:
    return f"| {name} | " + " | ".join(f"{on:.2f} | {paused:.2f}" for on, paused in costs) + " |"


def main(assembly: Path) -> None:
    if not (assembly / "manifest.json").exists():
        raise ConfigurationError(f"{assembly}: no templates here; run make synth first.")
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(with_costs(page, assembly=assembly, prices=load_prices()), encoding="utf-8")


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else "cdk.out"))
    except ConfigurationError as error:
        sys.exit(error.message)
