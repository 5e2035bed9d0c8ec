"""Which ports the rules of security groups and network ACLs open between two ends."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from template_checks.networks import (
    Direction,
    Key,
    Network,
    Peer,
    SecurityGroups,
    is_within,
    key_of,
    network_of,
    rule_end,
)
from template_checks.reachability.stations import Station
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, flag, integer, items, text

_LAST_PORT = 65535
_PROTOCOLS = {"6": "tcp", "17": "udp", "1": "icmp", "-1": "all"}


@dataclass(frozen=True, slots=True, order=True)
class Opening:
    """A range of ports of a protocol; ``all`` is every protocol."""

    protocol: str
    first: int
    last: int

    def __str__(self) -> str:
        if self.protocol == "all":
            return "everything"
        ports = str(self.first) if self.first == self.last else f"{self.first}-{self.last}"
        return self.protocol if self == _whole(self.protocol) else f"{self.protocol} {ports}"

    def meet(self, other: Opening) -> Opening | None:
        """Return what both allow; None if that is nothing."""
        if "all" not in (self.protocol, other.protocol) and self.protocol != other.protocol:
            return None
        protocol = other.protocol if self.protocol == "all" else self.protocol
        first, last = max(self.first, other.first), min(self.last, other.last)
        return Opening(protocol, first, last) if first <= last else None

    def without(self, other: Opening) -> list[Opening]:
        """Return what is left of one protocol's ports without those of the other."""
        if self.meet(other) is None:
            return [self]
        left = Opening(self.protocol, self.first, other.first - 1)
        right = Opening(self.protocol, other.last + 1, self.last)
        return [part for part in (left, right) if part.first <= part.last]

    def holds(self, port: int) -> bool:
        """Return whether a TCP port is open."""
        return self.protocol in ("all", "tcp") and self.first <= port <= self.last


def _whole(protocol: str) -> Opening:
    return Opening(protocol, 0, _LAST_PORT)


EVERYTHING = _whole("all")
_ANSWERS = Opening("tcp", 1024, _LAST_PORT)
"""Ephemeral ports, where answers arrive: balancers, functions and Linux tasks use ports from 1024 on (Amazon
VPC User Guide, "Ephemeral ports")."""


def meets(some: Iterable[Opening], others: Iterable[Opening]) -> list[Opening]:
    """Return what two sets of rules, one at each end, allow together; no part twice."""
    second = list(others)
    met = {both for one in some for other in second if (both := one.meet(other)) is not None}
    return sorted(one for one in met if not any(_inside(one, other) for other in met - {one}))


def _inside(one: Opening, other: Opening) -> bool:
    return other.protocol in ("all", one.protocol) and other.first <= one.first and one.last <= other.last


def _opening(protocol: Value, first: Value, last: Value, *, sure: bool) -> Opening | None:
    """Return what a rule opens. An unknown part opens everything, or nothing if it must be ``sure``."""
    name = _protocol(protocol)
    if name is None:
        return None if sure else EVERYTHING
    if name not in ("tcp", "udp") or (first is None and last is None):
        return _whole(name)
    start, end = integer(first), integer(last)
    if start is None or end is None:
        return None if sure else _whole(name)
    return _whole(name) if start == -1 else Opening(name, start, end)


def _opening_of_rule(rule: Mapping[str, Value], *, sure: bool) -> Opening | None:
    return _opening(rule.get("IpProtocol"), rule.get("FromPort"), rule.get("ToPort"), sure=sure)


def _protocol(value: Value) -> str | None:
    """Return a protocol given by name or number, ``all`` for every one; None if unknown."""
    name = text(value).lower()
    return None if not name or "${" in name else _PROTOCOLS.get(name, name)


# --- peers ------------------------------------------------------------------------------------------------
_PRIVATE = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
GATEWAY = Peer(networks=(IPv4Network("0.0.0.0/0"),), is_gateway=True)
"""S3 or DynamoDB behind a gateway endpoint: no template contains their addresses."""


def is_private(block: Network) -> bool:
    """Return whether all addresses of a block are private (RFC 1918, 6598 and 4193)."""
    return any(is_within(block, private) for private in _PRIVATE)


