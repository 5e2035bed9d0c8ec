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
"""

from __future__ import annotations

import random
from base64 import b85encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate, chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from assistant.answer.red_flags import GRAM_BUCKETS, Examples, FlagWeights, Nearness, grams, pieces, score_of
from assistant.evaluation.estimator import Classes, Estimator, softmax

Ints = NDArray[np.int64]
Floats = NDArray[Any]
"""float32 while the weights are learned."""
Embed = Callable[[Sequence[str]], Floats]
"""Returns the vectors of texts, of unit length, shape (texts, dimensions)."""
_UNITS = 8
"""Hidden units of each of the two networks."""
_EPOCHS = 15
_BATCH = 128
"""Messages of a batch."""
_RATE, _GRAM_RATE = 0.005, 0.02
"""Adam's rates at the start; the second of the weights of n-grams."""
_DROPPED = 0.5
"""Share of a vector's dimensions that a step of learning does not see."""
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
        number_of = {None: ORDINARY} | {name: number for number, name in enumerate(names)}
        flags = np.array([number_of[message.flag] for message in messages])
        weights = np.array([_WRITERS if message.writer else 1.0 for message in messages])
        for is_in_half in (flags == ORDINARY, flags != ORDINARY):
            weights[is_in_half] /= 2.0 * weights[is_in_half].sum() / len(messages)
        return cls(flags, weights)


class Ranges(NamedTuple):
    """Parts of an array that follow each other: the pieces of each message, the n-grams of each piece."""

    starts: Ints
    sizes: Ints

    @classmethod
    def of(cls, parts: Iterable[Sequence[object]]) -> Ranges:
        """Return the ranges of these parts, the first at 0."""
        sizes = np.array([len(part) for part in parts])
        return cls(np.cumsum(sizes) - sizes, sizes)

    def places(self, chosen: Ints) -> Ints:
        """Return the places that the chosen ranges have in the array, one range after the other: of sizes 2,
        5 and 3, the ranges 0 and 2 → 0 1 7 8 9."""
        starts, sizes = self.starts[chosen], self.sizes[chosen]
        ends: Ints = np.cumsum(sizes)
        return np.arange(int(ends[-1]), dtype=np.int64) + np.repeat(starts - ends + sizes, sizes)


@dataclass(frozen=True, slots=True)
class Bags:
    """Messages as the network reads them: the vectors of their pieces, and the n-grams of each piece."""

    vectors: Floats
    """(P, D)"""
    pieces_of: Ranges
    """Where the pieces of each message are, (M,)."""
    is_whole: Floats
    """(P,): 1 for the piece that is the message itself, the first of its range."""
    grams: Ints
    """Hashed n-grams of all pieces."""
    grams_of: Ranges
    """Where the n-grams of each piece are in ``grams``, (P,)."""

    @classmethod
    def of(cls, texts: Sequence[str], embed: Embed) -> Bags:
        by_message = [pieces(text) for text in texts]
        pieces_of = Ranges.of(by_message)
        all_pieces = list(chain.from_iterable(by_message))
        is_whole = np.zeros(len(all_pieces), np.float32)
        is_whole[pieces_of.starts] = 1.0
        by_piece = [grams(piece) for piece in all_pieces]
        return cls(
            vectors=embed(all_pieces).astype(np.float32),
            pieces_of=pieces_of,
            is_whole=is_whole,
            grams=np.array(list(chain.from_iterable(by_piece)), dtype=np.int64),
            grams_of=Ranges.of(by_piece),
        )


@dataclass(frozen=True, slots=True)
class _Pass:
    """One forward pass over pieces, and what its gradient needs. Arrays have a row for each piece."""

    rows: Floats
    """Centred vectors with a column of 1 at the end, (pieces, D + 1)."""
    hidden: Floats
    """Of the hidden units, after the ReLU, (pieces, units)."""
    of_flags: Floats
    """Log-odds of each flag, shape (pieces, flags)."""
    grams: Ints
    """Hashed n-grams, one piece's after the other's."""
    gram_sizes: Ints
    """How many of them each piece has."""
    scores: Floats
    """(pieces,)"""


