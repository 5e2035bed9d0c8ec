"""``python -m tools.tenant_matrix``: the tenants that a delivery deploys.

The delivery's workflow reads the line as an output, for its matrix of jobs:

    tenants=[{"tenant": "pharmacy", "region": "us-east-1", "profile": "hipaa", "environment":
    "hipaa-pharmacy"}]

``environment`` is the tenant's environment at the host of the repository. That of profile ``hipaa`` has
another name, so that rules can ask for a reviewer there.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from assistant.domain.errors import ConfigurationError
from assistant.tenant.tenant import TenantConfig, load_tenant, load_tenants


def matrix(folder: Path, *, only: str = "") -> list[dict[str, str]]:
    """Return a row for each tenant with a ``[deployment]``, or for those of ``only`` (``"pharmacy,
    clinic"``).

    Raises ConfigurationError naming file and key.
    """
    names = only.replace(",", " ").split()
    tenants = [load_tenant(folder / f"{name}.toml") for name in names] if names else _readable(folder)
    return [
        {
            "tenant": tenant.name,
            "region": tenant.deployment.region,
            "profile": tenant.deployment.profile,
            "environment": f"hipaa-{tenant.name}" if tenant.deployment.profile == "hipaa" else tenant.name,
        }
        for tenant in tenants
        if tenant.deployment is not None
    ]


def _readable(folder: Path) -> list[TenantConfig]:
    """Return the tenants with valid files; warn about an invalid one, which does not stop the others."""
    files = load_tenants(folder)
    for error in files.refused.values():
        sys.stderr.write(f"warning: {error.message}\n")
    return list(files.tenants.values())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenants", type=Path, default=Path("tenants"))
    parser.add_argument("--only", default="", metavar="NAMES", help="separated by spaces or commas")
    arguments = parser.parse_args()
    try:
        sys.stdout.write(f"tenants={json.dumps(matrix(arguments.tenants, only=arguments.only))}\n")
    except ConfigurationError as error:
        sys.exit(error.message)


if __name__ == "__main__":
    main()
