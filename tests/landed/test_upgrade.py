"""A landed release is deployed on an emulated account, and today's over it as docs/runbook.md says: the
account stage, then ``assistant aws diff``, ``upgrade`` and ``deploy``, each by the role that makes it.

``commits`` names the landed releases, the last one first; ``make check-landed`` makes an environment of each.
The tenants are those that it shipped, with a company's values; their files are edited in CHANGELOG's words.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import tomlkit

from assistant.tenant.tenant import load_tenant
from assistant.terminal.account import BUCKET_OUTPUT
from assistant.terminal.publishing import model_files
from template_checks.upgrades import STATEFUL_TYPES, losses, pin, templates_by_stack_name
from tests.stacks.delivery_roles import GITHUB_ROLES, OPERATOR, data_key, policies_of, refused
from tests.stacks.emulated_account import (
    EmulatedAccount,
    checkout,
    company_tenants,
    emulated_account,
    log_of,
    printed,
    push_images,
)
from tests.stacks.synthesized import ROOT, assembly_folder, synthesize
from tests.stage.aws_calls import Call

COMPANY = "210987654321"
TENANTS = ("pharmacy", "clinic", "sandbox")
COMMITS = Path(__file__).with_name("commits").read_text(encoding="utf-8").split()
AGES = ("last", "before", "first")
"""What the tests call the commits."""
CHANGELOG = " ".join((ROOT / "CHANGELOG.md").read_text(encoding="utf-8").split())
KEPT = {("first", "pharmacy"), ("first", "clinic")}
"""Whose upgrade takes something out of its stack, which stays in the account: the log of the ranking."""
BY_EMULATOR = ("--", "--method=direct", "--require-approval=never")
"""It has no change sets, and nobody to ask."""
pytestmark = [pytest.mark.loopback, pytest.mark.timeout(1500)]


Tables = dict[str, Any]


def answers(file: Tables) -> None:
    for key in ("condition_headings", "reading", "reply_headings"):
        file.get("answers", {}).pop(key, None)


def ranking(file: Tables) -> None:
    file.get("learning", {}).pop("ranking", None)


def gate(file: Tables) -> None:
    for key in file.get("gate", {}).keys() - {"model_cosine"}:
        del file["gate"][key]


def bedrock(file: Tables) -> None:
    generation = file.get("generation", {})
    for before, after in (("bedrock", "model"), ("bedrock_regions", "regions")):
        if before in generation:
            file.setdefault("bedrock", {})[after] = generation.pop(before)


def models_lab(file: Tables) -> None:
    if "learning" in file:
        file["models_lab"] = file.pop("learning")
    if "trials" in file["models"]:
        file.setdefault("models_lab", {})["trials"] = file["models"].pop("trials")


def reach(file: Tables) -> None:
    for entry in file.get("reach", ()):
        for key in ("connector", "replies", "whose"):
            if key in entry:
                entry.setdefault("live", {})[key] = entry.pop(key)


def release(file: Tables) -> None:
    file["deployment"].pop("release", None)


def end_of_support(file: Tables) -> None:
    if file["models"].get("llm", "").endswith("-inf2"):
        file["deployment"]["accepted_end_of_support"] = date(2026, 6, 30)


EDITS: Mapping[str, Callable[[Tables], None]] = {
    "Delete `condition_headings`, `reading` and `reply_headings` of `[answers]`": answers,
    "`ranking` of `[learning]`": ranking,
    "all of `[gate]` but `model_cosine`": gate,
    "`release` of `[deployment]`": release,
    "for Inferentia2 write `accepted_end_of_support = 2026-06-30` under `[deployment]`": end_of_support,
    "`[bedrock] model` and `regions` for `[generation] bedrock` and `bedrock_regions`": bedrock,
    "`[models_lab]` for `[learning]` and for `trials` of `[models]`": models_lab,
    "below each `[[reach]]` entry `[reach.live]` with its `connector`, `replies` and `whose`": reach,
}
"""What CHANGELOG.md says under *Before you upgrade*, and the edit that it asks for. Of connector files the
shipped ones of today are taken."""


def test_the_edits_are_those_of_the_changelog() -> None:
    section = CHANGELOG.partition("### Before you upgrade")[2].partition("### Added")[0]
    assert [words for words in EDITS if words not in section] == []


@dataclass(frozen=True, slots=True)
class Upgrade:
    """A landed release, deployed for one tenant, and the folders to deploy today's from."""

    account: EmulatedAccount
    tenant: str
    landed: Path
    """The release's own checkout, with its environment in ``.venv``."""
    home: Path

    @property
    def tenants(self) -> Path:
        """The folder of tenant files, which the company keeps from release to release."""
        return self.home / "company/tenants"

    def deploy_landed(self) -> dict[str, dict[str, Any]]:
        """Deploy the landed release by the plain CDK; return its templates by stack."""
        shutil.copytree(self.landed / "tenants", self.tenants)
        (self.home / "company/knowledge").symlink_to(self.landed / "knowledge")
        company_tenants(self.tenants, self.account, source=self.landed / "tenants", with_systems=True)
        lock = self.home / "company/images.lock.toml"
        shutil.copy(self.landed / lock.name, lock)
        stages = {"account": {"stage": "account"}, "tenant": {}}
        for name, context in stages.items():
            out = self.home / name
            python = self.landed / ".venv/bin/python"
            given = {"tenant": self.tenant, "tenants": str(self.tenants), "images": str(lock)} | context
            done = synthesize(out, source=self.landed, python=python, **given)
            assert done.returncode == 0, done.stderr[-3000:]
            if name == "account":
                self.account.bootstrap(out)
                self.account.deploy(next(out.glob("assembly-*")))
                push_images(lock, self.account)
        self.account.put_parameter(f"/assistant/{self.tenant}/power", "on")
        self.account.put_parameter(f"/assistant/{self.tenant}/jwks", '{"keys": []}')
        self.account.deploy(assembly_folder(self.home / "tenant", self.tenant))
        return templates_by_stack_name(assembly_folder(self.home / "tenant", self.tenant))

    def prepare(self) -> Path:
        """Edit the tenant file, package and publish today's images and models; return today's checkout."""
        file = self.tenants / f"{self.tenant}.toml"
        tables: Any = tomlkit.parse(file.read_text(encoding="utf-8"))
        for edit in EDITS.values():
            edit(tables)
        file.write_text(tomlkit.dumps(tables), encoding="utf-8")
        for other in self.tenants.glob("*.toml"):  # nobody reviews them: they have another account
            if other != file:
                text = other.read_text(encoding="utf-8").replace(COMPANY, "999988887777")
                other.write_text(text, encoding="utf-8")
        shutil.rmtree(self.tenants / "connectors")
        shutil.copytree(ROOT / "tenants/connectors", self.tenants / "connectors")
        clone = self.home / "clone"
        clone.mkdir()
        checkout(clone, ROOT / "images.lock.toml", "model_artifacts")
        push_images(clone / "images.lock.toml", self.account)
        shutil.copytree(ROOT / "model_artifacts", clone / "model_artifacts")
        for manifest in (clone / "model_artifacts/llm").glob("*/manifest.toml"):
            text = manifest.read_text(encoding="utf-8")
            if "\nsha256 = " not in text:
                text = text.replace("\nrevision = ", f'\nsha256 = "{"5" * 64}"\nrevision = ')
            manifest.write_text(text, encoding="utf-8")
        self._put_models(clone)
        return clone

    def _put_models(self, clone: Path) -> None:
        models = load_tenant(self.tenants / f"{self.tenant}.toml").models
        assert models is not None
        described = self.account.client("cloudformation").describe_stacks(
            StackName=f"assistant-{self.tenant}-Data"
        )
        outputs = {each["OutputKey"]: each["OutputValue"] for each in described["Stacks"][0]["Outputs"]}
        for model in model_files(models, folder=clone / "model_artifacts"):
            for name in model.files:
                self.account.client("s3").put_object(
                    Bucket=outputs[BUCKET_OUTPUT], Key=f"{model.prefix}{name}", Body=b"any"
                )

    def stand(self) -> dict[str, str]:
        """Return the ids of what holds data, by stack and logical id."""
        client = self.account.client("cloudformation")
        return {
            f"{stack['StackName']}/{each['LogicalResourceId']}": each["PhysicalResourceId"]
            for stack in client.describe_stacks()["Stacks"]
            if stack["StackName"].startswith(f"assistant-{self.tenant}-")
            for each in client.describe_stack_resources(StackName=stack["StackName"])["StackResources"]
            if each.get("ResourceType") in STATEFUL_TYPES
        }


