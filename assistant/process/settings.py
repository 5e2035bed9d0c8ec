"""Settings of processes, one class each, read from the environment.

A process calls ``read`` of its class; the field ``port`` of ``ServiceSettings`` is the variable
ASSISTANT_SERVICE_PORT. A stack or a parent process makes these variables with ``variables`` or
``environment``. First come the service and what runs on a laptop, then the functions in ``lambdas/``, each
with only the variables that it needs. ``tools/pages.py`` writes the docstrings of fields into a page of docs.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from assistant.tenant.added_models import TenantModels
from assistant.tenant.tenant import TenantConfig, TenantName
from assistant.tenant.toml_file import RETIRED_KEYS


class ProcessSettings(BaseSettings):
    """Settings of one process. An invalid environment raises one ConfigurationError that names all its
    errors."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    @classmethod
    def read(cls, **given: Any) -> Self:
        """Return the settings of the environment; values ``given`` by field override it.

        Raises ConfigurationError, which names all wrong variables and those that were retired.
        """
        for name in RETIRED_KEYS.keys() & os.environ.keys():
            raise ConfigurationError(f"{name} was removed {RETIRED_KEYS[name]}.")
        try:
            return cls(**given)
        except SettingsError as error:
            raise ConfigurationError(
                f"An environment variable {cls.variable('')}… cannot be read: {error}."
            ) from None

    @classmethod
    def variable(cls, name: str) -> str:
        """Return the environment variable of a field; of "" the prefix of all."""
        return f"{cls.model_config.get('env_prefix', '')}{name}".upper()

    @classmethod
    def variables(
        cls, given: Mapping[str, Any], *, known_later: Callable[[Any], bool] = lambda _: False
    ) -> dict[str, str]:
        """Return the environment variables that give a process the fields ``given``; a value None leaves its
        field out.

            ServiceSettings.variables({"issuer": "https://id.example", "port": 8700, …})
            # {"ASSISTANT_SERVICE_ISSUER": "https://id.example", "ASSISTANT_SERVICE_PORT": "8700", …}

        Stacks call it. Values for which ``known_later`` is True are references that CloudFormation resolves;
        they are not checked. All others are validated as the process validates them. Raises
        ConfigurationError naming every wrong or missing variable.
        """
        given = {name: value for name, value in given.items() if value is not None}
        unknown = given.keys() - cls.model_fields.keys()
        wrong = [f"{cls.__name__} has no field {name}" for name in sorted(unknown)]
        wrong += [
            f"{cls.variable(name)} is needed"
            for name, field in cls.model_fields.items()
            if field.is_required() and name not in given
        ]
        wrong += cls.wrong_together(given)
        values: dict[str, str] = {}
        for name in given.keys() - unknown:
            try:
                value = given[name]
                values[cls.variable(name)] = str(value) if known_later(value) else cls._encoded(name, value)
            except ValidationError as error:
                wrong += [f"{cls.variable(name)}: {item['msg']}" for item in error.errors()]
        if wrong:
            raise ConfigurationError(f"The environment of a process is not usable: {'; '.join(wrong)}.")
        return dict(sorted(values.items()))

    @classmethod
    def wrong_together(cls, given: Mapping[str, Any]) -> Sequence[str]:
        """Return an error message for each wrong combination of values. Subclasses override it.

        ``given`` has values by field, not validated yet: fields may be missing, and values references.
        """
        del given
        return ()

    @classmethod
    def _encoded(cls, name: str, value: Any) -> str:
        """Return a field's value as text of its variable. Raises ValidationError."""
        field = cls.model_fields[name]
        adapter: TypeAdapter[Any] = TypeAdapter(Annotated[field.annotation, field])  # type: ignore[valid-type]
        return _as_text(adapter.dump_python(adapter.validate_python(value), mode="json"))

    @model_validator(mode="wrap")
    @classmethod
    def _with_all_errors(cls, given: Any, validate: ModelWrapValidatorHandler[Self]) -> Self:
        # Pydantic calls it around its own validation: so one error can name the wrong fields and
        # combinations.
        wrong = list(cls.wrong_together(cast("Mapping[str, Any]", given)))
        try:
            settings = validate(given)
        except ValidationError as error:
            wrong_fields = [
                f"{cls.variable('.'.join(str(part) for part in item['loc']))}: {item['msg']}"
                for item in error.errors()
            ]
            wrong = [*wrong_fields, *wrong]
        else:
            if not wrong:
                return settings
        raise ConfigurationError(f"The environment is not usable: {'; '.join(wrong)}.")

    def environment(self) -> dict[str, str]:
        """Return the variables that give another process of this class these settings; a field that is None
        has none."""
        values = self.model_dump(mode="json", exclude_none=True)
        return {self.variable(name): _as_text(value) for name, value in values.items()}


