"""Network ACLs: what they let through a subnet's border. They keep no state: answers need an entry too."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from template_checks.reachability.openings import (
    EVERYTHING,
    Opening,
    meets,
    opening_of_entry,
    protocol_of,
    whole,
)
from template_checks.reachability.peers import holds
from template_checks.security_groups import Key, Network, key_of, network_of
from template_checks.templates import Templates
from template_checks.values import Target, Value, at, flag, integer, items, text

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
