"""Searches what the model's reading of a conversation asks for, beside what its own words find."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from assistant.answer.ask_json import Told
from assistant.answer.call import AnswerCall
from assistant.answer.embed import EmbedTexts
from assistant.answer.find import FindDocuments, Finding
from assistant.answer.message import PartQuery
from assistant.answer.read_model import ModelReading
from assistant.domain.errors import DependencyError, OverloadedError

_LONGEST_READING_S = 1.5
"""How long an answer waits for the model's reading of the conversation."""


class ReadingBeside:
    """The model's reading of one conversation, which goes on beside the answer."""

    def __init__(self, reading: asyncio.Task[Told[ModelReading] | None]) -> None:
        self._reading = reading

    @property
    def told(self) -> Told[ModelReading] | None:
        """What the model said; None while it has not, or where it failed."""
        is_there = self._reading.done() and not self._reading.cancelled()
        return self._reading.result() if is_there else None

    async def wait(self) -> Told[ModelReading] | None:
        """Return what the model says within 1.5 s."""
        await asyncio.wait((self._reading,), timeout=_LONGEST_READING_S)
        return self.told

    def cancel(self) -> None:
        self._reading.cancel()


@dataclass(frozen=True, slots=True)
class WidenSearch:
    """Finds documents by the searches that a model's reading names.

    Example::

        asked = await widen.run(reading, findings, call)  # of "Can an order with cold items be split?"
    """

    embed: EmbedTexts
    find: FindDocuments

    async def run(
        self, reading: ReadingBeside, findings: Sequence[Finding], call: AnswerCall
    ) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
        """Return what is found by each search, and the steps that were left out: the reading where it is
        late, the searches where one fails. ``findings``: by the conversation's own words."""
        told = await reading.wait()
        if told is None:
            return (), ("reading by the model",)
        queries, known = tuple(dict.fromkeys(told.value.queries)), findings[0].query.known
        if not queries:
            return (), ()
        try:
            vectors = await self.embed.run(queries, call)
            parts = [PartQuery(text, vectors[text], known=known) for text in queries]
            return tuple(await self.find.run(parts, call)), ()
        except (DependencyError, OverloadedError):
            return (), ("searches of the model",)
