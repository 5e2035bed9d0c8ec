"""How many instances answer a load in time, what they cost, and what happens when things change.

Model servers are simulated, with timings that the reader measured, or that are estimated from data sheets.
``make_plan`` returns the plan of a ``Question``; ``simulate`` is the simulation under it.
"""

# pyright: reportUnknownVariableType=false, reportUnknownArgumentType=false, reportUnknownMemberType=false
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
from pydantic import Field

from assistant.domain.errors import ConfigurationError
from assistant.tenant.manifests import Instance, LlmManifest, memory_of, usable_bytes
from assistant.tenant.prices import HOURS_A_MONTH
from assistant.tenant.toml_file import StrictModel


class Timings(StrictModel):
    """A server that computes a step at a time: one token of each answer, and parts of prompts."""

    source: str
    """Server and date of a measurement, or the terms of an estimate."""
    slots: int = Field(ge=1)
    """Answers that are written at once."""
    kv_tokens: int | None = Field(default=None, ge=1)
    """Tokens of prompts and answers that its memory holds; None: every slot has room for the longest."""
    step_tokens: int = Field(ge=1)
    """Most tokens of one step: those of answers first, then of prompts."""
    request_s: float = Field(ge=0)
    """Added to each request, whatever its length."""
    write_step_s: tuple[float, ...] = Field(min_length=1)
    """Seconds of a step in which 1, 2, … answers get a token; more are extrapolated from the last two."""
    write_context_s: float = Field(ge=0)
    """Added for each token that an answer's next token looks back at."""
    read_token_s: float = Field(gt=0)
    """Added for each token of a prompt that is read."""
    read_context_s: float = Field(ge=0)
    """Added for each token that a prompt's token looks back at."""

    def step_s(self) -> list[float]:
        """Return seconds of a step that writes 0 to ``slots`` tokens, without context."""
        steps = [0.0, *self.write_step_s]
        slope = max(0.0, steps[-1] - steps[-2]) if len(steps) > 2 else 0.0
        return steps + [steps[-1] + slope * more for more in range(1, self.slots + 2 - len(steps))]


_DEVICES: dict[str, tuple[float, float]] = {
    # family: bytes a second and floating-point operations a second (bfloat16, dense) of one core or GPU.
    # AWS Neuron documentation, Inferentia2 and Trainium Architecture: 820 GiB/s and 190 TFLOPS for two cores.
    # NVIDIA's data sheets: L4 300 GB/s and 121 TFLOPS, L40S 864 GB/s and 362 (read 2026-11-23). Of the A10G,
    # made for AWS, only the bandwidth was found (600 GB/s, as of the A10); its 70 TFLOPS are not confirmed.
    "inf2": (440e9, 95e12),
    "trn1": (440e9, 95e12),
    "g5": (600e9, 70e12),
    "g6": (300e9, 121e12),
    "g6e": (864e9, 362e12),
}
_BANDWIDTH_SHARE, _COMPUTE_SHARE = 0.6, 0.4
"""Assumed, not measured: what a serving engine gets out of a data sheet's figures."""
_VLLM_STEP_TOKENS = 2048
"""vLLM's default of ``max_num_batched_tokens`` for serving."""


def estimated_timings(manifest: LlmManifest, instance: Instance) -> Timings:
    """Return estimated timings of a model on an accelerator: a step takes as long as its memory traffic
    (weights and cache, read once, at ``_BANDWIDTH_SHARE`` of the bandwidth) and the arithmetic of the prompt
    tokens that it reads (at ``_COMPUTE_SHARE``) together.

    Raises ConfigurationError for a processor, whose speed no data sheet tells.
    """
    family = instance.name.split(".")[1]
    if family not in _DEVICES:
        raise ConfigurationError(
            f"{instance.name}: no timings of {manifest.name} are known there. Measure its model server with "
            "a load generator, write the times into a file (docs/capacity.md), and plan with --timings FILE."
        )
    bandwidth = _DEVICES[family][0] * _BANDWIDTH_SHARE * manifest.tensor_parallel
    flops = _DEVICES[family][1] * _COMPUTE_SHARE * manifest.tensor_parallel
    token_bytes = memory_of(manifest).cache / (manifest.batch_size * manifest.sequence_length)
    free_bytes = usable_bytes(manifest, instance) - manifest.weights_bytes
    in_parts = instance.accelerator == "gpu"  # Neuron reads a prompt whole, while answers wait
    return Timings(
        source=f"estimate: {family}'s data sheet, {_BANDWIDTH_SHARE:.0%} of its bandwidth and "
        f"{_COMPUTE_SHARE:.0%} of its arithmetic",
        slots=manifest.batch_size,
        kv_tokens=int(free_bytes / token_bytes),
        step_tokens=_VLLM_STEP_TOKENS if in_parts else manifest.sequence_length + manifest.batch_size,
        request_s=0.0,
        write_step_s=(manifest.weights_bytes / bandwidth,),
        write_context_s=token_bytes / bandwidth,
        read_token_s=2 * manifest.parameters / flops,
        read_context_s=0.0,
    )


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
    """When each request of a load got its first token, and its end."""

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
    """Simulate ``instances`` servers under a load. The same arguments give the same outcome."""
    return _Endpoint(load, timings, instances).run()


