"""1 to 6: connections from the consumer through NLB and ALB, and idle timeouts."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from template_checks.findings import (
    GIVE_PARAMETER,
    GIVE_TEMPLATE,
    Deployment,
    Finding,
    judge,
    not_proven,
    or_passed,
    passed,
    refused,
)
from template_checks.networks import Key, Peer, attribute, key_of, networks_of, port_of, ports_of_group
from template_checks.templates import Resource
from template_checks.values import at, flag, integer, items, refers_to, text

_ENFORCED = "EnforceSecurityGroupInboundRulesOnPrivateLinkTraffic"


def _groups(load_balancer: Resource) -> tuple[Key, ...]:
    return tuple(key_of(group) for group in items(load_balancer.properties.get("SecurityGroups")))


def _peer(load_balancer: Resource) -> Peer:
    subnets = items(load_balancer.properties.get("Subnets"))
    return Peer(groups=_groups(load_balancer), networks=networks_of(subnets))


def _check_paths(deployment: Deployment) -> Iterator[Finding]:
    balancing = deployment.balancing
    for group in balancing.groups_of_load_balancers():
        target = balancing.target_of(group)
        if target is None:
            message = "The ALB that it forwards to is not in the templates."
            fix = "Add the ALB's template to the same check."
            yield not_proven(group, "nlb-to-alb-path", at="Targets", message=message, fix=fix)
            continue
        for balancer in balancing.in_front_of(group):
            for port in ports_of_group(group):
                yield from _check_path(deployment, balancer=balancer, target=target, port=port)


def _check_path(
    deployment: Deployment, *, balancer: Resource, target: Resource, port: int
) -> Iterator[Finding]:
    out: bool | None = True  # an NLB without groups may connect to everything
    if _groups(balancer):
        out = deployment.groups.allow(_groups(balancer), "Egress", port=port, peer=_peer(target))
    into: bool | None = (
        False  # an ALB without groups has the VPC's default group, which allows only itself in
    )
    if _groups(target):
        into = deployment.groups.allow(_groups(target), "Ingress", port=port, peer=_peer(balancer))
    path = f"{balancer.logical_id} to {target.logical_id} on port {port}"
    if out is not True:
        message = f"No rule of its security groups allows it to connect from {path}."
        fix = (
            f"Add an egress rule for TCP {port} to the ALB's security group, with that group as destination."
        )
        yield judge(out, balancer, "nlb-to-alb-egress", at="SecurityGroups", message=message, fix=fix)
    if into is not True:
        message = f"No rule of its security groups allows connections from {path}."
        fix = f"Add an ingress rule for TCP {port} whose source is the NLB's security group."
        yield judge(into, target, "nlb-to-alb-ingress", at="SecurityGroups", message=message, fix=fix)
    if out is True and into is True:
        yield passed(target, "nlb-to-alb-path")


def _check_groups_of_nlb(deployment: Deployment) -> Iterator[Finding]:
    for balancer in deployment.balancing.network:
        yield judge(
            bool(_groups(balancer)),
            balancer,
            "nlb-without-group",
            at="SecurityGroups",
            message="A Network Load Balancer made without a security group can never get one.",
            fix="Give it a security group now. An existing one without must be replaced, and its endpoint "
            "service with it.",
        )


def _check_enforcement(deployment: Deployment) -> Iterator[Finding]:
    services = deployment.templates.of("AWS::EC2::VPCEndpointService")
    for balancer in deployment.balancing.network:
        enforced = balancer.properties.get(_ENFORCED)
        is_behind_private_link = any(
            refers_to(service.properties.get("NetworkLoadBalancerArns"), balancer) for service in services
        )
        if not _groups(balancer) or (enforced is None and not is_behind_private_link):
            continue
        if flag(enforced) is False:
            yield passed(balancer, "consumer-cidr")
            continue
        for listener in deployment.balancing.listeners(balancer):
            port = port_of(listener)
            if port is not None:
                yield from _check_consumers(deployment, balancer, port=port)


def _check_consumers(deployment: Deployment, balancer: Resource, *, port: int) -> Iterator[Finding]:
    groups = _groups(balancer)
    if not deployment.groups.has_source(groups, port=port) and not any(isinstance(g, str) for g in groups):
        message = f"Its security groups apply to PrivateLink traffic, and none allows any on {port}."
        fix = (
            f"Add an ingress rule for TCP {port} from each address block of the consumer's clients, "
            "or switch the enforcement off."
        )
        yield refused(balancer, "consumer-cidr", at=_ENFORCED, message=message, fix=fix)
        return
    if not deployment.facts.consumer_cidrs:
        message = (
            f"Its security groups apply to the addresses of PrivateLink clients on {port}, which are unknown."
        )
        fix = "Give them in the facts: consumer_cidrs."
        yield not_proven(balancer, "consumer-cidr", at=_ENFORCED, message=message, fix=fix)
    for block in deployment.facts.consumer_cidrs:
        peer = Peer(networks=(ip_network(block),))
        yield judge(
            deployment.groups.allow(groups, "Ingress", port=port, peer=peer),
            balancer,
            "consumer-cidr",
            at=_ENFORCED,
            message=f"Its security groups apply to PrivateLink traffic, and do not allow the consumer's "
            f"clients in {block} on {port}.",
            fix=f"Add an ingress rule for TCP {port} from {block} to a security group of the NLB.",
        )


# --- the target group between NLB and ALB -----------------------------------------------------------------
def _check_target_groups(deployment: Deployment) -> Iterator[Finding]:
    for group in deployment.balancing.groups_of_load_balancers():
        found = [*_check_target_group(group), *_check_port(deployment, group)]
        yield from or_passed(found, group, "alb-target-port")


def _check_target_group(group: Resource) -> Iterator[Finding]:
    attributes = items(group.properties.get("TargetGroupAttributes"))
    if attributes:
        names = ", ".join(text(at(entry, "Key")) for entry in attributes)
        message = f"A target group of type alb takes no attributes; it has {names}."
        fix = "Remove TargetGroupAttributes; drain on the ALB's own target group instead."
        yield refused(group, "alb-target-attributes", at="TargetGroupAttributes", message=message, fix=fix)
    protocol = text(group.properties.get("Protocol"))
    if protocol != "TCP":
        yield judge(
            None if "${" in protocol else False,
            group,
            "alb-target-protocol",
            at="Protocol",
            message=f"A target group of type alb forwards TCP; its protocol is {protocol or 'absent'}.",
            fix="Set Protocol: TCP; TLS passes through it and ends at the ALB.",
        )


def _check_port(deployment: Deployment, group: Resource) -> Iterator[Finding]:
    target = deployment.balancing.target_of(group)
    listeners = deployment.balancing.listeners(target) if target else []
    of_targets = [at(entry, "Port") for entry in items(group.properties.get("Targets"))]
    ports = {port_of(group), *(integer(port) for port in of_targets if port is not None)}
    if not listeners or None in ports:
        message = "Its port, or the ALB's listener, is not in the templates."
        fix = "Add the ALB's template to the same check, and give the port by a default or in the facts."
        yield not_proven(group, "alb-target-port", at="Port", message=message, fix=fix)
        return
    open_ports = sorted(port for port in map(port_of, listeners) if port is not None)
    for port in ports:
        if port not in open_ports:
            message = f"It sends to port {port}, where the ALB has no listener (it has {open_ports})."
            fix = "Give the target group the port of the ALB's listener."
            yield refused(group, "alb-target-port", at="Port", message=message, fix=fix)


def _check_dependency(deployment: Deployment) -> Iterator[Finding]:
    balancing = deployment.balancing
    for group in balancing.groups_of_load_balancers():
        target = balancing.target_of(group)
        listener = target and (
            balancing.listener_on(target, port_of(group)) or next(iter(balancing.listeners(target)), None)
        )
        if listener is None:
            message = "The ALB that it names, or its listener, is not in the templates."
            yield not_proven(
                group, "alb-listener-dependency", at="DependsOn", message=message, fix=GIVE_TEMPLATE
            )
            continue
        yield judge(
            listener in deployment.templates.dependencies(group),
            group,
            "alb-listener-dependency",
            at="DependsOn",
            message=f"CloudFormation may make it before the ALB's listener {listener.logical_id}, and "
            "an ALB without a listener cannot be registered as a target.",
            fix=f"Add DependsOn: {listener.logical_id}.",
        )


# --- timeouts ---------------------------------------------------------------------------------------------
_ALB_IDLE = "idle_timeout.timeout_seconds"
_NLB_IDLE = "tcp.idle_timeout.seconds"
_SHORTEST_S = 60
"""The ALB's default. It cuts a stream with a longer pause."""
_NLB_DEFAULT_S = 350


