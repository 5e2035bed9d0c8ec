"""The artifact of an embedding model: its tokenizer without truncation, and its graph."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tokenizers import Tokenizer

from assistant.domain.errors import ConfigurationError
from assistant.model_server.artifact import ModelArtifact, artifact_folder, write_whole
from assistant.model_server.cosine_means import CosineMeans, measure_cosines
from assistant.model_server.embedding_graph import (
    BUILDER_VERSION,
    Pooling,
    build_embedding_graph,
    longest_input,
    read_bert_config,
    read_pooling,
)
from assistant.model_server.embedding_runtime import PassageRunner, graph_dimensions, load_graph
from assistant.model_server.weights import Weights
from assistant.settings.process import ModelServerSettings


def build_embedding_artifact(
    weights: Weights, *, settings: ModelServerSettings, digest: str
) -> tuple[ModelArtifact, bytes]:
    """Return the artifact and its tokenizer.json. Raises ConfigurationError."""
    tokenizer = _tokenizer_that_never_cuts(weights.path / "tokenizer.json")
    longest = longest_input(weights.path)
    if settings.max_input_tokens > longest:
        raise ConfigurationError(
            f"max_input_tokens is {settings.max_input_tokens}, {weights.name} takes at most {longest}."
        )
    means = _cosine_means(weights, tokenizer, settings=settings, digest=digest)
    if weights.expected is not None:  # added weights; for others the tenant file gives the means, checked
        means.refuse_alike(weights.name)
    artifact = ModelArtifact(
        model=weights.name,
        task="embedding",
        digest=digest,
        max_input_tokens=settings.max_input_tokens,
        dimensions=dimensions_of(weights),
        pooling=pooling_of(weights),
        cosine_unrelated=means.unrelated,
        cosine_related=means.related,
    )
    return artifact, tokenizer


def pooling_of(weights: Weights) -> Pooling:
    """Return the pooling that was given with the weights, else their folder's. Raises ConfigurationError."""
    return weights.pooling or read_pooling(weights.path)


def dimensions_of(weights: Weights) -> int:
    """Return the length of the weights' vectors. Raises ConfigurationError."""
    return graph_dimensions(weights.file) if weights.is_graph else read_bert_config(weights.path).hidden_size


def ensure_graph(weights: Weights, *, settings: ModelServerSettings, digest: str) -> Path:
    """Return the ONNX graph of the weights: the folder's own, or one that is built when it is missing.

    Raises ConfigurationError.
    """
    if weights.is_graph:
        return weights.file
    folder = artifact_folder(settings, weights)
    path = folder / f"model-{_graph_key(weights, digest)}.onnx"
    if not path.exists():
        write_whole(path, build_embedding_graph(weights.path, pooling=weights.pooling))
        for stale in folder.glob("model-*.onnx"):
            if stale != path:
                stale.unlink(missing_ok=True)
    return path


def _cosine_means(
    weights: Weights, tokenizer: bytes, *, settings: ModelServerSettings, digest: str
) -> CosineMeans:
    """Run the model on the packaged pairs: 64 texts, about a second for a small model."""
    counting = Tokenizer.from_str(tokenizer.decode())
    most = settings.max_input_tokens  # the longest text has some 40 tokens; a lower limit cuts it
    graph = ensure_graph(weights, settings=settings, digest=digest)
    try:
        runner = PassageRunner(
            load_graph(graph, threads=1, precision=settings.precision), pooling=pooling_of(weights)
        )
        return measure_cosines(lambda text: runner.embed(counting.encode(text).ids[:most]))
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1:]
        raise ConfigurationError(f"{graph}: the graph cannot be run: {' '.join(reason)[:200]}") from None


def _graph_key(weights: Weights, digest: str) -> str:
    """Everything that the graph is made of: weights, both configurations and the builder."""
    pooling = f"{weights.pooling} " if weights.pooling else ""
    key = hashlib.sha256(f"{BUILDER_VERSION} {digest} {pooling}".encode())
    for path in (weights.path / "config.json", weights.path / "1_Pooling" / "config.json"):
        key.update(path.read_bytes() if path.exists() else b"-")
    return key.hexdigest()[:16]


def _tokenizer_that_never_cuts(path: Path) -> bytes:
    """As shipped, a tokenizer may truncate and pad: packaged MiniLM's does, to 128 tokens."""
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 : the library raises nothing narrower
        raise ConfigurationError(f"{path}: the tokenizer cannot be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer.to_str().encode()
