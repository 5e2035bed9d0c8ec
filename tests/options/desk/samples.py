"""Events and sealed texts."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from assistant.domain.answers import VerdictLabel
from assistant.options.desk.events import FeedbackEvent, FeedbackKind, SealedText, ShownDocument
from tests.contracts.samples import NOON


def event(
    number: int = 1, *, minute: int = 0, tenant: str = "clinic", shown: Sequence[str] = ("refill",)
) -> FeedbackEvent:
    """Return a good verdict, the one of that number, on an answer that quoted the first document."""
    at = NOON + timedelta(minutes=minute)
    documents = tuple(
        ShownDocument(
            document_id=document_id,
            position=position,
            score=1.0 / position,
            features={"bm25": 2.5},
            is_listed=True,
            is_quoted=position == 1,
        )
        for position, document_id in enumerate(shown, 1)
    )
    return FeedbackEvent(
        event_id=f"{number:064x}",
        kind=FeedbackKind.VERDICT,
        at=at,
        tenant=tenant,
        answer_id=f"a{number}",
        conversation="0" * 32,
        agent="1" * 32,
        asked_at=at,
        documents=documents,
        prompt_id="answer/1",
        model_id="model",
        index_version="v1",
        settings_hash="hash",
        label=VerdictLabel.GOOD,
    )


def sealed_text(number: int = 1, *, subjects: Sequence[str] = ("document:refill",)) -> SealedText:
    return SealedText(text_id=f"{number:064x}", at=NOON, subjects=tuple(subjects), sealed="c2VhbGVk")
