"""Clones that a platform engineer works in, with the emulated accounts that the commands of a page act on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.fakes.tenant_files import CARE_APP, checkout_tenants
from tests.stacks.emulated_account import EmulatedAccount, emulated_account, log_of
from tests.stacks.power.deployed_machines import switched
from tests.stacks.synthesized import ROOT

ASSISTANT, CARE = "210987654321", "543210987654"


@dataclass
class Walk:
    """A clone that a platform engineer works in, with the two accounts."""

    tenant: str
    clone: Path
    account: EmulatedAccount
    care: EmulatedAccount
    printed: dict[str, str] = field(default_factory=dict[str, str])
    """What stands for a name in capitals: it was printed by an earlier action."""
    shown: str = "sandbox"
    """The tenant of the page."""

    def run(
        self,
        command: str,
        *,
        by: EmulatedAccount | None = None,
        status: int = 0,
        variables: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command in the page's shell; return what it wrote."""
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.clone,
            env=self._environment(by or self.account, by_profile="--profile" in command)
            | dict(variables or {}),
            capture_output=True,
            text=True,
            timeout=1200,
            check=False,
        )
        assert done.returncode == status, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}" + log_of(
            by or self.account
        )
        return done.stdout + done.stderr

    def told(self, text: str) -> str:
        """Put this tenant's values in place of the page's."""
        for shown, meant in {
            "111122223333": ASSISTANT,
            "444455556666": self.care.account,
            self.shown: self.tenant,
        }.items():
            text = text.replace(shown, meant)
        for name, value in self.printed.items():
            text = re.sub(rf"(?<!\w){re.escape(name)}\b", value, text)
        return text

    def _environment(self, account: EmulatedAccount, *, by_profile: bool) -> dict[str, str]:
        python = Path(sys.executable).parent
        folders = [self.clone / "node_modules/.bin", python, ROOT / "build/awscli/bin", os.environ["PATH"]]
        environment = account.environment | {
            "PATH": os.pathsep.join(map(str, folders)),
            "PYTHONPATH": str(self.clone),
            "AWS_CONFIG_FILE": str(self.clone / "aws.config"),
            "CDK_VALIDATION": "false",  # make synth judges the templates
            **{
                f"GIT_{role}_{key}": "engineer"
                for role in ("AUTHOR", "COMMITTER")
                for key in ("NAME", "EMAIL")
            },
        }
        if by_profile:
            del environment["AWS_ENDPOINT_URL"]  # it would stand over each profile's own
        return environment


def run_the_machine(walk: Walk) -> None:
    """Run the deployed definition once the command has started an execution."""
    machine = outputs_of(walk.account, f"assistant-{walk.tenant}-Models")["ResumeMachine"]
    client, ends = walk.account.client("stepfunctions"), time.monotonic() + 300
    while not client.list_executions(stateMachineArn=machine)["executions"]:
        assert time.monotonic() < ends, "no execution was started"
        time.sleep(0.2)
    switched(walk.account, "Resume", tenant=walk.tenant)


def outputs_of(account: EmulatedAccount, stack: str) -> dict[str, str]:
    described = account.client("cloudformation").describe_stacks(StackName=stack)["Stacks"][0]
    return {output["OutputKey"]: output["OutputValue"] for output in described.get("Outputs", [])}


def copy_repository(clone: Path) -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    for name in listed.stdout.splitlines():
        if (ROOT / name).is_file() and not name.startswith(("tests/", "tenants/", "care_app/")):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, clone / name)
    checkout_tenants(clone)
    shutil.copytree(CARE_APP, clone / "care_app")
    (clone / ".venv").symlink_to(ROOT / ".venv")
    (clone / "build").mkdir()
    (clone / "build/functions").symlink_to(ROOT / "build/functions")
    (clone / "node_modules/.bin").mkdir(parents=True)
    for entry in (ROOT / "node_modules").iterdir():
        if entry.name != ".bin":
            (clone / "node_modules" / entry.name).symlink_to(entry)
    command = clone / "node_modules/.bin/cdk"
    # The emulator has no change sets. Nobody is there to approve, also where a page does not say so.
    command.write_text(
        '#!/bin/bash\n[[ "$1" != deploy || " $* " == *" --method="* ]] || set -- "$@" --method=direct\n'
        '[[ "$1" != deploy || " $* " == *" --require-approval "* ]] || set -- "$@" --require-approval=never\n'
        f'exec {ROOT}/node_modules/.bin/cdk "$@"\n'
    )
    command.chmod(0o755)


def edited(walk: Walk, file: str, values: Mapping[str, str]) -> None:
    """Replace patterns in a file of the clone, each of which is there."""
    path = walk.clone / file
    text = path.read_text(encoding="utf-8")
    for pattern, value in values.items():
        text, count = re.subn(pattern, value, text)
        assert count, pattern
    path.write_text(text, encoding="utf-8")


@contextmanager
def both_accounts(factory: pytest.TempPathFactory) -> Iterator[tuple[EmulatedAccount, EmulatedAccount]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTO_ACM_VALIDATION_WAIT", "0")  # seconds until a certificate is issued
        with (
            emulated_account(factory.mktemp("assistant"), account=ASSISTANT) as account,
            emulated_account(factory.mktemp("care"), account=CARE) as care,
        ):
            yield account, care


def begin(tenant: str, clone: Path, account: EmulatedAccount, care: EmulatedAccount) -> Walk:
    """Return a walk in a new clone."""
    walk = Walk(tenant, clone, account, care)
    copy_repository(walk.clone)
    walk.run("git init -q && git add tenants care_app images.lock.toml && git commit -qm Begin")
    (walk.clone / "aws.config").write_text(
        "".join(
            f"[profile {name}]\nregion = us-east-1\nendpoint_url = {each.url}\n"
            "aws_access_key_id = emulated\naws_secret_access_key = emulated\n"
            for name, each in (("ASSISTANT", account), ("CARE", care))
        )
    )
    return walk
