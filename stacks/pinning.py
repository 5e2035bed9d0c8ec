"""``python -m stacks.pinning cdk.out TENANTS PINS``: rewrites the files of pins (``stacks/pins``).

CloudFormation's own schemas, which cfn-lint contains, say which properties force a replacement. Run it
deliberately: it accepts every replacement and deletion.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, cast

from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

from assistant.tenant.tenant import load_tenants
from template_checks.upgrades import STATEFUL_TYPES, pin, templates_by_stack_name, write_pins

_REGION = "us-east-1"
_PREFIX = "/properties/"


def replacing_properties() -> dict[str, tuple[str, ...]]:
    """Return, for each stateful type, the paths whose change replaces it always or in some cases."""
    properties: dict[str, tuple[str, ...]] = {}
    for kind in sorted(STATEFUL_TYPES):
        schema = cast("dict[str, Any]", PROVIDER_SCHEMA_MANAGER.get_resource_schema(_REGION, kind).schema)
        paths: list[Any] = [
            *(schema.get("createOnlyProperties") or ()),
            *(schema.get("conditionalCreateOnlyProperties") or ()),
        ]
        properties[kind] = tuple(sorted(str(path).removeprefix(_PREFIX) for path in paths))
    return properties


def pin_tenants(assembly: Path, *, tenants: Path, pins: Path) -> list[Path]:
    """Write the pins of every deployed tenant; return the files."""
    written: list[Path] = []
    for tenant in load_tenants(tenants).tenants.values():
        if tenant.deployment is None:
            continue
        path = pins / f"{tenant.name}.json"
        templates = templates_by_stack_name(assembly / f"assembly-{tenant.stage_id}")
        write_pins(path, pin(templates, replacing_properties()))
        written.append(path)
    return written


if __name__ == "__main__":
    for tenant in pin_tenants(Path(sys.argv[1]), tenants=Path(sys.argv[2]), pins=Path(sys.argv[3])):
        sys.stdout.write(f"{tenant.name}\n")
