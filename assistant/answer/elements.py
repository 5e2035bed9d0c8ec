"""Fills the live elements of an answer while its text is streamed.

An element is a value of a connected system, such as the status of an order; ``Hydration`` has those of one
answer. Each is read in a task of its own, which begins when the element is known. Text never waits for it.
Every read ends: by its source's limit, by the answer's deadline, or because the answer was cancelled.
``read_element`` is one read, also for a stored answer whose element is read again.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from assistant.answer.events import ElementChanged
from assistant.answer.excerpts import NO_LABELS, Labels
from assistant.answer.live_macs import LiveMacs
from assistant.answer.services import TenantServices
from assistant.domain.answers import LiveMatch, LiveMatchState
from assistant.domain.clock import Deadline
from assistant.domain.errors import AssistantError, DeadlineExceededError
from assistant.domain.live import (
    LONGEST_SHOWN,
    MOST_ELEMENTS,
    Caller,
    Element,
    ElementData,
    ElementDisplay,
    ElementKind,
    ElementProblem,
    ElementState,
    ElementType,
    ElementUse,
    Filled,
    LiveElements,
    LiveReadError,
)
from assistant.text.marks import EXCERPTS
from assistant.text.markup import label_of

_BLOCKS = frozenset({ElementKind.CARD, ElementKind.TABLE})
"""Kinds that a page shows as a block of their own, never inside a line."""
_RETRYABLE = frozenset(
    {ElementProblem.SYSTEM_UNAVAILABLE, ElementProblem.SYSTEM_LATE, ElementProblem.CANCELLED}
)
_UNANSWERED = frozenset({ElementProblem.SYSTEM_UNAVAILABLE, ElementProblem.SYSTEM_LATE})
"""Problems of a system that did not answer; other problems come with a message for the agent."""
_RUN_LIKE = re.compile(f"[{EXCERPTS.characters}]")
"""Characters that stand for documents' texts in a record: a value must bring none."""
_ENDS_ITSELF_WITHIN_S = 0.25
"""After its deadline, a fill has this long to say how it ended."""
NOT_KEPT = "The value is not kept. Read it again."
"""Shown in place of the value of a recorded answer's element."""
_log = structlog.get_logger(__name__)


def system_of(name: str) -> str:
    """Return the system of an element: "orders" of "orders.status"."""
    return name.partition(".")[0]


ReadOutcome = Filled | LiveReadError
"""How a read ended: with the element's data, or with the reason why there are none."""


@dataclass(slots=True, eq=False)
class LiveSlot:
    """One element of an answer; ``Hydration.placed`` has its place in the text."""

    type: ElementType
    outcome: ReadOutcome | None = None
    """None until its read ended, which may be before or after it gets its place. Only ``Hydration`` sets
    it, once."""

    @property
    def is_ready(self) -> bool:
        return isinstance(self.outcome, Filled)


@dataclass(frozen=True, slots=True)
class ReadyElement:
    """An element that needs no system: a table of documents' facts."""

    type: ElementType
    filled: Filled
    begins_before: int
    """The table replaces the words from this many characters before its block's text to the end of that."""


def element_of(
    kind: ElementType, *, element_id: str, display: ElementDisplay, outcome: ReadOutcome | None
) -> Element:
    """Return an element in the state of its outcome; None is pending."""
    return Element(
        id=element_id,
        name=kind.name,
        kind=kind.kind,
        title=kind.title,
        source=kind.source,
        display=display,
        **_state_fields(outcome),
    )


def _state_fields(outcome: ReadOutcome | None) -> dict[str, Any]:
    """Return the fields of ``Element`` that its outcome decides."""
    if outcome is None:
        return {"state": ElementState.PENDING}
    about = outcome.about[:LONGEST_SHOWN]
    if isinstance(outcome, Filled):
        data = _without_runs(outcome.data)
        return {"state": ElementState.READY, "as_of": outcome.as_of, "about": about, "data": data}
    is_refused = outcome.problem is ElementProblem.NOT_ALLOWED
    return {
        "state": ElementState.NOT_ALLOWED if is_refused else ElementState.FAILED,
        "about": about,
        "problem": outcome.problem,
        "detail": outcome.message[:LONGEST_SHOWN],
        "retryable": outcome.problem in _RETRYABLE,
    }


