"""A company that compiles a model of its own: its clone of the repository, and its emulated account."""
# pyright: basic

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
from typer.testing import CliRunner

from assistant.cli.main import app
from assistant.domain.errors import AssistantError
from assistant.tenant.manifests import LlmManifest
from tests.stage.aws_server import REGION
from tests.stage.neuron_container import Weights
from tests.stage.sagemaker_control import ACCOUNT, ControlledSageMaker

ROOT = Path(__file__).parents[3]
NAME = "tiny-inf2"
DIGEST = f"sha256:{'d' * 64}"
NUMBERS = {"layers": 2, "kv_heads": 2, "head_size": 16, "weights_bytes": 200_000, "sequence_length": 256}
WEIGHTS = Weights()
QUOTA = "ml.trn1.32xlarge for training job usage"
REQUEST = {
    "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/Compiling",
    "OutputDataConfig": {"KmsKeyId": "alias/models", "CompressionType": "NONE"},
    "ResourceConfig": {"InstanceCount": 1, "VolumeSizeInGB": 200},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    "VpcConfig": {"Subnets": ["subnet-0a1b2c3d"], "SecurityGroupIds": ["sg-0a1b2c3d"]},
    "EnableNetworkIsolation": True,
}

CARD = {
    "schema_version": 1,
    "task": "preference",
    "training_set": "5" * 64,
    "base_model": "b" * 64,
    "licences": {"base": "Apache-2.0", "set": "proprietary"},
}
"""``training.json`` of a training job."""


@dataclass
class Company:
    """A clone of the repository, and the tenant's account with a deployed data stack."""

    root: Path
    tenant: str
    bucket: str
    url: str
    control: ControlledSageMaker
    clients: dict[str, Any] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        self.clients[service] = self.clients.get(service) or boto3.client(
            service,  # pyright: ignore[reportCallIssue, reportArgumentType]
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id="emulated",
            aws_secret_access_key="emulated",
        )
        return self.clients[service]

    async def run(self, *command: str) -> dict[str, Any]:
        """Return what ``assistant --json models …`` prints. Raises the command's error."""
        arguments = ["--json", "--tenants", str(self.root / "tenants"), "models", *command]
        done = await asyncio.to_thread(
            CliRunner().invoke, app, [*arguments, "--tenant", self.tenant], env=self.environment
        )
        if isinstance(done.exception, AssistantError):
            raise done.exception
        assert done.exit_code == 0, done.output + repr(done.exception)
        return json.loads(done.output)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "emulated",
            "AWS_SECRET_ACCESS_KEY": "emulated",
        }

    @property
    def manifest(self) -> Path:
        return self.root / "model_artifacts/llm" / NAME / "manifest.toml"

    def edit(self, was: str, becomes: str) -> None:
        text = self.manifest.read_text()
        assert was in text
        self.manifest.write_text(text.replace(was, becomes))

    def put_weights(self, folder: Path, model: Weights = WEIGHTS) -> None:
        revision = LlmManifest.read(self.manifest.parent).revision
        for file in model.write(folder).iterdir():
            self.client("s3").upload_file(
                str(file), self.bucket, f"llm/{NAME}/weights/{revision}/{file.name}"
            )

    def keys(self, prefix: str) -> dict[str, bytes]:
        s3 = self.client("s3")
        listed = s3.list_objects_v2(Bucket=self.bucket, Prefix=prefix).get("Contents", [])
        return {
            each["Key"].removeprefix(prefix): s3.get_object(Bucket=self.bucket, Key=each["Key"])[
                "Body"
            ].read()
            for each in listed
        }

    def described(self, name: str) -> Mapping[str, Any]:
        return self.client("sagemaker").describe_training_job(TrainingJobName=name)

    async def carry_out(self, name: str, folder: Path) -> None:
        """Do what SageMaker does with a job: fetch its channels, run its container, put what it left."""
        job = self.described(name)
        for channel in job["InputDataConfig"]:
            prefix = channel["DataSource"]["S3DataSource"]["S3Uri"].split("/", 3)[3]
            for path, content in self.keys(prefix).items():
                file = folder / "input/data" / channel["ChannelName"] / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        (folder / "input/config").mkdir(parents=True)
        (folder / "input/config/hyperparameters.json").write_text(json.dumps(job["HyperParameters"]))
        command = folder / "bin/optimum-cli"
        command.parent.mkdir()
        stand_in = ROOT / "tests/stage/neuron_container.py"
        command.write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in} "$@"\n')
        command.chmod(0o755)
        _, entry = job["AlgorithmSpecification"]["ContainerEntrypoint"]
        done = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, entry.replace("/opt/ml", str(folder)), folder],
            env={"PATH": f"{command.parent}{os.pathsep}{os.environ['PATH']}"},
            check=False,
            capture_output=True,
        )
        if done.returncode:
            await self.control.end_job(name, "Failed", reason=(folder / "output/failure").read_text())
            return
        output = job["OutputDataConfig"]["S3OutputPath"].split("/", 3)[3].rstrip("/")
        for file in (folder / "model").rglob("*"):
            if file.is_file():
                key = f"{output}/{name}/output/model/{file.relative_to(folder / 'model')}"
                self.client("s3").upload_file(str(file), self.bucket, key)
        await self.control.end_job(name, "Completed")
