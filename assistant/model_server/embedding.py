"""Embeds texts on a few threads, and measures a model's cosines. A deployment embeds by Text Embeddings
Inference (TEI) of the same weights."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from assistant.domain.documents import embedding_input
from assistant.domain.errors import ConfigurationError, PassageTooLongError
from assistant.model_server.embedding_graph import Floats, PassageRunner, Pooling, Precision, load_graph
from assistant.model_server.weights import Weights
from assistant.process.settings import ModelServerSettings
from assistant.tenant.tenant import SMALLEST_COSINE_GAP

_SMALLEST_NORM = 1e-12
_FIRST_TOKENS = 2
"""Length of the input of the first run; see ``EmbeddingEngine.start``."""


def of_unit_length(vectors: Floats) -> Floats:
    """Return the vectors, shape (n, dimensions), scaled to length 1; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, _SMALLEST_NORM)


class EmbeddingEngine:
    """Runs a graph of ``embedding_graph`` on ``threads`` single-threaded workers.

    A passage is embedded alone, so its vector does not depend on what else is asked; workers take a passage
    of each request in turn, so that a question does not wait for a whole batch of documents.
    """

    def __init__(self, graph: Any, *, threads: int, precision: Precision, pooling: Pooling = "mean") -> None:
        """``graph`` is an openvino.Model, or the path of an ONNX file."""
        self._graph = graph
        self._threads = threads
        self._precision: Precision = precision
        self._pooling: Pooling = pooling
        self._turns = asyncio.Semaphore(threads)
        """One place a worker, given in the order in which they were asked for: so requests take turns."""
        self._worker = threading.local()
        """Has the thread's own ``runner``."""
        self._pool: ThreadPoolExecutor | None = None

    @classmethod
    def started(cls, weights: Weights, settings: ModelServerSettings) -> EmbeddingEngine:
        """Return an engine of the weights that runs. Raises ConfigurationError."""
        engine = cls(
            weights.graph(),
            threads=settings.threads,
            precision=settings.precision,
            pooling=weights.pooled_by(),
        )
        engine.start()
        return engine

    def start(self) -> None:
        """Load the graph and its runners."""
        graph, self._graph = self._graph, None  # the loaded model copies the weights: free these
        model = load_graph(graph, threads=self._threads, precision=self._precision)
        del graph
        runners: SimpleQueue[PassageRunner] = SimpleQueue()
        for _ in range(self._threads):
            runner = PassageRunner(model, pooling=self._pooling)
            # One run before there are threads: the binding initializes itself on the first run of a process,
            # and two threads that do so at once deadlock (one holds its guard and waits for the GIL, the
            # other holds the GIL and waits for the guard; seen with openvino 2026.4).
            # Not of one token: a graph whose first input is that short returns NaN in bfloat16 from then on.
            runner.embed([0] * _FIRST_TOKENS)
            runners.put(runner)

        def take_runner() -> None:
            self._worker.runner = runners.get()

        self._pool = ThreadPoolExecutor(self._threads, "embedding", initializer=take_runner)

    def close(self) -> None:
        """Stop the workers; each finishes the passage at hand."""
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    async def embed(self, passages: Sequence[Sequence[int]]) -> Floats:
        """Return the pooled vectors, not normalised, shape (len(passages), hidden).

        Raises ArithmeticError for NaN. A cancelled call stops after the passages that are being embedded.
        Callers in the same process limit their own requests.
        """
        waiting = deque(enumerate(passages))
        vectors: dict[int, Floats] = {}
        try:
            at_once = min(self._threads, len(passages))
            await asyncio.gather(*(self._embed_some(waiting, vectors) for _ in range(at_once)))
        finally:
            waiting.clear()
        stacked = np.stack([vectors[position] for position in range(len(passages))])
        if not np.isfinite(stacked).all():
            raise ArithmeticError("the model gave no numbers")
        return stacked

    async def _embed_some(
        self, waiting: deque[tuple[int, Sequence[int]]], vectors: dict[int, Floats]
    ) -> None:
        """Embed passages of one request, each when a worker is free, until ``waiting`` is empty.

        ``embed`` runs ``threads`` of these for a request. They share ``waiting`` (position, token ids) and
        fill ``vectors`` by position.
        """
        loop = asyncio.get_running_loop()
        while waiting:
            async with self._turns:
                if waiting:
                    position, ids = waiting.popleft()
                    vectors[position] = await loop.run_in_executor(self._pool, self._run, ids)

    def _run(self, ids: Sequence[int]) -> Floats:
        runner: PassageRunner = self._worker.runner
        return runner.embed(ids)