@dataclass(frozen=True, slots=True)
class Network:
    """Scores pieces (the formula above)."""

    mean: Floats
    """(D,): of the vectors, by which they are centred."""
    values: Mapping[str, Floats]
    """The weights: ``hidden`` (D + 1, units), ``outer`` (units,), ``flags`` (D + 1, F), ``whole`` (1,) and
    ``grams`` (buckets,)."""

    @classmethod
    def unlearned(cls, mean: Floats, *, flags: int, seed: int) -> Network:
        """Return a network to learn with. ``flags``: their number."""
        rng = np.random.default_rng(seed)
        size = len(mean)
        values = {
            "hidden": rng.normal(0.0, 0.05, (size + 1, _UNITS)),
            "outer": rng.normal(0.0, 0.3, _UNITS),
            "flags": np.vstack([rng.normal(0.0, 0.02, (size, flags)), np.full((1, flags), _FLAG_BIAS)]),
            "whole": np.zeros(1),
            "grams": np.zeros(GRAM_BUCKETS),
        }
        return cls(mean, {name: value.astype(np.float32) for name, value in values.items()})

    def run(self, bags: Bags, at: Ints, *, kept: Floats | float = 1.0) -> _Pass:
        """Return the pass over the pieces ``at`` (their numbers). ``kept``: factors of the vectors' values, 0
        for dropped ones, while learning."""
        values = self.values
        centred = (bags.vectors[at] - self.mean) * np.float32(_SCALE)
        rows = np.hstack([centred * kept, np.ones((len(at), 1), np.float32)])
        hidden = np.maximum(rows @ values["hidden"], 0.0)
        of_flags = rows @ values["flags"]
        sizes = bags.grams_of.sizes[at]
        indices = bags.grams[bags.grams_of.places(at)]
        of_piece = np.repeat(np.arange(len(at)), sizes)
        gram_scores = np.bincount(of_piece, weights=values["grams"][indices], minlength=len(at))
        scores = np.logaddexp.reduce(of_flags, axis=1) + hidden @ values["outer"]
        scores = scores + bags.is_whole[at] * values["whole"] + gram_scores / np.sqrt(np.maximum(sizes, 1))
        return _Pass(rows, hidden, of_flags, indices, sizes, scores.astype(np.float32))

    def scores(self, bags: Bags) -> Floats:
        """Return the score of each message, (M,), as ``score_of`` makes it of its pieces'."""
        scores = self.run(bags, np.arange(len(bags.vectors))).scores
        return np.array([score_of(part.tolist()) for part in np.split(scores, bags.pieces_of.starts[1:])])


class _Batch(NamedTuple):
    """Bags of one step of learning, B of them: each has the pieces of a message, and of about half of them
    also those of an ordinary message, which changes neither label nor weight."""

    messages: Ints
    """Number of each bag's own message, (B,)."""
    sizes: Ints
    """Pieces of each bag, (B,)."""
    pieces: Ints
    """Numbers of all pieces, one bag after the other, (pieces,)."""
    kept: Floats
    """Factors of the vectors' values, (pieces, D): 0 for dropped ones."""

    @classmethod
    def drawn(cls, messages: Ints, bags: Bags, ordinary: Ints, rng: np.random.Generator) -> _Batch:
        """Return the batch of these messages. ``ordinary``: numbers of those to join with."""
        # The two messages of each bag, and whether each of the two is in it: the first always is.
        is_joined = rng.random(len(messages)) < _JOINED
        pairs = np.stack([messages, rng.choice(ordinary, len(messages))], axis=1)
        in_bag = np.stack([np.ones_like(is_joined), is_joined], axis=1)
        sizes = (bags.pieces_of.sizes[pairs] * in_bag).sum(axis=1)
        pieces = bags.pieces_of.places(pairs[in_bag])
        kept = rng.random((len(pieces), bags.vectors.shape[1]), dtype=np.float32) > _DROPPED
        return cls(messages, sizes, pieces, kept / np.float32(1.0 - _DROPPED))