_outstanding = attrgetter("outstanding")


class _Endpoint:
    """The simulation: sends each request to the instance with the fewest outstanding ones, as the deployed
    endpoints route.

    As long as no request joins or leaves, the steps of an instance are alike, so any number of them is one
    event in closed form (sums of the growing contexts): four events a request. An event for each step would
    be too slow for 10⁶ requests a minute (docs/decisions/0079).
    """

    def __init__(self, load: Load, timings: Timings, instances: int) -> None:
        self.load, self.timings = load, timings
        self.step_s = timings.step_s()
        self.env = simpy.Environment()
        self.first_s = [inf] * len(load.at_s)
        self.end_s = [inf] * len(load.at_s)
        self._serving = [_Instance(self) for _ in range(instances)]

    def run(self) -> Outcome:
        """Simulate until every request has ended or was refused."""
        self.env.process(self._arrivals())
        self.env.run()
        waited_s = np.array(self.first_s) - np.asarray(self.load.at_s) + self.timings.request_s
        return Outcome(self.load, waited_s, np.array(self.end_s))

    def _arrivals(self) -> Generator[simpy.Event]:
        for request, at_s in enumerate(self.load.at_s):
            yield self.env.timeout(max(0.0, at_s - self.env.now))
            min(self._serving, key=_outstanding).arrive(request)


