"""The runbook that starts training jobs: what it refuses, and what no caller can override."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from assistant.settings.model_artifacts import instance_named
from stacks.learning import TRAINED_ON, VOLUME_GIB, LearningStack
from stacks.outputs import Workload
from tests.stacks.values import KEYS, NETWORK, deployed, resources_of, stack_with, stage_for, template_of

ASKED: Mapping[str, str] = {
    "JobName": "answers-2026-11",
    "Image": f"111122223333.dkr.ecr.us-east-1.amazonaws.com/assistant/train@sha256:{'a' * 64}",
    "InstanceType": "ml.g5.2xlarge",
    "TrainingSet": "2026-11/answers/",
    "BaseModel": "llm/qwen3-8b/",
}
DIGEST = f"@sha256:{'a' * 64}"


class RefusedError(Exception):
    """Systems Manager refuses the execution: a parameter is missing, unknown or invalid."""


@pytest.fixture(scope="module")
def template() -> dict[str, Any]:
    tenant = deployed("pharmacy")
    stage = stage_for(tenant)
    stack = stack_with(LearningStack, tenant, stage=stage)
    return template_of(stack)


@pytest.fixture(scope="module")
def runbook(template: dict[str, Any]) -> dict[str, Any]:
    """As Systems Manager gets it, with references as in ``Fn::Sub``."""
    (document,) = resources_of(template, "AWS::SSM::Document").values()
    assert document["Properties"]["DocumentType"] == "Automation"
    return written(document["Properties"]["Content"])


def written(value: Any) -> Any:
    match value:
        case {"Ref": name}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Join": [separator, parts]}:
            return separator.join(written(part) for part in parts)
        case dict():
            return {name: written(part) for name, part in value.items()}
        case list():
            return [written(part) for part in value]
        case _:
            return value


def started(runbook: Mapping[str, Any], **said: Any) -> dict[str, Any]:
    """Return the job that an execution asks SageMaker for. Raises RefusedError."""
    values = _accepted(runbook["parameters"], {**ASKED, **said})
    steps = {step["name"]: step for step in runbook["mainSteps"]}
    step = runbook["mainSteps"][0]
    while step["action"] == "aws:branch":
        step = steps[_branch(step["inputs"], values)]
    assert step["action"] == "aws:executeAwsApi"
    assert step["isEnd"] is True, "the step after it would run too"
    inputs = _filled(step["inputs"], values)
    assert (inputs.pop("Service"), inputs.pop("Api")) == ("sagemaker", "CreateTrainingJob")
    return inputs


def _accepted(parameters: Mapping[str, Any], said: Mapping[str, Any]) -> dict[str, Any]:
    if said.keys() - parameters.keys():
        raise RefusedError
    values: dict[str, Any] = {}
    for name, rule in parameters.items():
        if name not in said and "default" not in rule:
            raise RefusedError
        value = said.get(name, rule.get("default"))
        if rule["type"] == "String" and not _fits(value, rule):
            raise RefusedError
        values[name] = value
    return values


def _fits(value: str, rule: Mapping[str, Any]) -> bool:
    return (
        value in rule.get("allowedValues", [value])
        and len(value) <= rule.get("maxChars", len(value))
        and re.search(rule.get("allowedPattern", ""), value) is not None
    )


def _branch(inputs: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    for choice in inputs["Choices"]:
        if _filled(choice["Variable"], values).startswith(choice["StartsWith"]):
            return choice["NextStep"]
    return inputs["Default"]


def _filled(value: Any, values: Mapping[str, Any]) -> Any:
    match value:
        case dict():
            return {name: _filled(part, values) for name, part in value.items()}
        case list():
            return [_filled(part, values) for part in value]
        case str() if whole := re.fullmatch(r"\{\{ (\w+) \}\}", value):
            return values[whole[1]]
        case str():
            return re.sub(r"\{\{ (\w+) \}\}", lambda found: values[found[1]], value)
        case _:
            return value


# --- parameters ------------------------------------------------------------------------------------------


def test_a_job_has_the_caller_s_parameters(runbook: dict[str, Any]) -> None:
    job = started(runbook, HyperParameters={"epochs": "3"})

    assert job["TrainingJobName"] == ASKED["JobName"]
    assert job["AlgorithmSpecification"] == {"TrainingImage": ASKED["Image"], "TrainingInputMode": "File"}
    assert job["HyperParameters"] == {"epochs": "3"}
    assert job["ResourceConfig"]["InstanceType"] == ASKED["InstanceType"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        ("Image", "111122223333.dkr.ecr.us-east-1.amazonaws.com/assistant/train:latest"),
        ("Image", "111122223333.dkr.ecr.us-east-1.amazonaws.com/assistant/train"),
        ("Image", "111122223333.dkr.ecr.us-east-1.amazonaws.com/assistant/train@sha256:abc"),
        ("Image", f"999999999999.dkr.ecr.us-east-1.amazonaws.com/assistant/train{DIGEST}"),
        ("Image", f"111122223333.dkr.ecr.eu-west-1.amazonaws.com/assistant/train{DIGEST}"),
        ("Image", f"docker.io/library/python{DIGEST}"),
        ("Image", f"111122223333xdkr.ecr.us-east-1.amazonaws.com/train{DIGEST}"),
        ("TrainingSet", "s3://value-quarantine/llm/"),
        ("TrainingSet", "../checkpoints/"),
        ("TrainingSet", "2026-11/../../checkpoints/"),
        ("TrainingSet", "2026-11"),
        ("TrainingSet", "/"),
        ("TrainingSet", ""),
        ("BaseModel", "s3://value-documents/"),
        ("BaseModel", "llm//qwen/"),
        ("BaseModel", "{{ JobName }}/"),
        ("InstanceType", "ml.p5.48xlarge"),
        ("InstanceType", "ml.inf2.xlarge"),
        ("JobName", "answers_2026"),
        ("JobName", "answers/2026"),
        ("JobName", "a" * 64),
        ("RoleArn", "arn:aws:iam::111122223333:role/administrator"),
        ("S3OutputPath", "s3://somewhere/else"),
    ],
)
def test_an_invalid_parameter_starts_no_job(runbook: dict[str, Any], parameter: str, value: str) -> None:
    with pytest.raises(RefusedError):
        started(runbook, **{parameter: value})


@pytest.mark.parametrize("parameter", ["JobName", "Image", "InstanceType", "TrainingSet", "BaseModel"])
def test_every_parameter_is_required(runbook: dict[str, Any], parameter: str) -> None:
    with pytest.raises(RefusedError):
        _accepted(runbook["parameters"], {name: ASKED[name] for name in ASKED if name != parameter})


# --- what no caller can override -------------------------------------------------------------------------


def each_job(runbook: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for instance in TRAINED_ON:
        yield started(runbook, InstanceType=instance.name)


def test_every_job_is_isolated_in_the_tenant_s_subnets_with_the_training_role(
    runbook: dict[str, Any],
) -> None:
    for job in each_job(runbook):
        assert job["RoleArn"].startswith("${TrainingRole")
        assert job["VpcConfig"] == {
            "Subnets": list(NETWORK.subnet_ids),
            "SecurityGroupIds": [NETWORK.security_group_ids[Workload.JOBS]],
        }
        assert job["EnableNetworkIsolation"] is True
        assert job["EnableInterContainerTrafficEncryption"] is True
        assert job["ResourceConfig"]["InstanceCount"] == 1
        assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 86_400}


def test_every_job_uses_its_own_prefixes_and_the_data_key(runbook: dict[str, Any]) -> None:
    for job in each_job(runbook):
        read = {
            channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"]
            for channel in job["InputDataConfig"]
        }
        assert read == {
            "training": "s3://${TrainingBucket}/sets/2026-11/answers/",
            "model": "s3://value-models/llm/qwen3-8b/",
        }
        assert job["OutputDataConfig"]["S3OutputPath"] == "s3://${TrainingBucket}/checkpoints/"
        assert job["OutputDataConfig"]["KmsKeyId"] == KEYS.data_key_arn
        assert job["CheckpointConfig"] == {
            "S3Uri": "s3://${TrainingBucket}/checkpoints/answers-2026-11/states/"
        }


def test_only_volumes_are_encrypted_with_the_key(runbook: dict[str, Any]) -> None:
    """SageMaker refuses a key for instances whose disks are their own."""
    for job in each_job(runbook):
        instance = instance_named(job["ResourceConfig"]["InstanceType"])
        key = job["ResourceConfig"].get("VolumeKmsKeyId")
        assert key == (None if instance.has_local_disk else KEYS.models_key_arn), instance.name
        assert not instance.has_local_disk or instance.nvme_gb * 10**9 >= VOLUME_GIB * 2**30, instance.name


def test_every_job_has_the_tenant_s_tags(runbook: dict[str, Any]) -> None:
    tags = {tag["Key"]: tag["Value"] for tag in started(runbook)["Tags"]}

    assert tags["tenant"] == "pharmacy"
    assert tags["data-class"] == "phi"
    assert tags["cost-center"]


def test_the_runbook_assumes_no_role(template: dict[str, Any], runbook: dict[str, Any]) -> None:
    assert "assumeRole" not in runbook
    assert "ssm.amazonaws.com" not in json.dumps(template)


def test_a_job_matches_sagemaker_s_api(runbook: dict[str, Any]) -> None:
    api = get_session().get_service_model("sagemaker")

    assert {instance.name for instance in TRAINED_ON} <= set(api.shape_for("TrainingInstanceType").enum)
    for job in each_job(runbook):
        report = ParamValidator().validate(job, api.shape_for("CreateTrainingJobRequest"))
        assert not report.has_errors(), report.generate_report()