def _fitted(network: Network, bags: Bags, labels: Labels, *, seed: int) -> Network:
    """Return the network after it learned from messages, by Adam with a rate that falls to 0."""
    rng = np.random.default_rng(seed)
    ordinary = np.flatnonzero(labels.flags == ORDINARY)
    momentum = {name: np.zeros_like(value) for name, value in network.values.items()}
    squares = {name: np.zeros_like(value) for name, value in network.values.items()}
    values = dict(network.values)
    orders = [rng.permutation(len(labels.flags)) for _ in range(_EPOCHS)]
    batches = [order[at : at + _BATCH] for order in orders for at in range(0, len(order), _BATCH)]
    for step, messages in enumerate(batches):
        batch = _Batch.drawn(messages, bags, ordinary, rng)
        for name, gradient in _gradients(Network(network.mean, values), bags, batch, labels).items():
            momentum[name] = (0.9 * momentum[name] + 0.1 * gradient).astype(np.float32)
            squares[name] = (0.999 * squares[name] + 0.001 * gradient**2).astype(np.float32)
            rate = (_GRAM_RATE if name == "grams" else _RATE) * (1.0 - step / len(batches))
            mean = momentum[name] / (1.0 - 0.9 ** (step + 1))
            deviation = np.sqrt(squares[name] / (1.0 - 0.999 ** (step + 1)))
            values[name] = values[name] - (rate * mean / (deviation + 1e-8)).astype(np.float32)
    return Network(network.mean, values)


def _gradients(network: Network, bags: Bags, batch: _Batch, labels: Labels) -> dict[str, Floats]:
    """Return the gradient of a batch's loss, by the name of the weights, with the penalties."""
    values = network.values
    forward = network.run(bags, batch.pieces, kept=batch.kept)
    by_score, by_flags = _errors(forward, batch, labels)
    by_hidden = np.outer(by_score, values["outer"]) * (forward.hidden > 0)
    by_grams = np.repeat(by_score / np.sqrt(np.maximum(forward.gram_sizes, 1)), forward.gram_sizes)
    # Biases of flags, the last row, have no penalty.
    pulled = np.vstack([values["flags"][:-1], np.zeros_like(values["flags"][:1])])
    return {
        "hidden": forward.rows.T @ by_hidden + _PULL * values["hidden"],
        "outer": forward.hidden.T @ by_score + _PULL * values["outer"],
        "flags": forward.rows.T @ by_flags + _FLAG_PULL * pulled,
        "whole": np.array([by_score @ bags.is_whole[batch.pieces]]),
        "grams": np.bincount(forward.grams, weights=by_grams, minlength=GRAM_BUCKETS)
        + _PULL * values["grams"],
    }


def _errors(forward: _Pass, batch: _Batch, labels: Labels) -> tuple[Floats, Floats]:
    """Return the derivatives of a batch's loss by the score of each piece, (pieces,), and by its log-odds of
    each flag, (pieces, F).

    The loss: cross-entropy of emergency or not, and ``_NAMING`` times that of which flag.
    """
    flags, weights = labels.flags[batch.messages], labels.weights[batch.messages] / len(batch.messages)
    is_emergency = flags != ORDINARY
    # The error of a bag goes to its pieces by their shares in its odds.
    bag_scores, shares = pooled(forward.scores[:, None], batch.sizes)
    errors = (1.0 / (1.0 + np.exp(-bag_scores[:, 0])) - is_emergency) * weights
    by_score = (np.repeat(errors, batch.sizes) * shares[:, 0]).astype(np.float32)
    # The loss of which flag counts for emergencies only, and is pooled for each flag.
    bag_flags, shares_of_flags = pooled(forward.of_flags, batch.sizes)
    naming = (softmax(bag_flags) - np.eye(bag_flags.shape[1])[flags]) * is_emergency[:, None]
    by_naming = np.repeat(_NAMING * naming * weights[:, None], batch.sizes, axis=0) * shares_of_flags
    by_flags = by_score[:, None] * softmax(forward.of_flags) + by_naming
    return by_score, by_flags.astype(np.float32)


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
    bags = Bags.of([message.text for message in messages], embed)
    labels = Labels.of(messages, names=names)
    mean = bags.vectors.mean(axis=0)
    networks = [
        _fitted(Network.unlearned(mean, flags=len(names), seed=seed), bags, labels, seed=seed)
        for seed in (0, 1)
    ]
    parts = {name: [network.values[name] for network in networks] for name in networks[0].values}
    averages: dict[str, Floats] = {name: np.mean(values, axis=0) for name, values in parts.items()}
    beside = {"hidden": np.hstack(parts["hidden"]), "outer": np.hstack(parts["outer"]) / 2}
    return Network(mean, averages | beside)


