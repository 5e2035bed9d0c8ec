"""The packaged weights: the LLM in servers, each started once for all tests, and the embedding model here."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Generator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import orjson
import pytest
from gguf import GGUFReader, GGUFWriter
from tokenizers import Tokenizer

from assistant.domain.clock import Deadline
from assistant.model_server.artifact import TOKENIZER_FILE, artifact_folder, ensure_artifact
from assistant.model_server.embedding import EmbeddingEngine, EmbeddingTask
from assistant.model_server.weights import locate_weights
from assistant.process.settings import ModelServerSettings, inherited_environment

STOP_LIMIT_S = 30.0
"""SageMaker kills a container that long after SIGTERM."""


@dataclass(frozen=True)
class Server:
    url: str
    process: subprocess.Popen[bytes]
    settings: ModelServerSettings
    log: Path

    def stop(self) -> int:
        """Send SIGTERM and return the status. Raises TimeoutExpired when it does not end in time."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=STOP_LIMIT_S)


class Embedder:
    """``TextEmbedder`` over embedding weights in this process."""

    def __init__(self, **settings: Any) -> None:
        """``settings``: fields of ``ModelServerSettings``."""
        chosen = ModelServerSettings(task="embedding", **settings)
        ensure_artifact(chosen)
        weights = locate_weights(chosen)
        self._engine = EmbeddingEngine.started(weights, chosen)
        path = artifact_folder(chosen, weights) / TOKENIZER_FILE
        limit = chosen.max_input_tokens
        self._task = EmbeddingTask(
            self._engine, tokenizer=Tokenizer.from_file(str(path)), max_input_tokens=limit
        )

    async def embed(self, texts: Sequence[str], *, deadline: Deadline | None = None) -> list[list[float]]:
        del deadline
        return (await self._task.embed(texts)).tolist()

    def close(self) -> None:
        self._engine.close()


Embedding = Callable[..., Embedder]


Start = Callable[..., AbstractContextManager[Server]]


@contextmanager
def running(settings: ModelServerSettings, log: Path) -> Generator[Server]:
    with log.open("wb") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "assistant.model_server"],
            env=inherited_environment() | settings.environment(),
            stdout=subprocess.PIPE,
            stderr=errors,
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        assert line, log.read_text()
        ready = orjson.loads(line)
        yield Server(f"http://{ready['host']}:{ready['port']}", process, settings, log)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="session")
def artifacts_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def start(artifacts_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Start:
    """Start a server of the packaged LLM, or of another one by ``path``."""

    def started(**settings: Any) -> AbstractContextManager[Server]:
        given = {"task": "generation", "artifacts_dir": artifacts_dir, **settings}
        chosen = ModelServerSettings(port=0, **given)
        return running(chosen, tmp_path_factory.mktemp("logs") / "stderr")

    return started


@pytest.fixture
def embedding(artifacts_dir: Path) -> Generator[Embedding]:
    """Load the packaged embedding model, or others by ``manifest``."""
    loaded: list[Embedder] = []

    def load(**settings: Any) -> Embedder:
        loaded.append(Embedder(**{"artifacts_dir": artifacts_dir, **settings}))
        return loaded[-1]

    yield load
    for embedder in loaded:
        embedder.close()


@pytest.fixture(scope="session")
def generation(start: Start) -> Generator[Server]:
    with start() as server:
        yield server


@pytest.fixture(scope="session")
def narrow(start: Start) -> Generator[Server]:
    """An LLM with one slot and one place to wait."""
    with start(slots=1, queue_size=1, context_tokens=1024) as server:
        yield server


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    async with httpx.AsyncClient(timeout=60, trust_env=False) as opened:
        yield opened


HIDDEN, HEADS, INNER, CONTEXT = 64, 2, 96, 2048
MERGES = 4_000
"""Of the packaged model's 48,900, the most frequent: a reader of all takes two seconds for each file."""
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
)


def write_tiny_gguf(path: Path, *, vocabulary_of: Path, cutting: str, template: str = TEMPLATE) -> Path:
    """Write a one-layer Llama; ``cutting`` is the GGUF's ``tokenizer.ggml.pre``."""
    tokens, kinds, merges = _vocabulary(vocabulary_of)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(1)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(cutting)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(template)
    _add_tensors(writer, len(tokens))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@cache
def _vocabulary(path: Path) -> tuple[list[str], list[int], list[str]]:
    """Return tokens, their kinds and merges. Special tokens and bytes come first, then one token a merge."""
    reader: Any = GGUFReader(path)
    tokens, kinds, merges = (
        reader.get_field(f"tokenizer.ggml.{name}").contents() for name in ("tokens", "token_type", "merges")
    )
    count = len(tokens) - len(merges) + MERGES
    return tokens[:count], kinds[:count], merges[:MERGES]


def _add_tensors(writer: GGUFWriter, vocabulary: int) -> None:
    rng = np.random.default_rng(0)
    shapes = {
        "token_embd.weight": (vocabulary, HIDDEN),
        "blk.0.attn_q.weight": (HIDDEN, HIDDEN),
        "blk.0.attn_k.weight": (HIDDEN, HIDDEN),
        "blk.0.attn_v.weight": (HIDDEN, HIDDEN),
        "blk.0.attn_output.weight": (HIDDEN, HIDDEN),
        "blk.0.ffn_gate.weight": (INNER, HIDDEN),
        "blk.0.ffn_up.weight": (INNER, HIDDEN),
        "blk.0.ffn_down.weight": (HIDDEN, INNER),
    }
    for name, shape in shapes.items():
        writer.add_tensor(name, rng.normal(0, 0.1, shape).astype(np.float32))
    for name in ("blk.0.attn_norm.weight", "blk.0.ffn_norm.weight", "output_norm.weight"):
        writer.add_tensor(name, np.ones(HIDDEN, np.float32))
