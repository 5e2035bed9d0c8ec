"""``python -m tools.tenant_matrix``: the tenants that a delivery deploys, and in which waves.

The delivery's workflow reads three lines as outputs, for its matrices of jobs:

    tenants=[{"tenant": "pharmacy", "account": "111122223333", "region": "us-east-1", "profile": "hipaa",
    "environment": "hipaa-pharmacy"}, …]
    first=[…]
    accounts=[{"account": "111122223333", "tenants": "[…]"}, …]

``tenants`` has a row for each. That of ``first`` is delivered alone; then the others by account, all accounts
at once. ``environment`` is the tenant's environment at the host of the repository. That of profile ``hipaa``
has another name, so that rules can ask for a reviewer there.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployment import Profile
from assistant.tenant.tenant import TenantConfig, load_tenant, load_tenants

Row = dict[str, str]
_PROFILES = get_args(Profile)
"""The least strict first."""


def matrix(folder: Path, *, only: str = "") -> list[Row]:
    """Return a row for each tenant with a ``[deployment]``, the least strict profile first, or for those of
    ``only`` in its order (``"pharmacy, clinic"``).

    Raises ConfigurationError naming file and key.
    """
    names = only.replace(",", " ").split()
    tenants = [load_tenant(folder / f"{name}.toml") for name in names] if names else _readable(folder)
    rows = [
        {
            "tenant": tenant.name,
            "account": tenant.deployment.account,
            "region": tenant.deployment.region,
            "profile": tenant.deployment.profile,
            "environment": f"hipaa-{tenant.name}" if tenant.deployment.profile == "hipaa" else tenant.name,
        }
        for tenant in tenants
        if tenant.deployment is not None
    ]
    return rows if names else sorted(rows, key=lambda row: _PROFILES.index(row["profile"]))


def waves(rows: Sequence[Row]) -> tuple[Sequence[Row], list[Row]]:
    """Return the rows of the tenant that is delivered first, alone, and each account with its other tenants,
    as JSON, in order."""
    accounts = dict.fromkeys(row["account"] for row in rows[1:])
    rest = {account: [row for row in rows[1:] if row["account"] == account] for account in accounts}
    return rows[:1], [{"account": name, "tenants": json.dumps(each)} for name, each in rest.items()]


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
        rows = matrix(arguments.tenants, only=arguments.only)
    except ConfigurationError as error:
        sys.exit(error.message)
    first, accounts = waves(rows)
    for name, output in (("tenants", rows), ("first", first), ("accounts", accounts)):
        sys.stdout.write(f"{name}={json.dumps(output)}\n")


if __name__ == "__main__":
    main()
