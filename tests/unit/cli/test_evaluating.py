"""What ``assistant evaluate`` refuses before it starts anything, and what it chooses to ask."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
from typer.testing import CliRunner

from assistant.cli.evaluate import (
    EvaluationPlan,
    compared_models,
    questions_of,
    writing_model,
)
from assistant.cli.main import app
from assistant.domain.errors import AssistantError, ConfigurationError, NotFoundError
from assistant.evaluation.measures import read_figures
from assistant.tenant.manifests import LlmManifest
from assistant.terminal.terminal import GlobalOptions
from tests.stage.answering import FakeTenant
from tests.stage.aws_server import REGION
from tests.stage.sagemaker_control import ControlledSageMaker
from tests.stage.tenant_files import committed_tenant

ROOT = Path(__file__).parents[3]
BAKERY = EvaluationPlan(tenants=("bakery",))


@pytest.fixture
def options(tmp_path: Path) -> GlobalOptions:
    (tmp_path / "tenants").mkdir()
    (tmp_path / "tenants" / "bakery.toml").write_text(
        'schema_version = 1\nname = "bakery"\ndisplay_name = "Bakery"\n'
    )
    return GlobalOptions(
        tenants_dir=tmp_path / "tenants", state_dir=tmp_path / "state", port=None, json=False
    )


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (EvaluationPlan(tenants=("a", "b"), questions=Path("q.jsonl")), "takes one --tenant"),
        (replace(BAKERY, accepts=True, questions=Path("q.jsonl")), "--accept needs all committed questions"),
    ],
)
def test_options_that_contradict_each_other_are_refused(plan: EvaluationPlan, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        plan.check()


@pytest.mark.parametrize(
    ("plan", "error", "said"),
    [
        (BAKERY, NotFoundError, "bakery has no committed questions: "),
        (replace(BAKERY, questions=Path("none.jsonl")), NotFoundError, r"no such file: none\.jsonl"),
        (EvaluationPlan(tenants=("brewery",)), ConfigurationError, "There is no tenant brewery"),
    ],
)
def test_what_is_not_there_is_named(
    options: GlobalOptions, plan: EvaluationPlan, error: type[AssistantError], said: str
) -> None:
    with pytest.raises(error, match=said):
        questions_of(options, plan)


def test_recording_needs_a_model_that_writes_and_a_figure_s_recording_does_not(tmp_path: Path) -> None:
    figure = read_figures(ROOT / "evaluation")["conversations"]
    quoting, writing = FakeTenant().services, FakeTenant.writing().services
    assert writing_model(writing, figure, tmp_path, live=True).generator is writing.writer.generator
    with pytest.raises(ConfigurationError, match=r"none writes for pharmacy.*models use"):
        writing_model(quoting, figure, tmp_path, live=True)
    (tmp_path / "recorded").mkdir()
    (tmp_path / "recorded" / "conversations.jsonl").write_text("")
    played = writing_model(quoting, figure, tmp_path, live=False)
    assert played.generator is not quoting.writer.generator


@pytest.fixture
def endpoint(options: GlobalOptions, aws_server_url: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Make an endpoint that serves the artifact ``small`` in the account of a deployed tenant; return its
    name."""
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "local")
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_server_url)
    (options.tenants_dir / "sandbox.toml").write_text(committed_tenant("sandbox"), encoding="utf-8")
    shutil.copytree(ROOT / "model_artifacts", options.tenants_dir.parent / "model_artifacts")
    sha256 = LlmManifest.read(ROOT / "model_artifacts/llm/smollm2-135m-cpu").sha256
    name = f"llm-{uuid4().hex[:8]}"
    sagemaker: Any = boto3.client("sagemaker", region_name=REGION)
    folder = {"S3Uri": f"s3://models/llm/smollm2-135m-cpu/{sha256}/", "S3DataType": "S3Prefix"}
    source = {"S3DataSource": folder | {"CompressionType": "None"}}
    container = {"Image": "123.dkr.ecr/model-server", "ModelDataSource": source}
    role = "arn:aws:iam::123456789012:role/endpoint"
    sagemaker.create_model(ModelName=name, ExecutionRoleArn=role, PrimaryContainer=container)
    variant = {"VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.c7i.xlarge"}
    variant |= {"InitialInstanceCount": 1}
    sagemaker.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName=name, EndpointConfigName=name)
    asyncio.run(ControlledSageMaker(aws_server_url).move_endpoint(name))
    return name


@pytest.mark.loopback
def test_a_compared_endpoint_has_the_price_of_its_instance_and_the_weights_that_it_is_named_for(
    options: GlobalOptions, endpoint: str
) -> None:
    plan = EvaluationPlan(tenants=("sandbox",))
    named = f"smollm2-135m-cpu=endpoint:{endpoint}"
    (model,) = compared_models(options, plan, [named])
    assert model.usd_per_hour == pytest.approx(0.2142, abs=0.01)
    assert (model.served.model, model.served.region) == (endpoint, REGION)
    with pytest.raises(ConfigurationError, match="which is not qwen3-8b-gpu"):
        compared_models(options, plan, [f"qwen3-8b-gpu=endpoint:{endpoint}"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("--tenant", "bakery", "--model", "a#b", "--model", "a#b"), "each model once"),
        (("--tenant", "bakery", "--model", "a#b", "--accept"), "--model takes --tenant"),
        (("--figure", "shop", "--model", "a#b"), "--figure takes --show"),
        (("--tenant", "bakery", "--record", "mine.jsonl"), "--record takes --figure"),
    ],
)
def test_compared_models_go_with_few_options(
    options: GlobalOptions, given: tuple[str, ...], told: str
) -> None:
    done = CliRunner().invoke(app, ["--tenants", str(options.tenants_dir), "evaluate", *given])
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())
