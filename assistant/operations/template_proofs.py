"""``python -m assistant.operations.template_proofs cdk.out``: what is proven of every tenant's templates.

The twenty-two mistakes, reachability, and that nothing pinned is lost; a line a tenant, 1 when one fails.
"""

from __future__ import annotations

import sys
from pathlib import Path

from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.operations.checking import refuse_mistakes
from assistant.operations.reaching import refuse_paths
from assistant.settings import load_tenants
from assistant.template_checks.upgrades import (
    losses,
    pins_file,
    read_pins,
    stage_folder,
    templates_by_stack_name,
    unpinned,
)

_TENANTS = Path("tenants")
_PINS = Path("stacks/pins")


def prove(assembly: Path, *, tenants: Path = _TENANTS, pins: Path = _PINS) -> list[str]:
    """Return a line for each deployed tenant. Raises the first proof's error, naming what to mend."""
    proven: list[str] = []
    for name, tenant in load_tenants(tenants).items():
        if tenant.deployment is None:
            continue
        stage = stage_folder(assembly, tenant)
        file = tenants / f"{name}.toml"
        refuse_mistakes(stage, tenant_file=file)
        refuse_paths(stage, tenant_file=file)
        pinned = _pinned(stage, pins_file(pins, tenant), name)
        proven.append(f"{name}: 22 mistakes ruled out; every path declared; {pinned}")
    return proven


def _pinned(stage: Path, file: Path, name: str) -> str:
    if not file.exists():
        return f"nothing pinned yet (make pin writes {file})"
    pins, stacks = read_pins(file), templates_by_stack_name(stage)
    wrong = [str(loss) for loss in losses(pins, stacks)]
    wrong += [f"{new} is stateful and not pinned: run make pin, and commit" for new in unpinned(pins, stacks)]
    if wrong:
        raise ConfigurationError("\n  ".join([f"{name}: this would take away what must stay:", *wrong]))
    return f"{sum(len(resources) for resources in pins.stacks.values())} stateful resources stay"


if __name__ == "__main__":
    try:
        for line in prove(Path(sys.argv[1])):
            sys.stdout.write(f"{line}\n")
    except AssistantError as error:
        sys.exit(error.message)