def holds(block: Network | None, networks: Sequence[Network], *, sure: bool) -> bool:
    """Return whether a block may contain one of the addresses, or ``sure`` contains all of them."""
    if block is None:
        return not sure
    if sure:
        return block.prefixlen == 0 or (bool(networks) and all(is_within(one, block) for one in networks))
    same = [network for network in networks if network.version == block.version]
    return not networks or any(network.overlaps(block) for network in same)


def _allows_peer(rule: Mapping[str, Value], direction: Direction, *, peer: Peer, sure: bool) -> bool:
    """Return whether a rule of a security group may apply to the peer, or ``sure`` to all of it."""
    key, block = rule_end(rule, direction)
    if key is not None:
        is_id = isinstance(key, Resource) or key.startswith("sg-")
        return key in peer.groups or (not sure and not is_id)
    if rule.get(f"{'Source' if direction == 'Ingress' else 'Destination'}PrefixListId") is not None:
        # No template contains the addresses of a list: a gateway's, and maybe others.
        return peer.is_gateway or not sure
    if peer.is_gateway and block is not None and is_private(block):
        return False
    return holds(block, peer.networks, sure=sure)


# --- network ACLs -----------------------------------------------------------------------------------------
_ENTRY = "AWS::EC2::NetworkAclEntry"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    egress: bool
    allows: bool
    block: Network | None
    surely: Opening | None
    possibly: Opening | None


class NetworkAcls:
    """What network ACLs allow through a subnet's border. They keep no state: answers need an entry too.

    A subnet without an association has the VPC's default ACL, which allows everything.
    """

    def __init__(self, templates: Templates) -> None:
        self._of_subnet: dict[Key, Key] = {
            key_of(association.properties.get("SubnetId")): key_of(association.properties.get("NetworkAclId"))
            for association in templates.of("AWS::EC2::SubnetNetworkAclAssociation")
        }
        # Decided one by one, so that an entry for one protocol leaves the others undecided.
        self._protocols = {"tcp", "udp", "icmp", *_protocols(templates)} - {"all"}
        self._entries: dict[Key, list[_Entry]] = {}
        for entry in sorted(templates.of(_ENTRY), key=lambda one: integer(one.properties["RuleNumber"]) or 0):
            acl = key_of(entry.properties.get("NetworkAclId"))
            self._entries.setdefault(acl, []).append(_entry(entry.properties))

    def passes(
        self, subnets: Sequence[Value], *, egress: bool, networks: Sequence[Network], sure: bool
    ) -> list[Opening]:
        """Return what passes the border of any of the subnets, or ``sure`` of each of them.

        ``networks`` are the addresses on the other side; none if they are unknown.
        """
        allowed = [self._of_one(subnet, egress, networks, sure) for subnet in subnets]
        if not allowed:
            return [EVERYTHING]
        if not sure:
            return sorted({opening for openings in allowed for opening in openings})
        common = allowed[0]
        for openings in allowed[1:]:
            common = meets(common, openings)
        return common

    def _of_one(self, subnet: Value, egress: bool, networks: Sequence[Network], sure: bool) -> list[Opening]:
        acl = self._of_subnet.get(key_of(subnet)) if isinstance(subnet, Target) else None
        if acl is None:
            return [EVERYTHING]
        left, passed = [_whole(protocol) for protocol in sorted(self._protocols)], list[Opening]()
        for entry in self._entries.get(acl, []):
            about = entry.surely if sure else entry.possibly
            if entry.egress is not egress or about is None:
                continue
            met = [both for one in left if (both := one.meet(about)) is not None]
            if entry.allows and holds(entry.block, networks, sure=sure):
                passed += met
            # What an entry decides for all of the addresses, no later entry decides again.
            if holds(entry.block, networks, sure=entry.allows or not sure):
                left = [rest for one in left for rest in one.without(about)]
        return passed


