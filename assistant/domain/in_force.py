"""What a document's file says about when it is in force."""

from __future__ import annotations

from datetime import date

from pydantic import Field

from assistant.domain.public import PublicModel


class InForce(PublicModel):
    """What a file says, beside ``effective_date``. A document without it is in force from then on.

    Example: ``status: archived`` above a text, in a file ``fees-2024.md``, is
    ``InForce(never="status: archived", words=(1071, 9903, …))``.
    """

    since: date | None = Field(default=None, exclude_if=lambda day: day is None)
    """The first day; None: ``effective_date``, if there is one."""
    until: date | None = Field(default=None, exclude_if=lambda day: day is None)
    """The last day."""
    never: str = Field(default="", max_length=200, exclude_if=lambda why: not why)
    """Why it is in force on no day: "draft: true", "in the folder OLD"."""
    words: tuple[int, ...] = Field(default=(), max_length=64, exclude_if=lambda words: not words)
    """A sketch of its text, where its name has a date: editions of one document have most words in common,
    the minutes of two meetings have not."""
