"""Measures which questions get an approved answer."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from pathlib import Path

from pydantic import ConfigDict

from assistant.answer.services import TenantServices
from assistant.domain.desk import ItemState
from assistant.domain.public import PublicModel
from assistant.evaluation.measures import Judged
from assistant.evaluation.questions import load_questions, load_rows
from assistant.evaluation.trials import embedded
from assistant.options.desk.approved import ApprovedAnswer, LiveAnswer, matcher_for


class ApprovedItem(PublicModel):
    """One line of ``evaluation/approved/*.jsonl``: a question with its approved answer, and how it is
    asked."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    approved_id: str
    question: str
    text: str
    document_ids: tuple[str, ...]
    paraphrases: tuple[str, ...]
    """The question in other words: each should see the answer."""
    lookalikes: tuple[str, ...]
    """Questions that look alike, and that no approved answer answers."""


_EXPIRES = date(2099, 1, 1)
"""Later than any run."""


async def match_approved(services: TenantServices, paths: Sequence[Path]) -> list[Judged]:
    """Match paraphrases, look-alikes and questions on other documents with the approved answers.

    ``paths``: a file of ``ApprovedItem``, then files of questions about documents. A paraphrase should see
    its own answer, everything else none.
    """
    first, *more = paths
    items = load_rows(first, ApprovedItem, key="approved_id")
    others = [question for path in more for question in load_questions(path)]
    used = {document for item in items for document in item.document_ids}
    questions: list[tuple[str, str, str | None]] = []
    for item in items:
        questions += [("paraphrases", text, item.approved_id) for text in item.paraphrases]
        questions += [("look-alikes", text, None) for text in item.lookalikes]
    questions += [("others", other.question, None) for other in others if used.isdisjoint(other.documents)]
    texts = dict.fromkeys((*(item.question for item in items), *(text for _, text, _ in questions)))
    vectors = await embedded(services.embedder, list(texts), clock=services.clock)
    approved = matcher_for(services.tenant)([_live(item, vectors[item.question]) for item in items])
    judged: list[Judged] = []
    for number, (kind, text, expected) in enumerate(questions):
        match = approved.match(text, vectors[text], labels=frozenset(), today=services.clock.now().date())
        seen = match.live.item_id if match.live and match.reason in ("equal", "near") else None
        is_served = match.reason == "equal"
        values = {
            "wrongly served": float(is_served and seen != expected),
            f"{kind}: wrongly offered": float(seen not in (None, expected) and not is_served),
        }
        if expected is not None:
            values["paraphrases that see their answer"] = float(seen == expected)
        miss = f"{kind}: {text} | {match.wording} | {match.reason} {match.cosine:.2f}"
        judged.append(Judged(f"{kind} {number}", text, values, "" if seen == expected else miss))
    return judged


def _live(item: ApprovedItem, vector: Sequence[float]) -> LiveAnswer:
    answer = ApprovedAnswer(
        questions=(item.question,),
        vectors=(tuple(vector),),
        text=item.text,
        owner="measured",
        expires_on=_EXPIRES,
        state=ItemState.LIVE,
        proposed_by="measured",
    )
    return LiveAnswer(item.approved_id, 1, datetime(2026, 11, 21, tzinfo=UTC), answer)


TRIALS = {"approved": match_approved}
