"""Finds the red flags of a message: emergencies that the tenant file describes by example messages.

A linear head has one row for each flag and one for ordinary messages. ``weights/red_flags.json`` is the head
of the packaged embedding model. A process fits one of its own, on the vectors of the tenant's examples and of
``ordinary_messages.txt``, when the tenant has another model or a flag that the file lacks. A message raises
flags by the vector of its whole text. docs/red-flags.md has the measurements.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from math import exp, fsum, log, sqrt
from operator import mul
from typing import Self

from assistant.answering.ports import TextEmbedder
from assistant.answering.rank import softmax
from assistant.answering.services import Loaded
from assistant.domain.answers import RedFlag
from assistant.domain.clock import Clock, Deadline
from assistant.domain.public import PublicModel
from assistant.settings.tenant import TenantConfig

LEAST_SCORE = -0.7
"""Log-odds of any flag against an ordinary message, from which on a message raises flags, for a head that is
fitted on 21 examples a flag: 2 % of the ordinary questions of the tuning halves are over it, by five-fold
cross-validation."""
_LEAST_SHARE = 0.25
"""Of the probability of all flags: the likeliest flag is raised, and each other one with such a share."""
_BATCH = 16
"""Texts of one call, so that a question waits for 0.15 s of CPU at most while a process embeds."""
_LIMIT_S = 300.0
"""For some 800 texts, which take the packaged model 7 s of CPU in float32, behind the questions of others."""
_EPOCHS, _RATE, _RATE_DECAY, _WEIGHT_DECAY, _LEAST_GRADIENT = 10, 3.0, 0.3, 0.1, 0.02
_GOLDEN = 0.618034
"""Its multiples modulo 1 are spread evenly: sorted by them, a flag's examples are visited far apart."""


class Head:
    """A softmax regression on centred vectors. Group 0 is ordinary messages, group n is flag n - 1."""

    def __init__(self, *, mean: Sequence[float], scale: float, rows: Sequence[Sequence[float]]) -> None:
        """``rows``: the weights of each group, shape (groups, dimensions + 1)."""
        self.mean, self.scale, self.rows = mean, scale, list(rows)

    @classmethod
    def fitted(cls, groups: Sequence[Sequence[Sequence[float]]]) -> Self:
        """Fit the vectors of each group: 778 vectors take 1.5 s of CPU, so call it in a thread."""
        vectors = [vector for group in groups for vector in group]
        mean = [fsum(column) / len(vectors) for column in zip(*vectors, strict=True)]
        head = cls(mean=mean, scale=1.0, rows=[[0.0] * (len(mean) + 1) for _ in groups])
        squares = [fsum(map(mul, row, row)) - 1.0 for row in map(head._row, vectors)]
        head.scale = sqrt(fsum(squares) / len(vectors))
        of_group = [number for number, group in enumerate(groups) for _ in group]
        rows = [(head._row(vector), number) for vector, number in zip(vectors, of_group, strict=True)]
        ordinary = len(groups[0])
        # Ordinary messages weigh as much as all flags: the threshold is for any number of flags.
        weights = [len(rows) / 2 / (len(rows) - ordinary)] * len(groups)
        weights[0] = len(rows) / 2 / ordinary
        order = sorted(range(len(rows)), key=lambda at: at * _GOLDEN % 1.0)
        for epoch in range(_EPOCHS):
            rate = _RATE / max(weights) / (1.0 + _RATE_DECAY * epoch)
            for at in order:
                head._step(*rows[at], rate=rate, weight=weights[rows[at][1]], decay=_WEIGHT_DECAY / len(rows))
        return head

    def _step(self, row: Sequence[float], group: int, *, rate: float, weight: float, decay: float) -> None:
        for number, share in enumerate(softmax(self._scores_of(row))):
            gradient = weight * (share - (number == group))
            if abs(gradient) > _LEAST_GRADIENT:
                kept, step = 1.0 - rate * decay, rate * gradient
                self.rows[number] = [
                    kept * old - step * value for old, value in zip(self.rows[number], row, strict=True)
                ]

    def scores(self, vector: Sequence[float]) -> list[float]:
        """Return the score of each group: 13 of 384 dimensions take 0.14 ms."""
        return self._scores_of(self._row(vector))

    def score(self, vector: Sequence[float]) -> float:
        """Return the log-odds that a message raises any flag."""
        ordinary, *flags = self.scores(vector)
        highest = max(flags)
        return highest + log(sum(exp(flag - highest) for flag in flags)) - ordinary

    def _scores_of(self, row: Sequence[float]) -> list[float]:
        return [sum(map(mul, weights, row)) for weights in self.rows]

    def _row(self, vector: Sequence[float]) -> list[float]:
        """Return a vector around the mean, of length 1 on average, with a constant at its end."""
        return [(value - mean) / self.scale for value, mean in zip(vector, self.mean, strict=True)] + [1.0]


