"""inferentia.md of the models lab walked, with the pharmacy as it ships: its own model is compiled and
served, then a tuned one, then its own again. No chip is here: ``INSTEAD`` says what stands for one, and
docs/from-nothing.md has the command for each doubt that only a chip ends. Then a model of JumpStart, as
models_lab.md has it."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from assistant.evaluation.comparison import ComparedModel, keep_comparisons
from assistant.tenant.manifests import load_images, write_digest
from tests.node.lambdas.conftest import KEY, RAW
from tests.options.models_lab.company import CARD, NUMBERS, QUOTA, Company
from tests.stacks.emulated_account import EmulatedTenant, emulated_account
from tests.stacks.synthesized import ROOT
from tests.stage.lambda_events import object_created, sqs_event
from tests.stage.neuron_container import Weights
from tests.stage.sagemaker_control import ControlledSageMaker, install_sdk
from tests.stage.tenant_files import FIRST, Action, actions
from tests.unit.evaluation import results
from tests.walk.walking import (
    ASSISTANT,
    BEFORE,
    Walk,
    begin,
    edit_tenant_file,
    edited,
    outputs_of,
    run_the_machine,
    take,
)

NAME = "qwen3-8b-inf2"
PAGES = {
    name: (ROOT / f"assistant/options/models_lab/{name}.md").read_text(encoding="utf-8")
    for name in ("inferentia", "models_lab")
}
OWN = {action.number: action for action in actions(PAGES["inferentia"])}
INSTEAD: Mapping[int, str] = {
    21: "as action 8: the registry has a manifest of each image, the lock its digest",
    22: "the emulator's quotas are set to 0, then to 1",
    23: "the hub is out of reach: weights of the same architecture, small; the manifest has their numbers",
    24: "no chip: tests/stage/neuron_container.py compiles, under the job's own entry and hyperparameters",
    27: "no chip: the endpoint is in service at once; the machine runs as in action 13",
    28: "as 23 and 24",
    29: "no model answers here: made-up runs are compared; the endpoint is in service at once",
    30: "a raw call is put into the quarantine; the deployed function's handler runs here",
}
JUMPSTART = (
    PAGES["models_lab"].partition("### A published row, to a deployment")[2].partition("Refused by name")[0]
)
ROW = "huggingface-llm-qwen2-5-7b-instruct"
pytestmark = pytest.mark.loopback


@pytest.fixture
def walk(tmp_path: Path) -> Iterator[Walk]:
    with emulated_account(tmp_path, account=ASSISTANT) as account:
        yield begin("pharmacy", tmp_path / "clone", account, account)


async def test_the_page_leads_to_a_model_of_one_s_own(
    walk: Walk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for action in FIRST[1:8]:
        await asyncio.to_thread(take, walk, action)
    BEFORE[10](walk)
    install_sdk(walk.clone)
    for field, number in NUMBERS.items():
        if field != "sequence_length":
            values = {rf"(?m)^{field} = \d+": f"{field} = {number}"}
            edited(walk, f"model_artifacts/llm/{NAME}/manifest.toml", values)

    assert "ModelsBucketName" in await run(walk, 21)
    bucket = outputs_of(walk.account, "assistant-pharmacy-Data")["ModelsBucketName"]
    walk.printed["MODELS_BUCKET"] = bucket
    Weights().write(walk.clone / "weights")
    await run(walk, 23, block=1)

    async with ControlledSageMaker(walk.account.url) as control:
        company = Company(walk.clone, "pharmacy", bucket, walk.account.url, control)
        await control.quotas({QUOTA: 0})
        assert "aws service-quotas request-service-quota-increase" in await run(walk, 24, status=1)
        await control.quotas({QUOTA: 1})
        await compiled(walk, 24, company, tmp_path / "first")
        assert "Completed" in await asyncio.to_thread(walk.run, walk.told(checked(OWN[24])))
        await run(walk, 25)
        manifest = (walk.clone / f"model_artifacts/llm/{NAME}/manifest.toml").read_text(encoding="utf-8")
        (sha256,) = re.findall(r'(?m)^sha256 = "(.+)"', manifest)
        await run(walk, 26)
        facts = json.loads(company.keys("callers/Qwen3-8B/")["artifact.json"])
        assert facts["digest"] == sha256

        await run(walk, 27)
        resuming = asyncio.create_task(asyncio.to_thread(run_the_machine, walk))
        await run(walk, 27, block=1)
        await resuming
        assert (await asyncio.to_thread(walk.run, checked(OWN[27]))).strip() == "InService"

        Weights().write(walk.clone / "tuned")
        shutil.copy(walk.clone / "weights/chat_template.jinja", walk.clone / "tuned/chat_template.jinja")
        # Weights here have no content: another file makes it another model.
        (walk.clone / "tuned/tokenizer_config.json").write_text('{"tuned": true}', encoding="utf-8")
        (walk.clone / "training.json").write_text(json.dumps(CARD), encoding="utf-8")
        await compiled(walk, 28, company, tmp_path / "second")
        await run(walk, 28, block=1)
        manifest = (walk.clone / "model_artifacts/llm/qwen3-8b-care/manifest.toml").read_text(
            encoding="utf-8"
        )
        (tuned,) = re.findall(r'(?m)^sha256 = "(.+)"', manifest)
        assert tuned != sha256
        assert "has no comparison of its weights" in await run(walk, 29, block=1, status=1)
        keep_comparison(walk.clone / "model_artifacts/llm")
        await run(walk, 29, block=1)
        assert serves(walk) == tuned
        assert digest_of(company) == tuned
        await captured(walk, tmp_path, monkeypatch)
        kept = await run(walk, 30)
        assert '"event_id":"e1"' in kept.replace(" ", "")
        assert "Doe" not in kept
        await run(walk, 31)
        assert serves(walk) == sha256
        assert digest_of(company) == sha256


async def run(walk: Walk, number: int, *, block: int = 0, status: int = 0) -> str:
    """Run a block of the page's action."""
    return await asyncio.to_thread(walk.run, walk.told(OWN[number].blocks[block]), status=status)


