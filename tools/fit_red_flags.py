"""Learns ``weights/red_flags.json`` from messages: run by ``make fit ARGS=red_flags``.

Each message is a bag of pieces, its windows and itself, of which one at least is about an emergency. Bags are
joined while the weights are learned, so that emergencies stand beside ordinary text. Whether a message is an
emergency, and which, are learned together: a row for each flag finds more than one row for all. Everything is
seeded: the same messages give the same file.
"""

from __future__ import annotations

import random
from base64 import b85encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assistant.answer.red_flags import GRAM_BUCKETS, Examples, Nearness, Weights, grams, pieces, score_of
from assistant.evaluation.estimator import Classes, Estimator, softmax

Ints = NDArray[np.int64]
Floats = NDArray[Any]
"""Of float32 while the weights are learned."""
Embed = Callable[[Sequence[str]], Floats]
"""Returns the vectors of texts, of unit length, shape (texts, dimensions)."""
_UNITS, _EPOCHS, _BATCH, _RATE, _GRAM_RATE, _DROPPED = 8, 15, 128, 0.005, 0.02, 0.5
_PULL, _FLAG_PULL = 1e-4, 1e-3
_FLAG_BIAS = -2.5
_NAMING = 0.3
"""How much it counts which flag an emergency is of, beside that it is one."""
_WRITERS = 3.0
"""How much a message of a writer counts; ours count once."""
_SCALE = 20.0
"""Of a centred vector, so that its values are about 1."""
_JOINED = 0.5
"""Share of the messages of an epoch that are joined with an ordinary one."""
_MOST_FALSE, _MOST_FALSE_NEAR = 0.015, 0.004
_EXAMPLES = 10


class Message(NamedTuple):
    text: str
    flag: str | None
    writer: str
    """Whose message it is, for leaving writers out; "" for the others."""


ORDINARY = -1


class Labels(NamedTuple):
    """What messages are, and how much each counts."""

    flags: Ints
    """The number of its flag, ``ORDINARY`` for an ordinary message."""
    weights: Floats
    """Half of their sum is that of emergencies; 1 on average."""

    @classmethod
    def of(cls, messages: Sequence[Message], *, names: Sequence[str]) -> Labels:
        flags = np.array(
            [ORDINARY if message.flag is None else names.index(message.flag) for message in messages]
        )
        weights = np.array([_WRITERS if message.writer else 1.0 for message in messages])
        for is_part in (flags == ORDINARY, flags != ORDINARY):
            weights[is_part] /= 2.0 * weights[is_part].sum() / len(messages)
        return cls(flags, weights)


class Bags:
    """Messages as the weights see them: rows of their pieces, and the n-grams of each."""

    def __init__(self, texts: Sequence[str], embed: Embed) -> None:
        of_text = [pieces(text) for text in texts]
        flat = list(chain.from_iterable(of_text))
        self.vectors = embed(flat).astype(np.float32)
        self.sizes = np.array([len(parts) for parts in of_text])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.is_whole = np.zeros(len(flat), np.float32)
        self.is_whole[self.starts] = 1.0
        hashed = [grams(part) for part in flat]
        self.gram_sizes = np.array([len(part) for part in hashed])
        self.gram_starts = np.cumsum(self.gram_sizes) - self.gram_sizes
        self.grams = np.array(list(chain.from_iterable(hashed)), dtype=np.int64)


