"""Pictures and tables of a page, drawn from the templates::

    python -m tools.architecture_pictures cdk.out/assembly-Pharmacy docs/architecture.md

rewrites the text between the page's markers. The pictures are Mermaid text: the places that show the page
draw them, and a review can read a difference.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from assistant.cli.tenant_templates import Kind, intended_paths, prove
from assistant.domain.errors import ConfigurationError
from template_checks import InvalidInputError
from template_checks.reachability import Report, Row
from template_checks.reachability.stations import VPC, Station, stations
from template_checks.templates import Templates
from template_checks.values import text
from tools.tables import markdown_table

_GATEWAYS = (str(Kind.DYNAMODB), str(Kind.S3))
_SHAPES = {
    Kind.CARE_SIDE: ("([", "])"),
    Kind.SEARCH: ("[(", ")]"),
    Kind.AWS: ("[[", "]]"),
    Kind.SYSTEM: ("[[", "]]"),
    "gateways": ("[(", ")]"),
}


def network_picture(templates: Templates, report: Report) -> str:
    """Return the reachable paths as a Mermaid flowchart: an arrow for each path, with its port."""
    found = stations(templates, intended_paths())
    names = sorted({name for row in report.rows for name in _ends(row)}, key=_order)
    labels = {name: _label(name, found) for name in names}
    inside = [name for name in labels if name in {station.row_name for station in found}]
    lines = ["flowchart LR"]
    lines += [f"  {_node(name, labels[name])}" for name in labels if name not in inside]
    lines += [f'  subgraph vpc["{_vpc_label(templates)}"]']
    lines += [f"    {_node(name, labels[name])}" for name in inside]
    lines += ["  end"]
    arrows = {(_ends(row), _port(row)) for row in report.rows}
    ordered = sorted(arrows, key=lambda arrow: [_order(end) for end in arrow[0]])
    lines += [f"  {_id(a)} -->|{port}| {_id(b)}" for (a, b), port in ordered]
    return _fenced(lines)


def stacks_picture(templates: Templates) -> str:
    """Return the order of stacks as a Mermaid flowchart, without arrows that follow from others."""
    needs = _needs(templates)
    reduced = {
        name: {one for one in direct if not any(one in _all_needs(other, needs) for other in direct - {one})}
        for name, direct in needs.items()
    }
    names = sorted(template.name for template in templates.templates)
    lines = ["flowchart LR"]
    lines += [
        f"  {_short(before)} --> {_short(name)}" for name in names for before in sorted(reduced.get(name, ()))
    ]
    return _fenced(lines)


def reach_table(report: Report) -> str:
    """Return every path as a Markdown table, grouped by source."""
    grouped: dict[tuple[str, str, str, str], list[str]] = defaultdict(list)
    for row in report.rows:
        grouped[row.source, row.port, row.by, row.judged].append(row.target)
    rows = [
        (source, ", ".join(targets), port, by, judged)
        for (source, port, by, judged), targets in grouped.items()
    ]
    return markdown_table(("from", "reaches", "on", "by", "judged"), rows)


def calls_table(report: Report) -> str:
    """Return the called services by caller as a Markdown table."""
    grouped: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in report.calls:
        grouped[row.caller, row.by, row.judged].add(row.service)
    rows = [
        (caller, ", ".join(sorted(services)), by, judged)
        for (caller, by, judged), services in sorted(grouped.items())
    ]
    return markdown_table(("caller", "calls", "by", "judged"), rows)


def rewritten(page: str, templates: Templates) -> str:
    """Return the page with everything between its markers replaced.

    Raises ConfigurationError for a marker that nothing draws or that does not end.
    """
    report = prove(templates)
    parts: dict[str, Callable[[], str]] = {
        "stacks": lambda: stacks_picture(templates),
        "network": lambda: network_picture(templates, report),
        "reach": lambda: reach_table(report),
        "calls": lambda: calls_table(report),
    }
    for name in re.findall(r"<!-- drawn: (\S+) -->", page):
        begin, end = f"<!-- drawn: {name} -->\n", f"<!-- /drawn: {name} -->"
        if name not in parts or end not in page:
            raise ConfigurationError(
                f"Marker {begin.strip()} has no end, or nothing draws it: {list(parts)}."
            )
        head, _, rest = page.partition(begin)
        page = f"{head}{begin}{parts[name]()}{end}{rest.partition(end)[2]}"
    return page


def _ends(row: Row) -> tuple[str, str]:
    return row.source, "gateways" if row.target in _GATEWAYS else row.target


def _order(name: str) -> tuple[int, str]:
    """Sort as ``Kind`` does: from the way in to what is reached last."""
    return next((place for place, kind in enumerate(Kind) if name.startswith(kind)), len(Kind)), name


def _port(row: Row) -> str:
    port = row.port.removeprefix("tcp ")
    return f"PrivateLink, {port}" if row.by == "PrivateLink" else port


def _label(name: str, found: Iterable[Station]) -> str:
    if name == "gateways":
        return "S3, DynamoDB<br/>by gateway endpoints"
    alike = {station.resource.logical_id: station for station in found if station.row_name == name}
    if name == Kind.AWS:
        services = sorted(_service(station) for station in alike.values())
        lines = [", ".join(services[at : at + 2]) for at in range(0, len(services), 2)]
        return "<br/>".join([name, *lines])
    if name.startswith(Kind.CARE_SIDE):
        return name.replace(f"{Kind.CARE_SIDE} ", f"{Kind.CARE_SIDE}<br/>")
    return f"{name} ({len(alike)})" if len(alike) > 1 else name


def _service(station: Station) -> str:
    name = text(station.resource.properties.get("ServiceName"))
    return name.partition("amazonaws.")[2].partition(".")[2]


def _vpc_label(templates: Templates) -> str:
    vpcs = templates.of(VPC)
    zones = sorted(text(s.properties.get("AvailabilityZone")) for s in templates.of("AWS::EC2::Subnet"))
    blocks = ", ".join(text(vpc.properties.get("CidrBlock")) for vpc in vpcs)
    return f"VPC {blocks}, isolated subnets in {', '.join(zones)}" if vpcs else "an existing VPC"


def _node(name: str, label: str) -> str:
    left, right = next((shape for kind, shape in _SHAPES.items() if name.startswith(kind)), ("[", "]"))
    return f'{_id(name)}{left}"{label}"{right}'


def _id(name: str) -> str:
    return re.sub(r"\W+", "_", name).strip("_")


def _needs(templates: Templates) -> dict[str, set[str]]:
    """Return each stack = the stacks whose outputs its template uses."""
    needs: dict[str, set[str]] = defaultdict(set)
    for resource in templates.of():
        for other in templates.dependencies(resource):
            if other.template is not resource.template:
                needs[resource.template.name].add(other.template.name)
    return needs


def _all_needs(name: str, needs: Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for one in needs.get(waiting.pop(), set()) - found:
            found.add(one)
            waiting.append(one)
    return found


def _short(name: str) -> str:
    return name.rpartition("-")[2]


def _fenced(lines: Iterable[str]) -> str:
    return "```mermaid\n" + "\n".join(lines) + "\n```\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.architecture_pictures")
    parser.add_argument("templates", type=Path, help="of one tenant: cdk.out/assembly-Pharmacy")
    parser.add_argument("page", type=Path)
    arguments = parser.parse_args()
    try:
        templates = Templates.read([arguments.templates])
        page = rewritten(arguments.page.read_text(encoding="utf-8"), templates)
    except (ConfigurationError, InvalidInputError) as error:
        sys.exit(error.message)
    arguments.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
