"""What is planned for an answer, and how a plan is sent.

``AnswerQuestion.prepare`` chooses one plan: ``Written``, ``Quoted`` or ``Nothing``. A plan is frozen. What is
made of it while it is sent is in an ``InProgress``, of an answer (``in_progress.py``) or of a reply; ``send``
yields its events and keeps its record.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Protocol

from assistant.answer.call import AnswerCall
from assistant.answer.elements import AskedLive, Hydration
from assistant.answer.events import AnswerEvent, Checked, Done, Preview, Problem, RedFlags, Sources, Started
from assistant.answer.find import Finding
from assistant.answer.prompt import Prompt
from assistant.answer.question import RECORDS_TIMEOUT_S, Question
from assistant.answer.read import MessageReading, RaisedFlags
from assistant.answer.record import RecordWriter
from assistant.answer.section import Quote
from assistant.answer.widen import ReadingBeside
from assistant.domain.answers import AnswerRecord, BegunAnswer, EndedAnswer
from assistant.stores.index.watch import IndexState


@dataclass(frozen=True, slots=True)
class Basis:
    """What an answer rests on, whoever gives its text."""

    question: Question
    reading: MessageReading
    red_flags: RaisedFlags
    index: IndexState
    """Whether the index has all documents, when the answer was prepared."""
    live: AskedLive
    """What the message asks of live systems."""
    hydration: Hydration
    """The reads of live systems, which go on while the answer is sent."""
    degraded: tuple[str, ...]
    """Steps that were left out while it was read and searched."""
    call: AnswerCall
    read: ReadingBeside | None = None
    """What the model says of the conversation; None where it is not asked."""


@dataclass(frozen=True, slots=True)
class _OnBasis:
    basis: Basis

    @property
    def call(self) -> AnswerCall:
        return self.basis.call


@dataclass(frozen=True, slots=True)
class Written(_OnBasis):
    """A model writes the text. Where none of it can be shown, the plan is ``Quoted`` after all, or
    ``Nothing``, as the model says."""

    findings: tuple[Finding, ...]
    """From which the quote is made while the model prepares its first token."""
    prompt: Prompt
    """Of these findings; of others where ``widens``, once the model has named its searches."""
    answer: str
    """The last answer, as far as the model may read it."""
    widens: bool = False
    """Whether the searches of ``basis.read`` are awaited before the text is begun."""


@dataclass(frozen=True, slots=True)
class Quoted(_OnBasis):
    """A section of a document is the text, or what an option has in its place."""

    quote: Quote
    instead_of: str | None = None
    """Code of what failed, where a model's text was to be shown."""


@dataclass(frozen=True, slots=True)
class Nothing(_OnBasis):
    """No document answers; a live system may."""

    quote: Quote
    """With the sources that were found."""
    why: str
    """In words for the agent."""


Plan = Written | Quoted | Nothing


class InProgress(Protocol):
    """An answer or a reply while it is sent. ``begun`` and ``ended`` may be called at any time; after
    ``ended`` no more is shown."""

    call: AnswerCall

    def started(self, *, resumable: bool) -> Started: ...

    def open(self) -> AsyncGenerator[Preview | RedFlags | Sources, None]:
        """Begin, and yield the sources; before them a preview, where they take a while."""
        ...

    def begun(self) -> BegunAnswer:
        """Return the first half of the record, as far as it is known."""
        ...

    def events(self) -> AsyncGenerator[AnswerEvent, None]:
        """Yield what follows the sources, but for the last event."""
        ...

    def ended(self) -> EndedAnswer:
        """Return the second half of the record, and end the trace."""
        ...

    def last_event(self, ended: EndedAnswer, *, recorded: bool) -> Done | Problem | None:
        """Return the event that ends the stream; None when nobody reads it."""
        ...

    async def checked(self) -> Checked | None:
        """Return what a model says of the sentences, once it has; None where none checks them. After the last
        event: the agent reads meanwhile."""
        ...

    def leave(self) -> None:
        """Note that nobody reads the events any more."""
        ...

    async def close(self) -> None:
        """Close the connection to the model."""
        ...


async def send(
    progress: InProgress, records: RecordWriter, *, resumable: bool = False
) -> AsyncGenerator[AnswerEvent, None]:
    """Yield started, preview?, red_flags?, sources, (token | sentence | element)*, done or error, checked?;
    once for each answer.

    Elements that end are sent between the texts, or after them. All have ended before ``done``.

    The record is written twice. First between the sources and the text, which waits 0.1 s for it at most:
    an agent who read any text is on record, also if this process dies, unless the store was slower. Then
    before the last event: a client that saw ``done`` can mark the answer. While the store fails, ``done``
    has ``recorded`` false, and the record is written later.

    | what ends the stream early                        | last event              | counts as    |
    | ``call.cancel(CANCELLED)``                        | error, code `cancelled` | cancelled    |
    | ``call.cancel(DISCONNECTED)``                     | none                    | disconnected |
    | the reading task is cancelled, generator closed   | none                    | disconnected |

    Each closes the endpoint's connection and writes the record. The reader must close the generator
    (``contextlib.aclosing``). A stream that was never begun leaves no record.
    """
    begun, ended = None, None
    try:
        async with aclosing(progress.open()) as opening:
            first = await anext(opening)  # before ``started``, so that little lies between it and the record
            yield progress.started(resumable=resumable)
            yield first
            async for event in opening:
                yield event
        begun = progress.begun()
        await records.begin(begun, within_s=progress.call.deadline.remaining_s() + RECORDS_TIMEOUT_S)
        async with aclosing(progress.events()) as events:
            async for event in events:
                yield event
        ended = progress.ended()
        begun = progress.begun()  # with the emergencies that a model named meanwhile
        is_written = await records.write(AnswerRecord.of(begun, ended))
        if last := progress.last_event(ended, recorded=is_written):
            yield last
        if checked := await progress.checked():
            await records.append_check(begun, checked)
            yield checked
    except (asyncio.CancelledError, GeneratorExit):
        progress.leave()
        raise
    finally:
        await progress.close()
        if ended is None:  # left, cancelled or failed before its end: the record says how far it came
            begun = begun or progress.begun()
            await records.write(AnswerRecord.of(begun, progress.ended()))
