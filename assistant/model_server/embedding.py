"""Embeds texts: OpenVINO runs the graph, a few threads take passages in turn, HTTP as TEI answers it.

Measured on 2 cores with AVX-512 BF16 (tokens a second of both cores' time; cosine to sentence-transformers):
onnxruntime fp32 7,500, exact; OpenVINO fp32 8,300, exact; OpenVINO bf16 14,300, ≥ 0.9999; OpenVINO int8
18,700, ≥ 0.992. The cores' own limit in fp32 is 9,400.

HTTP: ``{"inputs": "text" | ["text", …], "normalize": true, "truncate": false}`` returns ``[[float, …], …]``,
errors ``{"error": …, "error_type": …}`` with the statuses of Text Embeddings Inference
(router/src/http/server.rs): an input that is too long is 413 ``Validation``.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false
from __future__ import annotations

import asyncio
import json
import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import orjson
from pydantic import BaseModel, ConfigDict, StrictBool, StrictStr, ValidationError
from starlette.responses import Response
from starlette.types import Send
from tokenizers import Tokenizer

from assistant.domain.documents import embedding_input
from assistant.domain.errors import ConfigurationError, OverloadedError, PassageTooLongError
from assistant.http_process import send_whole
from assistant.settings.tenant import SMALLEST_COSINE_GAP

Precision = Literal["bfloat16", "float32"]
Pooling = Literal["mean", "cls"]
Floats = npt.NDArray[np.float32]
_INPUTS = frozenset({"input_ids", "attention_mask", "token_type_ids", "position_ids"})
"""Inputs that an exported encoder may have; ours has the first alone."""
_SHAPES_KEPT = 1024
"""Compiled kernels that are kept, one a layer kind and input length: without a bound they take 350 MiB."""
_SMALLEST_NORM = 1e-12


def of_unit_length(vectors: Floats) -> Floats:
    """Return vectors, shape (n, dimensions), of length 1; a zero vector stays one."""
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.maximum(norms, _SMALLEST_NORM)


def load_graph(path: Path, *, threads: int, precision: Precision) -> Any:
    """Return an openvino.CompiledModel that runs ``threads`` inputs at once, a thread each.

    ``bfloat16`` rounds the operands of matrix products on processors that multiply in that type; on others
    the graph runs in float32, as no processor gains by imitating it.
    """
    core = _core()
    native = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    settings = {
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" and native else "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": threads,
        "ENABLE_CPU_PINNING": False,  # the machine's cores are shared with other processes
        "CPU_RUNTIME_CACHE_CAPACITY": _SHAPES_KEPT,
    }
    return core.compile_model(str(path), "CPU", settings)


class PassageRunner:
    """Embeds one passage at a time with a compiled graph: our own, or an exported encoder with its pooling.

    An exported encoder gives a vector a token, (1, tokens, hidden), and is pooled here; one that gives
    (1, hidden) has pooled already.
    """

    def __init__(self, model: Any, *, pooling: Pooling) -> None:
        self._request = model.create_infer_request()
        self._inputs = frozenset(str(each.get_any_name()) for each in model.inputs)
        self._output = _output_place(model)
        self._pooling = pooling

    def embed(self, ids: Sequence[int]) -> Floats:
        """Return the pooled vector, not normalised, shape (hidden,)."""
        tokens = np.asarray([ids], np.int64)
        given = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "token_type_ids": np.zeros_like(tokens),
            "position_ids": np.arange(tokens.shape[1], dtype=np.int64)[None],
        }
        self._request.infer({name: given[name] for name in self._inputs})
        found = self._request.get_output_tensor(self._output).data
        if found.ndim == 2:
            return found[0].copy()
        return (found[0].mean(axis=0) if self._pooling == "mean" else found[0][0]).astype(np.float32)


def graph_dimensions(path: Path) -> int:
    """Return the length of the graph's vectors.

    Raises ConfigurationError when the file is no graph of an encoder that can be run here.
    """
    try:
        model = _core().read_model(str(path))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1][:200]
        raise ConfigurationError(f"{path}: the ONNX graph cannot be read: {reason}") from None
    names = {str(each.get_any_name()) for each in model.inputs}
    if "input_ids" not in names or not names <= _INPUTS:
        raise ConfigurationError(
            f"{path}: its inputs are {', '.join(sorted(names))}; an encoder with input_ids and at most "
            f"{', '.join(sorted(_INPUTS - {'input_ids'}))} can be run here."
        )
    last = model.outputs[_output_place(model)].get_partial_shape()[-1]
    if last.is_dynamic:
        raise ConfigurationError(
            f"{path}: the graph does not say how long its vectors are. Export it with a fixed hidden size."
        )
    return int(last.get_length())


def _output_place(model: Any) -> int:
    """Return which output is the vector: one that is pooled, (1, hidden), else the first."""
    ranks = [each.get_partial_shape().rank for each in model.outputs]
    return next((place for place, rank in enumerate(ranks) if rank.is_static and rank.get_length() == 2), 0)


def _core() -> Any:
    # Importing the library loads a client that can report usage to its maker, unless there is none.
    sys.modules.setdefault("openvino_telemetry", cast("Any", None))
    import openvino

    return openvino.Core()


# --- the engine -----------------------------------------------------------------------------------------


Vectors = npt.NDArray[np.float32]
_FIRST_TOKENS = 2


class EmbeddingEngine:
    """Runs the graph of ``embedding_graph`` on ``threads`` single-threaded workers.

    A passage is embedded alone, so its vector does not depend on what else is asked; workers take a passage
    of each request in turn, so that a question does not wait for a whole batch of documents.
    """

    def __init__(
        self, graph: Path, *, threads: int, queue_size: int, precision: Precision, pooling: Pooling = "mean"
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


# --- the scale of a model's cosines ---------------------------------------------------------------------


_PAIRS = Path(__file__).with_name("cosine_pairs.json")
_DECIMALS = 3
"""The packaged model's float32 and bfloat16 means differ by less than 0.001."""
Embed = Callable[[str], Floats]
"""Returns the vector of one text, shape (hidden,), of any length."""


