"""What templates cost by the hour, whether used or not, and which resource types they have.

Names of prices (``task_vcpu``, an instance type) are keys of the price list of ``assistant/cli/aws/cost.py``,
which multiplies them with the amounts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """An amount of something with a price, in one part of the bill:
    ``Line("Search", "m7g.large.search", 3.0, "search")``."""

    part: str
    name: str
    """Name of its price: an instance type, or a unit."""
    amount: float
    kind: Literal["endpoint", "search", "unit"] = "unit"
    """Price list: instances of SageMaker, of OpenSearch, or everything else."""
    only_on: bool = False
    """Whether it costs nothing while the tenant is paused."""


LLM = "LLM endpoint"
"""Part of the bill that a tenant without an LLM does not have."""
EMBEDDING = "Embedding endpoint"


def priced(templates: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """Yield what has a price for each hour of its existence, in the order of the templates (JSON of
    CloudFormation)."""
    resources = _resources(templates)
    tasks = _tasks(body for _, body in resources)
    for name, resource in resources:
        if lines := PRICED.get(resource["Type"]):
            yield from lines(resource, tasks, name)


def resource_types(templates: Iterable[Mapping[str, Any]]) -> Counter[str]:
    """Return how many resources of each type there are, without custom resources, which cost nothing
    themselves."""
    types = (body["Type"] for template in templates for body in template.get("Resources", {}).values())
    return Counter(name for name in types if not name.startswith("Custom::"))


def _resources(templates: Iterable[Mapping[str, Any]]) -> list[tuple[str, Resource]]:
    """Return logical id and body of all resources, without task definitions that no service runs: scheduled
    tasks cost for the minutes that they run."""
    kept: list[tuple[str, Resource]] = []
    for template in templates:
        bodies: Mapping[str, Resource] = template.get("Resources", {})
        services = [body["Properties"] for body in bodies.values() if body["Type"] == "AWS::ECS::Service"]
        served = {service["TaskDefinition"]["Ref"] for service in services}
        kept += [item for item in bodies.items() if item[1]["Type"] != _DEFINITION or item[0] in served]
    return kept


def _endpoint(resource: Resource, _tasks: int, name: str) -> Iterator[Line]:
    """Yield the instances of an endpoint, by its configuration. In a pause the endpoint is removed and the
    configuration, which costs nothing, stays: hence ``only_on``. ``name``: the logical id, which begins with
    ``Llm`` for the LLM's.
    """
    part = LLM if name.startswith("Llm") else EMBEDDING
    for variant in resource["Properties"]["ProductionVariants"]:
        count = float(variant["InitialInstanceCount"])
        yield Line(part, variant["InstanceType"], count, "endpoint", only_on=True)
        if volume := variant.get("VolumeSizeInGB"):
            yield Line(part, "endpoint_volume_gib_month", count * volume, only_on=True)


def _search(resource: Resource, _tasks: int, _name: str) -> Iterator[Line]:
    cluster = resource["Properties"]["ClusterConfig"]
    count = float(cluster["InstanceCount"])
    yield Line("Search", cluster["InstanceType"], count, "search")
    if cluster.get("DedicatedMasterEnabled"):
        yield Line("Search", cluster["DedicatedMasterType"], float(cluster["DedicatedMasterCount"]), "search")
    volume = resource["Properties"]["EBSOptions"]["VolumeSize"]
    yield Line("Search", "search_volume_gib_month", count * volume)


def _task(resource: Resource, tasks: int, _name: str) -> Iterator[Line]:
    properties = resource["Properties"]
    arm = "_arm" if properties["RuntimePlatform"]["CpuArchitecture"] == "ARM64" else ""
    yield Line("Tasks", f"task_vcpu{arm}", tasks * int(properties["Cpu"]) / 1024)
    yield Line("Tasks", f"task_gib{arm}", tasks * int(properties["Memory"]) / 1024)


_INSIGHTS = 47
"""Metrics of Container Insights: 12 of a cluster, 15 of a service, 10 of each of two task definitions (its
page in the CloudWatch user guide)."""


def _cluster(resource: Resource, _tasks: int, _name: str) -> Iterator[Line]:
    settings = resource["Properties"]["ClusterSettings"]
    if {"Name": "containerInsights", "Value": "enabled"} in settings:
        yield Line("Watching", "custom_metric", _INSIGHTS)


def _balancer(resource: Resource, _tasks: int, _name: str) -> Iterator[Line]:
    yield Line("Balancers", f"{resource['Properties'].get('Type', 'application')}_balancer", 1)


def _interface_endpoint(resource: Resource, _tasks: int, _name: str) -> Iterator[Line]:
    properties = resource["Properties"]
    if properties.get("VpcEndpointType") == "Interface":
        yield Line("Network", "interface_endpoint_zone", len(properties["SubnetIds"]))


def _alarm(resource: Resource, _tasks: int, _name: str) -> Iterator[Line]:
    # An alarm is paid by the metrics that it watches; those with a condition exist while endpoints do.
    watched = sum("MetricStat" in part for part in resource["Properties"].get("Metrics", ())) or 1
    yield Line("Watching", "alarm_metric", watched, only_on="Condition" in resource)


_DEFINITION = "AWS::ECS::TaskDefinition"
_SCALED = "AWS::ApplicationAutoScaling::ScalableTarget"
PRICED: Mapping[str, Callable[[Resource, int, str], Iterable[Line]]] = {
    "AWS::SageMaker::EndpointConfig": _endpoint,
    "AWS::OpenSearchService::Domain": _search,
    _DEFINITION: _task,
    "AWS::ECS::Cluster": _cluster,
    "AWS::ElasticLoadBalancingV2::LoadBalancer": _balancer,
    "AWS::EC2::VPCEndpoint": _interface_endpoint,
    "AWS::KMS::Key": lambda _, __, ___: [Line("Keys and secrets", "key", 1)],
    "AWS::SecretsManager::Secret": lambda _, __, ___: [Line("Keys and secrets", "secret", 1)],
    "AWS::CloudWatch::Dashboard": lambda _, __, ___: [Line("Watching", "dashboard", 1)],
    "AWS::CloudWatch::Alarm": _alarm,
}
"""By type, what a resource costs. The function gets the resource, the number of tasks, and the logical id."""
PRICED_BY = PRICED.keys() | {"AWS::ECS::Service", _SCALED}
"""Types that ``priced`` reads."""


def _tasks(resources: Iterable[Resource]) -> int:
    """Return the minimum number of tasks of the service, which its scaling keeps; 0 without one."""
    scaled = [resource["Properties"] for resource in resources if resource["Type"] == _SCALED]
    kept = (int(target["MinCapacity"]) for target in scaled if target.get("ServiceNamespace") == "ecs")
    return max(kept, default=0)