class ShippedHead(PublicModel):
    """``weights/red_flags.json``, as ``make fit ARGS=red_flags`` writes it."""

    embedding_model: str
    fitted_on: str
    """SHA-256 (hex) of the training messages."""
    least_score: float
    """As ``LEAST_SCORE``, for this head."""
    mean: tuple[float, ...]
    scale: float
    ordinary: tuple[float, ...]
    """The row of ordinary messages, shape (dimensions + 1,)."""
    flags: Mapping[str, tuple[float, ...]]
    """Name of a flag = its row."""

    def head(self, names: Sequence[str]) -> Head:
        """Return the head of these flags only. Raises KeyError for a flag that the file lacks."""
        return Head(
            mean=self.mean, scale=self.scale, rows=[self.ordinary, *(self.flags[name] for name in names)]
        )


@lru_cache
def shipped_head() -> ShippedHead:
    """Return the fitted head of the packaged embedding model."""
    resource = files("assistant.answering").joinpath("weights", "red_flags.json")
    return ShippedHead.model_validate_json(resource.read_bytes())


class RedFlags:
    """The red flags of one tenant. One instance serves all requests of a process; for one event loop."""

    def __init__(self, tenant: TenantConfig, *, embedder: TextEmbedder, clock: Clock) -> None:
        self._entries = tenant.red_flags
        self._embedder = embedder
        self._clock = clock
        self._least_score = LEAST_SCORE
        self._head = Loaded(self._fitted, clock=clock, failure="red_flags_not_loaded")
        names, shipped = [entry.name for entry in tenant.red_flags], shipped_head()
        if names and tenant.embedding.model == shipped.embedding_model and shipped.flags.keys() >= set(names):
            self._head.value, self._least_score = shipped.head(names), shipped.least_score

    @property
    def is_ready(self) -> bool:
        """Whether messages are checked: the tenant has no flags, or they are loaded."""
        return self._head.value is not None or not self._entries

    async def load(self, *, within_s: float | None = None) -> None:
        """Embed the examples and fit the head, unless the shipped one serves. It returns when that is done,
        has failed, or is late. Raises nothing."""
        if not self.is_ready:
            await self._head.get(within_s=within_s)

    def raised(self, vector: Sequence[float]) -> tuple[RedFlag, ...]:
        """Return the flags of a message, the likeliest first; none until the flags are loaded.

        ``vector``: of unit length, of the message as typed.
        """
        head = self._head.value
        if head is None or head.score(vector) < self._least_score:
            return ()
        shares = softmax(head.scores(vector)[1:])
        likely = sorted(zip(shares, self._entries, strict=True), key=lambda one: -one[0])
        return tuple(
            RedFlag(name=entry.name, text=entry.text, call=entry.call)
            for number, (share, entry) in enumerate(likely)
            if number == 0 or share >= _LEAST_SHARE
        )

    async def _fitted(self) -> Head:
        groups = [ordinary_messages(), *(entry.examples for entry in self._entries)]
        texts = [text for group in groups for text in group]
        deadline = Deadline.after(_LIMIT_S, clock=self._clock)
        made: list[list[float]] = []
        async with asyncio.timeout(_LIMIT_S):
            for at in range(0, len(texts), _BATCH):
                made += await self._embedder.embed(texts[at : at + _BATCH], deadline=deadline)
        vectors = iter(made)
        return await asyncio.to_thread(Head.fitted, [[next(vectors) for _ in group] for group in groups])


def ordinary_messages() -> tuple[str, ...]:
    """Return messages to a care line that are no emergencies, some of them nearly."""
    text = files("assistant.answering").joinpath("ordinary_messages.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))
