"""``jumpstart.lock.toml``, and ``assistant models candidates`` and ``try`` against the AWS emulator.

JumpStart's manifest and specifications have values of our own in the form of those in the tests of
github.com/aws/sagemaker-python-sdk (commit a24812666d258d9d19c9a82d0c9385ca0bd3ba01,
``sagemaker-serve/tests/unit/servers/data/jumpstart_specs``), reduced to the fields that are read, and a
few more.
"""

from __future__ import annotations

# pyright: basic
import asyncio
import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from typer.testing import CliRunner, Result

from assistant.cli.models import app
from assistant.domain.errors import AssistantError, ConfigurationError
from assistant.options.models_lab.commands import sagemaker_jobs
from assistant.options.models_lab.jumpstart import (
    LOCK_FILE,
    TRIAL_OUTPUT,
    Facts,
    Listed,
    Specification,
    TrialPlace,
    content_bucket,
    listing_sha256,
    load_candidates,
    newest,
    write_facts,
)
from assistant.tenant.manifests import LlmManifest
from assistant.tenant.prices import load_prices
from assistant.terminal.terminal import GlobalOptions
from tests.stage.aws_server import REGION
from tests.stage.sagemaker_control import ACCOUNT, ControlledSageMaker, install_sdk

MODEL = "example-llm-small-instruct"
REGISTRY = "763104351884.dkr.ecr.us-east-1.amazonaws.com"
FILES: Mapping[str, bytes] = {
    "config.json": json.dumps(
        {
            "num_hidden_layers": 4,
            "num_attention_heads": 8,
            "num_key_value_heads": 2,
            "hidden_size": 64,
            "max_position_embeddings": 4096,
            "torch_dtype": "bfloat16",
        }
    ).encode(),
    "model.safetensors": b"w" * 2048,
    "tokenizer.json": b"{}",
}


def manifest(*versions: str, model: str = MODEL, deprecated: str = "") -> bytes:
    """Return a manifest with these versions of one model, and of another."""
    entries = [
        {
            "model_id": name,
            "version": version,
            "min_version": "2.189.0",
            "spec_key": f"community_models/{name}/specs_v{version}.json",
            "deprecated": version == deprecated,
            "provider": "example",
        }
        for name in (model, f"{model}-other")
        for version in versions
    ]
    return json.dumps(entries).encode()


def specification(**changed: Any) -> bytes:
    """Return the specification of a model with two configurations; the first needs a draft model."""
    common = {
        "hosting_artifact_key": f"example/{MODEL}/artifacts/inference/v1.0.0/",
        "hosting_artifact_compression_type": "None",
        "hosting_prepacked_artifact_key": f"example/{MODEL}/artifacts/inference-prepack/v1.0.0/",
        "hosting_resource_requirements": {"min_memory_mb": 1024, "num_accelerators": 1},
        "inference_environment_variables": [
            {"name": "HF_MODEL_ID", "default": "/opt/ml/model", "required_for_model_class": True},
            {"name": "WORKERS", "default": 1, "required_for_model_class": True},
            {"name": "LOG_LEVEL", "default": "20", "required_for_model_class": False},
        ],
    }
    variants = {
        "regional_aliases": {"us-east-1": {"gpu": f"{REGISTRY}/djl-inference:0.34.0-lmi16.0.0-cu128"}},
        "variants": {
            "g5": {
                "regional_properties": {"image_uri": "$gpu"},
                "properties": {"environment_variables": {"WORKERS": "3"}},
            },
            "g6e": {"regional_properties": {"image_uri": "$gpu"}},
            "ml.g5.2xlarge": {
                "properties": {
                    "environment_variables": {"WORKERS": "2"},
                    "resource_requirements": {"min_memory_mb": 4096},
                }
            },
        },
    }
    draft = {"speculative_decoding": [{"channel_name": "draft"}]}
    return json.dumps(
        {
            "model_id": MODEL,
            "version": "1.10.0",
            "license": "Apache 2.0",
            "deprecated": False,
            "default_inference_instance_type": "ml.g5.2xlarge",
            "supported_inference_instance_types": ["ml.g5.2xlarge", "ml.g6e.2xlarge", "ml.p5.48xlarge"],
            "inference_enable_network_isolation": True,
            "hosting_instance_type_variants": {},
            **common,
            "inference_config_rankings": {"overall": {"rankings": ["fast", "plain"]}},
            "inference_configs": {
                "fast": {"component_names": ["fast"]},
                "plain": {"component_names": ["plain"]},
            },
            "inference_config_components": {
                "fast": {"hosting_additional_data_sources": draft, "hosting_instance_type_variants": {}},
                "plain": {"hosting_instance_type_variants": variants},
            },
            **changed,
        }
    ).encode()


