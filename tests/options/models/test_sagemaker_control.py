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


async def second_variant(sagemaker: Any, served: str) -> str:
    config = f"{served}-shared"
    await sagemaker.create_endpoint_config(
        EndpointConfigName=config,
        ProductionVariants=[
            variant(served, InitialVariantWeight=95),
            variant(served, VariantName="Candidate", InitialVariantWeight=5),
        ],
    )
    return config


def weights(endpoint: dict[str, Any]) -> dict[str, float]:
    return {each["VariantName"]: each["CurrentWeight"] for each in endpoint["ProductionVariants"]}


async def test_a_training_job_is_in_progress_until_it_is_ended(
    sagemaker: Any, control: ControlledSageMaker
) -> None:
    name = f"job-{uuid4().hex[:8]}"
    await sagemaker.create_training_job(**job(name))
    for _ in range(2):
        found = await sagemaker.describe_training_job(TrainingJobName=name)
        assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("InProgress", "Starting")
        assert "ModelArtifacts" not in found
    await control.end_job(name, "Completed")
    found = await sagemaker.describe_training_job(TrainingJobName=name)
    assert found["TrainingJobStatus"] == "Completed"
    assert found["ModelArtifacts"]["S3ModelArtifacts"] == f"s3://models/adapters/{name}/output/model.tar.gz"
    assert found["EnableNetworkIsolation"] is True
    assert found["OutputDataConfig"]["KmsKeyId"] == "alias/tenant"
    assert found["TrainingEndTime"] >= found["CreationTime"]


async def test_a_failed_job_says_why_and_has_no_model(sagemaker: Any, control: ControlledSageMaker) -> None:
    name = f"job-{uuid4().hex[:8]}"
    await sagemaker.create_training_job(**job(name))
    await control.end_job(name, "Failed", reason="AlgorithmError: out of memory")
    found = await sagemaker.describe_training_job(TrainingJobName=name)
    assert (found["TrainingJobStatus"], found["FailureReason"]) == ("Failed", "AlgorithmError: out of memory")
    assert "ModelArtifacts" not in found


async def test_a_job_stops_in_two_steps_and_not_twice(sagemaker: Any, control: ControlledSageMaker) -> None:
    name = f"job-{uuid4().hex[:8]}"
    await sagemaker.create_training_job(**job(name))
    await sagemaker.stop_training_job(TrainingJobName=name)
    found = await sagemaker.describe_training_job(TrainingJobName=name)
    assert found["TrainingJobStatus"] == "Stopping"
    await control.end_job(name, "Stopped")
    with pytest.raises(ClientError, match="the training job is in status Stopped"):
        await sagemaker.stop_training_job(TrainingJobName=name)


async def test_an_interrupted_spot_job_goes_on(sagemaker: Any, control: ControlledSageMaker) -> None:
    name = f"job-{uuid4().hex[:8]}"
    await sagemaker.create_training_job(**job(name))
    await control.interrupt_job(name)
    found = await sagemaker.describe_training_job(TrainingJobName=name)
    assert (found["TrainingJobStatus"], found["SecondaryStatus"]) == ("InProgress", "Interrupted")
    await control.end_job(name, "Completed")
    steps = (await sagemaker.describe_training_job(TrainingJobName=name))["SecondaryStatusTransitions"]
    assert [each["Status"] for each in steps] == ["Starting", "Interrupted", "Completed"]


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


async def test_a_name_is_used_once_and_an_unknown_one_is_told(sagemaker: Any) -> None:
    name = f"job-{uuid4().hex[:8]}"
    with pytest.raises(ClientError, match=r"ValidationException.*Requested resource not found"):
        await sagemaker.describe_training_job(TrainingJobName=name)
    await sagemaker.create_training_job(**job(name))
    with pytest.raises(sagemaker.exceptions.ResourceInUse):
        await sagemaker.create_training_job(**job(name))


async def test_jobs_are_listed_by_status_in_pages(sagemaker: Any, control: ControlledSageMaker) -> None:
    mark = uuid4().hex[:8]
    for number in range(3):
        await sagemaker.create_training_job(**job(f"{mark}-{number}"))
    await control.end_job(f"{mark}-1", "Completed")
    pages = sagemaker.get_paginator("list_training_jobs").paginate(
        NameContains=mark, StatusEquals="InProgress", PaginationConfig={"PageSize": 1}
    )
    found = [each["TrainingJobName"] async for page in pages for each in page["TrainingJobSummaries"]]
    assert found == [f"{mark}-2", f"{mark}-0"]