class RunningIn(ProcessSettings):
    """What AWS tells a process of itself, in variables that AWS names."""

    ecs_metadata: str = Field(default="", validation_alias="ECS_CONTAINER_METADATA_URI_V4")
    """Address of a container's metadata; on Fargate its last part begins with the task's id."""
    function: str = Field(default="", validation_alias="AWS_LAMBDA_FUNCTION_NAME")
    log_stream: str = Field(default="", validation_alias="AWS_LAMBDA_LOG_STREAM_NAME")

    @property
    def program(self) -> str:
        """Name of the Lambda function, or of the module or file that was started:
        "assistant.service.__main__"."""
        spec = getattr(sys.modules["__main__"], "__spec__", None)
        return self.function or str(getattr(spec, "name", None) or Path(sys.argv[0]).name)

    @property
    def task(self) -> str:
        """The task on ECS, the function's log stream, or "host:process id" elsewhere."""
        task = self.ecs_metadata.rpartition("/")[2].partition("-")[0]
        return task or self.log_stream or f"{socket.gethostname()}:{os.getpid()}"


def _as_text(value: Any) -> str:
    """Return a value as pydantic-settings reads it from a variable: a text as it is, others as JSON."""
    return value if isinstance(value, str) else json.dumps(value)


def inherited_environment() -> dict[str, str]:
    """Return the environment that a child process inherits: all variables but ASSISTANT_…, our own settings.

    A parent adds ``ProcessSettings.environment`` of the child's settings. So a variable that is meant for the
    parent does not reach a child that reads the same class.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("ASSISTANT_")}


_TENANT = "{tenant}"
"""What ``StoreSettings.of_tenant`` replaces by the tenant's name: "{tenant}-passages" is
"clinic-passages"."""
FOLDER_PATTERN = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/(.*/)?$"
TENANT_FILE_PATTERN = r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+\.toml$"
HttpUrl = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/]+[^\s]*$")]


PageOrigin = Annotated[str, StringConstraints(pattern=r"^https?://[^\s/?#*@]+$")]
"""An origin as browsers send it: scheme, host and port, no path."""


class StoreSettings(ProcessSettings):
    """Stores of a process that serves or ingests knowledge.

    Names of AWS resources may contain ``{tenant}``, and must when the folder has several tenant files.
    """

    tenants_dir: Path = Path("tenants")
    """Folder of tenant files; every `*.toml` in it is served. An invalid file is logged and skipped."""
    only_tenants: tuple[str, ...] = ()
    """Tenants of the folder that are served, as a JSON list; all when empty."""
    tenant_file_s3: str | None = Field(default=None, pattern=TENANT_FILE_PATTERN)
    """`s3://bucket/key.toml`: a tenant file that is copied into `tenants_dir` at start."""
    state_dir: Path = Path(".state")
    """Folder of all embedded stores, and of secrets created on first use."""
    model_artifacts_dir: Path = Path(".state/models")
    """Folder with a folder for each model, named as in the tenant file: `tokenizer.json` and
    `artifact.json`."""
    model_artifacts_s3: str | None = Field(
        default=None, pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.*$"
    )
    """`s3://bucket/prefix/` with the same folders, which are copied into `model_artifacts_dir` at start."""
    sagemaker_endpoint_url: HttpUrl | None = None
    """Base URL of the SageMaker Runtime; the region's endpoint when absent."""
    region: str = "us-east-1"
    """AWS region of every client."""
    stores: Literal["embedded", "aws"] = "embedded"
    """Documents, states, queues and records: under `state_dir`, or S3, DynamoDB and SQS."""
    search: Literal["embedded", "opensearch"] = "embedded"
    """The passage index: under `state_dir`, or OpenSearch."""
    models: Literal["embedded", "sagemaker"] = "sagemaker"
    """Embedding models: in this process, from weights on this machine, or SageMaker endpoints."""
    aws_endpoint_url: HttpUrl | None = None
    """Base URL of S3, DynamoDB, SQS, SSM and KMS, for an emulator; AWS's endpoints when absent."""
    documents_bucket: str = ""
    """S3 bucket of documents and their parsed text."""
    documents_key_id: str | None = None
    """KMS key (id, alias or ARN) that encrypts documents; the bucket's default when absent."""
    states_table: str = ""
    """DynamoDB table of the documents' states."""
    desk_table: str = ""
    """DynamoDB table of the review desk: cases, approved answers, releases of weights."""
    ingestion_queue_url: str = ""
    """SQS queue of documents to index."""
    withdrawals_queue_url: str = ""
    """SQS queue of documents to remove from the index."""
    opensearch_url: HttpUrl | Literal[""] = ""
    """Base URL of the OpenSearch domain or node; needed with `search=opensearch`."""
    opensearch_index: str = "{tenant}-passages"
    """Alias of the index; each index version is named `<alias>-<version>`."""
    opensearch_auth: Literal["sigv4", "none"] = "sigv4"
    """Whether requests to OpenSearch are signed."""
    local_models: dict[str, TenantModels] = Field(default_factory=dict)
    """Tenant = the models added on this machine that it uses (`assistant models add`), as JSON. Not set in a
    deployment."""
    otlp_endpoint: str | None = None
    """Collector of spans (OTLP over HTTP); no spans are sent when absent."""
    log_level: str = "INFO"
    """Lowest level that is logged."""

    documents_prefix: ClassVar[str] = "documents/"
    """Prefix of every object in the documents bucket, but for those of ``PARSING_PREFIX``."""
    on_aws: ClassVar[tuple[str, ...]] = (
        "documents_bucket",
        "states_table",
        "ingestion_queue_url",
        "withdrawals_queue_url",
    )
    """Fields that `stores=aws` needs, each the name of one tenant's resource."""

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
        # One message, "stores=aws needs ASSISTANT_…", or none
        missing = [cls.variable(name) for name in names if not given.get(name)]
        return [f"{because} needs {', '.join(missing)}"] if missing else []

    def check_tenants(self, tenants: Mapping[str, TenantConfig]) -> None:
        """Raise ConfigurationError for settings without ``{tenant}`` by which several tenants would share a
        resource."""
        if len(tenants) < 2:
            return
        used = [*(self.on_aws if self.stores == "aws" else ()), *self._names_besides()]
        shared = [self.variable(name) for name in used if _TENANT not in getattr(self, name)]
        if shared:
            raise ConfigurationError(
                f"{self.tenants_dir} has {len(tenants)} tenants ({', '.join(tenants)}): these must contain "
                f"{_TENANT}: {', '.join(shared)}."
            )

    def _names_besides(self) -> list[str]:
        """Return the fields in use, besides those in ``on_aws``, that name one tenant's resource."""
        return ["opensearch_index"] if self.search == "opensearch" else []

    def as_served(self, tenant: TenantConfig) -> TenantConfig:
        """Return the tenant with the models that this machine serves for it."""
        models = self.local_models.get(tenant.name)
        return tenant if models is None else models.applied_to(tenant)

    def of_tenant(self, template: str, tenant: TenantConfig) -> str:
        """Return a name or URL for one tenant: ``template`` with the tenant's name for ``{tenant}``."""
        return template.replace(_TENANT, tenant.name)


