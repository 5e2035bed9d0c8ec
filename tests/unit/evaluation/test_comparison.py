"""Models: which may write, how fast they read, how ``assistant evaluate`` compares and tries them."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.answers import Usage
from assistant.domain.clock import Deadline
from assistant.domain.errors import ConfigurationError
from assistant.evaluation.comparison import ComparedModel, keep_comparisons
from assistant.evaluation.conversations import MODEL_TRIALS, Asked, ReplyVerdict, verdict_values
from assistant.evaluation.judging import WrittenAnswers, WrittenModel, recorded_lines
from assistant.evaluation.measures import TenantRun, figures
from assistant.evaluation.model_questions import (
    REFUSAL,
    ModelQuestion,
    count_answers,
    load_model_questions,
    measure_reading,
)
from assistant.models.recorded import CharacterCount, Task, task_of
from assistant.stores.ports import GenerationDelta, GenerationRequest
from assistant.tenant.manifests import LlmManifest, check_compared
from tests.stage.answering import FakeTenant, ScriptedGenerator, Step
from tests.stage.tenant_files import ROOT
from tests.stage.tenant_stores import SteppedClock
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


def run(*right: float) -> TenantRun:
    asked = (results.question(f"q{number}") for number in range(len(right)))
    rows = [results.result(row, written_right=value) for row, value in zip(asked, right, strict=False)]
    return results.run(*rows)


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


SHIPPED = load_model_questions()


class _Stream:
    inference_id: str | None = None
    variant: str | None = None

    def __init__(self, *deltas: GenerationDelta) -> None:
        self._deltas = deltas

    async def __aiter__(self) -> AsyncIterator[GenerationDelta]:
        for delta in self._deltas:
            yield delta


class FakeModel:
    """Answers by ``reply``; reads ``tokens_per_s`` of a prompt after a start of half a second."""

    def __init__(
        self, clock: SteppedClock, *, reply: Callable[[str], str] = str, tokens_per_s: float = 1e9
    ) -> None:
        self._clock, self._reply, self._tokens_per_s = clock, reply, tokens_per_s

    @asynccontextmanager
    async def stream(self, request: GenerationRequest, *, deadline: Deadline) -> AsyncGenerator[_Stream]:
        asked = request.messages[-1].content
        tokens = len(asked.split())
        self._clock.step(0.5 + tokens / self._tokens_per_s)
        usage = Usage(prompt_tokens=tokens, completion_tokens=1)
        yield _Stream(GenerationDelta(self._reply(asked)), GenerationDelta("", "stop", usage))


def right(question: ModelQuestion) -> str:
    if not question.units:
        return REFUSAL
    lines = SHIPPED.documents[question.document].strip().splitlines()
    return " ".join(f"{lines[int(unit.removeprefix('1.')) - 1]} [{unit}]" for unit in question.units)


@pytest.mark.parametrize(
    ("change", "counts"),
    [
        (lambda _: None, (14, 14, 6, True)),
        (lambda one: right(one).partition(" [")[0], (0, 14, 6, False)),
        (lambda one: f"{right(one)} [1.1][1.5]" if one.units else None, (0, 14, 6, False)),
        (lambda one: f"{right(one)} 99" if one.units else None, (14, 0, 6, False)),
        (lambda one: f"See [{one.units[0]}]." if one.units else None, (14, 0, 6, False)),
        (lambda one: None if one.units else "Our partner. [1.2]", (14, 14, 0, False)),
        (lambda one: None if one.units else f'"{REFUSAL}"\n', (14, 14, 6, True)),
    ],
    ids=["right", "never cites", "cites too much", "wrong number", "no number", "never refuses", "quotes"],
)
def test_a_model_may_write_when_it_cites_copies_and_refuses(
    change: Callable[[ModelQuestion], str | None], counts: tuple[int, int, int, bool]
) -> None:
    found = count_answers(SHIPPED, [change(one) or right(one) for one in SHIPPED.questions])
    assert (found.cites, found.copies, found.refuses, found.may_write) == counts


@pytest.mark.parametrize(("tokens_per_s", "tokens"), [(100.0, 250), (600.0, 1500)])
async def test_the_time_that_does_not_grow_with_the_prompt_is_no_reading(
    tokens_per_s: float, tokens: int
) -> None:
    clock = SteppedClock()
    model = FakeModel(clock, tokens_per_s=tokens_per_s)

    found = await measure_reading(model, context_tokens=4096, clock=clock)

    assert found == pytest.approx(tokens, abs=2)


TEXTS: Mapping[Task, str] = {
    "read": '{"language": "en", "asks": true, "facts": [], "emergency": null, "queries": ["refill payable"]}',
    "answer": "Retail refills are payable on day 23 of 30 [1.1].",
    "check": '{"sentences": [{"n": 1, "line": 1, "words": "", "verdict": "held"}]}',
    "reply": "You pay on day 23 of 30.",
}


class ByTask(ScriptedGenerator):
    """A model with a text for each task."""

    def __init__(self, **texts: str) -> None:
        super().__init__()
        self.texts = {**TEXTS, **texts}

    def stream(self, request: GenerationRequest, **options: Any) -> Any:
        self.steps[:] = [self.texts[task_of(request.messages)]]
        return super().stream(request, **options)


async def ask(run: str, folder: Path, model: WrittenModel, *rows: Mapping[str, object]) -> list[Asked]:
    tenant = FakeTenant.writing()
    path = folder / "rows.jsonl"
    named = [{"id": f"r{n}", "knowledge": tenant.config.name, **row} for n, row in enumerate(rows)]
    path.write_text("".join(json.dumps(row) + "\n" for row in named))
    return await MODEL_TRIALS[run](tenant.services, model, [path])


def live(**texts: str) -> WrittenModel:
    return WrittenModel(ByTask(**texts), CharacterCount(), "model-1")


def values(asked: Sequence[Asked]) -> dict[str, float]:
    found = figures(judged for row in asked for judged in row.judged)
    return {name: one.value for name, one in found.items()}


CHAT: dict[str, object] = {
    "turns": [
        {"who": "customer", "text": "On which day are retail refills payable?"},
        {"who": "agent", "text": "One moment."},
        {"who": "customer", "text": "It is for a 30 day supply, when is the refill payable?"},
    ],
    "note": "",
    "documents": ["refill"],
}


async def test_a_conversation_is_read_answered_checked_and_replied_to_and_plays(tmp_path: Path) -> None:
    [asked] = await ask("conversations", tmp_path, live(), CHAT)
    tasks = [task_of(call.messages) for call in asked.calls]
    assert tasks == ["read", "answer", "check", "reply", "check"]
    lines = recorded_lines(asked.id, asked.calls, model="model-1")
    assert [line.task for line in lines] == tasks
    (tmp_path / "judged.jsonl").write_text(
        "".join(verdict(judge).model_dump_json() + "\n" for judge in ("a", "b"))
    )
    played = values(await ask("conversations", tmp_path, WrittenModel.of_recording(lines), CHAT))
    assert played == played | {"plays": 1.0, "drafts": 1.0, "marked": 0.0, "sendable_more": 1.0}
    assert (played["right_read"], played["right_first"], played["right_raw"]) == (1.0, 1.0, 1.0)
    stale = WrittenModel.of_recording([line for line in lines if line.task != "answer"])
    [asked] = await ask("conversations", tmp_path, stale, CHAT)
    assert asked.judged[0].values["plays"] == 0.0
    assert task_of(next(call for call in asked.calls if not call.text).messages) == "answer"


def verdict(judge: str, said: str = "sendable", facts: str = "used") -> ReplyVerdict:
    row = {"id": "r0", "judge": judge, "verdict": said, "facts": facts}
    return ReplyVerdict.model_validate(row | {"reply_sha256": sha256(TEXTS["reply"].encode()).hexdigest()})


@pytest.mark.parametrize(
    ("said", "counted"),
    [
        ((verdict("a"), verdict("b", "edit", "part")), {"sendable": 0.0, "edit_one": 1.0, "facts_used": 0.0}),
        ((verdict("a"), verdict("b", "dangerous")), {"wrong": 1.0, "dangerous_one": 1.0, "facts_used": 1.0}),
        ((verdict("a"), verdict("a")), {"unjudged": 1.0}),
    ],
)
def test_of_two_judges_the_worse_verdict_counts(
    said: Sequence[ReplyVerdict], counted: dict[str, float]
) -> None:
    found = verdict_values(said, TEXTS["reply"], is_one=True)
    assert found == found | counted
    assert verdict_values(said, "Another text.", is_one=True) == {"unjudged": 1.0}
