"""``python -m tools.template_proofs cdk.out --tenants DIR``: proves every tenant's templates.

It checks the rules of AWS services and reachability. It prints a line for each tenant: "pharmacy: 15 rules of
AWS services hold; every path declared". The exit status is 1 when a tenant file or a proof fails.
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


def proof(tenant: TenantConfig, assembly: Path, *, tenants: Path) -> str:
    """Return what was proven of a tenant's templates. Raises AssistantError, InvalidInputError.

    ``assembly``: ``cdk.out``. ``tenants``: the folder with a file for each tenant.
    """
    stage = assembly / f"assembly-{tenant.stage_id}"
    if not stage.is_dir():
        raise ConfigurationError(
            f"{tenant.name}: {assembly} has no templates of it; what cdk synth said of its file is above."
        )
    file = tenants / f"{tenant.name}.toml"
    refuse_broken_rules(stage, tenant_file=file)
    refuse_paths(stage, tenant_file=file)
    return f"{tenant.name}: {len(RULES)} rules of AWS services hold; every path declared"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tools.template_proofs", description=__doc__)
    parser.add_argument("assembly", type=Path)
    parser.add_argument("--tenants", type=Path, default=Path("tenants"))
    arguments = parser.parse_args()
    try:
        files = load_tenants(arguments.tenants)
    except ConfigurationError as error:
        sys.exit(error.message)
    refused = [error.message for error in files.refused.values()]
    for tenant in files.tenants.values():
        if tenant.deployment is not None:
            try:
                proven = proof(tenant, arguments.assembly, tenants=arguments.tenants)
                sys.stdout.write(f"{proven}\n")
            except (AssistantError, InvalidInputError) as error:
                refused.append(error.message)
    if refused:
        sys.exit("\n".join(refused))


if __name__ == "__main__":
    main()
