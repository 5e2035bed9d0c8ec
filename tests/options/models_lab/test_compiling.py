"""From weights to a registered artifact: the commands, the emulated account, and the entry run for real."""
# pyright: basic

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from typer.testing import CliRunner

from assistant.cli.main import app
from assistant.domain.errors import AssistantError, ConfigurationError, ConflictError, DeploymentError
from assistant.tenant.manifests import LlmManifest, artifact_sha256
from tests.fakes import neuron_container
from tests.fakes.aws_server import REGION
from tests.fakes.neuron_container import Architecture
from tests.fakes.sagemaker_control import ACCOUNT, ControlledSageMaker
from tests.fakes.sagemaker_environment import install_sdk

ROOT = Path(__file__).parents[3]
NAME = "tiny-inf2"
DIGEST = f"sha256:{'d' * 64}"
TINY = Architecture(
    hidden=64, intermediate=128, layers=2, query_heads=4, kv_heads=2, head_size=16, vocabulary=256
)
NUMBERS = {
    "layers": TINY.layers,
    "kv_heads": TINY.kv_heads,
    "head_size": TINY.head_size,
    "weights_bytes": sum(neuron_container.size_of(*shape) for shape in TINY.shapes().values()),
    "sequence_length": 256,
}
QUOTA = "ml.trn1.32xlarge for training job usage"
REQUEST = {
    "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/Compiling",
    "OutputDataConfig": {"KmsKeyId": "alias/models", "CompressionType": "NONE"},
    "ResourceConfig": {"InstanceCount": 1, "VolumeSizeInGB": 200},
    "StoppingCondition": {"MaxRuntimeInSeconds": 3600},
    "VpcConfig": {"Subnets": ["subnet-0a1b2c3d"], "SecurityGroupIds": ["sg-0a1b2c3d"]},
    "EnableNetworkIsolation": True,
}


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

    def put_weights(self, folder: Path, model: Architecture = TINY) -> None:
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
        stand_in = ROOT / "tests/fakes/neuron_container.py"
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


@pytest.fixture
async def company(tmp_path: Path, aws_server_url: str) -> AsyncIterator[Company]:
    root, tenant = tmp_path / "clone", f"t{uuid4().hex[:10]}"
    shutil.copytree(ROOT / "tests/tenants", root / "tenants")
    text = (ROOT / "tests/tenants/pharmacy.toml").read_text().replace("111122223333", ACCOUNT)
    (root / f"tenants/{tenant}.toml").write_text(
        re.sub(r'(?m)^name = "pharmacy"', f'name = "{tenant}"', text)
    )
    shutil.copytree(ROOT / "model_artifacts", root / "model_artifacts")
    install_sdk(root)
    shutil.copytree(ROOT / "containers/compile_job", root / "containers/compile_job")
    lock = (ROOT / "images.lock.toml").read_text()
    lock = lock.replace("[images.llm_neuronx]\n", f'[images.llm_neuronx]\ndigest = "{DIGEST}"\n')
    (root / "images.lock.toml").write_text(lock)
    folder = root / "model_artifacts/llm" / NAME
    shutil.copytree(root / "model_artifacts/llm/qwen3-8b-inf2", folder)
    text = (folder / "manifest.toml").read_text().replace('name = "qwen3-8b-inf2"', f'name = "{NAME}"')
    for name, number in NUMBERS.items():
        text = re.sub(rf"(?m)^{name} = \d+", f"{name} = {number}", text)
    (folder / "manifest.toml").write_text(text)
    async with ControlledSageMaker(aws_server_url) as control:
        company = Company(root, tenant, f"models-{tenant}", aws_server_url, control)
        company.client("s3").create_bucket(Bucket=company.bucket)
        request = REQUEST | {
            "OutputDataConfig": {
                **REQUEST["OutputDataConfig"],
                "S3OutputPath": f"s3://{company.bucket}/compiled/",
            }
        }
        outputs = {
            "ModelsBucketName": company.bucket,
            "ArtifactPublisherArn": f"arn:aws:iam::{ACCOUNT}:role/ArtifactPublisher",
            "CompileJob": json.dumps(request),
        }
        template = {
            "Resources": {"Queue": {"Type": "AWS::SQS::Queue"}},
            "Outputs": {name: {"Value": value} for name, value in outputs.items()},
        }
        company.client("cloudformation").create_stack(
            StackName=f"assistant-{tenant}-Data", TemplateBody=json.dumps(template)
        )
        await control.quotas({QUOTA: 1})
        yield company


async def compiled(company: Company, folder: Path, model: Architecture = TINY) -> str:
    """Compile and return the job's name."""
    company.put_weights(folder / "weights", model)
    started = await company.run("compile", NAME)
    await company.carry_out(started["TrainingJobName"], folder / "ml")
    return started["TrainingJobName"]


