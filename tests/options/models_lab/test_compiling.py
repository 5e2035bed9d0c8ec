"""From weights to a registered artifact: the commands, the emulated account, and the entry run for real; and
``assistant models package`` on the emulator."""
# pyright: basic

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.domain.errors import AssistantError, ConfigurationError, ConflictError, DeploymentError
from assistant.tenant.manifests import LlmManifest
from tests.options.models_lab.company import (
    CARD,
    DIGEST,
    NAME,
    NUMBERS,
    QUOTA,
    REQUEST,
    ROOT,
    WEIGHTS,
    Company,
)
from tests.stage.aws_server import REGION
from tests.stage.neuron_container import Weights
from tests.stage.sagemaker_control import ACCOUNT, ControlledSageMaker, install_sdk
from tests.stage.tenant_files import committed_tenant, with_own_llm


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


async def compiled(company: Company, folder: Path, model: Weights = WEIGHTS) -> str:
    """Compile and return the job's name."""
    company.put_weights(folder / "weights", model)
    job = (await company.run("compile", NAME))["job"]
    await company.carry_out(job, folder / "ml")
    return job


async def test_weights_become_a_registered_artifact(company: Company, tmp_path: Path) -> None:
    before = company.manifest.read_text()
    name = await compiled(company, tmp_path)

    promoted = await company.run("compile", NAME, "--promote", name)

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
    assert await company.run("compile", NAME, "--promote", name) == promoted
    assert company.manifest.read_text() == written

    job = company.described(name)
    for name in ("RoleArn", "VpcConfig", "EnableNetworkIsolation"):
        assert job[name] == REQUEST[name]
    assert job["ResourceConfig"]["InstanceType"] == "ml.trn1.32xlarge"
    assert job["OutputDataConfig"]["CompressionType"] == "NONE"
    assert job["AlgorithmSpecification"]["TrainingImage"] == (
        f"763104351884.dkr.ecr.us-east-1.amazonaws.com/huggingface-vllm-inference-neuronx@{DIGEST}"
    )
    wanted = json.loads(job["HyperParameters"]["manifest"])
    assert (wanted["batch_size"], wanted["accelerator"]) == (8, "inf2")
    # SageMaker takes 2,500 characters a value (API reference, CreateTrainingJob)
    assert len(job["HyperParameters"]["manifest"]) <= 2500


async def test_a_job_that_did_not_complete_is_told_and_promotes_nothing(
    company: Company, tmp_path: Path
) -> None:
    before = company.manifest.read_text()
    company.put_weights(tmp_path / "weights", Weights(dtype="float32"))
    job = (await company.run("compile", NAME))["job"]

    with pytest.raises(DeploymentError, match=r"is InProgress: no reason told\. Nothing is promoted"):
        await company.run("compile", NAME, "--promote", job)
    await company.carry_out(job, tmp_path / "ml")
    with pytest.raises(DeploymentError, match=r"is Failed: .*torch_dtype is float32, the manifest says"):
        await company.run("compile", NAME, "--promote", job)
    assert company.manifest.read_text() == before
    assert company.keys("compiled/") == {}


async def test_an_artifact_of_another_hash_is_refused(company: Company, tmp_path: Path) -> None:
    company.edit("files = [", f'sha256 = "{"5" * 64}"\nfiles = [')
    before = company.manifest.read_text()
    name = await compiled(company, tmp_path)

    with pytest.raises(ConflictError, match=f"is registered as {'5' * 64}, and the job made"):
        await company.run("compile", NAME, "--promote", name)
    assert company.manifest.read_text() == before


async def test_a_file_that_is_not_what_the_job_wrote_is_refused(company: Company, tmp_path: Path) -> None:
    before, file = company.manifest.read_text(), "checkpoint/weights/tp1_sharded_checkpoint.safetensors"
    name = await compiled(company, tmp_path)
    key = f"compiled/{name}/output/model/artifact/{file}"
    company.client("s3").put_object(Bucket=company.bucket, Key=key, Body=b"other")

    with pytest.raises(DeploymentError, match=f"{file} is not what the job wrote"):
        await company.run("compile", NAME, "--promote", name)
    assert company.manifest.read_text() == before
    assert not [key for key in company.keys(f"llm/{NAME}/") if not key.startswith(("weights/", "entry/"))]


