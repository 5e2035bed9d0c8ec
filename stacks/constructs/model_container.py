"""The environment of each model container: what its image reads, from the artifact's manifest alone."""

from __future__ import annotations

from pathlib import Path

from assistant.domain.errors import ConfigurationError
from assistant.settings.model_artifacts import EmbeddingManifest, Instance, LlmManifest
from assistant.settings.process import ModelServerSettings

MODEL_FOLDER = Path("/opt/ml/model")
"""Where SageMaker puts an artifact into a container."""
_EMBEDDINGS_IN_ONE_REQUEST = 32
"""What the embedding client sends at most."""
_CLOSED = {"HF_HUB_OFFLINE": "1"}
"""The container reaches no network: it shall say so at once instead of trying."""


def llm_environment(manifest: LlmManifest, *, instance: Instance) -> dict[str, str]:
    """Raises ConfigurationError for an image that serves no chat model."""
    if manifest.image == "llm_neuronx":
        return _CLOSED | _neuron(manifest)
    if manifest.image == "llm_gpu":
        return _CLOSED | _gpu(manifest)
    if manifest.image == "model_server":
        (weights,) = manifest.files
        return ModelServerSettings.variables(
            {
                "task": "generation",
                "path": MODEL_FOLDER / weights,
                "slots": manifest.batch_size,
                "context_tokens": manifest.sequence_length,
                "threads": instance.vcpus,
            }
        )
    raise ConfigurationError(f"{manifest.name}: the image {manifest.image} serves no chat model.")


def embedding_environment(manifest: EmbeddingManifest, *, instance: Instance) -> dict[str, str]:
    """Raises ConfigurationError for an image that serves no embedding model."""
    if manifest.image == "embedding_tei_cpu":
        return _CLOSED | {
            "HF_MODEL_ID": str(MODEL_FOLDER),
            "POOLING": manifest.pooling,
            "DTYPE": manifest.dtype,
            "MAX_CLIENT_BATCH_SIZE": str(_EMBEDDINGS_IN_ONE_REQUEST),
            "AUTO_TRUNCATE": "false",  # true by default from 1.9 on; an input is never cut unseen
        }
    if manifest.image == "model_server":
        return ModelServerSettings.variables(
            {
                "task": "embedding",
                "path": MODEL_FOLDER,
                "max_input_tokens": manifest.max_tokens,
                "threads": instance.vcpus,
            }
        )
    raise ConfigurationError(f"{manifest.name}: the image {manifest.image} serves no embedding model.")


def _neuron(manifest: LlmManifest) -> dict[str, str]:
    """``SM_ON_<NAME>`` becomes ``optimum-cli neuron serve --<name>``, which refuses to start where a value
    is not what the artifact was compiled with."""
    return {
        "SM_ON_MODEL": str(MODEL_FOLDER),
        "SM_ON_SERVED_MODEL_NAME": manifest.served_name,
        "SM_ON_BATCH_SIZE": str(manifest.batch_size),
        "SM_ON_SEQUENCE_LENGTH": str(manifest.sequence_length),
        "SM_ON_TENSOR_PARALLEL_SIZE": str(manifest.tensor_parallel),
        **_template("SM_ON_CHAT_TEMPLATE", manifest),
    }


def _gpu(manifest: LlmManifest) -> dict[str, str]:
    """``SM_VLLM_<NAME>`` becomes vLLM's ``--<name>``."""
    return {
        "SM_VLLM_MODEL": str(MODEL_FOLDER),
        "SM_VLLM_SERVED_MODEL_NAME": manifest.served_name,
        "SM_VLLM_MAX_NUM_SEQS": str(manifest.batch_size),
        "SM_VLLM_MAX_MODEL_LEN": str(manifest.sequence_length),
        "SM_VLLM_TENSOR_PARALLEL_SIZE": str(manifest.tensor_parallel),
        "SM_VLLM_DTYPE": manifest.dtype,
        "STANDARD_AUTO_INSTALL_REQ": "false",  # else it installs what an artifact's requirements.txt names
        **_template("SM_VLLM_CHAT_TEMPLATE", manifest),
    }


def _template(variable: str, manifest: LlmManifest) -> dict[str, str]:
    return {variable: str(MODEL_FOLDER / manifest.chat_template)} if manifest.chat_template else {}
