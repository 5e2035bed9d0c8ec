"""Ports that rules open, and what two sets of rules open together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network

from template_checks.networks import Direction, Key, Network, Peer, SecurityGroups, key_of, network_of
from template_checks.reachability.stations import Station
from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, at, flag, integer, items, text

_LAST_PORT = 65535
_NUMBERS = {"6": "tcp", "17": "udp", "1": "icmp", "-1": "all", "all": "all"}


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
        return self.protocol if self == whole(self.protocol) else f"{self.protocol} {ports}"

    def meet(self, other: Opening) -> Opening | None:
        """Return what both let through; None where that is nothing."""
        if "all" not in (self.protocol, other.protocol) and self.protocol != other.protocol:
            return None
        protocol = other.protocol if self.protocol == "all" else self.protocol
        first, last = max(self.first, other.first), min(self.last, other.last)
        return Opening(protocol, first, last) if first <= last else None

    def without(self, other: Opening) -> list[Opening]:
        """Return what is left of one protocol's ports when the other is taken away."""
        if self.meet(other) is None:
            return [self]
        left = Opening(self.protocol, self.first, other.first - 1)
        right = Opening(self.protocol, other.last + 1, self.last)
        return [part for part in (left, right) if part.first <= part.last]

    def holds(self, port: int) -> bool:
        return self.protocol in ("all", "tcp") and self.first <= port <= self.last


EVERYTHING = Opening("all", 0, _LAST_PORT)
ANSWERS = Opening("tcp", 1024, _LAST_PORT)
"""Ports from which connections are opened, where answers arrive: balancers, functions and Linux tasks take
theirs from 1024 on (Amazon VPC User Guide, "Ephemeral ports")."""


def opening_of(rule: Mapping[str, Value], *, sure: bool) -> Opening | None:
    """Return what a rule opens (``IpProtocol``, ``FromPort``, ``ToPort``).

    What the template does not tell is everything, or nothing where it must be ``sure``.
    """
    protocol = protocol_of(rule.get("IpProtocol"))
    if protocol is None:
        return None if sure else EVERYTHING
    if protocol not in ("tcp", "udp"):
        return whole(protocol)
    return _ports(protocol, rule.get("FromPort"), rule.get("ToPort"), sure=sure)


def opening_of_entry(entry: Mapping[str, Value], *, sure: bool) -> Opening | None:
    """Return what an entry of a network ACL is about (``Protocol``, ``PortRange``)."""
    protocol = protocol_of(entry.get("Protocol"))
    if protocol is None:
        return None if sure else EVERYTHING
    ports = entry.get("PortRange")
    if protocol not in ("tcp", "udp") or not isinstance(ports, dict):
        return whole(protocol)
    return _ports(protocol, ports.get("From"), ports.get("To"), sure=sure)


def meets(some: Iterable[Opening], others: Iterable[Opening]) -> list[Opening]:
    """Return what two sets of rules, one at each end, let through together; no part twice."""
    second = list(others)
    met = {both for one in some for other in second if (both := one.meet(other)) is not None}
    return sorted(one for one in met if not any(_inside(one, other) for other in met - {one}))


def _inside(one: Opening, other: Opening) -> bool:
    return other.protocol in ("all", one.protocol) and other.first <= one.first and one.last <= other.last


def whole(protocol: str) -> Opening:
    """Return all of a protocol."""
    return Opening(protocol, 0, _LAST_PORT)


def protocol_of(value: Value) -> str | None:
    """Return a protocol given by name or number; ``all`` for every one, None where it is not told."""
    name = text(value).lower()
    if not name or "${" in name:
        return None
    return _NUMBERS.get(name, name)


def _ports(protocol: str, first: Value, last: Value, *, sure: bool) -> Opening | None:
    if first is None and last is None:
        return whole(protocol)
    start, end = integer(first), integer(last)
    if start is None or end is None:
        return None if sure else whole(protocol)
    return whole(protocol) if start == -1 else Opening(protocol, start, end)


# Which addresses and groups a rule lets through.


_PRIVATE = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
ANYWHERE = IPv4Network("0.0.0.0/0")


