"""The sections of a tenant file that only a deployment on AWS reads, and the account file.

Locally all of them may be absent. They change where and how large an assistant is, never what it answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, StringConstraints

from assistant.settings.toml_file import StrictModel, read_strict

Profile = Literal["dev", "standard", "hipaa"]
"""``dev``: two zones, smallest sizes, paused at night. ``standard``. ``hipaa``: three zones, standby,
logs kept six years."""
Accelerator = Literal["inf2", "trn1", "gpu", "cpu"]

AccountId = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
Zone = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d[a-z]$")]
HostName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9-]+)+$")]
Arn = Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:[a-z0-9-]+:[^\s]*$")]
RoleArn = Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:iam::\d{12}:role/[A-Za-z0-9_+=,.@/-]+$")]
ParameterName = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/-]{1,200}$")]
ArtifactName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,62}$")]
ClockTime = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
TagKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/=+@ -]{1,128}$")]
TagValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/=+@ -]*$", max_length=256)]


def _is_block(text: str) -> str:
    IPv4Network(text)
    return text


CidrBlock = Annotated[str, AfterValidator(_is_block)]


class PlaceSection(StrictModel):
    """``[deployment]``: where the tenant stands, and what its company asks of everything in an account."""

    account: AccountId
    region: Region
    zones: tuple[Zone, ...] = Field(min_length=2, max_length=3)
    """Named, never looked up. Three where the search domain has a standby."""
    profile: Profile
    cost_center: TagValue = Field(min_length=1)
    release: str = Field(pattern=r"^[0-9A-Za-z][0-9A-Za-z.+-]{0,63}$")
    """Version of this package that the tenant runs; tagged, and shown by the service."""
    name_prefix: str = Field(default="assistant", pattern=r"^[a-z][a-z0-9-]{0,18}[a-z0-9]$")
    """Of stacks and parameters."""
    bootstrap_qualifier: str = Field(default="hnb659fds", pattern=r"^[a-z0-9]{1,10}$")
    permissions_boundary: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_+=,.@/-]{1,128}$")
    """Name of a managed policy that bounds every role; the account stage's own when absent."""
    role_path: str = Field(default="/assistant/", pattern=r"^/([A-Za-z0-9_.-]+/)*$")
    break_glass: tuple[Arn, ...] = ()
    """Roles (``*`` allowed, as in SSO roles' names) that may read PHI stores in an emergency. Each use of one
    raises an alarm."""
    artifact_publishers: tuple[RoleArn, ...] = ()
    """Roles of the company's builds that may take the tenant's ``ArtifactPublisher`` role and put model
    artifacts. They exist before the first deploy: IAM trusts no role that is not there. None: no such role is
    made, and nobody may put."""
    required_tags: Mapping[TagKey, TagValue] = {}
    """What the company wants on every resource beside tenant, cost-center, data-class and release."""

    def parameter(self, tenant: str, name: str) -> str:
        """Return the full name of an SSM parameter of a tenant that stands here."""
        return f"/{self.name_prefix}/{tenant}/{name}"


class IdentitySection(StrictModel):
    """``[identity]``: whose tokens the service accepts."""

    issuer: str = Field(pattern=r"^https://\S+$")
    audience: str = "assistant"
    jwks_parameter: ParameterName | None = None
    """SSM parameter with the issuer's public keys; ``/<name_prefix>/<tenant>/jwks`` when absent. It exists
    before the first deploy and belongs to no stack, so that keys rotate without one."""
    console_client_id: str = "assistant-console"


class ExistingVpc(StrictModel):
    """A network that the company made. Subnets in the order of ``deployment.zones``, one each."""

    vpc_id: str = Field(pattern=r"^vpc-[0-9a-f]{8,17}$")
    cidr: CidrBlock
    subnet_ids: tuple[str, ...] = Field(min_length=2, max_length=3)
    route_table_ids: tuple[str, ...] = Field(min_length=1, max_length=3)


class NetworkSection(StrictModel):
    """``[network]``: a VPC of the tenant's own, or one that is there."""

    cidr: CidrBlock = "10.64.0.0/20"
    vpc: ExistingVpc | None = None
    endpoints: Mapping[str, str] = {}
    """Service (``kms``, ``ecr.api``, ``s3``…) = id of an endpoint that is there; all others are created."""
    prefix_lists: Mapping[Literal["s3", "dynamodb"], str] = {}
    """The region's managed prefix lists. Given, groups may reach those alone behind gateway endpoints;
    absent, any address on 443, which the route tables then bound."""


class EdgeSection(StrictModel):
    """``[edge]``: the one way in."""

    host_name: HostName
    """What the care side dials; the certificate's name."""
    certificate_arn: Arn
    """In ACM of the same region. It exists before the first deploy."""
    consumer_cidrs: tuple[CidrBlock, ...] = Field(min_length=1)
    """Of the care side's clients: enforcement on PrivateLink judges their own addresses."""
    allowed_principals: tuple[Arn, ...] = Field(min_length=1)
    """Who may ask for a connection to the endpoint service."""
    client_certificates: str | None = Field(default=None, pattern=r"^s3://\S+\.pem$")
    """CA bundle of client certificates that the ALB verifies; none are asked for when absent."""
    service_private_dns: bool = False
    """Whether the endpoint service carries the host name itself: a later phase, after a public TXT record. By
    default the care side makes a private zone, and nobody's consent is needed (docs/private-link.md)."""


