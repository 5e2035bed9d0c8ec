"""Fills the live elements of an answer while its text is streamed.

An element is a value of a connected system, such as the status of an order; ``Hydration`` has those of one
answer. Each is read in a task of its own, which begins when the element is known. Text never waits for it.
Every read ends: by its source's limit, by the answer's deadline, or because the answer was cancelled.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace

import structlog

from assistant.answer.events import Cause, ElementChanged
from assistant.answer.excerpts import NO_LABELS, Labels
from assistant.answer.services import TenantServices
from assistant.answer.sources import SearchScope
from assistant.domain.answers import LiveMatch, LiveMatchState, SourceAsked
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
    ElementRow,
    ElementState,
    ElementType,
    ElementUse,
    ElementValue,
    Filled,
    LiveElements,
    LiveReadError,
)
from assistant.option import Place
from assistant.text.markup import label_of

MOST_CALLS = 1_024
"""Elements of one tenant in this process that are read at once; the others wait within their limit."""
MOST_CALLS_A_SYSTEM = 256
"""As many as a system's requests in progress: each element may be a request."""
_BLOCKS = frozenset({ElementKind.CARD, ElementKind.TABLE})
"""Kinds that a page shows as a block of their own, never inside a line."""
_RETRYABLE = frozenset(
    {ElementProblem.SYSTEM_UNAVAILABLE, ElementProblem.SYSTEM_LATE, ElementProblem.CANCELLED}
)
_STATES = {
    ElementProblem.SYSTEM_UNAVAILABLE: "failed",
    ElementProblem.SYSTEM_INVALID: "failed",
    ElementProblem.SYSTEM_LATE: "late",
    ElementProblem.SWITCHED_OFF: "off",
    ElementProblem.NOT_FOUND: "empty",
}
"""State of a live source (``SourceAsked.state``) by the problem of one of its elements."""
_WORST_FIRST = ("failed", "late", "off", "refused", "answered", "empty")
"""A source has the first of these states that one of its elements has."""
_RUN_LIKE = re.compile("[\U000f0000-\U000ffffd]")
"""Characters that stand for documents' texts in a record (``excerpts.run_of``): a value must bring none."""
_ENDS_ITSELF_WITHIN_S = 0.25
"""After its deadline, a fill has this long to say how it ended."""
NOT_KEPT = "The value is not kept. Read it again."
"""Shown in place of the value of a recorded answer's element."""
_log = structlog.get_logger(__name__)


class CallBounds:
    """Limits the reads at once of one tenant in this process, in total and by system."""

    def __init__(self, *, most: int = MOST_CALLS, most_a_system: int = MOST_CALLS_A_SYSTEM) -> None:
        self._all = asyncio.Semaphore(most)
        self._systems = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(most_a_system))

    async def fill(self, live: LiveElements, name: str, caller: Caller, *, deadline: Deadline) -> Filled:
        """Fill one element when there is room. Raises as ``LiveElements.fill``, and TimeoutError where there
        is no room before the deadline."""
        async with (
            asyncio.timeout(deadline.remaining_s()) as limit,
            self._systems[system_of(name)],
            self._all,
        ):
            # A fill ends itself and records that its system was late; cut off, it would say "cancelled".
            limit.reschedule(
                asyncio.get_running_loop().time() + deadline.remaining_s() + _ENDS_ITSELF_WITHIN_S
            )
            return await live.fill(name, caller, deadline=deadline)


def system_of(name: str) -> str:
    """Return the system of an element: "orders" of "orders.status"."""
    return name.partition(".")[0]


