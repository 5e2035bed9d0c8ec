"""An account with both tenants: the worst case, because no account boundary separates them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from tests.stacks.rights.model import Account, read_account


@pytest.fixture(scope="session")
def assemblies(
    assembly: Path, account_assembly: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Folders of the templates of tenants and of the account stage."""
    both = tmp_path_factory.mktemp("tenants")
    for stage in ("Pharmacy", "Clinic"):
        shutil.copytree(assembly / f"assembly-{stage}", both / f"assembly-{stage}")
    return both, account_assembly


@pytest.fixture(scope="session")
def _as_deployed(assemblies: tuple[Path, Path]) -> Account:
    return read_account(*assemblies)


@pytest.fixture
def account(_as_deployed: Account) -> Account:
    """Return a copy of the account, which the test may change."""
    return replace(_as_deployed, roles=list(_as_deployed.roles), stores=list(_as_deployed.stores))