def _without_runs(data: ElementData) -> ElementData:
    """Return the data without ``_RUN_LIKE`` characters."""
    text = data.model_dump_json()
    if text.isascii() or not _RUN_LIKE.search(text):
        return data
    return ElementData.model_validate_json(_RUN_LIKE.sub("", text))


async def read_element(
    live: LiveElements,
    kind: ElementType,
    caller: Caller,
    *,
    deadline: Deadline,
) -> ReadOutcome:
    """Return what an element holds, or why it cannot be filled; it raises nothing."""
    try:
        # A fill ends itself and records that its system was late; cut off, it would say "cancelled".
        async with asyncio.timeout(deadline.remaining_s() + _ENDS_ITSELF_WITHIN_S):
            return await live.fill(kind.name, caller, deadline=deadline)
    except LiveReadError as error:
        return error
    except (TimeoutError, DeadlineExceededError):
        return LiveReadError(ElementProblem.SYSTEM_LATE, f"{kind.source} did not answer in time.")
    except Exception as error:  # noqa: BLE001 - an edge: a defect in a connector must not cost the text
        # The message may quote a value, so only the kind of error is logged.
        code = error.code if isinstance(error, AssistantError) else type(error).__name__
        _log.error("element_failed", element=kind.name, answer_id=caller.answer_id, error=code)
        return LiveReadError(ElementProblem.SYSTEM_UNAVAILABLE, f"{kind.source} could not be read.")


# Names and labels


def element_types(services: TenantServices) -> Mapping[str, ElementType]:
    """Return every live element of a tenant by name; empty without a live system."""
    live = services.live.elements
    return live.types() if live is not None else {}


def all_labels(services: TenantServices) -> Labels:
    """Return the labels of all elements by ``Tag.key``: "[order status]" for "orders.status" and for
    "status orders.status"."""
    return {
        key: label_of(element_type.title)
        for element_type in element_types(services).values()
        for key in (element_type.name, f"{element_type.kind} {element_type.name}")
    }


def labels_of(document_id: str, services: TenantServices) -> Labels:
    """Return the labels of the elements that a document may name: all, or none, as its source allows."""
    source = services.tenant.source_of(document_id) if element_types(services) else None
    return all_labels(services) if source is not None and source.elements else NO_LABELS


# The elements of one answer


@dataclass(frozen=True, slots=True)
class AskedElement:
    """A live element that answers one part of a message by itself."""

    part: int
    """Index of the part among the answer's evidence."""
    slot: LiveSlot


@dataclass(frozen=True, slots=True)
class AskedLive:
    """What a message asks of live systems."""

    matches: tuple[LiveMatch, ...]
    """How near the message is to each element, and whether this is read for it: for the record."""
    answering: tuple[AskedElement, ...]
    """The elements that are read for it: those of state READ, as far as ``MOST_ELEMENTS`` allows."""


