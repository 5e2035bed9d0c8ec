"""``assistant aws deploy`` and ``diff``: what they check before a deployment, in which order.

The last test runs the command with the real ``cdk``. In the others ``cdk`` is a script that returns templates
of an earlier synth and records its calls. The account is the emulator in all of them.
"""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assistant.cli.aws.deploying import Deployment, deployment_of
from assistant.cli.main import app
from assistant.domain.errors import DeploymentError
from assistant.tenant.deployed_names import ACCOUNT_STACK, ACCOUNT_VERSION
from assistant.tenant.manifests import load_compatibility, load_images
from assistant.tenant.tenant import load_tenant
from assistant.terminal.publishing import model_files
from assistant.terminal.terminal import Terminal
from template_checks.upgrades import templates_by_stack_name
from tests.stacks.delivery_roles import (
    GITHUB_ROLES,
    OPERATOR,
    UNTAGGED,
    data_key,
    policies_of,
    refused,
)
from tests.stacks.emulated_account import (
    ACCOUNT,
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
from tests.stage.tenant_files import with_own_llm

TENANT = "sandbox"
TODAY = date(2026, 11, 30)
COMPANY = "210987654321"
CDK = """#!{python}
import os, shutil, sys
with open({log!r}, "a") as log:
    log.write(" ".join(sys.argv[1:]) + "\\n")
if sys.argv[1] == "synth":
    shutil.copytree({templates!r}, {out!r}, dirs_exist_ok=True)
sys.exit(int(os.environ.get("CDK_STATUS", "0")))
"""
pytestmark = [pytest.mark.loopback, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedAccount]:
    with emulated_account(tmp_path_factory.mktemp("account"), account=COMPANY) as account:
        yield account


@pytest.fixture(scope="module")
def tenants(tmp_path_factory: pytest.TempPathFactory, account: EmulatedAccount) -> Path:
    """Tenant files of a company: nothing in them is made up."""
    folder = company_tenants(tmp_path_factory.mktemp("tenants"), account)
    file = folder / f"{TENANT}.toml"
    pusher = f"knowledge-owner-{TENANT}"  # here a user
    account.client("iam").create_user(UserName=pusher)
    text = with_own_llm(file.read_text(encoding="utf-8").replace(f":role/{pusher}", f":user/{pusher}"))
    text = text.replace("[deployment]\n", f'[deployment]\nbootstrap_qualifier = "{TENANT}"\n')
    file.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def lock(tmp_path_factory: pytest.TempPathFactory, account: EmulatedAccount) -> Path:
    """A lock in which every image has a digest; ours are in the account's registry."""
    path = tmp_path_factory.mktemp("lock") / "images.lock.toml"
    shutil.copy(ROOT / "images.lock.toml", path)
    for image in load_images(path).images.values():
        if image.is_own:
            account.client("ecr").create_repository(repositoryName=image.repository)
    push_images(path, account)
    return path


@pytest.fixture(scope="module")
def complete(
    account: EmulatedAccount, lock: Path, tenants: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Templates without open parameters, and an account that is bootstrapped for them."""
    out = tmp_path_factory.mktemp("complete") / "cdk.out"
    done = synthesize(out, tenant=TENANT, tenants=str(tenants), images=str(lock))
    assert done.returncode == 0, done.stderr[-2000:]
    account.bootstrap(out, "--qualifier", TENANT, "--toolkit-stack-name", f"CDKToolkit-{TENANT}")
    account_stage(account, ACCOUNT_VERSION)
    return out


def account_stage(account: EmulatedAccount, version: int) -> None:
    """Let the account stage of a version stand; nothing else of it."""
    cloudformation = account.client("cloudformation")
    cloudformation.delete_stack(StackName=ACCOUNT_STACK)
    outputs = {"Version": {"Value": str(version)}}
    body = {"Resources": {"Something": {"Type": "AWS::SNS::Topic"}}, "Outputs": outputs}
    cloudformation.create_stack(StackName=ACCOUNT_STACK, TemplateBody=json.dumps(body))


class Clone:
    """A folder that looks like a clone, with a ``cdk`` that only notes."""

    def __init__(self, root: Path, templates: Path, tenants: Path) -> None:
        self.root = root
        self.tenants = tenants
        self.templates = root / "templates"
        shutil.copytree(templates, self.templates)
        (root / "cdk.json").write_text("{}")
        (root / "model_artifacts").symlink_to(ROOT / "model_artifacts")
        command = root / "node_modules" / ".bin" / "cdk"
        command.parent.mkdir(parents=True)
        command.write_text(
            CDK.format(
                python=sys.executable,
                log=str(root / "log"),
                templates=str(self.templates),
                out=str(root / "build" / "deploy" / TENANT),
            )
        )
        command.chmod(0o755)

    def calls(self) -> list[str]:
        return [line.split()[0] for line in self.lines()]

    def lines(self) -> list[str]:
        log = self.root / "log"
        return log.read_text().splitlines() if log.exists() else []

    def templates_now(self) -> dict[str, dict[str, Any]]:
        return templates_by_stack_name(assembly_folder(self.templates, TENANT))


@pytest.fixture
def clone(
    tmp_path: Path,
    complete: Path,
    tenants: Path,
    account: EmulatedAccount,
    monkeypatch: pytest.MonkeyPatch,
) -> Clone:
    for name, value in account.environment.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("CDK_STATUS", raising=False)
    return Clone(tmp_path, complete, tenants)


def deployment(clone: Clone, lock: Path, *, tenants: Path | None = None) -> Deployment:
    file = (tenants or clone.tenants) / f"{TENANT}.toml"
    shutil.copy(lock, clone.root)
    return deployment_of(file, root=clone.root, terminal=Terminal(), today=TODAY)


def refusal(
    clone: Clone, lock: Path, *, tenants: Path | None = None, calls: Sequence[str] = ("synth",)
) -> str:
    """Deploy, which is refused; return why. By then these commands of cdk were called."""
    with pytest.raises(DeploymentError) as refused:
        deployment(clone, lock, tenants=tenants).deploy([])
    assert clone.calls() == list(calls)
    return refused.value.message


@contextmanager
def standing(account: EmulatedAccount, *stacks: str, template: dict[str, Any]) -> Iterator[None]:
    """Stacks of the tenant that are deployed, for as long as the block runs. Nothing of them is made: the
    emulator keeps their template, which is what a deployment is held against."""
    kept = copy.deepcopy(template) | {"Conditions": {"Never": {"Fn::Equals": ["a", "b"]}}, "Outputs": {}}
    for resource in kept["Resources"].values():
        resource["Condition"] = "Never"
    kept["Resources"]["Something"] = {"Type": "AWS::SNS::Topic"}
    cloudformation = account.client("cloudformation")
    for stack in stacks:
        cloudformation.create_stack(StackName=f"assistant-{TENANT}-{stack}", TemplateBody=json.dumps(kept))
    try:
        yield
    finally:
        for stack in stacks:
            cloudformation.delete_stack(StackName=f"assistant-{TENANT}-{stack}")


EMPTY: dict[str, Any] = {"Resources": {}}


def only(template: Mapping[str, Any], *kinds: str) -> dict[str, Any]:
    """The resources of some types alone."""
    return {
        "Resources": {
            logical_id: resource
            for logical_id, resource in copy.deepcopy(template["Resources"]).items()
            if resource["Type"] in kinds
        }
    }


def with_a_smaller_instance(clone: Clone) -> dict[str, Any]:
    """Return the models stack before the change of the LLM's instance type."""
    template = only(
        clone.templates_now()[f"assistant-{TENANT}-Models"],
        "AWS::SageMaker::Endpoint",
        "AWS::SageMaker::EndpointConfig",
        "AWS::ApplicationAutoScaling::ScalableTarget",
    )
    for logical_id, resource in template["Resources"].items():
        resource.pop("DependsOn", None)
        if resource["Type"] == "AWS::SageMaker::EndpointConfig":
            resource["Properties"].pop("DataCaptureConfig", None)
            (variant,) = resource["Properties"]["ProductionVariants"]
            variant["ModelName"] = "any"
            resource["Properties"]["KmsKeyId"] = "any"
            if logical_id.startswith("Llm"):
                variant["InstanceType"] = "ml.c7i.large"
    return template


def forget(account: EmulatedAccount, *names: str) -> None:
    ssm = account.client("ssm")
    ssm.delete_parameters(Names=[f"/assistant/{TENANT}/{name}" for name in names])


def stacks_of(account: EmulatedAccount) -> dict[str, str]:
    """The tenant's stacks and their states."""
    return {
        stack["StackName"]: stack["StackStatus"]
        for stack in account.client("cloudformation").describe_stacks()["Stacks"]
        if stack["StackName"].startswith(f"assistant-{TENANT}-")
    }


def objects_of_models(account: EmulatedAccount) -> set[str]:
    """The keys in the tenant's bucket of models."""
    found = account.client("cloudformation").describe_stacks(StackName=f"assistant-{TENANT}-Data")["Stacks"]
    outputs = {each["OutputKey"]: each["OutputValue"] for each in found[0]["Outputs"]}
    listed = account.client("s3").list_objects_v2(Bucket=outputs["ModelsBucketName"])
    return {each["Key"] for each in listed.get("Contents", [])}


def wanted_files(tenants: Path) -> set[str]:
    models = load_tenant(tenants / f"{TENANT}.toml").models
    assert models is not None
    wanted = model_files(models, folder=ROOT / "model_artifacts")
    return {f"{each.prefix}{name}" for each in wanted for name in each.files}


def accepted(account: EmulatedAccount) -> list[str]:
    found = account.client("ssm").get_parameter(Name=f"/assistant/{TENANT}/accepted")
    return json.loads(found["Parameter"]["Value"])


def power(account: EmulatedAccount) -> str:
    found = account.client("ssm").get_parameter(Name=f"/assistant/{TENANT}/power")
    return str(found["Parameter"]["Value"])


def test_placeholder_values_stop_the_command_before_the_synth(
    clone: Clone, lock: Path, tmp_path: Path
) -> None:
    place = tmp_path / "tenants"
    shutil.copytree(ROOT / "tests/tenants", place)
    said = refusal(clone, lock, tenants=place, calls=())
    assert re.search(rf'sandbox\.toml: line \d+: deployment\.account: "{ACCOUNT}" is a placeholder', said)
    for key in (
        "deployment.artifact_publishers",
        "edge.certificate_arn",
        "edge.host_name",
        "identity.issuer",
    ):
        assert f": {key}" in said


def test_a_missing_role_stops_the_command_before_a_deployment(
    clone: Clone, lock: Path, account: EmulatedAccount
) -> None:
    iam, name = account.client("iam"), f"artifact-publisher-{TENANT}"
    iam.delete_role(RoleName=name)
    try:
        said = refusal(clone, lock)
    finally:
        iam.create_role(RoleName=name, AssumeRolePolicyDocument="{}")
    assert re.search(rf"line \d+: deployment\.artifact_publishers\.0: there is no role {name}", said)


def test_a_deployment_refuses_every_part_whose_support_ended_yesterday_until_the_file_accepts_the_day(
    clone: Clone, lock: Path, tmp_path: Path
) -> None:
    """The templates name each part of the table; the folder of artifacts of the clone has other ends."""
    table = clone.root / "model_artifacts" / "compatibility.toml"
    text = (ROOT / "model_artifacts" / "compatibility.toml").read_text()
    yesterday = TODAY - timedelta(days=1)
    (clone.root / "model_artifacts").unlink()
    table.parent.mkdir()
    table.write_text(re.sub(r"^end = .*$", f"end = {yesterday}", text, flags=re.M))
    parts = load_compatibility(table).part
    path = next(assembly_folder(clone.templates, TENANT).glob("*.template.json"))
    marked = json.loads(path.read_text()) | {"Description": " ".join(part.marks[0] for part in parts)}
    path.write_text(json.dumps(marked))
    said = refusal(clone, lock)
    assert [part.name for part in parts if part.name not in said] == []
    assert len(said.splitlines()) == len(parts)

    shutil.copytree(clone.tenants, tmp_path / "tenants")
    file = tmp_path / "tenants" / f"{TENANT}.toml"
    accepted = f"[deployment]\naccepted_end_of_support = {yesterday}\n"
    file.write_text(file.read_text().replace("[deployment]\n", accepted))
    *_, findings, _ = deployment(clone, lock, tenants=tmp_path / "tenants").examinations()
    assert sum(each.check == "support" and each.kind == "warn" for each in findings) == len(parts)


def test_a_check_that_could_not_be_asked_stops_the_command_where_it_is_told_to(
    clone: Clone, lock: Path, account: EmulatedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The emulator knows no functions at once."""
    forget(account, "power")
    monkeypatch.chdir(clone.root)
    shutil.copy(lock, clone.root)
    options = ["--tenant", TENANT, "--require"]
    done = CliRunner().invoke(app, ["--tenants", str(clone.tenants), "aws", "deploy", *options])
    assert isinstance(done.exception, DeploymentError)
    assert re.match(r"\d+ checks could not be asked, .*functions at once", done.exception.message)
    assert clone.calls() == ["synth"]
    with pytest.raises(account.client("ssm").exceptions.ParameterNotFound):
        power(account)


def test_an_image_without_a_valid_signature_stops_the_command_before_anything_is_made(
    clone: Clone, lock: Path, account: EmulatedAccount, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forget(account, "power")
    shutil.copytree(clone.tenants, tmp_path / "tenants")
    file = tmp_path / "tenants" / f"{TENANT}.toml"
    file.write_text(file.read_text().replace("[deployment]\n", '[deployment]\nimage_key = "images.pub"\n'))
    command = tmp_path / "bin" / "cosign"
    command.parent.mkdir()
    command.write_text('#!/bin/sh\necho "Error: no signatures found" >&2\nexit 10\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    lines = refusal(clone, lock, tenants=tmp_path / "tenants").splitlines()
    assert len(lines) == len(set(lines)) > 1
    assert all(f"has no valid signature by {tmp_path}/tenants/images.pub" in line for line in lines)
    with pytest.raises(account.client("ssm").exceptions.ParameterNotFound):
        power(account)


def test_an_image_of_aws_by_its_tag_stops_the_command(clone: Clone, lock: Path) -> None:
    for template in clone.templates.rglob("*Models*.template.json"):
        text = re.sub(r"/tei-cpu@sha256:[0-9a-f]{64}", "/tei-cpu:2.0.1", template.read_text())
        assert text != template.read_text()
        template.write_text(text)
    assert re.search(r"a tag and no digest(.|\n)*/tei-cpu:2\.0\.1\n", refusal(clone, lock))


def test_a_new_tenant_is_paused_and_needs_the_issuer_s_keys(
    clone: Clone, lock: Path, account: EmulatedAccount
) -> None:
    forget(account, "power", "jwks")
    missing = r"jwks is missing, and https://login\.sandbox\.\S+ cannot be read.*put-parameter"
    assert re.search(missing, refusal(clone, lock))
    assert power(account) == "paused"


def test_a_deployment_keeps_the_power_state_on(clone: Clone, lock: Path, account: EmulatedAccount) -> None:
    account.put_parameter(f"/assistant/{TENANT}/power", "on")
    account.put_parameter(f"/assistant/{TENANT}/jwks", "{}")
    with standing(account, "Data", template=EMPTY):  # the script deploys nothing
        assert "No stack says which search schema" in refusal(clone, lock, calls=("synth", "deploy"))
    assert power(account) == "on"
    assert clone.lines()[-1].endswith(" **")


@pytest.mark.parametrize(
    ("stack", "said"),
    [
        ("Network", r'would be replaced: CidrBlock was "10\.99\.0\.0/20"'),
        ("Renamed", r"assistant-sandbox-Renamed \(AWS::CloudFormation::Stack\) would be left behind"),
    ],
)
def test_what_stands_is_neither_replaced_nor_left_behind(
    clone: Clone, lock: Path, account: EmulatedAccount, stack: str, said: str
) -> None:
    """Against what CloudFormation keeps of the deployed stacks: no file of the clone has part in it."""
    account.put_parameter(f"/assistant/{TENANT}/jwks", "{}")
    template = only(clone.templates_now()[f"assistant-{TENANT}-Network"], "AWS::EC2::VPC")
    for resource in template["Resources"].values():
        resource["Properties"]["CidrBlock"] = "10.99.0.0/20"
    with standing(account, stack, template=template):
        for go in (deployment(clone, lock).deploy, deployment(clone, lock).diff):
            with pytest.raises(DeploymentError, match=said):
                go([])
    assert clone.calls() == ["synth", "synth", "diff"]


def test_a_loss_passes_by_its_name_alone_and_the_account_keeps_that_it_was_accepted(
    clone: Clone, lock: Path, account: EmulatedAccount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script deploys nothing, so the loss is still to come: as after a deployment that failed."""
    account.put_parameter(f"/assistant/{TENANT}/jwks", "{}")
    monkeypatch.chdir(clone.root)
    shutil.copy(lock, clone.root)
    gone = {"Resources": {name: {"Type": "AWS::SQS::Queue"} for name in ("First", "Second")}}
    names = [f"assistant-{TENANT}-Data/{name}" for name in gone["Resources"]]

    def run(command: str, *accepted: str) -> str:
        words = ["--tenants", str(clone.tenants), "aws", command, "--tenant", TENANT]
        words += [word for name in accepted for word in ("--accept", name)]
        return str(CliRunner().invoke(app, words).exception)

    with standing(account, "Data", template=gone):
        said = run("deploy", names[0])
        assert f"{names[1]} (AWS::SQS::Queue) would be deleted" in said
        assert f"{names[0]} " not in said
        with pytest.raises(account.client("ssm").exceptions.ParameterNotFound):
            accepted(account)
        for command in ("diff", "upgrade"):
            assert names[1] in run(command, names[0])
            assert run(command, *names) == "None"
        assert "No stack says which search schema" in run("deploy", *names)
        assert [text.split()[0] for text in accepted(account)] == names
        assert run("diff") == "None"
        assert "No stack says which search schema" in run("deploy")
    with standing(account, "Data", template=EMPTY):
        run("deploy")
        assert accepted(account) == [], "what has happened may not happen again unseen"
    forget(account, "accepted")


def test_the_instance_type_of_a_running_endpoint_is_not_changed(
    clone: Clone, lock: Path, account: EmulatedAccount
) -> None:
    account.put_parameter(f"/assistant/{TENANT}/power", "resuming")
    account.put_parameter(f"/assistant/{TENANT}/jwks", "{}")
    change = r"sandbox-llm, variant AllTraffic: from ml\.c7i\.large to ml\.c7i\.xlarge$"
    said = rf"says resuming\. Pause the tenant, deploy, resume(?s:.*){change}"
    with standing(account, "Data", "Models", template=with_a_smaller_instance(clone)):
        for go in (deployment(clone, lock).deploy, deployment(clone, lock).diff):
            with pytest.raises(DeploymentError, match=said):
                go([])
    assert clone.calls() == ["synth", "synth", "diff"]


def test_credentials_of_another_account_stop_the_command(
    clone: Clone, lock: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "tenants"
    place.mkdir()
    text = (clone.tenants / f"{TENANT}.toml").read_text(encoding="utf-8")
    (place / f"{TENANT}.toml").write_text(text.replace(f'account = "{COMPANY}"', 'account = "999988887777"'))
    assert f"of account {COMPANY}; the tenant file says 999988887777" in refusal(clone, lock, tenants=place)


def test_a_route_to_the_internet_stops_the_command_before_any_call_to_the_account(
    clone: Clone, lock: Path
) -> None:
    (network,) = clone.templates.glob("assembly-*/*Network*.template.json")
    template = json.loads(network.read_text(encoding="utf-8"))
    template["Resources"]["Out"] = {"Type": "AWS::EC2::InternetGateway"}
    network.write_text(json.dumps(template))
    assert "leads to the internet" in refusal(clone, lock)


def test_a_failure_of_cdk_is_the_command_s_failure(
    clone: Clone, lock: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CDK_STATUS", "1")
    assert "cdk synth ended with 1" in refusal(clone, lock)


def examined(account: EmulatedAccount, tenants: Path, clone: Path) -> dict[str, list[str]]:
    """Return what ``assistant aws doctor`` finds, by check."""
    command, found = Path(sys.executable).parent / "assistant", dict[str, list[str]]()
    options = ["--json", "aws", "doctor", "--tenants", tenants, "--tenant", TENANT]
    done = account.run(command, *options, clone=clone)
    for finding in json.loads(done.stdout):
        found.setdefault(finding["check"], []).append(finding["kind"])
    failed = any("fail" in kinds for kinds in found.values())
    assert done.returncode == int(failed), printed(done)
    unknown = sorted(name for name, kinds in found.items() if "unknown" in kinds)
    assert f"{len(unknown)} checks could not be asked, and none is a pass: " in done.stderr
    assert account.run(command, *options, "--require", clone=clone).returncode == 1
    return found


def commanded(tenants: Path, *words: str) -> list[str | Path]:
    """Return the arguments of one of our commands for the tenant."""
    command = Path(sys.executable).parent / "assistant"
    return [command, "aws", *words, "--tenants", tenants, "--tenant", TENANT]


BY_EMULATOR = ("--", "--method=direct", "--require-approval=never")
"""It has no change sets, and nobody to ask."""


def synthesizes_once(clone: Path) -> None:
    """Put the real cdk into a clone, but for a second synth: its sources are those of the first."""
    command, made = clone / "node_modules" / ".bin" / "cdk", f"build/deploy/{TENANT}"
    command.parent.mkdir(parents=True)
    command.write_text(
        f'#!/bin/bash\n[ "$1" != synth ] || ! cp -r synthesized {made} 2>/dev/null || exit 0\n'
        f'"{ROOT}/node_modules/.bin/cdk" "$@" || exit\n[ "$1" != synth ] || cp -r {made} synthesized\n'
    )
    command.chmod(0o755)


@pytest.fixture(scope="module")
def called(
    account: EmulatedAccount,
    lock: Path,
    complete: Path,
    tenants: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, list[Call]]:
    """A first deployment in its two parts, a second one, a diff and an upgrade by the real ``cdk``: the calls
    by each command's own credentials. Nobody gets the bootstrap's role that deploys, and a diff none."""
    forget(account, "power")
    account.put_parameter(f"/assistant/{TENANT}/jwks", "{}")
    made: dict[str, list[Call]] = {}
    clone = checkout(tmp_path_factory.mktemp("checkout"), lock, "node_modules")
    synthesizes_once(clone)

    def run(name: str, *words: str | Path, status: int = 0) -> str:
        before = len(account.calls())
        with account.without_roles("" if name == "diff" else "-deploy-role-"):
            done = account.run(*words, clone=clone)
        assert done.returncode == status, f"{name}: {printed(done)}{log_of(account)}"
        made[name] = account.calls()[before:]
        return done.stderr

    deploy = [*commanded(tenants, "deploy"), *BY_EMULATOR]
    said = run("first part", *deploy, status=1)
    assert re.search(r"run the same command again:\s+s3://\S+/llm/smollm2-135m-cpu/b179", said)
    assert "ArtifactPublisherArn = arn:" in said
    assert set(stacks_of(account)) == {f"assistant-{TENANT}-{name}" for name in ("Keys", "Network", "Data")}
    run("artifacts", *commanded(tenants, "put-artifacts"))
    assert objects_of_models(account) == wanted_files(tenants)
    before = len(account.calls())
    found = examined(account, tenants, clone)
    made["doctor"] = account.calls()[before:]
    assert {name for name, kinds in found.items() if "fail" in kinds} == set()
    for name in ("bootstrap", "images", "model artifacts", "templates"):
        assert found[name] == ["pass"]
    # The emulator knows no quotas, functions at once or search instances.
    assert {name for name, kinds in found.items() if "unknown" in kinds} >= {"functions at once", "Fargate"}
    assert "search schema: " in run("deploy", *deploy)
    assert power(account) == "paused"
    states = stacks_of(account)
    for name in templates_by_stack_name(assembly_folder(complete, TENANT)):
        assert states[name] == "CREATE_COMPLETE"
    assert account.client("sagemaker").list_endpoints()["Endpoints"] == []  # paused: none was made
    run("again", *deploy)
    run("diff", *commanded(tenants, "diff"))
    run("upgrade", *commanded(tenants, "upgrade"))
    run("audit", *commanded(tenants, "audit", "verify"))
    receipt = account.home / "receipt.json"
    receipt.write_text(json.dumps({"document_id": "d", "signature": None}), encoding="utf-8")
    run("receipt", *commanded(tenants, "receipt", "verify"), receipt, status=1)
    return made


def test_the_command_deploys_a_tenant_with_the_real_cdk(called: dict[str, list[Call]]) -> None:
    """By the assertions of the fixture. Only the second one finds tables, and reads their formats."""
    operations = {name: {call.operation for call in calls} for name, calls in called.items()}
    assert "GetItem" not in operations["first part"]
    assert {"GetItem", "ListStackResources", "AssumeRole"} <= operations["deploy"]


Refused = Callable[[Sequence[Call], Path, str], list[str]]


@pytest.fixture(scope="module")
def refused_to(complete: Path) -> Refused:
    """Return which calls a role, or a managed policy, of a template does not allow."""
    key = data_key(complete, TENANT)

    def refused_calls(calls: Sequence[Call], file: Path, name: str) -> list[str]:
        policies = policies_of(file, name, tenant=TENANT, account=COMPANY, Qualifier=TENANT)
        is_tagged = name not in UNTAGGED
        return refused(calls, policies=policies, tenant=TENANT, account=COMPANY, key=key, is_tagged=is_tagged)

    return refused_calls


@pytest.mark.parametrize("command", ["first part", "doctor", "deploy", "again"])
def test_the_delivery_s_role_may_make_each_call_of_a_deployment(
    called: dict[str, list[Call]], refused_to: Refused, command: str
) -> None:
    # cdk tries the bootstrap's deploy role first, which the role may not take, and goes on by its own rights.
    tried = [call for call in called[command] if "-deploy-role-" in str(call.given)]
    calls = [call for call in called[command] if call not in tried]
    assert calls
    assert refused_to(calls, GITHUB_ROLES, "DeployRole") == []
    assert bool(refused_to(tried, GITHUB_ROLES, "DeployRole")) == bool(tried)


def test_the_role_of_pull_requests_may_make_each_call_of_a_diff(
    called: dict[str, list[Call]], refused_to: Refused
) -> None:
    calls = [call for call in called["diff"] if call.operation != "AssumeRole"]
    assert calls
    assert refused_to(calls, GITHUB_ROLES, "DiffRole") == []


@pytest.mark.parametrize(
    ("command", "policy"),
    [
        ("upgrade", "Upgrades"),
        ("audit", "Audits"),
        ("receipt", "Operates"),
        ("artifacts", "Publishes"),
    ],
)
def test_a_policy_of_operators_allows_each_call_of_a_command(
    called: dict[str, list[Call]], refused_to: Refused, command: str, policy: str
) -> None:
    assert called[command]
    assert refused_to(called[command], OPERATOR, policy) == []


def test_the_format_of_a_table_is_the_only_row_that_a_delivery_reads(refused_to: Refused) -> None:
    table = f"assistant-{TENANT}-Data-RecordsTable"
    refusals: list[int] = []
    for partition in ("format", "answer#1"):
        given = {"TableName": table, "Key": {"pk": {"S": partition}}}
        call = Call(key_id="emulated", service="dynamodb", operation="GetItem", given=given)
        refusals.append(len(refused_to([call], GITHUB_ROLES, "DeployRole")))
    assert refusals == [0, 1]
