"""Settings of the two processes that a deployment runs: the service and the ingestion worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints
from pydantic_settings import SettingsConfigDict

from assistant.domain.errors import ConfigurationError
from assistant.settings.local_models import TenantModels
from assistant.settings.process import ProcessSettings
from assistant.settings.tenant_file import TenantConfig

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
