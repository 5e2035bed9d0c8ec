"""Finds the red flags of a message: emergencies that the tenant file describes by example messages.

A message is read in *pieces*: the whole, and windows of its words, so that an emergency beside other text is
seen. ``weights/red_flags.json`` judges each piece by its vector and by the n-grams of its letters and words:
how much it is about each of the twelve flags that the file knows, and from that whether it is an emergency. A
flag of the tenant that the file does not know is found by the nearness of the tenant's examples, with the
same judgement as a prior. docs/red-flags.md has the measurements.

Vectors are *centred*: the mean of ordinary messages is subtracted, so that cosines tell messages apart.
"""

from __future__ import annotations

import asyncio
from base64 import b85decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from itertools import pairwise
from math import exp, fsum, log, sqrt
from operator import mul
from typing import Protocol, cast
from zlib import crc32

from gcld3 import (  # pyright: ignore[reportMissingTypeStubs]
    NNetLanguageIdentifier,  # pyright: ignore[reportUnknownVariableType]
)

from assistant.answer.call import Loaded
from assistant.answer.scores import softmax
from assistant.domain.answers import RedFlag
from assistant.domain.clock import Clock, Deadline
from assistant.domain.public import PublicModel
from assistant.stores.ports import TextEmbedder
from assistant.tenant.tenant import RedFlagEntry, TenantConfig
from assistant.text.language import WORD, fold, language

WINDOW_WORDS, STEP_WORDS = 12, 6
"""Words of a window, and from the begin of one to that of the next."""
GRAM_BUCKETS = 1 << 14
"""An n-gram's weight is that of its hash modulo this."""
LANGUAGE = "en"
"""The language that the weights are fitted for."""
_LEAST_FOREIGN, _MOST_COMMON, _SURELY_FOREIGN = 0.85, 0.65, 0.999
"""A message is foreign from the first probability of another language on. Where at least the second, a share
of its words, is common in English, from the third: chat shorthand is at times taken for another language."""
_HIGHEST = 0.7
"""Weight of the highest score of a piece in a message's. Chosen on writers 1 and 2 of evaluation/red_flags,
as everything that ``tools/fit_red_flags.py`` sets."""
_LEAST_SHARE = 0.25
"""In an emergency the likeliest flag is raised, and each other one with this share of all flags'
probability."""
_BATCH = 16
"""Texts of one call, so that a question waits for 0.15 s of CPU at most while a process embeds."""
_LIMIT_S = 300.0
"""For some 800 texts, which take the packaged model 7 s of CPU in float32, behind the questions of others."""
Vector = Sequence[float]


def pieces(text: str) -> list[str]:
    """Return the message and, of a long one, its windows of twelve words, each half over the one before; the
    last one ends with the message."""
    words = text.split()
    if len(words) <= WINDOW_WORDS + 2:
        return [text]
    starts = [*range(0, len(words) - WINDOW_WORDS, STEP_WORDS), len(words) - WINDOW_WORDS]
    return [text, *(" ".join(words[at : at + WINDOW_WORDS]) for at in starts)]


def grams(text: str) -> list[int]:
    """Return the buckets of a text's n-grams, each once: of its words ("=chest"), its pairs of words ("chest
    pain") and runs of three and four letters in its words ("<che", "est>")."""
    words = WORD.findall(fold(text))
    parts = {f"{first} {second}" for first, second in pairwise(words)}
    return sorted({crc32(part.encode()) % GRAM_BUCKETS for part in parts}.union(*map(_of_word, words)))


@lru_cache(maxsize=20_000)
def _of_word(word: str) -> frozenset[int]:
    closed = f"<{word}>"
    runs = {closed[at : at + size] for size in (3, 4) for at in range(len(closed) - size + 1)}
    return frozenset(crc32(part.encode()) % GRAM_BUCKETS for part in (f"={word}", *runs))