def lets(rule: Mapping[str, Value], direction: Direction, *, peer: Peer, sure: bool) -> bool:
    """Return whether a rule of a security group is about the peer: possibly, or ``sure`` of all of it."""
    side = "Source" if direction == "Ingress" else "Destination"
    group = rule.get(f"{side}SecurityGroupId") or rule.get(f"{side}SecurityGroupName")
    if group is not None:
        key = key_of(group)
        return key in peer.groups or (not sure and not _is_id(key))
    if rule.get(f"{side}PrefixListId") is not None:
        # Which addresses a list holds stands in no template: a gateway's, and maybe others.
        return peer.is_gateway or not sure
    block = network_of(rule.get("CidrIp") or rule.get("CidrIpv6"))
    if peer.is_gateway and block is not None and is_private(block):
        return False
    return holds(block, peer.networks, sure=sure)


def holds(block: Network | None, networks: Sequence[Network], *, sure: bool) -> bool:
    """Return whether a block has any of the addresses, or ``sure`` all of them."""
    if block is None:
        return not sure
    if sure:
        return block.prefixlen == 0 or (bool(networks) and all(_within(one, block) for one in networks))
    same = [network for network in networks if network.version == block.version]
    return not networks or any(network.overlaps(block) for network in same)


def is_private(block: Network) -> bool:
    """Return whether all of a block's addresses are some company's own (RFC 1918, 6598 and 4193)."""
    return any(_within(block, private) for private in _PRIVATE)


def _within(one: Network, block: Network) -> bool:
    same = one.version == block.version
    return same and block.prefixlen <= one.prefixlen and one.overlaps(block)


def _is_id(key: Key) -> bool:
    return isinstance(key, Resource) or key.startswith("sg-")


# Network ACLs: what they let through a subnet's border. They keep no state: answers need an entry too.


_ENTRY = "AWS::EC2::NetworkAclEntry"
_ASSOCIATION = "AWS::EC2::SubnetNetworkAclAssociation"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Entry:
    egress: bool
    allows: bool
    block: Network | None
    surely: Opening | None
    possibly: Opening | None


