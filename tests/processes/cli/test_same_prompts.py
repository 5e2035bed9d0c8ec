"""A prompt follows from message, knowledge and settings, never from what else the machine does."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest

from assistant.answer.plan import Written
from assistant.evaluation.judging import WrittenAnswers, WrittenModel, request_of
from assistant.evaluation.questions import EvaluationQuestion, load_questions
from assistant.models.recorded import prompt_sha256
from assistant.terminal.loading import load_if_empty
from assistant.terminal.local import LocalRuntime, local_runtime, open_services
from assistant.terminal.terminal import GlobalOptions, Terminal
from tests.processes.cli.conftest import CHECKOUT, KNOWLEDGE, Shop
from tests.stage.tenant_files import checkout_tenant

pytestmark = [pytest.mark.integration, pytest.mark.night]
TENANT = "pharmacy"
ASKED, AT_ONCE = 200, 8


@pytest.fixture
def pharmacy(shop: Shop, asked: str, tmp_path: Path) -> Shop:
    """The pharmacy with all its knowledge, and the models of the other shop."""
    (tmp_path / "tenants").mkdir()
    text = checkout_tenant(TENANT)
    (tmp_path / "tenants" / f"{TENANT}.toml").write_text(text, encoding="utf-8")
    shutil.copytree(KNOWLEDGE / TENANT, tmp_path / "knowledge" / TENANT)
    made = Shop(tmp_path)
    shutil.copytree(shop.state / "models", made.state / "models")
    return made


async def prompts(
    runtime: LocalRuntime,
    questions: Sequence[tuple[EvaluationQuestion, str | None]],
    *,
    at_once: int,
) -> dict[str, str | None]:
    """Return the prompt's SHA-256 by question, from a service that keeps nothing of an earlier one.

    ``questions``: each with the one before it.
    """
    model = WrittenModel.of_recording([])
    free = asyncio.Semaphore(at_once)
    async with open_services(runtime, [TENANT]) as services:
        answers = WrittenAnswers(services[TENANT], model)

        async def made(question: EvaluationQuestion, before: str | None) -> str | None:
            async with free:
                plan = await answers.prepare(request_of(question.question, before))
                return prompt_sha256(plan.prompt.messages) if isinstance(plan, Written) else None

        found = await asyncio.gather(*(made(*one) for one in questions))
    return {one.qid: prompt for (one, _), prompt in zip(questions, found, strict=True)}


def test_the_same_questions_give_the_same_prompts_under_load(
    pharmacy: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSISTANT_MODEL_PRECISION", "float32")  # as the recordings, on any processor
    every = {one.qid: one for one in load_questions(CHECKOUT / "evaluation" / f"{TENANT}.jsonl")}
    chosen = list(every.values())[:ASKED]
    questions = [(one, every[one.after].question if one.after else None) for one in chosen]
    options = GlobalOptions(pharmacy.folder / "tenants", pharmacy.folder / ".state", 0, json=False)
    runtime = local_runtime(options, Terminal())
    with runtime.site(command="test"):
        asyncio.run(load_if_empty(runtime, TENANT))
        alone = asyncio.run(prompts(runtime, questions, at_once=1))
        beside = asyncio.run(prompts(runtime, questions[::-1], at_once=AT_ONCE))
    assert len(alone) == ASKED
    assert {qid for qid, prompt in alone.items() if beside[qid] != prompt} == set()
