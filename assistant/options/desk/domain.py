"""What the desk keeps beside what it shows: bodies of ``DeskItem`` that no caller reads."""

from __future__ import annotations

from assistant.domain.desk import DeskApprovedAnswer
from assistant.domain.public import PublicModel, RecordId

REMOVED_TEXT = "[withdrawn]"
"""Stands in every revision of an approved answer where a source's withdrawal removed the text."""


class CaseIndex(PublicModel):
    """Body of an item of the kind ``case_index``."""

    case_ids: tuple[RecordId, ...]


class ApprovedAnswer(DeskApprovedAnswer):
    """An approved answer with what serving finds it by."""

    vectors: tuple[tuple[float, ...], ...] = ()
    """One unit vector for each question, by ``embedding_model``."""
    embedding_model: str = ""
