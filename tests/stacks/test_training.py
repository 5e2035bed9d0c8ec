"""``assistant models train``: a job stays within what the learning stack says of every job."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from botocore.session import get_session
from botocore.validate import ParamValidator
from typer.testing import CliRunner, Result

from assistant.cli.models import app
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.options.desk.stack import LearningStack
from assistant.options.models_lab.commands.training import TrainingJob
from assistant.tenant.manifests import INSTANCES, TRAIN_OUTPUT, instance_named
from assistant.terminal.account import AwsAccount
from assistant.terminal.terminal import GlobalOptions
from stacks.outputs import Workload
from stacks.processes import VOLUME_GIB
from tests.stacks.values import DATA, KEYS, NETWORK, ROOT, deployed, stack_with, template_of, text_of
from tests.stage.aws_server import REGION
from tests.stage.sagemaker_control import ControlledSageMaker, install_sdk, request_of

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


def shared_request() -> dict[str, Any]:
    """Return what the deployed learning stack of the pharmacy says of every training job."""
    template = template_of(stack_with(LearningStack, deployed("pharmacy")))
    return json.loads(text_of(template["Outputs"][TRAIN_OUTPUT]["Value"]))


@pytest.fixture(scope="module")
def said() -> str:
    return json.dumps(shared_request())


@pytest.mark.parametrize(
    "image",
    [
        f"{REGISTRY}/assistant/train:latest",
        f"{REGISTRY}/assistant/train@sha256:abc",
        f"999999999999.dkr.ecr.us-east-1.amazonaws.com/assistant/train{DIGEST}",
        f"111122223333xdkr.ecr.us-east-1.amazonaws.com/train{DIGEST}",
        f"{JOB.image}\n",
    ],
)
def test_an_image_of_another_registry_or_without_a_digest_is_refused(said: str, image: str) -> None:
    with pytest.raises(ConfigurationError, match="by its digest"):
        replace(JOB, image=image).completed(json.loads(said))


@pytest.mark.parametrize(
    "folder", ["s3://value-quarantine/llm/", "2026-11/../../checkpoints/", "2026-11", "", "2026-11/\n"]
)
def test_a_set_outside_the_folder_of_sets_is_refused(said: str, folder: str) -> None:
    with pytest.raises(ConfigurationError, match="no folder below sets/"):
        replace(JOB, training_set=folder).completed(json.loads(said))


@pytest.mark.parametrize(
    "instance", [one for one in INSTANCES if one.accelerator != "inf2"], ids=lambda one: one.name
)
def test_no_caller_leaves_the_stack_s_bounds(said: str, instance: Any) -> None:
    job = request_of(replace(JOB, instance=instance).completed(json.loads(said)))

    assert job["RoleArn"].startswith("${TrainingRole")
    assert job["VpcConfig"] == {
        "Subnets": list(NETWORK.subnet_ids),
        "SecurityGroupIds": [NETWORK.security_group_ids[Workload.JOBS]],
    }
    assert job["EnableNetworkIsolation"] is True
    assert job["EnableInterContainerTrafficEncryption"] is True
    assert job["ResourceConfig"]["InstanceCount"] == 1
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 86_400}
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
    assert job["CheckpointConfig"] == {"S3Uri": "s3://${TrainingBucket}/checkpoints/answers-2026-11/states/"}
    # SageMaker refuses a key for instances whose disks are their own.
    key = job["ResourceConfig"].get("VolumeKmsKeyId")
    assert key == (None if instance.has_local_disk else KEYS.models_key_arn)
    assert not instance.has_local_disk or instance.nvme_gb * 10**9 >= VOLUME_GIB * 2**30
    tags = {tag["Key"]: tag["Value"] for tag in job["Tags"]}
    assert (tags["tenant"], tags["data-class"], bool(tags["cost-center"])) == ("pharmacy", "phi", True)
    api = get_session().get_service_model("sagemaker")
    assert instance.name in api.shape_for("TrainingInstanceType").enum
    report = ParamValidator().validate(job, api.shape_for("CreateTrainingJobRequest"))
    assert not report.has_errors(), report.generate_report()


ACCOUNT = "123456789012"
"""The emulator's."""
SHA = "b" * 64
IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/training@sha256:{'a' * 64}"
AWS_IMAGE = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/training-neuronx@sha256:{'c' * 64}"
"""AWS's, copied into the own registry: the training role may read no other."""
ROLE = f"arn:aws:iam::{ACCOUNT}:role/training"
BUCKET = "value-training"