class ServiceSettings(StoreSettings):
    """The orchestrator (``python -m assistant.service``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_SERVICE_")

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8700, ge=0, le=65535)
    """Port to listen on; 0 takes a free one, which the ready line shows."""
    operations_host: str = "127.0.0.1"
    """Address of the operators' listener."""
    operations_port: int | None = Field(default=None, ge=0, le=65535)
    """Port of the operators' listener, the only one with `/readyz` and `/metrics`; 0 takes a free one, which
    the ready line shows. Not opened when absent."""
    connections: int = Field(default=1000, ge=10)
    """Most open connections; above it the connection that has been idle for longest is closed."""
    memory_mib: int = Field(default=2048, ge=1024)
    """Memory that the process may take. An eighth of it holds bodies of requests; more are refused (429)."""
    issuer: str
    """`iss` of accepted tokens and base URL of its OIDC discovery."""
    audience: str = "assistant"
    """`aud` of accepted tokens."""
    jwks_url: HttpUrl | None = None
    """URL of the issuer's keys. Give either this or `jwks_parameter`."""
    jwks_parameter: str | None = None
    """Name of the SSM parameter with the issuer's key set (JWKS), where the issuer is unreachable."""
    power_parameter: str | None = None
    """Name of the SSM parameter with the power state (`on`, `paused`…); a file under `state_dir` when
    absent."""
    reach_addresses: dict[str, HttpUrl] = Field(default_factory=dict)
    """System of a `[[reach]]` entry = its base URL, as JSON; `tenant/system` where two tenants have one of
    that name. A system without an address is not called."""
    system_switches: str | None = None
    """Prefix of the SSM parameters that switch systems off: `<prefix>/<system>` has `on` or `off`; files
    under `state_dir` when absent."""
    revocations_parameter: str | None = None
    """Name of the SSM parameter with revoked tokens, as JSON: agent = time until which they were issued; a
    file under `state_dir` when absent."""
    care_jwks_url: HttpUrl | None = None
    """URL of the keys with which care applications sign contexts, with `{tenant}` for several tenants; the
    tenant file's SSM parameter when absent."""
    records_table: str = ""
    """DynamoDB table of answers, verdicts, sent replies and reads."""
    events_table: str = ""
    """DynamoDB table of what expires: claims of keys and contexts, live values of sent texts."""
    inbox_bucket: str = ""
    """S3 bucket of raw files, for uploads; with `stores=aws` nothing can be uploaded when absent."""
    console_client_id: str = "assistant-console"
    """Client id of the console at the issuer."""
    console_name: str = "Care assistant"
    """Title of the console."""
    frame_ancestors: tuple[PageOrigin, ...] = ()
    """Origins whose pages may hold the console in a frame, as a JSON list; none by default."""
    cors_origins: tuple[PageOrigin, ...] = ()
    """Origins whose pages may call the API, as a JSON list; none by default."""
    originals: dict[str, str] = Field(default_factory=dict)
    """Begin of an original's address = where the console opens it instead, as JSON: sample documents name a
    publisher that does not exist."""
    quoted_tenants: tuple[str, ...] = ()
    """Tenants whose answers are only quoted here, as a JSON list: their generation model is never called, and
    need not run."""
    drain_timeout_s: float = Field(default=103.0, gt=0, le=120.0)
    """Longest time for answers in progress after SIGTERM."""
    tls: Literal["off", "self-signed"] = "off"
    """`self-signed`: HTTPS with a certificate made at start, for a balancer that does not verify it."""
    metrics_service: str | None = None
    """Dimension `Service` of the metrics on stdout for CloudWatch; none are written when absent."""
    metrics_interval_s: int = Field(default=15, ge=1, le=60)
    """Interval of those metrics. Active streams are sampled each second."""
    release: str = ""
    """Deployed version of this package; `/readyz` shows it and the next two."""
    receipt_key: str | None = None
    """ARN of the KMS key that signs receipts of withdrawals; they are not signed when absent."""
    model_stamp: str = ""
    """Stamp of the deployed model artifacts and images; a change replaces the tasks."""
    schema_stamp: str = ""
    """Stamp of the applied search schema; a change replaces the tasks."""

    on_aws: ClassVar[tuple[str, ...]] = (*StoreSettings.on_aws, "records_table", "events_table", "desk_table")

    @classmethod
    def wrong_together(cls, given: Mapping[str, Any]) -> list[str]:
        wrong = super().wrong_together(given)
        keys = [name for name in ("jwks_url", "jwks_parameter") if given.get(name)]
        if len(keys) != 1:
            both = f"{cls.variable('jwks_url')} and {cls.variable('jwks_parameter')}"
            wrong.append(f"exactly one of {both} must be given, not {'both' if keys else 'neither'}")
        return wrong

    def _names_besides(self) -> list[str]:
        switches = ["power_parameter", "system_switches", "revocations_parameter"]
        return [*super()._names_besides(), *(name for name in switches if getattr(self, name) is not None)]

    def address_of(self, tenant: TenantConfig, system: str) -> str | None:
        """Return the base URL of a tenant's system; None where none is configured."""
        return self.reach_addresses.get(f"{tenant.name}/{system}") or self.reach_addresses.get(system)


