"""Groups writes that wait at the same time into one call, each with its own result.

With 50 answers at once, each of eight writes, they take 6.3 to 7.0 ms of CPU an answer instead of 14 to 15
(docs/decisions/0010-lean-dynamodb-calls.md).
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum, auto

from assistant.domain.clock import back_off_s
from assistant.domain.errors import DependencyError
from assistant.stores.table import Item, key_of

_FIRST_WAIT_S = 0.05
"""The longest wait before the second attempt; it doubles with each further one, up to _LONGEST_WAIT_S
(``clock.back_off_s``)."""
_LONGEST_WAIT_S = 1.0
ITEMS_A_CALL = 25
"""DynamoDB's limit of BatchWriteItem; TransactWriteItems takes more."""
_CALL_BYTES = 1024 * 1024
"""Most bytes of attributes in one call: below DynamoDB's limits, and sent well within an attempt's time."""
_CALLS_IN_FLIGHT = 8
"""Most calls at once."""
_MOST_WAITING = 2000
"""Most writes that wait; a further one is refused at once."""
_WAIT_BEHIND_CALL_S = 0.005
"""The longest wait of a write for a call in flight: a slow call delays only its own writes."""
_GROUP_ATTEMPTS = 4
"""Attempts for writes whose outcome is RETRY; the call itself repeats when the whole call fails."""
_CLOSING_S = 5.0


class Outcome(Enum):
    """What became of one write of a call."""

    WRITTEN = auto()
    PRESENT = auto()
    """An item has one of its keys; nothing of it was written."""
    RETRY = auto()
    """Throttled, or cancelled because of another write of the same call."""


class WriteRefusedError(Exception):
    """One write of a call is invalid; ``code`` is the store's word for why."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


WriteItems = Callable[[Sequence[Sequence[Item]]], Awaitable[Sequence[Outcome]]]
"""Does at most ITEMS_A_CALL writes with different keys by one call, each of up to three items, and only where
no item has one of their keys; returns the outcomes in order. Raises DependencyError (no outcome is known),
and WriteRefusedError (an item is invalid, and nothing was written)."""


@dataclass(slots=True, eq=False)
class _Waiting:
    """A write, from ``GroupCommit.write`` until its outcome is known."""

    items: Sequence[Item]
    size_bytes: int
    done: asyncio.Future[Outcome]
    """Gets the outcome, or the error that ``write`` raises."""


class GroupCommit:
    """Writes items by ``write_items``, in one call those that wait at the same time.

    Without a call in flight a write goes out at the end of this turn of the event loop, together with others
    of the turn. Else it waits until a call ends, a call is full, or 5 ms have passed. Example: three
    coroutines each call ``write`` in one turn; ``write_items`` gets the three items, and each ``write``
    returns its own result.
    """

    def __init__(self, write_items: WriteItems, *, unavailable: type[DependencyError]) -> None:
        self._write_items = write_items
        self._unavailable = unavailable
        self._waiting: deque[_Waiting] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._timer: asyncio.Handle | None = None
        self._due_s = math.inf
        """When the waiting writes go out, on the loop's clock."""

    async def close(self) -> None:
        """Refuse waiting writes and wait up to 5 s for the calls in flight."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        _fail(self._waiting, self._unavailable("The store is closing."))
        self._waiting.clear()
        if self._in_flight:
            await asyncio.wait(self._in_flight, timeout=_CLOSING_S)

    async def write(self, *items: Item) -> bool:
        """Write ``items``; return False, and write none, when one of their keys is taken. Raises
        ``unavailable``."""
        if len(self._waiting) >= _MOST_WAITING:
            raise self._unavailable("Too many writes wait for the store. Retry.")
        loop = asyncio.get_running_loop()
        waiting = _Waiting(items, sum(map(_size_bytes, items)), loop.create_future())
        self._waiting.append(waiting)
        is_full = len(self._waiting) >= ITEMS_A_CALL
        self._send_within(_WAIT_BEHIND_CALL_S if self._in_flight and not is_full else 0.0, loop)
        return await waiting.done is Outcome.WRITTEN

    def _send_within(self, wait_s: float, loop: asyncio.AbstractEventLoop) -> None:
        """Schedule ``_send`` in ``wait_s`` seconds, unless it is due earlier; 0: later in this turn."""
        due_s = loop.time() + wait_s
        if self._timer is not None:
            if self._due_s <= due_s:
                return
            self._timer.cancel()
        self._due_s = due_s
        self._timer = (
            loop.call_later(wait_s, self._send, loop) if wait_s else loop.call_soon(self._send, loop)
        )

    def _send(self, loop: asyncio.AbstractEventLoop) -> None:
        """Send waiting writes up to the limit of calls; the end of a call sends the rest."""
        self._timer = None
        while self._waiting and len(self._in_flight) < _CALLS_IN_FLIGHT:
            task = loop.create_task(self._write(self._take_group()))
            self._in_flight.add(task)
            task.add_done_callback(self._call_ended)

    def _call_ended(self, ended: asyncio.Task[None]) -> None:
        self._in_flight.discard(ended)
        if self._waiting:
            self._send_within(0.0, ended.get_loop())

    def _take_group(self) -> list[_Waiting]:
        """Take from the front what one call may carry: each key once."""
        group: list[_Waiting] = []
        keys: set[tuple[str, str]] = set()
        size_bytes = 0
        while self._waiting and len(group) < ITEMS_A_CALL:
            first = self._waiting[0]
            size_bytes += first.size_bytes
            of_first = set(map(key_of, first.items))
            if group and (keys & of_first or size_bytes > _CALL_BYTES):
                break
            keys |= of_first
            group.append(self._waiting.popleft())
        return group

    async def _write(self, group: Sequence[_Waiting]) -> None:
        """Write a group by calls, and settle each of its writes with an outcome or an error."""
        try:
            for attempt in range(_GROUP_ATTEMPTS):
                if attempt:
                    await back_off(attempt)
                group = self._settle(group, await self._write_items([entry.items for entry in group]))
                if not group:
                    return
            _fail(group, self._unavailable("The store throttles writes. Retry."))
        except DependencyError as error:
            _fail(group, error)
        except WriteRefusedError as refusal:
            if len(group) == 1:
                _fail(group, self._unavailable(f"The store refused a write ({refusal.code})."))
            else:  # one invalid write refuses the whole call: write each alone
                await asyncio.gather(*(self._write([entry]) for entry in group))

    def _settle(self, group: Sequence[_Waiting], outcomes: Sequence[Outcome]) -> list[_Waiting]:
        """Set each write's result; return the writes to retry."""
        retry: list[_Waiting] = []
        for entry, outcome in zip(group, outcomes, strict=True):
            if outcome is Outcome.RETRY:
                retry.append(entry)
            elif not entry.done.done():  # its caller may have been cancelled
                entry.done.set_result(outcome)
        return retry


def _fail(entries: Iterable[_Waiting], error: DependencyError) -> None:
    """Let ``write`` raise the error for each entry that has no outcome yet."""
    for entry in entries:
        if not entry.done.done():
            entry.done.set_exception(error)


def _size_bytes(item: Item) -> int:
    """Return the approximate size of an item in a request. Numbers and lists, which hold short names, are not
    counted."""
    return sum(len(value) for value in item.values() if isinstance(value, str | bytes))


async def back_off(attempt: int) -> None:
    """Wait before retry 1, 2, …, with jitter."""
    await asyncio.sleep(back_off_s(attempt - 1, first_s=_FIRST_WAIT_S, longest_s=_LONGEST_WAIT_S))