@pytest.fixture(scope="module")
def request_json() -> str:
    """The output of the deployed learning stack, as CloudFormation tells it."""
    said = json.dumps(shared_request()).replace("${TrainingBucket}", BUCKET).replace("111122223333", ACCOUNT)
    return re.sub(r"\$\{TrainingRole\w+\.Arn\}", ROLE, said)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout whose pharmacy is in the emulator's account, with two packaged bases."""
    shutil.copytree(ROOT / "tests/tenants", tmp_path / "tenants")
    file = (ROOT / "tests/tenants/pharmacy.toml").read_text().replace("111122223333", ACCOUNT)
    (tmp_path / "tenants/pharmacy.toml").write_text(file)
    shutil.copytree(ROOT / "model_artifacts", tmp_path / "model_artifacts")
    shutil.copytree(ROOT / "containers/training_job", tmp_path / "containers/training_job")
    install_sdk(tmp_path)
    manifest = tmp_path / "model_artifacts/llm/qwen3-8b-gpu/manifest.toml"
    packaged = manifest.read_text().replace("\nfiles = [", f'\nsha256 = "{SHA}"\nfiles = [')
    manifest.write_text(packaged)
    other = tmp_path / "model_artifacts/llm/other/manifest.toml"
    other.parent.mkdir()
    other.write_text(packaged.replace("qwen3-8b-gpu", "other").replace("Apache-2.0", "cc-by-nc-4.0"))
    return tmp_path


USAGES = [
    f"{name} for {spot}training job usage"
    for name in ("ml.g5.2xlarge", "ml.trn1.2xlarge", "ml.trn1.32xlarge")
    for spot in ("", "spot ")
]


async def set_quotas(url: str, **quotas: float) -> None:
    """Give the account one of each instance, and quotas by their names."""
    control = ControlledSageMaker(url)
    await control.quotas(
        dict.fromkeys(USAGES, 1.0) | {f"quota {number}": 5 for number in range(150)} | quotas
    )


@pytest.fixture
def aws(
    aws_server_url: str, monkeypatch: pytest.MonkeyPatch, request_json: str
) -> Iterator[Callable[[str], Any]]:
    """Clients of the emulator, which has the deployed stack, a set and a base."""
    for name, value in {
        "AWS_ENDPOINT_URL": aws_server_url,
        "AWS_ACCESS_KEY_ID": "AKIDLOCAL",
        "AWS_SECRET_ACCESS_KEY": "x",
        "AWS_DEFAULT_REGION": REGION,
    }.items():
        monkeypatch.setenv(name, value)

    def client(service: str) -> Any:
        return boto3.client(service, region_name=REGION, endpoint_url=aws_server_url)  # type: ignore[call-overload]

    cloudformation, s3 = client("cloudformation"), client("s3")
    stack = {
        "Resources": {"Topic": {"Type": "AWS::SNS::Topic"}},
        "Outputs": {TRAIN_OUTPUT: {"Value": request_json}},
    }
    cloudformation.create_stack(StackName="assistant-pharmacy-Learning", TemplateBody=json.dumps(stack))
    for bucket, key in (
        (BUCKET, "sets/2026-11/manifest.json"),
        (BUCKET, "sets/corpus/a.parquet"),
        (DATA.models_bucket, f"llm/qwen3-8b-gpu/{SHA}/config.json"),
        (DATA.models_bucket, f"llm/other/{SHA}/config.json"),
    ):
        s3.create_bucket(Bucket=bucket)
        s3.put_object(Bucket=bucket, Key=key, Body=b"{}")
    asyncio.run(set_quotas(aws_server_url))
    yield client
    cloudformation.delete_stack(StackName="assistant-pharmacy-Learning")
    asyncio.run(ControlledSageMaker(aws_server_url).quotas({}))


GPU = ("--task", "preference", "--set", "2026-11/", "--base", "qwen3-8b-gpu", "--instance", "ml.g5.2xlarge")


def train(root: Path, name: str, *arguments: str, image: str = IMAGE) -> Result:
    options = GlobalOptions(tenants_dir=root / "tenants", state_dir=root / "state", port=None, json=False)
    given = ["train", name, "--tenant", "pharmacy", "--image", image, *arguments]
    return CliRunner().invoke(app, given, obj=options)


def refusal(result: Result) -> str:
    assert isinstance(result.exception, AssistantError), result.output
    return result.exception.message


def job_name() -> str:
    return f"job-{uuid4().hex[:8]}"