def foreign_language(text: str) -> str | None:
    """Return the ISO 639-1 code of a message that is not in the language of the weights, else None."""
    guess = _language_guesser()(text)
    words = [word for word in WORD.findall(fold(text)) if not word.isdigit()]
    common = sum(map(language(LANGUAGE).is_common, words))
    least = _LEAST_FOREIGN if common < _MOST_COMMON * len(words) else _SURELY_FOREIGN
    is_foreign = guess.language not in (LANGUAGE, "und") and guess.probability >= least
    return guess.language if is_foreign else None


class _Guess(Protocol):
    """A result of gcld3, which has no types: ISO 639-1 code, "und" where it knows none, and 0 to 1."""

    language: str
    probability: float


@lru_cache
def _language_guesser() -> Callable[[str], _Guess]:
    guesser = NNetLanguageIdentifier(min_num_bytes=0, max_num_bytes=1_000)  # pyright: ignore[reportUnknownVariableType]
    return cast("Callable[[str], _Guess]", guesser.FindLanguage)  # pyright: ignore[reportUnknownMemberType]


def score_of(scores: Sequence[float]) -> float:
    """Return the score of a message by those of its pieces: 0.7 of the highest and 0.3 of the second. An
    emergency is seen in two pieces, because they overlap; words that only look like one when cut are seen in
    one."""
    highest, *others = sorted(scores, reverse=True)
    return _HIGHEST * highest + (1.0 - _HIGHEST) * max(others, default=highest)


class Nearness(PublicModel):
    """Weights that judge a flag by its examples: log-odds that a message is about it."""

    prior: float
    """Weight of the log-odds that the message is any emergency."""
    nearest: float
    """Weight of the highest cosine of a piece with an example."""
    middle: float
    """Weight of the highest cosine of a piece with the middle of all examples."""
    bias: float

    def score(self, prior: float, nearest: float, middle: float) -> float:
        """Return the log-odds; from 0 on the flag is raised."""
        return self.prior * prior + self.nearest * nearest + self.middle * middle + self.bias


class FlagWeights(PublicModel):
    """``weights/red_flags.json``, as ``make fit ARGS=red_flags`` writes it."""

    embedding_model: str
    fitted_on: str
    """SHA-256 (hex) of the training messages."""
    mean: tuple[float, ...]
    """Mean vector of ordinary messages, by which vectors are centred."""
    hidden: tuple[tuple[float, ...], ...]
    """The row of each hidden unit, on a centred vector and a constant, shape (units, dimensions + 1)."""
    outer: tuple[float, ...]
    """The weight of each hidden unit (a ReLU), shape (units,)."""
    whole: float
    """Added to the score of the piece that is the whole message."""
    grams: str
    """A byte for each bucket of n-grams, 128 for weight 0, in base 85."""
    gram_scale: float
    """Weight for one step of such a byte."""
    least_score: float
    """Log-odds from which on a message is an emergency."""
    flags: Mapping[str, tuple[float, ...]]
    """Name of a flag = its row, shape (dimensions + 1,): log-odds that a piece is about it."""
    with_prior: Nearness
    """For flags that ``flags`` lacks, with the embedding model of these weights."""
    alone: Nearness
    """For another embedding model, which has no prior."""

    @cached_property
    def gram_weights(self) -> list[float]:
        """The weight of each bucket."""
        return [self.gram_scale * (byte - 128) for byte in b85decode(self.grams)]

    def of_flags(self, centred: Vector) -> list[float]:
        """Return the log-odds that a piece of a message is about each flag, in their order."""
        row = [*centred, 1.0]
        return [_dot(flag, row) for flag in self.flags.values()]

    def piece_score(self, text: str, centred: Vector, of_flags: Sequence[float], *, is_whole: bool) -> float:
        """Return the log-odds that a piece of a message is about an emergency: the sum of four parts, by the
        flags (``of_flags``), by the hidden units, by the n-grams, and for the whole message."""
        row = [*centred, 1.0]
        hidden = [max(0.0, _dot(unit, row)) for unit in self.hidden]
        of_grams, weights = grams(text), self.gram_weights
        by_grams = sum(weights[gram] for gram in of_grams) / sqrt(len(of_grams) or 1)
        return _log_of_summed_odds(of_flags) + _dot(self.outer, hidden) + by_grams + self.whole * is_whole


