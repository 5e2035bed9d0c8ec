"""Learns ``weights/red_flags.json`` from messages: run by ``make fit ARGS=red_flags``.

A message is a bag of pieces: the message itself and, of a long one, its windows of words
(``assistant.answer.red_flags.pieces``). In the bag of an emergency at least one piece is about it
(multiple-instance learning). While the weights are learned, messages are joined with ordinary ones, so that
emergencies are found beside other text. Whether a message is an emergency, and which, are learned together:
with a row of weights for each flag more is found than with one for all. Everything is seeded: the same
messages give the same file.

The score of a piece, with its centred vector x and its n-grams:

    log(sum over flags of exp(flags · x)) + outer · relu(hidden · x) + whole (of the message itself)
    + sum(grams) / sqrt(number of grams)

Shapes: P pieces of all messages one after the other, M messages, D dimensions of a vector, F flags.
``starts`` and ``sizes`` of an array give the range of each message (or piece) in it.
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
"""float32 while the weights are learned."""
Embed = Callable[[Sequence[str]], Floats]
"""Returns the vectors of texts, of unit length, shape (texts, dimensions)."""
_UNITS, _EPOCHS, _BATCH, _RATE, _GRAM_RATE, _DROPPED = 8, 15, 128, 0.005, 0.02, 0.5
"""Hidden units; epochs; messages of a batch; Adam's rates (of n-grams: another); share of dropped
dimensions."""
_PULL, _FLAG_PULL = 1e-4, 1e-3
"""L2 penalties, of all weights and of the rows of flags."""
_FLAG_BIAS = -2.5
"""At the start, so that most pieces are ordinary."""
_NAMING = 0.3
"""Weight of the loss of which flag an emergency is, beside that of whether it is one."""
_WRITERS = 3.0
"""Weight of a message of an independent writer; ours weigh 1."""
_SCALE = 20.0
"""Factor of a centred vector, so that its values are about 1."""
_JOINED = 0.5
"""Share of the messages of an epoch that are joined with an ordinary one."""
_MOST_FALSE, _MOST_FALSE_NEAR = 0.015, 0.004
"""Share of ordinary messages that may raise any flag, and a flag by its examples."""
_EXAMPLES = 10
"""Examples of a flag that a tenant adds itself."""


class Message(NamedTuple):
    """A message to learn: ``Message("my chest hurts", "chest_pain", "2")``."""

    text: str
    flag: str | None
    """Name of its red flag; None for an ordinary message."""
    writer: str
    """Number of its independent writer, so that writers can be left out in turn; "" for our own messages."""


ORDINARY = -1
"""Number of the flag of an ordinary message."""


class Labels(NamedTuple):
    """What messages are, and how much each counts, both of shape (M,)."""

    flags: Ints
    """The number of its flag, ``ORDINARY`` for an ordinary message."""
    weights: Floats
    """1 on average. Emergencies and ordinary messages have half of their sum each."""

    @classmethod
    def of(cls, messages: Sequence[Message], *, names: Sequence[str]) -> Labels:
        flags = np.array(
            [ORDINARY if message.flag is None else names.index(message.flag) for message in messages]
        )
        weights = np.array([_WRITERS if message.writer else 1.0 for message in messages])
        for is_in_half in (flags == ORDINARY, flags != ORDINARY):
            weights[is_in_half] /= 2.0 * weights[is_in_half].sum() / len(messages)
        return cls(flags, weights)


class Bags:
    """Messages as the network reads them: the vectors of their pieces, and the n-grams of each piece.

    ``vectors`` (P, D); ``sizes``, ``starts`` (M,): pieces of each message; ``is_whole`` (P,): 1 for the piece
    that is the message itself; ``grams``: hashed n-grams of all pieces, with ``gram_sizes`` and
    ``gram_starts`` (P,).
    """

    def __init__(self, texts: Sequence[str], embed: Embed) -> None:
        by_message = [pieces(text) for text in texts]
        all_pieces = list(chain.from_iterable(by_message))
        self.vectors = embed(all_pieces).astype(np.float32)
        self.sizes = np.array([len(of_message) for of_message in by_message])
        self.starts = np.cumsum(self.sizes) - self.sizes
        self.is_whole = np.zeros(len(all_pieces), np.float32)
        self.is_whole[self.starts] = 1.0
        gram_lists = [grams(part) for part in all_pieces]
        self.gram_sizes = np.array([len(part) for part in gram_lists])
        self.gram_starts = np.cumsum(self.gram_sizes) - self.gram_sizes
        self.grams = np.array(list(chain.from_iterable(gram_lists)), dtype=np.int64)


def ranges(starts: Ints, sizes: Ints) -> Ints:
    """Return the numbers of all ranges, one after the other: starts 0 and 7, sizes 2 and 3 → 0 1 7 8 9."""
    ends: Ints = np.cumsum(sizes)
    return np.arange(int(ends[-1]), dtype=np.int64) + np.repeat(starts - ends + sizes, sizes)


@dataclass(frozen=True, slots=True)
class _Pass:
    """One forward pass over pieces, and what its gradient needs. Arrays have a row for each piece."""

    rows: Floats
    """Centred vectors with a column of 1 at the end, (pieces, D + 1)."""
    hidden: Floats
    of_flags: Floats
    """Log-odds of each flag, shape (pieces, flags)."""
    grams: Ints
    gram_sizes: Ints
    scores: Floats


class Network:
    """Scores pieces (the formula above). ``values``: its weights by name; ``mean``: of the vectors, by which
    they are centred."""

    def __init__(self, mean: Floats, *, flags: int, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        size = len(mean)
        values = {
            "hidden": rng.normal(0.0, 0.05, (size + 1, _UNITS)),
            "outer": rng.normal(0.0, 0.3, _UNITS),
            "flags": np.vstack([rng.normal(0.0, 0.02, (size, flags)), np.full((1, flags), _FLAG_BIAS)]),
            "whole": np.zeros(1),
            "grams": np.zeros(GRAM_BUCKETS),
        }
        self.mean = mean
        self.values: dict[str, Floats] = {name: value.astype(np.float32) for name, value in values.items()}

    def run(self, bags: Bags, at: Ints, *, kept: Floats | None = None) -> _Pass:
        """Return the pass over the pieces ``at`` (their numbers). ``kept``: factors of the vectors' values, 0
        for dropped ones, while learning."""
        values = self.values
        centred = (bags.vectors[at] - self.mean) * np.float32(_SCALE)
        rows = np.hstack([centred if kept is None else centred * kept, np.ones((len(at), 1), np.float32)])
        hidden = np.maximum(rows @ values["hidden"], 0.0)
        of_flags = rows @ values["flags"]
        sizes = bags.gram_sizes[at]
        indices = bags.grams[ranges(bags.gram_starts[at], sizes)]
        of_piece = np.repeat(np.arange(len(at)), sizes)
        gram_scores = np.bincount(of_piece, weights=values["grams"][indices], minlength=len(at))
        scores = np.logaddexp.reduce(of_flags, axis=1) + hidden @ values["outer"]
        scores = scores + bags.is_whole[at] * values["whole"] + gram_scores / np.sqrt(np.maximum(sizes, 1))
        return _Pass(rows, hidden, of_flags, indices, sizes, scores.astype(np.float32))

    def scores(self, bags: Bags) -> Floats:
        """Return the score of each message, (M,), as ``score_of`` makes it of its pieces'."""
        scores = self.run(bags, np.arange(len(bags.vectors))).scores
        return np.array([score_of(part.tolist()) for part in np.split(scores, bags.starts[1:])])

    def fit(self, bags: Bags, labels: Labels, *, seed: int = 0) -> None:
        """Learn from messages, by Adam with a rate that falls to 0; changes ``values`` in place."""
        rng = np.random.default_rng(seed)
        ordinary = np.flatnonzero(labels.flags == ORDINARY)
        momentum = {name: np.zeros_like(value) for name, value in self.values.items()}
        squares = {name: np.zeros_like(value) for name, value in self.values.items()}
        count = len(labels.flags)
        batches = -(-count // _BATCH)
        orders = [rng.permutation(count) for _ in range(_EPOCHS)]
        for step in range(_EPOCHS * batches):
            chosen = orders[step // batches][step % batches * _BATCH :][:_BATCH]
            joined = np.where(rng.random(len(chosen)) < _JOINED, rng.choice(ordinary, len(chosen)), -1)
            gradients = self._gradients(bags, chosen, joined, labels, rng)
            for name, gradient in gradients.items():
                momentum[name] = (0.9 * momentum[name] + 0.1 * gradient).astype(np.float32)
                squares[name] = (0.999 * squares[name] + 0.001 * gradient**2).astype(np.float32)
                rate = (_GRAM_RATE if name == "grams" else _RATE) * (1.0 - step / (_EPOCHS * batches))
                corrected = momentum[name] / (1.0 - 0.9 ** (step + 1))
                self.values[name] -= (
                    rate * corrected / (np.sqrt(squares[name] / (1.0 - 0.999 ** (step + 1))) + 1e-8)
                ).astype(np.float32)

    def _gradients(
        self, bags: Bags, chosen: Ints, joined: Ints, labels: Labels, rng: np.random.Generator
    ) -> dict[str, Floats]:
        """Return the gradient of the loss of a batch, by the name of the weights.

        ``chosen``: numbers of the batch's messages. ``joined``: number of the message that is joined with
        each, -1 for none. The loss: cross-entropy of emergency or not, and ``_NAMING`` times that of which
        flag.
        """
        values = self.values
        # Pieces of the batch: those of each chosen message, then those of the one joined with it.
        pairs = np.stack([chosen, joined], axis=1)
        parts = pairs[pairs >= 0]
        at = ranges(bags.starts[parts], bags.sizes[parts])
        sizes = bags.sizes[chosen] + np.where(joined >= 0, bags.sizes[joined], 0)
        kept = rng.random((len(at), len(self.mean)), dtype=np.float32) > _DROPPED
        forward = self.run(bags, at, kept=kept / np.float32(1.0 - _DROPPED))
        flags, weights = labels.flags[chosen], labels.weights[chosen] / len(chosen)
        totals, attention = pooled(forward.scores[:, None], sizes)
        errors = (1.0 / (1.0 + np.exp(-totals[:, 0])) - (flags != ORDINARY)) * weights
        # The error of a bag goes to its pieces by their shares in its odds.
        of_piece = (np.repeat(errors, sizes) * attention[:, 0]).astype(np.float32)
        to_flags = of_piece[:, None] * softmax(forward.of_flags)
        # The loss of which flag counts for emergencies only, and is pooled for each flag.
        by_flag, attention = pooled(forward.of_flags, sizes)
        naming = (softmax(by_flag) - np.eye(by_flag.shape[1])[flags]) * (flags != ORDINARY)[:, None]
        to_flags = to_flags + np.repeat(_NAMING * naming * weights[:, None], sizes, axis=0) * attention
        back = np.outer(of_piece, values["outer"]) * (forward.hidden > 0)
        by_grams = np.repeat(of_piece / np.sqrt(np.maximum(forward.gram_sizes, 1)), forward.gram_sizes)
        # Biases of flags, the last row, have no penalty.
        pulled = np.vstack([values["flags"][:-1], np.zeros_like(values["flags"][:1])])
        return {
            "hidden": forward.rows.T @ back + _PULL * values["hidden"],
            "outer": forward.hidden.T @ of_piece + _PULL * values["outer"],
            "flags": forward.rows.T @ to_flags.astype(np.float32) + _FLAG_PULL * pulled,
            "whole": np.array([of_piece @ bags.is_whole[at]]),
            "grams": np.bincount(forward.grams, weights=by_grams, minlength=GRAM_BUCKETS)
            + _PULL * values["grams"],
        }


def pooled(scores: Floats, sizes: Ints) -> tuple[Floats, Floats]:
    """Return the log of the summed odds of each bag, and the share of each piece in it.

    ``scores``: shape (pieces, columns); each column is pooled for itself. ``sizes``: pieces of each bag.
    Returns shapes (bags, columns) and (pieces, columns). The highest score is subtracted first, against
    overflow.
    """
    starts = np.cumsum(sizes) - sizes
    highest = np.maximum.reduceat(scores, starts)
    odds = np.exp(scores - np.repeat(highest, sizes, axis=0))
    sums = np.add.reduceat(odds, starts)
    return highest + np.log(sums), odds / np.repeat(sums, sizes, axis=0)


def learned(messages: Sequence[Message], embed: Embed, *, names: Sequence[str]) -> Network:
    """Return the network that has learned the messages: two of different seeds in one, which scores as their
    mean would (weights are averaged; hidden units stand side by side, with half of their outer weights)."""
    bags = Bags([message.text for message in messages], embed)
    labels = Labels.of(messages, names=names)
    networks = [Network(bags.vectors.mean(axis=0), flags=len(names), seed=seed) for seed in (0, 1)]
    for seed, network in enumerate(networks):
        network.fit(bags, labels, seed=seed)
    network = networks[0]
    parts = {name: [each.values[name] for each in networks] for name in network.values}
    network.values = {name: np.mean(values, axis=0) for name, values in parts.items()}
    network.values["hidden"] = np.hstack(parts["hidden"])
    network.values["outer"] = np.hstack(parts["outer"]) / 2
    return network


def fit(messages: Sequence[Message], embed: Embed, *, names: Sequence[str], model: str) -> Weights:
    """Return ``red_flags.json``. ``names``: all flags; ``model``: name of the embedding model of ``embed``.

    Scales are folded into the weights, so that they apply to centred vectors as they are. n-gram weights
    become one byte each, 128 for 0, in base 85.
    """
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
    """Return the score that 1.5 % of the ordinary messages of an unknown writer reach, on average: each
    writer in turn is left out of learning, and their messages are then scored. Each writer counts alike."""
    scored: list[tuple[float, float]] = []
    writers = sorted({message.writer for message in messages} - {""})
    for writer in writers:
        network = learned([message for message in messages if message.writer != writer], embed, names=names)
        ordinary = [message.text for message in messages if message.writer == writer and message.flag is None]
        share = 1.0 / len(ordinary) / len(writers)
        scored += [(score, share) for score in network.scores(Bags(ordinary, embed)).tolist()]
    scored.sort(reverse=True)
    shares = accumulate(share for _, share in scored)
    return next(
        round(score + 1e-3, 4)
        for (score, _), total in zip(scored, shares, strict=True)
        if total > _MOST_FALSE
    )


def nearness(messages: Sequence[Message], embed: Embed, *, names: Sequence[str]) -> dict[str, Nearness]:
    """Return how to judge a flag by ten examples, as a tenant adds one: ``with_prior`` also reads the
    network's score, ``alone`` only cosines.

    Every third flag in turn is left out of learning, and so are the writers, whose messages are then judged:
    those of this flag, and ordinary ones.
    """
    rng = random.Random(2)  # noqa: S311 - no secret
    ours = [message for message in messages if not message.writer]
    of_writers = [message for message in messages if message.writer]
    bags = Bags([message.text for message in of_writers], embed)
    rows: list[list[float]] = []
    labels: list[bool] = []
    for name in names[::3]:
        network = learned([message for message in ours if message.flag != name], embed, names=names)
        texts = [message.text for message in ours if message.flag == name]
        examples = Examples.of((embed(rng.sample(texts, _EXAMPLES)) - network.mean).tolist())
        scores = network.scores(bags)
        centred = bags.vectors - network.mean
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        nearest = np.maximum.reduceat((centred @ np.array(examples.vectors).T).max(axis=1), bags.starts)
        middle = np.maximum.reduceat(centred @ np.array(examples.middle), bags.starts)
        for index, message in enumerate(of_writers):
            if message.flag in (None, name):
                rows.append([scores[index], nearest[index], middle[index]])
                labels.append(message.flag is not None)
    return {
        "with_prior": _judged(np.array(rows), labels, columns=(0, 1, 2)),
        "alone": _judged(np.array(rows), labels, columns=(1, 2)),
    }


def _judged(rows: Floats, labels: Sequence[bool], *, columns: Sequence[int]) -> Nearness:
    """Return a logistic regression on some columns of ``rows`` (prior, nearest, middle); the others get
    weight 0.

    ``labels``: whether a row is about the flag. The bias is set so that ``_MOST_FALSE_NEAR`` of the ordinary
    messages pass.
    """
    chosen = rows[:, columns]
    mean, spread = chosen.mean(axis=0), chosen.std(axis=0)
    scaled = np.hstack([(chosen - mean) / spread, np.ones((len(chosen), 1))])
    is_flag = np.array(labels, float)
    design = Classes(scaled, 2)
    weights = Estimator(1.0, steps=300).fit(design, np.stack([1.0 - is_flag, is_flag], axis=1)).reshape(-1, 2)
    folded = np.zeros(3)
    folded[list(columns)] = (weights[:-1, 1] - weights[:-1, 0]) / spread
    ordinary = (rows @ folded)[is_flag == 0]
    prior, nearest, middle = _rounded(folded)
    return Nearness(
        prior=prior,
        nearest=nearest,
        middle=middle,
        bias=-round(_above(ordinary.tolist(), _MOST_FALSE_NEAR), 4),
    )


def _above(scores: Sequence[float], share: float) -> float:
    """Return a score that at most this share of the scores reaches."""
    return round(sorted(scores)[-1 - int(share * len(scores))] + 1e-3, 4)


def _rounded(values: Floats, *, decimals: int = 4) -> tuple[float, ...]:
    return tuple(round(value, decimals) for value in values.tolist())
