"""From weights to a registered artifact: the commands, the emulated account, and the entry run for real."""
# pyright: basic

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from assistant.domain.errors import ConfigurationError, ConflictError, DeploymentError
from assistant.tenant.manifests import LlmManifest
from tests.fakes.neuron_container import Weights
from tests.fakes.sagemaker_control import ACCOUNT, ControlledSageMaker
from tests.fakes.sagemaker_environment import install_sdk
from tests.options.models_lab.company import DIGEST, NAME, NUMBERS, QUOTA, REQUEST, ROOT, WEIGHTS, Company


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


@pytest.mark.parametrize("changed", [{"sha256": "5" * 64}, {"files": {"model.pt": "5" * 64}}])
async def test_hashes_that_are_not_the_artifacts_are_refused(
    company: Company, tmp_path: Path, changed: dict[str, Any]
) -> None:
    name = await compiled(company, tmp_path)
    key = f"compiled/{name}/output/model/artifact.json"
    told = json.loads(company.keys(key)[""]) | changed
    company.client("s3").put_object(Bucket=company.bucket, Key=key, Body=json.dumps(told))

    with pytest.raises(DeploymentError, match="is not about the manifest's files"):
        await company.run("compile", NAME, "--promote", name)


async def test_a_manifest_that_changed_since_is_refused(company: Company, tmp_path: Path) -> None:
    name = await compiled(company, tmp_path)
    company.edit("batch_size = 8", "batch_size = 4")

    with pytest.raises(ConflictError, match="compiled another batch_size than the manifest"):
        await company.run("compile", NAME, "--promote", name)


async def test_a_quota_of_0_is_refused_before_anything_is_put(company: Company, tmp_path: Path) -> None:
    company.put_weights(tmp_path / "weights")
    await company.control.quotas({QUOTA: 0})

    with pytest.raises(DeploymentError, match=f"quota {QUOTA}: 0, and 1 are wanted.*request-service-quota"):
        await company.run("compile", NAME)
    assert company.keys(f"llm/{NAME}/entry/") == {}


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


async def test_a_tenant_without_the_role_is_told_to_deploy(company: Company) -> None:
    company.client("cloudformation").update_stack(
        StackName=f"assistant-{company.tenant}-Data",
        TemplateBody=json.dumps({"Resources": {"Queue": {"Type": "AWS::SQS::Queue"}}}),
    )

    with pytest.raises(DeploymentError, match="has no role to compile with"):
        await company.run("compile", NAME)
