"""``assistant deploy`` and ``diff``: what they ask before, in which order, and what they refuse.

The last test is the command itself with the real ``cdk``. Before it ``cdk`` is a script that hands out
templates that were synthesized already, and notes what it is asked; the account is the emulator throughout.
"""

from __future__ import annotations

import copy
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.errors import DeploymentError
from assistant.operations.deployment.steps import Deployment, deployment_of
from assistant.operations.terminal import Terminal
from assistant.settings import load_images, load_tenant
from assistant.settings.images import write_digest
from assistant.template_checks.upgrades import pin, templates_by_stack_name
from stacks.validators.pinning import replacing_properties
from tests.stacks.emulated_account import ACCOUNT, REGION, EmulatedAccount, emulated_account, log_of, printed
from tests.stacks.synthesized import ROOT, assembly_folder, synthesize

TENANT = "sandbox"
CDK = """#!{python}
import os, shutil, sys
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "synth":
    shutil.copytree({templates!r}, {out!r}, dirs_exist_ok=True)
sys.exit(int(os.environ.get("CDK_STATUS", "0")))
"""
pytestmark = [pytest.mark.loopback, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAccount]:
    with emulated_account(tmp_path_factory.mktemp("account")) as account:
        yield account


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lock in which every image of ours has a digest."""
    path = tmp_path_factory.mktemp("lock") / "images.lock.toml"
    shutil.copy(ROOT / "images.lock.toml", path)
    for name in load_images(path).own():
        write_digest(path, name=name, digest=f"sha256:{'d' * 64}")
    return path


@pytest.fixture(scope="module")
def complete(lock: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Templates that ask for nothing any more."""
    out = tmp_path_factory.mktemp("complete") / "cdk.out"
    done = synthesize(out, tenant=TENANT, images=str(lock))
    assert done.returncode == 0, done.stderr[-2000:]
    return out


class Clone:
    """A folder that looks like a clone, with a ``cdk`` that only notes."""

    def __init__(self, root: Path, templates: Path) -> None:
        self.root = root
        self.templates = root / "templates"
        shutil.copytree(templates, self.templates)
        (root / "cdk.json").write_text("{}")
        command = root / "node_modules" / ".bin" / "cdk"
        command.parent.mkdir(parents=True)
        command.write_text(
            CDK.format(
                python=sys.executable,
                log=str(root / "log"),
                templates=str(self.templates),
                out=str(root / "cdk.out"),
            )
        )
        command.chmod(0o755)

    def calls(self) -> list[str]:
        log = self.root / "log"
        return [line.split()[0] for line in log.read_text().splitlines()] if log.exists() else []

    def pin(self, change: Callable[[dict[str, Any]], None]) -> None:
        stacks = copy.deepcopy(templates_by_stack_name(assembly_folder(self.templates, TENANT)))
        change(stacks)
        pins = self.root / "stacks" / "pins" / f"{TENANT}.json"
        pins.parent.mkdir(parents=True)
        pins.write_text(pin(stacks, replacing_properties()).model_dump_json())


@pytest.fixture
def clone(tmp_path: Path, complete: Path, account: EmulatedAccount, monkeypatch: pytest.MonkeyPatch) -> Clone:
    for name, value in account.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("CDK_STATUS", raising=False)
    return Clone(tmp_path, complete)


def deployment(clone: Clone, lock: Path) -> Deployment:
    return deployment_of(
        load_tenant(ROOT / "tenants" / f"{TENANT}.toml"),
        tenants_dir=ROOT / "tenants",
        images=lock,
        root=clone.root,
        terminal=Terminal(),
    )


def forget(account: EmulatedAccount, *names: str) -> None:
    ssm = account.client("ssm")
    ssm.delete_parameters(Names=[f"/assistant/{TENANT}/{name}" for name in names])


def power(account: EmulatedAccount) -> str:
    found = account.client("ssm").get_parameter(Name=f"/assistant/{TENANT}/power")
    return str(found["Parameter"]["Value"])


def test_a_tenant_starts_paused_and_without_keys_of_the_issuer_not_at_all(
    clone: Clone, lock: Path, account: EmulatedAccount
) -> None:
    forget(account, "power", "jwks")
    with pytest.raises(DeploymentError, match=r"/assistant/sandbox/jwks is not there. .*put-parameter"):
        deployment(clone, lock).deploy([])
    assert power(account) == "paused"
    assert clone.calls() == ["synth"]