async def test_a_processing_job_has_no_neuron_instance(sagemaker: Any, control: ControlledSageMaker) -> None:
    def asked(instance_type: str) -> dict[str, Any]:
        return {
            "ProcessingJobName": f"job-{uuid4().hex[:8]}",
            "RoleArn": ROLE,
            "AppSpecification": {"ImageUri": "123.dkr.ecr/corpus"},
            "ProcessingResources": {
                "ClusterConfig": {"InstanceType": instance_type, "InstanceCount": 1, "VolumeSizeInGB": 30}
            },
        }

    with pytest.raises(ClientError, match="enum value set"):
        await sagemaker.create_processing_job(**asked("ml.trn1.2xlarge"))
    taken = asked("ml.m5.large")
    await sagemaker.create_processing_job(**taken)
    await control.end_processing_job(taken["ProcessingJobName"], "Failed", reason="no input")
    found = await sagemaker.describe_processing_job(ProcessingJobName=taken["ProcessingJobName"])
    assert (found["ProcessingJobStatus"], found["FailureReason"]) == ("Failed", "no input")


async def test_an_endpoint_is_creating_until_it_is_moved(
    sagemaker: Any, control: ControlledSageMaker
) -> None:
    name = f"served-{uuid4().hex[:8]}"
    await sagemaker.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer={"Image": "vllm"})
    await sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant(name)])
    await sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    found = await sagemaker.describe_endpoint(EndpointName=name)
    assert found["EndpointStatus"] == "Creating"
    assert "ProductionVariants" not in found
    with pytest.raises(ClientError, match="Cannot update in-progress endpoint"):
        await sagemaker.delete_endpoint(EndpointName=name)
    await control.move_endpoint(name, "Failed", reason="the container did not answer /ping")
    found = await sagemaker.describe_endpoint(EndpointName=name)
    assert (found["EndpointStatus"], found["FailureReason"]) == (
        "Failed",
        "the container did not answer /ping",
    )
    with pytest.raises(ClientError, match="Cannot update failed endpoint"):
        await sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=name)
    await sagemaker.delete_endpoint(EndpointName=name)
    with pytest.raises(ClientError, match="Could not find endpoint"):
        await sagemaker.describe_endpoint(EndpointName=name)


async def test_an_update_changes_the_variants_when_it_ends(
    sagemaker: Any, control: ControlledSageMaker
) -> None:
    name = await serve(sagemaker, control)
    config = await second_variant(sagemaker, name)
    await sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    found = await sagemaker.describe_endpoint(EndpointName=name)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("Updating", name)
    assert weights(found) == {"Served": 1.0}
    assert found["PendingDeploymentSummary"]["EndpointConfigName"] == config
    for again in (
        sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config),
        sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "Served", "DesiredWeight": 0}]
        ),
    ):
        with pytest.raises(ClientError, match=r"ValidationException.*Cannot update in-progress endpoint"):
            await again
    await control.move_endpoint(name)
    found = await sagemaker.describe_endpoint(EndpointName=name)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", config)
    assert weights(found) == {"Served": 95.0, "Candidate": 5.0}
    assert "PendingDeploymentSummary" not in found


@pytest.mark.parametrize("status", ["InService", "RollingBack", "Failed"])
async def test_a_failed_update_keeps_the_old_configuration(
    sagemaker: Any, control: ControlledSageMaker, status: str
) -> None:
    name = await serve(sagemaker, control)
    config = await second_variant(sagemaker, name)
    await sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)
    await control.move_endpoint(name, status, reason="no capacity for ml.inf2.8xlarge")
    found = await sagemaker.describe_endpoint(EndpointName=name)
    assert (found["EndpointStatus"], found["EndpointConfigName"]) == (status, name)
    assert found["FailureReason"] == "no capacity for ml.inf2.8xlarge"
    if status == "RollingBack":
        await control.move_endpoint(name)
        found = await sagemaker.describe_endpoint(EndpointName=name)
        assert (found["EndpointStatus"], found["EndpointConfigName"]) == ("InService", name)


async def test_weights_and_counts_change_when_the_update_ends(
    sagemaker: Any, control: ControlledSageMaker
) -> None:
    name = await serve(sagemaker, control)
    with pytest.raises(ClientError, match="Candidate"):
        await sagemaker.update_endpoint_weights_and_capacities(
            EndpointName=name, DesiredWeightsAndCapacities=[{"VariantName": "Candidate", "DesiredWeight": 1}]
        )
    await sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "Served", "DesiredWeight": 3, "DesiredInstanceCount": 4}
        ],
    )
    (served,) = (await sagemaker.describe_endpoint(EndpointName=name))["ProductionVariants"]
    assert (served["CurrentWeight"], served["DesiredWeight"], served["CurrentInstanceCount"]) == (1.0, 3, 1)
    await control.move_endpoint(name)
    (served,) = (await sagemaker.describe_endpoint(EndpointName=name))["ProductionVariants"]
    assert (served["CurrentWeight"], served["CurrentInstanceCount"]) == (3, 4)