class ModelsSection(StrictModel):
    """``[models]``: what the two endpoints run on. ``accelerator`` is the one line that changes it."""

    accelerator: Accelerator = "inf2"
    llm: ArtifactName
    """Folder under ``model_artifacts/llm/`` with its manifest."""
    embedding: ArtifactName
    """Folder under ``model_artifacts/embedding/``."""
    llm_instance: str | None = Field(default=None, pattern=r"^ml\.[a-z0-9]+\.[a-z0-9]+$")
    """The accelerator's own by default; an instance that the artifact does not fit is refused."""
    embedding_instance: str | None = Field(default=None, pattern=r"^ml\.[a-z0-9]+\.[a-z0-9]+$")
    min_instances: int = Field(default=1, ge=1, le=50)
    max_instances: int = Field(default=2, ge=1, le=50)
    capture: Literal["quarantine", "direct", "off"] = "quarantine"
    """``quarantine``: raw capture is read by the redactor alone and gone within the hour. ``direct``: raw
    capture is kept. ``off``: none; the service's own redacted record is all there is."""
    capture_percent: int = Field(default=100, ge=1, le=100)
    """Of the calls of either endpoint."""
    capture_passages_percent: int = Field(default=0, ge=0, le=100)
    """Of the captured calls that embed passages of the corpus: the redactor keeps so many of a hundred. With
    ``direct`` nobody drops any: the embedding endpoint is captured at 100 only."""


class PowerSection(StrictModel):
    """``[power]``: hours in which the endpoints stand. Absent: they stand until somebody pauses them."""

    pause_at: ClockTime
    resume_at: ClockTime
    time_zone: str = "UTC"
    """IANA name."""
    weekdays_only: bool = True
    """Resume on Monday to Friday only."""


class SearchSection(StrictModel):
    """``[search]``: the OpenSearch domain; sizes follow the profile unless they stand here."""

    engine_version: str = Field(default="OpenSearch_3.5", pattern=r"^OpenSearch_(2\.19|3\.\d)$")
    data_instance: str | None = Field(default=None, pattern=r"^[a-z0-9]+\.[a-z0-9]+\.search$")
    data_nodes: int | None = Field(default=None, ge=1, le=60)
    volume_gib: int | None = Field(default=None, ge=10, le=3000)


class TasksSection(StrictModel):
    """``[tasks]``: the orchestrator on Fargate."""

    min_tasks: int = Field(default=2, ge=2, le=100)
    max_tasks: int = Field(default=6, ge=2, le=100)
    cpu_units: Literal[512, 1024, 2048, 4096] = 1024
    memory_mib: int = Field(default=2048, ge=1024, le=30720)
    architecture: Literal["X86_64", "ARM64"] = "X86_64"
    exec_enabled: bool = False
    """ECS Exec: a shell in a task, through ``ssmmessages``."""


class ObservabilitySection(StrictModel):
    """``[observability]``: who is told, and what may be spent."""

    budget_usd_per_month: int = Field(default=5000, ge=1)
    alarm_email: str | None = Field(default=None, pattern=r"^[^\s@]+@[^\s@]+$")
    budget_topic: Arn | None = None
    """SNS topic that hears of the budget; the account stage's own when absent."""
    declared_principals: tuple[Arn, ...] = ()
    """Who may read PHI stores beside the tenant's own roles, without an alarm."""


class ReachEntry(StrictModel):
    """``[[reach]]``: one internal system that the assistant calls, over PrivateLink."""

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")
    port: int = Field(ge=1, le=65535)
    service_name: str | None = Field(default=None, pattern=r"^com\.amazonaws\.vpce\.\S+$")
    """Of the system's endpoint service."""
    resource_configuration_arn: Arn | None = None
    """Of a VPC Lattice resource. Exactly one of the two is given."""
    caller: Literal["orchestrator", "ingestion"] = "orchestrator"
    """The one workload that may."""


# The account file, ``accounts/<account>-<region>.toml``: what stands once in an account and region.


Making = Literal["create", "existing"]


class AccountConfig(StrictModel):
    search_service_role: Making = "create"
    """OpenSearch's service-linked role; any domain ever made in the account's console has made it."""
    ecs_service_role: Making = "create"
    """ECS's service-linked role; the first cluster of an account fails while it is being made."""
    ecs_scaling_role: Making = "create"
    """Application Auto Scaling's service-linked role for ECS services."""
    sagemaker_scaling_role: Making = "create"
    """Application Auto Scaling's service-linked role for SageMaker endpoints."""
    log_policy: Making = "create"
    """One CloudWatch Logs resource policy for all search domains' log groups; a region has room for ten."""
    repositories: Making = "create"
    """ECR repositories of our own images."""
    boundary: Making = "create"
    """Managed policy ``<name_prefix>-boundary``, which bounds every role of a tenant."""
    budget_topic: Making = "create"
    """SNS topic ``<name_prefix>-budget``, which every tenant's budget tells."""
    budget_email: str | None = Field(default=None, pattern=r"^[^\s@]+@[^\s@]+$")
    """Who hears of every tenant's budget, beside each tenant's own address."""
    regions: tuple[Region, ...] = ()
    """Other regions of the account with tenants under the same boundary: roles may act in these too."""
    cost_center: TagValue = Field(default="shared", min_length=1)


def load_account(folder: Path, *, account: str, region: str) -> AccountConfig:
    """Read the file of an account and region; the defaults where there is none.

    Raises ConfigurationError naming file, line, key and what is allowed.
    """
    path = folder / f"{account}-{region}.toml"
    return read_strict(path, AccountConfig) if path.exists() else AccountConfig()
