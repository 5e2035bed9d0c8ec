"""Trial of pasted chats: whether the right question is asked first."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from assistant.answer.chat import ReadChat, Said
from assistant.answer.readers import questions_of
from assistant.answer.services import TenantServices
from assistant.answer.sources import SearchScope, SourceSearch
from assistant.answer.take import AnswerRequest
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.clock import Deadline
from assistant.domain.public import PublicModel
from assistant.evaluation.measures import Judged

_DEADLINE_S = 60.0
_LEAST_PART, _LEAST_LINE = 3, 8
"""Characters: shorter texts stand in others by chance."""


class WrittenChat(PublicModel):
    """One line of ``evaluation/chats/*.jsonl``; its README has the fields."""

    id: str
    knowledge: str
    text: str
    turns: tuple[Said, ...]
    open: tuple[tuple[str, ...], ...]
    """At least one."""
    asks_reply: bool
    question: str

    def asks(self, text: str) -> bool:
        """Return whether a text holds a message of an open question, or is a part of it."""
        return any(_is_of(text, parts) for parts in self.open)

    def is_right(self, question: str) -> bool:
        """Return whether a question is of the first open one, and has no line of the agent."""
        others = (turn.text for turn in self.turns if turn.who in ("agent", "note"))
        lines = (
            line for text in others for line in map(_one_spaced, text.split("\n")) if len(line) > _LEAST_LINE
        )
        return _is_of(question, next(iter(self.open))) and not any(
            line in _one_spaced(question) for line in lines
        )


class GoingOn(PublicModel):
    """One line of ``evaluation/chats/several.jsonl``."""

    text: str
    goes_on: bool
    """Whether it goes on with several things that were named above it."""


def _one_spaced(text: str) -> str:
    return " ".join(text.split()).casefold()


def _is_of(text: str, parts: Iterable[str]) -> bool:
    own = _one_spaced(text)
    return any(part in own or (len(own) > _LEAST_PART and own in part) for part in map(_one_spaced, parts))


async def read_chats(services: TenantServices, chats: Sequence[WrittenChat]) -> list[Judged]:
    """Return what is asked first of each pasted chat."""
    chat, vocabulary = ReadChat(services, SourceSearch(services)), Vocabulary.of(services.tenant)
    judged: list[Judged] = []
    for written in chats:
        scope = SearchScope.untraced(Deadline.after(_DEADLINE_S, clock=services.clock))
        read = await chat.read(AnswerRequest(question=written.text), scope)
        first, *more = questions_of(read.text, vocabulary=vocabulary) if read else ("",)
        is_right = written.is_right(first)
        said = sum(len(turn.text.split()) for turn in written.turns if turn.who == "customer")
        asked = "asked, found" if written.asks_reply else "not asked, found"
        values = {
            "right question first": float(is_right),
            "customer's words that are searched": len(" ".join((first, *more)).split()) / said,
            f"replies that are {asked}": float(read is not None and read.asks_reply),
        }
        if second := written.open[1:2]:
            values["second questions with a heading"] = float(any(_is_of(each, *second) for each in more))
        miss = "" if is_right else f"{first} | {written.open}"
        judged.append(Judged(written.id, written.id, values, miss))
    return judged
