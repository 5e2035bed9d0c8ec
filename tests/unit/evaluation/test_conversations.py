"""Trials of a model that writes: conversations to the reply, planted sentences, emergencies."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from assistant.evaluation.conversations import (
    MODEL_TRIALS,
    Asked,
    ReplyVerdict,
    verdict_values,
)
from assistant.evaluation.judging import WrittenModel, recorded_lines
from assistant.evaluation.measures import figures
from assistant.models.recorded import CharacterCount, Task, prompt_sha256, task_of
from assistant.stores.ports import ChatMessage, GenerationRequest
from tests.fakes.answering import FakeTenant, ScriptedGenerator

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


async def test_planted_sentences_and_emergencies_are_counted(tmp_path: Path) -> None:
    sentence = {
        "title": "Refills",
        "heading": "",
        "lines": ["Day 23."],
        "question": "",
        "sentence": "Day 24.",
    }
    asked = await ask(
        "planted", tmp_path, live(), sentence | {"is_true": False}, sentence | {"is_true": True}
    )
    assert values(asked) == {"plays": 1.0, "shown_as_checked": 1.0, "true_marked": 0.0}


def test_a_recording_plays_on_any_day_and_no_other_prompt() -> None:
    def named(today: str, said: str) -> str:
        text = f"Today is {today}. The company: Pay.\n\n<conversation>\nCustomer ({said}): by 12/3?\n"
        return prompt_sha256([ChatMessage("user", text)])

    first = named("Monday, 30 November 2026", "09:12")
    assert first == named("Tuesday, 1 December 2026", "17:00")
    assert first != named("Monday, 30 November 2026", "09:12) said (")
