"""Operators for mistakes 1 to 10: the path in, names, zones, endpoints."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from template_checks.templates import Resource, at, flag, targets, text
from tests.stacks.mistakes.planted import DOMAIN, LISTENER, LOAD_BALANCER, NOWHERE, TARGET_GROUP
from tests.stacks.mistakes.scene import Raw, Scene
from tests.stacks.mutations.changes import DELETE, Mutation, Place, edit, put

GROUP = "AWS::EC2::SecurityGroup"
ENDPOINT = "AWS::EC2::VPCEndpoint"
OTHER_REGION = "ap-southeast-2"


def network(scene: Scene) -> Iterator[Mutation]:
    yield from _paths(scene)
    yield from _nlbs(scene)
    yield from _alb_targets(scene)
    yield from _idle(scene)
    yield from _names(scene)
    yield from _zones(scene)
    yield from _endpoints(scene)
    yield from _endpoint_policies(scene)


def balancers(scene: Scene, kind: str) -> list[Resource]:
    found = scene.all(LOAD_BALANCER)
    return [one for one in found if (text(one.properties.get("Type")) or "application") == kind]


# --- 1 to 3 -----------------------------------------------------------------------------------------------
def _rules(scene: Scene, direction: str) -> Iterator[tuple[Resource | None, Place, Raw]]:
    """Yield the group, the place and the raw rule of every rule."""
    for rule in scene.all(f"AWS::EC2::SecurityGroup{direction}"):
        for target in targets(rule.properties.get("GroupId")):
            yield target.resource, Place.of(rule), rule.raw["Properties"]
    for group in scene.all(GROUP):
        rules = group.raw["Properties"].get(f"SecurityGroup{direction}", [])
        for index, rule in enumerate(rules if isinstance(rules, list) else []):
            yield group, Place.of(group, f"SecurityGroup{direction}", index), rule


def _groups_of(resource: Resource) -> list[Resource]:
    return [target.resource for target in targets(resource.properties.get("SecurityGroups"))]


def _paths(scene: Scene) -> Iterator[Mutation]:
    """Break the only rule from the NLB to the ALB, on either side, or from the consumers to the NLB."""
    nlb_groups = [group for nlb in balancers(scene, "network") for group in _groups_of(nlb)]
    alb_groups = [group for alb in balancers(scene, "application") for group in _groups_of(alb)]
    for groups, direction, number in (
        (alb_groups, "Ingress", 1),
        (nlb_groups, "Egress", 1),
        (nlb_groups, "Ingress", 3),
    ):
        found = [one for one in _rules(scene, direction) if _is_among(one[0], groups)]
        if number == 1 and len(found) != 1:
            continue  # another rule may let the same through
        for _, place, rule in found:
            yield edit(number, "other port", place, _moved)
            yield edit(number, "other protocol", place, lambda raw: raw.update(IpProtocol="udp"))
            yield edit(number, "other peer", place, _other_peer)
            if "CidrIp" in rule:
                yield from put(number, "narrower block", Place(*_below(place, "CidrIp")), "198.51.100.7/32")


def _below(place: Place, *keys: str | int) -> tuple[Any, str, tuple[str | int, ...]]:
    return place.template, place.logical_id, (*place.keys, *keys)


def _is_among(group: Resource | None, groups: list[Resource]) -> bool:
    return group is not None and any(
        group.logical_id == one.logical_id and group.template.path == one.template.path for one in groups
    )


def _moved(rule: Raw) -> None:
    rule.update(FromPort=9, ToPort=9)


def _other_peer(rule: Raw) -> None:
    for name in list(rule):
        if name.startswith(("Source", "Destination", "CidrIp")):
            del rule[name]
    rule["CidrIp"] = "198.51.100.0/24"


def _nlbs(scene: Scene) -> Iterator[Mutation]:
    for nlb in balancers(scene, "network"):
        yield from put(2, "delete property", Place.of(nlb, "SecurityGroups"), DELETE)
        yield from put(2, "empty list", Place.of(nlb, "SecurityGroups"), [])
    if not balancers(scene, "network"):
        return
    for block in (NOWHERE, "100.64.0.0/10", "192.168.0.0/16"):
        yield Mutation(
            number=3,
            operator="another consumer",
            where=block,
            change=lambda scene, block=block: scene.know(consumer_cidrs=(*scene.facts.consumer_cidrs, block)),
        )


# --- 4 to 6 -----------------------------------------------------------------------------------------------
def _alb_targets(scene: Scene) -> Iterator[Mutation]:
    for group in scene.all(TARGET_GROUP, TargetType="alb"):
        for protocol in ("TLS", "HTTP", "HTTPS", "UDP"):
            yield from put(4, "other protocol", Place.of(group, "Protocol"), protocol)
        for port in (81, 8080, 9999):
            yield from put(4, "other port", Place.of(group, "Port"), port)
        for key, value in (("stickiness.enabled", "true"), ("proxy_protocol_v2.enabled", "true")):
            attributes = [{"Key": key, "Value": value}]
            yield from put(4, "add attribute", Place.of(group, "TargetGroupAttributes"), attributes)
        place = Place(group.template.path, group.logical_id)
        yield edit(5, "drop DependsOn", place, lambda raw: raw.pop("DependsOn"))
        other = _any_group(group, scene)
        yield edit(5, "other DependsOn", place, lambda raw, other=other: raw.update(DependsOn=other))


def _any_group(group: Resource, scene: Scene) -> list[str]:
    return [one.logical_id for one in scene.all(GROUP) if one.template.path == group.template.path][:1]


def _idle(scene: Scene) -> Iterator[Mutation]:
    deadline = int(scene.facts.answer_deadline_s or 0)
    for alb in balancers(scene, "application"):
        for index, entry in enumerate(alb.raw["Properties"].get("LoadBalancerAttributes", [])):
            if entry.get("Key") == "idle_timeout.timeout_seconds":
                place = Place.of(alb, "LoadBalancerAttributes", index)
                for seconds in (1, 30, 60, 61, deadline - 1):
                    yield from put(6, "lower timeout", Place(*_below(place, "Value")), str(seconds))
                yield from put(6, "delete attribute", place, DELETE)
    for listener in scene.all(LISTENER, Protocol="TCP"):
        place = Place.of(listener, "ListenerAttributes")
        yield from put(6, "delete property", place, DELETE)
        for seconds in (60, 61, deadline - 1):
            attributes = [{"Key": "tcp.idle_timeout.seconds", "Value": str(seconds)}]
            yield from put(6, "lower timeout", place, attributes)


# --- 7 and 8 ----------------------------------------------------------------------------------------------
def _names(scene: Scene) -> Iterator[Mutation]:
    for endpoint in scene.all(ENDPOINT):
        if "vpce-svc" in text(endpoint.properties.get("ServiceName")):
            yield from put(7, "private DNS on", Place.of(endpoint, "PrivateDnsEnabled"), True)


def _zones(scene: Scene) -> Iterator[Mutation]:
    for subnet in scene.all("AWS::EC2::Subnet"):
        place = Place.of(subnet, "AvailabilityZone")
        region = subnet.region
        for zone in ("dummy1a", "dummy1b", f"{OTHER_REGION}a", f"{region}z", region, "us-middle-1a"):
            yield from put(8, "other zone", place, zone)
        yield from put(8, "zone of another region", place, {"Fn::Select": [1, {"Fn::GetAZs": OTHER_REGION}]})
    for domain in scene.all(DOMAIN):
        if not flag(at(domain.properties.get("ClusterConfig"), "MultiAZWithStandbyEnabled")):
            continue
        cluster = ("ClusterConfig",)
        for name in ("DedicatedMasterEnabled", "ZoneAwarenessEnabled"):
            yield from put(8, "flip boolean", Place.of(domain, *cluster, name), False)
            yield from put(8, "delete property", Place.of(domain, *cluster, name), DELETE)
        for count in (0, 1, 2, 4, 5):
            yield from put(8, "other count", Place.of(domain, *cluster, "DedicatedMasterCount"), count)
        for count in (1, 2, 4, 5, 7):
            yield from put(8, "other count", Place.of(domain, *cluster, "InstanceCount"), count)
        awareness = Place.of(domain, *cluster, "ZoneAwarenessConfig", "AvailabilityZoneCount")
        for count in (1, 2):
            yield from put(8, "other count", awareness, count)
        yield from put(8, "delete property", Place.of(domain, *cluster, "ZoneAwarenessConfig"), DELETE)


# --- 9 and 10 ---------------------------------------------------------------------------------------------
_CALLED = ("ecr.api", "ecr.dkr", "logs", "sagemaker.runtime")
"""What every task of these sets calls: it pulls an image, writes a log, asks a model."""


def _endpoints(scene: Scene) -> Iterator[Mutation]:
    found = {service: scene.endpoint(service) for service in _CALLED}
    for service, endpoint in found.items():
        where = f"{endpoint.template.name}.{endpoint.logical_id}"
        yield Mutation(
            number=9,
            operator="remove endpoint",
            where=where,
            change=lambda scene, service=service: scene.remove(scene.endpoint(service)),
        )
        for value in (False, DELETE):
            yield from put(9, "private DNS off", Place.of(endpoint, "PrivateDnsEnabled"), value)
        place = Place.of(endpoint, "ServiceName")
        for name in (f"com.amazonaws.{OTHER_REGION}.{service}", f"com.amazonaws.{endpoint.region}.sts"):
            yield from put(9, "other service", place, name)
    for vpc in scene.all("AWS::EC2::VPC"):
        if any(vpc.logical_id in str(endpoint.properties["VpcId"]) for endpoint in found.values()):
            yield from put(9, "flip boolean", Place.of(vpc, "EnableDnsSupport"), False)
            for value in (False, DELETE):
                yield from put(9, "flip boolean", Place.of(vpc, "EnableDnsHostnames"), value)


def _endpoint_policies(scene: Scene) -> Iterator[Mutation]:
    for endpoint in scene.all(ENDPOINT):
        if not text(endpoint.properties.get("ServiceName")).endswith(".s3"):
            continue
        statements = endpoint.raw["Properties"].get("PolicyDocument", {}).get("Statement", [])
        for index, statement in enumerate(statements):
            place = Place.of(endpoint, "PolicyDocument", "Statement", index)
            is_layers = "starport" in str(statement)
            if not is_layers and "s3:ListBucket" not in str(statement):
                continue  # the answer to CloudFormation is no part of this mistake
            yield from put(10, "drop statement", place, DELETE)
            yield from put(10, "deny in place of allow", Place(*_below(place, "Effect")), "Deny")
            yield from put(10, "other action", Place(*_below(place, "Action")), "s3:ListAllMyBuckets")
            yield from put(
                10, "other resource", Place(*_below(place, "Resource")), "arn:aws:s3:::somebody-elses/*"
            )
            other = {"AWS": "arn:aws:iam::999999999999:root"}
            yield from put(10, "other principal", Place(*_below(place, "Principal")), other)
            if is_layers:
                own = {"StringEquals": {"aws:ResourceAccount": "111122223333"}}
                yield from put(10, "add Condition", Place(*_below(place, "Condition")), own)
                layers = f"arn:aws:s3:::prod-{OTHER_REGION}-starport-layer-bucket/*"
                yield from put(10, "other region", Place(*_below(place, "Resource")), layers)
            else:
                for condition in (
                    {"StringEquals": {"aws:PrincipalTag/tenant": "somebody-else"}},
                    {"StringEquals": {"aws:PrincipalAccount": "999999999999"}},
                    {"StringNotEquals": {"aws:PrincipalType": "AssumedRole"}},
                ):
                    if condition["StringEquals" if "StringEquals" in condition else "StringNotEquals"]:
                        yield from put(10, "other Condition", Place(*_below(place, "Condition")), condition)
        if statements:
            place = Place.of(endpoint, "PolicyDocument", "Statement")
            for action in ("s3:*", "s3:GetObject", "s3:Get*"):
                entry = {"Effect": "Deny", "Principal": "*", "Action": action, "Resource": "*"}
                yield edit(
                    10, "insert Deny", place, lambda raw, entry=entry: raw.append(copy.deepcopy(entry))
                )