class WorkerSettings(StoreSettings):
    """The ingestion worker (``python -m assistant.laptop.worker``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_WORKER_")

    events_table: str = ""
    """DynamoDB table with the keys of feedback's texts, which a withdrawal destroys; none is when absent."""
    opensearch_applies_schema: bool = False
    """Whether the worker creates missing index, pipeline and alias: on a node of your own. A deployment
    creates them before, and its worker has no permission to."""


class ModelServerSettings(ProcessSettings):
    """One model in one process (``python -m assistant.model_server``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_MODEL_")

    task: Literal["embedding", "generation"]
    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    path: Path | None = None
    """Folder of an embedding model (model.safetensors, tokenizer.json, config.json), or a GGUF file; the
    packaged MiniLM or SmolLM2 weights when absent."""
    manifest: Path | None = None
    """``manifest.toml`` of an embedding model added with ``assistant models add``; overrides ``path``."""
    artifacts_dir: Path = Path(".state/models")
    """Folder with a folder for each model's derived files: graph, tokenizer.json, artifact.json."""
    max_input_tokens: int = Field(default=256, ge=16)
    precision: Literal["bfloat16", "float32"] = "bfloat16"
    """Precision of the matrix products of embeddings; float32 on a processor without bfloat16."""
    threads: int = Field(default=2, ge=1)
    slots: int = Field(default=4, ge=1)
    """Concurrent generations."""
    context_tokens: int = Field(default=2048, ge=256)
    """Context of one slot."""
    queue_size: int = Field(default=16, ge=0)
    """Longest queue of requests; above it the response is 429."""
    log_level: str = "INFO"