class Hydration:
    """The elements of one answer. Bound to one event loop.

    Elements become known in three ways, each of which begins a read: the message asks for them (``ask``), the
    quoted text names them (``begin``), or a model's text names them (``slot_for``). Then each gets its place
    (``place_slot``), and its end is given to the reader (``change``, ``take``). ``cancel`` ends the reads
    that are left, at any time.

    Example::

        slot = hydration.begin("orders.status")  # the read is under way
        hydration.place_slot(slot, start=16, end=30)  # ElementChanged(id="e1", state="pending", …)
        await hydration.change()
        hydration.take()  # [slot]
        hydration.element(slot)  # Element(id="e1", state="ready", …)
    """

    def __init__(self, services: TenantServices, caller: Caller, *, deadline: Deadline) -> None:
        self.caller = caller
        self.placed: dict[LiveSlot, ElementDisplay] = {}
        """Elements with a place in the text, in the order in which they got it: the first is "e1"."""
        self._services, self._deadline = services, deadline
        self._subject = services.subject_of(caller.context)
        self._reads: dict[LiveSlot, asyncio.Task[None]] = {}
        """Reads that count for ``MOST_ELEMENTS``, with and without a place, in the order in which they
        began."""
        self._untold: list[LiveSlot] = []
        """Placed elements whose end was not given to the reader."""

    # Reads

    def ask(
        self,
        matched: Sequence[tuple[int, LiveMatch]],
        *,
        named: Collection[str] = (),
        answered: Collection[int] = (),
    ) -> AskedLive:
        """Begin the reads that parts of the message ask for.

        ``matched``: index of the part, and how near an element is to it; those in state READ are asked for.
        ``named``: elements of the quoted text, which are read anyway. ``answered``: indexes of the parts that
        a document answers.
        """
        decided = [
            (part, self._decided(match, is_named=match.element in named, is_answered=part in answered))
            for part, match in matched
        ]
        wanted = [(part, match.element) for part, match in decided if match.state is LiveMatchState.READ]
        begun = {name: self.begin(name) for name in dict.fromkeys(name for _, name in wanted)}
        slots = [(part, begun[name]) for part, name in wanted]
        return AskedLive(
            matches=tuple(match for _, match in decided),
            answering=tuple(AskedElement(part, slot) for part, slot in slots if slot is not None),
        )

    def _decided(self, match: LiveMatch, *, is_named: bool, is_answered: bool) -> LiveMatch:
        """Return a match as the record keeps it. Of one in state READ the first row decides that applies:

        | its element                                                            | state       |
        | is a customer's, no customer is there, and a document answers the part | NO_CUSTOMER |
        | is named by the quoted text                                            | SHOWN       |
        | is any other                                                           | READ        |

        NO_CUSTOMER is for an agent who asks for a rule, and would only see that a read is not allowed.
        """
        if match.state is not LiveMatchState.READ:
            return match
        is_about_nobody = is_answered and self.caller.context is None
        if is_about_nobody and element_types(self._services)[match.element].needs_context:
            return match.model_copy(update={"state": LiveMatchState.NO_CUSTOMER})
        return match.model_copy(update={"state": LiveMatchState.SHOWN}) if is_named else match

    def begin(self, name: str) -> LiveSlot | None:
        """Begin to read an element; None where the answer has ``MOST_ELEMENTS`` already, or the tenant has no
        live system."""
        live = self._services.live.elements
        if live is None or self._is_full:
            return None
        slot = LiveSlot(live.types()[name])
        self._reads[slot] = asyncio.create_task(self._fill(live, slot))
        return slot

    def slot_for(self, name: str, *, but: Collection[LiveSlot] = ()) -> LiveSlot | None:
        """Return the first read of an element that has no place yet, else begin a new one. ``but``: reads
        that the caller will place already. None as from ``begin``."""
        unplaced = (slot for slot in self._unplaced() if slot.type.name == name and slot not in but)
        return next(unplaced, None) or self.begin(name)

    def cancel(self) -> None:
        """End all reads: those that have not ended fail, with the problem CANCELLED. A slot that has no place
        yet may still get one."""
        for slot, task in self._reads.items():
            task.cancel()
            self._end(slot, LiveReadError(ElementProblem.CANCELLED, "The answer was ended before."))

    async def _fill(self, live: LiveElements, slot: LiveSlot) -> None:
        limit_s = min(slot.type.limit_s, self._deadline.remaining_s())
        deadline = Deadline.after(limit_s, clock=self._deadline.clock)
        self._end(slot, await read_element(live, slot.type, self.caller, deadline=deadline))

    def _end(self, slot: LiveSlot, outcome: ReadOutcome) -> None:
        """Give a slot its outcome; a second one changes nothing."""
        slot.outcome = slot.outcome or outcome

    def _unplaced(self) -> list[LiveSlot]:
        return [slot for slot in self._reads if slot not in self.placed]

    @property
    def _is_full(self) -> bool:
        return len(self._unplaced()) + len(self.placed) >= MOST_ELEMENTS

    # Places

    def place_slot(self, slot: LiveSlot, *, start: int, end: int) -> ElementChanged:
        """Give an element its place, or move it: [start, end) of its label in the answer's text. ``start``
        equal to ``end``: it has no label. Return its event, pending."""
        if slot not in self.placed:
            self._untold.append(slot)
        is_block = slot.type.kind in _BLOCKS or start == end
        place = "block" if is_block else "inline"
        self.placed[slot] = ElementDisplay(place=place, start=start, end=end)
        return ElementChanged(**dict(self._element(slot, None)))

    def show(self, ready: ReadyElement, *, start: int, end: int) -> ElementChanged | None:
        """Place a table that is made from documents, and return its event, ready; None where the answer has
        ``MOST_ELEMENTS``."""
        if self._is_full:
            return None
        slot = LiveSlot(ready.type, outcome=ready.filled)
        self.placed[slot] = ElementDisplay(place="block", start=start, end=end)
        return ElementChanged(**dict(self.element(slot)))

    def _element(self, slot: LiveSlot, outcome: ReadOutcome | None) -> Element:
        element_id = f"e{list(self.placed).index(slot) + 1}"
        return element_of(slot.type, element_id=element_id, display=self.placed[slot], outcome=outcome)

    # What the reader gets

    @property
    def is_waiting(self) -> bool:
        """Whether the reader has not been given the end of an element of the text."""
        return bool(self._untold)

    async def change(self) -> None:
        """Wait until an element has ended that ``take`` has not returned; one there must be."""
        reads = [self._reads[slot] for slot in self._untold]
        await asyncio.wait(reads, return_when=asyncio.FIRST_COMPLETED)

    def take(self) -> list[LiveSlot]:
        """Return the placed elements that ended since the last call."""
        ended = [slot for slot in self._untold if slot.outcome is not None]
        self._untold = [slot for slot in self._untold if slot.outcome is None]
        return ended

    def element(self, slot: LiveSlot) -> Element:
        """Return a placed element in its present state, as an event or a page shows it. A ready one of a
        system has its texts, signed for the agent who asks."""
        element, answer_id = self._element(slot, slot.outcome), self.caller.answer_id
        if answer_id is None or not (slot.is_ready and slot.type.operation):
            return element
        return LiveMacs(self._services, answer_id, self.caller.identity.agent).with_texts(element)

    # What the record keeps

    @property
    def reads_another(self) -> bool:
        """Whether a read element is of something else than the question names: another order."""
        return any(slot.outcome is not None and slot.outcome.is_of_another for slot in self.placed)

    def uses(self) -> tuple[ElementUse, ...]:
        """Return what the record keeps of the placed elements: no values, and no parameters."""
        return tuple(
            use_of(self.element(slot), operation=slot.type.operation or None).model_copy(
                update={"subject": self._subject}
            )
            for slot in self.placed
        )


