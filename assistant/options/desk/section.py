"""Keys of this option: ``[desk]``, ``[desk.feedback]`` and ``[desk.recall]``."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from assistant.tenant.tenant import TenantConfig, TenantSection
from assistant.tenant.toml_file import StrictModel, Tables

PLACE_OF_ID, PLACE_OF_CHAT = "{conversation_id}", "{chat}"


class FeedbackSection(StrictModel):
    """What of agents' work with answers is kept to learn from. Agents are workers: they are shown
    ``purpose``, and are named by a keyed pseudonym."""

    purpose: Annotated[str, StringConstraints(strip_whitespace=True, min_length=20, max_length=500)] = (
        "What you mark, send and open is used to improve this assistant: its documents and models. It is not "
        "used to judge you."
    )
    """What it is used for, in words that agents read."""
    edits: bool = True
    """Whether sent texts are compared with the answers, and kept."""
    opened_sources: bool = True
    """Whether opened sources are kept."""
    texts: bool = True
    """Whether words are kept beside labels: questions, answers and what was sent, with patients' data
    replaced, sealed with a key for each document and patient."""
    pseudonyms: str = "state:feedback"
    """Key of the pseudonyms, as ``secrets.document_links``: ``state:NAME``, ``file:PATH`` or ``kms:NAME``.
    With another key everybody has another pseudonym, and no patient's texts can be found again."""


class RecallSection(StrictModel):
    """How replies that were sent on words which changed are worked off."""

    due_days: int = Field(default=3, ge=1, le=90)
    """Days from the sweep that finds a reply to the day on which it is due."""
    conversation_url: str | None = Field(
        default=None,
        max_length=500,
        pattern=r"^(https://|\{[a-z][a-z0-9-]*\}/)[^\s{}]*\{(conversation_id|chat)\}[^\s{}]*$",
    )
    """Address of a conversation in the company's helpdesk, with ``{conversation_id}`` in place of the id that
    a delivered reply carries, or ``{chat}`` in place of the care context's first id of the kind ``chat``.
    ``{orders}/`` at its beginning is the address of the system "orders" of ``[[reach]]``."""


class DeskSection(TenantSection):
    """``[desk]``: the review desk, what is kept to learn from, and recall."""

    open_cases_per_agent: int = Field(default=100, ge=1, le=1000)
    """Cases of one agent's work that wait for a reviewer. At this number a bad verdict is refused, and edits
    and unanswered questions open no case. Equal questions are one case."""
    feedback: FeedbackSection = FeedbackSection()
    recall: RecallSection = RecallSection()


TABLES: Tables = {TenantConfig: DeskSection}
