"""``assistant models compare``: what it refuses before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assistant.cli.models import app
from assistant.domain.errors import ConfigurationError
from assistant.terminal.terminal import GlobalOptions
from tests.fakes.tenant_files import checkout_tenants

ROOT = Path(__file__).parents[3]
SERVER = "http://127.0.0.1:8080/v1#small"


def compare(state_dir: Path, *arguments: str, tenant: str = "pharmacy") -> Result:
    tenants = checkout_tenants(state_dir / "checkout")
    options = GlobalOptions(tenants_dir=tenants, state_dir=state_dir, port=None, json=False)
    return CliRunner().invoke(app, ["compare", "--tenant", tenant, *arguments], obj=options)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("recorded",), "Name two models or more, each once"),
        (("recorded", "recorded"), "Name two models or more, each once"),
        (("recorded", SERVER, "--usd-per-hour", f"{SERVER}=cheap"), "N is a number"),
        (("recorded", SERVER, "--usd-per-hour", "other=1"), "other, which is not compared"),
    ],
)
def test_arguments_that_contradict_are_wrong_usage(
    tmp_path: Path, arguments: tuple[str, ...], said: str
) -> None:
    done = compare(tmp_path, *arguments)

    assert done.exit_code == 2
    assert said in " ".join(done.stderr.replace("│", " ").split())


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("qwen", "Models to compare: Two or more"),
        ("https://models.example.com/v1#small", "outside this machine"),
        ("http://127.0.0.1:8080/v1", "Models to compare"),
    ],
)
def test_a_model_that_cannot_be_asked_is_refused(tmp_path: Path, name: str, said: str) -> None:
    error = compare(tmp_path, "recorded", name).exception

    assert isinstance(error, ConfigurationError)
    assert said in error.message


def test_a_file_whose_questions_were_not_recorded_is_refused(tmp_path: Path) -> None:
    line = (ROOT / "evaluation" / "pharmacy.jsonl").read_text().splitlines()[0]
    questions = tmp_path / "mine.jsonl"
    questions.write_text(line.replace('"qid": "', '"qid": "mine-') + "\n")
    error = compare(tmp_path, "recorded", SERVER, "--questions", str(questions)).exception

    assert isinstance(error, ConfigurationError)
    assert "holds no question that all of them can be asked" in error.message
