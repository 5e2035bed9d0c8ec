"""What the release before (format 1) left: the tables of its files, an answer, and what it reads.

``tests/data/release_before`` was written by that release. ``check-upgrade`` runs that release itself.
"""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
from jsonschema import Draft202012Validator

from assistant.domain.answers import (
    Act,
    AgentAct,
    AnswerRecord,
    ApprovedUse,
    Cell,
    CitedUnit,
    Reading,
    Sentence,
    StoredAct,
    StoredVerdict,
    Support,
    Verdict,
    VerdictLabel,
)
from assistant.domain.audit import AccessEntry
from assistant.domain.desk import Case, CaseReason, DeskItem, DeskKind
from assistant.domain.documents import Loading
from tests.contracts.samples import NOON, answer

FOLDER = Path(__file__).parents[1] / "data" / "release_before"
_SCHEMAS: dict[str, Any] = json.loads((FOLDER / "schemas.json").read_bytes())
ANSWER: dict[str, Any] = json.loads((FOLDER / "answer.json").read_bytes())


def refusals(model: str, body: str | bytes) -> list[str]:
    """Return why the release before would not read a row."""
    validator = Draft202012Validator(_SCHEMAS[model])
    return [error.message for error in validator.iter_errors(json.loads(body))]  # pyright: ignore[reportUnknownMemberType]


def new_answer(answer_id: str = "new") -> AnswerRecord:
    """Return an answer with every field that the release before does not know."""
    sentence = Sentence(index=0, start=0, end=4, citations=(1,), support=Support.SUPPORTED)
    added = {"detail": "check", "values": ("24",), "cited": (CitedUnit(n=1, start=0, end=4),), "is_key": True}
    row = (Cell(name=(0, 1), value=(3, 4)),)
    more = {
        "sentences": (sentence, sentence.model_copy(update=added | {"cells": row})),
        "reading": Reading(questions=("When?",), items=("79",)),
        "red_flags": ("overdose",),
        "offered": ApprovedUse(item_id="approved", revision=2),
        "degraded": ("reranking",),
        "loading": (Loading(reason="lost", source="", live=1, expected=2),),
        "variant": "Canary",
    }
    return answer(answer_id).model_copy(update=more)


def new_act(answer_id: str = "new") -> StoredAct:
    act = Act(act_id="used", kind=AgentAct.OFFERED_USED)
    return StoredAct(answer_id=answer_id, agent="ana", at=NOON, act=act)


def new_access() -> AccessEntry:
    return AccessEntry(at=NOON, agent="ana", kind="release", subject_id="procedures")


def new_case(item_id: str = "case") -> DeskItem:
    case = Case(
        answer_id="new", reason=CaseReason.REVIEW_DUE, opened_at=NOON, same_hash="h", joined="earlier"
    )
    return case_item(item_id, case)


def case_item(item_id: str, case: Case) -> DeskItem:
    body = case.model_dump_json()
    return DeskItem(kind=DeskKind.CASE, item_id=item_id, revision=1, at=NOON, by="learner", body=body)


def make_state(folder: Path, *, count: int) -> None:
    """Write the files of the release before with so many answers, verdicts and cases."""
    folder.mkdir(parents=True)
    for name in ("records", "desk"):
        with closing(sqlite3.connect(folder / f"{name}.sqlite")) as file:
            file.execute("PRAGMA journal_mode = WAL")
            file.executescript((FOLDER / f"{name}.sql").read_text(encoding="utf-8"))
    with closing(sqlite3.connect(folder / "records.sqlite")) as file, file:
        for number in range(count):
            name = f"old{number}"
            body = orjson.dumps({**ANSWER, "answer_id": name, "conversation_id": "c1"}).decode()
            row = (name, "c1", f"{number:020}", body)
            file.execute(
                "INSERT INTO answers (answer_id, conversation_id, asked_at, body) VALUES (?, ?, ?, ?)", row
            )
            verdict = Verdict(verdict_id=f"v{number}", label=VerdictLabel.GOOD)
            stored = StoredVerdict(answer_id=name, agent="ana", at=NOON, verdict=verdict).model_dump_json()
            values = (name, verdict.verdict_id, "ana", verdict.model_dump_json(), stored)
            columns = "answer_id, id, agent, content, body"
            file.execute(f"INSERT INTO verdicts ({columns}) VALUES (?, ?, ?, ?, ?)", values)  # noqa: S608
    with closing(sqlite3.connect(folder / "desk.sqlite")) as file, file:
        for number in range(count):
            case = Case(answer_id=f"old{number}", reason=CaseReason.UNANSWERED, opened_at=NOON)
            old = case.model_dump_json(exclude={"same_hash", "joined"})
            item = case_item(f"case{number}", case).model_copy(update={"body": old})
            values = ("case", item.item_id, 1, item.model_dump_json())
            file.execute("INSERT INTO revisions (kind, item_id, revision, body) VALUES (?, ?, ?, ?)", values)