async def test_weights_become_a_registered_artifact(company: Company, tmp_path: Path) -> None:
    before = company.manifest.read_text()
    name = await compiled(company, tmp_path)

    told = await company.run("compile", NAME, "--status")
    promoted = await company.run("compile", NAME, "--promote")

    assert (told["TrainingJobName"], told["TrainingJobStatus"]) == (name, "Completed")
    manifest = LlmManifest.read(company.manifest.parent)
    assert (manifest.sha256, manifest.image_digest) == (promoted["sha256"], DIGEST)
    put = company.keys(f"llm/{NAME}/{promoted['sha256']}/")
    assert sorted(put) == sorted(manifest.files)
    lines = [f"{hashlib.sha256(put[file]).hexdigest()}  ./{file}\n" for file in sorted(put)]
    assert hashlib.sha256("".join(lines).encode()).hexdigest() == promoted["sha256"]
    # the rest of the file stays, comments included
    written = company.manifest.read_text()
    assert [line for line in before.splitlines() if line not in written.splitlines()] == []
    assert written.index("sha256 = ") < written.index("[answering]")


async def test_a_second_promotion_changes_nothing(company: Company, tmp_path: Path) -> None:
    await compiled(company, tmp_path)
    first = await company.run("compile", NAME, "--promote")
    text = company.manifest.read_text()

    assert await company.run("compile", NAME, "--promote") == first
    assert company.manifest.read_text() == text


async def test_the_job_is_asked_for_as_the_stack_bounds_it(company: Company, tmp_path: Path) -> None:
    company.put_weights(tmp_path / "weights")
    started = await company.run("compile", NAME)

    job = company.described(started["TrainingJobName"])
    assert {name: job[name] for name in ("RoleArn", "VpcConfig", "EnableNetworkIsolation")} == {
        name: REQUEST[name] for name in ("RoleArn", "VpcConfig", "EnableNetworkIsolation")
    }
    assert job["ResourceConfig"]["InstanceType"] == "ml.trn1.32xlarge"
    assert job["OutputDataConfig"]["CompressionType"] == "NONE"
    assert job["AlgorithmSpecification"]["TrainingImage"] == (
        f"763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-vllm-inference-neuronx@{DIGEST}"
    )
    manifest = json.loads(job["HyperParameters"]["manifest"])
    assert (manifest["batch_size"], manifest["instance"]) == (8, "ml.inf2.8xlarge")
    # SageMaker takes 2,500 characters a value (API reference, CreateTrainingJob)
    assert len(job["HyperParameters"]["manifest"]) <= 2500


async def test_a_job_that_fails_half_way_is_told_with_its_sum_and_promotes_nothing(
    company: Company, tmp_path: Path
) -> None:
    company.edit(f"weights_bytes = {NUMBERS['weights_bytes']}", "weights_bytes = 100000")
    before = company.manifest.read_text()
    await compiled(company, tmp_path)

    for command in (("compile", NAME, "--status"), ("compile", NAME, "--promote")):
        with pytest.raises(DeploymentError, match=r"is Failed .* = 0\.0 GB; the manifest says weights_bytes"):
            await company.run(*command)
    assert company.manifest.read_text() == before
    assert company.keys("compiled/") == {}


@pytest.mark.parametrize("status", ["Failed", "Stopped"])
async def test_a_job_that_ended_without_an_artifact_is_told(
    company: Company, tmp_path: Path, status: str
) -> None:
    company.put_weights(tmp_path / "weights")
    started = await company.run("compile", NAME)
    await company.control.end_job(started["TrainingJobName"], status, reason="The capacity ended")

    with pytest.raises(DeploymentError, match=f"is {status} .*The capacity ended. Nothing is promoted"):
        await company.run("compile", NAME, "--promote")


async def test_a_job_in_progress_is_not_promoted_and_no_second_one_is_started(
    company: Company, tmp_path: Path
) -> None:
    company.put_weights(tmp_path / "weights")
    started = await company.run("compile", NAME)

    with pytest.raises(ConflictError, match=r"is InProgress .*Wait for its end"):
        await company.run("compile", NAME, "--promote")
    with pytest.raises(ConflictError, match=f"{started['TrainingJobName']} compiles {NAME} already"):
        await company.run("compile", NAME)
    assert (await company.run("compile", NAME, "--status"))["TrainingJobStatus"] == "InProgress"


async def test_an_artifact_of_another_hash_is_refused(company: Company, tmp_path: Path) -> None:
    company.edit("files = [", f'sha256 = "{"5" * 64}"\nfiles = [')
    before = company.manifest.read_text()
    await compiled(company, tmp_path)

    with pytest.raises(ConflictError, match=f"is registered as {'5' * 64}, and the job made"):
        await company.run("compile", NAME, "--promote")
    assert company.manifest.read_text() == before


