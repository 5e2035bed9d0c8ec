"""Settings of processes, one class each, read from the environment.

The classes of the functions are in ``functions``.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, cast

from pydantic import (
    Field,
    ModelWrapValidatorHandler,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_settings import BaseSettings, SettingsConfigDict, SettingsError

from assistant.domain.errors import ConfigurationError
from assistant.settings.local_models import TenantModels
from assistant.settings.tenant import TenantConfig


class ProcessSettings(BaseSettings):
    """Settings of one process. Making them raises one ConfigurationError that names every wrong variable."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Return the settings that the environment holds; what is given stands over it.

        Raises ConfigurationError naming variables.
        """
        try:
            return cls(**given)
        except SettingsError as error:
            raise ConfigurationError(
                f"An environment variable {cls.variable('')}… cannot be read: {error}."
            ) from None

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the environment variable of a field."""
        return f"{cls.model_config.get('env_prefix', '')}{name}".upper()

    @classmethod
    def variables(
        cls, given: Mapping[str, Any], *, known_later: AbstractSet[str] = frozenset()
    ) -> dict[str, str]:
        """Return the variables by which a process reads what is ``given`` by field.

        Values of fields in ``known_later`` are references that only the deployment resolves: they pass as
        they are. All others are validated as the process will, and a needed one that is missing is an error.
        Raises ConfigurationError naming every wrong variable.
        """
        unknown = [name for name in given if name not in cls.model_fields]
        missing = [
            name for name, field in cls.model_fields.items() if field.is_required() and name not in given
        ]
        wrong = [f"{cls.__name__} has no field {name}" for name in unknown]
        wrong += [f"{cls.variable(name)} is needed" for name in missing]
        wrong += cls.wrong_together(given)
        values: dict[str, str] = {}
        for name in given.keys() - set(unknown):
            try:
                values[cls.variable(name)] = _written(cls, name, given[name], known_later=name in known_later)
            except ValidationError as error:
                wrong += [f"{cls.variable(name)}: {item['msg']}" for item in error.errors()]
        if wrong:
            raise ConfigurationError(f"The environment of a process is not usable: {'; '.join(wrong)}.")
        return dict(sorted(values.items()))

    @classmethod
    def wrong_together(cls, given: Mapping[str, Any]) -> Sequence[str]:
        """Return what is wrong with the given values together, a sentence each; none is validated yet."""
        del given
        return ()

    @model_validator(mode="wrap")
    @classmethod
    def _all_or_nothing(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        wrong = list(cls.wrong_together(cast("Mapping[str, Any]", given)))
        try:
            settings = validate(given)
        except ValidationError as error:
            single = [
                f"{cls.variable('.'.join(str(part) for part in item['loc']))}: {item['msg']}"
                for item in error.errors()
            ]
            wrong = [*single, *wrong]
        else:
            if not wrong:
                return settings
        raise ConfigurationError(f"The environment is not usable: {'; '.join(wrong)}.")

    def environment(self) -> dict[str, str]:
        """Return the variables that make these very settings in another process; absent ones are left out."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {
            self.variable(name): value if isinstance(value, str) else json.dumps(value)
            for name, value in values.items()
        }


def _written(cls: type[ProcessSettings], name: str, value: Any, *, known_later: bool) -> str:
    if known_later:
        return str(value)
    field = cls.model_fields[name]
    checked: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[valid-type]
    written = checked.dump_python(checked.validate_python(value), mode="json")
    return written if isinstance(written, str) else json.dumps(written)


def inherited_environment() -> dict[str, str]:
    """Return what a process started from this one inherits: everything but our own settings.

    Those are passed on by their classes (``environment``), so that one variable never reaches two
    processes that read the same class.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("ASSISTANT_")}


# Settings of the two processes that a deployment runs: the service and the ingestion worker.


_TENANT = "{tenant}"
TENANT_FILE_PATTERN = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+\.toml$"
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+[^\s]*$")]


