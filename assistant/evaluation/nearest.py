"""Messages that are quoted without a model: what stands before the fold, and the sign of doubt.

``run = "nearest"`` of a figure measures both; ``near_rows`` makes the data on which the sign is fitted
(``make fit ARGS=near``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from assistant.answer.offers import QuotedBlock
from assistant.answer.section import NEAR_FEATURES
from assistant.answer.services import TenantServices
from assistant.domain.public import PublicModel
from assistant.evaluation.judging import Observer
from assistant.evaluation.measures import Judged
from assistant.evaluation.questions import EvaluationQuestion, load_questions, load_rows
from assistant.text.language import WORD, fold

_MOST_WORDS = 80
"""Words before the fold that an agent reads at a glance."""
_LEAST_SHARED = 0.8
"""Share of a line's words that a quoted unit of it has: a row of a table is shown with the names of its
columns, and without its bars."""


class FreshMessage(PublicModel):
    """One line of ``evaluation/fresh/messages_*.jsonl`` and ``unanswered_*``; the README has the fields."""

    id: str
    knowledge: str
    message: str
    documents: tuple[str, ...]
    """Empty: nothing answers it."""
    headings: tuple[str, ...]
    lines: tuple[str, ...]
    why: str = ""

    def is_answered_by(self, blocks: Sequence[QuotedBlock]) -> bool:
        """Return whether one of its documents' lines that answer is quoted."""
        quoted = [block for block in blocks if block.passage.document_id in self.documents]
        return any(_is_of(block.text, line) for block in quoted for line in self.lines)


def _is_of(text: str, line: str) -> bool:
    words, quoted = set(WORD.findall(fold(line))), set(WORD.findall(fold(text)))
    return bool(words) and len(words & quoted) >= _LEAST_SHARED * len(words)


async def quote_messages(services: TenantServices, paths: Sequence[Path]) -> list[Judged]:
    """Quote each message as the service does where no model writes. Raises AssistantError."""
    observer, judged = Observer(services), list[Judged]()
    for row in (row for path in paths for row in load_rows(path, FreshMessage)):
        if row.knowledge != services.tenant.name:
            continue
        asked = EvaluationQuestion(qid=row.id, kind="plain", question=row.message, documents=row.documents)
        observed = await observer.ask(asked)
        quote = observed.plan.quote
        values = _values(row, quote.blocks, is_near=quote.is_near)
        judged.append(Judged(row.id, row.id, values, degraded=observed.degraded))
    return judged


def _values(row: FreshMessage, blocks: Sequence[QuotedBlock], *, is_near: bool) -> dict[str, float]:
    if not row.documents:
        return {"unanswerable messages whose section is only near": float(is_near)}
    first = [block for block in blocks if block.quote != "folded"]
    is_right = row.is_answered_by(blocks)
    values = {"right section": float(is_right), "no section though a document answers": float(not blocks)}
    is_of_right = any(block.passage.document_id in row.documents for block in blocks)
    which = "right" if is_of_right else "wrong"
    values[f"sections of a {which} document that are only near"] = float(is_near)
    if blocks and not is_near:
        words = sum(len(block.text.split()) for block in first)
        values[f"at most {_MOST_WORDS} words before the fold"] = float(words <= _MOST_WORDS)
    if is_right and not is_near:
        values["answering line before the fold, of right sections"] = float(row.is_answered_by(first))
    return values


async def near_rows(
    services: Mapping[str, TenantServices], paths: Sequence[Path]
) -> tuple[list[tuple[float, ...]], list[bool]]:
    """Return the features of each message's section, and whether its document answers the message.

    ``services``: by tenant. ``paths``: a file is named for its tenant. A message without a section has no
    row.
    """
    rows: list[tuple[float, ...]] = []
    labels: list[bool] = []
    for path in paths:
        observer = Observer(services[path.stem])
        for question in load_questions(path):
            part = (await observer.ask(question)).plan.quote.parts[0]
            if part.is_found and part.section is not None:
                features = part.features
                rows.append(tuple(features.get(name, 0.0) for name in NEAR_FEATURES))
                labels.append(part.section.document_id in question.documents)
    return rows, labels
