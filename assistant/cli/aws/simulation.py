"""Simulates instances of a model server that compute many answers in one batch.

A step writes one token of each answer and reads parts of prompts, in order of arrival; requests
join and leave between steps. As long as nobody does, steps are alike, so any number of them is one event in
closed form (sums of the growing contexts): four events a request. simpy keeps the events; one for each step
would be too slow for 10⁶ requests a minute (docs/decisions/0079).
"""

# pyright: reportUnknownMemberType=false
from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import ceil, inf
from operator import attrgetter
from typing import Any

import numpy as np
import simpy

from assistant.cli.aws.timings import Timings

LONGEST_WAIT_S = 60.0
"""A request that no slot has taken by then is refused, as SageMaker and our own server do."""


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in order of arrival: seconds, and tokens of each."""

    at_s: Sequence[float]
    prompt_tokens: Sequence[int]
    answer_tokens: Sequence[int]


@dataclass(frozen=True, slots=True)
class Outcome:
    load: Load
    first_s: Any
    """Seconds from each arrival to its first token (numpy); infinite where it was refused."""
    end_s: Any
    """When each answer ended, on the clock of arrivals; infinite likewise."""

    def first_token_s(self, percent: float) -> float:
        """Return a percentile over all arrivals."""
        return float(np.percentile(self.first_s, percent, method="higher"))

    @property
    def unanswered(self) -> float:
        """Share that was refused."""
        return float(np.isinf(self.end_s).mean())

    @property
    def tokens_per_s(self) -> float:
        """Answer tokens a second, from the first arrival to the last end."""
        answered = np.isfinite(self.end_s)
        tokens = np.asarray(self.load.answer_tokens)[answered].sum()
        return float(tokens / max(self.end_s[answered].max(initial=0.0) - self.load.at_s[0], 1e-9))


def simulate(load: Load, timings: Timings, *, instances: int) -> Outcome:
    """Return what became of each request. The same arguments give the same outcome."""
    return _Endpoint(load, timings, instances).run()


_outstanding = attrgetter("outstanding")


class _Endpoint:
    """Sends each request to the instance with the fewest, as the deployed endpoints route."""

    def __init__(self, load: Load, timings: Timings, instances: int) -> None:
        self.load, self.timings = load, timings
        self.step_s = timings.step_s()
        self.env = simpy.Environment()
        self.first_s = [inf] * len(load.at_s)
        self.end_s = [inf] * len(load.at_s)
        self._serving = [_Instance(self) for _ in range(instances)]

    def run(self) -> Outcome:
        self.env.process(self._arrivals())
        self.env.run()
        waited_s = np.array(self.first_s) - np.asarray(self.load.at_s) + self.timings.request_s
        return Outcome(self.load, waited_s, np.array(self.end_s))

    def _arrivals(self) -> Generator[simpy.Event]:
        for request, at in enumerate(self.load.at_s):
            yield self.env.timeout(max(0.0, at - self.env.now))
            min(self._serving, key=_outstanding).arrive(request)


@dataclass(slots=True, eq=False)
class _Instance:
    """One server. ``planned`` like steps are under way; they are cut short when a request can join."""

    endpoint: _Endpoint
    waiting: deque[int] = field(default_factory=deque[int])
    reading: list[int] = field(default_factory=list[int])
    """In the order in which their prompts are read."""
    unread: dict[int, int] = field(default_factory=dict[int, int])
    """Tokens of each prompt in ``reading`` that are not read."""
    writing: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Heap of the step after which each answer ends, and its request."""
    context: int = 0
    """Tokens that the answers in ``writing`` look back at."""
    held: int = 0
    """Tokens of memory that are promised."""
    steps: int = 0
    planned: int = 0
    began_s: float = 0.0
    lasts_s: float = 0.0
    turn: int = 0
    """Number of the plan; the event of an earlier one is stale."""

    @property
    def outstanding(self) -> int:
        return len(self.waiting) + len(self.reading) + len(self.writing)

    def arrive(self, request: int) -> None:
        self.waiting.append(request)
        if not self.planned:
            self._begin()
        elif self.planned > 1 and self._has_room(request):
            elapsed = (self.endpoint.env.now - self.began_s) / self.lasts_s
            done = max(1, ceil(self.planned * elapsed))
            if done < self.planned:
                self._plan(done)  # the step under way is the last of this plan

    def _has_room(self, request: int) -> bool:
        timings, running = self.endpoint.timings, len(self.reading) + len(self.writing)
        if running >= timings.slots:
            return False
        fits = timings.kv_tokens is None or self.held + self._tokens(request) <= timings.kv_tokens
        return fits or not running

    def _tokens(self, request: int) -> int:
        return self.endpoint.load.prompt_tokens[request] + self.endpoint.load.answer_tokens[request]

    def _begin(self) -> None:
        """Take who waits, and plan steps that read the same prompts, until an answer ends."""
        self.planned = 0
        while self.waiting and self._has_room(self.waiting[0]):
            self._take(self.waiting.popleft())
        ends = [max(1, self.unread[self.reading[0]] // self._read_at_once())] if self.reading else []
        if self.writing:
            ends.append(self.writing[0][0] - self.steps)
        if ends:
            self.began_s = self.endpoint.env.now
            self._plan(min(ends))

    def _take(self, request: int) -> None:
        if self.endpoint.env.now - self.endpoint.load.at_s[request] <= LONGEST_WAIT_S:
            self.unread[request] = self.endpoint.load.prompt_tokens[request]
            self.reading.append(request)
            self.held += self._tokens(request)

    def _read_at_once(self) -> int:
        return max(1, self.endpoint.timings.step_tokens - len(self.writing))

    def _parts(self, steps: int) -> list[tuple[int, int]]:
        """Return the prompts of which the next steps read, and how many tokens of each."""
        room, parts = steps * self._read_at_once(), list[tuple[int, int]]()
        for request in self.reading:
            parts.append((request, min(room, self.unread[request])))
            room -= parts[-1][1]
            if not room:
                break
        return parts

    def _plan(self, steps: int) -> None:
        self.planned, self.lasts_s = steps, self._seconds(steps)
        self.turn += 1
        left_s = max(0.0, self.began_s + self.lasts_s - self.endpoint.env.now)
        event = self.endpoint.env.timeout(left_s, self.turn)
        event.callbacks.append(self._end_steps)  # pyright: ignore[reportOptionalMemberAccess] - not yet processed

    def _seconds(self, steps: int) -> float:
        """Return how long the next like steps take."""
        timings, writing = self.endpoint.timings, len(self.writing)
        looked_at = steps * self.context + writing * steps * (steps - 1) / 2
        seconds = steps * self.endpoint.step_s[writing] + timings.write_context_s * looked_at
        for request, read in self._parts(steps):
            before = self.endpoint.load.prompt_tokens[request] - self.unread[request]
            seconds += timings.read_token_s * read + timings.read_context_s * read * (before + read / 2)
        return seconds

    def _end_steps(self, event: simpy.Event) -> None:
        if event.value != self.turn:
            return
        load, now = self.endpoint.load, self.endpoint.env.now
        parts = self._parts(self.planned)
        self.steps += self.planned
        self.context += self.planned * len(self.writing)
        for request, read in parts:
            self.unread[request] -= read
            if not self.unread[request]:
                self.reading.remove(request)
                self.endpoint.first_s[request] = now
                self.context += load.prompt_tokens[request] + 1
                heappush(self.writing, (self.steps + load.answer_tokens[request] - 1, request))
        while self.writing and self.writing[0][0] <= self.steps:
            _, request = heappop(self.writing)
            self.endpoint.end_s[request] = now
            self.context -= self._tokens(request)
            self.held -= self._tokens(request)
        self._begin()