@pytest.mark.parametrize(
    ("retained", "served"),
    [
        ({}, (95.0, 1)),
        ({"RetainAllVariantProperties": True}, (3, 4)),
        (
            {
                "RetainAllVariantProperties": True,
                "ExcludeRetainedVariantProperties": [{"VariantPropertyType": "DesiredWeight"}],
            },
            (95.0, 4),
        ),
    ],
)
async def test_an_update_retains_what_it_is_asked_to(
    sagemaker: Any, control: ControlledSageMaker, retained: dict[str, Any], served: tuple[float, int]
) -> None:
    name = await serve(sagemaker, control)
    await sagemaker.update_endpoint_weights_and_capacities(
        EndpointName=name,
        DesiredWeightsAndCapacities=[
            {"VariantName": "Served", "DesiredWeight": 3, "DesiredInstanceCount": 4}
        ],
    )
    await control.move_endpoint(name)
    config = await second_variant(sagemaker, name)
    await sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config, **retained)
    await control.move_endpoint(name)
    found = (await sagemaker.describe_endpoint(EndpointName=name))["ProductionVariants"]
    shown = {each["VariantName"]: (each["CurrentWeight"], each["CurrentInstanceCount"]) for each in found}
    assert shown == {"Served": served, "Candidate": (5.0, 1)}


async def test_an_update_needs_both_configurations(sagemaker: Any, control: ControlledSageMaker) -> None:
    name = await serve(sagemaker, control)
    with pytest.raises(ClientError, match=r"Could not find endpoint configuration .*missing"):
        await sagemaker.update_endpoint(EndpointName=name, EndpointConfigName="missing")
    config = await second_variant(sagemaker, name)
    await sagemaker.delete_endpoint_config(EndpointConfigName=name)
    with pytest.raises(ClientError, match="Could not find endpoint configuration"):
        await sagemaker.update_endpoint(EndpointName=name, EndpointConfigName=config)


async def test_a_configuration_needs_its_model_and_one_name_a_variant(
    sagemaker: Any, control: ControlledSageMaker
) -> None:
    with pytest.raises(ClientError, match="Could not find model"):
        await sagemaker.create_endpoint_config(
            EndpointConfigName=f"c-{uuid4().hex[:8]}", ProductionVariants=[variant(f"none-{uuid4().hex[:8]}")]
        )
    name = await serve(sagemaker, control)
    with pytest.raises(ClientError, match="must be unique"):
        await sagemaker.create_endpoint_config(
            EndpointConfigName=f"{name}-2", ProductionVariants=[variant(name), variant(name)]
        )
    found = await sagemaker.describe_model(ModelName=name)
    assert found["PrimaryContainer"]["Image"] == "123.dkr.ecr/vllm"
    await sagemaker.delete_model(ModelName=name)
    with pytest.raises(ClientError, match="Could not find model"):
        await sagemaker.describe_model(ModelName=name)


async def test_tags_are_kept(sagemaker: Any) -> None:
    name = f"job-{uuid4().hex[:8]}"
    arn = (await sagemaker.create_training_job(**job(name, Tags=[{"Key": "tenant", "Value": "a"}])))[
        "TrainingJobArn"
    ]
    await sagemaker.add_tags(ResourceArn=arn, Tags=[{"Key": "tenant", "Value": "b"}])
    assert (await sagemaker.list_tags(ResourceArn=arn))["Tags"] == [{"Key": "tenant", "Value": "b"}]


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


async def test_auto_moves_at_the_next_describe(sagemaker: Any, control: ControlledSageMaker) -> None:
    name = await serve(sagemaker, control)
    await control.auto(training_jobs="Completed", endpoints="InService")
    await sagemaker.create_training_job(**job(name))
    await sagemaker.update_endpoint(
        EndpointName=name, EndpointConfigName=await second_variant(sagemaker, name)
    )
    assert (await sagemaker.describe_training_job(TrainingJobName=name))["TrainingJobStatus"] == "Completed"
    found = await sagemaker.describe_endpoint(EndpointName=name)
    assert (found["EndpointStatus"], set(weights(found))) == ("InService", {"Served", "Candidate"})
    await control.auto()
    await sagemaker.create_training_job(**job(f"{name}-2"))
    found = await sagemaker.describe_training_job(TrainingJobName=f"{name}-2")
    assert found["TrainingJobStatus"] == "InProgress"


async def test_a_test_cannot_move_what_is_not_there_or_to_no_status(
    sagemaker: Any, control: ControlledSageMaker
) -> None:
    with pytest.raises(AssertionError, match="unknown training job"):
        await control.end_job("nobody", "Completed")
    name = f"job-{uuid4().hex[:8]}"
    await sagemaker.create_training_job(**job(name))
    with pytest.raises(AssertionError, match="Done is no status"):
        await control.end_job(name, "Done")