def _check_idle_timeouts(deployment: Deployment) -> Iterator[Finding]:
    for balancer in deployment.balancing.application:
        yield _check_alb(deployment, balancer)
    for balancer in deployment.balancing.network:
        for listener in deployment.balancing.listeners(balancer):
            if text(listener.properties.get("Protocol")) == "TCP":  # no other protocol has the attribute
                yield _check_nlb_listener(deployment, listener)


def _check_alb(deployment: Deployment, balancer: Resource) -> Finding:
    value = attribute(balancer, _ALB_IDLE, of="LoadBalancerAttributes")
    seconds = _SHORTEST_S if value is None else integer(value)
    if seconds is None or seconds > _SHORTEST_S:
        return _check_idle(deployment, balancer, "alb-idle-timeout", name=_ALB_IDLE, seconds=seconds)
    message = f"It cuts a stream after {seconds} s without data."
    fix = f"Set {_ALB_IDLE} above {_SHORTEST_S}, and to the longest answer or above."
    return refused(balancer, "alb-idle-timeout", at="LoadBalancerAttributes", message=message, fix=fix)


def _check_nlb_listener(deployment: Deployment, listener: Resource) -> Finding:
    value = attribute(listener, _NLB_IDLE, of="ListenerAttributes")
    if value is not None:
        seconds = integer(value)
        return _check_idle(deployment, listener, "nlb-idle-timeout", name=_NLB_IDLE, seconds=seconds)
    message = (
        f"It leaves {_NLB_IDLE} at the default of {_NLB_DEFAULT_S} s. A connection without data "
        "is then dropped, and neither side is notified."
    )
    fix = f"Set {_NLB_IDLE} (60 to 6000) in ListenerAttributes."
    return refused(listener, "nlb-idle-timeout", at="ListenerAttributes", message=message, fix=fix)


def _check_idle(
    deployment: Deployment, resource: Resource, code: str, *, name: str, seconds: int | None
) -> Finding:
    """Compare an idle timeout with the whole answer: a model may send nothing for all of it."""
    place = "LoadBalancerAttributes" if name == _ALB_IDLE else "ListenerAttributes"
    deadline_s = deployment.facts.answer_deadline_s
    if seconds is None:
        message = f"Its {name} is unknown, so it may cut a stream."
        return not_proven(resource, code, at=place, message=message, fix=GIVE_PARAMETER)
    if deadline_s is None:
        message = "The longest time without data in an answer is unknown, so it may cut a stream."
        fix = "Give it in the facts: answer_deadline_s."
        return not_proven(resource, code, at=place, message=message, fix=fix)
    message = f"It cuts a stream after {seconds} s without data; an answer may take {deadline_s:g} s."
    fix = f"Set {name} to {deadline_s:g} or above, or lower the answer's deadline."
    return judge(seconds >= deadline_s, resource, code, at=place, message=message, fix=fix)


CHECKS = {
    1: _check_paths,
    2: _check_groups_of_nlb,
    3: _check_enforcement,
    4: _check_target_groups,
    5: _check_dependency,
    6: _check_idle_timeouts,
}