class LocalSettings(ProcessSettings):
    """The commands, and the one process that serves a laptop (``assistant``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_LOCAL_")

    port: int = Field(default=8700, ge=0, le=65533)
    """Port of the service; the issuer takes the next one. 0 takes free ones."""
    min_free_mib: int = Field(default=512, ge=0)
    """Least free space on the state folder's disk to start."""
    start_timeout_s: float = Field(default=120.0, gt=0)
    """From start until it serves; the first start derives the embedding model's artifact."""
    stop_timeout_s: float = Field(default=10.0, gt=0)
    """From the end of a command, or `assistant tenant down`, until what is left is killed."""
    lock_timeout_s: float = Field(default=180.0, gt=0)
    """Longest wait of a command for another one that starts, or serves other settings."""
    log_limit_mib: int = Field(default=8, ge=1)
    """Above it the next start drops the older half of the log."""
    helpdesk: str = "pharmacy"
    """Tenant of the reference helpdesk; where the order system takes no replies of it, the first by name."""
    service_token: str | None = None
    """Bearer token for a service that a command gets by its address."""
    service_ca_file: Path | None = None
    """Certificate authorities (PEM) that such a service is trusted by, instead of the public ones."""
    reach_addresses: dict[str, HttpUrl] = Field(default_factory=dict)
    """System = its base URL, as JSON: passed on to the service, instead of the sample system's address."""
    ci: str = Field(default="", validation_alias="CI")
    """Set in CI: `assistant demo` ends after its answers, as with `--exit`."""

    @property
    def in_ci(self) -> bool:
        """Whether ``CI`` is set: nobody is there to press Ctrl-C."""
        return self.ci.lower() not in ("", "0", "false", "no")


# Functions


