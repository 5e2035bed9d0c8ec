"""Trial of pasted chats: whether the right question is asked first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field

from assistant.answer.chat import ReadChat
from assistant.answer.readers import questions_of
from assistant.answer.services import TenantServices
from assistant.answer.sources import SearchScope, SourceSearch
from assistant.answer.take import AnswerRequest
from assistant.answer.vocabulary import Vocabulary
from assistant.domain.clock import Deadline
from assistant.domain.public import PublicModel
from assistant.evaluation.measures import Judged

_DEADLINE_S = 60.0


class WrittenTurn(PublicModel):
    who: Literal["customer", "agent", "system", "note"]
    text: str


class WrittenChat(PublicModel):
    """One line of ``evaluation/chats/*.jsonl``; its README has the fields."""

    id: str
    knowledge: str
    text: str
    turns: tuple[WrittenTurn, ...]
    open: Annotated[tuple[tuple[str, ...], ...], Field(min_length=1)]
    asks_reply: bool
    question: str

    def who(self, text: str) -> str:
        """Return who wrote most of a text."""
        folded = one_spaced(text)
        shared = {"system": 0}
        for turn in self.turns:
            own = one_spaced(turn.text)
            if own in folded or (len(folded) > _LEAST_PART and folded in own):
                shared[turn.who] = shared.get(turn.who, 0) + min(len(own), len(folded))
        return max(shared, key=shared.__getitem__)

    def asks(self, text: str) -> bool:
        """Return whether a sentence is part of an open question."""
        return any(_has(text, part) for parts in self.open for part in parts)

    def is_right(self, question: str) -> bool:
        """Return whether a question holds a message of the first open one, or is a part of it, and has no
        line of the agent."""
        folded = one_spaced(question)
        others = (turn.text for turn in self.turns if turn.who in ("agent", "note"))
        lines = (one_spaced(line) for text in others for line in text.split("\n"))
        is_mixed = any(len(line) > _LEAST_LINE and line in folded for line in lines)
        return not is_mixed and any(_has(question, part) for part in next(iter(self.open)))


_LEAST_PART, _LEAST_LINE = 3, 8
"""Characters: shorter texts stand in others by chance."""


def one_spaced(text: str) -> str:
    """Return a text with white space and case made one."""
    return " ".join(text.split()).casefold()


def _has(text: str, part: str) -> bool:
    folded, own = one_spaced(text), one_spaced(part)
    return own in folded or (len(folded) > _LEAST_PART and folded in own)


async def read_chats(services: TenantServices, chats: Sequence[WrittenChat]) -> list[Judged]:
    """Return what is asked first of each pasted chat."""
    chat, vocabulary = ReadChat(services, SourceSearch(services)), Vocabulary.of(services.tenant)
    judged: list[Judged] = []
    for written in chats:
        scope = SearchScope.untraced(Deadline.after(_DEADLINE_S, clock=services.clock))
        read = await chat.read(AnswerRequest(question=written.text), scope)
        text, asks_reply = (read.text, read.asks_reply) if read else ("", False)
        questions = questions_of(text, vocabulary=vocabulary)
        is_right = bool(text) and written.is_right(questions[0])
        said = sum(len(turn.text.split()) for turn in written.turns if turn.who == "customer")
        values = {
            "right question first": float(is_right),
            "customer's words that are searched": len(text.split()) / said,
        }
        if written.asks_reply:
            values["replies that are asked, found"] = float(asks_reply)
        else:
            values["replies found that are not asked"] = float(asks_reply)
        if len(written.open) > 1:
            _, second, *_ = written.open
            headed = [any(_has(each, part) for part in second) for each in questions]
            values["second questions that are searched, too"] = float(any(headed))
            values["second questions with a heading of their own"] = float(any(headed[1:]))
        miss = "" if is_right else f"{questions} | {next(iter(written.open))}"
        judged.append(Judged(written.id, written.id, values, miss))
    return judged
