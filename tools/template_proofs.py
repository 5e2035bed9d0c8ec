"""``python -m tools.template_proofs cdk.out``: proves every tenant's templates.

It checks the rules of AWS services, reachability, and that no pinned resource is lost; it prints a line a
tenant. The exit status is 1 when a file or a proof fails.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from assistant.cli.templates import refuse_broken_rules, refuse_paths
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.settings.tenant import TenantConfig, load_tenants
from template_checks import InvalidInputError
from template_checks.rules import RULES
from template_checks.upgrades import losses, read_pins, templates_by_stack_name, unpinned

_TENANTS = Path("tenants")
_PINS = Path("stacks/pins")


@dataclass(frozen=True, slots=True)
class Proofs:
    """A line for each tenant that passes, and an error for each other."""

    proven: tuple[str, ...]
    refused: tuple[str, ...]


def prove(assembly: Path, *, tenants: Path = _TENANTS, pins: Path = _PINS) -> Proofs:
    """Check the templates of each deployed tenant. Raises ConfigurationError when no tenant file is valid."""
    files = load_tenants(tenants)
    proven: list[str] = []
    refused = [error.message for error in files.refused.values()]
    for tenant in files.tenants.values():
        if tenant.deployment is None:
            continue
        try:
            proven.append(_proof(tenant, assembly, tenants=tenants, pins=pins))
        except (AssistantError, InvalidInputError) as error:
            refused.append(error.message)
    return Proofs(tuple(proven), tuple(refused))


def _proof(tenant: TenantConfig, assembly: Path, *, tenants: Path, pins: Path) -> str:
    stage = assembly / f"assembly-{tenant.stage_id}"
    if not stage.is_dir():
        raise ConfigurationError(
            f"{tenant.name}: {assembly} has no templates of it; what cdk synth said of its file is above."
        )
    file = tenants / f"{tenant.name}.toml"
    refuse_broken_rules(stage, tenant_file=file)
    refuse_paths(stage, tenant_file=file)
    pinned = _pinned(stage, pins / f"{tenant.name}.json", tenant.name)
    return f"{tenant.name}: {len(RULES)} rules of AWS services hold; every path declared; {pinned}"


def _pinned(stage: Path, file: Path, name: str) -> str:
    if not file.exists():
        return f"nothing pinned yet (make pin writes {file})"
    pins, stacks = read_pins(file), templates_by_stack_name(stage)
    wrong = [str(loss) for loss in losses(pins, stacks)]
    wrong += [f"{new} is stateful and not pinned: run make pin, and commit" for new in unpinned(pins, stacks)]
    if wrong:
        raise ConfigurationError("\n  ".join([f"{name}: this would take away what must stay:", *wrong]))
    return f"{sum(len(resources) for resources in pins.stacks.values())} stateful resources stay"


def main(assembly: Path) -> None:
    try:
        reports = prove(assembly)
    except (AssistantError, InvalidInputError) as error:
        sys.exit(error.message)
    for line in reports.proven:
        sys.stdout.write(f"{line}\n")
    if reports.refused:
        sys.exit("\n".join(reports.refused))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
