"""Models that ``assistant evaluate --model`` compares, and what synth reads of it."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from assistant.domain.errors import ConfigurationError, GenerationUnavailableError
from assistant.evaluation.comparison import ComparedModel, comparison_rows, keep_comparisons
from assistant.evaluation.judging import WrittenAnswers, WrittenModel
from assistant.evaluation.measures import TenantRun
from assistant.models.recorded import CharacterCount
from assistant.stores.ports import GenerationDelta
from assistant.tenant.manifests import LlmManifest, check_compared
from tests.fakes.answering import FakeTenant, ScriptedGenerator, Step
from tests.fakes.clock import SteppedClock
from tests.fakes.tenant_files import ROOT
from tests.unit.evaluation import results

ANSWER = "Retail refills are payable on day 23 of 30 [1.1]."
ASKED = results.question(question="On which day are retail refills payable?", answer_contains=("day 23",))
SERVER = "http://127.0.0.1:8080/v1#small"


async def values_of(*steps: Step) -> dict[str, float]:
    """Return the values of one question to a model whose first text comes after 2 s and the rest 0.5 s
    later; the check of it begins after 9 s."""
    clock = SteppedClock()

    class Slow(ScriptedGenerator):
        first_text_s = 2.0

        async def deltas(self) -> AsyncIterator[GenerationDelta]:
            clock.step(self.first_text_s)
            self.first_text_s = 9.0
            async for delta in super().deltas():
                yield delta
                clock.step(0.5)

    services = replace(FakeTenant.writing(*steps).services, clock=clock)
    model = WrittenModel(Slow(*steps), CharacterCount(), "a", usd_per_hour=3.6)
    return (await WrittenAnswers(services, model).ask(ASKED))[0]


async def test_times_and_cost_are_those_of_the_answer_and_not_of_its_check() -> None:
    values = await values_of(ANSWER)
    assert values["written_failed"] == 0
    assert values["first_token_s"] == pytest.approx(2.0)
    assert values["tokens_per_s"] == pytest.approx(6 / 0.5)  # 7 tokens, the first after 2 s
    assert values["usd_per_1000"] == pytest.approx(2.5)


async def test_a_call_that_fails_counts_as_failed_though_a_quote_takes_its_place() -> None:
    values = await values_of(GenerationUnavailableError("gone"))
    assert values["written_failed"] == 1
    assert not {"first_token_s", "usd_per_1000"} & values.keys()


def run(*right: float) -> TenantRun:
    asked = (results.question(f"q{number}") for number in range(len(right)))
    rows = [results.result(row, written_right=value) for row, value in zip(asked, right, strict=False)]
    return results.run(*rows)


def test_the_table_has_a_column_for_each_model_and_no_row_of_quotes() -> None:
    rows = comparison_rows([run(1.0, 1.0), results.run(results.result(first_token_s=0.5))])
    assert rows == [
        ("written answer right", "1 [1, 1] of 2", "-"),
        ("first token, mean, s", "-", "0.5 [0.5, 0.5] of 1"),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("qwen", "Compare models that write"),
        ("https://models.example.com/v1#small", "outside this machine"),
        ("http://127.0.0.1:8080/v1", "pattern"),
        ("endpoint:clinic-llm", "region of a SageMaker endpoint"),
        ("nothing=http://127.0.0.1:8080/v1#small", 'no such artifact "nothing"'),
    ],
)
def test_a_model_that_cannot_be_asked_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        ComparedModel.of(text, artifacts=ROOT / "model_artifacts/llm", region=None, context_tokens=512)


async def test_a_model_writes_with_the_context_of_its_artifact() -> None:
    tenant = FakeTenant.writing(ANSWER)
    artifacts = ROOT / "model_artifacts/llm"
    for text, context in ((SERVER, 512), (f"qwen3-8b-gpu={SERVER}", 8192)):
        compared = ComparedModel.of(text, artifacts=artifacts, region=None, context_tokens=512)
        async with AsyncExitStack() as stack:
            model, services = await compared.opened(tenant.services, stack)
        assert (model.name, services.tenant.generation.context_tokens) == (text, context)


# --- the gate -----------------------------------------------------------------------------------------------
LINEAGE = f"""
[lineage]
base = "qwen3-8b-gpu"
base_model = "{"b" * 64}"
training_set = "{"b" * 64}"
licences = {{ base = "Apache-2.0", set = "proprietary" }}
"""


@pytest.fixture
def artifacts(tmp_path: Path) -> Path:
    """The released artifacts, and a tuned one."""
    folder = tmp_path / "llm"
    shutil.copytree(ROOT / "model_artifacts/llm", folder)
    for name, hexadecimal in (("qwen3-8b-gpu", "a"), ("tuned", "c")):
        text = (ROOT / "model_artifacts/llm/qwen3-8b-gpu/manifest.toml").read_text(encoding="utf-8")
        text = text.replace('name = "qwen3-8b-gpu"', f'name = "{name}"\nsha256 = "{hexadecimal * 64}"')
        (folder / name).mkdir(exist_ok=True)
        lineage = LINEAGE if name == "tuned" else ""
        (folder / name / "manifest.toml").write_text(text + lineage, encoding="utf-8")
    return folder


def compare(artifacts: Path, before: list[float], after: list[float]) -> None:
    models = [
        ComparedModel.of(f"{name}={SERVER}", artifacts=artifacts, region=None, context_tokens=512)
        for name in ("qwen3-8b-gpu", "tuned")
    ]
    keep_comparisons(models, [run(*before), run(*after)], artifacts=artifacts)


def check(artifacts: Path, *, tenant: str = "pharmacy") -> None:
    check_compared(LlmManifest.read(artifacts / "tuned"), tenant=tenant, artifacts=artifacts)


def test_a_tuned_model_is_served_to_a_tenant_with_a_comparison_in_which_it_is_not_worse(
    artifacts: Path,
) -> None:
    with pytest.raises(
        ConfigurationError, match=r"no comparison .* Run: assistant evaluate --tenant pharmacy"
    ):
        check(artifacts)
    compare(artifacts, [1, 0, 1, 0], [1, 1, 1, 0])
    check(artifacts)
    kept = LlmManifest.read(artifacts / "tuned").lineage
    assert kept is not None
    assert kept.comparisons["pharmacy"].better_by["written answer right"][0] == 0.25
    assert (kept.base, kept.licences["set"]) == ("qwen3-8b-gpu", "proprietary")
    with pytest.raises(ConfigurationError, match="on the questions of clinic"):
        check(artifacts, tenant="clinic")
    check_compared(LlmManifest.read(artifacts / "qwen3-8b-gpu"), tenant="clinic", artifacts=artifacts)


def test_a_worse_model_is_refused_with_the_interval(artifacts: Path) -> None:
    compare(artifacts, [1.0] * 12, [0.0] * 10 + [1.0] * 2)
    with pytest.raises(ConfigurationError, match=r"tuned is worse than qwen3-8b-gpu .* right by 0\.833 \["):
        check(artifacts)
    compare(artifacts, [1.0] * 12, [1.0] * 12)  # measured again: the newer one counts
    check(artifacts)


@pytest.mark.parametrize(
    ("name", "hexadecimal", "said"),
    [("tuned", "c", "no comparison of its weights"), ("qwen3-8b-gpu", "a", "other weights of qwen3-8b-gpu")],
)
def test_a_comparison_is_of_the_weights_that_were_asked(
    artifacts: Path, name: str, hexadecimal: str, said: str
) -> None:
    compare(artifacts, [1, 0], [1, 0])
    path = artifacts / name / "manifest.toml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f'\nsha256 = "{hexadecimal * 64}"', f'\nsha256 = "{"9" * 64}"', 1))
    with pytest.raises(ConfigurationError, match=said):
        check(artifacts)


def test_without_the_manifest_of_the_served_one_there_is_no_way_back(artifacts: Path) -> None:
    compare(artifacts, [1, 0], [1, 0])
    shutil.rmtree(artifacts / "qwen3-8b-gpu")
    with pytest.raises(ConfigurationError, match="no such artifact"):
        check(artifacts)
