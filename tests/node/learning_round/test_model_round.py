"""The model loop on the emulator: marks, events, a set, a training job, and a package that names the set. No
tenant serves its weights before they are compared. A job that did not complete makes no package."""
# pyright: basic

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from uuid import uuid4

import boto3
import pytest

from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.tenant.manifests import LlmManifest, check_compared
from tests.fakes.aws_server import REGION
from tests.fakes.sagemaker_control import ControlledSageMaker
from tests.node.learning_round.conftest import LearningDeployment
from tests.node.learning_round.test_round import job_of, make_set
from tests.options.models_lab.test_packaging import CARD, Desk, desk, told

__all__ = ["desk"]
WEIGHTS = b"GGUF tuned weights"
"""What the training step would write."""


async def train(deployment: LearningDeployment, folder: str, ending: str) -> str:
    """Start a job on a set, end it, with its output where it completed, and return its name."""
    name, sagemaker = f"answers-{uuid4().hex[:8]}", boto3.client("sagemaker", region_name=REGION)
    sagemaker.create_training_job(**job_of(deployment, name, folder))
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == "InProgress"
    if ending == "Completed":
        place = f"{deployment.bucket('training')}sets/{folder}"
        manifest = (await deployment.files(place))["manifest.json"]
        card = CARD | {"training_set": hashlib.sha256(manifest).hexdigest()}
        for file, content in {"tuned.gguf": WEIGHTS, "training.json": json.dumps(card).encode()}.items():
            key = f"checkpoints/{name}/output/model/{file}"
            await deployment.aws.clients["s3"].put_object(
                Bucket=deployment.named("training"), Key=key, Body=content
            )
    if ending == "Stopped":
        sagemaker.stop_training_job(TrainingJobName=name)
    await ControlledSageMaker(deployment.aws.aws_url).end_job(name, ending, reason="out of memory")
    assert sagemaker.describe_training_job(TrainingJobName=name)["TrainingJobStatus"] == ending
    return name


async def fetch(deployment: LearningDeployment, desk: Desk, job: str) -> None:
    """Copy what the job left to the folder that is packaged, as `aws s3 cp --recursive` does."""
    merged = desk.clone / "job/merged"
    shutil.rmtree(desk.clone / "job")
    merged.mkdir(parents=True)
    place = f"{deployment.bucket('training')}checkpoints/{job}/output/model/"
    for name, content in (await deployment.files(place)).items():
        (merged / name).write_bytes(content)


async def test_a_mark_becomes_a_packaged_model_that_is_served_only_when_it_was_compared(
    deployment: LearningDeployment, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = await make_set(deployment, capsys)
    await fetch(deployment, desk, await train(deployment, folder, "Completed"))
    done = await asyncio.to_thread(desk.package, "--put", "sandbox")
    assert done.exit_code == 0, told(done)
    manifest = LlmManifest.read(desk.artifacts / "tuned")
    assert manifest.lineage is not None
    assert manifest.lineage.training_set.startswith(folder.rstrip("/").rpartition("-")[2]), "of these marks"
    with pytest.raises(ConfigurationError, match="has no comparison"):
        check_compared(manifest, tenant="sandbox", artifacts=desk.artifacts)


@pytest.mark.parametrize("ending", ["Failed", "Stopped"])
async def test_a_job_that_did_not_complete_makes_no_package(
    deployment: LearningDeployment, desk: Desk, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    folder = await make_set(deployment, capsys)
    await fetch(deployment, desk, await train(deployment, folder, ending))
    run = await asyncio.to_thread(desk.package, "--put", "sandbox")
    assert run.exit_code == 1
    assert isinstance(run.exception, AssistantError)
    assert not (desk.artifacts / "tuned").exists()
    assert "Contents" not in boto3.client("s3", region_name=REGION).list_objects_v2(Bucket=desk.bucket)