_KEPT = ("id", "name", "kind", "state", "title", "source", "as_of", "problem", "display")
"""Fields that ``Element`` and ``ElementUse`` share."""


def kept_element(use: ElementUse) -> Element:
    """Return an element of a recorded answer. Its values are not kept, so a ready one has no data."""
    is_ready = use.state is ElementState.READY
    return Element(
        **{name: getattr(use, name) for name in _KEPT},
        detail=NOT_KEPT if is_ready and use.operation else "",
        retryable=use.operation is not None and (is_ready or use.problem in _RETRYABLE),
    )


def use_of(element: Element, *, operation: str | None = None) -> ElementUse:
    """Return what a record keeps of an element. One that has not ended is one whose answer was cut off."""
    use = ElementUse(**{name: getattr(element, name) for name in _KEPT}, operation=operation)
    if element.state is not ElementState.PENDING:
        return use
    return use.model_copy(update={"state": ElementState.FAILED, "problem": ElementProblem.CANCELLED})


# How the systems answered


def why_not_answered(asked: Sequence[AskedElement]) -> str | None:
    """Return in words why live systems gave no answer; None where none failed."""
    messages = (
        f"{element.slot.type.source} did not answer." if error.problem in _UNANSWERED else error.message
        for element in asked
        if isinstance(error := element.slot.outcome, LiveReadError)
    )
    return " ".join(dict.fromkeys(messages)) or None


def what_is_missing(asked: Sequence[AskedElement]) -> str | None:
    """Return a question to the agent for a parameter that neither context nor question has ("Which order?"),
    or None."""
    errors = [outcome for element in asked if isinstance(outcome := element.slot.outcome, LiveReadError)]
    missing = (error.message for error in errors if error.problem is ElementProblem.PARAMETER_MISSING)
    return next(missing, None)