@dataclass(slots=True, eq=False)
class LiveSlot:
    """One element of an answer, changed in place by ``Hydration`` and its task.

    | since                          | what changes                       |
    | ``begin``: its read is begun   | ``task``                           |
    | its read ended                 | ``filled`` or ``error``, never both|
    | ``place_slot``: in the text    | ``element_id``, ``display``        |
    | ``take``: given to the reader  | ``is_shown``                       |

    It may end before or after it is placed.
    """

    type: ElementType
    task: asyncio.Task[None] | None = None
    element_id: str = ""
    """Empty until it has a place in the text."""
    items: tuple[str, ...] = ()
    """Numbers of the items that it is read for, one row of a table each; empty: it is read once."""
    display: ElementDisplay = field(default_factory=lambda: ElementDisplay(place="inline", start=0, end=0))
    filled: Filled | None = None
    error: LiveReadError | None = None
    is_shown: bool = False
    """Whether its end was given to the reader."""

    @property
    def is_ended(self) -> bool:
        return self.filled is not None or self.error is not None

    @property
    def is_ready(self) -> bool:
        return self.filled is not None

    def element(self) -> Element:
        """Return it in its present state, as an event or a page shows it."""
        return element_of(
            self.type, element_id=self.element_id, display=self.display, outcome=self.filled or self.error
        )


@dataclass(frozen=True, slots=True)
class ReadyElement:
    """An element that needs no system: a table of documents' facts."""

    type: ElementType
    filled: Filled
    begins_before: int
    """The table replaces the words from this many characters before its block's text to the end of that."""


def element_of(
    kind: ElementType, *, element_id: str, display: ElementDisplay, outcome: Filled | LiveReadError | None
) -> Element:
    """Return an element in the state of its outcome; None is pending."""
    element = Element(
        id=element_id,
        name=kind.name,
        kind=kind.kind,
        state=ElementState.PENDING,
        title=kind.title,
        source=kind.source,
        display=display,
    )
    if outcome is None:
        return element
    about = outcome.about[:LONGEST_SHOWN]
    if isinstance(outcome, Filled):
        ready = {"state": ElementState.READY, "as_of": outcome.as_of, "data": _without_runs(outcome.data)}
        return element.model_copy(update={**ready, "about": about})
    is_refused = outcome.problem is ElementProblem.NOT_ALLOWED
    return element.model_copy(
        update={
            "state": ElementState.NOT_ALLOWED if is_refused else ElementState.FAILED,
            "about": about,
            "problem": outcome.problem,
            "detail": outcome.message[:LONGEST_SHOWN],
            "retryable": outcome.problem in _RETRYABLE,
        }
    )


def _without_runs(data: ElementData) -> ElementData:
    """Return the data without ``_RUN_LIKE`` characters."""
    text = data.model_dump_json()
    if text.isascii() or not _RUN_LIKE.search(text):
        return data
    return ElementData.model_validate_json(_RUN_LIKE.sub("", text))


def over_items(kind: ElementType) -> ElementType:
    """Return an element as it is shown for several items: a table."""
    return replace(kind, kind=ElementKind.TABLE)


async def read_element(
    live: LiveElements,
    kind: ElementType,
    caller: Caller,
    *,
    deadline: Deadline,
    bounds: CallBounds,
    items: Sequence[str] = (),
) -> Filled | LiveReadError:
    """Return what an element holds, or why it cannot be filled; it raises nothing.

    ``items``: item numbers, each of which is read as if it were the question, for one row of a table; empty:
    it is read once, by the caller's context and question.
    """
    if not items:
        return await _read_once(live, kind, caller, deadline=deadline, bounds=bounds)
    callers = [replace(caller, question=item) for item in items]
    reads = (_read_once(live, kind, of_item, deadline=deadline, bounds=bounds) for of_item in callers)
    return _by_item(items, await asyncio.gather(*reads))


