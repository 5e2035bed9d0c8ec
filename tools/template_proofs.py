"""``python -m tools.template_proofs cdk.out --tenants DIR --pins DIR``: proves every tenant's templates.

It checks the rules of AWS services, reachability, and that no pinned resource is lost; it prints a line a
tenant. The exit status is 1 when a file or a proof fails.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from assistant.cli.aws.templates import refuse_broken_rules, refuse_paths
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.tenant.tenant import TenantConfig, load_tenants
from template_checks import InvalidInputError
from template_checks.rules import RULES
from template_checks.upgrades import faults, read_pins, templates_by_stack_name


def proof(tenant: TenantConfig, assembly: Path, *, tenants: Path, pins: Path) -> str:
    """Return what was proven of a tenant's templates. Raises AssistantError, InvalidInputError."""
    stage = assembly / f"assembly-{tenant.stage_id}"
    if not stage.is_dir():
        raise ConfigurationError(
            f"{tenant.name}: {assembly} has no templates of it; what cdk synth said of its file is above."
        )
    file, pins_file = tenants / f"{tenant.name}.toml", pins / f"{tenant.name}.json"
    refuse_broken_rules(stage, tenant_file=file)
    refuse_paths(stage, tenant_file=file)
    pinned = f"nothing pinned yet (make pin writes {pins_file})"
    if pins_file.exists():
        pinned_stacks = read_pins(pins_file)
        if wrong := faults(pinned_stacks, templates_by_stack_name(stage)):
            head = f"{tenant.name}: this would take away what must stay, or is to be pinned by make pin:"
            raise ConfigurationError("\n  ".join([head, *wrong]))
        pinned = f"{sum(map(len, pinned_stacks.stacks.values()))} stateful resources stay"
    return f"{tenant.name}: {len(RULES)} rules of AWS services hold; every path declared; {pinned}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.template_proofs", description=__doc__)
    parser.add_argument("assembly", type=Path)
    parser.add_argument("--tenants", type=Path, default=Path("tenants"))
    parser.add_argument("--pins", type=Path, default=Path("stacks/pins"))
    given = parser.parse_args()
    try:
        files = load_tenants(given.tenants)
    except ConfigurationError as error:
        sys.exit(error.message)
    refused = [error.message for error in files.refused.values()]
    for tenant in files.tenants.values():
        if tenant.deployment is not None:
            try:
                proven = proof(tenant, given.assembly, tenants=given.tenants, pins=given.pins)
                sys.stdout.write(f"{proven}\n")
            except (AssistantError, InvalidInputError) as error:
                refused.append(error.message)
    if refused:
        sys.exit("\n".join(refused))


if __name__ == "__main__":
    main()