BULK_PREFIX = "bulk/"
"""Prefix of raw files in the inbox with low priority: their documents have queues of their own."""
UPLOADS_PREFIX = ".uploads/"
"""Prefix in the inbox of files that people upload in parts. No pusher may write below it."""
PUSHED_PREFIX = f"{UPLOADS_PREFIX}pushed/"
"""Prefix in the inbox of what became of pushed files: ``<folder>/<version of the object>/result.json``. A
pusher reads below its own folder."""
PARSING_PREFIX = "parsing/"
"""Prefix in the documents bucket of what the parser reads and answers, for the moment of a call."""
SCRATCH = Path("/tmp")  # noqa: S108 - the only folder that a function can write to; no other process sees it


class FunctionSettings(ProcessSettings):
    """Settings shared by the functions that read no tenant file."""

    region: str
    """AWS region of every client."""
    aws_endpoint_url: HttpUrl | None = None
    """Base URL of every AWS service, for an emulator; AWS's endpoints when absent."""
    log_level: str = "INFO"
    """Lowest level that is logged."""


class DocumentFunctionSettings(FunctionSettings):
    """Functions that read the tenant file and documents."""

    documents_bucket: str
    """S3 bucket of documents and their parsed text."""
    states_table: str
    """DynamoDB table of the documents' states."""
    tenant_file_s3: str = Field(pattern=TENANT_FILE_PATTERN)
    """`s3://bucket/key.toml`: the tenant file."""
    tenants_dir: Path = SCRATCH / "tenants"
    """Folder into which the tenant file is copied."""
    metrics_service: str
    """Value of the metrics' dimension `Service`."""


class StoringSettings(DocumentFunctionSettings):
    """Functions and tasks that store documents."""

    documents_key_id: str | None = None
    """KMS key that encrypts documents; the bucket's default when absent."""
    ingestion_queue_url: str
    """SQS queue of single documents to index."""
    withdrawals_queue_url: str
    """SQS queue of documents to remove from the index."""


class ReceivingSettings(StoringSettings):
    """``receive_documents``: turns raw files of the inbox into documents, by the tenant file's sources."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_RECEIVE_")

    bulk_queue_url: str
    """SQS queue of documents from below `bulk/`."""
    inbox_bucket: str
    """S3 bucket of raw files."""
    records_table: str
    """DynamoDB table of records, for refused attempts to widen labels."""
    parser_function: str | None = None
    """Name of the function without rights that parses; a child process parses when absent."""


class _IndexFunctionSettings(WorkerSettings):
    """Functions that read the tenant file and open its index."""

    tenants_dir: Path = SCRATCH / "tenants"
    """Folder of tenant files; every `*.toml` in it is served."""
    state_dir: Path = SCRATCH / "state"
    """Not used on AWS."""
    model_artifacts_dir: Path = SCRATCH / "models"
    """Folder with a folder for each model, named as in the tenant file: `tokenizer.json` and
    `artifact.json`."""


class IngestingSettings(_IndexFunctionSettings):
    """``ingest_documents``: indexes documents."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_INGEST_")

    parser_function: str | None = None
    """Name of the function without rights that parses; a child process parses when absent."""
    bulk_queue_url: str
    """SQS queue of documents from below `bulk/`."""
    power_parameter: str
    """Name of the SSM parameter with the power state."""
    metrics_service: str
    """Value of the metrics' dimension `Service`."""


class RemovingSettings(_IndexFunctionSettings):
    """``withdraw_documents`` and ``purge_index``: delete withdrawn documents from the index and its disks."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_REMOVE_")


class ReindexingSettings(_IndexFunctionSettings):
    """``reindex_passages``: fills and switches versions of the index."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_REINDEX_")


class SchemaSettings(StoreSettings):
    """``apply_search_schema``: creates the index."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_SCHEMA_")

    embedding_model: str
    """Name of the model whose vectors the index holds, and of its artifact's folder."""
    dimensions: int = Field(ge=1)
    """Dimensions of its vectors."""
    shards: int = Field(ge=1)
    """Shards of each index version."""
    replicas: int = Field(ge=0)
    """Replicas of each shard."""

    on_aws: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def wrong_together(cls, given: Mapping[str, Any]) -> list[str]:
        return cls._missing(given, ("opensearch_url", "model_artifacts_s3"), because="the schema")


