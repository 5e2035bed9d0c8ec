"""``python -m tools.template_proofs cdk.out``: proves every tenant's templates.

It checks the rules of AWS services, reachability, and that no pinned resource is lost; it prints a line a
tenant. The exit status is 1 when a file or a proof fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

from assistant.cli.templates import refuse_broken_rules, refuse_paths
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.settings.tenant import TenantConfig, load_tenants
from template_checks import InvalidInputError
from template_checks.rules import RULES
from template_checks.upgrades import faults, read_pins, templates_by_stack_name

_TENANTS = Path("tenants")
_PINS = Path("stacks/pins")


def proof(tenant: TenantConfig, assembly: Path) -> str:
    """Return what was proven of a tenant's templates. Raises AssistantError, InvalidInputError."""
    stage = assembly / f"assembly-{tenant.stage_id}"
    if not stage.is_dir():
        raise ConfigurationError(
            f"{tenant.name}: {assembly} has no templates of it; what cdk synth said of its file is above."
        )
    file, pins_file = _TENANTS / f"{tenant.name}.toml", _PINS / f"{tenant.name}.json"
    refuse_broken_rules(stage, tenant_file=file)
    refuse_paths(stage, tenant_file=file)
    pinned = f"nothing pinned yet (make pin writes {pins_file})"
    if pins_file.exists():
        pins = read_pins(pins_file)
        if wrong := faults(pins, templates_by_stack_name(stage)):
            head = f"{tenant.name}: this would take away what must stay, or is to be pinned by make pin:"
            raise ConfigurationError("\n  ".join([head, *wrong]))
        pinned = f"{sum(len(resources) for resources in pins.stacks.values())} stateful resources stay"
    return f"{tenant.name}: {len(RULES)} rules of AWS services hold; every path declared; {pinned}"


def main(assembly: Path) -> None:
    try:
        files = load_tenants(_TENANTS)
    except ConfigurationError as error:
        sys.exit(error.message)
    refused = [error.message for error in files.refused.values()]
    for tenant in files.tenants.values():
        if tenant.deployment is not None:
            try:
                sys.stdout.write(f"{proof(tenant, assembly)}\n")
            except (AssistantError, InvalidInputError) as error:
                refused.append(error.message)
    if refused:
        sys.exit("\n".join(refused))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