@pytest.fixture(params=TENANTS)
def tenant(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(params=AGES)
def age(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def upgrade(age: str, tenant: str, tmp_path: Path) -> Iterator[Upgrade]:
    landed = ROOT / "build/landed" / COMMITS[AGES.index(age)]
    assert (landed / "stamp").exists(), f"{landed} is not there: run make check-landed"
    with emulated_account(tmp_path, account=COMPANY) as account:
        yield Upgrade(account, tenant, landed, tmp_path)


def test_a_landed_release_is_upgraded_and_nothing_is_replaced(
    upgrade: Upgrade, age: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, tenant = upgrade.account, upgrade.tenant
    before = upgrade.deploy_landed()
    stood = upgrade.stand()
    clone = upgrade.prepare()
    monkeypatch.setenv("CDK_VALIDATION", "false")  # make check-company judges the templates
    command = [Path(sys.executable).parent / "assistant", "aws"]
    chosen = ["--tenants", upgrade.tenants, "--tenant", tenant]

    def run(*words: str | Path) -> tuple[str, list[Call]]:
        made = len(account.calls())
        with account.without_roles("-deploy-role-"):  # a delivery's role may not assume it
            done = account.run(*words, clone=clone)
        assert done.returncode == 0, printed(done) + log_of(account)
        return " ".join(done.stderr.split()), account.calls()[made:]

    run(
        *(clone / "node_modules/.bin/cdk", "deploy", "-c", "stage=account", "-c", f"tenant={tenant}"),
        *("-c", f"tenants={upgrade.tenants}", "--output", clone / "cdk.account", *BY_EMULATOR[1:], "**"),
    )
    said, diffed = run(*command, "diff", *chosen)
    _, upgraded = run(*command, "upgrade", *chosen)
    _, deployed = run(*command, "deploy", *chosen, *BY_EMULATOR)
    log = (account.home / "emulator.log").read_text(encoding="utf-8")
    assert "in update_stack\n" not in log, "cdk tries a failed update again, and then finds nothing to do"
    key = data_key(clone / "build/deploy" / tenant, tenant)

    def refused_calls(calls: list[Call], file: Path, role: str) -> list[str]:
        policies = policies_of(file, role, tenant=tenant, account=COMPANY)
        return refused(calls, policies=policies, tenant=tenant, account=COMPANY, key=key)

    calls = [call for call in deployed if "-deploy-role-" not in str(call.given)]  # tried, and refused
    assert refused_calls(calls, GITHUB_ROLES, "DeployRole") == []
    assert (
        refused_calls([call for call in diffed if call.operation != "AssumeRole"], GITHUB_ROLES, "DiffRole")
        == []
    )
    assert refused_calls(upgraded, OPERATOR, "Upgrades") == []

    lost = losses(
        pin(before), templates_by_stack_name(assembly_folder(clone / "build/deploy" / tenant, tenant))
    )
    kept = {loss.name for loss in lost}
    assert all(loss.is_kept for loss in lost)
    assert bool(kept) == ((age, tenant) in KEPT)
    assert all(f"WARN {name} " in said for name in kept)
    now = upgrade.stand()
    assert {name: now.get(name) for name in stood.keys() - kept} == {
        name: stood[name] for name in stood.keys() - kept
    }
    groups = account.client("logs").get_paginator("describe_log_groups").paginate().build_full_result()
    assert {stood[name] for name in kept} <= {group["logGroupName"] for group in groups["logGroups"]}

    said, _ = run(*command, "deploy", *chosen, *BY_EMULATOR)
    assert not re.search(r"would (be|leave)", said), "what has left is not told again"