class StoreSettings(ProcessSettings):
    """Where a process that serves or fills knowledge keeps it. One set of names, read by both processes.

    Names of AWS's things may hold ``{tenant}``; they must when the folder has more than one tenant file.
    """

    tenants_dir: Path = Path("tenants")
    """Folder of tenant files; every `*.toml` in it is served. One that is wrong is logged and left out."""
    only_tenants: tuple[str, ...] = ()
    """Tenants of the folder that are served, as a JSON list; all when empty."""
    tenant_file_s3: str | None = Field(default=None, pattern=TENANT_FILE_PATTERN)
    """`s3://bucket/key.toml`: a tenant file that is copied into `tenants_dir` at start, as its tenant's."""
    state_dir: Path = Path(".state")
    """Folder of everything that embedded stores keep, and of secrets made on first use."""
    model_artifacts_dir: Path = Path(".state/models")
    """Holds a folder a model, named as in the tenant file, with `tokenizer.json` and `artifact.json`."""
    model_artifacts_s3: str | None = Field(
        default=None, pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.*$"
    )
    """`s3://bucket/prefix/` with the same folders: copied into `model_artifacts_dir` at start."""
    sagemaker_endpoint_url: HttpUrl | None = None
    """Base URL of the SageMaker Runtime; AWS's own of the region when absent."""
    region: str = "us-east-1"
    """AWS region of every client."""
    stores: Literal["embedded", "aws"] = "embedded"
    """Documents, states, queues, records and event logs: under `state_dir`, or S3, DynamoDB and SQS."""
    search: Literal["embedded", "opensearch"] = "embedded"
    """The passage index: under `state_dir`, or OpenSearch."""
    aws_endpoint_url: HttpUrl | None = None
    """Of S3, DynamoDB, SQS, SSM and KMS, other than AWS's own: an emulator."""
    documents_bucket: str = ""
    """S3 bucket of documents and their parsed text."""
    documents_key_id: str | None = None
    """KMS key (id, alias or ARN) that encrypts documents; the bucket's own default when absent."""
    states_table: str = ""
    """DynamoDB table of the documents' states."""
    ingestion_queue_url: str = ""
    """SQS queue of documents to bring into the index."""
    withdrawals_queue_url: str = ""
    """SQS queue of documents to take out of it."""
    opensearch_url: HttpUrl | Literal[""] = ""
    """Base URL of the OpenSearch domain or node; needed with `search=opensearch`."""
    opensearch_index: str = "{tenant}-passages"
    """The alias that is searched; an index version is `<alias>-<version>` behind it."""
    opensearch_auth: Literal["sigv4", "none"] = "sigv4"
    """Whether requests to it are signed."""
    local_models: dict[str, TenantModels] = Field(default_factory=dict)
    """Tenant = the models added on this machine that it uses (`assistant models add`), as JSON. A deployment
    gives none."""
    otlp_endpoint: str | None = None
    """Where spans go (OTLP over HTTP); nowhere when absent."""
    log_level: str = "INFO"
    """The least level that is logged."""

    documents_prefix: ClassVar[str] = "documents/"
    """Of every object in the bucket of documents."""
    on_aws: ClassVar[tuple[str, ...]] = (
        "documents_bucket",
        "states_table",
        "ingestion_queue_url",
        "withdrawals_queue_url",
    )
    """What `stores=aws` needs, each a thing of one tenant."""

    @classmethod
    def wrong_together(cls, given: Mapping[str, Any]) -> list[str]:
        wrong: list[str] = []
        if given.get("stores") == "aws":
            wrong += cls._missing(given, cls.on_aws, because="stores=aws")
        if given.get("search") == "opensearch":
            wrong += cls._missing(given, ("opensearch_url",), because="search=opensearch")
        return wrong

    @classmethod
    def _missing(cls, given: Mapping[str, Any], names: Iterable[str], *, because: str) -> list[str]:
        missing = [cls.variable(name) for name in names if not given.get(name)]
        return [f"{because} needs {', '.join(missing)}"] if missing else []

    def check_tenants(self, tenants: Mapping[str, TenantConfig]) -> None:
        """Raises ConfigurationError naming the variables by which several tenants would share a thing."""
        if len(tenants) < 2:
            return
        used = [*(self.on_aws if self.stores == "aws" else ()), *self._used_beside()]
        shared = [self.variable(name) for name in used if _TENANT not in getattr(self, name)]
        if shared:
            raise ConfigurationError(
                f"{self.tenants_dir} has {len(tenants)} tenants ({', '.join(tenants)}), so these must hold "
                f"{_TENANT}: {', '.join(shared)}."
            )

    def _used_beside(self) -> list[str]:
        return ["opensearch_index"] if self.search == "opensearch" else []

    def as_served(self, tenant: TenantConfig) -> TenantConfig:
        """Return the tenant with the models that it uses here."""
        models = self.local_models.get(tenant.name)
        return tenant if models is None else models.applied_to(tenant)

    def of_tenant(self, template: str, tenant: TenantConfig) -> str:
        """Return a thing's name or URL for one tenant."""
        return template.replace(_TENANT, tenant.name)