def _by_item(items: Sequence[str], outcomes: Sequence[Filled | LiveReadError]) -> Filled | LiveReadError:
    """Return a table with a row for each item; the row of an item that failed has the reason in its first
    cell. Where all failed, return the first error.

    Example: two items, of which the second is unknown, become the rows "10045 | 12 in stock" and
    "10046 | There is no such item."
    """
    read = [outcome for outcome in outcomes if isinstance(outcome, Filled)]
    if not read:
        return next(outcome for outcome in outcomes if isinstance(outcome, LiveReadError))
    labels = {value.name: value.label for filled in read for value in filled.data.values}
    columns = tuple(ElementValue(name=name, label=label, text="") for name, label in labels.items())

    def values(outcome: Filled | LiveReadError) -> tuple[ElementValue, ...]:
        if isinstance(outcome, Filled):
            return outcome.data.values
        why = {"text": outcome.message[:LONGEST_SHOWN], "tone": "warning"}
        return tuple(column.model_copy(update=why) for column in columns[:1])

    rows = (
        ElementRow(title=item, values=values(outcome)) for item, outcome in zip(items, outcomes, strict=True)
    )
    return Filled(
        ElementData(columns=columns, rows=tuple(rows)),
        min((filled.as_of for filled in read), key=lambda as_of: as_of.isoformat()),
        ", ".join(filter(None, (outcome.about for outcome in outcomes))),
        cached=any(filled.cached for filled in read),
    )


async def _read_once(
    live: LiveElements, kind: ElementType, caller: Caller, *, deadline: Deadline, bounds: CallBounds
) -> Filled | LiveReadError:
    try:
        return await bounds.fill(live, kind.name, caller, deadline=deadline)
    except LiveReadError as error:
        return error
    except (TimeoutError, DeadlineExceededError):
        return LiveReadError(ElementProblem.SYSTEM_LATE, f"{kind.source} did not answer in time.")
    except Exception as error:  # noqa: BLE001 - an edge: a defect in a connector must not cost the text
        # The message may quote a value, so only the kind of error is logged.
        code = error.code if isinstance(error, AssistantError) else type(error).__name__
        _log.error("element_failed", element=kind.name, answer_id=caller.answer_id, error=code)
        return LiveReadError(ElementProblem.SYSTEM_UNAVAILABLE, f"{kind.source} could not be read.")


