"""Starting a training job through SageMaker's SDK: the job is the one that the tenant's runbook starts.

``make check-training`` runs it: the SDK is in an environment of its own (0.8 GB), so CI does not. The
emulator stands for the account; only an account shows that the job runs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import boto3
import pytest

from tests.fakes.aws_server import REGION, aws_server
from tests.stacks.test_training_shell import ASKED, runbook, started, template

__all__ = ["runbook", "template"]  # fixtures
ROOT = Path(__file__).parents[2]
STARTER = ROOT / "model_artifacts/training/start.py"
PYTHON = Path(os.environ.get("SAGEMAKER_PYTHON", ROOT / "build/sagemaker/bin/python"))
SHELL = "TrainingShell-pharmacy"
ROLE = "arn:aws:iam::123456789012:role/training"
KEYS = {"aws_access_key_id": "x", "aws_secret_access_key": "x", "region_name": REGION}
pytestmark = [pytest.mark.timeout(300), pytest.mark.enable_socket]


def resolved(value: Any) -> Any:
    """Put values in the place of the template's references, as CloudFormation does."""
    text = json.dumps(value).replace("${AWS::Partition}", "aws")
    text = re.sub(r"\$\{\w+\.Arn\}", ROLE, text)
    return json.loads(re.sub(r"\$\{(\w+)\}", r"value-\1", text))


@pytest.fixture
def account(runbook: Mapping[str, Any]) -> Iterator[str]:
    with aws_server() as url:
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        iam = boto3.client("iam", endpoint_url=url, **KEYS)
        iam.create_role(RoleName="training", AssumeRolePolicyDocument=trust)
        boto3.client("ssm", endpoint_url=url, **KEYS).create_document(
            Name=SHELL,
            Content=json.dumps(resolved(runbook)),
            DocumentType="Automation",
            DocumentFormat="JSON",
        )
        yield url


def start(url: str, *more: str, **changed: str) -> subprocess.CompletedProcess[str]:
    said = {**ASKED, **changed}
    options = {"JobName": "job", "Image": "image", "InstanceType": "instance", "TrainingSet": "set"}
    words = [word for name, option in options.items() for word in (f"--{option}", said[name])]
    return subprocess.run(
        [PYTHON, STARTER, "--shell", SHELL, "--model", said["BaseModel"], *words, *more],
        env={
            **os.environ,
            "AWS_ENDPOINT_URL": url,
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": REGION,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def job_of(url: str) -> Mapping[str, Any]:
    """Return the one job that the emulator was asked for."""
    sagemaker = boto3.client("sagemaker", endpoint_url=url, **KEYS)
    (job,) = sagemaker.list_training_jobs()["TrainingJobSummaries"]
    return sagemaker.describe_training_job(TrainingJobName=job["TrainingJobName"])


def test_the_sdk_asks_for_the_job_that_the_runbook_asks_for(account: str, runbook: Mapping[str, Any]) -> None:
    ended = start(account, "--hyperparameter", "epochs=3")
    assert ended.returncode == 0, ended.stderr
    asked, expected = job_of(account), resolved(started(runbook))
    assert asked["RoleArn"] == expected["RoleArn"] == ROLE
    for name in ("OutputDataConfig", "CheckpointConfig", "StoppingCondition", "VpcConfig"):
        assert asked[name].items() >= expected[name].items()
    assert asked["EnableNetworkIsolation"] is True
    assert asked["EnableInterContainerTrafficEncryption"] is True
    assert asked["ResourceConfig"].items() >= expected["ResourceConfig"].items()
    assert asked["AlgorithmSpecification"]["TrainingImage"] == ASKED["Image"]
    assert asked["HyperParameters"]["epochs"].strip('"') == "3"
    uris = [one["DataSource"]["S3DataSource"]["S3Uri"] for one in asked["InputDataConfig"]]
    assert uris == [one["DataSource"]["S3DataSource"]["S3Uri"] for one in expected["InputDataConfig"]]


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"InstanceType": "ml.p99.huge"}, "InstanceType = ml.p99.huge is none of"),
        ({"Image": "docker.example/train:latest"}, "Image = docker.example/train:latest does not match"),
        ({"TrainingSet": "../capture/"}, "TrainingSet = ../capture/ does not match"),
    ],
)
def test_what_the_runbook_refuses_is_refused_here(account: str, changed: dict[str, str], words: str) -> None:
    ended = start(account, **changed)
    assert (ended.returncode, words in ended.stderr) == (1, True), ended.stderr[-2000:]


def test_a_dry_run_starts_nothing(account: str) -> None:
    ended = start(account, "--dry-run")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert json.loads(ended.stdout)["TrainingJobName"] == ASKED["JobName"]
    assert (
        boto3.client("sagemaker", endpoint_url=account, **KEYS).list_training_jobs()["TrainingJobSummaries"]
        == []
    )