def _entry(properties: Mapping[str, Value]) -> _Entry:
    ports = properties.get("PortRange")
    about = (properties.get("Protocol"), at(ports, "From"), at(ports, "To"))
    return _Entry(
        egress=flag(properties.get("Egress")) is True,  # CloudFormation's default is false
        allows=text(properties.get("RuleAction")) == "allow",
        block=network_of(properties.get("CidrBlock") or properties.get("Ipv6CidrBlock")),
        surely=_opening(*about, sure=True),
        possibly=_opening(*about, sure=False),
    )


def _protocols(templates: Templates) -> Iterator[str]:
    """Yield every protocol that a rule of a security group or a network ACL names."""
    kinds = ("AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")
    for resource in templates.of(*kinds, _ENTRY):
        values = resource.properties
        rules = [*items(values.get("SecurityGroupIngress")), *items(values.get("SecurityGroupEgress"))]
        named = [at(rule, "IpProtocol") for rule in rules]
        for value in (*named, values.get("IpProtocol"), values.get("Protocol")):
            protocol = _protocol(value)
            if protocol is not None:
                yield protocol


# --- both together ----------------------------------------------------------------------------------------
class Connections:
    """Ports that may be reached if everything unknown allows it; with ``sure``, those that surely are."""

    def __init__(self, templates: Templates) -> None:
        self._groups = SecurityGroups(templates)
        self._acls = NetworkAcls(templates)

    def between(self, source: Station, target: Station, *, sure: bool = False) -> list[Opening]:
        """Return the ports of ``target`` that ``source`` reaches, both in one VPC."""
        if not (leaving := self.leaving(source, target.peer, sure=sure)):
            return []
        return meets(leaving, self.entering(target, source.peer, sure=sure))

    def leaving(self, source: Station, peer: Peer, *, sure: bool = False) -> list[Opening]:
        """Return the ports of a peer that ``source`` reaches, as far as the source's side decides."""
        return self._side(source, "Egress", peer=peer, sure=sure)

    def entering(self, target: Station, peer: Peer, *, sure: bool = False) -> list[Opening]:
        """Return the ports of ``target`` that a peer reaches, as far as the target's side decides."""
        return self._side(target, "Ingress", peer=peer, sure=sure)

    def _side(self, station: Station, direction: Direction, *, peer: Peer, sure: bool) -> list[Opening]:
        opened = self._openings(station.groups, direction, peer=peer, sure=sure)
        if not opened:
            return []
        out = direction == "Egress"
        passed = self._acls.passes(station.subnets, egress=out, networks=peer.networks, sure=sure)
        if sure:  # answers cross the border in the other direction
            back = self._acls.passes(station.subnets, egress=not out, networks=peer.networks, sure=True)
            if not any(one.meet(_ANSWERS) == _ANSWERS for one in back):
                return []
        return meets(opened, passed)

    def rules_by_address(self, station: Station) -> list[tuple[Value, Opening]]:
        """Return the rules that allow addresses into a station: the block or prefix list, and the ports."""
        found: list[tuple[Value, Opening]] = []
        for group in station.groups:
            for rule in self._groups.rules(group, "Ingress"):
                block = rule.get("CidrIp") or rule.get("CidrIpv6") or rule.get("SourcePrefixListId")
                opening = _opening_of_rule(rule, sure=False)
                if block is not None and opening is not None:
                    found.append((block, opening))
        return found

    def _openings(
        self, groups: Sequence[Key], direction: Direction, *, peer: Peer, sure: bool
    ) -> list[Opening]:
        found: list[Opening] = []
        for group in groups:
            rules = self._groups.rules(group, direction)
            if not isinstance(group, Resource):
                found += [] if sure else [EVERYTHING]  # its rules are in no template
            elif not rules and direction == "Egress":
                found.append(EVERYTHING)  # CloudFormation's default for a group without egress rules
            for rule in rules:
                opening = None if _leads_nowhere(rule) else _opening_of_rule(rule, sure=sure)
                if opening is not None and _allows_peer(rule, direction, peer=peer, sure=sure):
                    found.append(opening)
        return found


def _leads_nowhere(rule: Mapping[str, Value]) -> bool:
    """Return whether a rule is only about the broadcast address, which nothing has.

    CDK writes such a rule, because a group without any may connect to everything.
    """
    return rule.get("CidrIp") == "255.255.255.255/32"
