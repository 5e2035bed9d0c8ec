"""Embeds token ids on a few threads, one passage at a time, a passage of each waiting request in turn."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from assistant.domain.errors import OverloadedError
from assistant.model_server.embedding_runtime import PassageRunner, Pooling, Precision, load_graph

Vectors = npt.NDArray[np.float32]
_FIRST_TOKENS = 2


class EmbeddingEngine:
    """Runs the graph of ``embedding_graph`` on ``threads`` single-threaded workers.

    A passage is embedded alone, so its vector does not depend on what else is asked; workers take a passage
    of each request in turn, so that a question does not wait for a whole batch of documents.
    """

    def __init__(
        self,
        graph: Path,
        *,
        threads: int,
        queue_size: int,
        precision: Precision,
        pooling: Pooling = "mean",
    ) -> None:
        self._graph = graph
        self._threads = threads
        self._precision: Precision = precision
        self._pooling: Pooling = pooling
        self._most_requests = threads + queue_size
        self._requests: deque[_Request] = deque()
        self._active = 0
        self._wake = threading.Condition()
        self._closed = False
        self._workers: list[threading.Thread] = []

    def start(self) -> None:
        """Load the graph and start the workers."""
        model = load_graph(self._graph, threads=self._threads, precision=self._precision)
        runners = [PassageRunner(model, pooling=self._pooling) for _ in range(self._threads)]
        for runner in runners:
            # One run before there are threads: the binding sets itself up on the first run of a process,
            # and two threads that come to it at once wait for each other for ever (one has its guard and
            # wants the GIL, the other has the GIL and wants the guard; seen with openvino 2026.4).
            # Not of one token: a graph whose first input is that short gives NaN in bfloat16 ever after.
            runner.embed([0] * _FIRST_TOKENS)
        for number, runner in enumerate(runners):
            worker = threading.Thread(
                target=self._work, args=(runner,), name=f"embedding-{number}", daemon=True
            )
            worker.start()
            self._workers.append(worker)

    @property
    def alive(self) -> bool:
        return bool(self._workers) and all(worker.is_alive() for worker in self._workers)

    def close(self) -> None:
        """Stop the workers; each finishes the passage at hand."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        for worker in self._workers:
            worker.join(timeout=2.0)

    async def embed(self, passages: Sequence[Sequence[int]]) -> Vectors:
        """Return the pooled vectors, not normalised, shape (len(passages), hidden).

        Raises OverloadedError when as many requests as may wait are waiting. A cancelled call
        stops after the passages at hand.
        """
        request = _Request(passages, loop=asyncio.get_running_loop())
        with self._wake:
            if self._active >= self._most_requests:
                raise OverloadedError("The embedding model's queue is full; try again later.")
            self._active += 1
            self._requests.append(request)
            self._wake.notify_all()
        try:
            return await request.result
        finally:
            with self._wake:
                self._active -= 1
                request.drop()

    def _work(self, runner: PassageRunner) -> None:
        while (taken := self._take()) is not None:
            request, position = taken
            try:
                request.keep(position, runner.embed(request.passages[position]))
            except Exception as error:  # noqa: BLE001 : whatever a run raises belongs to its request
                request.fail(error)

    def _take(self) -> tuple[_Request, int] | None:
        """Return the next passage of the request whose turn it is; None when the engine is closed."""
        with self._wake:
            while not self._closed:
                if not self._requests:
                    self._wake.wait()
                    continue
                request = self._requests.popleft()
                position = request.next_position()
                if position is not None:
                    self._requests.append(request)
                    return request, position
            return None


class _Request:
    """The passages of one request, and their vectors as they come."""

    def __init__(self, passages: Sequence[Sequence[int]], *, loop: asyncio.AbstractEventLoop) -> None:
        self.passages = passages
        self.result: asyncio.Future[Vectors] = loop.create_future()
        self._loop = loop
        self._next = 0
        self._vectors: dict[int, Vectors] = {}
        self._lock = threading.Lock()

    def next_position(self) -> int | None:
        """Give out the next passage to embed, None when there is none left."""
        if self._next >= len(self.passages):
            return None
        self._next += 1
        return self._next - 1

    def drop(self) -> None:
        """Give out no more passages."""
        self._next = len(self.passages)

    def keep(self, position: int, vector: Vectors) -> None:
        with self._lock:
            self._vectors[position] = vector
            whole = len(self._vectors) == len(self.passages)
        if whole:
            stacked = np.stack([self._vectors[index] for index in range(len(self.passages))])
            error = None if np.isfinite(stacked).all() else ArithmeticError("the model gave no numbers")
            self._loop.call_soon_threadsafe(self._finish, stacked, error)

    def fail(self, error: Exception) -> None:
        self.drop()
        self._loop.call_soon_threadsafe(self._finish, None, error)

    def _finish(self, vectors: Vectors | None, error: Exception | None) -> None:
        if self.result.done():
            return
        if error is not None:
            self.result.set_exception(error)
        elif vectors is not None:
            self.result.set_result(vectors)
