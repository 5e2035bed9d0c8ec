"""Ports that rules open, and what two sets of rules open together."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from template_checks.values import Value, integer, text

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
