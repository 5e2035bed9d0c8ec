"""Lets the model that writes check every sentence that an agent or a patient reads, against the lines that it
rests on, each with its document's title and heading.

Code keeps what it is sure of: values and persons that nothing names (``support``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from assistant.answer.ask_json import AsksModel, Told, ask_json
from assistant.answer.prompt import fill_slots, load_prompt
from assistant.answer.quoting import quoted
from assistant.domain.clock import Deadline
from assistant.domain.public import PublicModel
from assistant.stores.ports import ChatMessage

PROMPT = "check/2"
_TOKENS_A_VERDICT = 48
"""Of the JSON of one verdict, without the words that it copies from the sentence."""


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A unit of a document, as a model reads it."""

    title: str
    heading: str
    text: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A sentence to check."""

    text: str
    lines: tuple[int, ...] = ()
    """Places of the lines that it cites; empty: it may rest on any."""


class Verdict(PublicModel):
    """The model's judgement of one sentence:
    ``{"n": 2, "line": 1, "words": "90 days", "verdict": "opposite"}``."""

    n: int
    line: int | None
    """Number of the line that decides, from 1; None where none does."""
    words: str
    """What is wrong, copied from the sentence; empty where it is held."""
    verdict: Literal["held", "not_held", "opposite"]


class Verdicts(PublicModel):
    """Of each sentence of the prompt, in order."""

    sentences: tuple[Verdict, ...]


def shown_lines(lines: Sequence[SourceLine], *, numbered: bool) -> str:
    """Return the lines below their document and heading: "“Refill too soon”, By mail:"."""
    shown: list[str] = []
    places = list(enumerate(lines, start=1))
    for (title, heading), group in groupby(places, key=lambda place: (place[1].title, place[1].heading)):
        shown.append(f"“{quoted(title)}”" + (f", {quoted(heading)}" if heading else "") + ":")
        shown += (f"{f'{n}.' if numbered else '-'} {quoted(line.text)}" for n, line in group)
    return "\n".join(shown)


class CheckByModel:
    """Checks sentences by one model.

    Example::

        lines = [SourceLine("Appeals", "Part D", "A member has 60 days to appeal.")]
        told = await check.run([Claim("You have 90 days.", (0,))], lines, conversation=block, deadline=limit)
        told.value.sentences  # (Verdict(n=1, line=1, words="90 days", verdict="opposite"),)
    """

    def __init__(self, services: AsksModel) -> None:
        self._services, self._template = services, load_prompt(PROMPT)

    async def run(
        self,
        claims: Sequence[Claim],
        lines: Sequence[SourceLine],
        *,
        conversation: str,
        deadline: Deadline,
    ) -> Told[Verdicts] | None:
        """Return a verdict for each claim; None where the model gave none in time, or of other sentences.
        ``conversation``: its block."""
        sentences = "\n".join(_numbered(claims))
        slots = {
            "conversation": conversation,
            "lines": shown_lines(lines, numbered=True),
            "sentences": sentences,
        }
        system = ChatMessage("system", self._template.system)
        count = self._services.writer.token_counter.count
        told = await ask_json(
            self._services,
            (system, ChatMessage("user", fill_slots(self._template, slots))),
            Verdicts,
            max_tokens=count(sentences) + _TOKENS_A_VERDICT * (len(claims) + 1),
            deadline=deadline,
            failure="sentences_not_checked",
        )
        if told is None:
            return None
        verdicts = told.value.sentences
        is_whole = [verdict.n for verdict in verdicts] == list(range(1, len(claims) + 1))
        are_known = all(verdict.line is None or 1 <= verdict.line <= len(lines) for verdict in verdicts)
        return told if is_whole and are_known else None


def _numbered(claims: Iterable[Claim]) -> Iterable[str]:
    for number, claim in enumerate(claims, start=1):
        cited = f" (cites {', '.join(str(place + 1) for place in claim.lines)})" if claim.lines else ""
        yield f"{number}. {quoted(claim.text)}{cited}"
