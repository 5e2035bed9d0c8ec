"""Keys of the desk in ``[review]``."""

from __future__ import annotations

from pydantic import Field

from assistant.tenant.tenant import ReviewSection, TenantConfig
from assistant.tenant.toml_file import keys_of


class DeskReview(ReviewSection):
    """``[review]`` with the keys of this option."""

    open_cases_per_agent: int = Field(default=100, ge=1, le=1000)
    """Cases of one agent's work that wait for a reviewer. At this number a bad verdict is refused, and edits
    and unanswered questions open no case. Equal questions are one case."""


def most_open_cases(tenant: TenantConfig) -> int:
    """Return how many cases of one agent may wait."""
    return keys_of(tenant.review, DeskReview).open_cases_per_agent