@dataclass(slots=True, eq=False)
class Hydration:
    """The elements of one answer. Bound to one event loop.

    Elements become known in three ways: the message asks for them (``ask``), the quoted text names them
    (``begin``), or a model's text names them (``read``). Then each gets its place (``place``,
    ``place_slot``), and its end is given to the reader (``change``, ``take``). ``cancel`` or ``leave`` ends
    what is left.

    Example::

        hydration.begin("orders.status")  # LiveSlot: the read is under way
        hydration.place("orders.status", start=16, end=30)  # ElementChanged(id="e1", state="pending", …)
        await hydration.change()
        hydration.take()  # [LiveSlot(element_id="e1", filled=Filled(…))]
    """

    services: TenantServices
    caller: Caller
    _: KW_ONLY
    deadline: Deadline
    bounds: CallBounds
    subject: str | None = field(init=False)
    """Whose conversation it is, for ``ElementUse.subject``: a pseudonym; None without a context."""
    placed: list[LiveSlot] = field(default_factory=list[LiveSlot])
    """Elements with a place in the text, in the order in which they got it."""
    answering: tuple[AskedElement, ...] = ()
    """Elements that answer parts of the message by themselves; set by ``ask``."""
    left: Cause | None = None
    """Why nobody waits for the elements any more; None while somebody does."""
    _begun: list[LiveSlot] = field(default_factory=list[LiveSlot])
    """Elements without a place yet."""
    _change: asyncio.Future[None] | None = None
    """What ``change`` returned last."""

    def __post_init__(self) -> None:
        self.subject = self.services.subject_of(self.caller.context)

    @property
    def types(self) -> Mapping[str, ElementType]:
        live = self.services.live.elements
        return live.types() if live is not None else {}

    # Names and labels

    def labels(self) -> Labels:
        """Return the labels of all elements by ``Tag.key``: "[order status]" for "orders.status" and for
        "status orders.status"."""
        labels: dict[str, str] = {}
        for element_type in self.types.values():
            labels[element_type.name] = labels[f"{element_type.kind} {element_type.name}"] = label_of(
                element_type.title
            )
        return labels

    def labels_of(self, document_id: str) -> Labels:
        """Return the labels of the elements that a document may name: all, or none, as its source allows."""
        source = self.services.tenant.source_of(document_id) if self.types else None
        return self.labels() if source is not None and source.elements else NO_LABELS

    # Reads

    def ask(
        self,
        matched: Sequence[tuple[int, LiveMatch]],
        *,
        named: Collection[str] = (),
        answered: Collection[int] = (),
    ) -> tuple[LiveMatch, ...]:
        """Begin the reads that parts of the message ask for, and note them in ``answering``. Return all
        matches, for the record: one whose element is not read after all has another state.

        ``matched``: index of the part, and how near an element is to it; those in state READ are asked for.
        ``named``: elements of the quoted text, which are read anyway (state SHOWN). ``answered``: indexes of
        the parts that a document answers. Elements of a customer's data are left out of these where no
        customer is there (state NO_CUSTOMER): an agent who asks for a rule would only see that a read is not
        allowed.
        """
        decided, types = list[tuple[int, LiveMatch]](), self.types
        for part, match in matched:
            no_customer = part in answered and self.caller.context is None
            if no_customer and types[match.element].needs_context:
                decided.append((part, _unread(match, LiveMatchState.NO_CUSTOMER)))
            else:
                is_named = match.element in named
                decided.append((part, _unread(match, LiveMatchState.SHOWN) if is_named else match))
        wanted = [(part, match.element) for part, match in decided if match.state is LiveMatchState.READ]
        begun = {name: self.begin(name) for name in dict.fromkeys(name for _, name in wanted)}
        slots = ((part, begun[name]) for part, name in wanted)
        self.answering = tuple(AskedElement(part, slot) for part, slot in slots if slot is not None)
        return tuple(match for _, match in decided)

    def begin(self, name: str, *, items: tuple[str, ...] = ()) -> LiveSlot | None:
        """Begin to read an element; None where the answer has ``MOST_ELEMENTS`` already, or the tenant has no
        live system. ``items``: as ``LiveSlot.items``."""
        live = self.services.live.elements
        if live is None or self._is_full:
            return None
        slot = LiveSlot(over_items(self.types[name]) if items else self.types[name], items=items)
        slot.task = asyncio.create_task(self._fill(live, slot))
        self._begun.append(slot)
        return slot

    def read(self, name: str, *, but: Collection[LiveSlot] = ()) -> LiveSlot | None:
        """Return the first read of an element that has no place yet, else begin a new one. ``but``: reads
        that the caller will place already. None as from ``begin``."""
        begun = (read for read in self._begun if read.type.name == name and read not in but)
        return next(begun, None) or self.begin(name)

    def place(self, name: str, *, start: int, end: int) -> ElementChanged | None:
        """Give an element its place: [start, end) of its label in the answer's text. It uses a read that is
        begun. Return its event, pending; None as from ``begin``."""
        slot = self.read(name)
        return None if slot is None else self.place_slot(slot, start=start, end=end)

    def place_slot(self, slot: LiveSlot, *, start: int, end: int) -> ElementChanged:
        """Give a read its place, or move it. ``start`` equal to ``end``: it has no label in the text. Return
        its event, pending."""
        if slot in self._begun:
            self._begun.remove(slot)
            self._number(slot)
        is_block = slot.type.kind in _BLOCKS or start == end
        slot.display = ElementDisplay(place="block" if is_block else "inline", start=start, end=end)
        pending = element_of(slot.type, element_id=slot.element_id, display=slot.display, outcome=None)
        return ElementChanged(**dict(pending))

    def show(self, ready: ReadyElement, *, start: int, end: int) -> ElementChanged | None:
        """Place a table that is made from documents, and return its event, ready; None where the answer has
        ``MOST_ELEMENTS``."""
        if self._is_full:
            return None
        slot = LiveSlot(ready.type, filled=ready.filled, is_shown=True)
        self._number(slot)
        slot.display = ElementDisplay(place="block", start=start, end=end)
        return ElementChanged(**dict(slot.element()))

    @property
    def _is_full(self) -> bool:
        return len(self._begun) + len(self.placed) >= MOST_ELEMENTS

    def _number(self, slot: LiveSlot) -> None:
        """Give an element its id, by the order in which places are given."""
        self.placed.append(slot)
        slot.element_id = f"e{len(self.placed)}"

    def make_room(self, names: Iterable[str], *, keep: Collection[LiveSlot] = ()) -> None:
        """Cancel the reads without a place, but for those in ``keep`` and one for each of ``names``.

        The cancelled ones are of a model's text that failed its checks. They no longer count for
        ``MOST_ELEMENTS``, so the quote that replaces the text can have all of its elements.
        """
        wanted = Counter(names)
        for slot in list(self._begun):
            if slot in keep:
                continue
            if wanted[slot.type.name] > 0:
                wanted[slot.type.name] -= 1
                continue
            self._begun.remove(slot)
            if slot.task is not None:
                slot.task.cancel()

    # What the reader gets

    @property
    def is_waiting(self) -> bool:
        """Whether the reader has not been given the end of an element of the text."""
        return any(not slot.is_shown for slot in self.placed)

    @property
    def reads_another(self) -> bool:
        """Whether a read element is of something else than the question names: another order."""
        outcomes = (slot.filled or slot.error for slot in self.placed)
        return any(outcome is not None and outcome.is_of_another for outcome in outcomes)

    def take(self) -> list[LiveSlot]:
        """Return the placed elements that ended since the last call, and note them as shown."""
        ended = [slot for slot in self.placed if slot.is_ended and not slot.is_shown]
        for slot in ended:
            slot.is_shown = True
        return ended

    def change(self) -> asyncio.Future[None]:
        """Return a future that is done when an element has ended or ``leave`` is called; done already when
        one waits to be taken."""
        if self._change is None or self._change.done():
            self._change = asyncio.get_running_loop().create_future()
        if self.left or any(slot.is_ended and not slot.is_shown for slot in self.placed):
            self._change.set_result(None)
        return self._change

    def leave(self, cause: Cause) -> None:
        """End all reads, and note why: the answer was cancelled or its reader left. A second call does
        nothing."""
        if self.left is None:
            self.left = cause
            self.cancel()
            self._wake()

    def cancel(self) -> None:
        """End all reads. A placed element that has not ended is failed, with the problem CANCELLED."""
        self.make_room(())
        for slot in self.placed:
            if not slot.is_ended:
                slot.error = LiveReadError(ElementProblem.CANCELLED, "The answer was ended before.")
            if slot.task is not None:
                slot.task.cancel()

    def uses(self) -> tuple[ElementUse, ...]:
        """Return what the record keeps: no values, and no parameters."""
        uses = ((use_of(slot.element(), operation=slot.type.operation or None), slot) for slot in self.placed)
        return tuple(
            use.model_copy(update={"subject": self.subject, "items": slot.items}) for use, slot in uses
        )

    def asked(self, sources: Sequence[SourceAsked]) -> tuple[SourceAsked, ...]:
        """Return the answer's sources with the states of the live ones: the worst of their elements'."""
        systems = {
            source.name: source.reach for source in self.services.tenant.sources if source.reach is not None
        }
        asked: list[SourceAsked] = []
        for source in sources:
            of_system = [
                slot for slot in self.placed if system_of(slot.type.name) == systems.get(source.name)
            ]
            states = {_state_of(slot) for slot in of_system}
            state = next((worst for worst in _WORST_FIRST if worst in states), source.state)
            asked.append(source.model_copy(update={"state": state}))
        return tuple(asked)

    async def _fill(self, live: LiveElements, slot: LiveSlot) -> None:
        """Read an element, put the outcome into its slot, and wake whoever awaits ``change``."""
        limit_s = min(slot.type.limit_s, self.deadline.remaining_s())
        deadline = Deadline.after(limit_s, clock=self.deadline.clock)
        outcome = await read_element(
            live, slot.type, self.caller, deadline=deadline, bounds=self.bounds, items=slot.items
        )
        if isinstance(outcome, Filled):
            slot.filled = outcome
        else:
            slot.error = outcome
        self._wake()

    def _wake(self) -> None:
        if self._change is not None and not self._change.done():
            self._change.set_result(None)