async def test_a_quota_of_0_is_refused_before_anything_is_put(company: Company, tmp_path: Path) -> None:
    company.put_weights(tmp_path / "weights")
    await company.control.quotas({QUOTA: 0})

    with pytest.raises(DeploymentError, match=f"quota {QUOTA}: 0, and 1 are wanted.*request-service-quota"):
        await company.run("compile", NAME)
    assert company.keys(f"llm/{NAME}/entry/") == {}


async def test_an_artifact_that_does_not_fit_is_refused_with_the_sum_before_a_job(company: Company) -> None:
    company.edit(f"weights_bytes = {NUMBERS['weights_bytes']}", "weights_bytes = 33000000000")

    with pytest.raises(ConfigurationError, match=r"weights 33\.0 GB \+ key-value cache 0\.0 GB"):
        await company.run("compile", NAME)


@dataclass
class Desk:
    """A clone with a tenant that is deployed on the emulator, and the commands that a person runs there."""

    clone: Path
    prefix: str = field(default_factory=lambda: f"llm-{uuid4().hex[:8]}")

    @property
    def bucket(self) -> str:
        return f"{self.prefix}-models"

    @property
    def artifacts(self) -> Path:
        return self.clone / "model_artifacts/llm"

    def make(self) -> None:
        shutil.copytree(ROOT / "model_artifacts", self.clone / "model_artifacts")
        (self.clone / "tenants").mkdir()
        weights = self.clone / "job/merged"
        weights.mkdir(parents=True)
        (weights / "tuned.gguf").write_bytes(b"GGUF tuned weights")
        (self.clone / "job/training.json").write_text(json.dumps(CARD))
        self.declare()
        boto3.client("s3", region_name=REGION).create_bucket(Bucket=self.bucket)
        self.stack(
            "Data", ModelsBucketName=self.bucket, ArtifactPublisherArn=f"arn:aws:iam::{ACCOUNT}:role/p"
        )

    def declare(self) -> None:
        text = with_own_llm(committed_tenant("sandbox")).replace(
            'account = "111122223333"', f'account = "{ACCOUNT}"'
        )
        text = text.replace(
            'region = "us-east-1"\n', f'region = "us-east-1"\nname_prefix = "{self.prefix}"\n'
        )
        (self.clone / "tenants/sandbox.toml").write_text(text)

    def stack(self, name: str, **outputs: str) -> None:
        properties = {"Name": f"/{self.prefix}/{name}", "Type": "String", "Value": "x"}
        resource = {"Type": "AWS::SSM::Parameter", "Properties": properties}
        template = {
            "Resources": {"Parameter": resource},
            "Outputs": {key: {"Value": value} for key, value in outputs.items()},
        }
        boto3.client("cloudformation", region_name=REGION).create_stack(
            StackName=f"{self.prefix}-sandbox-{name}", TemplateBody=json.dumps(template)
        )

    def run(self, *command: str) -> Result:
        options = ["--tenants", str(self.clone / "tenants"), "--state", str(self.clone / "state")]
        return CliRunner().invoke(app, [*options, "models", *command])

    def package(self, *more: str) -> Result:
        return self.run("package", "job/merged", "--name", "tuned", "--like", "smollm2-135m-cpu", *more)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(b"GGUF tuned weights").hexdigest()


