"""Load balancers, their listeners, and what they forward to."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property

from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, integer, items, mapping, targets, text

LOAD_BALANCER = "AWS::ElasticLoadBalancingV2::LoadBalancer"
LISTENER = "AWS::ElasticLoadBalancingV2::Listener"
TARGET_GROUP = "AWS::ElasticLoadBalancingV2::TargetGroup"


class LoadBalancing:
    def __init__(self, templates: Templates) -> None:
        self._templates = templates

    @cached_property
    def network(self) -> list[Resource]:
        """The Network Load Balancers."""
        return self._of_kind("network")

    @cached_property
    def application(self) -> list[Resource]:
        """The Application Load Balancers."""
        return self._of_kind("application")

    def _of_kind(self, kind: str) -> list[Resource]:
        return [
            resource
            for resource in self._templates.of(LOAD_BALANCER)
            if text(resource.properties.get("Type") or "application") == kind
        ]

    def listeners(self, load_balancer: Resource) -> list[Resource]:
        """Return a load balancer's listeners."""
        return [
            listener
            for listener in self._templates.of(LISTENER)
            if load_balancer
            in (target.resource for target in targets(listener.properties["LoadBalancerArn"]))
        ]

    def actions(self, listener: Resource) -> list[Value]:
        """Return the actions of a listener and of its rules."""
        actions = items(listener.properties.get("DefaultActions"))
        for rule in self._templates.of("AWS::ElasticLoadBalancingV2::ListenerRule"):
            if key_matches(rule.properties.get("ListenerArn"), listener):
                actions = [*actions, *items(rule.properties.get("Actions"))]
        return actions

    def forwards(self, listener: Resource) -> list[Resource]:
        """Return the target groups that a listener and its rules forward to."""
        found = [group for action in self.actions(listener) for group in _target_groups(action)]
        return [target.resource for group in found for target in targets(group)]

    def groups_of_load_balancers(self) -> list[Resource]:
        """Return the target groups whose target is an Application Load Balancer."""
        return [
            group
            for group in self._templates.of(TARGET_GROUP)
            if text(group.properties.get("TargetType")) == "alb" or self._named_target(group)
        ]

    def target_of(self, group: Resource) -> Resource | None:
        """Return the Application Load Balancer that a target group names; None where it names none here."""
        return self._named_target(group)

    def _named_target(self, group: Resource) -> Resource | None:
        for entry in items(group.properties.get("Targets")):
            for target in targets(mapping(entry).get("Id")):
                resource = target.resource
                if resource.type == LISTENER:  # its LoadBalancerArn attribute
                    resource = next(iter(t.resource for t in targets(resource.properties["LoadBalancerArn"])))
                if resource in self.application:
                    return resource
        return None

    def in_front_of(self, group: Resource) -> list[tuple[Resource, Resource]]:
        """Return each Network Load Balancer that forwards to a target group, with its listener."""
        return [
            (balancer, listener)
            for balancer in self.network
            for listener in self.listeners(balancer)
            if group in self.forwards(listener)
        ]

    def listener_on(self, load_balancer: Resource, port: int | None) -> Resource | None:
        """Return the listener on a port."""
        return next(
            (
                listener
                for listener in self.listeners(load_balancer)
                if port is not None and port_of(listener) == port
            ),
            None,
        )


def port_of(resource: Resource) -> int | None:
    """Return the port of a listener or target group, also where it is another listener's."""
    port = resource.properties.get("Port")
    if isinstance(port, Target) and port.attribute == "Port":
        return port_of(port.resource)
    return integer(port)


def attribute(resource: Resource, key: str, *, of: str) -> Value:
    """Return one attribute of a list of Key and Value (``LoadBalancerAttributes``); None if absent."""
    for entry in items(resource.properties.get(of)):
        if text(at(entry, "Key")) == key:
            return at(entry, "Value")
    return None


def key_matches(value: Value, resource: Resource) -> bool:
    """Return whether a value refers to a resource."""
    return any(target.resource is resource for target in targets(value))


def _target_groups(action: Value) -> Iterator[Value]:
    if at(action, "TargetGroupArn") is not None:
        yield at(action, "TargetGroupArn")
    for entry in items(at(action, "ForwardConfig", "TargetGroups")):
        yield at(entry, "TargetGroupArn")
