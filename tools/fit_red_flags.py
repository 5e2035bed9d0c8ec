"""Learns ``weights/red_flags.json`` from messages: run by ``make fit ARGS=red_flags``.

Each message is a bag of pieces, its windows and itself, of which one at least is about an emergency. Bags are
joined while the weights are learned, so that emergencies stand beside ordinary text; copies have exchanged or
missing letters. Everything is seeded: the same messages give the same file.
"""

from __future__ import annotations

import random
from base64 import b85encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import chain
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from assistant.answering.red_flags import GRAM_BUCKETS, Examples, Nearness, Weights, grams, pieces, score_of
from assistant.tuning.estimator import Classes, Estimator, Floats

Ints = NDArray[np.int64]
Embed = Callable[[Sequence[str]], Floats]
"""Returns the vectors of texts, of unit length, shape (texts, dimensions)."""
_UNITS, _EPOCHS, _BATCH, _RATE, _GRAM_RATE, _DROPPED = 8, 20, 128, 0.005, 0.02, 0.3
_PULL = 1e-4
_SCALE = 20.0
"""Of a centred vector, so that its values are about 1."""
_JOINED = 0.5
"""Share of the messages of an epoch that are joined with an ordinary one."""
_MISSPELT = 0.35
_MOST_FALSE, _MOST_FALSE_NEAR = 0.0075, 0.004
_EXAMPLES = 10
_FLAG_PULL = 0.001


class Message(NamedTuple):
    text: str
    flag: str | None
    writer: str
    """Whose message it is, for leaving writers out; "" for the others."""


class Bags:
    """Messages as the weights see them: rows of their pieces, and the n-grams of each."""

    def __init__(self, texts: Sequence[str], embed: Embed) -> None:
        of_text = [pieces(text) for text in texts]
        flat = list(chain.from_iterable(of_text))
        self.vectors = embed(flat)
        self.sizes = np.array([len(parts) for parts in of_text])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.is_whole = np.zeros(len(flat))
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
    grams: Ints
    gram_sizes: Ints
    scores: Floats


