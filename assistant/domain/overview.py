"""Bodies of the manager's page, which ``assistant.client`` reads."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from assistant.domain.public import PublicModel


class OverviewCounts(PublicModel):
    """Numbers of answers, each on the day of its question."""

    questions: int = 0
    """All of them: the sum of the six that follow. Greetings and thanks are apart."""
    written: int = 0
    quoted: int = 0
    """A section, a table or live values, as they stand."""
    approved: int = 0
    not_found: int = 0
    failed: int = 0
    stopped: int = 0
    """The agent cancelled it, or went away."""
    thanks: int = 0
    gaps: int = 0
    """Not found, and no document was near."""
    teachable: int = 0
    """Not found, though a document was near: it may need a question, or another wording."""
    sent_as_is: int = 0
    """With the words of the draft, whatever its Markdown."""
    sent_edited: int = 0
    sent_not_compared: int = 0
    """The texts of its documents are withdrawn."""
    not_sent: int = 0
    """It had a text, and no reply is recorded as sent."""
    marked_good: int = 0
    """By the last mark of each answer."""
    marked_bad: int = 0
    replied_10_s: int = 0
    """First reply sent at most 10 s after the question; the next numbers count from there to theirs."""
    replied_30_s: int = 0
    replied_60_s: int = 0
    replied_120_s: int = 0
    replied_300_s: int = 0
    replied_900_s: int = 0
    replied_later: int = 0


class OverviewDay(OverviewCounts):
    day: date


class OverviewRow(OverviewCounts):
    name: str
    """A source, whom answers name to ask, or the access labels of a group of agents."""


class OverviewDocument(PublicModel):
    """A document on which answers rest, or that was near."""

    document_id: str
    title: str
    answers: int
    edited: int
    """Replies that were edited before they were sent."""
    marked_bad: int
    teachable: int
    age_days: int
    """Since its effective date, or since it came."""
    damage: float
    """Answers, times years of age, times edited replies: where an owner should look first."""
    review_after: date | None
    is_due: bool
    """Whether its review date has passed."""


class Overview(PublicModel):
    """``GET /v1/overview``."""

    first: date
    last: date
    counted_at: datetime | None
    """When the newest day was counted."""
    smallest_group: int
    small_days: int
    """Days on which fewer agents than that asked: nothing of what they did is in any number."""
    uncounted_days: int
    """Days of the period that are not counted yet."""
    total: OverviewCounts
    days: tuple[OverviewDay, ...]
    sources: tuple[OverviewRow, ...]
    desks: tuple[OverviewRow, ...]
    groups: tuple[OverviewRow, ...]
    documents: tuple[OverviewDocument, ...]
    """The 100 with the greatest damage, then with the most answers."""
    others: int
    """Documents that the caller may not read, that are gone, or that come after the 100."""


OverviewTable = Literal["total", "days", "sources", "desks", "groups", "documents"]
