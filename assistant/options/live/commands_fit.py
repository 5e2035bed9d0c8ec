"""Data on which the head of live elements is fitted (``make fit ARGS=live``).

The head is a logistic model that decides whether a question asks for its nearest live element. A row of its
data:
features ("cosine", "nearer", "live") = (0.71, 0.12, 1.5), label True.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from assistant.answer.answer import AnswerQuestion
from assistant.answer.services import TenantServices
from assistant.domain.answers import LiveMatch
from assistant.evaluation.questions import load_rows
from assistant.evaluation.trials import Head, LiveQuestion, prepare_live, silent
from assistant.options.live.examples import USUAL_LIVE, USUAL_NEARER, LiveExamples


class _ObservedExamples(LiveExamples):
    """``LiveExamples`` that keeps, of each call of ``match``, the nearest element and the score of
    ``live``."""

    def __init__(self, services: TenantServices) -> None:
        super().__init__(services)
        self.observed: list[tuple[LiveMatch, float]] = []

    def match(self, vector: Sequence[float], *, live: float | None) -> list[LiveMatch]:
        matches = super().match(vector, live=live)
        self.observed += [(match, USUAL_LIVE if live is None else live) for match in matches[:1]]
        return matches


async def _rows(
    services: Mapping[str, TenantServices], paths: Sequence[Path]
) -> tuple[list[tuple[float, ...]], list[bool]]:
    """Return the features of each question's nearest element, and whether the question asks for it.

    ``services``: by tenant. ``paths``: files of ``LiveQuestion``. The answer path calls ``match`` while an
    answer is prepared, perhaps several times; each call gives a row.
    """
    questions = [row for path in paths for row in load_rows(path, LiveQuestion)]
    rows: list[tuple[float, ...]] = []
    labels: list[bool] = []
    for tenant, tenant_services in services.items():
        examples = _ObservedExamples(silent(tenant_services))
        preparing = AnswerQuestion(silent(tenant_services))
        preparing.read.beside = examples
        for question in (question for question in questions if question.tenant == tenant):
            examples.observed.clear()
            await prepare_live(preparing, tenant_services, question)
            for match, live in examples.observed:
                nearer = USUAL_NEARER if match.against is None else match.cosine - match.against
                rows.append((match.cosine, nearer, live))
                labels.append(any(match.element in names for names in question.asks))
    return rows, labels


HEAD = Head(
    kind="live",
    tenants=("pharmacy", "shop"),
    paths=("live/tuning.jsonl", "live/chat.jsonl"),
    features=("cosine", "nearer", "live"),
    penalty=0.0015,
    rows=_rows,
)
