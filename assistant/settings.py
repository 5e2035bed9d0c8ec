"""All configuration: one settings class per process, read from the environment, and the tenant file.

The name of an environment variable lives once, on the class that reads it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from assistant.domain.errors import ConfigurationError

GlossaryText = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
TenantName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9-]{1,30}$")]


class _TenantSection(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class KnowledgeSection(_TenantSection):
    paths: tuple[str, ...] = ()
    """Files or folders, relative to the tenant file, that ``assistant knowledge add`` takes by default."""


class EmbeddingSection(_TenantSection):
    endpoint: str = "embedding"
    model: str = "all-MiniLM-L6-v2"
    dimensions: int = Field(default=384, ge=1)
    max_tokens: int = Field(default=256, ge=16)
    """Limit of one embedding input, special tokens included."""


class GenerationSection(_TenantSection):
    endpoint: str = "llm"
    model: str = "SmolLM2-135M-Instruct"
    context_tokens: int = Field(default=2048, ge=256)
    """Prompt and answer together, of one stream."""
    max_tokens: int = Field(default=256, ge=1, le=4096)
    temperature: float = Field(default=0.0, ge=0.0, le=2.0)


class RetrievalSection(_TenantSection):
    leg_size: int = Field(default=100, ge=1, le=1000)
    passages: int = Field(default=5, ge=1, le=50)
    """How many sources an answer shows."""


class GateSection(_TenantSection):
    """Thresholds of the evidence gate, chosen on the tuning split by ``make evaluate``."""

    min_cosine: float = Field(default=0.42, ge=-1.0, le=1.0)
    min_coverage: float = Field(default=0.5, ge=0.0, le=1.0)


class PromptSection(_TenantSection):
    answer: str = "answer/1"
    """``<task>/<version>`` of a file under assistant/answering/prompts/."""
    passages: int = Field(default=2, ge=1, le=50)
    """How many of the sources the model reads; a small model mixes up more than one or two."""
    history_turns: int = Field(default=2, ge=0, le=20)


class LimitsSection(_TenantSection):
    """Bounds on one process's work for the tenant."""

    streams: int = Field(default=64, ge=1)
    """Answers in progress in one process."""
    streams_per_agent: int = Field(default=4, ge=1)
    answer_deadline_s: float = Field(default=100.0, gt=0, le=100.0)
    embedding_timeout_s: float = Field(default=5.0, gt=0)
    search_timeout_s: float = Field(default=5.0, gt=0)
    first_token_timeout_s: float = Field(default=20.0, gt=0)
    """Later than this the answer is ``sources_only``."""


class SecretsSection(_TenantSection):
    document_links: str = "state:document-links"
    """Key of the tokens in document links: ``state:NAME`` (made on first use under the state folder),
    ``file:PATH`` (relative to the tenant file; must exist, 32 bytes or more), or ``kms:NAME`` (an SSM
    parameter with a data key that KMS encrypted, base64)."""


