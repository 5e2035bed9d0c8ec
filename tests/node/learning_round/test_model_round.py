"""The model loop on the emulator: marks, events, a set, a training job, a package that names the set, an
evaluation, a canary, and the way back. A job that did not complete releases nothing."""
# pyright: basic

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
from typing import Any
from uuid import uuid4

import boto3
import pytest

from assistant.domain.errors import AssistantError
from assistant.tenant.manifests import LlmManifest
from tests.fakes.aws_server import REGION
from tests.fakes.sagemaker_control import ControlledSageMaker
from tests.node.learning_round.conftest import LearningDeployment
from tests.node.learning_round.test_round import job_of, make_set
from tests.options.models_lab.canary_scene import scene
from tests.options.models_lab.test_release_command import CARD, REPORTS, Desk, desk, told

__all__ = ["desk", "scene"]
WEIGHTS = b"GGUF tuned weights"
"""What the training step would write. The desk's stored evaluation is of these bytes."""


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


async def command(run: Any, *arguments: str, answer: str = "") -> Any:
    return await asyncio.to_thread(run, *arguments, **({"answer": answer} if answer else {}))


async def test_a_mark_becomes_a_served_model_and_the_served_one_comes_back(
    deployment: LearningDeployment, desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = await make_set(deployment, capsys)
    await fetch(deployment, desk, await train(deployment, folder, "Completed"))
    done = await command(desk.package, "--put", "sandbox")
    assert done.exit_code == 0, told(done)
    lineage = LlmManifest.read(desk.artifacts / "tuned").lineage
    assert lineage is not None
    assert lineage.training_set.startswith(folder.rstrip("/").rpartition("-")[2]), "the set of these marks"
    done = await command(desk.release, *REPORTS, answer="y\n")
    assert done.exit_code == 0, told(done)
    shares = desk.scene.shares()
    assert {name: count for name, (_, count) in shares.items()} == {"AllTraffic": 1, "Canary": 1}
    assert shares["Canary"][0] / sum(weight for weight, _ in shares.values()) == pytest.approx(0.05)
    done = await command(desk.run, "release", "--back", "--tenant", "sandbox")
    assert done.exit_code == 0, told(done)
    assert desk.scene.shares() == {"AllTraffic": (1.0, 1)}


@pytest.mark.parametrize("ending", ["Failed", "Stopped"])
async def test_a_job_that_did_not_complete_releases_nothing(
    deployment: LearningDeployment, desk: Desk, capsys: pytest.CaptureFixture[str], ending: str
) -> None:
    folder = await make_set(deployment, capsys)
    await fetch(deployment, desk, await train(deployment, folder, ending))
    for run in (
        await command(desk.package, "--put", "sandbox"),
        await command(desk.release, *REPORTS, answer="y\n"),
    ):
        assert run.exit_code == 1
        assert isinstance(run.exception, AssistantError)
    assert not (desk.artifacts / "tuned").exists()
    assert "Contents" not in boto3.client("s3", region_name=REGION).list_objects_v2(Bucket=desk.bucket)
    assert desk.scene.shares() == {"AllTraffic": (1.0, 1)}
    assert desk.scene.told()["EndpointStatus"] == "InService"