class LinkSecretSettings(FunctionSettings):
    """``create_link_secret``: creates the keys that sign document links and make pseudonyms."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_LINK_SECRET_")

    tenant: TenantName
    """Tenant whose links it signs; part of KMS's encryption context."""
    parameter: str = Field(min_length=1)
    """Name of the SSM parameter that is created."""
    key_id: str = Field(min_length=1)
    """KMS key (id, alias or ARN) that encrypts it."""
    feedback_parameter: str | None = None
    """Name of a second SSM parameter that is created: the key of feedback's pseudonyms."""
    live_reads_parameter: str | None = None
    """Name of a third SSM parameter that is created: the key of pseudonyms in the record of live reads."""


class RedactingSettings(FunctionSettings):
    """``redact_capture`` and ``sweep_quarantine``: redact raw capture into clean copies and delete it."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_REDACT_")

    quarantine_bucket: str
    """S3 bucket of raw captured calls, written by SageMaker."""
    capture_bucket: str
    """S3 bucket of the clean copies."""
    passages_percent: int = Field(default=0, ge=0, le=100)
    """Percentage of captured calls for passages of the corpus that get a clean copy."""
    keeps_texts: bool = False
    """Whether clean copies keep what was asked and answered, with patients' data replaced."""
    metrics_service: str
    """Value of the metrics' dimension `Service`."""
    overdue_after_s: int = Field(default=1200, ge=60, le=3000)
    """Age at which the sweep redacts a raw object: its event was lost, or its retries failed."""


class PreparingSettings(ServiceSettings):
    """``assistant learn --deployed`` and its like: read a deployment's knowledge and desk."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_PREPARE_")

    stores: Literal["aws"] = "aws"  # pyright: ignore[reportIncompatibleVariableOverride]
    search: Literal["opensearch"] = "opensearch"  # pyright: ignore[reportIncompatibleVariableOverride]
    issuer: str = ""
    """Not used: nobody signs in here."""
    evaluation_s3: str | None = Field(default=None, pattern=FOLDER_PATTERN)
    """`s3://bucket/prefix/` with the tenant's committed questions, as in the folder `evaluation`: copied at
    start."""

    @classmethod
    def wrong_together(cls, given: Mapping[str, Any]) -> list[str]:
        # Not super's: ``ServiceSettings`` needs a source of the issuer's keys, and nobody signs in here.
        return StoreSettings.wrong_together.__func__(cls, {**given, "stores": "aws", "search": "opensearch"})


class AuditSettings(FunctionSettings):
    """``close_audit_days``, and ``assistant aws audit``: read audit records, and their digests."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_AUDIT_")

    records_table: str
    """DynamoDB table of records."""
    trail_bucket: str
    """Locked S3 bucket, whose folder `audit/` has the digests."""
    kept_days: int = Field(ge=2)
    """Days for which the bucket keeps a digest; older ones expire."""
    metrics_service: str
    """Value of the metrics' dimension `Service`."""


class ProbeSettings(ProcessSettings):
    """The function that asks one question through the private link (``lambdas/ask_probe.py``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_PROBE_")

    service_url: HttpUrl
    """Base URL of the service, with the host name of its certificate."""
    tenant: str
    """Tenant of the probe's tokens."""
    question: str
    """Question that the probe asks."""
    issuer: str
    """`iss` that the service accepts."""
    audience: str = "assistant"
    """`aud` that the service accepts."""
    signing_key_id: str
    """KMS key (ARN), ECC_NIST_P256 for signing, whose public half is in the tenant's key set."""
    region: str = "us-east-1"
    """AWS region of every client."""
    aws_endpoint_url: HttpUrl | None = None
    """Base URL of KMS and SSM, for an emulator; AWS's endpoints when absent."""
    certificate_authority: str | None = None
    """Root certificate (PEM) to trust instead of the public ones."""
    client_certificate_parameter: str | None = None
    """SSM SecureString with a client certificate and its private key (PEM), where the tenant requires one."""
    deadline_s: float = Field(default=50.0, gt=0, le=100.0)
    """Limit of one probe."""