LOCK = f"""# a comment of ours
source = "tests"
allowed_licences = ["Apache 2.0"]

[[candidate]]
id = "{MODEL}"
task = "llm"
model = "example/Small-Instruct"  # why it is here
family = "Example"
purpose = "Tests."

[[candidate]]
id = "example-not-offered"
task = "embedding"
model = "example/Embedder"
family = "Example"
purpose = "Tests."
"""


ROOT = Path(__file__).parents[3]
QUOTA = "ml.g5.2xlarge for endpoint usage"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/Trial"


@dataclass
class Account:
    """One tenant of the emulated account, with its stacks, and a folder with the lock."""

    url: str
    tenant: str
    root: Path

    def client(self, service: str) -> Any:
        return boto3.client(service, region_name=REGION)

    @property
    def place(self) -> TrialPlace:
        return TrialPlace(
            endpoints=tuple(f"{self.tenant}-trial-{number}" for number in (1, 2)),
            role_arn=ROLE,
            clean_up_role_arn=f"{ROLE}CleanUp",
            bucket=f"{self.tenant}-models",
            key_arn=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/models",
            subnets=("subnet-0a",),
            security_group="sg-0a",
        )

    def stack(self, name: str, **outputs: str) -> None:
        self.client("cloudformation").create_stack(
            StackName=f"assistant-{self.tenant}-{name}",
            TemplateBody=json.dumps(
                {
                    "Resources": {"Any": {"Type": "AWS::SQS::Queue"}},
                    "Outputs": {key: {"Value": value} for key, value in outputs.items()},
                }
            ),
        )

    def run(self, *arguments: str) -> Result:
        options = GlobalOptions(
            tenants_dir=self.root / "tenants", state_dir=self.root / "state", port=None, json=True
        )
        return CliRunner().invoke(app, arguments, obj=options)

    def refused(self, *arguments: str) -> str:
        """Run a command that must fail, and return what it says."""
        error = self.run(*arguments).exception
        assert isinstance(error, AssistantError), error
        return error.message

    def quota(self, instances: int) -> None:
        asyncio.run(ControlledSageMaker(self.url).quotas({QUOTA: instances}))

    def made(self) -> dict[str, list[str]]:
        """Return all that a trial of this tenant makes, by kind."""
        sagemaker, mine = self.client("sagemaker"), f"{self.tenant}-"
        listed = {
            "endpoints": [each["EndpointName"] for each in sagemaker.list_endpoints()["Endpoints"]],
            "configs": [
                each["EndpointConfigName"] for each in sagemaker.list_endpoint_configs()["EndpointConfigs"]
            ],
            "models": [each["ModelName"] for each in sagemaker.list_models()["Models"]],
            "schedules": [each["Name"] for each in self.client("scheduler").list_schedules()["Schedules"]],
        }
        return {
            kind: sorted(name for name in names if name.startswith(mine)) for kind, names in listed.items()
        }