def ranges(starts: Ints, sizes: Ints) -> Ints:
    """Return the numbers of all ranges, one after the other."""
    ends: Ints = np.cumsum(sizes)
    return np.arange(int(ends[-1]), dtype=np.int64) + np.repeat(starts - ends + sizes, sizes)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One forward pass over pieces, and what its gradient needs."""

    rows: Floats
    hidden: Floats
    of_flags: Floats
    """Log-odds of each flag, shape (pieces, flags)."""
    grams: Ints
    gram_sizes: Ints
    scores: Floats


class Network:
    """Judges pieces: a row for each flag and a small network on vectors, a weight for each n-gram."""

    def __init__(self, mean: Floats, *, flags: int, seed: int = 0) -> None:
        drawn = np.random.default_rng(seed)
        size = len(mean)
        values = {
            "hidden": drawn.normal(0.0, 0.05, (size + 1, _UNITS)),
            "outer": drawn.normal(0.0, 0.3, _UNITS),
            "flags": np.vstack([drawn.normal(0.0, 0.02, (size, flags)), np.full((1, flags), _FLAG_BIAS)]),
            "whole": np.zeros(1),
            "grams": np.zeros(GRAM_BUCKETS),
        }
        self.mean = mean
        self.values: dict[str, Floats] = {name: value.astype(np.float32) for name, value in values.items()}

    def run(self, bags: Bags, at: Ints, *, kept: Floats | None = None) -> _Pass:
        """``kept``: which values of the rows are left, for learning."""
        values = self.values
        centred = (bags.vectors[at] - self.mean) * np.float32(_SCALE)
        rows = np.hstack([centred if kept is None else centred * kept, np.ones((len(at), 1), np.float32)])
        hidden = np.maximum(rows @ values["hidden"], 0.0)
        of_flags = rows @ values["flags"]
        sizes = bags.gram_sizes[at]
        hashed = bags.grams[ranges(bags.gram_starts[at], sizes)]
        of_piece = np.repeat(np.arange(len(at)), sizes)
        by_grams = np.bincount(of_piece, weights=values["grams"][hashed], minlength=len(at))
        scores = np.logaddexp.reduce(of_flags, axis=1) + hidden @ values["outer"]
        scores = scores + bags.is_whole[at] * values["whole"] + by_grams / np.sqrt(np.maximum(sizes, 1))
        return _Pass(rows, hidden, of_flags, hashed, sizes, scores.astype(np.float32))

    def scores(self, bags: Bags) -> Floats:
        """Return the score of each message."""
        scores = self.run(bags, np.arange(len(bags.vectors))).scores
        return np.array([score_of(part.tolist()) for part in np.split(scores, bags.starts[1:])])

    def fit(self, bags: Bags, labels: Labels, *, seed: int = 0) -> None:
        """Learn from messages: Adam with a falling rate."""
        drawn = np.random.default_rng(seed)
        ordinary = np.flatnonzero(labels.flags == ORDINARY)
        first = {name: np.zeros_like(value) for name, value in self.values.items()}
        second = {name: np.zeros_like(value) for name, value in self.values.items()}
        count = len(labels.flags)
        batches = -(-count // _BATCH)
        orders = [drawn.permutation(count) for _ in range(_EPOCHS)]
        for step in range(_EPOCHS * batches):
            chosen = orders[step // batches][step % batches * _BATCH :][:_BATCH]
            joined = np.where(drawn.random(len(chosen)) < _JOINED, drawn.choice(ordinary, len(chosen)), -1)
            gradients = self._gradients(bags, chosen, joined, labels, drawn)
            for name, gradient in gradients.items():
                first[name] = (0.9 * first[name] + 0.1 * gradient).astype(np.float32)
                second[name] = (0.999 * second[name] + 0.001 * gradient**2).astype(np.float32)
                rate = (_GRAM_RATE if name == "grams" else _RATE) * (1.0 - step / (_EPOCHS * batches))
                moved = first[name] / (1.0 - 0.9 ** (step + 1))
                self.values[name] -= (
                    rate * moved / (np.sqrt(second[name] / (1.0 - 0.999 ** (step + 1))) + 1e-8)
                ).astype(np.float32)

    def _gradients(
        self, bags: Bags, chosen: Ints, joined: Ints, labels: Labels, drawn: np.random.Generator
    ) -> dict[str, Floats]:
        """``joined``: the number of the message that stands beside each, -1 for none."""
        values = self.values
        pairs = np.stack([chosen, joined], axis=1)
        parts = pairs[pairs >= 0]
        at = ranges(bags.starts[parts], bags.sizes[parts])
        sizes = bags.sizes[chosen] + np.where(joined >= 0, bags.sizes[joined], 0)
        kept = drawn.random((len(at), len(self.mean)), dtype=np.float32) > _DROPPED
        made = self.run(bags, at, kept=kept / np.float32(1.0 - _DROPPED))
        flags, weights = labels.flags[chosen], labels.weights[chosen] / len(chosen)
        totals, attention = pooled(made.scores[:, None], sizes)
        errors = (1.0 / (1.0 + np.exp(-totals[:, 0])) - (flags != ORDINARY)) * weights
        of_piece = (np.repeat(errors, sizes) * attention[:, 0]).astype(np.float32)
        to_flags = of_piece[:, None] * softmax(made.of_flags)
        by_flag, attention = pooled(made.of_flags, sizes)
        naming = (softmax(by_flag) - np.eye(by_flag.shape[1])[flags]) * (flags != ORDINARY)[:, None]
        to_flags = to_flags + np.repeat(_NAMING * naming * weights[:, None], sizes, axis=0) * attention
        back = np.outer(of_piece, values["outer"]) * (made.hidden > 0)
        by_grams = np.repeat(of_piece / np.sqrt(np.maximum(made.gram_sizes, 1)), made.gram_sizes)
        pulled = np.vstack([values["flags"][:-1], np.zeros_like(values["flags"][:1])])
        return {
            "hidden": made.rows.T @ back + _PULL * values["hidden"],
            "outer": made.hidden.T @ of_piece + _PULL * values["outer"],
            "flags": made.rows.T @ to_flags.astype(np.float32) + _FLAG_PULL * pulled,
            "whole": np.array([of_piece @ bags.is_whole[at]]),
            "grams": np.bincount(made.grams, weights=by_grams, minlength=GRAM_BUCKETS)
            + _PULL * values["grams"],
        }


def pooled(scores: Floats, sizes: Ints) -> tuple[Floats, Floats]:
    """Return the log of the summed odds of each bag, and the share of each piece in it.

    ``scores``: shape (pieces, columns); each column is pooled for itself.
    """
    starts = np.cumsum(sizes) - sizes
    highest = np.maximum.reduceat(scores, starts)
    odds = np.exp(scores - np.repeat(highest, sizes, axis=0))
    sums = np.add.reduceat(odds, starts)
    return highest + np.log(sums), odds / np.repeat(sums, sizes, axis=0)


def learned(messages: Sequence[Message], embed: Embed, *, names: Sequence[str]) -> Network:
    """Return the network that has learned the messages, the mean of two by other seeds."""
    bags = Bags([message.text for message in messages], embed)
    labels = Labels.of(messages, names=names)
    both = [Network(bags.vectors.mean(axis=0), flags=len(names), seed=seed) for seed in (0, 1)]
    for seed, network in enumerate(both):
        network.fit(bags, labels, seed=seed)
    network = both[0]
    parts = {name: [one.values[name] for one in both] for name in network.values}
    network.values = {name: np.mean(values, axis=0) for name, values in parts.items()}
    network.values["hidden"] = np.hstack(parts["hidden"])
    network.values["outer"] = np.hstack(parts["outer"]) / 2
    return network


def fit(messages: Sequence[Message], embed: Embed, *, names: Sequence[str], model: str) -> Weights:
    """Return the weights of the flags. ``names``: all flags of the messages; ``model``: who embeds."""
    network = learned(messages, embed, names=names)
    values = network.values
    scale = np.r_[np.full(len(network.mean), _SCALE), 1.0]
    gram_scale = float(np.abs(values["grams"]).max()) / 127
    bytes_of = np.rint(values["grams"] / gram_scale).astype(int) + 128
    return Weights(
        embedding_model=model,
        fitted_on=sha256("\n".join(f"{flag}: {text}" for text, flag, _ in messages).encode()).hexdigest(),
        mean=_rounded(network.mean),
        hidden=tuple(_rounded(row, decimals=2) for row in values["hidden"].T * scale),
        outer=_rounded(values["outer"]),
        whole=round(float(values["whole"][0]), 4),
        grams=b85encode(bytes(bytes_of.tolist())).decode(),
        gram_scale=round(gram_scale, 6),
        least_score=least_score(messages, embed, names=names),
        flags={name: _rounded(values["flags"][:, at] * scale, decimals=2) for at, name in enumerate(names)},
        **nearness(messages, embed, names=names),
    )


def least_score(messages: Sequence[Message], embed: Embed, *, names: Sequence[str]) -> float:
    """Return the score that 1.5 % of a writer's ordinary messages reach: the mean of the writers, each left
    out in turn."""
    reached: list[tuple[float, float]] = []
    writers = sorted({message.writer for message in messages} - {""})
    for writer in writers:
        network = learned([message for message in messages if message.writer != writer], embed, names=names)
        ordinary = [message.text for message in messages if message.writer == writer and message.flag is None]
        share = 1.0 / len(ordinary) / len(writers)
        reached += [(score, share) for score in network.scores(Bags(ordinary, embed)).tolist()]
    reached.sort(reverse=True)
    shares = accumulate(share for _, share in reached)
    return next(
        round(score + 1e-3, 4)
        for (score, _), total in zip(reached, shares, strict=True)
        if total > _MOST_FALSE
    )


def nearness(messages: Sequence[Message], embed: Embed, *, names: Sequence[str]) -> dict[str, Nearness]:
    """Return how a flag is judged by ten examples: every third flag in turn is unknown to the network, and
    so are the writers; their messages are what is judged."""
    drawn = random.Random(2)  # noqa: S311 - no secret
    known = [message for message in messages if not message.writer]
    theirs = [message for message in messages if message.writer]
    bags = Bags([message.text for message in theirs], embed)
    rows: list[list[float]] = []
    labels: list[bool] = []
    for name in names[::3]:
        network = learned([message for message in known if message.flag != name], embed, names=names)
        texts = [message.text for message in known if message.flag == name]
        examples = Examples.of((embed(drawn.sample(texts, _EXAMPLES)) - network.mean).tolist())
        scores = network.scores(bags)
        centred = bags.vectors - network.mean
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        nearest = np.maximum.reduceat((centred @ np.array(examples.vectors).T).max(axis=1), bags.starts)
        middle = np.maximum.reduceat(centred @ np.array(examples.middle), bags.starts)
        for at, message in enumerate(theirs):
            if message.flag in (None, name):
                rows.append([scores[at], nearest[at], middle[at]])
                labels.append(message.flag is not None)
    return {
        "with_prior": _judged(np.array(rows), labels, columns=(0, 1, 2)),
        "alone": _judged(np.array(rows), labels, columns=(1, 2)),
    }


def _judged(rows: Floats, labels: Sequence[bool], *, columns: Sequence[int]) -> Nearness:
    """Fit a logistic regression, whose bias lets a small share of the ordinary messages through."""
    chosen = rows[:, columns]
    mean, spread = chosen.mean(axis=0), chosen.std(axis=0)
    scaled = np.hstack([(chosen - mean) / spread, np.ones((len(chosen), 1))])
    right = np.array(labels, float)
    design = Classes(scaled, 2)
    weights = Estimator(1.0, steps=300).fit(design, np.stack([1.0 - right, right], axis=1)).reshape(-1, 2)
    found = np.zeros(3)
    found[list(columns)] = (weights[:-1, 1] - weights[:-1, 0]) / spread
    ordinary = (rows @ found)[right == 0]
    prior, nearest, middle = _rounded(found)
    return Nearness(
        prior=prior,
        nearest=nearest,
        middle=middle,
        bias=-round(_above(ordinary.tolist(), _MOST_FALSE_NEAR), 4),
    )


def _above(scores: Sequence[float], share: float) -> float:
    """Return a score that this share of the scores reaches, at most."""
    return round(sorted(scores)[-1 - int(share * len(scores))] + 1e-3, 4)


def _rounded(values: Floats, *, decimals: int = 4) -> tuple[float, ...]:
    return tuple(round(value, decimals) for value in values.tolist())