def test_a_job_reads_its_set_and_base_and_takes_spot(root: Path, aws: Callable[[str], Any]) -> None:
    name = job_name()
    result = train(root, name, *GPU, "--with", "beta=0.2", "--spot")
    assert result.exit_code == 0, result.output
    job = aws("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["AlgorithmSpecification"] == {"TrainingImage": IMAGE, "TrainingInputMode": "File"}
    assert job["RoleArn"] == ROLE
    assert job["HyperParameters"] == {"task": "preference", "base_licence": "Apache-2.0", "beta": "0.2"}
    channels = {
        each["ChannelName"]: each["DataSource"]["S3DataSource"]["S3Uri"] for each in job["InputDataConfig"]
    }
    assert channels == {
        "training": f"s3://{BUCKET}/sets/2026-11/",
        "model": f"s3://{DATA.models_bucket}/llm/qwen3-8b-gpu/{SHA}/",
    }
    assert job["EnableManagedSpotTraining"] is True
    assert job["StoppingCondition"] == {"MaxRuntimeInSeconds": 86400, "MaxWaitTimeInSeconds": 172800}


def test_trainium_runs_our_script_in_the_image_of_aws(root: Path, aws: Callable[[str], Any]) -> None:
    name = job_name()
    asked = "--task domain --set corpus/ --base qwen3-8b-gpu --instance ml.trn1.32xlarge"
    result = train(root, name, *asked.split(), image=AWS_IMAGE)
    assert result.exit_code == 0, result.output
    job = aws("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["AlgorithmSpecification"] == {
        "TrainingImage": AWS_IMAGE,
        "TrainingInputMode": "File",
        "ContainerEntrypoint": ["torchrun", "--nproc_per_node=32"],
        "ContainerArguments": ["/opt/ml/input/data/code/train.py"],
    }
    code = job["InputDataConfig"][-1]
    assert code["ChannelName"] == "code"
    prefix = code["DataSource"]["S3DataSource"]["S3Uri"].removeprefix(f"s3://{BUCKET}/")
    assert re.fullmatch(r"sets/code/[0-9a-f]{64}/", prefix)
    for file in ("contract.py", "train.py", "neuron/train_neuron.py"):
        put = aws("s3").get_object(Bucket=BUCKET, Key=prefix + Path(file).name)["Body"].read()
        assert put == (ROOT / "containers/training_job" / file).read_bytes()


TRN = ("--set", "2026-11/", "--base", "qwen3-8b-gpu", "--instance", "ml.trn1.2xlarge", "--task")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*TRN, "preference"), "preference on ml.trn1.2xlarge: feedback trains on a GPU"),
        ((*TRN, "domain", "--spot"), "goes on from no checkpoint"),
        ((*GPU[2:-1], "ml.inf2.xlarge", "--task", "answers"), "SageMaker trains on no Inferentia"),
        ((*GPU[2:], "--task", "domain"), "continued pre-training is built for Trainium alone"),
        ((*GPU[:-1], "ml.p99.xlarge"), "ml.p99.xlarge: not an instance that is known here"),
        ((*GPU, "--base", "none"), 'no such artifact "none"'),
        ((*GPU, "--base", "qwen3-8b-inf2"), "qwen3-8b-inf2 is compiled, or a GGUF"),
        ((*GPU, "--base", "other"), "other has the licence cc-by-nc-4.0, which is not known to allow"),
        ((*GPU, "--set", "2026-12/"), f"s3://{BUCKET}/sets/2026-12/ is empty"),
    ],
)
def test_what_cannot_work_is_refused_by_name(
    root: Path, aws: Callable[[str], Any], arguments: tuple[str, ...], words: str
) -> None:
    name = job_name()
    assert words in refusal(train(root, name, *arguments))
    jobs = aws("sagemaker").list_training_jobs(NameContains=name)["TrainingJobSummaries"]
    assert jobs == []


def test_a_base_without_its_hash_is_refused(root: Path, aws: Callable[[str], Any]) -> None:
    shutil.copytree(
        ROOT / "model_artifacts/llm/qwen3-8b-gpu",
        root / "model_artifacts/llm/qwen3-8b-gpu",
        dirs_exist_ok=True,
    )
    assert "qwen3-8b-gpu has no sha256" in refusal(train(root, job_name(), *GPU))


def test_a_licence_that_a_person_cleared_is_taken(root: Path, aws: Callable[[str], Any]) -> None:
    name = job_name()
    result = train(root, name, *GPU, "--base", "other", "--licence-cleared", "cc-by-nc-4.0")
    assert result.exit_code == 0, result.output
    job = aws("sagemaker").describe_training_job(TrainingJobName=name)
    assert job["HyperParameters"]["base_licence"] == "cc-by-nc-4.0"


@pytest.mark.parametrize(("spot", "word"), [(False, ""), (True, "spot ")])
def test_a_quota_of_0_is_refused(
    root: Path, aws: Callable[[str], Any], aws_server_url: str, spot: bool, word: str
) -> None:
    usage = f"ml.g5.2xlarge for {word}training job usage"

    asyncio.run(set_quotas(aws_server_url, **{usage: 0.0}))
    refused = refusal(train(root, job_name(), *GPU, *(["--spot"] * spot)))
    assert f"quota {usage}: 0, and 1 are wanted" in refused
