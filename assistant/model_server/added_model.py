"""Checks weights that a person brings: what they are, whether they are whole and can be served here."""
# pyright: reportUnknownMemberType=false

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assistant.domain.errors import ConfigurationError
from assistant.model_server.artifact import dimensions_of, gguf_field, read_tokenizer
from assistant.model_server.embedding_graph import (
    longest_input,
    read_bert_config,
    read_pooling,
    read_safetensors,
)
from assistant.model_server.weights import ONNX_FILES, SAFETENSORS, Weights, weights_file
from assistant.settings.local_models import AddedEmbedding, AddedLlm, ModelWithWeights
from assistant.settings.model_artifacts import AnsweringTable

_GGUF_MAGIC = b"GGUF"
_MOST_CONTEXT_TOKENS = 4096
"""Of one stream here: the key-value cache of a long context takes more memory than a laptop has."""
_LONGEST_INPUT_TOKENS = 512
"""Of an embedding input: passages are cut shorter, and attention's memory grows with its square."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What a person says of the model beside its path; the weights say the rest."""

    answering: AnsweringTable
    name: str | None = None
    pooling: Literal["mean", "cls"] | None = None
    context_tokens: int | None = None


def look_at(path: Path, wishes: Wishes) -> ModelWithWeights:
    """Return what the weights at ``path`` are: a GGUF file, or a folder of an embedding model.

    Raises ConfigurationError naming the file and what is wrong with it.
    """
    path = path.resolve()
    if path.is_dir():
        return _embedding(path, wishes)
    if path.is_file():
        return _llm(path, wishes)
    raise ConfigurationError(f"{path}: there is no such file or folder.")


def _llm(path: Path, wishes: Wishes) -> AddedLlm:
    with path.open("rb") as file:
        magic = file.read(len(_GGUF_MAGIC))
    if magic != _GGUF_MAGIC:
        raise ConfigurationError(
            f"{path}: not a GGUF file (it begins with {magic!r}). Name a .gguf file, or the folder of an "
            "embedding model."
        )
    found = _whole_gguf(path)
    trained = int(found.get("context_length") or _MOST_CONTEXT_TOKENS)
    context_tokens = wishes.context_tokens or min(trained, _MOST_CONTEXT_TOKENS)
    if context_tokens > trained:
        raise ConfigurationError(
            f"{path}: the model was made for {trained} tokens, fewer than --context-tokens {context_tokens}."
        )
    return AddedLlm(
        name=wishes.name or path.stem,
        path=path,
        sha256=Weights(path.stem, path, path).digest(),
        context_tokens=context_tokens,
        answering=wishes.answering,
    )


def _whole_gguf(path: Path) -> Mapping[str, Any]:
    """Return the header's facts. Raises ConfigurationError for a file that is cut off, split or not known."""
    from gguf import MODEL_ARCH_NAMES, GGUFReader

    try:
        reader: Any = GGUFReader(path)
        end = max((tensor.data_offset + tensor.n_bytes for tensor in reader.tensors), default=0)
    except (OSError, ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"{path}: the GGUF file is cut off or damaged ({error}). Fetch it again."
        ) from None
    size = path.stat().st_size
    if not reader.tensors or end > size:
        raise ConfigurationError(
            f"{path}: the GGUF file is cut off: its tensors end at byte {end:,}, the file at {size:,}. "
            "Fetch it again."
        )
    architecture = str(gguf_field(reader, "general.architecture"))
    if architecture not in MODEL_ARCH_NAMES.values():
        raise ConfigurationError(
            f'{path}: the architecture "{architecture}" is unknown here. Take a model of a known one '
            "(llama, qwen3, gemma3, …), or update the packages gguf and xllamacpp."
        )
    parts = int(gguf_field(reader, "split.count") or 1)
    if parts > 1:
        raise ConfigurationError(
            f"{path}: one of {parts} parts of a model. Join them first: llama-gguf-split --merge."
        )
    return {"context_length": gguf_field(reader, f"{architecture}.context_length")}


def _embedding(path: Path, wishes: Wishes) -> AddedEmbedding:
    for needed, what in (("tokenizer.json", "the tokenizer"), ("config.json", "the configuration")):
        if not (path / needed).is_file():
            raise ConfigurationError(f"{path}: {what} is missing: put the model's {needed} into the folder.")
    file = weights_file(path)
    if not file.is_file():
        raise ConfigurationError(
            f"{path}: there are no weights: {SAFETENSORS}, or {' or '.join(ONNX_FILES)}, is missing."
        )
    read_tokenizer(path / "tokenizer.json")
    weights = Weights(path.name, path, file)
    if not weights.is_graph:
        read_bert_config(path)
        read_safetensors(file)
    return AddedEmbedding(
        name=wishes.name or path.name,
        path=path,
        sha256=weights.digest(),
        dimensions=dimensions_of(weights),
        max_tokens=min(longest_input(path), _LONGEST_INPUT_TOKENS),
        pooling=wishes.pooling or read_pooling(path),
    )
