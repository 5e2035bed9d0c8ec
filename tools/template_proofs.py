"""``python -m tools.template_proofs cdk.out --tenants DIR --pins DIR``: proves every tenant's templates.

It checks the rules of AWS services, reachability, and that no pinned resource is lost. It prints a line for
each tenant: "pharmacy: 15 rules of AWS services hold; every path declared; 52 stateful resources stay". The
exit status is 1 when a tenant file or a proof fails.

``--write-pins`` (``make pin``) writes the files of pins instead. Run it deliberately: it accepts every
replacement and deletion.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, cast

from assistant.cli.aws.templates import refuse_broken_rules, refuse_paths
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.tenant.tenant import TenantConfig, load_tenants
from template_checks import InvalidInputError
from template_checks.rules import RULES
from template_checks.upgrades import (
    STATEFUL_TYPES,
    faults,
    pin,
    read_pins,
    templates_by_stack_name,
    write_pins,
)

_REGION = "us-east-1"
"""Whose schemas of resource types are read: it has all types."""


def proof(tenant: TenantConfig, assembly: Path, *, tenants: Path, pins: Path) -> str:
    """Return what was proven of a tenant's templates. Raises AssistantError, InvalidInputError.

    ``assembly``: ``cdk.out``. ``tenants``, ``pins``: folders with a file for each tenant.
    """
    stage = assembly / f"assembly-{tenant.stage_id}"
    if not stage.is_dir():
        raise ConfigurationError(
            f"{tenant.name}: {assembly} has no templates of it; what cdk synth said of its file is above."
        )
    file, pins_file = tenants / f"{tenant.name}.toml", pins / f"{tenant.name}.json"
    refuse_broken_rules(stage, tenant_file=file)
    refuse_paths(stage, tenant_file=file)
    pin_result = f"nothing pinned yet (make pin writes {pins_file})"
    if pins_file.exists():
        pinned_stacks = read_pins(pins_file)
        if losses := faults(pinned_stacks, templates_by_stack_name(stage)):
            head = f"{tenant.name}: this would take away what must stay, or is to be pinned by make pin:"
            raise ConfigurationError("\n  ".join([head, *losses]))
        pin_result = f"{sum(map(len, pinned_stacks.stacks.values()))} stateful resources stay"
    return f"{tenant.name}: {len(RULES)} rules of AWS services hold; every path declared; {pin_result}"


def pin_tenants(assembly: Path, *, tenants: Path, pins: Path) -> list[Path]:
    """Write the pins of every deployed tenant; return the files."""
    written: list[Path] = []
    for tenant in load_tenants(tenants).tenants.values():
        if tenant.deployment is not None:
            path = pins / f"{tenant.name}.json"
            templates = templates_by_stack_name(assembly / f"assembly-{tenant.stage_id}")
            write_pins(path, pin(templates, replacing_properties()))
            written.append(path)
    return written


def replacing_properties() -> dict[str, tuple[str, ...]]:
    """Return, for each stateful type, the paths whose change replaces it always or in some cases, by
    CloudFormation's own schemas, which cfn-lint contains."""
    from cfnlint.schema.manager import PROVIDER_SCHEMA_MANAGER

    properties: dict[str, tuple[str, ...]] = {}
    for kind in sorted(STATEFUL_TYPES):
        schema = cast("dict[str, Any]", PROVIDER_SCHEMA_MANAGER.get_resource_schema(_REGION, kind).schema)
        always, sometimes = (
            schema.get(f"{name}Properties") or () for name in ("createOnly", "conditionalCreateOnly")
        )
        paths = (str(path).removeprefix("/properties/") for path in (*always, *sometimes))
        properties[kind] = tuple(sorted(paths))
    return properties


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.template_proofs", description=__doc__)
    parser.add_argument("assembly", type=Path)
    parser.add_argument("--tenants", type=Path, default=Path("tenants"))
    parser.add_argument("--pins", type=Path, default=Path("stacks/pins"))
    parser.add_argument("--write-pins", action="store_true")
    arguments = parser.parse_args()
    if arguments.write_pins:
        for file in pin_tenants(arguments.assembly, tenants=arguments.tenants, pins=arguments.pins):
            sys.stdout.write(f"{file.name}\n")
        return
    try:
        files = load_tenants(arguments.tenants)
    except ConfigurationError as error:
        sys.exit(error.message)
    refused = [error.message for error in files.refused.values()]
    for tenant in files.tenants.values():
        if tenant.deployment is not None:
            try:
                proven = proof(tenant, arguments.assembly, tenants=arguments.tenants, pins=arguments.pins)
                sys.stdout.write(f"{proven}\n")
            except (AssistantError, InvalidInputError) as error:
                refused.append(error.message)
    if refused:
        sys.exit("\n".join(refused))


if __name__ == "__main__":
    main()
