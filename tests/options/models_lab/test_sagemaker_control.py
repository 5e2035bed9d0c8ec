"""The emulator of SageMaker's control plane, as ordinary clients see it."""
# pyright: basic

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from tests.fakes.aws_server import REGION
from tests.fakes.sagemaker_control import ControlledSageMaker

ROLE = "arn:aws:iam::123456789012:role/Training"


def client(service: str, url: str) -> Any:
    return get_session().create_client(
        service,
        region_name=REGION,
        endpoint_url=url,
        aws_access_key_id="AKIDLOCAL",
        aws_secret_access_key="x",
    )


@pytest.fixture
async def sagemaker(aws_server_url: str) -> AsyncIterator[Any]:
    async with client("sagemaker", aws_server_url) as opened:
        yield opened


@pytest.fixture
async def control(aws_server_url: str) -> AsyncIterator[ControlledSageMaker]:
    async with ControlledSageMaker(aws_server_url) as opened:
        yield opened


def job(name: str, **changed: Any) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "AlgorithmSpecification": {
            "TrainingImage": "123.dkr.ecr/training@sha256:0",
            "TrainingInputMode": "File",
        },
        "RoleArn": ROLE,
        "OutputDataConfig": {"S3OutputPath": "s3://models/adapters", "KmsKeyId": "alias/tenant"},
        "ResourceConfig": {"InstanceType": "ml.g5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 30},
        "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
        "HyperParameters": {"task": "preference"},
        "EnableNetworkIsolation": True,
        **changed,
    }


def variant(model: str, **changed: Any) -> dict[str, Any]:
    return {
        "VariantName": "Served",
        "ModelName": model,
        "InstanceType": "ml.inf2.8xlarge",
        "InitialInstanceCount": 1,
        **changed,
    }


async def serve(sagemaker: Any, control: ControlledSageMaker) -> str:
    """Make a model, its configuration and an endpoint in service, all of one name."""
    name = f"served-{uuid4().hex[:8]}"
    await sagemaker.create_model(
        ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "123.dkr.ecr/vllm"}
    )
    await sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant(name)])
    await sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    await control.move_endpoint(name)
    return name


@pytest.mark.parametrize(
    ("changed", "refusal"),
    [
        (
            {"TrainingJobName": "a_b"},
            "at 'trainingJobName' failed to satisfy constraint: Member must satisfy reg",
        ),
        (
            {"ResourceConfig": {"InstanceType": "ml.inf2.8xlarge", "InstanceCount": 1, "VolumeSizeInGB": 1}},
            "at 'resourceConfig.instanceType' failed to satisfy constraint: Member must satisfy enum",
        ),
        ({"RoleArn": "Training-role-without-arn"}, "at 'roleArn'"),
        ({"HyperParameters": {"task": "x" * 2501}}, "at 'hyperParameters.task.member'"),
        (
            {"AlgorithmSpecification": {"TrainingInputMode": "File"}},
            "either an algorithm name or a training image",
        ),
    ],
)
async def test_a_job_that_aws_would_refuse_is_refused(
    sagemaker: Any, changed: dict[str, Any], refusal: str
) -> None:
    with pytest.raises(ClientError, match="ValidationException") as caught:
        await sagemaker.create_training_job(**job(f"job-{uuid4().hex[:8]}", **changed))
    assert refusal in str(caught.value)


async def test_a_quota_of_zero_refuses_jobs_and_endpoints_and_is_listed(
    sagemaker: Any, control: ControlledSageMaker, aws_server_url: str
) -> None:
    name = await serve(sagemaker, control)
    await control.quotas({"ml.inf2.8xlarge for endpoint usage": 0, "ml.g5.xlarge for training job usage": 1})
    with pytest.raises(
        ClientError, match=r"ResourceLimitExceeded.*'ml.inf2.8xlarge for endpoint usage' is 0 Ins"
    ):
        await sagemaker.create_endpoint(EndpointName=f"{name}-2", EndpointConfigName=name)
    await sagemaker.create_training_job(**job(f"{name}-1"))
    two = {"InstanceType": "ml.g5.xlarge", "InstanceCount": 2, "VolumeSizeInGB": 30}
    with pytest.raises(sagemaker.exceptions.ResourceLimitExceeded):
        await sagemaker.create_training_job(**job(f"{name}-2", ResourceConfig=two))
    async with client("service-quotas", aws_server_url) as quotas:
        pages = quotas.get_paginator("list_service_quotas").paginate(
            ServiceCode="sagemaker", PaginationConfig={"PageSize": 1}
        )
        found = {each["QuotaName"]: each["Value"] async for page in pages for each in page["Quotas"]}
    assert found == {"ml.inf2.8xlarge for endpoint usage": 0, "ml.g5.xlarge for training job usage": 1}