async def captured(walk: Walk, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a call into the quarantine as SageMaker does it, and run the deployed function on its event."""
    tenant = EmulatedTenant(
        walk.account, walk.tenant, {"aws_endpoint_url": walk.account.url}, monkeypatch, folder
    )
    quarantine, walk.printed["CAPTURE_BUCKET"] = tenant.bucket("quarantine"), tenant.bucket("capture")
    walk.account.client("s3").put_object(Bucket=quarantine, Key=KEY, Body=RAW)
    answered = await tenant.call("redact_capture", sqs_event("captured", [object_created(quarantine, KEY)]))
    await tenant.close()
    assert answered == {"batchItemFailures": []}
    assert "Contents" not in walk.account.client("s3").list_objects_v2(Bucket=quarantine)


def keep_comparison(artifacts: Path) -> None:
    """Write what action 29 writes after the questions were asked: the tuned model is right more often."""
    server = "http://127.0.0.1:8080/v1#care"
    models = [
        ComparedModel.of(f"{name}={server}", artifacts=artifacts, region=None, context_tokens=512)
        for name in (NAME, "qwen3-8b-care")
    ]
    asked = [results.question(f"q{number}") for number in range(6)]
    runs = [results.run(*(results.result(row, written_right=right) for row in asked)) for right in (0.0, 1.0)]
    keep_comparisons(models, runs, artifacts=artifacts)


def serves(walk: Walk) -> str:
    """Return the hash of the weights of the stack's one LLM. The emulator keeps an endpoint's first
    configuration, so it is asked for the model."""
    sagemaker = walk.account.client("sagemaker")
    (name,) = (
        model["ModelName"] for model in sagemaker.list_models()["Models"] if "Llm" in model["ModelName"]
    )
    source = sagemaker.describe_model(ModelName=name)["PrimaryContainer"]["ModelDataSource"]["S3DataSource"]
    return str(source["S3Uri"]).split("/")[-2]


def digest_of(company: Company) -> str:
    return str(json.loads(company.keys("callers/Qwen3-8B/")["artifact.json"])["digest"])


def checked(action: Action) -> str:
    """Return the command of the action's check."""
    (text,) = action.checks
    found = re.match(r"`([^`]+)`", text)
    assert found is not None
    return found[1]


async def compiled(walk: Walk, number: int, company: Company, folder: Path) -> None:
    """Run the page's command that starts a job, then the job."""
    job = re.search(r"--promote (compile-pharmacy-\S+)", await run(walk, number))
    assert job is not None
    walk.printed["JOB"] = job[1]
    await company.carry_out(job[1], folder)


def test_each_command_that_is_not_run_is_named() -> None:
    assert set(OWN) == set(range(21, 32))
    assert set(INSTEAD) <= set(OWN)


def test_a_published_row_is_priced_and_synthesized_and_a_deployment_names_what_adds_its_hash(
    walk: Walk,
) -> None:
    for name in load_images(walk.clone / "images.lock.toml").images:
        write_digest(walk.clone / "images.lock.toml", name=name, digest=f"sha256:{'d' * 64}")
    walk.printed["ARN"] = (
        f"arn:aws:acm:us-east-1:{ASSISTANT}:certificate/8d7a6c5b-1f2e-4d3c-9b8a-7c6d5e4f3a2b"
    )
    edit_tenant_file(walk)
    worked, refused = re.findall(r"```sh\n(.*?)```", JUMPSTART, re.DOTALL)[:2]
    said = walk.run(worked)
    assert re.search(rf"{ROW.removesuffix('instruct')}.*published", said)  # the table folds long ids
    assert "LLM endpoint: ml.g5.12xlarge" in " ".join(said.split())
    said = " ".join(walk.run(refused, status=1).split())
    assert f"assistant models candidates --region us-east-1 --adopt {ROW}" in said