class ServiceSettings(StoreSettings):
    """The orchestrator (``python -m assistant.api``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_SERVICE_")

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8700, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which the ready line names."""
    operations_host: str = "127.0.0.1"
    """Address of the operators' listener."""
    operations_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of the operators' listener: `/readyz` and `/metrics` are served there and nowhere else; 0 takes a
    free one, which the ready line names. None is opened when absent."""
    connections: int = Field(default=1000, ge=10)
    """Open connections at most; beyond it the one that has been without a request for longest is closed."""
    issuer: str
    """`iss` of accepted tokens and base URL of its OIDC discovery."""
    audience: str = "assistant"
    """`aud` of accepted tokens."""
    jwks_url: HttpUrl | None = None
    """Address of the issuer's keys. Exactly one of this and `jwks_parameter` is given."""
    jwks_parameter: str | None = None
    """Name of the SSM parameter that holds the issuer's key set (JWKS) where the issuer is out of reach."""
    power_parameter: str | None = None
    """Name of the SSM parameter that says `on` or `paused`; a file under `state_dir` when absent."""
    records_table: str = ""
    """DynamoDB table of answers, verdicts, what was sent, and who read what."""
    events_table: str = ""
    """DynamoDB table of the event logs of answers in progress."""
    console_client_id: str = "assistant-console"
    """The console's name at the issuer."""
    console_name: str = "Care assistant"
    """What the console's head shows."""
    quoted_tenants: tuple[str, ...] = ()
    """Tenants whose answers are only quoted here, as a JSON list: nothing is asked of their generation model,
    which need not run and needs no artifact."""
    drain_timeout_s: float = Field(default=103.0, gt=0, le=120.0)
    """How long answers in progress may go on after SIGTERM."""
    tls: Literal["off", "self-signed"] = "off"
    """`self-signed`: HTTPS by a certificate made at start, for a balancer that verifies none."""
    metrics_service: str | None = None
    """Dimension `Service` of the metrics that go to stdout for CloudWatch; none go when absent."""
    metrics_interval_s: int = Field(default=15, ge=1, le=60)
    """How often they do. Active streams are counted each second between."""
    release: str = ""
    """Version of this package that was deployed; `/readyz` shows it, as it does the next two."""
    model_stamp: str = ""
    """Of the deployed model artifacts and images: a change of it rolls the tasks."""
    schema_stamp: str = ""
    """Of the search schema that was applied: a change of it rolls the tasks."""

    on_aws: ClassVar[tuple[str, ...]] = (*StoreSettings.on_aws, "records_table", "events_table")

    @classmethod
    def wrong_together(cls, given: Mapping[str, Any]) -> list[str]:
        wrong = super().wrong_together(given)
        keys = [name for name in ("jwks_url", "jwks_parameter") if given.get(name)]
        if len(keys) != 1:
            both = f"{cls.variable('jwks_url')} and {cls.variable('jwks_parameter')}"
            wrong.append(f"exactly one of {both} must be given, not {'both' if keys else 'neither'}")
        return wrong

    def _used_beside(self) -> list[str]:
        power = ["power_parameter"] if self.power_parameter is not None else []
        return [*super()._used_beside(), *power]


class WorkerSettings(StoreSettings):
    """The ingestion worker (``python -m assistant.local.knowledge_worker``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_WORKER_")

    opensearch_applies_schema: bool = False
    """Whether the worker makes index, pipeline and alias where they are missing: on a node of one's own. A
    deployment makes them before, and its worker may not."""


# Settings of what stands beside the service and the worker: the model server, and the local processes.


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
