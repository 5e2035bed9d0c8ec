"""What is asked, and what stands ready to be streamed once it was prepared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from assistant.answering.evidence import Evidence
from assistant.answering.excerpts import Excerpts
from assistant.answering.interruption import Cause, Interruption
from assistant.answering.prompting import Prompt
from assistant.answering.steps import Steps
from assistant.domain.answers import AlsoPossible, Certainty, Correction, RecordId, Source
from assistant.domain.clock import Deadline
from assistant.domain.documents import Passage
from assistant.domain.identity import Identity
from assistant.domain.public import PublicModel
from assistant.domain.retrieval import RankedPassage, SearchFilters

MAX_QUESTION_CHARACTERS = 4_000
MAX_EARLIER_CHARACTERS = 1_000
"""Of the question before a follow-up: it takes room of the passages."""


class AnswerRequest(PublicModel):
    """A question of a care agent: the body of ``POST /v1/answers``."""

    question: Annotated[
        str, StringConstraints(strip_whitespace=True, min_length=1, max_length=MAX_QUESTION_CHARACTERS)
    ]
    conversation_id: RecordId | None = None
    """A conversation of the same agent; a new one is begun when absent."""
    filters: SearchFilters = SearchFilters()
    max_tokens: int | None = Field(default=None, ge=1)
    """Longest answer in tokens; the tenant's own limit stands above it."""
    resume_window_s: int = Field(default=0, ge=0, le=30)
    """How long the answer goes on without a reader, for one that comes back; at 0 leaving ends it."""

    @property
    def question_before(self) -> str | None:
        """The question that this one follows, where no record has it."""
        return None


class FollowUpRequest(AnswerRequest):
    """A question of a conversation that only its client knows, as chats of OpenAI's form are."""

    earlier_question: Annotated[str, StringConstraints(min_length=1, max_length=MAX_EARLIER_CHARACTERS)]

    @property
    def question_before(self) -> str | None:
        return self.earlier_question


@dataclass(frozen=True, slots=True)
class QuotedBlock:
    """One unit as it is streamed."""

    before: str
    """Markdown between the unit before and this one: blank lines, a heading, a list marker."""
    text: str
    passage: Passage
    span: tuple[int, int]
    """[start, end) in the document's parsed text."""
    n: int
    """Number of the source that it stands in."""


@dataclass(frozen=True, slots=True)
class QuotedAnswer:
    """The quoted answer, ready: the answer itself, or what takes the place of written text that fails."""

    blocks: tuple[QuotedBlock, ...]
    also: tuple[AlsoPossible, ...]
    reply_draft: str | None


@dataclass(slots=True)
class PreparedAnswer:
    """An answer whose sources are known and whose text is not yet written."""

    answer_id: str
    conversation_id: str
    identity: Identity
    request: AnswerRequest
    evidence: tuple[Evidence, ...]
    """One for each question that was asked: of a double question two. Never empty."""
    corrections: tuple[Correction, ...]
    asked_at: datetime
    started_s: float
    """Monotonic clock when the question came in."""
    deadline: Deadline
    shown: tuple[RankedPassage, ...]
    """The sources, in the order of their numbers."""
    make_sources: Callable[[], tuple[Source, ...]]
    """What the agent is shown; made while the model is waited for."""
    excerpts: Excerpts
    """What is shown of documents; complete when ``make_sources`` was called."""
    certainty: Certainty | None
    """None: not in the knowledge base."""
    quoted: QuotedAnswer
    clarify: str | None
    escalation: str | None
    """Whom to ask, told where the answer turns out to be less than sure."""
    prompt: Prompt | None
    """None when nothing is written by a model: it may not, or there is no evidence."""
    max_tokens: int
    steps: Steps
    interruption: Interruption = field(default_factory=Interruption)

    @property
    def retrieval_question(self) -> str:
        """What was searched."""
        return "\n".join(dict.fromkeys(one.searched for one in self.evidence))

    def cancel(self, cause: Literal[Cause.CANCELLED, Cause.DISCONNECTED]) -> None:
        """End the stream at once, from any task of the same event loop; a second call changes nothing."""
        self.interruption.interrupt(cause)
