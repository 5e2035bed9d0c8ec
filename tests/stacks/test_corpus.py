"""The application that makes corpora: in the tenant's network, stopped without work, reading documents."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from assistant.options.models_lab.stack.learning import CorpusStack
from stacks.outputs import Workload
from tests.stacks.policies import allowed_on, statements_of
from tests.stacks.values import KEYS, NETWORK, deployed, resources_of, stack_with, template_of

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    tenant = deployed("pharmacy")
    return template_of(stack_with(CorpusStack, tenant))


@pytest.fixture(scope="module")
def application(template: dict[str, Any]) -> dict[str, Any]:
    (found,) = resources_of(template, "AWS::EMRServerless::Application").values()
    return found["Properties"]


def test_jobs_run_in_the_tenants_subnets_with_the_group_of_jobs(application: dict[str, Any]) -> None:
    assert application["NetworkConfiguration"] == {
        "SubnetIds": list(NETWORK.subnet_ids),
        "SecurityGroupIds": [NETWORK.security_group_ids[Workload.JOBS]],
    }


def test_an_idle_application_stops(application: dict[str, Any]) -> None:
    assert application["AutoStopConfiguration"] == {"Enabled": True, "IdleTimeoutMinutes": 5}
    assert "InitialCapacity" not in application
    assert set(application["MaximumCapacity"]) == {"Cpu", "Memory", "Disk"}


def test_logs_of_jobs_stay_with_the_tenant_under_its_key(application: dict[str, Any]) -> None:
    monitoring = application["MonitoringConfiguration"]

    assert monitoring["ManagedPersistenceMonitoringConfiguration"] == {"Enabled": False}
    assert monitoring["S3MonitoringConfiguration"]["EncryptionKeyArn"] == KEYS.data_key_arn
    assert "CorpusBucket" in json.dumps(monitoring["S3MonitoringConfiguration"]["LogUri"])


def test_a_job_may_only_read_documents(template: dict[str, Any]) -> None:
    read = allowed_on(statements_of(template, "Job"), "s3:GetObject")

    assert {bucket for bucket in read if "value-" in bucket} == {
        "arn:${AWS::Partition}:s3:::value-documents/*"
    }


def test_a_job_writes_corpora_and_logs(template: dict[str, Any]) -> None:
    assert allowed_on(statements_of(template, "Job"), "s3:PutObject") == {
        "arn:${AWS::Partition}:s3:::${CorpusBucket}/corpora/*",
        "arn:${AWS::Partition}:s3:::${CorpusBucket}/logs/*",
    }


def test_a_job_runs_in_our_image_with_its_python_and_modules(
    template: dict[str, Any], application: dict[str, Any]
) -> None:
    image = json.dumps(application["ImageConfiguration"]["ImageUri"])
    assert "/private-care-assistant/corpus-job@" in image
    assert application["Architecture"] == "ARM64"
    (defaults,) = application["RuntimeConfiguration"]
    assert defaults["Classification"] == "spark-defaults"
    properties = defaults["Properties"]
    python = {value for name, value in properties.items() if name.endswith("_PYTHON")}
    assert python == {"/usr/bin/python3.11"}
    assert "python3.11" in (ROOT / "containers/corpus_job/Dockerfile").read_text(encoding="utf-8")
    for of in ("spark.emr-serverless.driverEnv", "spark.executorEnv"):
        assert properties[f"{of}.PYTHONPATH"] == "/opt/assistant:/opt/assistant/packages"
        assert f"{of}.PYSPARK_PYTHON" in properties


def test_what_starts_a_job_stands_among_the_outputs(template: dict[str, Any]) -> None:
    outputs = {name: json.dumps(output["Value"]) for name, output in template["Outputs"].items()}
    assert "ApplicationId" in outputs["CorpusApplicationId"]
    assert "JobRole" in outputs["CorpusJobRoleArn"]
    assert "CorpusBucket" in outputs["CorpusBucketName"]