@pytest.fixture
def desk(aws_server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    for name, value in {
        "AWS_ENDPOINT_URL": aws_server_url,
        "AWS_ACCESS_KEY_ID": "AKIDLOCAL",
        "AWS_SECRET_ACCESS_KEY": "x",
    }.items():
        monkeypatch.setenv(name, value)
    made = Desk(tmp_path)
    made.make()
    monkeypatch.chdir(tmp_path)
    return made


def told(done: Result) -> str:
    return done.output + (str(done.exception.message) if isinstance(done.exception, AssistantError) else "")


def test_an_artifact_is_packaged_and_put(desk: Desk) -> None:
    done = desk.package("--put", "sandbox")
    assert done.exit_code == 0, told(done)
    manifest = LlmManifest.read(desk.artifacts / "tuned")
    assert (manifest.sha256, manifest.files, manifest.weights_bytes) == (desk.sha256, ("tuned.gguf",), 18)
    assert manifest.lineage is not None
    assert (manifest.lineage.base, manifest.lineage.training_set) == ("smollm2-135m-cpu", "5" * 64)
    assert manifest.lineage.licences == {"base": "Apache-2.0", "set": "proprietary"}
    keys = boto3.client("s3", region_name=REGION).list_objects_v2(Bucket=desk.bucket)["Contents"]
    assert [one["Key"] for one in keys] == [f"llm/tuned/{desk.sha256}/tuned.gguf"]  # no callers': not served


def gpu_folder(desk: Desk) -> Path:
    """A folder as a training job merges it, for the artifact that takes weights as they are."""
    folder = desk.clone / "job/merged"
    (folder / "tuned.gguf").unlink()
    tokenizer = Tokenizer(WordLevel({"[UNK]": 0, "words": 1}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in ("<|im_start|>", "<|im_end|>")])
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 36, "num_key_value_heads": 8}))
    for name in ("generation_config.json", "tokenizer_config.json", "model.safetensors.index.json"):
        (folder / name).write_text("{}")
    for name in ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"):
        (folder / name).write_bytes(name.encode())
    shutil.copy(desk.artifacts / "qwen3-answers-only.jinja", folder / "chat_template.jinja")
    return folder


def package_gpu(desk: Desk, *more: str) -> Result:
    return desk.run("package", "job/merged", "--name", "tuned", "--like", "qwen3-8b-gpu", *more)


def test_the_hash_of_several_files_is_that_of_the_documented_command(desk: Desk) -> None:
    folder = gpu_folder(desk)
    done = package_gpu(desk)
    assert done.exit_code == 0, told(done)
    command = "find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum"
    by_hand = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True, check=True)
    manifest = LlmManifest.read(desk.artifacts / "tuned")
    assert manifest.sha256 == by_hand.stdout.split()[0]
    assert manifest.weights_bytes == 64
    assert package_gpu(desk).exit_code == 0  # the same again


def test_what_callers_read_is_put_once_the_tenant_serves_the_artifact(desk: Desk) -> None:
    gpu_folder(desk)
    (desk.clone / "tenants/sandbox.toml").write_text(
        (desk.clone / "tenants/sandbox.toml").read_text().replace('llm = "smollm2-135m-cpu"', 'llm = "tuned"')
    )
    done = package_gpu(desk, "--put", "sandbox")
    assert done.exit_code == 0, told(done)
    s3 = boto3.client("s3", region_name=REGION)
    body = s3.get_object(Bucket=desk.bucket, Key="callers/Qwen3-8B/artifact.json")["Body"].read()
    facts = json.loads(body)
    assert facts["digest"] == LlmManifest.read(desk.artifacts / "tuned").sha256
    assert (facts["context_tokens"], facts["answering"]["writes_answers"]) == (8192, True)
    # ChatML: start, role, end around each message; once an opened answer with its empty thought's six words.
    assert facts["template_tokens_per_message"] == 3
    assert s3.head_object(Bucket=desk.bucket, Key="callers/Qwen3-8B/tokenizer.json")


def wrong_layers(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 28}))


def own_template(folder: Path) -> None:
    (folder / "chat_template.jinja").write_text("{{ messages }} <think>")


def no_card(folder: Path) -> None:
    (folder.parent / "training.json").unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (wrong_layers, r"num_hidden_layers is 28, not 36; name the model that was tuned"),
        (own_template, r"chat_template.jinja is none of model_artifacts"),
        (no_card, r"training.json: no such file. Name the card of the job"),
    ],
)
def test_a_folder_that_is_no_such_artifact_is_refused_and_nothing_is_written(
    desk: Desk, spoil: Any, said: str
) -> None:
    spoil(gpu_folder(desk))
    done = package_gpu(desk)
    assert done.exit_code != 0
    assert re.search(said, told(done))
    assert not (desk.artifacts / "tuned").exists()


def test_another_model_under_a_used_name_is_refused(desk: Desk) -> None:
    assert desk.package().exit_code == 0
    (desk.clone / "job/merged/tuned.gguf").write_bytes(b"GGUF other weights")
    done = desk.package()
    assert "An artifact never changes" in told(done)
    assert LlmManifest.read(desk.artifacts / "tuned").sha256 == desk.sha256