class Network:
    """Judges pieces: a small network on their vectors, and a weight for each n-gram."""

    def __init__(self, mean: Floats, *, seed: int = 0) -> None:
        drawn = np.random.default_rng(seed)
        size = len(mean)
        self.mean = mean
        self.values: dict[str, Floats] = {
            "hidden": drawn.normal(0.0, 0.05, (size + 1, _UNITS)),
            "outer": drawn.normal(0.0, 0.3, _UNITS),
            "linear": np.zeros(size + 1),
            "whole": np.zeros(1),
            "grams": np.zeros(GRAM_BUCKETS),
        }

    def rows(self, bags: Bags, at: Ints) -> Floats:
        return np.hstack([(bags.vectors[at] - self.mean) * _SCALE, np.ones((len(at), 1))])

    def run(self, bags: Bags, at: Ints, *, kept: Floats | float = 1.0) -> _Pass:
        """``kept``: which values of the rows are left, for learning."""
        values = self.values
        rows = self.rows(bags, at) * kept
        hidden = np.maximum(rows @ values["hidden"], 0.0)
        sizes = bags.gram_sizes[at]
        hashed = bags.grams[ranges(bags.gram_starts[at], sizes)]
        of_piece = np.repeat(np.arange(len(at)), sizes)
        by_grams = np.bincount(of_piece, weights=values["grams"][hashed], minlength=len(at))
        scores = hidden @ values["outer"] + rows @ values["linear"] + bags.is_whole[at] * values["whole"]
        return _Pass(rows, hidden, hashed, sizes, scores + by_grams / np.sqrt(np.maximum(sizes, 1)))

    def scores(self, bags: Bags) -> tuple[Floats, Floats]:
        """Return the score of each message, and the centred vector that its emergency has."""
        scores = self.run(bags, np.arange(len(bags.vectors))).scores
        _, attention = pooled(scores, bags.sizes)
        centred = (bags.vectors - self.mean) * attention[:, None]
        totals = [score_of(part.tolist()) for part in np.split(scores, bags.starts[1:])]
        return np.array(totals), np.add.reduceat(centred, bags.starts)

    def fit(self, bags: Bags, labels: Floats, *, seed: int = 0) -> None:
        """Learn from messages whose label is 1.0 for an emergency, else 0.0: Adam with a falling rate."""
        drawn = np.random.default_rng(seed)
        share = float(labels.mean())
        weights = labels * 0.5 / share + (1.0 - labels) * 0.5 / (1.0 - share)
        ordinary = np.flatnonzero(labels == 0)
        first = {name: np.zeros_like(value) for name, value in self.values.items()}
        second = {name: np.zeros_like(value) for name, value in self.values.items()}
        batches = -(-len(labels) // _BATCH)
        orders = [drawn.permutation(len(labels)) for _ in range(_EPOCHS)]
        for step in range(_EPOCHS * batches):
            chosen = orders[step // batches][step % batches * _BATCH :][:_BATCH]
            joined = np.where(drawn.random(len(chosen)) < _JOINED, drawn.choice(ordinary, len(chosen)), -1)
            gradients = self._gradients(bags, chosen, joined, labels[chosen], weights[chosen], drawn)
            for name, gradient in gradients.items():
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                rate = (_GRAM_RATE if name == "grams" else _RATE) * (1.0 - step / (_EPOCHS * batches))
                moved = first[name] / (1.0 - 0.9 ** (step + 1))
                self.values[name] -= (
                    rate * moved / (np.sqrt(second[name] / (1.0 - 0.999 ** (step + 1))) + 1e-8)
                )

    def _gradients(
        self,
        bags: Bags,
        chosen: Ints,
        joined: Ints,
        labels: Floats,
        weights: Floats,
        drawn: np.random.Generator,
    ) -> dict[str, Floats]:
        """``joined``: the number of the message that stands beside each, -1 for none."""
        values = self.values
        pairs = np.stack([chosen, joined], axis=1)
        parts = pairs[pairs >= 0]
        at = ranges(bags.starts[parts], bags.sizes[parts])
        sizes = bags.sizes[chosen] + np.where(joined >= 0, bags.sizes[joined], 0)
        kept = (drawn.random((len(at), len(self.mean) + 1)) > _DROPPED) / (1.0 - _DROPPED)
        kept[:, -1] = 1.0
        made = self.run(bags, at, kept=kept)
        totals, attention = pooled(made.scores, sizes)
        errors = (1.0 / (1.0 + np.exp(-totals)) - labels) * weights / len(chosen)
        of_piece = np.repeat(errors, sizes) * attention
        back = np.outer(of_piece, values["outer"]) * (made.hidden > 0)
        by_grams = np.repeat(of_piece / np.sqrt(np.maximum(made.gram_sizes, 1)), made.gram_sizes)
        return {
            "hidden": made.rows.T @ back + _PULL * values["hidden"],
            "outer": made.hidden.T @ of_piece + _PULL * values["outer"],
            "linear": made.rows.T @ of_piece + 10 * _PULL * values["linear"],
            "whole": np.array([of_piece @ bags.is_whole[at]]),
            "grams": np.bincount(made.grams, weights=by_grams, minlength=GRAM_BUCKETS)
            + _PULL * values["grams"],
        }


def pooled(scores: Floats, sizes: Ints) -> tuple[Floats, Floats]:
    """Return the log of the summed odds of each bag, and the share of each piece in it."""
    starts = np.cumsum(sizes) - sizes
    highest = np.maximum.reduceat(scores, starts)
    odds = np.exp(scores - np.repeat(highest, sizes))
    sums = np.add.reduceat(odds, starts)
    return highest + np.log(sums), odds / np.repeat(sums, sizes)


def misspelt(text: str, drawn: random.Random) -> str:
    """Return the text with exchanged, missing and doubled letters in nearly half of its longer words."""
    words = text.split()
    for at, word in enumerate(words):
        if len(word) > 3 and drawn.random() < 0.45:
            place, kind = drawn.randrange(len(word) - 1), drawn.random()
            rest = word[place + 2 :]
            if kind < 0.6:
                words[at] = word[:place] + word[place + 1] + word[place] + rest
            elif kind < 0.85:
                words[at] = word[:place] + word[place + 1 :]
            else:
                words[at] = word[: place + 1] + word[place:]
    return " ".join(words)


def with_copies(messages: Sequence[Message]) -> list[Message]:
    """Return the messages and misspelt copies of a part of them."""
    drawn = random.Random(1)  # noqa: S311 - no secret
    copied = [message for message in messages if drawn.random() < _MISSPELT]
    return [*messages, *(message._replace(text=misspelt(message.text, drawn)) for message in copied)]


def learned(messages: Sequence[Message], embed: Embed) -> tuple[Network, Bags]:
    """Return the network that has learned the messages, the mean of two by other seeds, and their bags."""
    bags = Bags([message.text for message in messages], embed)
    labels = np.array([float(message.flag is not None) for message in messages])
    both = [Network(bags.vectors.mean(axis=0), seed=seed) for seed in (0, 1)]
    for seed, network in enumerate(both):
        network.fit(bags, labels, seed=seed)
    network = both[0]
    parts = {name: [one.values[name] for one in both] for name in network.values}
    network.values = {name: np.mean(values, axis=0) for name, values in parts.items()}
    network.values["hidden"] = np.hstack(parts["hidden"])
    network.values["outer"] = np.hstack(parts["outer"]) / 2
    return network, bags


def fit(messages: Sequence[Message], embed: Embed, *, names: Sequence[str], model: str) -> Weights:
    """Return the weights of the flags. ``messages``: with their copies; ``names``: all flags of the messages;
    ``model``: who embeds."""
    network, bags = learned(messages, embed)
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
        linear=_rounded(values["linear"] * scale, decimals=2),
        whole=round(float(values["whole"][0]), 4),
        grams=b85encode(bytes(bytes_of.tolist())).decode(),
        gram_scale=round(gram_scale, 6),
        least_score=least_score(messages, embed),
        flags=flag_rows(messages, network, bags, names=names),
        **nearness(messages, embed, names=names),
    )


def least_score(messages: Sequence[Message], embed: Embed) -> float:
    """Return the score that 1 % of the writers' ordinary messages reach, each writer left out in turn."""
    scores: list[float] = []
    for writer in sorted({message.writer for message in messages} - {""}):
        network, _ = learned([message for message in messages if message.writer != writer], embed)
        ordinary = [message.text for message in messages if message.writer == writer and message.flag is None]
        scores += network.scores(Bags(ordinary, embed))[0].tolist()
    return _above(scores, _MOST_FALSE)


def flag_rows(
    messages: Sequence[Message], network: Network, bags: Bags, *, names: Sequence[str]
) -> dict[str, tuple[float, ...]]:
    """Return the row of each flag: a softmax regression on what the network attends to of an emergency."""
    of_flag = np.array([-1 if message.flag is None else names.index(message.flag) for message in messages])
    chosen = np.flatnonzero(of_flag >= 0)
    rows = np.hstack([network.scores(bags)[1][chosen] * _SCALE, np.ones((len(chosen), 1))])
    pull = np.full(rows.shape[1] * len(names), _FLAG_PULL * len(chosen))
    weights = Estimator(pull, steps=300).fit(Classes(rows, len(names)), np.eye(len(names))[of_flag[chosen]])
    scaled = weights.reshape(-1, len(names)) * np.r_[np.full(len(network.mean), _SCALE), 1.0][:, None]
    return {name: _rounded(scaled[:, at], decimals=2) for at, name in enumerate(names)}


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
        network, _ = learned([message for message in known if message.flag != name], embed)
        texts = [message.text for message in known if message.flag == name]
        examples = Examples.of((embed(drawn.sample(texts, _EXAMPLES)) - network.mean).tolist())
        scores, _ = network.scores(bags)
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