def _state_of(slot: LiveSlot) -> str:
    """Return the state of a live source (``SourceAsked.state``) by one of its elements.

    "not_asked": the element may not be read, lacks a parameter, or was cancelled before its end. "refused":
    the system was asked, and refused or gave another customer's data.
    """
    if slot.error is None:
        return "answered" if slot.is_ready else "not_asked"
    if slot.error.problem is ElementProblem.NOT_ALLOWED and slot.error.by_response:
        return "refused"
    return _STATES.get(slot.error.problem, "not_asked")


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


# Elements that a question asks for


_UNANSWERED = frozenset({ElementProblem.SYSTEM_UNAVAILABLE, ElementProblem.SYSTEM_LATE})
"""Problems of a system that did not answer; other problems come with a message for the agent."""


@dataclass(frozen=True, slots=True)
class AskedElement:
    """A live element that answers one part of a message by itself."""

    part: int
    """Index of the part among the answer's evidence."""
    slot: LiveSlot


class Beside:
    """Finds what a question asks of live systems, by the elements' example questions. This class finds
    nothing: the option for live systems overrides it (``BESIDE``). ``ReadQuestion`` calls it, ``load`` before
    ``match``.
    """

    are_there = False
    """Whether any element has examples, so that a question may ask for it."""

    def plain(self, text: str) -> str:
        """Return a text as the examples of elements are written: "where is the order" for "where is
        4471-2208"."""
        return text

    def without_names(self, question: str, *, known: Collection[str]) -> str:
        """Return a question with "it" for each of its ``names``. ``known``: as ``names``."""
        del known
        return question

    def names(self, question: str, *, known: Collection[str]) -> tuple[str, ...]:
        """Return the words of a question that may be names of what systems hold, folded ("lisinopril"): what
        is read must contain each of them. ``known``: words of the tenant's glossary, which are no names."""
        del question, known
        return ()

    async def load(self, scope: SearchScope) -> None:
        """Wait a little for the examples' vectors, which ``match`` needs; where they are late, note that in
        ``scope.degraded``. Raises nothing."""

    def match(self, vector: Sequence[float], *, live: float | None) -> list[LiveMatch]:
        """Return how near each element is to a question, the nearest first; at most one of them is ``READ``.

        ``vector``: of the question as examples are written, unit length; ``live``: log-odds that the question
        asks for live data (``Heads.live_score``); None: unknown.
        """
        del vector, live
        return []


