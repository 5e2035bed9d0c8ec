"""``assistant models capacity``: its options, and what it plans with."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest
from typer.testing import CliRunner, Result

from assistant.cli.models import app
from assistant.cli.terminal import GlobalOptions
from assistant.domain.errors import ConfigurationError
from tests.fakes.tenant_files import checkout_tenants

ROOT = Path(__file__).parents[3]


def options_for(state_dir: Path) -> GlobalOptions:
    return GlobalOptions(
        tenants_dir=checkout_tenants(state_dir / "checkout"), state_dir=state_dir, port=None, json=True
    )


def capacity(state_dir: Path, *arguments: str, tenant: str = "pharmacy") -> Result:
    given = ["capacity", "--tenant", tenant, *arguments]
    return CliRunner().invoke(app, given, obj=options_for(state_dir))


MEASURED = """
source = "measured on a made-up chip"
slots = 8
step_tokens = 256
request_s = 0.01
write_step_s = [0.02, 0.03]
write_context_s = 1e-6
read_token_s = 1e-4
read_context_s = 0.0
"""


def test_a_plan_names_what_it_rests_on(tmp_path: Path) -> None:
    plan = orjson.loads(capacity(tmp_path, "--questions-per-second", "0.2").stdout)

    assert plan["instance"] == "ml.inf2.8xlarge"
    assert plan["timings"].startswith("estimate")
    assert plan["lengths"].startswith("assumed")
    assert plan["usd_a_month"] == pytest.approx(plan["instances"] * 2.36 * 730)


def test_another_accelerator_takes_the_artifact_of_the_same_model_for_it(tmp_path: Path) -> None:
    given = ("--questions-per-second", "0.2", "--instance", "ml.g6e.2xlarge")

    assert orjson.loads(capacity(tmp_path, *given).stdout)["artifact"] == "qwen3-8b-gpu"


@pytest.mark.parametrize(
    ("given", "tenant", "said"),
    [
        (["--instance", "ml.g6e.4xlarge"], "pharmacy", r"no price \[endpoint.'ml.g6e.4xlarge'\]"),
        (["--instance", "ml.g5.2xlarge"], "pharmacy", "does not fit the devices"),
        (["--timings", "missing.toml"], "pharmacy", "missing.toml: no such file"),
        ([], "sandbox", "no timings of smollm2-135m-cpu are known there.*--timings"),
    ],
)
def test_what_cannot_be_planned_is_refused(tmp_path: Path, given: list[str], tenant: str, said: str) -> None:
    result = capacity(tmp_path, "--questions-per-second", "1", *given, tenant=tenant)

    with pytest.raises(ConfigurationError, match=said):
        raise result.exception or AssertionError(result.output)


def test_measured_times_come_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "timings.toml"
    file.write_text(MEASURED, encoding="utf-8")

    result = capacity(
        tmp_path, "--timings", str(file), "--questions-per-second", "0.05", "--p95-first-token-ms", "90000"
    )

    assert orjson.loads(result.stdout)["timings"] == "measured on a made-up chip"
