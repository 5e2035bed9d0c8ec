"""Two emulated accounts, and a clone that a platform engineer works in, once for each tenant."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stacks.emulated_account import EmulatedAccount
from tests.stacks.synthesized import ROOT
from tests.walk.walking import Walk, begin, both_accounts


@pytest.fixture(scope="module")
def accounts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[EmulatedAccount, EmulatedAccount]]:
    with both_accounts(tmp_path_factory) as made:
        yield made


@pytest.fixture(params=["sandbox", "northcare"])
def walk(
    request: pytest.FixtureRequest, tmp_path: Path, accounts: tuple[EmulatedAccount, EmulatedAccount]
) -> Walk:
    account, care = accounts
    walk = begin(request.param, tmp_path / "clone", account, account if request.param == "sandbox" else care)
    for folder in ("tenants", "care_app"):  # as they ship
        shutil.copy(ROOT / folder / f"{walk.shown}.toml", walk.clone / folder)
    walk.run("git commit --all --quiet --allow-empty --message Shipped")
    if walk.tenant != walk.shown:
        walk.run(f"assistant tenant new {walk.tenant} --from {walk.shown} --knowledge knowledge/pharmacy")
    return walk
