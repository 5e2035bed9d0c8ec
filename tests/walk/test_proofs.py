"""``make prove`` on an emulated account: the real CDK and commands make a sandbox, run each row that needs no
more, and take it away. What the emulator lacks is answered as ``test_rows.py`` plans."""

from __future__ import annotations

import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from assistant.documents.uploads import pushed_result
from assistant.domain.documents import UploadResult
from tests.stacks.emulated_account import EmulatedAccount, emulated_account
from tests.stacks.synthesized import ROOT
from tests.stage.aws_calls import planned_account
from tests.stage.tenant_files import FIRST
from tests.walk.planned_rows import CASES, DENIED, ENDPOINT, PROOFS
from tests.walk.walking import ASSISTANT, Walk, begin, edited, issuer_publishes_keys, run_the_machine, take

pytestmark = [
    pytest.mark.loopback,
    pytest.mark.timeout(1500),
    pytest.mark.filterwarnings("ignore:.*does not match an error shape"),
]
MADE = "-o .venv/local.stamp -o build/functions/stamp -o node_modules/.package-lock.json"
"""The environment that runs this test is what the targets make."""


@pytest.fixture
def walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Walk]:
    """Return a walk after action 9, whose care side is in the sandbox's own account, as it ships."""
    monkeypatch.setenv("MOTO_ACM_VALIDATION_WAIT", "0")
    monkeypatch.setenv("POLL_S", "1")
    with emulated_account(tmp_path, account=ASSISTANT) as account:
        walk = begin("sandbox", tmp_path / "clone", account, account)
        for folder in ("tenants", "care_app"):
            shutil.copy(ROOT / folder / "sandbox.toml", walk.clone / folder)
        edited(walk, "care_app/sandbox.toml", {"111122223333": ASSISTANT})
        for action in FIRST[1:9]:
            take(walk, action)
        issuer_publishes_keys(walk)
        yield walk


@contextmanager
def beside(*works: Callable[[threading.Event], None]) -> Iterator[None]:
    ended = threading.Event()
    threads = [threading.Thread(target=work, args=(ended,), daemon=True) for work in works]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join(10)


def reading(account: EmulatedAccount) -> Callable[[threading.Event], None]:
    """Write the result of each file that is pushed into the inbox, as the functions do."""

    def read(ended: threading.Event) -> None:
        s3, told = account.client("s3"), set[str]()
        while not ended.wait(0.5):
            names = [each["Name"] for each in s3.list_buckets()["Buckets"] if "inbox" in each["Name"]]
            for name in names:
                s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
                for each in s3.list_object_versions(Bucket=name).get("Versions", []):
                    key, version = each["Key"], each["VersionId"]
                    if not key.startswith(".") and version not in told:
                        told.add(version)
                        body = UploadResult(added=1).model_dump_json()
                        s3.put_object(Bucket=name, Key=pushed_result(key, version), Body=body)

    return read


def resuming(walk: Walk) -> Callable[[threading.Event], None]:
    def resume(ended: threading.Event) -> None:
        stacks = walk.account.client("cloudformation")
        while not ended.wait(1):
            names = [each["StackName"] for each in stacks.describe_stacks()["Stacks"]]
            if f"assistant-{walk.tenant}-Models" in names:
                time.sleep(1)
                run_the_machine(walk)
                return

    return resume


PLANNED_ROWS = "targets", "parser", "stranger", "trail", "key-grants", "replacements"
PLANNED: Mapping[str, Any] = {
    **{
        call: answer
        for row in PLANNED_ROWS
        for call, answer in CASES[row].holds.items()
        if call not in ("lambda:GetFunctionConfiguration", "cloudtrail:DescribeTrails")
    },
    "ec2:DescribeVpcEndpointServices": {  # doctor also asks for the zones
        "ServiceDetails": [
            {"VpcEndpointPolicySupported": True, "AvailabilityZones": ["us-east-1a", "us-east-1b"]}
        ]
    },
    "iam:SimulatePrincipalPolicy": lambda given: (  # doctor simulates other calls
        CASES["parser"].holds["iam:SimulatePrincipalPolicy"]
        if given["ActionNames"] == ["s3:ListAllMyBuckets"]
        else None
    ),
    "s3:GetObject": lambda given: DENIED if given.get("Key") == "any" else None,
    "monitoring:DescribeAlarms": lambda given: {
        "MetricAlarms": [{"StateValue": "OK" if "SearchKeyLost" in given["AlarmNames"][0] else "ALARM"}]
    },
    "sagemaker:UpdateEndpoint": {"EndpointArn": ENDPOINT},
    "ec2:RejectVpcEndpointConnections": {"Unsuccessful": []},
    "cloudformation:UpdateTerminationProtection": {"StackId": "1"},
}
"""What the emulator lacks, with the answer by which each row holds."""
DOES_NOT_HOLD = {
    "bedrock": "no Bedrock answers here (tests/options/bedrock has its frames)",
    "follows": "the emulator updates no stack whose template is the same, as CloudFormation may not",
}


def test_the_target_runs_all_rows_of_a_sandbox_and_takes_it_away(walk: Walk) -> None:
    with planned_account(walk.account.url) as (planned, url), beside(reading(walk.account), resuming(walk)):
        planned.answers = {
            call: answer if callable(answer) else lambda _, answer=answer: answer
            for call, answer in PLANNED.items()
        }
        said = walk.run(
            f"make prove {MADE} T=sandbox USD=15", by=replace(walk.account, url=url), status=2
        )  # some rows do not hold here
    (ended,) = [json.loads(line) for line in said.splitlines() if line.startswith('{"endpoint-policies"')]
    rows = [row.name for row in PROOFS.row if not row.needs]
    assert ended == {name: name not in DOES_NOT_HOLD for name in (*rows, "gone")}, said[-6000:]
    stacks = walk.account.client("cloudformation").describe_stacks()["Stacks"]
    assert [name for each in stacks if "sandbox" in (name := each["StackName"])] == []
