"""Settings of the functions in ``lambdas/``: one class each, with only the variables that it needs."""

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
"""Prefix of raw files in the inbox with low priority: their documents have queues of their own."""
_SCRATCH = Path("/tmp")  # noqa: S108 - the only folder that a function can write to; no other process sees it


class FunctionSettings(ProcessSettings):
    """Settings shared by the functions that read no tenant file."""

    region: str
    """AWS region of every client."""
    aws_endpoint_url: HttpUrl | None = None
    """Base URL of every AWS service, for an emulator; AWS's endpoints when absent."""
    log_level: str = "INFO"
    """Lowest level that is logged."""


class ReceivingSettings(FunctionSettings):
    """``receive_documents``: turns raw files of the inbox into documents."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_RECEIVE_")

    documents_bucket: str
    """S3 bucket of documents and their parsed text."""
    documents_key_id: str | None = None
    """KMS key that encrypts documents; the bucket's default when absent."""
    states_table: str
    """DynamoDB table of the documents' states."""
    ingestion_queue_url: str
    """SQS queue of single documents to index."""
    bulk_queue_url: str
    """SQS queue of documents from below `bulk/`."""
    withdrawals_queue_url: str
    """SQS queue of documents to remove from the index."""
    inbox_bucket: str
    """S3 bucket of raw files."""
    tenant_file_s3: str = Field(pattern=TENANT_FILE_PATTERN)
    """`s3://bucket/key.toml`: the tenant file, which lists the sources."""
    tenants_dir: Path = _SCRATCH / "tenants"
    """Folder into which the tenant file is copied."""
    metrics_service: str
    """Value of the metrics' dimension `Service`."""


class _IndexFunctionSettings(WorkerSettings):
    """Functions that read the tenant file and open its index."""

    tenants_dir: Path = _SCRATCH / "tenants"
    """Folder of tenant files; every `*.toml` in it is served."""
    state_dir: Path = _SCRATCH / "state"
    """Not used on AWS."""
    model_artifacts_dir: Path = _SCRATCH / "models"
    """Folder with a folder for each model, named as in the tenant file: `tokenizer.json` and
    `artifact.json`."""


class IngestingSettings(_IndexFunctionSettings):
    """``ingest_documents``: indexes documents."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_INGEST_")

    bulk_queue_url: str
    """SQS queue of documents from below `bulk/`."""
    power_parameter: str
    """Name of the SSM parameter with the power state."""
    metrics_service: str
    """Value of the metrics' dimension `Service`."""


class RemovingSettings(_IndexFunctionSettings):
    """``withdraw_documents`` and ``purge_index``: delete withdrawn documents from the index and its disks."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_REMOVE_")


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
    metrics_service: str
    """Value of the metrics' dimension `Service`."""
    overdue_after_s: int = Field(default=1200, ge=60, le=3000)
    """Age at which the sweep redacts a raw object: its event was lost, or its retries failed."""


class MovingSettings(FunctionSettings):
    """``move_feedback``: moves signals from the records to the feedback store, and erases a patient's."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_MOVE_")

    records_table: str
    """DynamoDB table of answers, verdicts, sent replies and acts, which are the outbox."""
    events_table: str
    """DynamoDB table with the keys of sealed texts."""
    desk_table: str
    """DynamoDB table of the review desk, where cases are opened."""
    states_table: str
    """DynamoDB table of the documents' states."""
    documents_bucket: str
    """S3 bucket of documents and their parsed text."""
    labels_bucket: str
    """S3 bucket of events."""
    texts_bucket: str
    """S3 bucket of sealed texts."""
    feedback_key_id: str | None = None
    """KMS key that encrypts both; the buckets' default when absent."""
    pseudonyms_parameter: str = Field(min_length=1)
    """Name of the SSM parameter with the key of pseudonyms."""
    tenant_file_s3: str = Field(pattern=TENANT_FILE_PATTERN)
    """`s3://bucket/key.toml`: the tenant file, which switches kinds of feedback on and off."""
    tenants_dir: Path = _SCRATCH / "tenants"
    """Folder into which the tenant file is copied."""
    within_s: float = Field(default=50.0, gt=0, le=840.0)
    """After this time no further group is begun."""
    metrics_service: str
    """Value of the metrics' dimension `Service`."""


class LearningSettings(FunctionSettings):
    """``learn_ranking``: promotes the release of ranker weights that is on trial, or learns the next."""

    model_config = SettingsConfigDict(env_prefix="ASSISTANT_LEARN_")

    tenant: TenantName
    """Tenant whose feedback it reads."""
    labels_bucket: str
    """S3 bucket of feedback events."""
    events_table: str
    """DynamoDB table that says which documents' signals are withdrawn."""
    desk_table: str
    """DynamoDB table of the review desk, which holds the releases."""
    protected_questions_s3: str = Field(pattern=r"^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]/.+\.json$")
    """`s3://bucket/key.json`: the questions that a release is held against, with their candidates."""
    questions_file: Path = _SCRATCH / "questions.json"
    """File into which they are copied."""
    metrics_service: str
    """Value of the metrics' dimension `Service`."""


class ProbeSettings(ProcessSettings):
    """The function that asks one question through the private link (``lambdas/ask_probe``)."""

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
