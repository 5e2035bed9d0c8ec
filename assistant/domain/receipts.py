"""The receipt of a withdrawal: for each place, what is deleted, what stays, and until when."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from assistant.domain.public import PublicModel


class ReceiptPlace(PublicModel):
    """One place that may hold what a withdrawn document said."""

    place: str
    """Stable name, for programs."""
    title: str
    state: Literal["removed", "pending", "remains"]
    """``pending``: the removal goes on; ask again."""
    found: int | None = None
    """Things in this place that still hold the document's text, counted in the store for this receipt. None:
    the place is not counted."""
    what: str
    """What was removed, or what remains."""
    until: datetime | None = None
    """The latest time at which it is gone by itself. None of what remains: it stays until somebody deletes
    it."""
    rule: str
    """The setting, the use case or the rule of AWS that decides."""


class WithdrawalReceipt(PublicModel):
    """``GET /v1/documents/{id}/receipt``."""

    document_id: str
    title: str
    withdrawn_at: datetime
    """When the state last changed: the withdrawal, then the end of its removal. Periods count from it."""
    made_at: datetime
    is_complete: bool
    """Whether nothing is pending."""
    places: tuple[ReceiptPlace, ...]
