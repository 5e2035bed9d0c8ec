"""What the first release (format 1, f1d3ccb4) left in tables that are still served: an answer, and what it
reads of a row.

``tests/data/release_before`` was written by that release.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

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
    Support,
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
