"""``assistant models package`` on the emulator."""
# pyright: basic

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
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
from assistant.domain.errors import AssistantError
from assistant.tenant.manifests import LlmManifest
from tests.fakes.aws_server import REGION
from tests.fakes.sagemaker_control import ACCOUNT
from tests.fakes.tenant_files import ROOT, committed_tenant, with_own_llm
from tests.options.models_lab.company import CARD

pytestmark = pytest.mark.loopback


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


def test_a_tuned_model_keeps_its_own_counts_of_a_check_and_not_those_of_its_base(desk: Desk) -> None:
    counts = "sentence_check = { named = 40, planted = 40, marked = 0, true_pairs = 40 }\n"
    base, tuned = desk.artifacts / "smollm2-135m-cpu/manifest.toml", desk.artifacts / "tuned/manifest.toml"
    base.write_text(base.read_text() + counts)
    assert desk.package().exit_code == 0
    assert LlmManifest.read(tuned.parent).answering.sentence_check is None
    tuned.write_text(tuned.read_text().replace("[answering]\n", f"[answering]\n{counts}"))
    assert desk.package().exit_code == 0
    assert LlmManifest.read(tuned.parent).answering.sentence_check is not None


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


def half_a_card(folder: Path) -> None:
    (folder.parent / "training.json").write_text(json.dumps({**CARD, "training_set": None}))


def no_weights(folder: Path) -> None:
    for path in folder.glob("*.safetensors"):
        path.unlink()


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (wrong_layers, r"num_hidden_layers is 28, not 36; name the model that was tuned"),
        (own_template, r"chat_template.jinja is none of model_artifacts"),
        (no_card, r"training.json: no such file. Name the card of the job"),
        (half_a_card, r"is no card of a training job"),
        (no_weights, r"has no weights"),
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


def test_weights_that_were_not_compiled_are_refused_for_an_accelerator(desk: Desk) -> None:
    gpu_folder(desk)
    done = desk.run("package", "job/merged", "--name", "tuned", "--like", "qwen3-8b-inf2")
    assert "lacks neuron_config.json, model.pt" in told(done)
    assert "assistant models compile" in told(done)


def test_another_model_under_a_used_name_is_refused(desk: Desk) -> None:
    assert desk.package().exit_code == 0
    (desk.clone / "job/merged/tuned.gguf").write_bytes(b"GGUF other weights")
    done = desk.package()
    assert "An artifact never changes" in told(done)
    assert LlmManifest.read(desk.artifacts / "tuned").sha256 == desk.sha256
