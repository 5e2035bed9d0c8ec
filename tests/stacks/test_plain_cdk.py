"""CDK's own commands without ours, against an emulated account: what is not locked is never deployed, and
``cdk diff`` tells a change."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stacks.emulated_account import EmulatedAccount, emulated_account, printed
from tests.stacks.synthesized import assembly_folder

pytestmark = pytest.mark.loopback
TENANT = "sandbox"
KEYS, NETWORK = "Sandbox/Keys", "Sandbox/Network"


@pytest.fixture(scope="module")
def account(assembly: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAccount]:
    with emulated_account(tmp_path_factory.mktemp("account")) as account:
        account.bootstrap(assembly)
        yield account


def standing(account: EmulatedAccount) -> list[str]:
    found = account.client("cloudformation").describe_stacks()["Stacks"]
    return sorted(each["StackName"] for each in found if each["StackName"] != "CDKToolkit")


def test_an_unlocked_tenant_stops_before_keys_and_network(account: EmulatedAccount, assembly: Path) -> None:
    options = ["--method=direct", "--require-approval=never"]
    done = account.cdk("deploy", "--app", assembly_folder(assembly, TENANT), *options, "**")
    assert done.returncode == 1, printed(done)
    assert "missing a value: RunMakeImages" in done.stdout + done.stderr
    assert standing(account) == []


def test_a_difference_from_the_deployed_stacks_is_told(
    account: EmulatedAccount, assembly: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(assembly_folder(assembly, TENANT), tmp_path / "assembly")
    options = ["--method=direct", "--require-approval=never", "--exclusively"]
    given = ["--parameters", "RunMakeImages=done"]
    done = account.cdk("deploy", "--app", folder, *options, *given, KEYS)
    assert done.returncode == 0, printed(done)
    same = account.cdk("diff", "--app", folder, "--fail", "--exclusively", KEYS)
    assert same.returncode == 0, printed(same)
    (template,) = folder.glob("*Keys*.template.json")
    changed = json.loads(template.read_text(encoding="utf-8"))
    key = next(name for name in changed["Resources"] if name.startswith("DataKey"))
    changed["Resources"][key]["Properties"]["EnableKeyRotation"] = False
    template.write_text(json.dumps(changed), encoding="utf-8")
    other = account.cdk("diff", "--app", folder, "--fail", "--exclusively", KEYS)
    assert other.returncode == 1, printed(other)
    assert key in other.stdout + other.stderr
    new = account.cdk("diff", "--app", folder, "--fail", "--exclusively", NETWORK)
    assert new.returncode == 1, printed(new)
    assert "AWS::EC2::VPC" in new.stdout + new.stderr
