"""What the learning stack's output says of every training job, and what a caller may add to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator

from assistant.domain.errors import ConfigurationError
from assistant.options.desk.stack import LearningStack
from assistant.options.models_lab.commands.training import TrainingJob
from assistant.tenant.manifests import INSTANCES, TRAIN_OUTPUT, instance_named
from assistant.terminal.account import AwsAccount
from stacks.outputs import Workload
from stacks.processes import VOLUME_GIB
from tests.fakes.sagemaker_environment import request_of
from tests.stacks.values import KEYS, NETWORK, deployed, stack_with, template_of

DIGEST = f"@sha256:{'a' * 64}"
REGISTRY = "111122223333.dkr.ecr.us-east-1.amazonaws.com"
JOB = TrainingJob(
    AwsAccount(account="111122223333", region="us-east-1"),
    name="answers-2026-11",
    image=f"{REGISTRY}/assistant/train{DIGEST}",
    instance=instance_named("ml.g5.2xlarge"),
    training_set="2026-11/answers/",
    base="llm/qwen3-8b/",
    hyperparameters={"epochs": "3"},
    is_spot=False,
)


def written(value: Any) -> Any:
    """Return a template's value with references as in ``Fn::Sub``."""
    match value:
        case {"Ref": name}:
            return f"${{{name}}}"
        case {"Fn::GetAtt": [name, attribute]}:
            return f"${{{name}.{attribute}}}"
        case {"Fn::Join": [separator, parts]}:
            return separator.join(written(part) for part in parts)
        case _:
            return value


def shared_request() -> dict[str, Any]:
    """Return what the deployed learning stack of the pharmacy says of every training job."""
    template = template_of(stack_with(LearningStack, deployed("pharmacy")))
    return json.loads(written(template["Outputs"][TRAIN_OUTPUT]["Value"]))


@pytest.fixture(scope="module")
def said() -> str:
    return json.dumps(shared_request())


def each_job(said: str) -> Iterator[dict[str, Any]]:
    for instance in INSTANCES:
        if instance.accelerator != "inf2":
            yield request_of(replace(JOB, instance=instance).completed(json.loads(said)))


@pytest.mark.parametrize(
    "image",
    [
        f"{REGISTRY}/assistant/train:latest",
        f"{REGISTRY}/assistant/train",
        f"{REGISTRY}/assistant/train@sha256:abc",
        f"999999999999.dkr.ecr.us-east-1.amazonaws.com/assistant/train{DIGEST}",
        f"111122223333.dkr.ecr.eu-west-1.amazonaws.com/assistant/train{DIGEST}",
        f"docker.io/library/python{DIGEST}",
        f"111122223333xdkr.ecr.us-east-1.amazonaws.com/train{DIGEST}",
        f"{JOB.image}\n",
    ],
)
def test_an_image_of_another_registry_or_without_a_digest_is_refused(said: str, image: str) -> None:
    with pytest.raises(ConfigurationError, match="by its digest"):
        replace(JOB, image=image).completed(json.loads(said))


@pytest.mark.parametrize(
    "folder",
    [
        "s3://value-quarantine/llm/",
        "../checkpoints/",
        "2026-11/../../checkpoints/",
        "2026-11",
        "/",
        "",
        "2026//answers/",
        "2026-11/\n",
    ],
)
def test_a_set_outside_the_folder_of_sets_is_refused(said: str, folder: str) -> None:
    with pytest.raises(ConfigurationError, match="no folder below sets/"):
        replace(JOB, training_set=folder).completed(json.loads(said))


# --- what no caller can override -------------------------------------------------------------------------
def test_every_job_is_isolated_in_the_tenant_s_subnets_with_the_training_role(said: str) -> None:
    for job in each_job(said):
        assert job["RoleArn"].startswith("${TrainingRole")
        assert job["VpcConfig"] == {
            "Subnets": list(NETWORK.subnet_ids),
            "SecurityGroupIds": [NETWORK.security_group_ids[Workload.JOBS]],
        }
        assert job["EnableNetworkIsolation"] is True
        assert job["EnableInterContainerTrafficEncryption"] is True
        assert job["ResourceConfig"]["InstanceCount"] == 1
        assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 86_400}


def test_every_job_uses_its_own_prefixes_and_the_data_key(said: str) -> None:
    for job in each_job(said):
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


def test_only_volumes_are_encrypted_with_the_key(said: str) -> None:
    """SageMaker refuses a key for instances whose disks are their own."""
    for job in each_job(said):
        instance = instance_named(job["ResourceConfig"]["InstanceType"])
        key = job["ResourceConfig"].get("VolumeKmsKeyId")
        assert key == (None if instance.has_local_disk else KEYS.models_key_arn), instance.name
        assert not instance.has_local_disk or instance.nvme_gb * 10**9 >= VOLUME_GIB * 2**30, instance.name


def test_every_job_has_the_tenant_s_tags(said: str) -> None:
    tags = {tag["Key"]: tag["Value"] for tag in request_of(JOB.completed(json.loads(said)))["Tags"]}

    assert tags["tenant"] == "pharmacy"
    assert tags["data-class"] == "phi"
    assert tags["cost-center"]


def test_a_job_matches_sagemaker_s_api(said: str) -> None:
    api = get_session().get_service_model("sagemaker")

    for job in each_job(said):
        assert job["ResourceConfig"]["InstanceType"] in api.shape_for("TrainingInstanceType").enum
        report = ParamValidator().validate(job, api.shape_for("CreateTrainingJobRequest"))
        assert not report.has_errors(), report.generate_report()