@pytest.mark.parametrize("file", ["model.pt", "checkpoint/weights/tp1_sharded_checkpoint.safetensors"])
async def test_a_file_that_is_not_what_the_job_wrote_is_refused(
    company: Company, tmp_path: Path, file: str
) -> None:
    before = company.manifest.read_text()
    name = await compiled(company, tmp_path)
    key = f"compiled/{name}/output/model/artifact/{file}"
    company.client("s3").put_object(Bucket=company.bucket, Key=key, Body=b"other")

    with pytest.raises(DeploymentError, match=f"{file} is not what the job wrote"):
        await company.run("compile", NAME, "--promote")
    assert company.manifest.read_text() == before
    assert not [key for key in company.keys(f"llm/{NAME}/") if not key.startswith(("weights/", "entry/"))]


@pytest.mark.parametrize(
    "changed", [{"sha256": "5" * 64}, {"files": {"model.pt": "5" * 64}}, {"files": {}, "sha256": "5" * 64}]
)
async def test_hashes_that_are_not_the_artifacts_are_refused(
    company: Company, tmp_path: Path, changed: dict[str, Any]
) -> None:
    name = await compiled(company, tmp_path)
    key = f"compiled/{name}/output/model/artifact.json"
    told = json.loads(company.keys(key)[""]) | changed
    company.client("s3").put_object(Bucket=company.bucket, Key=key, Body=json.dumps(told))

    with pytest.raises(DeploymentError, match="is not about the manifest's files"):
        await company.run("compile", NAME, "--promote")


async def test_an_artifact_that_lacks_a_file_of_the_manifest_is_refused(
    company: Company, tmp_path: Path
) -> None:
    name = await compiled(company, tmp_path)
    key = f"compiled/{name}/output/model/artifact.json"
    told = json.loads(company.keys(key)[""])
    del told["files"]["tokenizer.json"]
    told["sha256"] = artifact_sha256(told["files"])
    company.client("s3").put_object(Bucket=company.bucket, Key=key, Body=json.dumps(told))

    with pytest.raises(DeploymentError, match="is not about the manifest's files"):
        await company.run("compile", NAME, "--promote")


async def test_a_missing_file_leaves_the_manifest_as_it_was(company: Company, tmp_path: Path) -> None:
    before = company.manifest.read_text()
    name = await compiled(company, tmp_path)
    company.client("s3").delete_object(
        Bucket=company.bucket, Key=f"compiled/{name}/output/model/artifact/model.pt"
    )

    with pytest.raises(DeploymentError, match="NoSuchKey"):
        await company.run("compile", NAME, "--promote")
    assert company.manifest.read_text() == before


async def test_a_manifest_that_changed_since_is_refused(company: Company, tmp_path: Path) -> None:
    await compiled(company, tmp_path)
    company.edit("batch_size = 8", "batch_size = 4")

    with pytest.raises(ConflictError, match="compiled another batch_size, cache_bytes than the manifest"):
        await company.run("compile", NAME, "--promote")


async def test_a_quota_of_0_is_refused_before_anything_is_put(company: Company, tmp_path: Path) -> None:
    company.put_weights(tmp_path / "weights")
    await company.control.quotas({QUOTA: 0})

    with pytest.raises(DeploymentError, match=f"quota {QUOTA}: 0, and 1 are wanted.*request-service-quota"):
        await company.run("compile", NAME)
    assert company.keys(f"llm/{NAME}/entry/") == {}
    with pytest.raises(AssistantError, match="No job has compiled"):
        await company.run("compile", NAME, "--status")


async def test_unknown_names_and_what_is_not_compiled_are_refused(company: Company) -> None:
    with pytest.raises(ConfigurationError, match=r'no such artifact "unknown"; there are .*qwen3-8b-inf2'):
        await company.run("compile", "unknown")
    with pytest.raises(ConfigurationError, match="is for gpu, for which nothing is compiled ahead"):
        await company.run("compile", "qwen3-8b-gpu")


async def test_weights_that_nobody_put_are_asked_for(company: Company) -> None:
    with pytest.raises(ConfigurationError, match=rf"aws s3 sync weights s3://{company.bucket}/llm/{NAME}/"):
        await company.run("compile", NAME)


async def test_an_artifact_that_does_not_fit_is_refused_with_the_sum_before_a_job(company: Company) -> None:
    company.edit(f"weights_bytes = {NUMBERS['weights_bytes']}", "weights_bytes = 33000000000")

    with pytest.raises(ConfigurationError, match=r"weights 33\.0 GB \+ key-value cache 0\.0 GB"):
        await company.run("compile", NAME)


async def test_an_image_without_a_digest_is_refused(company: Company) -> None:
    lock = company.root / "images.lock.toml"
    lock.write_text(lock.read_text().replace(f'digest = "{DIGEST}"\n', ""))

    with pytest.raises(ConfigurationError, match=r"make images TO=[0-9]+/us-east-1 ARGS=llm_neuronx"):
        await company.run("compile", NAME)


async def test_a_tenant_without_the_role_is_told_to_deploy(company: Company) -> None:
    company.client("cloudformation").update_stack(
        StackName=f"assistant-{company.tenant}-Data",
        TemplateBody=json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}),
    )

    with pytest.raises(DeploymentError, match="has no role to compile with"):
        await company.run("compile", NAME)
