"""Reachability, from templates alone: from every workload, what can be reached on which port.

``prove`` computes every path that the templates open (routes, security groups, network ACLs, gateway
endpoints), holds them against the declared ones (``kinds.DECLARED``), and asks that all that is called is
reachable, endpoint policies included. Where something decides that no template holds (routes of an existing
VPC, rules of an existing group) it says ``not proven``, and takes it for open when it looks for paths that
should not be.
"""

from __future__ import annotations

from collections.abc import Iterator

from template_checks.facts import Facts
from template_checks.findings import Finding
from template_checks.reachability import borders, paths
from template_checks.reachability.report import CallRow, Report, Row, merged
from template_checks.reachability.scene import Scene
from template_checks.templates import Templates

__all__ = ["CallRow", "Report", "Row", "prove"]


def prove(templates: Templates, *, facts: Facts | None = None) -> Report:
    """Return what can be reached, and what is wrong with it, over all worlds of the templates.

    Give the templates of one tenant, all of them.
    """
    known = facts or Facts()
    return merged(_report(Scene(world, facts=known)) for world in templates.worlds())


def _report(scene: Scene) -> Report:
    found = list(_found(scene))
    return Report(
        rows=tuple(one for one in found if isinstance(one, Row)),
        calls=tuple(one for one in found if isinstance(one, CallRow)),
        findings=tuple(one for one in found if isinstance(one, Finding)),
    )


def _found(scene: Scene) -> Iterator[Row | CallRow | Finding]:
    yield from paths.within_vpcs(scene)
    yield from paths.to_gateways(scene)
    yield from paths.from_addresses(scene)
    yield from paths.by_routes(scene)
    yield from paths.callers_of_systems(scene)
    yield from borders.opened(scene)
    yield from borders.doors(scene)
    yield from borders.default_groups(scene)
    yield from borders.untold(scene)
    yield from paths.way_in(scene)
    yield from paths.calls(scene)