def test_what_somebody_switched_on_stays_on(clone: Clone, lock: Path, account: EmulatedAccount) -> None:
    account.put_parameter(f"/assistant/{TENANT}/power", "on")
    account.put_parameter(f"/assistant/{TENANT}/jwks", "{}")
    with pytest.raises(DeploymentError, match="No stack says which search schema"):
        deployment(clone, lock).deploy([])  # the script deploys nothing
    assert power(account) == "on"
    assert clone.calls() == ["synth", "deploy"]


def test_an_image_that_was_never_built_is_named_with_the_command_that_builds_it(
    clone: Clone, lock: Path, assembly: Path
) -> None:
    shutil.rmtree(clone.templates)
    clone.templates.mkdir()
    shutil.copytree(
        assembly_folder(assembly, TENANT), assembly_folder(clone.templates, TENANT), dirs_exist_ok=True
    )
    with pytest.raises(DeploymentError, match=r"OrchestratorImageDigest.*assistant images publish"):
        deployment(clone, lock).deploy([])
    assert clone.calls() == ["synth"]


def test_credentials_of_another_account_end_it(
    clone: Clone, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "tenants"
    place.mkdir()
    text = (ROOT / "tenants" / f"{TENANT}.toml").read_text(encoding="utf-8")
    (place / f"{TENANT}.toml").write_text(text.replace(ACCOUNT, "999988887777"))
    other = deployment_of(
        load_tenant(place / f"{TENANT}.toml"),
        tenants_dir=ROOT / "tenants",
        images=lock,
        root=clone.root,
        terminal=Terminal(),
    )
    with pytest.raises(DeploymentError, match=f"of account {ACCOUNT}; the tenant file says 999988887777"):
        other.deploy([])
    assert clone.calls() == ["synth"]


def test_a_mistake_in_a_template_ends_it_before_the_account_is_asked(clone: Clone, lock: Path) -> None:
    (edge,) = clone.templates.glob("assembly-*/*Edge*.template.json")
    template = json.loads(edge.read_text(encoding="utf-8"))
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::ElasticLoadBalancingV2::LoadBalancer":
            resource["Properties"].pop("SecurityGroups", None)
    edge.write_text(json.dumps(template))
    with pytest.raises(DeploymentError, match="without a security group"):
        deployment(clone, lock).deploy([])
    assert clone.calls() == ["synth"]


def test_what_would_be_lost_is_named_and_nothing_is_deployed(clone: Clone, lock: Path) -> None:
    def with_another_range(stacks: dict[str, Any]) -> None:
        for template in stacks.values():
            for resource in template["Resources"].values():
                if resource["Type"] == "AWS::EC2::VPC":
                    resource["Properties"]["CidrBlock"] = "10.99.0.0/20"

    clone.pin(with_another_range)
    with pytest.raises(DeploymentError, match=r'would be replaced: CidrBlock was "10\.99\.0\.0/20"'):
        deployment(clone, lock).deploy([])
    assert clone.calls() == ["synth"]


def test_cdk_s_failure_is_ours(clone: Clone, lock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDK_STATUS", "1")
    with pytest.raises(DeploymentError, match="cdk synth ended with 1"):
        deployment(clone, lock).deploy([])


def test_the_command_deploys_a_tenant_with_the_real_cdk(
    account: EmulatedAccount, lock: Path, complete: Path
) -> None:
    done = account.cdk("bootstrap", f"aws://{ACCOUNT}/{REGION}", "--app", complete)
    assert done.returncode == 0, printed(done)
    forget(account, "power")
    account.put_parameter(f"/assistant/{TENANT}/jwks", "{}")
    command = Path(sys.executable).parent / "assistant"
    options = ["--tenant", TENANT, "--images", lock, "--", "--method=direct", "--require-approval=never"]
    done = account.run(command, "deploy", *options)
    assert done.returncode == 0, printed(done) + log_of(account)
    assert power(account) == "paused"
    assert "search schema: " in done.stderr
    states = {
        stack["StackName"]: stack["StackStatus"]
        for stack in account.client("cloudformation").describe_stacks()["Stacks"]
    }
    for name in templates_by_stack_name(assembly_folder(complete, TENANT)):
        assert states[name] == "CREATE_COMPLETE"
    assert account.client("sagemaker").list_endpoints()["Endpoints"] == []  # paused: none was made
