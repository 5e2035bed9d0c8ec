"""What the certainty of a suggestion is fitted on (``make fit ARGS=suggest``)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from assistant.answer.answer import AnswerQuestion
from assistant.answer.services import TenantServices
from assistant.domain.answers import ChatTurn
from assistant.domain.clock import Deadline
from assistant.domain.identity import Identity, Role
from assistant.evaluation.questions import load_questions
from assistant.evaluation.trials import Head, silent
from assistant.options.suggest.found import ReadTurns, features_of

_DEADLINE_S = 60.0


async def _rows(
    services: Mapping[str, TenantServices], paths: Sequence[Path]
) -> tuple[list[tuple[float, ...]], list[bool]]:
    """Return the features of each question's section, and whether its document answers the question."""
    rows: list[tuple[float, ...]] = []
    labels: list[bool] = []
    for path in paths:
        opened = silent(services[path.stem])
        read = ReadTurns(opened, AnswerQuestion(opened))
        agent = Identity(path.stem, "fit", frozenset({Role.AGENT}), frozenset(opened.tenant.labels))
        for question in load_questions(path):
            turns = [ChatTurn(who="customer", text=question.question)]
            limit = Deadline.after(_DEADLINE_S, clock=opened.clock)
            evidence = (await read.run(turns, identity=agent, deadline=limit)).evidence
            if evidence is not None and evidence.is_found and evidence.section is not None:
                rows.append(tuple(features_of(evidence).values()))
                labels.append(evidence.section.document_id in question.documents)
    return rows, labels


HEAD = Head(
    kind="suggest",
    tenants=("pharmacy", "clinic"),
    paths=("pharmacy.jsonl", "clinic.jsonl", "messages/pharmacy.jsonl", "messages/clinic.jsonl"),
    features=("margin", "cosine", "mass", "undisputed", "words"),
    penalty=0.0005,
    rows=_rows,
)
