"""Everything that the proof looks at, of templates in one world."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from template_checks.facts import Facts
from template_checks.load_balancing import LoadBalancing, port_of
from template_checks.reachability.calls import Calls
from template_checks.reachability.connections import Connections
from template_checks.reachability.kinds import Kind
from template_checks.reachability.routes import RouteTables
from template_checks.reachability.stations import Station, stations
from template_checks.security_groups import Key, Network, key_of, network_of
from template_checks.templates import Resource, Templates
from template_checks.values import items, targets
from template_checks.vpc import VpcView


class Scene:
    def __init__(self, templates: Templates, *, facts: Facts) -> None:
        self.templates = templates
        self.facts = facts
        self.stations = stations(templates)
        self.connections = Connections(templates)
        self.routes = RouteTables(templates)
        self.endpoints = VpcView(templates)
        self.calls = Calls(templates)
        self.balancing = LoadBalancing(templates)

    def of_kind(self, kind: Kind) -> list[Station]:
        return [station for station in self.stations if station.kind == kind]

    def pairs(self) -> Iterator[tuple[Station, Station]]:
        """Yield every two stations of one VPC in both directions, and each with others of its own kind."""
        for source in self.stations:
            for target in self.stations:
                if source.vpc == target.vpc:
                    yield source, target

    def station_of(self, resource: Resource) -> Station | None:
        return next((station for station in self.stations if station.resource is resource), None)

    def networks_of_vpc(self, vpc: Key) -> tuple[Network, ...]:
        """Return a VPC's address block; nothing where the templates do not hold it."""
        block = network_of(vpc.properties.get("CidrBlock")) if isinstance(vpc, Resource) else None
        return () if block is None else (block,)

    @cached_property
    def services(self) -> list[Resource]:
        """Endpoint services: the doors that PrivateLink gives to other accounts."""
        return self.templates.of("AWS::EC2::VPCEndpointService")

    def services_of(self, load_balancer: Resource) -> list[Resource]:
        return [
            service
            for service in self.services
            for name in ("NetworkLoadBalancerArns", "GatewayLoadBalancerArns")
            if any(target.resource is load_balancer for target in targets(service.properties.get(name)))
        ]

    def listens_on(self, station: Station) -> set[int]:
        """Return the ports of a load balancer's listeners."""
        found = {port_of(listener) for listener in self.balancing.listeners(station.resource)}
        return {port for port in found if port is not None}

    def forwards(self, station: Station) -> list[Resource]:
        """Return the target groups that a load balancer forwards to."""
        found = [
            group
            for listener in self.balancing.listeners(station.resource)
            for group in self.balancing.forwards(listener)
        ]
        return list(dict.fromkeys(found))

    def registered(self, group: Resource) -> list[Station]:
        """Return what a target group sends to: the balancer it names, or services that register there."""
        named = self.balancing.target_of(group)
        if named is not None:
            return [station for station in self.stations if station.resource is named]
        return [
            station
            for station in self.stations
            for entry in items(station.resource.properties.get("LoadBalancers"))
            if any(target.resource is group for target in targets(entry))
        ]

    def tables_of_gateway(self, endpoint: Resource) -> set[Key]:
        return {key_of(table) for table in items(endpoint.properties.get("RouteTableIds"))}