class TenantConfig(_TenantSection):
    """One tenant file, ``tenants/<name>.toml``."""

    schema_version: Literal[1]
    name: TenantName
    display_name: str = Field(min_length=1, max_length=100)
    language: str = "en"
    knowledge: KnowledgeSection = KnowledgeSection()
    embedding: EmbeddingSection = EmbeddingSection()
    generation: GenerationSection = GenerationSection()
    retrieval: RetrievalSection = RetrievalSection()
    gate: GateSection = GateSection()
    prompt: PromptSection = PromptSection()
    limits: LimitsSection = LimitsSection()
    secrets: SecretsSection = SecretsSection()
    glossary: Annotated[Mapping[GlossaryText, GlossaryText], Field(max_length=2000)] = {}
    """What callers say = what the documents call it. Joined to a question when it is retrieved, and
    counted as the same by the evidence gate. Neither the prompt nor the answer sees it."""

    def settings_hash(self) -> str:
        """Return the SHA-256 (hex) over the whole file's meaning, kept in every answer's record."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


def load_tenant(path: Path) -> TenantConfig:
    """Read one tenant file. Raises ConfigurationError naming file, key and what is allowed."""
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: there is no such tenant file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    try:
        # strict, so that true is no number; by way of JSON, so that a list may still be a tuple
        tenant = TenantConfig.model_validate_json(json.dumps(data, default=str), strict=True)
    except ValidationError as error:
        raise ConfigurationError(f"{path}: " + "; ".join(_explain(error))) from None
    if tenant.name != path.stem:
        raise ConfigurationError(
            f'{path}: name = "{tenant.name}" must equal the file\'s name, "{path.stem}".'
        )
    return tenant


def load_tenants(directory: Path) -> dict[str, TenantConfig]:
    """Read every ``*.toml`` of a folder, by name. Raises ConfigurationError."""
    if not directory.is_dir():
        raise ConfigurationError(f"{directory}: there is no such folder of tenant files.")
    tenants = {path.stem: load_tenant(path) for path in sorted(directory.glob("*.toml"))}
    if not tenants:
        raise ConfigurationError(f"{directory}: no tenant file (*.toml) in this folder.")
    return tenants


def _explain(error: ValidationError) -> list[str]:
    lines: list[str] = []
    for item in error.errors():
        key = ".".join(str(part) for part in item["loc"])
        if item["type"] == "extra_forbidden":
            section = TenantConfig.model_fields
            for part in item["loc"][:-1]:
                annotation = section[str(part)].annotation
                if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                    section = annotation.model_fields
            lines.append(f"unknown key {key}; allowed here: {', '.join(sorted(section))}")
        else:
            lines.append(f"{key}: {item['msg']} (got {item['input']!r})")
    return lines


class _ProcessSettings(BaseSettings):
    model_config = SettingsConfigDict(frozen=True, extra="ignore")

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Return the settings that the environment holds; what is given stands over it.

        Raises ConfigurationError naming variables.
        """
        prefix = cls.model_config.get("env_prefix", "")
        try:
            return cls(**given)
        except SettingsError as error:
            raise ConfigurationError(f"An environment variable {prefix}… cannot be read: {error}.") from None
        except ValidationError as error:
            wrong = [
                f"{prefix}{'.'.join(str(part) for part in item['loc']).upper()}: {item['msg']}"
                for item in error.errors()
            ]
            raise ConfigurationError(f"The environment is not usable: {'; '.join(wrong)}.") from None

    def environment(self) -> dict[str, str]:
        """Return the variables that make these very settings in another process; absent ones are left out."""
        prefix = self.model_config.get("env_prefix", "")
        values = self.model_dump(mode="json", exclude_none=True)
        return {
            f"{prefix}{name}".upper(): value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }


def inherited_environment() -> dict[str, str]:
    """Return what a process started from this one inherits: everything but our own settings.

    Those are passed on by their classes (``environment``), so that one variable never reaches two
    processes that read the same class.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("ASSISTANT_")}


class _StoreSettings(_ProcessSettings):
    """Where a process that serves or fills knowledge keeps it. One set of names, read by both processes.

    Names of AWS's things may hold ``{tenant}``; they must when the folder has more than one tenant file.
    """

    stores: Literal["embedded", "aws"] = "embedded"
    """Documents, states, queues, records and event logs: under ``state_dir``, or S3, DynamoDB and SQS."""
    search: Literal["embedded", "opensearch"] = "embedded"
    aws_endpoint_url: str | None = None
    """Of S3, DynamoDB, SQS, SSM and KMS, other than AWS's own: an emulator."""
    documents_bucket: str = ""
    documents_key_id: str | None = None
    """KMS key (id, alias or ARN) that encrypts documents; the bucket's own default when absent."""
    states_table: str = ""
    ingestion_queue_url: str = ""
    withdrawals_queue_url: str = ""
    opensearch_url: str = ""
    opensearch_index: str = "{tenant}-passages"
    """The alias that is searched; an index version is ``<alias>-<version>`` behind it."""
    opensearch_auth: Literal["sigv4", "none"] = "sigv4"