class NetworkAcls:
    """A subnet without an association has the VPC's default ACL, which lets everything through."""

    def __init__(self, templates: Templates) -> None:
        self._of_subnet: dict[Key, Key] = {
            key_of(association.properties.get("SubnetId")): key_of(association.properties.get("NetworkAclId"))
            for association in templates.of(_ASSOCIATION)
        }
        # Taken one by one, so that an entry for one of them leaves the others undecided.
        self._protocols = {"tcp", "udp", "icmp", *_protocols(templates)} - {"all"}
        self._entries: dict[Key, list[_Entry]] = {}
        for entry in sorted(templates.of(_ENTRY), key=lambda one: integer(one.properties["RuleNumber"]) or 0):
            acl = key_of(entry.properties.get("NetworkAclId"))
            self._entries.setdefault(acl, []).append(_entry(entry.properties))

    def passes(
        self,
        subnets: Sequence[Value],
        *,
        egress: bool,
        networks: Sequence[Network],
        sure: bool,
    ) -> list[Opening]:
        """Return what passes the border of any of the subnets, or ``sure`` of each of them.

        ``networks`` are the addresses beyond; none where they are not known.
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
        left, passed = [whole(protocol) for protocol in sorted(self._protocols)], list[Opening]()
        for entry in self._entries.get(acl, []):
            about = entry.surely if sure else entry.possibly
            if entry.egress is not egress or about is None:
                continue
            met = [both for one in left if (both := one.meet(about)) is not None]
            if entry.allows and holds(entry.block, networks, sure=sure):
                passed += met
            # What an earlier entry has decided for all of the addresses, a later one does not decide again.
            if holds(entry.block, networks, sure=entry.allows or not sure):
                left = [rest for one in left for rest in one.without(about)]
        return passed


def _entry(properties: Mapping[str, Value]) -> _Entry:
    return _Entry(
        egress=flag(properties.get("Egress")) is True,  # CloudFormation's default is false
        allows=text(properties.get("RuleAction")) == "allow",
        block=network_of(properties.get("CidrBlock") or properties.get("Ipv6CidrBlock")),
        surely=opening_of_entry(properties, sure=True),
        possibly=opening_of_entry(properties, sure=False),
    )


def _protocols(templates: Templates) -> Iterator[str]:
    """Yield every protocol that a rule of a security group or a network ACL names."""
    kinds = ("AWS::EC2::SecurityGroup", "AWS::EC2::SecurityGroupIngress", "AWS::EC2::SecurityGroupEgress")
    for resource in templates.of(*kinds, _ENTRY):
        properties = resource.properties
        rules = [
            *items(properties.get("SecurityGroupIngress")),
            *items(properties.get("SecurityGroupEgress")),
        ]
        named = [at(rule, "IpProtocol") for rule in rules]
        for value in (*named, properties.get("IpProtocol"), properties.get("Protocol")):
            protocol = protocol_of(value)
            if protocol is not None:
                yield protocol


# What can be connected to what, by the rules at both ends and at the borders of subnets.


GATEWAY = Peer(networks=(ANYWHERE,), is_gateway=True)
"""S3 or DynamoDB behind a gateway endpoint: addresses that no template names."""


class Connections:
    """Ports are what *may* be reached when anything unknown lets it, unless one asks to be ``sure``."""

    def __init__(self, templates: Templates) -> None:
        self._groups = SecurityGroups(templates)
        self._acls = NetworkAcls(templates)

    def between(self, source: Station, target: Station, *, sure: bool = False) -> list[Opening]:
        """Return the ports of ``target`` that ``source`` reaches, both in one VPC."""
        leaving = self._openings(source.groups, "Egress", peer=target.peer, sure=sure)
        entering = self._openings(target.groups, "Ingress", peer=source.peer, sure=sure)
        reached = meets(leaving, entering)
        if not reached:
            return []
        reached = meets(reached, self._passes(source.subnets, out=True, to=target.networks, sure=sure))
        reached = meets(reached, self._passes(target.subnets, out=False, to=source.networks, sure=sure))
        if sure and not self._answered(source.subnets, target.networks):
            return []
        if sure and not self._answered(target.subnets, source.networks, from_target=True):
            return []
        return reached

    def leaving(self, source: Station, peer: Peer, *, sure: bool = False) -> list[Opening]:
        """Return the ports that ``source`` reaches outside its VPC, as far as its own side decides."""
        reached = meets(
            self._openings(source.groups, "Egress", peer=peer, sure=sure),
            self._passes(source.subnets, out=True, to=peer.networks, sure=sure),
        )
        return [] if sure and not self._answered(source.subnets, peer.networks) else reached

    def entering(self, target: Station, peer: Peer, *, sure: bool = False) -> list[Opening]:
        """Return the ports of ``target`` that an outside peer reaches, as far as its side decides."""
        reached = meets(
            self._openings(target.groups, "Ingress", peer=peer, sure=sure),
            self._passes(target.subnets, out=False, to=peer.networks, sure=sure),
        )
        if sure and not self._answered(target.subnets, peer.networks, from_target=True):
            return []
        return reached

    def rules_by_address(self, station: Station) -> list[tuple[Value, Opening]]:
        """Return what lets addresses into a station: the block (or prefix list), and the ports."""
        found: list[tuple[Value, Opening]] = []
        for group in station.groups:
            for rule in self._groups.rules(group, "Ingress"):
                block = rule.get("CidrIp") or rule.get("CidrIpv6") or rule.get("SourcePrefixListId")
                opening = opening_of(rule, sure=False)
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
                found += [] if sure else [EVERYTHING]  # its rules stand in no template
            elif not rules and direction == "Egress":
                found.append(EVERYTHING)  # what CloudFormation gives to a group without any
            for rule in rules:
                opening = None if _leads_nowhere(rule) else opening_of(rule, sure=sure)
                if opening is not None and lets(rule, direction, peer=peer, sure=sure):
                    found.append(opening)
        return found

    def _passes(
        self, subnets: Sequence[Value], *, out: bool, to: Sequence[Network], sure: bool
    ) -> list[Opening]:
        return self._acls.passes(subnets, egress=out, networks=to, sure=sure)

    def _answered(
        self, subnets: Sequence[Value], beyond: Sequence[Network], *, from_target: bool = False
    ) -> bool:
        """Return whether answers pass the border: into the source's subnets, out of the target's."""
        passed = self._passes(subnets, out=from_target, to=beyond, sure=True)
        return any(one.meet(ANSWERS) == ANSWERS for one in passed)


def _leads_nowhere(rule: Mapping[str, Value]) -> bool:
    """Return whether a rule is about the broadcast address alone, which nothing has.

    CDK writes such a rule, because a group without any may connect to everything.
    """
    return rule.get("CidrIp") == "255.255.255.255/32"
