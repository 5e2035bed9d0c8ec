"""``python -m tools.costs [cdk.out]``: writes the table of hourly costs into docs/from-nothing.md."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assistant.domain.errors import ConfigurationError
from assistant.settings.prices import HOURS_A_MONTH, Kind, Prices, load_prices
from template_checks.upgrades import templates_by_stack_name
from tools.tables import markdown_table, with_table

Resource = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Line:
    """An amount of something with a price, in one part of the bill."""

    part: str
    name: str
    """Name of its price: an instance type, or a unit."""
    amount: float
    kind: Kind = "unit"
    only_on: bool = False
    """Whether it costs nothing while the tenant is paused."""


def priced(templates: Iterable[Mapping[str, Any]]) -> Iterator[Line]:
    """Yield what costs by the hour, in the order of the templates."""
    resources = _resources(templates)
    tasks = _tasks(resources)
    for resource in resources:
        if lines := _PRICED.get(resource["Type"]):
            yield from lines(resource, tasks)


def unknown_types(templates: Iterable[Mapping[str, Any]], prices: Prices) -> set[str]:
    """Return the resource types of which nobody said whether they cost by the hour."""
    types = {resource["Type"] for resource in _resources(templates)}
    known = prices.by_use | prices.free | _PRICED.keys()
    return {one for one in types - known if not one.startswith("Custom::")}


def _resources(templates: Iterable[Mapping[str, Any]]) -> list[Resource]:
    """Return all but the tasks of schedules, which cost for the minutes that they run."""
    found: list[Resource] = []
    for template in templates:
        bodies: Mapping[str, Resource] = template.get("Resources", {})
        services = [body["Properties"] for body in bodies.values() if body["Type"] == "AWS::ECS::Service"]
        served = {service["TaskDefinition"]["Ref"] for service in services}
        found += [body for name, body in bodies.items() if body["Type"] != _DEFINITION or name in served]
    return found


def _endpoint(resource: Resource, _tasks: int) -> Iterator[Line]:
    """Yield an endpoint's instances; while paused the configuration stays without them, and costs nothing.

    A canary's configuration has two variants. It costs while a release uses it, which shows that price.
    """
    variants = resource["Properties"]["ProductionVariants"]
    for variant in variants if len(variants) == 1 else ():
        count = float(variant["InitialInstanceCount"])
        yield Line("Endpoints", variant["InstanceType"], count, "endpoint", only_on=True)
        if volume := variant.get("VolumeSizeInGB"):
            yield Line("Endpoints", "endpoint_volume_gib_month", count * volume, only_on=True)


def _search(resource: Resource, _tasks: int) -> Iterator[Line]:
    cluster = resource["Properties"]["ClusterConfig"]
    count = float(cluster["InstanceCount"])
    yield Line("Search", cluster["InstanceType"], count, "search")
    if cluster.get("DedicatedMasterEnabled"):
        yield Line("Search", cluster["DedicatedMasterType"], float(cluster["DedicatedMasterCount"]), "search")
    volume = resource["Properties"]["EBSOptions"]["VolumeSize"]
    yield Line("Search", "search_volume_gib_month", count * volume)


def _task(resource: Resource, tasks: int) -> Iterator[Line]:
    yield Line("Tasks", "task_vcpu", tasks * int(resource["Properties"]["Cpu"]) / 1024)
    yield Line("Tasks", "task_gib", tasks * int(resource["Properties"]["Memory"]) / 1024)


def _balancer(resource: Resource, _tasks: int) -> Iterator[Line]:
    yield Line("Balancers", f"{resource['Properties'].get('Type', 'application')}_balancer", 1)


def _interface_endpoint(resource: Resource, _tasks: int) -> Iterator[Line]:
    properties = resource["Properties"]
    if properties.get("VpcEndpointType") == "Interface":
        yield Line("Interface endpoints", "interface_endpoint_zone", len(properties["SubnetIds"]))


def _alarm(resource: Resource, _tasks: int) -> Iterator[Line]:
    watched = sum("MetricStat" in part for part in resource["Properties"].get("Metrics", ())) or 1
    yield Line(_REST, "alarm_metric", watched, only_on="Condition" in resource)


_REST = "Keys, secrets, alarms, dashboard"
_DEFINITION = "AWS::ECS::TaskDefinition"
_PRICED: Mapping[str, Callable[[Resource, int], Iterable[Line]]] = {
    "AWS::SageMaker::EndpointConfig": _endpoint,
    "AWS::OpenSearchService::Domain": _search,
    _DEFINITION: _task,
    "AWS::ElasticLoadBalancingV2::LoadBalancer": _balancer,
    "AWS::EC2::VPCEndpoint": _interface_endpoint,
    "AWS::KMS::Key": lambda _, __: [Line(_REST, "key", 1)],
    "AWS::SecretsManager::Secret": lambda _, __: [Line(_REST, "secret", 1)],
    "AWS::CloudWatch::Dashboard": lambda _, __: [Line(_REST, "dashboard", 1)],
    "AWS::CloudWatch::Alarm": _alarm,
}


def _tasks(resources: Iterable[Resource]) -> int:
    """Return the minimum number of tasks that scaling keeps."""
    scaled = [
        resource["Properties"]
        for resource in resources
        if resource["Type"] == "AWS::ApplicationAutoScaling::ScalableTarget"
    ]
    kept = (int(target["MinCapacity"]) for target in scaled if target.get("ServiceNamespace") == "ecs")
    return max(kept, default=0)


PAGE = Path(__file__).parents[1] / "docs" / "from-nothing.md"


def with_costs(page: str, *, assembly: Path, prices: Prices) -> str:
    """Return the page with a new table of costs, for every tenant of ``cdk.out``.

    Raises ConfigurationError where something has no price.
    """
    tenants = {
        folder.name.removeprefix("assembly-").lower(): list(
            priced(template for _, template in sorted(templates_by_stack_name(folder).items()))
        )
        for folder in sorted(assembly.glob("assembly-*"))
    }
    return with_table(page, markdown(tenants, prices), begin="costs, made by", end="end of costs")


def markdown(tenants: Mapping[str, Sequence[Line]], prices: Prices) -> str:
    """Return a row a part of the bill, two columns a tenant: on and paused, in USD an hour."""
    columns = [f"{name} {state}" for name in tenants for state in ("on", "paused")]

    def row(title: str, shape: str, *, part: str | None = None, hours: int = 1) -> list[str]:
        costs = [cost * hours for lines in tenants.values() for cost in _cost(lines, prices, part=part)]
        return [title, *(format(cost, shape) for cost in costs)]

    parts = dict.fromkeys(line.part for lines in tenants.values() for line in lines)
    rows = [row(part, ".2f", part=part) for part in parts]
    rows.append(row("**together**", ".2f"))
    rows.append(row(f"USD a month of {HOURS_A_MONTH} hours", ",.0f", hours=HOURS_A_MONTH))
    return markdown_table([f"USD an hour, {prices.region}, prices of {prices.date}", *columns], rows)


def _cost(lines: Sequence[Line], prices: Prices, *, part: str | None = None) -> tuple[float, float]:
    """Return the cost an hour while on, and while paused."""
    some = [line for line in lines if part is None or line.part == part]
    costs = [(line, line.amount * prices.of(line.kind, line.name).usd_per_hour) for line in some]
    return sum(cost for _, cost in costs), sum(cost for line, cost in costs if not line.only_on)


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