class ServiceSettings(_StoreSettings):
    """The orchestrator (``python -m assistant.service``)."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="ASSISTANT_SERVICE_")

    host: str = "127.0.0.1"
    port: int = Field(default=8700, ge=0, le=65535)
    tenants_dir: Path = Path("tenants")
    state_dir: Path = Path(".state")
    model_artifacts_dir: Path = Path(".state/models")
    """Holds a folder a model, named as the tenant file names it, with tokenizer.json and artifact.json."""
    sagemaker_endpoint_url: str
    """Base URL of the SageMaker Runtime; locally the gateway."""
    region: str = "us-east-1"
    issuer: str
    """``iss`` of accepted tokens and base URL of its OIDC discovery."""
    audience: str = "assistant"
    jwks_url: str | None = None
    """Address of the issuer's keys. Exactly one of this and ``jwks_parameter`` is given."""
    jwks_parameter: str | None = None
    """Name of the SSM parameter that holds the issuer's key set (JWKS) where the issuer is out of reach."""
    power_parameter: str | None = None
    """Name of the SSM parameter that says ``on`` or ``paused``; locally a file under ``state_dir``."""
    records_table: str = ""
    events_table: str = ""
    console_client_id: str = "assistant-console"
    """The console's name at the issuer."""
    console_name: str = "Care assistant"
    """What the console's head shows."""
    otlp_endpoint: str | None = None
    """Where spans go (OTLP over HTTP); nowhere when absent."""
    drain_timeout_s: float = Field(default=110.0, gt=0, le=120.0)
    log_level: str = "INFO"


class WorkerSettings(_StoreSettings):
    """The ingestion worker (``python -m assistant.ingesting_worker``)."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="ASSISTANT_WORKER_")

    tenants_dir: Path = Path("tenants")
    state_dir: Path = Path(".state")
    model_artifacts_dir: Path = Path(".state/models")
    sagemaker_endpoint_url: str
    region: str = "us-east-1"
    otlp_endpoint: str | None = None
    """Where spans go (OTLP over HTTP); nowhere when absent."""
    log_level: str = "INFO"


class ModelServerSettings(_ProcessSettings):
    """One model in one process (``python -m assistant.model_server``)."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="ASSISTANT_MODEL_")

    task: Literal["embedding", "generation"]
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    path: Path | None = None
    """A folder of an embedding model (model.safetensors, tokenizer.json, config.json) or a GGUF file;
    the packaged MiniLM or SmolLM2 weights when absent."""
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


class GatewaySettings(_ProcessSettings):
    """The local SageMaker Runtime (``python -m assistant.sagemaker_gateway``)."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="ASSISTANT_GATEWAY_")

    host: str = "127.0.0.1"
    port: int = Field(default=8702, ge=0, le=65535)
    endpoints: dict[str, str]
    """Endpoint name → base URL of a model server, as JSON."""
    cut_seed: int = 0
    """Seed of the byte positions at which response parts are cut."""
    log_level: str = "INFO"


class LocalIssuerSettings(_ProcessSettings):
    """The local OIDC issuer (``python -m assistant.local_issuer``)."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="ASSISTANT_ISSUER_")

    host: str = "127.0.0.1"
    port: int = Field(default=8701, ge=0, le=65535)
    tenants_dir: Path = Path("tenants")
    state_dir: Path = Path(".state")
    audience: str = "assistant"
    redirect_origins: tuple[str, ...] = ()
    """Origins that sign-in may return to: the console's."""
    log_level: str = "INFO"


class LocalSettings(_ProcessSettings):
    """The supervisor of local processes (``assistant``); what it starts gets its own class's settings."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_prefix="ASSISTANT_LOCAL_")

    port: int = Field(default=8700, ge=0, le=65533)
    """Port of the service; the issuer and the gateway have the two after it. 0 chooses free ones."""
    embedding_path: Path | None = None
    """Another embedding model's folder, as ``ModelServerSettings.path``."""
    generation_path: Path | None = None
    """Another GGUF file, as ``ModelServerSettings.path``."""
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
    ci: str = Field(default="", validation_alias="CI")

    @property
    def in_ci(self) -> bool:
        """Whether ``CI`` says that nobody is there to press Ctrl-C."""
        return self.ci.lower() not in ("", "0", "false", "no")
