"""Each row of what only an account or a chip shows, with answers of AWS by which it ends with 0, and with one
by which it ends with 1. They are serialized by botocore's shapes, and AWS's own command line reads them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.cli.aws.proving import Proving
from assistant.tenant.tenant import load_tenant
from assistant.terminal.account import Deployed
from assistant.terminal.terminal import Terminal
from tests.stacks.mistakes.planted import ENDPOINT
from tests.stacks.synthesized import ROOT
from tests.stage.aws_calls import PlannedAccount, planned_account
from tests.walk.planned_rows import (
    ARN,
    CASES,
    PROOFS,
    Answers,
    stacks,
)

pytestmark = [
    pytest.mark.loopback,
    pytest.mark.timeout(300),
    # AccessDenied is an error of all services, and in the model of few.
    pytest.mark.filterwarnings("ignore:.*does not match an error shape"),
]
RESOURCES = {
    "ServiceD69D759B": ("ECS::Service", ARN.format("ecs", "service/assistant-sandbox/service")),
    "Tasks": ("ElasticLoadBalancingV2::TargetGroup", ARN.format("elasticloadbalancing", "targetgroup/a/1")),
    "TlsFrontTargets": (
        "ElasticLoadBalancingV2::TargetGroup",
        ARN.format("elasticloadbalancing", "targetgroup/b/2"),
    ),
    "EmbeddingServingEndpoint5C7131D2": ("SageMaker::Endpoint", ENDPOINT),
    "DocumentsParseFunctionAD14080E": ("Lambda::Function", "parse"),
    "DocumentsParseLogs6734080B": ("Logs::LogGroup", "parse-logs"),
    "Logs6819BB44": ("Logs::LogGroup", "orchestrator-logs"),
    "DataKey": ("KMS::Key", "0a1b2c3d-0000-4000-8000-000000000000"),
    **{f"Alarms{name}0A1B2C3D": ("CloudWatch::Alarm", name) for name in ("KeyRefused", "StrangerRead")},
    **{f"Alarms{name}0A1B2C3D": ("CloudWatch::Alarm", name) for name in ("SearchKeyLost", "TrustChanged")},
    "AuditEvents9148872F": ("Logs::LogGroup", "audit-events"),
    "SetsLogs141FE268": ("Logs::LogGroup", "sets-logs"),
    "ParseRole4B381E5D": ("IAM::Role", "parse"),
    "DocumentsInboxReceivedD189FF5B": ("Events::Rule", "inbox-received"),
    "RecoveryVault": ("Backup::BackupVault", "recovery-1"),
    **{f"{name}Bucket": ("S3::Bucket", name.lower()) for name in ("Documents", "Labels", "Capture")},
}


def listed(_: Any) -> Any:
    return {
        "StackResourceSummaries": [
            {
                "LogicalResourceId": name,
                "ResourceType": f"AWS::{kind}",
                "PhysicalResourceId": id_,
                "LastUpdatedTimestamp": 0,
                "ResourceStatus": "CREATE_COMPLETE",
            }
            for name, (kind, id_) in RESOURCES.items()
        ]
    }


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlannedAccount]:
    """A clone with stand-ins for our commands and the CDK, and an account of planned answers."""
    for name in ("assistant", "npx", "curl"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(
            f'#!/bin/sh\necho "${{0##*/}} $*" >> "{tmp_path}/called"\ncat "{tmp_path}/said"\n'
            f'grep -qvx 1 "{tmp_path}/said" || ! [ -s "{tmp_path}/said" ]\n'
        )
        program.chmod(0o755)
    (tmp_path / "care_app").mkdir()
    (tmp_path / "care_app/sandbox.toml").write_text('service_name = "made-up"\n')
    templates = tmp_path / "build/deploy/sandbox/assembly-Sandbox"
    templates.mkdir(parents=True)
    endpoint = {
        "VpcEndpointType": "Interface",
        "PolicyDocument": {},
        "ServiceName": "com.amazonaws.us-east-1.kms",
    }
    (templates / "SandboxNetwork1.template.json").write_text(
        json.dumps({"Resources": {"Kms": {"Properties": endpoint}}})
    )
    monkeypatch.chdir(tmp_path)
    named = {"PATH": f"{tmp_path}/bin:{ROOT}/build/awscli/bin:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    named |= {"POLL_S": "0.2", "MINUTE_S": "0", "JOB": "job", "SERVICE": "https://x", "AWS_MAX_ATTEMPTS": "1"}
    named |= {"AWS_ACCESS_KEY_ID": "planned", "AWS_SECRET_ACCESS_KEY": "planned"}
    named |= {"ASSISTANT_LOCAL_SERVICE_TOKEN": "token"}
    with planned_account("http://127.0.0.1:9") as (application, url):
        for name, value in (named | {"AWS_ENDPOINT_URL": url}).items():
            monkeypatch.setenv(name, value)
        yield application


def ends(
    account: PlannedAccount, name: str, answers: Answers, *, said: str = "", region: str = "us-east-1"
) -> bool:
    """Return whether a row holds with these answers, and with what our commands print."""
    Path("said").write_text(said)
    all_answers = {
        "cloudformation:ListStackResources": listed,
        "cloudformation:DescribeStacks": stacks(),
        **answers,
    }
    account.answers = {
        operation: answer if callable(answer) else lambda _, answer=answer: answer
        for operation, answer in all_answers.items()
    }
    file = ROOT / "tests/tenants/sandbox.toml"
    deployed = Deployed.of(load_tenant(file), file)
    deployed = replace(deployed, place=deployed.place.model_copy(update={"region": region}))
    (row,) = [each for each in PROOFS.row if each.name == name]
    return Proving(deployed, file.parent, PROOFS, Terminal()).holds(row)


def test_each_row_has_a_case() -> None:
    assert list(CASES) == [row.name for row in PROOFS.row]


@pytest.mark.parametrize("name", CASES)
def test_a_row_ends_with_0_and_with_1(account: PlannedAccount, name: str) -> None:
    case = CASES[name]
    assert ends(account, name, case.holds, said=case.said, region=case.region)
    said = case.said if case.said_by_fault is None else case.said_by_fault
    assert not ends(account, name, {**case.holds, **case.fault}, said=said, region=case.region)


def test_stores_of_hipaa_are_made_by_a_copy_of_the_file_and_destroyed(account: PlannedAccount) -> None:
    assert ends(account, "hipaa-stores", CASES["hipaa-stores"].holds)
    place = load_tenant(Path("build/proofs/hipaa/sandbox.toml")).deployment
    assert place
    assert (place.profile, len(place.zones)) == ("hipaa", 3)
    deploys, destroys = Path("called").read_text().splitlines()
    assert deploys.startswith("npx cdk deploy -c tenants=build/proofs/hipaa -c tenant=sandbox ")
    assert destroys == "assistant --tenants build/proofs/hipaa aws destroy --tenant sandbox"


def test_stores_of_hipaa_take_no_tenant_away_that_stands(account: PlannedAccount) -> None:
    assert not ends(account, "hipaa-stores", {**CASES["hipaa-stores"].holds, **CASES["hipaa-stores"].fault})
    assert not Path("called").exists()


def test_changes_of_identities_are_no_proof_in_the_region_of_iam(account: PlannedAccount) -> None:
    assert not ends(account, "identities", CASES["identities"].holds)