@pytest.fixture
def account(aws_server_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Account]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDLOCAL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "x")
    tenant = f"t{uuid4().hex[:10]}"
    account = Account(aws_server_url, tenant, tmp_path)
    text = (ROOT / "tests/tenants/sandbox.toml").read_text().replace('name = "sandbox"', f'name = "{tenant}"')
    shutil.copytree(ROOT / "tests/tenants/connectors", tmp_path / "tenants" / "connectors")
    (tmp_path / "tenants" / f"{tenant}.toml").write_text(text.replace("111122223333", ACCOUNT))
    (tmp_path / LOCK_FILE).write_text(LOCK)
    (tmp_path / "model_artifacts").mkdir()
    shutil.copy(ROOT / "model_artifacts/jobs.py", tmp_path / "model_artifacts")
    install_sdk(tmp_path)
    table = ROOT / "model_artifacts" / "compatibility.toml"
    (tmp_path / "model_artifacts" / "compatibility.toml").write_text(table.read_text())
    s3 = account.client("s3")
    for bucket in (content_bucket(REGION), account.place.bucket):
        s3.create_bucket(Bucket=bucket)
    offer(account)
    account.stack("Models", **{TRIAL_OUTPUT: account.place.model_dump_json()})
    account.stack("Data", ModelsBucketName=account.place.bucket, ArtifactPublisherArn=ROLE)
    account.quota(1)
    yield account
    asyncio.run(ControlledSageMaker(aws_server_url).__aexit__())


def offer(account: Account, **changed: Any) -> None:
    """Put the model's manifest, specification and artifact into JumpStart's bucket."""
    objects = {
        "models_manifest.json": manifest("1.10.0"),
        f"community_models/{MODEL}/specs_v1.10.0.json": specification(**changed),
    }
    prefix = f"example/{MODEL}/artifacts/inference-prepack/v1.0.0/"
    objects |= {f"{prefix}{name}": body for name, body in FILES.items()}
    for key, body in objects.items():
        account.client("s3").put_object(Bucket=content_bucket(REGION), Key=key, Body=body)


def resolve(account: Account) -> None:
    account.run("candidates", "--region", REGION)
    assert load_candidates(account.root / LOCK_FILE).row(MODEL).state == "resolved"


def attempt(account: Account, *more: str, model: str = MODEL) -> tuple[str, ...]:
    return ("try", model, "--tenant", account.tenant, "--yes", *more)


# candidates


def test_a_row_that_cannot_be_resolved_leaves_the_others_resolved(account: Account) -> None:
    done = account.run("candidates", "--region", REGION)

    assert done.exit_code == 1
    assert "example-not-offered: JumpStart does not offer this id" in done.stderr
    lock = load_candidates(account.root / LOCK_FILE)
    facts = lock.usable(MODEL)[1]
    assert (facts.version, facts.architecture.layers) == ("1.10.0", 4)
    assert facts.files == ("config.json", "model.safetensors", "tokenizer.json")
    assert lock.row("example-not-offered").state == "unresolved"


# try


