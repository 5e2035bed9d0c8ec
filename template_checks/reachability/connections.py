"""What can be connected to what, by the rules at both ends and at the borders of subnets."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from template_checks.reachability.network_acls import NetworkAcls
from template_checks.reachability.openings import ANSWERS, EVERYTHING, Opening, meets, opening_of
from template_checks.reachability.peers import ANYWHERE, Direction, Peer, lets
from template_checks.reachability.stations import Station
from template_checks.security_groups import Key, Network, SecurityGroups
from template_checks.templates import Resource, Templates
from template_checks.values import Value

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