# --- the scale of a model's cosines ---------------------------------------------------------------------


_PAIRS = Path(__file__).with_name("cosine_pairs.json")
_DECIMALS = 3
"""The packaged model's float32 and bfloat16 means differ by less than 0.001."""
Embed = Callable[[str], Floats]
"""Returns the vector of one text, shape (hidden,), of any length."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A question, and a text that answers it."""

    question: str
    answer: str
    """The answer's text with its title before it, as passages are embedded."""


@dataclass(frozen=True, slots=True)
class CosineMeans:
    """Mean cosines of questions with the answers of the other pairs, and with their own."""

    unrelated: float
    related: float

    def refuse_alike(self, model: str) -> None:
        """Raise ConfigurationError where a question is hardly nearer to its own answer than to others."""
        if self.related - self.unrelated > SMALLEST_COSINE_GAP:
            return
        raise ConfigurationError(
            f"{model} does not tell related from unrelated text: a question's mean cosine is {self.related} "
            f"with its answer and {self.unrelated} with other texts. Give the pooling that it was trained "
            "with (--pooling mean or --pooling cls), or take another model."
        )


def packaged_pairs() -> list[Pair]:
    """Return the pairs of ``cosine_pairs.json``, each about another subject, so that other answers are
    unrelated."""
    pairs = json.loads(_PAIRS.read_bytes())["pairs"]
    return [
        Pair(pair["question"], embedding_input(title=pair["title"], heading="", text=pair["answer"]))
        for pair in pairs
    ]


def measure_cosines(embed: Embed) -> CosineMeans:
    """Return the model's mean cosines over the packaged pairs."""
    pairs = packaged_pairs()
    questions = of_unit_length(np.stack([embed(pair.question) for pair in pairs]))
    answers = of_unit_length(np.stack([embed(pair.answer) for pair in pairs]))
    cosines = questions @ answers.T
    diagonal = np.eye(len(pairs), dtype=np.bool_)
    return CosineMeans(
        unrelated=round(float(cosines[~diagonal].mean()), _DECIMALS),
        related=round(float(cosines[diagonal].mean()), _DECIMALS),
    )


# --- texts ----------------------------------------------------------------------------------------------


class EmbeddingTask:
    """Embeds texts by an engine and the model's tokenizer."""

    def __init__(self, engine: EmbeddingEngine, *, tokenizer: Tokenizer, max_input_tokens: int) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._max_input_tokens = max_input_tokens
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenizing")

    async def embed(self, texts: Sequence[str]) -> Floats:
        """Return the vectors, of unit length, shape (len(texts), dimensions). Raises PassageTooLongError,
        ArithmeticError where the model gave no numbers."""
        loop = asyncio.get_running_loop()
        passages = await loop.run_in_executor(self._tokenizing, self._tokenize, texts)
        return of_unit_length(await self._engine.embed(passages))

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token ids of each text. Raises PassageTooLongError."""
        passages = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(list(texts))]
        longest = max(map(len, passages))
        if longest > self._max_input_tokens:
            raise PassageTooLongError(
                f"An input must have at most {self._max_input_tokens} tokens. Given: {longest}"
            )
        return passages
