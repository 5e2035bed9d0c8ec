"""The conversation that a question belongs to, as every prompt reads it: quoted as data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from assistant.answer.quoting import quoted
from assistant.domain.answers import MAX_QUESTION_CHARACTERS

Speaker = Literal["customer", "agent", "system"]
_NAMES: Mapping[Speaker, str] = {"customer": "Customer", "agent": "Agent", "system": "System"}
_GONE = "(earlier messages are left out)"
_SEARCHED_WORDS = 90
"""The customer's last words that are searched. Of 53 conversations by two writers the right document is among
five for 42, with 45 words for 36, with all words for 44; with open questions chosen by heads for 40."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message of a conversation."""

    who: Speaker
    text: str
    at: datetime | None = None

    @property
    def line(self) -> str:
        """The message on one line, neutralised: "Customer (09:12): box came wet"."""
        at = f" ({self.at:%H:%M})" if self.at is not None else ""
        return f"{_NAMES[self.who]}{at}: {quoted(self.text)}"


@dataclass(frozen=True, slots=True)
class Conversation:
    """Who said what, and what the agent asks of it. A single question is a conversation of one turn.

    It has no live values.
    """

    turns: tuple[Turn, ...]
    """With the customer, oldest first; empty where the agent asks without a chat."""
    asked: str = ""
    """The agent's own words to the assistant; empty where the last turn is what is to be answered."""
    asked_before: tuple[str, ...] = ()
    """The agent's questions before, oldest first."""
    answer: str = ""
    """The last answer that the agent got."""

    @property
    def newest(self) -> str:
        """What the customer wrote since the agent's last message; empty without a chat, and where that
        message asks something: "yes" answers it."""
        at = max((n for n, turn in enumerate(self.turns) if turn.who == "agent"), default=-1)
        if at >= 0 and "?" in self.turns[at].text:
            return ""
        return "\n".join(turn.text for turn in self.turns[at + 1 :] if turn.who == "customer")

    @property
    def searched(self) -> str:
        """What is searched: the customer's last words, then the agent's own question."""
        kept, words = list[str](), 0
        for turn in reversed(self.turns):
            if turn.who == "customer":
                words += len(turn.text.split())
                if kept and words > _SEARCHED_WORDS:
                    break
                kept.append(turn.text)
        return "\n".join(filter(None, (*reversed(kept), self.asked)))

    @property
    def said(self) -> str:
        """The agent's words and all of the customer's; only the last characters of a long chat."""
        customer = (turn.text for turn in self.turns if turn.who == "customer")
        return "\n".join((self.asked, *customer))[-MAX_QUESTION_CHARACTERS:].strip()

    @property
    def words(self) -> str:
        """All words of customer and agent, and what is asked."""
        return "\n".join((*self.asked_before, *(turn.text for turn in self.turns), self.asked))

    def block(
        self,
        *,
        company: str,
        today: date | None,
        meanings: Mapping[str, str],
        days: Sequence[str],
        count: Callable[[str], int],
        most_tokens: int,
    ) -> str:
        """Return the conversation for a prompt, of ``most_tokens`` at most: the oldest turns are left out
        first, then the last answer; what is asked last always stands there.

        ``meanings``: words of the company and what they mean. ``days``: sentences on its dates. ``today``:
        None where days are not counted.
        """
        head = [f"The company: {quoted(company)}."]
        if today is not None:
            head.insert(0, f"Today is {today:%A}, {today.day} {today:%B %Y}.")
        if meanings:
            told = "; ".join(f'"{quoted(word)}" is {quoted(meant)}' for word, meant in meanings.items())
            head.append(f"Words of the company: {told}.")
        head += days
        passes_on = "" if self.turns else ", or passes on what a customer wrote"
        whose = f"The agent asks you{passes_on}"
        asked = [f"{whose}: {quoted(self.asked)}"] if self.asked else []
        before = [f"The agent asked before: {quoted(question)}" for question in self.asked_before]
        answer = [f"Your last answer to the agent: {quoted(self.answer)}"] if self.answer else []
        room = most_tokens - count("\n".join((*head, _GONE, *asked)))
        kept: list[str] = []
        for line in reversed([*before, *answer, *(turn.line for turn in self.turns)]):
            room -= count(line)
            if room < 0 and kept:
                kept.append(_GONE)
                break
            kept.append(line)
        lines = kept[::-1]
        return "\n".join((" ".join(head), "", *_quoted(lines), *asked))


def _quoted(lines: Sequence[str]) -> list[str]:
    return ["The conversation:", "<conversation>", *lines, "</conversation>", ""] if lines else []
