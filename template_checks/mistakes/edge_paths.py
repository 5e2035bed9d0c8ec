"""1 to 3: how a connection gets from the consumer through the NLB to the ALB."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.networks import Key, Peer, key_of, networks_of, port_of
from template_checks.templates import Resource
from template_checks.values import flag, integer, items, targets

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
        if target is None and len(balancing.application) == 1:
            target = balancing.application[0]
        if target is None:
            yield not_proven(
                group,
                "nlb-to-alb-path",
                at="Targets",
                message="Which ALB it forwards to is not in the templates.",
                mend="Give the ALB's template to the same check.",
            )
            continue
        for balancer, _ in balancing.in_front_of(group):
            for port in _ports(group):
                yield from _check_path(deployment, balancer=balancer, target=target, port=port)


def _ports(group: Resource) -> list[int]:
    """Return the ports that the NLB opens connections to: for traffic, and for a health check apart."""
    ports = [port_of(group), integer(group.properties.get("HealthCheckPort"))]
    return list(dict.fromkeys(port for port in ports if port is not None))


def _check_path(
    deployment: Deployment, *, balancer: Resource, target: Resource, port: int
) -> Iterator[Finding]:
    out = True
    if _groups(balancer):
        out = deployment.groups.allow(_groups(balancer), "Egress", port=port, peer=_peer(target))
    into = False  # without groups of its own an ALB has the VPC's default group, which lets in itself alone
    if _groups(target):
        into = deployment.groups.allow(_groups(target), "Ingress", port=port, peer=_peer(balancer))
    said = {False: refused, None: not_proven}
    path = f"{balancer.logical_id} to {target.logical_id} on port {port}"
    if out is not True:
        yield said[out](
            balancer,
            "nlb-to-alb-egress",
            at="SecurityGroups",
            message=f"No rule of its security groups lets it connect from {path}.",
            mend=f"Add an egress rule for TCP {port} to the ALB's security group, with that group as "
            "destination.",
        )
    if into is not True:
        yield said[into](
            target,
            "nlb-to-alb-ingress",
            at="SecurityGroups",
            message=f"No rule of its security groups lets in what comes from {path}.",
            mend=f"Add an ingress rule for TCP {port} whose source is the NLB's security group.",
        )
    if out is True and into is True:
        yield passed(target, "nlb-to-alb-path")


def _check_group_of_nlb(deployment: Deployment) -> Iterator[Finding]:
    for balancer in deployment.balancing.network:
        if items(balancer.properties.get("SecurityGroups")):
            yield passed(balancer, "nlb-without-group")
        else:
            yield refused(
                balancer,
                "nlb-without-group",
                at="SecurityGroups",
                message="A Network Load Balancer made without a security group can never get one.",
                mend="Give it a security group now; one that stands without must be replaced, and its "
                "endpoint service with it.",
            )


def _check_enforcement(deployment: Deployment) -> Iterator[Finding]:
    for balancer in deployment.balancing.network:
        enforced = balancer.properties.get(_ENFORCED)
        if not _groups(balancer) or not (
            enforced is not None or _is_behind_private_link(deployment, balancer)
        ):
            continue
        if flag(enforced) is False:
            yield passed(balancer, "consumer-cidr")
            continue
        for listener in deployment.balancing.listeners(balancer):
            port = port_of(listener)
            if port is not None:
                yield from _check_consumers(deployment, balancer, port=port)


def _is_behind_private_link(deployment: Deployment, balancer: Resource) -> bool:
    return any(
        target.resource is balancer
        for service in deployment.templates.of("AWS::EC2::VPCEndpointService")
        for target in targets(service.properties.get("NetworkLoadBalancerArns"))
    )


def _check_consumers(deployment: Deployment, balancer: Resource, *, port: int) -> Iterator[Finding]:
    groups = _groups(balancer)
    if not deployment.groups.has_source(groups, port=port) and not any(isinstance(g, str) for g in groups):
        yield refused(
            balancer,
            "consumer-cidr",
            at=_ENFORCED,
            message=f"PrivateLink traffic is held against its security groups, and none lets anybody in on "
            f"{port}.",
            mend=f"Add an ingress rule for TCP {port} from each address block of the consumer's clients, "
            "or switch the enforcement off.",
        )
        return
    if not deployment.facts.consumer_cidrs:
        yield not_proven(
            balancer,
            "consumer-cidr",
            at=_ENFORCED,
            message=f"PrivateLink traffic on {port} is held against the clients' own addresses, which no "
            "template tells.",
            mend="Say them in the facts: consumer_cidrs.",
        )
    for block in deployment.facts.consumer_cidrs:
        yield _check_consumer(deployment, balancer, port=port, block=block)


def _check_consumer(deployment: Deployment, balancer: Resource, *, port: int, block: str) -> Finding:
    peer = Peer(networks=(ip_network(block),))
    allowed = deployment.groups.allow(_groups(balancer), "Ingress", port=port, peer=peer)
    if allowed is True:
        return passed(balancer, "consumer-cidr")
    return (refused if allowed is False else not_proven)(
        balancer,
        "consumer-cidr",
        at=_ENFORCED,
        message=f"The consumer's clients in {block} are not let in on {port}, though PrivateLink traffic "
        "is held against the security groups.",
        mend=f"Add an ingress rule for TCP {port} from {block} to a security group of the NLB.",
    )


MISTAKES = (
    Mistake(
        number=1,
        title="NLB → ALB with no security group path",
        parts={
            "nlb-to-alb-egress": "the NLB's groups do not let it connect to the ALB's port (health check "
            "included)",
            "nlb-to-alb-ingress": "the ALB's groups do not let the NLB in",
            "nlb-to-alb-path": "which ALB is meant is not told",
        },
        why="The NLB opens its own connections to the ALB, so both sides' groups are asked. Without a "
        "rule on either, its targets stay unhealthy and every connection hangs.",
        mend="An egress rule on the NLB's group and an ingress rule on the ALB's, both on the listener's "
        "port, each naming the other group; the same for a health check on a port of its own.",
        absent="no target group has an ALB as its target",
        check=_check_paths,
    ),
    Mistake(
        number=2,
        title="NLB without a security group",
        parts={"nlb-without-group": "a Network Load Balancer has no SecurityGroups"},
        why="Security groups can be changed later only on an NLB that was made with one.",
        mend="Name a security group when the NLB is made.",
        absent="no Network Load Balancer",
        check=_check_group_of_nlb,
    ),
    Mistake(
        number=3,
        title="PrivateLink enforcement on, consumer CIDR not allowed",
        parts={"consumer-cidr": "an address block of the consumer is not let in by the NLB's groups"},
        why="With enforcement (on unless switched off), inbound rules judge the client's own address "
        "behind the private link, not that of the endpoint.",
        mend="An ingress rule on each listener's port for every consumer_cidrs entry.",
        absent="no Network Load Balancer with a security group stands behind an endpoint service",
        facts="consumer_cidrs",
        check=_check_enforcement,
    ),
)
