"""What each stack outputs for the others: names, ARNs and ids as strings, and nothing else.

In a stage the strings are references that CloudFormation resolves at deploy time; a test gives plain values
and so builds one stack alone. A consumer imports what it needs from them (``Key.from_key_arn``), so no stack
ever changes a resource of another. ``stacks.tenant_stage`` passes them on, in the order of deployment: keys,
network, data, edge, models, ingestion, orchestrator, options.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Workload(StrEnum):
    """A workload with a security group of its own in the tenant's VPC. ``stacks.network`` has
    their flows."""

    NLB = "Nlb"
    ALB = "Alb"
    ORCHESTRATOR = "Orchestrator"
    SEARCH = "Search"
    """The OpenSearch domain."""
    INGESTION = "Ingestion"
    """The functions that receive, ingest and withdraw documents."""
    SCHEMA = "Schema"
    """The function that applies the search schema and creates the key of document links."""
    PARSER = "Parser"
    """The function that parses, which has no right and reaches S3 alone."""
    REDACTOR = "Redactor"
    LEARNING = "Learning"
    """The function that moves feedback, and the task that makes training sets."""
    MODELS = "Models"
    """Both SageMaker endpoints' instances."""
    JOBS = "Jobs"
    """Learning and corpus jobs."""
    CONNECTORS = "Connectors"
    """Runs of sources' connectors; only of a tenant that has some."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysOutputs:
    """ARNs of the tenant's KMS keys."""

    data_key_arn: str
    """Documents, tables, queues, the search domain, the secret of document links."""
    capture_key_arn: str
    """Quarantine and clean capture."""
    feedback_key_arn: str
    """Labels and sealed texts of feedback. Destroyed, it takes all of them with it, and nothing else."""
    models_key_arn: str
    """Model artifacts and the volumes of endpoints."""
    logs_key_arn: str
    """CloudWatch log groups, alarm topics, audit digests."""
    receipt_key_arn: str
    """Signs receipts of withdrawals."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOutputs:
    """The VPC, which may be the company's, and the groups of workloads."""

    vpc_id: str
    subnet_ids: tuple[str, ...]
    """One isolated subnet per zone, in the order of the tenant file's zones."""
    route_table_ids: tuple[str, ...]
    security_group_ids: Mapping[Workload, str]
    reach_addresses: Mapping[str, str]
    """Base URL of each internal system by the name of its ``[[reach]]`` entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOutputs:
    """Names of buckets and tables, the search domain, and roles that the data stack must create itself."""

    documents_bucket: str
    models_bucket: str
    quarantine_bucket: str
    """Only SageMaker writes it, only the redactor reads it."""
    capture_bucket: str
    """The clean copy."""
    labels_bucket: str
    """Feedback events, which hold no text. Locked under ``hipaa``. Only the mover writes it."""
    texts_bucket: str
    """Sealed texts of feedback, never locked. Only the mover writes it; it and the preparing job read it."""
    inbox_bucket: str
    """Other systems' pushers put raw files here, read what became of them, and can do nothing else."""
    logs_bucket: str
    """SSE-S3 and without a lock, because load balancers and S3's own access logs support no other."""
    trail_bucket: str
    """Digests of audit days, which nobody can delete."""
    records_table: str
    events_table: str
    states_table: str
    desk_table: str
    domain_name: str
    domain_arn: str
    domain_endpoint: str
    """Host name without scheme."""
    missed_starts_queue: str
    """Name of the queue of scheduled starts that failed."""
    search_log_group: str
    """Name of the domain's error log."""
    schema_role_arn: str
    """The only fine-grained master of the domain; the role of the schema function."""
    schema_role_name: str
    """The same role by name, to attach a policy: the ARN has a path of the company's before the name."""
    system_secrets: Mapping[str, str]
    """ARN of each secret that the deployment created for a called system, by the system's name."""
    backup_role_arn: str | None = None
    """The role with which AWS Backup copies stores; None where the profile has no recovery points."""
    recovery_vault: str | None = None
    """Name of the vault of recovery points."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelsOutputs:
    """Names, never attributes of the endpoints: those are absent while paused."""

    embedding_endpoint_name: str
    embedding_next_endpoint_name: str | None = None
    """Endpoint for the index beside the live one; None where there is none."""
    llm_endpoint_name: str | None
    """None where no endpoint writes."""
    power_parameter: str
    """Name of the SSM parameter that says ``on`` or ``paused``."""
    pause_machine_arn: str
    resume_machine_arn: str
    model_stamp: str
    """Changes with artifact, image or compile parameters; part of the consumers' environment, so that a
    change replaces them."""

    @property
    def embedding_endpoint_names(self) -> tuple[str, ...]:
        following = self.embedding_next_endpoint_name
        return (self.embedding_endpoint_name, *(() if following is None else (following,)))


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOutputs:
    """The balancers, for the service and for metrics."""

    target_group_arn: str
    """ECS registers the tasks here, over HTTPS."""
    load_balancer_full_name: str
    """The ALB's name in CloudWatch dimensions."""
    target_group_full_name: str
    endpoint_service_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestionOutputs:
    """Queues for the service, and names of queues and functions for metrics."""

    ingestion_queue_url: str
    ingestion_queue_arn: str
    withdrawals_queue_url: str
    withdrawals_queue_arn: str
    queue_names: tuple[str, ...]
    dead_letter_queue_names: tuple[str, ...]
    function_names: tuple[str, ...]
    parser_function: str
    """One of ``function_names``. Alarms leave it out: its errors come from files that crash it, and the
    caller reports those."""
    log_groups: Mapping[str, str]
    """Name of each function's log group, by its module."""
    schema_function_arn: str
    """Service token of ``grant_search_access``, which gives another stack's role access to the index."""
    schema_stamp: str
    """Version of the search schema that the custom resource applied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrchestratorOutputs:
    """The service by name, for metrics."""

    cluster_name: str
    service_name: str
    log_group_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionOutputs:
    """What a stack of an option adds to a tenant's metrics and costs."""

    job_bucket: str | None = None
    """Name of the bucket of what its jobs make."""
    function_names: tuple[str, ...] = ()
    log_groups: Mapping[str, str] = field(default_factory=dict[str, str])
    """Name of each log group, by the module of its function, or by its task."""
