"""An account with both tenants: the worst case, because no account boundary separates them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.stacks.rights.model import Account, read_account
from tests.stacks.synthesized import ROOT, once, synthesize

SYSTEMS = """
[care_context]
issuer = "https://care.clinic.example.com"

[[reach]]
name = "orders"
port = 443
service_name = "com.amazonaws.vpce.us-east-1.vpce-svc-0fedcba9876543210"
auth = "token"
live.connector = "connectors/orders.toml"

[[reach]]
name = "wiki"
caller = "connectors"
port = 443
service_name = "com.amazonaws.vpce.us-east-1.vpce-svc-0aaaaaaaaaaaaaaaa"
host_name = "wiki.clinic.example.com"

[[sources]]
name = "wiki"
access = "everyone"

[sources.connector]
kind = "mediawiki"
api = "https://wiki.clinic.example.com/api.php"
user = "Reader@assistant"
secret = "state:wiki"
reach = "wiki"
"""
"""A live system of the clinic's own, of the pharmacy's name: a policy must tell them apart by the tenant. A
wiki fills a source."""


@pytest.fixture(scope="session")
def clinic_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a clinic that has a live system and a wiki, and tries candidates."""
    tenants = shutil.copytree(ROOT / "tests/tenants", tmp_path_factory.mktemp("files") / "tenants")
    file = tenants / "clinic.toml"
    text = file.read_text(encoding="utf-8").replace("[models_lab]\n", "[models_lab]\ntrials = true\n")
    file.write_text(text + SYSTEMS, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def clinic_assembly(clinic_file: Path, tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """The folder of its templates."""
    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    return once(shared / "clinic.out", partial(synthesize, tenants=str(clinic_file.parent), tenant="clinic"))


@pytest.fixture(scope="session")
def stages(assembly: Path, clinic_assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the stages of both tenants and of their account."""
    folder = tmp_path_factory.mktemp("stages")
    for each in ("Pharmacy", "Account-111122223333-us-east-1"):
        (folder / f"assembly-{each}").symlink_to(assembly / f"assembly-{each}")
    (folder / "assembly-Clinic").symlink_to(clinic_assembly / "assembly-Clinic")
    return folder


@pytest.fixture(scope="session")
def _as_deployed(stages: Path) -> Account:
    return read_account(stages)


@pytest.fixture
def account(_as_deployed: Account) -> Account:
    """Return a copy of the account, which the test may change."""
    return replace(_as_deployed, roles=list(_as_deployed.roles), stores=list(_as_deployed.stores))