@lru_cache
def shipped_flag_weights() -> FlagWeights:
    """Return the fitted weights of the packaged embedding model."""
    resource = files("assistant.answer").joinpath("weights", "red_flags.json")
    return FlagWeights.model_validate_json(resource.read_bytes())


@dataclass(frozen=True, slots=True)
class JudgedText:
    """A message as the weights see it."""

    score: float
    """Log-odds that it is about an emergency."""
    likely: Sequence[str]
    """The flags that it is about if it is one, the likeliest first."""

    @classmethod
    def of(cls, weights: FlagWeights, texts: Sequence[str], rows: Sequence[Vector]) -> JudgedText:
        """Judge a message. ``texts``: the whole message first, then its windows; ``rows``: their centred
        vectors."""
        by_piece = [weights.of_flags(row) for row in rows]
        scores = [
            weights.piece_score(text, row, of_flags, is_whole=at == 0)
            for at, (text, row, of_flags) in enumerate(zip(texts, rows, by_piece, strict=True))
        ]
        # of each flag the odds of all pieces, then its share of all flags
        shares = softmax([_log_of_summed_odds(by_flag) for by_flag in zip(*by_piece, strict=True)])
        likely = sorted(zip(shares, weights.flags, strict=True), reverse=True)
        return cls(
            score_of(scores),
            [name for at, (share, name) in enumerate(likely) if at == 0 or share >= _LEAST_SHARE],
        )


@dataclass(frozen=True, slots=True)
class Examples:
    """The examples of a flag: their centred vectors, of unit length, and the middle of these."""

    vectors: Sequence[Vector]
    middle: Vector

    @classmethod
    def of(cls, rows: Sequence[Vector]) -> Examples:
        """``rows``: centred vectors."""
        vectors = [_of_unit_length(row) for row in rows]
        return cls(vectors, _of_unit_length(mean_of(vectors)))

    def cosines(self, rows: Sequence[Vector]) -> tuple[float, float]:
        """Return the highest cosine of a piece of a message with an example, and with their middle. ``rows``:
        the centred vectors of the pieces."""
        directions = [_of_unit_length(row) for row in rows]
        nearest = max(_dot(piece, example) for piece in directions for example in self.vectors)
        return nearest, max(_dot(piece, self.middle) for piece in directions)


