"""Security groups: whether a connection may leave one and enter another, by the rules in the templates."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from typing import Literal, TypeAlias

from template_checks.templates import Resource, Templates
from template_checks.values import Target, Value, integer, items, mapping, text

Direction = Literal["Ingress", "Egress"]
Network: TypeAlias = IPv4Network | IPv6Network
Key: TypeAlias = Resource | str
"""What a reference leads to: a resource of the templates, or its text (an id, an unknown)."""


def key_of(value: Value) -> Key:
    """Return what two references to the same thing have in common."""
    return value.resource if isinstance(value, Target) else text(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other side of a connection: its groups, and the address blocks it may have."""

    groups: tuple[Key, ...] = ()
    networks: tuple[Network, ...] = ()


class SecurityGroups:
    """The rules of all groups, inline and standalone."""

    def __init__(self, templates: Templates) -> None:
        self._standalone: dict[tuple[Direction, Key], list[Mapping[str, Value]]] = {}
        directions: tuple[Direction, ...] = ("Ingress", "Egress")
        for direction in directions:
            for rule in templates.of(f"AWS::EC2::SecurityGroup{direction}"):
                key = key_of(rule.properties.get("GroupId"))
                self._standalone.setdefault((direction, key), []).append(rule.properties)

    def rules(self, group: Key, direction: Direction) -> list[Mapping[str, Value]]:
        """Return a group's rules."""
        inline = group.properties.get(f"SecurityGroup{direction}") if isinstance(group, Resource) else None
        return [*map(mapping, items(inline)), *self._standalone.get((direction, group), [])]

    def allow(self, groups: Iterable[Key], direction: Direction, *, port: int, peer: Peer) -> bool | None:
        """Return whether any of the groups lets TCP pass to or from every address of the peer.

        None where a rule or a group that the templates do not tell may decide it.
        """
        verdicts = [self._allows(group, direction, port=port, peer=peer) for group in groups]
        if True in verdicts:
            return True
        return None if None in verdicts else False

    def _allows(self, group: Key, direction: Direction, *, port: int, peer: Peer) -> bool | None:
        rules = self.rules(group, direction)
        if not rules and direction == "Egress" and isinstance(group, Resource):
            return True  # a group made without any egress rule may connect to everything
        peers = [_peer(rule, direction) for rule in rules if _covers(rule, port) is True]
        if any(key in peer.groups for key, _ in peers if key is not None):
            return True
        blocks = [block for _, block in peers if block is not None]
        if _all_within(peer.networks, blocks) or any(block.prefixlen == 0 for block in blocks):
            return True
        is_open = any(key is None and block is None for key, block in peers)
        is_open = is_open or any(_covers(rule, port) is None for rule in rules)
        # A peer known by its groups alone may still have addresses that a block holds.
        is_open = is_open or (bool(peer.groups) and not peer.networks and bool(blocks))
        return None if is_open or not isinstance(group, Resource) else False

    def has_source(self, groups: Iterable[Key], *, port: int) -> bool:
        """Return whether any rule lets anything in on the port (unknown rules count as such)."""
        return any(
            _covers(rule, port) is not False for group in groups for rule in self.rules(group, "Ingress")
        )


def _covers(rule: Mapping[str, Value], port: int) -> bool | None:
    protocol = text(rule.get("IpProtocol"))
    if protocol in ("-1", "all"):
        return True
    if protocol not in ("tcp", "6"):
        return None if "${" in protocol else False
    first, last = integer(rule.get("FromPort")), integer(rule.get("ToPort"))
    if first is None or last is None:
        return None
    return first <= port <= last or first == -1


def _peer(rule: Mapping[str, Value], direction: Direction) -> tuple[Key | None, Network | None]:
    """Return a rule's group or address block; neither where it is another or an unknown thing."""
    side = "Source" if direction == "Ingress" else "Destination"
    group = rule.get(f"{side}SecurityGroupId") or rule.get(f"{side}SecurityGroupName")
    if group is not None:
        return key_of(group), None
    return None, network_of(rule.get("CidrIp") or rule.get("CidrIpv6"))


def network_of(value: Value) -> Network | None:
    """Return an address block, given as text or as a VPC's or subnet's; None where it is not known."""
    if isinstance(value, Target) and value.attribute == "CidrBlock":
        value = value.resource.properties.get("CidrBlock")
    try:
        return ip_network(text(value), strict=False)
    except ValueError:
        return None


def networks_of(subnets: Sequence[Value]) -> tuple[Network, ...]:
    """Return the address blocks of subnets, or of their VPC where the templates do not hold theirs."""
    return tuple(_networks(subnets))


def _networks(subnets: Sequence[Value]) -> Iterator[Network]:
    for subnet in subnets:
        if isinstance(subnet, Target):
            own = network_of(subnet.resource.properties.get("CidrBlock"))
            vpc = subnet.resource.properties.get("VpcId")
            whole = network_of(vpc.resource.properties.get("CidrBlock")) if isinstance(vpc, Target) else None
            found = own or whole
            if found is not None:
                yield found


def _all_within(networks: Sequence[Network], blocks: Sequence[Network]) -> bool:
    together = [
        *collapse_addresses(block for block in blocks if isinstance(block, IPv4Network)),
        *collapse_addresses(block for block in blocks if isinstance(block, IPv6Network)),
    ]
    return bool(networks) and all(any(_within(one, block) for block in together) for one in networks)


def _within(one: Network, block: Network) -> bool:
    if isinstance(one, IPv4Network) and isinstance(block, IPv4Network):
        return one.subnet_of(block)
    if isinstance(one, IPv6Network) and isinstance(block, IPv6Network):
        return one.subnet_of(block)
    return False
