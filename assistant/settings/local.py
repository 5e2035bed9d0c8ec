"""Settings of what stands beside the service and the worker: the model server, and the local processes."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from assistant.settings.process import ProcessSettings


class ModelServerSettings(ProcessSettings):
    """One model in one process (``python -m assistant.model_server``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_MODEL_")

    task: Literal["embedding", "generation"]
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    path: Path | None = None
    """A folder of an embedding model (model.safetensors, tokenizer.json, config.json) or a GGUF file;
    the packaged MiniLM or SmolLM2 weights when absent."""
    manifest: Path | None = None
    """``manifest.toml`` of a model that was added with ``assistant models add``; stands over ``path``."""
    artifacts_dir: Path = Path(".state/models")
    """Where what is derived from weights is kept, a folder a model: graph, tokenizer.json, artifact.json."""
    max_input_tokens: int = Field(default=256, ge=16)
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Of the matrix products of embeddings, where the processor has bfloat16; float32 elsewhere."""
    threads: int = Field(default=2, ge=1)
    slots: int = Field(default=4, ge=1)
    """Generations that run at once in one batch."""
    context_tokens: int = Field(default=2048, ge=256)
    """Context of one slot."""
    queue_size: int = Field(default=16, ge=0)
    """Requests that wait; over it the answer is 429."""
    log_level: str = "INFO"


class GatewaySettings(ProcessSettings):
    """The local SageMaker Runtime (``python -m assistant.local.gateway``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_GATEWAY_")

    host: str = "127.0.0.1"
    port: int = Field(default=8702, ge=0, le=65535)
    endpoints: dict[str, str]
    """Endpoint name → base URL of a model server, as JSON."""
    cut_seed: int = 0
    """Seed of the byte positions at which response parts are cut."""
    log_level: str = "INFO"


class LocalIssuerSettings(ProcessSettings):
    """The local OIDC issuer (``python -m assistant.local.issuer``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_ISSUER_")

    host: str = "127.0.0.1"
    port: int = Field(default=8701, ge=0, le=65535)
    tenants_dir: Path = Path("tenants")
    state_dir: Path = Path(".state")
    only_tenants: tuple[str, ...] = ()
    """Tenants that sign-in offers; all of the folder when empty."""
    audience: str = "assistant"
    redirect_origins: tuple[str, ...] = ()
    """Origins that sign-in may return to: the console's."""
    log_level: str = "INFO"


class LocalSettings(ProcessSettings):
    """The supervisor of local processes (``assistant``); what it starts gets its own class's settings."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_LOCAL_")

    port: int = Field(default=8700, ge=0, le=65533)
    """Port of the service; the issuer and the gateway have the two after it. 0 chooses free ones."""
    min_free_mib: int = Field(default=512, ge=0)
    """Nothing is started with less free space on the disk of the state folder."""
    start_timeout_s: float = Field(default=120.0, gt=0)
    """From start to ready line; the first start derives the embedding model's graph."""
    stop_timeout_s: float = Field(default=10.0, gt=0)
    """From SIGTERM to SIGKILL."""
    lock_timeout_s: float = Field(default=180.0, gt=0)
    """How long a command waits while another starts processes."""
    log_limit_mib: int = Field(default=8, ge=1)
    """Over it the older half of a process's log is dropped, at the next command."""
    search: Literal["embedded", "opensearch"] = "embedded"
    """The index: under the state folder, or an OpenSearch node's."""
    opensearch_url: str = "http://127.0.0.1:9200"
    """Where that node answers. It is asked without credentials."""
    service_token: str | None = None
    """Bearer token for a service that a command is told of by its address."""
    ci: str = Field(default="", validation_alias="CI")

    @property
    def in_ci(self) -> bool:
        """Whether ``CI`` says that nobody is there to press Ctrl-C."""
        return self.ci.lower() not in ("", "0", "false", "no")