def test_a_trial_is_an_isolated_endpoint_whose_parts_have_a_scheduled_deletion(account: Account) -> None:
    resolve(account)
    done = json.loads(account.run(*attempt(account, "--hours", "2")).stdout.splitlines()[-1])
    name = done["endpoint"]

    sagemaker = account.client("sagemaker")
    model = sagemaker.describe_model(ModelName=name)
    assert model["EnableNetworkIsolation"] is True
    assert model["VpcConfig"] == {"Subnets": ["subnet-0a"], "SecurityGroupIds": ["sg-0a"]}
    source = model["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]["S3Uri"]
    assert source.startswith(f"s3://{account.place.bucket}/llm/{MODEL}/")
    prefix = source.removeprefix(f"s3://{account.place.bucket}/")
    listed = account.client("s3").list_objects_v2(Bucket=account.place.bucket, Prefix=prefix)["Contents"]
    assert {each["Key"].removeprefix(prefix) for each in listed} == set(FILES)
    variant = sagemaker.describe_endpoint_config(EndpointConfigName=name)["ProductionVariants"][0]
    assert (variant["InstanceType"], variant["InitialInstanceCount"]) == ("ml.g5.2xlarge", 1)

    scheduler = account.client("scheduler")
    assert scheduler.get_schedule(Name=f"{name}-Endpoint")["ScheduleExpression"] == (
        f"at({done['deleted_at'][:19]})"
    )
    for kind in ("Endpoint", "EndpointConfig", "Model"):
        target = scheduler.get_schedule(Name=f"{name}-{kind}")["Target"]
        assert target["Arn"] == f"arn:aws:scheduler:::aws-sdk:sagemaker:delete{kind}"
        assert target["RoleArn"] == account.place.clean_up_role_arn
        assert json.loads(target["Input"]) == {f"{kind}Name": name}


def test_a_schedule_that_fails_makes_no_endpoint(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve(account)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SCHEDULER", "http://127.0.0.1:9")

    assert "Cannot call scheduler" in account.refused(*attempt(account))
    monkeypatch.delenv("AWS_ENDPOINT_URL_SCHEDULER")
    assert not any(account.made().values())


def test_a_creation_that_is_refused_leaves_nothing(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """A quota of 0 is refused before anything is made; where the first look misses it, when it is created."""
    resolve(account)
    account.quota(0)
    assert f"quota {QUOTA}: 0, and 1 are wanted" in account.refused(*attempt(account))
    monkeypatch.setattr("assistant.terminal.account.low_quotas", lambda *_: [])

    assert "when calling the CreateEndpoint operation" in account.refused(*attempt(account))
    assert not any(account.made().values())


def test_an_endpoint_that_cannot_be_deleted_keeps_its_schedules(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is Creating when somebody presses Ctrl-C: SageMaker deletes no such endpoint."""
    resolve(account)
    start = sagemaker_jobs.start

    def interrupted(*order: Any, **more: Any) -> None:
        start(*order, **more)
        raise KeyboardInterrupt

    monkeypatch.setattr(sagemaker_jobs, "start", interrupted)
    said = account.refused(*attempt(account))

    assert "cannot be deleted now" in said
    assert len(account.made()["schedules"]) == 3


def test_two_trials_have_two_names_and_a_third_is_refused(account: Account) -> None:
    resolve(account)
    names = [json.loads(account.run(*attempt(account)).stdout.splitlines()[-1])["endpoint"] for _ in range(2)]

    assert names == list(account.place.endpoints)
    assert "are in use" in account.refused(*attempt(account))
    assert account.made()["endpoints"] == names


def test_an_artifact_that_changed_since_is_refused(account: Account) -> None:
    resolve(account)
    prefix = f"example/{MODEL}/artifacts/inference-prepack/v1.0.0/"
    account.client("s3").put_object(Bucket=content_bucket(REGION), Key=f"{prefix}config.json", Body=b"{}  ")

    assert "has other files than jumpstart.lock.toml says" in account.refused(*attempt(account))
    assert not any(account.made().values())


def test_a_no_makes_nothing(account: Account) -> None:
    resolve(account)
    options = GlobalOptions(
        tenants_dir=account.root / "tenants", state_dir=account.root, port=None, json=False
    )
    done = CliRunner().invoke(app, ["try", MODEL, "--tenant", account.tenant], obj=options, input="n\n")

    assert done.exit_code == 1
    price = load_prices().of("endpoint", "ml.g5.2xlarge").usd_per_hour
    assert f"USD {price:.2f} an hour" in done.stdout
    assert not any(account.made().values())


# adopt


def test_an_adopted_manifest_says_what_the_lock_says(account: Account) -> None:
    resolve(account)
    assert account.run("candidates", "--adopt", MODEL, "--sequence-length", "8192").exit_code == 0

    manifest = LlmManifest.read(account.root / "model_artifacts" / "llm" / MODEL)
    facts = load_candidates(account.root / LOCK_FILE).usable(MODEL)[1]
    assert (manifest.sha256, manifest.licence) == (facts.listing_sha256, "Apache 2.0")
    assert (manifest.layers, manifest.kv_heads, manifest.head_size) == (4, 2, 8)
    assert manifest.sequence_length == 4096
    assert manifest.parameters == 1024
    assert not manifest.answering.writes_answers


def test_a_manifest_that_exists_is_not_written_over(account: Account) -> None:
    resolve(account)
    account.run("candidates", "--adopt", MODEL)
    assert "exists already" in account.refused("candidates", "--adopt", MODEL)


CARD = """
[candidate.card]
licence = "Apache 2.0"
files = ["config.json"]
weights_bytes = 2048
architecture = { layers = 4, kv_heads = 2, head_size = 8, max_tokens = 4096, dtype = "bfloat16" }
"""


PUBLISHED = f"""
[candidate.published]
region = "{REGION}"
version = "1.0.0"
image = "{REGISTRY}/example-llm:1.0"
artifact = "s3://jumpstart-cache-prod-{REGION}/example/"
instance = "ml.g5.2xlarge"
accelerators = 1
"""


def test_a_published_row_is_adopted_without_a_hash_and_one_online_command_adds_it(account: Account) -> None:
    lock = account.root / LOCK_FILE
    purpose = 'purpose = "Tests."'
    lock.write_text(lock.read_text().replace(purpose, f"{purpose}\n{CARD}{PUBLISHED}", 1))

    assert "candidate without facts" in account.refused("try", MODEL, "--tenant", account.tenant)
    adopted = account.run("candidates", "--adopt", MODEL)
    assert f"--region {REGION} --adopt {MODEL}" in " ".join(adopted.output.split())
    folder = account.root / "model_artifacts/llm" / MODEL
    assert LlmManifest.read(folder).sha256 is None

    account.run("candidates", "--region", REGION, "--adopt", MODEL)
    assert LlmManifest.read(folder).sha256 == load_candidates(lock).usable(MODEL)[1].listing_sha256


OBJECTS = [Listed(key=name, size_bytes=len(body), etag=name) for name, body in FILES.items()]


def facts(instance: str | None = None, region: str = "us-east-1", **changed: Any) -> Facts:
    spec = Specification(specification(**changed), region=region, instance=instance)
    return spec.facts(OBJECTS, FILES["config.json"])


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    path = tmp_path / LOCK_FILE
    path.write_text(LOCK)
    return path


def resolve_in(lock: Path, **changed: Any) -> None:
    write_facts(lock, {MODEL: facts(**changed)})


def test_the_newest_version_counts_by_numbers_and_a_deprecated_one_does_not() -> None:
    assert newest(manifest("1.9.0", "1.10.0", "2.0.0", deprecated="2.0.0"), MODEL).version == "1.10.0"


def test_facts_follow_from_the_instance_and_its_family() -> None:
    read = facts()

    assert read.instance == "ml.g5.2xlarge"
    assert read.image == f"{REGISTRY}/djl-inference:0.34.0-lmi16.0.0-cu128"
    assert read.environment == {"HF_MODEL_ID": "/opt/ml/model", "WORKERS": "2"}
    assert read.accelerators == 1
    assert facts("ml.g6e.2xlarge").environment["WORKERS"] == "1"


def test_the_prepacked_artifact_goes_first_and_its_listing_is_hashed() -> None:
    read = facts()

    prefix = f"example/{MODEL}/artifacts/inference-prepack/v1.0.0/"
    assert read.artifact == f"s3://jumpstart-cache-prod-us-east-1/{prefix}"
    assert read.files == ("config.json", "model.safetensors", "tokenizer.json")
    assert read.weights_bytes == 2048
    assert read.listing_sha256 == listing_sha256(list(reversed(OBJECTS)))
    assert read.listing_sha256 != listing_sha256([*OBJECTS[:2], OBJECTS[2].model_copy(update={"etag": "x"})])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"license": None}, "not complete: license"),
        ({"gated_bucket": True}, "gated bucket"),
        ({"deprecated": True}, "deprecated or vulnerable"),
        ({"hosting_eula_key": "eula/example.txt"}, "asks for the acceptance of eula/example.txt"),
        ({"instance": "ml.c7i.large"}, "does not run on ml.c7i.large; write one of these"),
        ({"hosting_artifact_compression_type": "Gzip"}, "one packed file"),
        ({"region": "eu-west-1"}, "on ml.g5.2xlarge in eu-west-1 its facts are not complete: image"),
        ({"inference_configs": {}}, "not as JumpStart writes them"),
    ],
)
def test_a_specification_that_cannot_be_deployed_is_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        facts(**changed)


# the lock


def test_a_licence_that_is_not_allowed_is_refused(lock: Path) -> None:
    resolve_in(lock, license="Research only")
    for deployed in (load_candidates(lock).usable, load_candidates(lock).adoptable):
        with pytest.raises(ConfigurationError, match='its licence is "Research only"'):
            deployed(MODEL)
