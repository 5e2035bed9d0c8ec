"""Which addresses and groups a rule lets through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, ip_network
from typing import Literal

from template_checks.security_groups import Key, Network, key_of, network_of
from template_checks.templates import Resource
from template_checks.values import Value

Direction = Literal["Ingress", "Egress"]
_PRIVATE = tuple(
    map(ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
ANYWHERE = IPv4Network("0.0.0.0/0")


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end of a connection: its groups, and its addresses (none where they are not known)."""

    groups: tuple[Key, ...] = ()
    networks: tuple[Network, ...] = ()
    is_gateway: bool = False
    """Whether a prefix list leads there: S3 or DynamoDB behind a gateway endpoint."""


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