@dataclass(slots=True, eq=False)
class _Instance:
    """One simulated server.

    A request, given by its number in the load, is first ``waiting``, then ``reading`` (its prompt), then
    ``writing`` (its answer). ``_plan`` schedules a number of steps that are all alike as one event,
    ``_end_steps`` books what they did, and ``_begin`` plans the next. A request that can join cuts the plan
    short.
    """

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
    """Tokens of memory that requests in ``reading`` and ``writing`` will need at their ends."""
    steps: int = 0
    """Steps that have ended."""
    planned: int = 0
    """Steps of the plan under way; 0 while the server is idle."""
    began_s: float = 0.0
    lasts_s: float = 0.0
    """Begin and length of the plan under way."""
    turn: int = 0
    """Number of the plan; the event of an earlier, replaced plan is ignored."""

    @property
    def outstanding(self) -> int:
        return len(self.waiting) + len(self.reading) + len(self.writing)

    def arrive(self, request: int) -> None:
        """Take a request: an idle server begins at once; a busy one with room ends its plan after the step
        under way, so that the request joins the next."""
        self.waiting.append(request)
        if not self.planned:
            self._begin()
        elif self.planned > 1 and self._has_room(request):
            elapsed = (self.endpoint.env.now - self.began_s) / self.lasts_s  # share of the plan
            done = max(1, ceil(self.planned * elapsed))
            if done < self.planned:
                self._plan(done)  # the step under way is the last of this plan

    def _has_room(self, request: int) -> bool:
        """Return whether a slot and memory are free for the request; an idle server takes any."""
        timings, running = self.endpoint.timings, len(self.reading) + len(self.writing)
        if running >= timings.slots:
            return False
        fits = timings.kv_tokens is None or self.held + self._tokens(request) <= timings.kv_tokens
        return fits or not running

    def _tokens(self, request: int) -> int:
        return self.endpoint.load.prompt_tokens[request] + self.endpoint.load.answer_tokens[request]

    def _begin(self) -> None:
        """Take waiting requests, and plan steps until the first prompt is read or the first answer ends."""
        self.planned = 0
        while self.waiting and self._has_room(self.waiting[0]):
            self._take(self.waiting.popleft())
        # Steps until the first prompt is read, and until the first answer ends.
        step_counts = [max(1, self.unread[self.reading[0]] // self._read_at_once())] if self.reading else []
        if self.writing:
            step_counts.append(self.writing[0][0] - self.steps)
        if step_counts:
            self.began_s = self.endpoint.env.now
            self._plan(min(step_counts))

    def _take(self, request: int) -> None:
        """Begin to read the request's prompt; one that waited too long is dropped, and counts as refused."""
        if self.endpoint.env.now - self.endpoint.load.at_s[request] <= LONGEST_WAIT_S:
            self.unread[request] = self.endpoint.load.prompt_tokens[request]
            self.reading.append(request)
            self.held += self._tokens(request)

    def _read_at_once(self) -> int:
        """Return the tokens of prompts that one step reads, beside one token of each answer."""
        return max(1, self.endpoint.timings.step_tokens - len(self.writing))

    def _parts(self, steps: int) -> list[tuple[int, int]]:
        """Return which requests' prompts the next steps read, and how many tokens of each, in order."""
        room, parts = steps * self._read_at_once(), list[tuple[int, int]]()
        for request in self.reading:
            parts.append((request, min(room, self.unread[request])))
            room -= parts[-1][1]
            if not room:
                break
        return parts

    def _plan(self, steps: int) -> None:
        """Schedule the end of the steps from ``began_s`` on, in place of an earlier plan."""
        self.planned, self.lasts_s = steps, self._seconds(steps)
        self.turn += 1
        left_s = max(0.0, self.began_s + self.lasts_s - self.endpoint.env.now)
        event = self.endpoint.env.timeout(left_s, self.turn)
        event.callbacks.append(self._end_steps)  # pyright: ignore[reportOptionalMemberAccess] - not yet processed

    def _seconds(self, steps: int) -> float:
        """Return how long the next steps take, in closed form: each looks back at one more token of each
        answer."""
        timings, writing = self.endpoint.timings, len(self.writing)
        # Token pairs: each step looks back at the context, which grows by ``writing`` tokens a step.
        looked_at = steps * self.context + writing * steps * (steps - 1) / 2
        seconds = steps * self.endpoint.step_s[writing] + timings.write_context_s * looked_at
        for request, read in self._parts(steps):
            before = self.endpoint.load.prompt_tokens[request] - self.unread[request]
            seconds += timings.read_token_s * read + timings.read_context_s * read * (before + read / 2)
        return seconds

    def _end_steps(self, event: simpy.Event) -> None:
        """Book the planned steps: prompts that are read now have their first token; answers may have
        ended."""
        if event.value != self.turn:
            return  # this plan was replaced
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
                # This step wrote its first token, each later step writes one more.
                heappush(self.writing, (self.steps + load.answer_tokens[request] - 1, request))
        while self.writing and self.writing[0][0] <= self.steps:
            _, request = heappop(self.writing)
            self.endpoint.end_s[request] = now
            self.context -= self._tokens(request)
            self.held -= self._tokens(request)
        self._begin()


_MOST_INSTANCES = 200
_SIMULATED_S = 2 * 3600.0
"""Length of the simulated load, unless that are too few or too many requests."""
_QUIET = 0.1
"""Load of a quiet hour as a share of a busy one's."""
_RATES = (0.5, 1.0, 1.5, 2.0)
"""Loads of the scenarios, as multiples of the load that is asked about."""
_LEAST_REQUESTS, _MOST_REQUESTS = 5_000, 20_000
DEFAULT_LENGTHS = "assumed: prompts of some 4,500 tokens (five documents of the pharmacy), answers of some 45"
"""Decision 0064, and the median and spread of 355 recorded answers; the spread of prompts is a guess."""


def default_lengths(longest: int) -> list[tuple[int, int]]:
    """Return 1,000 pairs (tokens of prompt, tokens of answer), drawn from ``DEFAULT_LENGTHS``; ``longest``:
    most tokens of both together."""
    generator = np.random.default_rng(22)
    answers = generator.lognormal(np.log(45), 0.5, 1000).clip(1, longest / 2)
    prompts = generator.lognormal(np.log(4500), 0.3, 1000).clip(1, longest - answers)
    return list(zip(prompts.astype(int).tolist(), answers.astype(int).tolist(), strict=True))


@dataclass(frozen=True, slots=True)
class Demand:
    """How many questions come, and how long they and their answers are."""

    questions_per_s: float
    """In the busiest hour."""
    lengths: Sequence[tuple[int, int]]
    """Tokens of prompt and answer; a question draws one of the pairs."""
    busy_hours: int = 24
    """Hours of a day with that load; the others have a tenth of it."""

    def mean(self, busy: float, quiet: float) -> float:
        """Return the mean over a day of a value that is ``busy`` in busy hours and ``quiet`` in the
        others."""
        return (busy * self.busy_hours + quiet * (24 - self.busy_hours)) / 24

    def load(self, rate: float) -> Load:
        """Return Poisson arrivals; ``rate``: a multiple of ``questions_per_s``."""
        generator = np.random.default_rng(22)  # always the same: two plans differ by their inputs alone
        requests = min(_MOST_REQUESTS, max(_LEAST_REQUESTS, self.questions_per_s * _SIMULATED_S))
        at_s = np.sort(generator.random(generator.poisson(requests * rate))) * requests / self.questions_per_s
        drawn = generator.choice(np.asarray(self.lengths), len(at_s))
        return Load(at_s.tolist(), drawn[:, 0].tolist(), drawn[:, 1].tolist())


@dataclass(frozen=True, slots=True)
class Question:
    """What a plan is made for."""

    demand: Demand
    timings: Timings
    first_token_s: float
    """95 of 100 questions get their first token within it."""
    zones: int
    usd_per_hour: float

    def spared(self, needed: int) -> int:
        """Return the fewest instances of which ``needed`` are left when the fullest zone is lost: 4 needed in
        2 zones are 8. In a single zone nothing is added."""
        sizes = range(needed, 2 * needed + 2)
        return next(size for size in sizes if self.zones == 1 or size - ceil(size / self.zones) >= needed)


@dataclass(frozen=True, slots=True)
class Scenario:
    """What happens to the planned instances under one load."""

    what: str
    needed: int | None
    """Instances that answer in time; None where 200 do not."""
    p50_s: float
    p95_s: float
    unanswered: float
    """Share that was refused after a minute."""
    tokens_per_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """How many instances to run, and what they cost."""

    instances: int
    """So many answer in time even while one zone is lost."""
    usd_a_month: float
    usd_a_question: float
    usd_a_month_by_hour: float
    """If every hour of the day has as many as it needs."""
    scenarios: tuple[Scenario, ...]
    """What happens to the planned instances."""


def make_plan(question: Question) -> Plan:
    """Return how many instances to run, their cost, and what happens under other loads. Raises
    ConfigurationError when no number of instances answers in time."""
    demand = question.demand
    needed = instances_needed(question, 1.0)
    if needed is None:
        raise ConfigurationError(
            f"Not even {_MOST_INSTANCES} instances give 95 of 100 questions a first token within "
            f"{question.first_token_s * 1000:,.0f} ms. Allow more time, let the model read less "
            "(reads_tokens), or take a faster instance."
        )
    instances = question.spared(needed)
    by_hour = demand.mean(instances, question.spared(instances_needed(question, _QUIET) or needed))
    month = question.usd_per_hour * HOURS_A_MONTH
    asked_a_month = demand.mean(1.0, _QUIET) * demand.questions_per_s * 3600 * HOURS_A_MONTH
    return Plan(
        instances=instances,
        usd_a_month=instances * month,
        usd_a_question=instances * month / asked_a_month,
        usd_a_month_by_hour=by_hour * month,
        scenarios=tuple(_scenario(question, instances, rate) for rate in _RATES),
    )


def _scenario(question: Question, instances: int, rate: float) -> Scenario:
    """Simulate the planned instances under ``rate`` times the demand."""
    outcome = simulate(question.demand.load(rate), question.timings, instances=instances)
    p50, p95 = (outcome.first_token_s(percent) for percent in (50, 95))
    needed = instances_needed(question, rate)
    return Scenario(f"{rate:.0%} of the load", needed, p50, p95, outcome.unanswered, outcome.tokens_per_s)


def instances_needed(question: Question, rate: float) -> int | None:
    """Return the fewest instances that answer ``rate`` times the demand in time; None: more than 200.

    Counts are doubled until one is enough, then the range is halved.
    """
    load = question.demand.load(rate)

    def is_enough(instances: int) -> bool:
        outcome = simulate(load, question.timings, instances=instances)
        return outcome.first_token_s(95) <= question.first_token_s

    late, enough = 0, 1
    while not is_enough(enough):
        if enough >= _MOST_INSTANCES:
            return None
        late, enough = enough, min(_MOST_INSTANCES, 2 * enough)
    while enough - late > 1:
        middle = (late + enough) // 2
        late, enough = (late, middle) if is_enough(middle) else (middle, enough)
    return enough