BESIDE = Place[Callable[[TenantServices], Beside]]("beside an answer")


def open_beside(services: TenantServices) -> Beside:
    """Return the ``Beside`` of the first option that brings one, else the one that finds nothing."""
    return next((opens(services) for opens in BESIDE.joined()), Beside())


def _unread(match: LiveMatch, state: LiveMatchState) -> LiveMatch:
    """Return the match of an element that is not read after all, in a state that says why; one that was not
    asked for is returned unchanged."""
    return match.model_copy(update={"state": state}) if match.state is LiveMatchState.READ else match


# How the systems answered


def why_not_answered(asked: Sequence[AskedElement]) -> str | None:
    """Return in words why live systems gave no answer; None where none failed."""
    errors = [
        (element.slot.type.source, element.slot.error) for element in asked if element.slot.error is not None
    ]
    messages = (
        f"{source} did not answer." if error.problem in _UNANSWERED else error.message
        for source, error in errors
    )
    return " ".join(dict.fromkeys(messages)) or None


def what_is_missing(asked: Sequence[AskedElement]) -> str | None:
    """Return a question to the agent for a parameter that neither context nor question has ("Which order?"),
    or None."""
    errors = (element.slot.error for element in asked)
    missing = (
        error.message
        for error in errors
        if error is not None and error.problem is ElementProblem.PARAMETER_MISSING
    )
    return next(missing, None)