@dataclass(frozen=True, slots=True)
class Pair:
    question: str
    answer: str
    """As a passage is embedded: under its title."""


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
    """Return the pairs; each has a subject that no other has."""
    found = json.loads(_PAIRS.read_bytes())["pairs"]
    return [
        Pair(each["question"], embedding_input(title=each["title"], heading="", text=each["answer"]))
        for each in found
    ]


def measure_cosines(embed: Embed) -> CosineMeans:
    """Return the model's mean cosines over the packaged pairs."""
    pairs = packaged_pairs()
    questions = of_unit_length(np.stack([embed(pair.question) for pair in pairs]))
    answers = of_unit_length(np.stack([embed(pair.answer) for pair in pairs]))
    cosines = questions @ answers.T
    own = np.eye(len(pairs), dtype=np.bool_)
    return CosineMeans(
        unrelated=round(float(cosines[~own].mean()), _DECIMALS),
        related=round(float(cosines[own].mean()), _DECIMALS),
    )


# --- the HTTP contract ----------------------------------------------------------------------------------


MOST_INPUTS = 32
"""Inputs of one request, as that server has it by default (``max_client_batch_size``)."""
ErrorType = Literal["Validation", "Tokenizer", "Overloaded", "Backend", "Empty"]
_STATUS: dict[ErrorType, int] = {"Empty": 400, "Validation": 413, "Tokenizer": 422, "Overloaded": 429}


class _EmbedRequest(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    inputs: StrictStr | list[StrictStr]
    normalize: StrictBool = True
    truncate: StrictBool = False


class EmbeddingTask:
    """A ``ServedTask`` over an engine and the model's tokenizer."""

    def __init__(self, engine: EmbeddingEngine, *, tokenizer: Tokenizer, max_input_tokens: int) -> None:
        self._engine = engine
        self._tokenizer = tokenizer
        self._max_input_tokens = max_input_tokens
        self._tokenizing = ThreadPoolExecutor(1, thread_name_prefix="tokenizing")

    async def healthy(self) -> bool:
        return self._engine.alive

    async def invoke(self, body: bytes, *, send: Send) -> None:
        await send_whole(await self._answer(body), send)

    def refuse(self, status: int, message: str) -> Response:
        return _error("Validation" if status < 500 else "Backend", message, status=status)

    async def _answer(self, body: bytes) -> Response:
        try:
            request = _EmbedRequest.model_validate(orjson.loads(body))
        except orjson.JSONDecodeError:
            return _error("Tokenizer", "The body is not UTF-8 JSON.")
        except ValidationError as error:
            found = error.errors(include_input=False, include_url=False)[0]
            place = ".".join(str(part) for part in found["loc"]) or "the body"
            return _error("Tokenizer", f"{place}: {found['msg']}")
        texts = [request.inputs] if isinstance(request.inputs, str) else request.inputs
        refusal = _refusal(texts, truncate=request.truncate)
        if refusal is not None:
            return refusal
        try:
            vectors = await self._embed(texts, normalize=request.normalize)
        except PassageTooLongError as error:
            return _error("Validation", error.message)
        except OverloadedError as error:
            return _error("Overloaded", error.message)
        return Response(
            orjson.dumps(vectors, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json"
        )

    async def _embed(self, texts: list[str], *, normalize: bool) -> Vectors:
        loop = asyncio.get_running_loop()
        passages = await loop.run_in_executor(self._tokenizing, self._tokenize, texts)
        vectors = await self._engine.embed(passages)
        return of_unit_length(vectors) if normalize else vectors

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        passages = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]
        longest = max(map(len, passages))
        if longest > self._max_input_tokens:
            raise PassageTooLongError(
                f"`inputs` must have at most {self._max_input_tokens} tokens. Given: {longest}"
            )
        return passages


def _refusal(texts: list[str], *, truncate: bool) -> Response | None:
    if truncate:
        return _error("Validation", "`truncate` is refused: this server never embeds a part of an input.")
    if not texts or not all(texts):
        return _error("Empty", "`inputs` cannot be empty")
    if len(texts) > MOST_INPUTS:
        return _error("Validation", f"batch size {len(texts)} > maximum allowed batch size {MOST_INPUTS}")
    return None


def _error(kind: ErrorType, message: str, *, status: int | None = None) -> Response:
    body = orjson.dumps({"error": message, "error_type": kind})
    return Response(body, status or _STATUS[kind], media_type="application/json")
