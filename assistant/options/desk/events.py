"""What agents did with answers, as events that leave the service.

``docs/feedback.schema.json`` is the schema of ``FeedbackEvent``: labels and pseudonyms, never text; it holds
these docstrings. Texts leave apart from events (``SealedText``), each under keys that an erasure or a
withdrawal destroys. An event that marks an answer wrong, shortened:

    {"schema_version": 1, "event_id": "5d0c…", "kind": "verdict", "at": "2026-10-18T09:20:11Z",
     "tenant": "pharmacy", "answer_id": "4f1e…", "agent": "9a2b…", "label": "wrong", "reasons": ["outdated"],
     "documents": [{"document_id": "refills.md", "position": 1, "score": 0.71, "is_quoted": true, …}],
     "text_id": "c81f…", …}

``signals.py`` makes events, ``mover.py`` seals their words, ``store.py`` stores both.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal, Protocol

import orjson
from pydantic import Field, StringConstraints

from assistant.domain.answers import Certainty, FinishReason, Mode, VerdictLabel
from assistant.domain.identity import Role
from assistant.domain.public import PublicModel, RecordId

FEEDBACK_VERSION = 1


class FeedbackKind(StrEnum):
    VERDICT = "verdict"
    SENT = "sent"
    """The agent sent a text to the patient; ``edit`` compares it with the answer."""
    OPENED_SOURCE = "opened_source"
    REFORMULATED = "reformulated"
    """In events before 0.3.0: the agent asked the same again in other words."""
    POSSIBLY_TAKEN = "possibly_taken"
    """In events before 0.3.0: the agent sent, or marked good, an answer that was only possible."""
    POSSIBLY_PASSED_OVER = "possibly_passed_over"
    """In events before 0.3.0: the agent went on without an answer that was only possible."""
    OFFERED_USED = "offered_used"
    """The agent used the approved answer that was offered beside the answer."""
    UNANSWERED = "unanswered"
    """The knowledge base had no answer."""
    EMERGENCY = "emergency"
    """The message raised a red flag."""
    DIFFERENT_VALUES = "different_values"
    """Documents in force gave one thing different values, and the answer showed them."""


class ShownDocument(PublicModel):
    """A candidate document of the answer, in ranked order: enough to replay the choice by other weights."""

    document_id: str
    position: int = Field(ge=1, le=20)
    """1 is the document that ranking put first."""
    score: float
    features: dict[str, float]
    """Raw values by name, as ``CandidateDocument`` has them."""
    propensity: float = 1.0
    """Always 1 since 0.3.0; before, the share of conversations that a ranker on trial had."""
    is_listed: bool
    """Whether it was among the numbered sources that the agent saw."""
    is_quoted: bool


class Edit(PublicModel):
    """How a sent text differs from the answer as it was shown."""

    distance: int = Field(ge=0)
    """Levenshtein distance in words."""
    words: int = Field(ge=0)
    """Words of the longer of the two texts."""
    changed_facts: tuple[str, ...] = Field(default=(), max_length=50)
    """Kinds of what was changed, not the values: ``number``, ``code``, ``dose``, ``date``, ``negation``."""


Pseudonym = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
"""Keyed hash (HMAC-SHA-256, first 32 hexadecimal digits); the key stays in the tenant's account."""


class FeedbackEvent(PublicModel):
    """One act of an agent on one answer. It holds no text of a question, an answer or a document."""

    schema_version: Literal[1] = 1
    event_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    """SHA-256 of tenant, kind and the id of the act: an act that arrives twice is one event."""
    kind: FeedbackKind
    at: datetime
    """When the agent acted."""
    tenant: str
    answer_id: RecordId
    conversation: Pseudonym
    agent: Pseudonym
    role: Role = Role.AGENT
    reader_labels: tuple[str, ...] = ()
    """Access labels under which the answer was given, sorted."""
    asked_at: datetime
    mode: Mode | None = None
    certainty: Certainty | None = None
    finish_reason: FinishReason | None = None
    documents: tuple[ShownDocument, ...] = Field(default=(), max_length=20)
    prompt_id: str
    prompt_hash: str | None = None
    model_id: str
    model_digest: str | None = None
    variant: str | None = Field(default=None, exclude_if=lambda name: name is None)
    """Production variant of the endpoint that wrote the answer; omitted when no model wrote."""
    weights: dict[str, str] = Field(default_factory=dict)
    """SHA-256 (hex) of each weights file or learned artifact that served the answer, by kind."""
    index_version: str
    settings_hash: str
    label: VerdictLabel | None = None
    """What a verdict says."""
    reasons: tuple[str, ...] = Field(default=(), max_length=20)
    """Why, for a verdict: the codes that the console offers; free text is left out."""
    wrong_documents: tuple[str, ...] = Field(default=(), max_length=100)
    """Documents that the agent marked as wrongly cited, in a verdict."""
    has_better_text: bool = False
    edit: Edit | None = None
    """How a sent text differs from the answer."""
    reply_id: RecordId | None = Field(default=None, exclude_if=lambda reply: reply is None)
    """Record of the reply that a sent text was edited from. ``FeedbackText.shown`` then holds the reply in
    place of the answer."""
    unsupported_sent: bool = False
    """Whether the sent text keeps a sentence that the answer showed as unsupported."""
    opened: str | None = None
    """Document of the opened source."""
    offered: RecordId | None = Field(default=None, exclude_if=lambda item: item is None)
    """Desk item of the approved answer that was offered and used. Omitted otherwise, so that an older release
    can read the event."""
    next_answer_id: RecordId | None = None
    """Answer to the question in other words, for ``reformulated``."""
    text_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")] | None = None
    """The ``SealedText`` with the words; None where the tenant switched it off or nothing was said."""


class FeedbackText(PublicModel):
    """The words that belong to an event, with patients' data replaced."""

    question: str
    shown: str = ""
    sent: str | None = None
    better_text: str | None = None
    next_question: str | None = None
    """The question in other words, for ``reformulated``."""


class SealedText(PublicModel):
    """A ``FeedbackText``, encrypted so that the loss of one subject's key makes it unreadable."""

    text_id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    at: datetime
    subjects: tuple[str, ...] = Field(min_length=1, max_length=100)
    """``document:ID`` and ``patient:KEYED_HASH``, sorted; ``tenant:NAME`` where the words are of neither."""
    sealed: str
    """Base64 of nonce and AES-256-GCM ciphertext, under a key derived from the keys of all subjects."""


def feedback_schema() -> bytes:
    """Return the JSON Schema (2020-12) of one line of ``events/dt=YYYY-MM-DD/*.jsonl``."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **FeedbackEvent.model_json_schema(mode="serialization"),
        "title": f"Feedback event, schema version {FEEDBACK_VERSION}",
    }
    return orjson.dumps(schema, option=orjson.OPT_INDENT_2) + b"\n"


SCHEMAS = {"feedback.schema.json": feedback_schema}


@dataclass(frozen=True, slots=True)
class ReplacedText:
    """``PatientDataFilter.replace`` of "Call 555-123-4567" has the text "Call <PHONE_NUMBER>"."""

    text: str
    """With a placeholder such as ``<PHONE_NUMBER>`` in place of each finding."""
    found: dict[str, int]
    """Number of findings by kind: ``{"PHONE_NUMBER": 1}``."""
    member_numbers: tuple[str, ...]
    """Member numbers that stood in the text, as written: the words are sealed with these patients' keys."""


class PatientDataFilter(Protocol):
    """Finds patients' data in text and replaces it. The mover calls it in a thread, for one text at a time,
    before it seals the words of an event."""

    def replace(self, text: str) -> ReplacedText: ...
