"""What ``assistant evaluate`` refuses before it starts anything, and what it chooses to ask."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import replace
from datetime import UTC, datetime
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
    show_changes,
)
from assistant.cli.main import app
from assistant.domain.errors import AssistantError, ConfigurationError, NotFoundError
from assistant.evaluation.measures import Run
from assistant.tenant.manifests import LlmManifest
from assistant.terminal.terminal import GlobalOptions, Terminal
from tests.fakes.answering import FakeTenant
from tests.fakes.aws_server import REGION
from tests.fakes.sagemaker_control import ControlledSageMaker
from tests.fakes.tenant_files import committed_tenant
from tests.unit.evaluation import results

ROOT = Path(__file__).parents[3]
BAKERY = EvaluationPlan(tenants=("bakery",))
GOOD = '{"qid": "a", "kind": "plain", "question": "How?", "documents": ["d"]}\n'


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
        (replace(BAKERY, name="../elsewhere"), "--name"),
        (EvaluationPlan(tenants=("a", "b"), questions=Path("q.jsonl")), "takes one --tenant"),
        (replace(BAKERY, record=Path("r"), replay=(Path("r"),)), "give one of them"),
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


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ((), "Give either --tenant T or --figure NAME"),
        (("--tenant", "bakery", "--figure", "shop"), "Give either --tenant T or --figure NAME"),
        (("--figure", "shop", "--name", "monday"), "--figure takes --show"),
    ],
)
def test_a_tenant_or_a_figure_is_asked(given: tuple[str, ...], told: str) -> None:
    run = CliRunner().invoke(app, ["evaluate", *given], env={"COLUMNS": "200"})
    assert run.exit_code == 2
    assert told in run.output


def test_an_empty_file_is_refused(options: GlobalOptions, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("\n")
    with pytest.raises(ConfigurationError, match="holds no question"):
        questions_of(options, replace(BAKERY, questions=tmp_path / "empty.jsonl"))


def test_a_file_of_ones_own_stands_in_for_the_committed_questions(
    options: GlobalOptions, tmp_path: Path
) -> None:
    (tmp_path / "mine.jsonl").write_text(GOOD)
    found = questions_of(options, replace(BAKERY, questions=tmp_path / "mine.jsonl"))["bakery"]
    assert [question.qid for question in found.asked] == ["a"]
    assert len(found.sha256) == 64


def test_recording_needs_a_model_that_writes_and_replaying_does_not(tmp_path: Path) -> None:
    recording = replace(BAKERY, record=tmp_path / "mine.jsonl")
    quoting, writing = FakeTenant().services, FakeTenant.writing().services
    recorded = recording.model(writing)
    assert recorded is not None
    assert recorded.generator is writing.writer.generator
    with pytest.raises(ConfigurationError, match=r"none writes for pharmacy.*models use.*--replay"):
        recording.model(quoting)
    (tmp_path / "played.jsonl").write_text("")
    played = replace(BAKERY, replay=(tmp_path / "played.jsonl",)).model(quoting)
    assert played is not None
    assert played.generator is not quoting.writer.generator
    assert BAKERY.model(writing) is None


def test_a_run_is_shown_against_another(capsys: pytest.CaptureFixture[str]) -> None:
    after = results.run(results.result(results.question("a"), right=0.0))
    before = results.run(results.result(results.question("a")))
    kept = Run(name="monday", made_at=datetime(2026, 1, 1, tzinfo=UTC), tenants=(before,))
    show_changes(Terminal(), kept, after)
    show_changes(Terminal(), kept, results.run(results.result(), tenant="clinic"))
    captured = capsys.readouterr()
    shown = [" ".join(line.split()) for line in captured.out.splitlines()]
    assert "quoted answer right -1.000 -1.000 to -1.000" in shown
    assert "Right in one of the two only: a" in shown
    assert "monday did not ask clinic" in captured.err


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
    ],
)
def test_compared_models_go_with_few_options(
    options: GlobalOptions, given: tuple[str, ...], told: str
) -> None:
    done = CliRunner().invoke(app, ["--tenants", str(options.tenants_dir), "evaluate", *given])
    assert done.exit_code == 2
    assert told in " ".join(done.stderr.replace("│", " ").split())