class RedFlags:
    """The red flags of one tenant. One instance serves all requests of a process; for one event loop.

    Example::

        await flags.load(within_s=2.0)
        texts = flags.pieces("my son drank the whole bottle")  # the caller embeds these
        flags.raised("my son drank the whole bottle", vectors)  # (RedFlag(name="overdose", …),)

    | embedding model     | flags that the weights know | other flags of the tenant       |
    | that of the weights | by the weights              | by examples, with the prior     |
    | another one         | by examples, without a prior| by examples, without a prior    |
    """

    def __init__(self, tenant: TenantConfig, *, embedder: TextEmbedder, clock: Clock) -> None:
        weights = shipped_flag_weights()
        self._entries = {entry.name: entry for entry in tenant.red_flags}
        self._is_shipped_model = tenant.embedding.model == weights.embedding_model
        known = weights.flags.keys() if self._is_shipped_model else frozenset[str]()
        self._by_examples = [entry for entry in tenant.red_flags if entry.name not in known]
        self._embedder = embedder
        self._clock = clock
        self._loaded = Loaded(self._load, clock=clock, failure="red_flags_not_loaded")

    @property
    def is_ready(self) -> bool:
        """Whether messages are checked for all flags: no flag is found by examples, or the examples are
        loaded."""
        return self._loaded.value is not None or not self._by_examples

    async def load(self, *, within_s: float | None = None) -> bool:
        """Embed the examples of the flags that are found by them, once in a process; return whether they are
        there when that is done, has failed, or took longer than ``within_s``. Raises nothing."""
        if not self.is_ready:
            await self._loaded.get(within_s=within_s)
        return self.is_ready

    def pieces(self, text: str) -> list[str]:
        """Return the texts whose vectors ``raised`` reads; none for a tenant without flags."""
        return pieces(text) if self._entries else []

    def unchecked_language(self, text: str) -> str | None:
        """Return the language (ISO 639-1) of a message in which red flags are not checked; None where they
        are, and for a tenant without flags."""
        return foreign_language(text) if self._entries else None

    def raised(self, text: str, vectors: Mapping[str, Vector]) -> tuple[RedFlag, ...]:
        """Return the flags of a message: those found by examples, once these are loaded, then the likeliest
        of the others.

        ``vectors``: of its pieces, of unit length; a piece that has none is left out.
        """
        weights, loaded = shipped_flag_weights(), self._loaded.value
        # another model's vectors are centred by the mean that was loaded with the examples
        mean = weights.mean if self._is_shipped_model else loaded and loaded.mean
        texts = [piece for piece in self.pieces(text) if piece in vectors]
        if mean is None or not texts:
            return ()
        rows = [_centred(vectors[piece], mean) for piece in texts]
        judged = JudgedText.of(weights, texts, rows) if self._is_shipped_model else None
        names: list[str] = []
        if loaded is not None:
            near = weights.alone if judged is None else weights.with_prior
            prior = 0.0 if judged is None else judged.score
            names += [
                name for name, flag in loaded.flags.items() if near.score(prior, *flag.cosines(rows)) >= 0
            ]
        if judged is not None and judged.score >= weights.least_score:
            names += judged.likely
        return tuple(_red_flag(self._entries[name]) for name in names if name in self._entries)

    async def _load(self) -> _Loaded:
        """Embed the examples, and for another embedding model ordinary messages, whose mean centres
        vectors."""
        ordinary = [] if self._is_shipped_model else list(ordinary_messages())
        texts = [*ordinary, *(text for entry in self._by_examples for text in entry.examples)]
        deadline = Deadline.after(_LIMIT_S, clock=self._clock)
        made: list[list[float]] = []
        async with asyncio.timeout(_LIMIT_S):
            for at in range(0, len(texts), _BATCH):
                made += await self._embedder.embed(texts[at : at + _BATCH], deadline=deadline)
        vectors = iter(made)
        mean = mean_of([next(vectors) for _ in ordinary]) if ordinary else shipped_flag_weights().mean
        flags = {
            entry.name: Examples.of([_centred(next(vectors), mean) for _ in entry.examples])
            for entry in self._by_examples
        }
        return _Loaded(mean, flags)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """What is embedded once in a process."""

    mean: Vector
    """By which vectors are centred: of ordinary messages, or of the weights."""
    flags: Mapping[str, Examples]
    """Of flags that are found by examples, by name."""


def ordinary_messages() -> tuple[str, ...]:
    """Return messages to a care line that are no emergencies; some of them are near to one."""
    text = files("assistant.answer").joinpath("ordinary_messages.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line and not line.startswith("#"))


def mean_of(vectors: Sequence[Vector]) -> list[float]:
    """Return the mean of vectors."""
    return [fsum(column) / len(vectors) for column in zip(*vectors, strict=True)]


def _red_flag(entry: RedFlagEntry) -> RedFlag:
    return RedFlag(name=entry.name, text=entry.text, call=entry.call)


def _centred(vector: Vector, mean: Vector) -> list[float]:
    return [value - middle for value, middle in zip(vector, mean, strict=True)]


def _of_unit_length(vector: Vector) -> list[float]:
    length = sqrt(fsum(map(mul, vector, vector))) or 1.0
    return [value / length for value in vector]


def _log_of_summed_odds(log_odds: Sequence[float]) -> float:
    """Return log Σ exp of the log-odds; the highest is taken out first, so that no exponential overflows."""
    highest = max(log_odds)
    return highest + log(fsum(exp(value - highest) for value in log_odds))


def _dot(first: Vector, second: Vector) -> float:
    return sum(map(mul, first, second))
