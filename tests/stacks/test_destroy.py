"""``assistant aws destroy`` on an account of the synthesized templates, whose resources resist."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from assistant.cli.aws.destroying import Destruction, Ended, run_cdk
from assistant.cli.main import app
from assistant.domain.errors import DeploymentError
from assistant.terminal.account import AwsAccount
from assistant.terminal.terminal import Terminal
from template_checks.upgrades import templates_by_stack_name
from tests.fakes.aws_calls import Call
from tests.fakes.leaving_account import REGION, LeavingAccount, Thing, leaving_account
from tests.stacks.delivery_roles import GITHUB_ROLES, NONE, OPERATOR, data_key, policies_of, refused
from tests.stacks.emulated_account import ACCOUNT
from tests.stacks.synthesized import ROOT

pytestmark = pytest.mark.loopback
ORDER = (
    *("Keys", "Network", "Data", "Edge", "Models", "Ingestion"),
    *("Orchestrator", "Learning", "Corpus", "Observability"),
)
KILLS = 10
BUCKET, LOG_GROUP, SECRET = "AWS::S3::Bucket", "AWS::Logs::LogGroup", "AWS::SecretsManager::Secret"


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[LeavingAccount, str]]:
    with leaving_account(ACCOUNT) as (account, url):
        monkeypatch.setenv("AWS_ENDPOINT_URL", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "emulated")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "emulated")
        yield account, url


@pytest.fixture
def account(served: tuple[LeavingAccount, str]) -> LeavingAccount:
    return served[0]


def deploy(account: LeavingAccount, assembly: Path, tenant: str = "pharmacy") -> None:
    """Deploy a tenant as synthesized, and let it have worked a while."""
    templates = templates_by_stack_name(assembly / f"assembly-{tenant.capitalize()}")
    account.deploy(
        {name: templates[name] for part in ORDER if (name := f"assistant-{tenant}-{part}") in templates},
        tenant=tenant,
    )
    for number, bucket in enumerate(account.of_kind(BUCKET)):
        if bucket.tenant == tenant:
            account.fill(bucket.id, 2500 if number == 3 else 3)


def destroys(arguments: Sequence[str]) -> bool:
    """Delete the stacks of an assembly in the order of cdk, by the calls that it makes; stop as it does."""
    artifacts = json.loads((Path(arguments[-2]) / "manifest.json").read_text())["artifacts"]
    aws = AwsAccount(account=ACCOUNT, region=REGION)
    for name in sorted(artifacts, key=lambda name: len(artifacts[name]["dependencies"]), reverse=True):
        aws.call("cloudformation", "delete_stack", StackName=name)
        while described := aws.call(
            "cloudformation", "describe_stacks", missing="ValidationError", StackName=name
        ):
            if described["Stacks"][0]["StackStatus"] == "DELETE_FAILED":
                return False
    return True


CDK = partial(run_cdk, ROOT, limit_s=60.0)
"""The real one."""


def destruction(
    tenant: str = "pharmacy", *, limit_s: float = 30.0, cdk: Callable[[Sequence[str]], bool] = destroys
) -> Destruction:
    return Destruction(
        aws=AwsAccount(account=ACCOUNT, region=REGION),
        cdk=cdk,
        full_name=f"assistant-{tenant}",
        tenant=tenant,
        parameters=f"/assistant/{tenant}/",
        terminal=Terminal(),
        poll_s=0.001,
        limit_s=limit_s,
    )


def standing(account: LeavingAccount, tenant: str = "pharmacy") -> set[str]:
    """Return what stands of a tenant, without its keys that wait for their deletion."""
    things = [thing for thing in account.things.values() if thing.tenant == tenant]
    return {thing.id for thing in things if "deleted" not in thing.state}


def whole(account: LeavingAccount, tenant: str) -> dict[str, str]:
    """Return all that the account keeps of a tenant, as text: resources, stacks and parameters."""
    things = {thing.id: repr(thing) for thing in account.things.values() if thing.tenant == tenant}
    stacks = {each.id: repr(each) for each in account.stacks if each.name.startswith(f"assistant-{tenant}-")}
    path = f"/assistant/{tenant}/"
    return things | stacks | {name: key for name, key in account.parameters.items() if name.startswith(path)}


def nothing_unexplained(ended: Ended, account: LeavingAccount, tenant: str = "pharmacy") -> bool:
    kept = {each.what.rpartition(" ")[2] for each in ended.stays}
    return ended.orphans == [] and standing(account, tenant) <= kept


def forget(account: LeavingAccount) -> None:
    account.things, account.stacks, account.parameters = {}, [], {}
    account.interfaces, account.listed_by_tag = {}, {}


def one(account: LeavingAccount, kind: str, part: str) -> Thing:
    (thing,) = [each for each in account.of_kind(kind) if part in each.id]
    return thing


def test_a_hipaa_tenant_is_taken_away_but_for_what_a_lock_keeps(
    account: LeavingAccount, assembly: Path
) -> None:
    deploy(account, assembly)
    ended = destruction().run()
    assert nothing_unexplained(ended, account)
    locked = {each.what for each in ended.stays if "object lock" in each.why}
    assert locked == {one(account, BUCKET, "trailbucket").id, one(account, BUCKET, "labelsbucket").id}
    (trail,) = [each for each in ended.stays if "trailbucket" in each.what and "compliance" in each.why]
    assert trail.until is not None
    assert abs(trail.until - account.now - timedelta(days=2192)) < timedelta(minutes=5)
    # What opens a kept bucket stays with it, and its policy goes on refusing strangers.
    assert one(account, BUCKET, "trailbucket").state["policy"]
    keys = {each.what: each.until for each in ended.stays if each.why.startswith("opens")}
    assert len(keys) == 2
    assert trail.until in keys.values()
    assert account.parameters == {}
    # The operator's policy allows each of its calls, and the roles of the delivery none that takes away.
    key = data_key(assembly, "pharmacy")

    def refused_to(file: Path, name: str, calls: list[Call], *, is_tagged: bool) -> list[str]:
        policies = policies_of(file, name, tenant="pharmacy", account=ACCOUNT) if name else NONE
        return refused(
            calls, policies=policies, tenant="pharmacy", account=ACCOUNT, key=key, is_tagged=is_tagged
        )

    assert refused_to(OPERATOR, "Destroys", account.made, is_tagged=False) == []
    writes = ("Delete", "Schedule", "Modify", "Update")
    takes = [call for call in account.made if call.operation.startswith(writes)]
    every = refused_to(OPERATOR, "", takes, is_tagged=True)
    assert len(every) > 10
    assert refused_to(GITHUB_ROLES, "DiffRole", takes, is_tagged=True) == every
    # cdk sets the protection of a stack that it deploys; without a right to delete stacks that takes nothing.
    protects = [one for one in every if one.startswith("cloudformation:UpdateTerminationProtection ")]
    refused_to_deploy = refused_to(GITHUB_ROLES, "DeployRole", takes, is_tagged=True)
    assert refused_to_deploy == [one for one in every if one not in protects]


def test_a_sandbox_goes_with_all_its_buckets(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly, "sandbox")
    ended = destruction("sandbox").run()
    assert nothing_unexplained(ended, account, "sandbox")
    (kept,) = [each for each in ended.stays if "object lock" in each.why]
    assert "trailbucket" in kept.what
    assert kept.until is not None
    assert kept.until - account.now < timedelta(days=2)
    # When the day is over, the next run takes the rest.
    account.now += timedelta(days=2)
    for stack in account.stacks:
        stack.deleted = account.now - timedelta(days=4)
    assert not [each for each in destruction("sandbox").run().stays if "Bucket" in each.what]
    assert account.of_kind(BUCKET) == []


def test_another_tenant_of_the_account_keeps_everything(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    deploy(account, assembly, "clinic")
    templates = templates_by_stack_name(assembly / "assembly-Clinic")
    # The name of this one begins with the name of the one that goes.
    account.deploy({"assistant-pharmacy-two-Keys": templates["assistant-clinic-Keys"]}, tenant="pharmacy-two")
    before = whole(account, "clinic") | whole(account, "pharmacy-two")
    account.interfaces = {
        name: each for name, each in account.interfaces.items() if "pharmacy" in each["domain"]
    }
    destruction().run()
    assert whole(account, "clinic") | whole(account, "pharmacy-two") == before
    assert [name for name in account.parameters if "clinic" in name]


def test_recovery_points_keep_their_vault_until_the_last_has_ended(
    account: LeavingAccount, assembly: Path
) -> None:
    deploy(account, assembly)
    (vault,) = account.of_kind("AWS::Backup::BackupVault")
    ends = account.now.replace(microsecond=0) + timedelta(days=35)
    points = {
        f"arn:aws:backup:us-east-1:{ACCOUNT}:recovery-point:{n}": ends - timedelta(days=n) for n in (0, 1)
    }
    vault.state["points"] = points
    account.listed_by_tag |= dict.fromkeys(points, "pharmacy")
    ended = destruction().run()
    (kept,) = [each for each in ended.stays if each.what == f"vault {vault.id}"]
    assert (kept.until, kept.why) == (ends, "2 recovery points")
    assert ended.orphans == []
    vault.state["points"] = {}
    assert not [each for each in destruction().run().stays if "vault" in each.what]
    assert account.of_kind("AWS::Backup::BackupVault") == []


def test_an_endpoint_that_is_updating_is_waited_for(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    one(account, "AWS::SageMaker::Endpoint", "llm").state["status"] = "Updating"
    assert nothing_unexplained(destruction().run(), account)
    assert account.calls.index("sagemaker_describe_endpoint") < account.calls.index(
        "opensearch_delete_domain"
    )


def test_a_stack_that_could_not_be_deleted_before_is_deleted(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    network = next(stack for stack in account.stacks if stack.name.endswith("-Network"))
    network.status = "DELETE_FAILED"
    next(each for each in network.resources if each.kind == "AWS::EC2::Subnet").status = "DELETE_FAILED"
    assert nothing_unexplained(destruction().run(), account)


def test_each_stack_that_resists_is_left_to_the_sweep(account: LeavingAccount) -> None:
    account.deploy(
        {
            "assistant-two-Keys": {"Resources": {"DataKey": {"Type": "AWS::KMS::Key"}}},
            "assistant-two-Data": {"Resources": {"Bucket": {"Type": BUCKET}}},
            "assistant-two-Trail": {"Resources": {"Bucket": {"Type": BUCKET}}},
        },
        tenant="two",
    )
    for bucket in account.of_kind(BUCKET):
        account.fill(bucket.id, 3)
    assert nothing_unexplained(destruction("two").run(), account, "two")
    assert standing(account, "two") == set()


def test_an_object_under_a_hold_keeps_its_bucket_and_is_told(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    bucket = one(account, BUCKET, "documentsbucket")
    bucket.state["versions"]["held"] = account.now + timedelta(days=9000)
    (kept,) = [each for each in destruction().run().stays if each.what == bucket.id]
    assert (kept.why, kept.until) == ("1 versions are under a lock or hold of their own", None)
    assert list(bucket.state["versions"]) == ["held"]


def test_what_nobody_recorded_is_told_as_an_orphan_and_stays(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    function = f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:by-hand"
    account.listed_by_tag[function] = "pharmacy"
    account.things["AWS::Logs::LogGroup", "by-hand"] = Thing(LOG_GROUP, "by-hand", {}, "another")
    account.listed_by_tag[account.arn(account.things[LOG_GROUP, "by-hand"])] = "pharmacy"
    orphans = destruction().run().orphans
    assert orphans == [function, f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:by-hand"]
    assert (LOG_GROUP, "by-hand") in account.things


def test_a_stack_that_resists_for_another_reason_is_named(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    account.interfaces["eni-of-another-team"] = {"domain": "none", "looks": -10_000}
    with pytest.raises(DeploymentError, match=r"services hold interfaces in .* Run the command again"):
        destruction(limit_s=0.5).run()
    del account.interfaces["eni-of-another-team"]
    assert nothing_unexplained(destruction().run(), account)


def test_killed_at_random_calls_it_goes_on_where_it_was(
    served: tuple[LeavingAccount, str], assembly: Path
) -> None:
    account, url = served
    deploy(account, assembly)
    whole = len(account.calls)
    destruction().run()
    whole = len(account.calls) - whole
    forget(account)
    deploy(account, assembly)
    chance = random.Random(23)  # noqa: S311
    for _ in range(KILLS):
        kill_at(account, url, chance.randrange(1, whole // 3), is_carried_out=chance.random() < 0.5)
    ended = destruction().run()
    assert nothing_unexplained(ended, account)
    deploy(account, assembly)
    assert account.answers("pharmacy")


def kill_at(account: LeavingAccount, url: str, number: int, *, is_carried_out: bool) -> None:
    """Kill a run at its call of this number, whether or not AWS still carries it out; one that ends before is
    a run that had nothing left to do."""
    reached, released = threading.Event(), threading.Event()
    left = [number]

    def hold(call: str) -> None:
        left[0] -= 1
        if left[0] == 0:
            reached.set()
            released.wait(30)
            if not is_carried_out:
                raise ConnectionAbortedError(call)

    account.hold = hold
    program = "from tests.stacks.test_destroy import destruction; destruction().run()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"AWS_ENDPOINT_URL": url}
    )
    try:
        while not reached.wait(0.05) and process.poll() is None:
            pass
    finally:
        process.kill()
        assert process.wait(30) in (0, -9)
        account.hold = lambda call: None
        released.set()


def test_a_killed_run_ends_cdk_and_the_next_one_ends_the_tenant(
    served: tuple[LeavingAccount, str], assembly: Path
) -> None:
    account, url = served
    account.looks = 1
    deploy(account, assembly, "sandbox")
    reached = threading.Event()

    def hold(call: str) -> None:
        if call == "cloudformation_delete_stack" and not reached.is_set():
            reached.set()
            ended.wait(30)

    account.hold, ended = hold, threading.Event()
    program = "from tests.stacks.test_destroy import CDK, destruction; destruction('sandbox', cdk=CDK).run()"
    process = subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"AWS_ENDPOINT_URL": url}
    )
    try:
        assert reached.wait(60)
        (group,) = [row for row in processes() if row.ppid == process.pid]
        assert any("node" in row.command for row in processes() if row.pgid == group.pid)
    finally:
        process.kill()
        process.wait(30)
    while any(row.pgid == group.pid for row in processes()):
        reached.wait(0.05)
    ended.set()
    assert nothing_unexplained(destruction("sandbox", cdk=CDK).run(), account, "sandbox")


@dataclass(frozen=True)
class Process:
    ppid: int
    pid: int
    pgid: int
    command: str


def processes() -> list[Process]:
    listed = subprocess.run(
        ["ps", "-eo", "ppid=,pid=,pgid=,args="], capture_output=True, text=True, timeout=30, check=True
    )
    rows = [line.split(None, 3) for line in listed.stdout.splitlines()]
    return [Process(int(parent), int(pid), int(group), args) for parent, pid, group, args in rows]


def command(*given: str, typed: str = "") -> Any:
    return CliRunner().invoke(app, ["aws", "destroy", "--tenant", "pharmacy", *given], input=typed)


def test_the_plan_changes_nothing(account: LeavingAccount, assembly: Path) -> None:
    deploy(account, assembly)
    before = standing(account)
    done = CliRunner().invoke(app, ["--json", "aws", "destroy", "--tenant", "pharmacy", "--plan"])
    assert done.exit_code == 0, done.output
    plan = json.loads(done.stdout)
    assert plan["stacks"][0] == "assistant-pharmacy-Observability"
    assert plan["stacks"][-1] == "assistant-pharmacy-Keys"
    assert len([each for each in plan["stays"] if "object lock" in each["why"]]) == 2
    assert "/assistant/pharmacy/document-links" in plan["parameters"]
    assert standing(account) == before
    assert not [call for call in account.calls if "delete" in call or "update" in call or "modify" in call]


def test_the_typed_name_is_the_only_question(account: LeavingAccount, assembly: Path) -> None:
    """The command runs the real cdk."""
    deploy(account, assembly)
    account.looks = 0
    done = command(typed="pharmacy\n")
    assert done.exit_code == 0, done.output + str(done.exception)
    assert "object lock, compliance, 2192 days" in done.stdout.replace("\n", " ")
    assert "AWS::EC2::VPC" not in {kind for kind, _ in account.things}
