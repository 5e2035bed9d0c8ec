"""Settings of the functions (``lambdas/``): a class each, for each reads what it needs and no more."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from assistant.settings.process import (
    TENANT_FILE_PATTERN,
    HttpUrl,
    ProcessSettings,
    StoreSettings,
    WorkerSettings,
)
from assistant.settings.tenant import TenantName

BULK_PREFIX = "bulk/"
"""Of raw files in the inbox that are in no hurry: they and what becomes of them have queues of their own."""
_SCRATCH = Path("/tmp")  # noqa: S108 - the one folder that a function may write to, and no other process sees


class FunctionSettings(ProcessSettings):
    """What functions that know no tenant file have in common."""

    region: str
    """AWS region of every client."""
    aws_endpoint_url: HttpUrl | None = None
    """Of every AWS service, other than AWS's own: an emulator."""
    log_level: str = "INFO"
    """The least level that is logged."""


class ReceivingSettings(FunctionSettings):
    """``receive_documents``: raw files of the inbox become documents."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_RECEIVE_")

    documents_bucket: str
    """S3 bucket of documents and their parsed text."""
    documents_key_id: str | None = None
    """KMS key that encrypts documents; the bucket's own default when absent."""
    states_table: str
    """DynamoDB table of the documents' states."""
    ingestion_queue_url: str
    """SQS queue of single documents to bring into the index."""
    bulk_queue_url: str
    """SQS queue of documents that came below `bulk/`."""
    withdrawals_queue_url: str
    """SQS queue of documents to take out of the index."""
    inbox_bucket: str
    """S3 bucket of raw files."""
    tenant_file_s3: str = Field(pattern=TENANT_FILE_PATTERN)
    """`s3://bucket/key.toml`: the tenant file, which says what sources there are."""
    tenants_dir: Path = _SCRATCH / "tenants"
    """Folder that it is copied into."""
    metrics_service: str
    """Value of the one dimension of the metrics."""


class _IndexFunctionSettings(WorkerSettings):
    """Functions that read the tenant file and open its index."""

    tenants_dir: Path = _SCRATCH / "tenants"
    """Folder of tenant files; every `*.toml` in it is served."""
    state_dir: Path = _SCRATCH / "state"
    """Not used: on AWS nothing is kept here."""
    model_artifacts_dir: Path = _SCRATCH / "models"
    """Holds a folder a model, named as in the tenant file, with `tokenizer.json` and `artifact.json`."""


class IngestingSettings(_IndexFunctionSettings):
    """``ingest_documents``: documents into the index."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_INGEST_")

    bulk_queue_url: str
    """SQS queue of documents that came in bulk."""
    power_parameter: str
    """Name of the SSM parameter that says `on` or `paused`."""
    metrics_service: str
    """Value of the one dimension of the metrics."""


class RemovingSettings(_IndexFunctionSettings):
    """``withdraw_documents`` and ``purge_index``: withdrawn documents out of the index, and off its disks."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_REMOVE_")


class SchemaSettings(StoreSettings):
    """``apply_search_schema``: what the index is made of."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_SCHEMA_")

    embedding_model: str
    """Name of the served model whose vectors the index holds; its artifact's folder."""
    dimensions: int = Field(ge=1)
    """Of its vectors."""
    shards: int = Field(ge=1)
    """Of each version of the index."""
    replicas: int = Field(ge=0)
    """Copies of each shard beside the first."""

    on_aws: ClassVar[tuple[str, ...]] = ()

    @classmethod
    def wrong_together(cls, given: Mapping[str, Any]) -> list[str]:
        return cls._missing(given, ("opensearch_url", "model_artifacts_s3"), because="the schema")


class LinkSecretSettings(FunctionSettings):
    """``create_link_secret``: the key of document links."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_LINK_SECRET_")

    tenant: TenantName
    """Whose links it signs; part of what KMS checks."""
    parameter: str = Field(min_length=1)
    """Name of the SSM parameter that is made."""
    key_id: str = Field(min_length=1)
    """KMS key (id, alias or ARN) that encrypts it."""


class RedactingSettings(FunctionSettings):
    """``redact_capture`` and ``sweep_quarantine``: raw capture becomes clean capture, and is gone."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_REDACT_")

    quarantine_bucket: str
    """S3 bucket that SageMaker writes captured calls to."""
    capture_bucket: str
    """S3 bucket of their clean copies."""
    passages_percent: int = Field(default=0, ge=0, le=100)
    """Of captured calls that embedded passages of the corpus: how many of a hundred keep a clean copy."""
    metrics_service: str
    """Value of the one dimension of the metrics."""
    overdue_after_s: int = Field(default=1200, ge=60, le=3000)
    """Raw objects that are older are redacted by the sweep: their event was lost or its retries failed."""


# Settings of the probe, and the names by which its figures are emitted and alarmed.


class ProbeSettings(ProcessSettings):
    """The function that asks one question through the private link (``lambdas/ask_probe``)."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_PROBE_")

    service_url: HttpUrl
    """Base URL of the service, by the name that its certificate carries."""
    tenant: str
    """Whose assistant is asked."""
    question: str
    """What is asked."""
    issuer: str
    """`iss` that the service accepts."""
    audience: str = "assistant"
    """`aud` that the service accepts."""
    signing_key_id: str
    """KMS key (ARN), ECC_NIST_P256 for signing, whose public half is in the tenant's key set."""
    region: str = "us-east-1"
    """AWS region of every client."""
    aws_endpoint_url: HttpUrl | None = None
    """Of KMS and SSM, other than AWS's own: an emulator."""
    certificate_authority: str | None = None
    """Root certificate (PEM) that the service's is judged by, instead of the public ones."""
    client_certificate_parameter: str | None = None
    """SSM SecureString with a client certificate and its private key (PEM), where one is asked for."""
    deadline_s: float = Field(default=50.0, gt=0, le=100.0)
    """For all of a probe."""