def fit(messages: Sequence[Message], embed: Embed, *, names: Sequence[str], model: str) -> FlagWeights:
    """Return ``red_flags.json``. ``names``: all flags; ``model``: name of the embedding model of ``embed``.

    Scales are folded into the weights, so that they apply to centred vectors as they are. n-gram weights
    become one byte each, 128 for 0, in base 85.
    """
    network = learned(messages, embed, names=names)
    values = network.values
    scale = np.r_[np.full(len(network.mean), _SCALE), 1.0]
    gram_scale = float(np.abs(values["grams"]).max()) / 127
    bytes_of = np.rint(values["grams"] / gram_scale).astype(int) + 128
    return FlagWeights(
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
        scored += [(score, share) for score in network.scores(Bags.of(ordinary, embed)).tolist()]
    scored.sort(reverse=True)
    reached = zip(scored, accumulate(share for _, share in scored), strict=True)
    # The score of the first message that is one too many: only those above it may pass.
    return _just_above(next(score for (score, _), total in reached if total > _MOST_FALSE))


def nearness(messages: Sequence[Message], embed: Embed, *, names: Sequence[str]) -> dict[str, Nearness]:
    """Return how to judge a flag by ten examples, as a tenant adds one: ``with_prior`` also reads the
    network's score, ``alone`` only cosines.

    Every third flag in turn is left out of learning, and so are the writers, whose messages are then judged:
    those of this flag, and ordinary ones.
    """
    rng = random.Random(2)  # noqa: S311 - no secret
    ours = [message for message in messages if not message.writer]
    of_writers = [message for message in messages if message.writer]
    bags = Bags.of([message.text for message in of_writers], embed)
    rows: list[list[float]] = []
    labels: list[bool] = []
    for name in names[::3]:
        network = learned([message for message in ours if message.flag != name], embed, names=names)
        texts = [message.text for message in ours if message.flag == name]
        examples = Examples.of((embed(rng.sample(texts, _EXAMPLES)) - network.mean).tolist())
        scores = network.scores(bags)
        centred = bags.vectors - network.mean
        centred /= np.linalg.norm(centred, axis=1, keepdims=True)
        cosines = (centred @ np.array(examples.vectors).T).max(axis=1), centred @ np.array(examples.middle)
        nearest, middle = (np.maximum.reduceat(by_piece, bags.pieces_of.starts) for by_piece in cosines)
        for index, message in enumerate(of_writers):
            if message.flag in (None, name):
                rows.append([scores[index], nearest[index], middle[index]])
                labels.append(message.flag is not None)
    return {
        "with_prior": _judged(np.array(rows), labels, columns=(0, 1, 2)),
        "alone": _judged(np.array(rows), labels, columns=(1, 2)),
    }


def _judged(rows: Floats, labels: Sequence[bool], *, columns: Sequence[int]) -> Nearness:
    """Return a logistic regression on some columns of ``rows``; the others get weight 0.

    ``rows``: a message's prior, nearest and middle (``Nearness``). ``labels``: whether it is about the flag.
    The bias is set so that ``_MOST_FALSE_NEAR`` of the ordinary messages pass.
    """
    chosen = rows[:, columns]
    mean, spread = chosen.mean(axis=0), chosen.std(axis=0)
    scaled = np.hstack([(chosen - mean) / spread, np.ones((len(chosen), 1))])
    is_flag = np.array(labels, float)
    design = Classes(scaled, 2)
    weights = Estimator(1.0, steps=300).fit(design, np.stack([1.0 - is_flag, is_flag], axis=1)).reshape(-1, 2)
    # The log-odds of two classes are the difference of their scores; the scale is folded in.
    folded = np.zeros(3)
    folded[list(columns)] = (weights[:-1, 1] - weights[:-1, 0]) / spread
    ordinary = (rows @ folded)[is_flag == 0]
    prior, nearest, middle = _rounded(folded)
    one_too_many = sorted(ordinary.tolist())[-1 - int(_MOST_FALSE_NEAR * len(ordinary))]
    return Nearness(prior=prior, nearest=nearest, middle=middle, bias=-_just_above(one_too_many))


def _just_above(score: float) -> float:
    """Return the least score that still counts, if this one does not."""
    return round(score + 1e-3, 4)


def _rounded(values: Floats, *, decimals: int = 4) -> tuple[float, ...]:
    return tuple(round(value, decimals) for value in values.tolist())
