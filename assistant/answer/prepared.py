"""What is known of an answer when its first event is due: ``AnswerQuestion.prepare`` makes it, ``stream``
reads it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from assistant.answer.elements import AskedLive, Hydration
from assistant.answer.events import Cause
from assistant.answer.index_watch import IndexState
from assistant.answer.prompt import Prompt
from assistant.answer.quote import Quote
from assistant.answer.read import Queries
from assistant.answer.services import Interruption
from assistant.answer.sources import SearchScope
from assistant.answer.take import Question
from assistant.domain.answers import RedFlag


@dataclass(frozen=True, slots=True)
class Run:
    """What goes on while an answer is made: its deadline and timed steps, its live reads, its
    interruption."""

    scope: SearchScope
    hydration: Hydration
    interruption: Interruption = field(default_factory=Interruption)

    def cancel(self, cause: Literal[Cause.CANCELLED, Cause.DISCONNECTED]) -> None:
        """End the answer at once, from any task of the same event loop; a second call changes nothing."""
        self.interruption.interrupt(cause)
        self.hydration.cancel()


@dataclass(frozen=True, slots=True)
class PreparedAnswer:
    """An answer whose documents were found and whose text is not written yet."""

    question: Question
    queries: Queries
    prompt: Prompt | None
    """None when no model writes, for a reason that ``BuildPrompt.run`` names."""
    quote: Quote
    """The quoted answer. Where a model writes, only the documents and the numbers of the prompt
    (``Quote.of_prompt``): ``stream`` makes the whole quote while the model prepares its first token."""
    live: AskedLive
    red_flags: tuple[RedFlag, ...]
    index: IndexState
    """Whether the index has all documents, when the answer was prepared."""
    run: Run

    @property
    def answer_id(self) -> str:
        return self.question.begun.answer_id
