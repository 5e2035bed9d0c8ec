"""The sections of a tenant file that only a deployment on AWS reads, and the account file.

Locally all of them may be absent. They set place and size of an assistant, and never change its answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from ipaddress import IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from assistant.domain.errors import ConfigurationError
from assistant.domain.live import ElementKind
from assistant.tenant.toml_file import KeyMark, OpenSection, OptionTable, StrictModel, read_strict

Profile = Literal["dev", "standard", "hipaa"]
"""``dev``: two zones, smallest sizes, paused at night. ``standard``. ``hipaa``: three zones, standby,
logs kept six years."""
Accelerator = Literal["inf2", "trn1", "gpu", "cpu"]

AccountId = Annotated[str, StringConstraints(pattern=r"^\d{12}$")]
Region = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d$")]
Zone = Annotated[str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-\d[a-z]$")]
HostName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9-]+)+$")]
Arn = Annotated[str, StringConstraints(pattern=r"^arn:[a-z-]+:[a-z0-9-]+:[^\s]*$")]
CallerArn = Annotated[
    str, StringConstraints(pattern=r"^arn:[a-z-]+:iam::\d{12}:(role|user)/[A-Za-z0-9_+=,.@/-]+$")
]
"""A role or a user of IAM."""
VaultArn = Annotated[
    str, StringConstraints(pattern=r"^arn:[a-z-]+:backup:[a-z0-9-]+:\d{12}:backup-vault:[A-Za-z0-9_-]{2,50}$")
]
ParameterName = Annotated[str, StringConstraints(pattern=r"^/[A-Za-z0-9._/-]{1,200}$")]
ArtifactName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{1,62}$")]
ClockTime = Annotated[str, StringConstraints(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
TagKey = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/=+@ -]{1,128}$")]
TagValue = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.:/=+@ -]*$", max_length=256)]


def _is_block(text: str) -> str:
    """Return the text of an IPv4 range. Raises ValueError for any other, also with host bits set."""
    IPv4Network(text)
    return text


CidrBlock = Annotated[str, AfterValidator(_is_block)]
SecureOrigin = Annotated[
    str, StringConstraints(pattern=r"^https://[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:\d{1,5})?$")
]
"""An origin as browsers send it: scheme and host, no path, no ``*``."""


class PlaceSection(StrictModel):
    """``[deployment]``: the tenant's account and region, and the company's rules for every resource."""

    account: AccountId
    """Account of the deployment, twelve digits."""
    region: Region
    """Region of the deployment, like ``us-east-1``."""
    zones: tuple[Zone, ...] = Field(min_length=2, max_length=3)
    """Written out, never looked up. Three when the search domain has a standby."""
    profile: Profile
    """``dev``: smallest sizes, one data node, AWS's services reached in one zone, logs for 30 days.
    ``standard``: a data node in each zone, logs for a year. ``hipaa``: three zones with a standby, two people
    approve, logs for six years."""
    cost_center: TagValue = Field(min_length=1)
    """Value of the tag ``cost-center`` of every resource."""
    name_prefix: str = Field(default="assistant", pattern=r"^[a-z][a-z0-9-]{0,18}[a-z0-9]$")
    """Prefix of the names of stacks and parameters."""
    bootstrap_qualifier: str = Field(default="hnb659fds", pattern=r"^[a-z0-9]{1,10}$")
    """Qualifier of the CDK bootstrap in the account."""
    bootstrap_key: Arn | None = None
    """The company's KMS key of the bootstrap bucket, if it has one: tasks and functions that read the tenant
    file there may decrypt with it, through S3 only."""
    permissions_boundary: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_+=,.@/-]{1,128}$")
    """Name of the permissions boundary of every role; the account stage's policy when absent."""
    role_path: str = Field(default="/assistant/", pattern=r"^/([A-Za-z0-9_.-]+/)*$")
    """Path of every role, before the tenant's name."""
    break_glass: tuple[Arn, ...] = ()
    """Roles (``*`` allowed, as in names of SSO roles) that may read PHI stores in an emergency. Each use
    raises an alarm."""
    artifact_publishers: tuple[CallerArn, ...] = ()
    """Roles or users of IAM, such as a build's, that may assume the tenant's ``ArtifactPublisher`` role and
    put model artifacts. They exist before the first deployment: IAM trusts only existing ones. Empty: the
    role is not created, and nobody may put artifacts."""
    pushers: Mapping[str, Annotated[tuple[CallerArn, ...], Field(min_length=1)]] = {}
    """Source = roles or users of IAM that may assume its pusher's role, which puts files into its folder of
    the inbox and reads what became of them (``assistant knowledge push``). They exist before the first
    deployment."""
    image_key: str | None = Field(default=None, pattern=r"^(awskms:///\S{1,300}|[^\s:]{1,200})$")
    """Public key by which a deployment verifies the signature of each image in the account's registry: a PEM
    file, relative to the tenant file, or ``awskms:///ARN`` of a key of KMS. Absent: nothing is verified, and
    ``doctor`` says so."""
    recovery_copies: VaultArn | None = None
    """Under ``hipaa``: vault of AWS Backup, in another account or region, that each recovery point is copied
    to. It exists before the first deployment, and it and its key admit the account (docs/runbook.md)."""
    accepted_end_of_support: date | None = None
    """Day of an end of support that this deployment accepts, and every earlier one. With a part whose support
    ended later it is refused; absent, with any that ended (docs/writers.md)."""
    required_tags: Mapping[TagKey, TagValue] = {}
    """The company's tags for every resource, beside tenant, cost-center, data-class and release."""

    def parameter(self, tenant: str, name: str) -> str:
        """Return the full name of a tenant's SSM parameter."""
        return f"/{self.name_prefix}/{tenant}/{name}"

    def inbox_parameter(self, tenant: str) -> str:
        """Return the name of the parameter with the name of the inbox bucket, which pushers read."""
        return self.parameter(tenant, "inbox")

    @staticmethod
    def pusher(tenant: str, source: str) -> str:
        """Return the name of the role of a source's pushers: who may only assume it cannot look it up. IAM
        takes 64 characters; both names have at most 31."""
        return f"{tenant}.{source}"


class IdentitySection(StrictModel):
    """``[identity]``: the issuer of the tokens that the service accepts."""

    issuer: str = Field(pattern=r"^https://\S+$")
    """``iss`` of the tokens: the base URL of the OpenID provider."""
    audience: str = "assistant"
    """``aud`` of the tokens."""
    jwks_parameter: ParameterName | None = None
    """SSM parameter with the issuer's public keys; ``/<name_prefix>/<tenant>/jwks`` when absent. It exists
    before the first deployment and belongs to no stack, so that keys rotate without a deployment."""
    console_client_id: str = "assistant-console"
    """Client id by which the console signs agents in."""


class ExistingVpc(StrictModel):
    """An existing VPC of the company, with one subnet for each of ``deployment.zones``, in their order."""

    vpc_id: str = Field(pattern=r"^vpc-[0-9a-f]{8,17}$")
    """Id of the VPC."""
    cidr: CidrBlock
    """Its address range, IPv4."""
    subnet_ids: tuple[str, ...] = Field(min_length=2, max_length=3)
    """A private subnet for each zone, in the order of ``deployment.zones``."""
    route_table_ids: tuple[str, ...] = Field(min_length=1, max_length=3)
    """Route tables of the subnets, which get the gateway endpoints that are created."""


class NetworkSection(StrictModel):
    """``[network]``: a new VPC for the tenant, or an existing one."""

    cidr: CidrBlock = "10.64.0.0/20"
    """Address range of a new VPC, IPv4. Not read with ``network.vpc``."""
    vpc: ExistingVpc | None = None
    endpoints: Mapping[str, str] = {}
    """Service (``kms``, ``ecr.api``, ``s3``…) = id of an existing endpoint; all others are created."""
    prefix_lists: Mapping[Literal["s3", "dynamodb"], str] = {}
    """The region's managed prefix lists. With them, security groups allow only these behind gateway
    endpoints; without, any address on 443, which the route tables then limit."""


class EdgeSection(StrictModel):
    """``[edge]``: the private entry to the service."""

    host_name: HostName
    """Host name that the care side uses, and name of the certificate."""
    certificate_arn: Arn
    """In ACM of the same region. It exists before the first deployment."""
    consumer_cidrs: tuple[CidrBlock, ...] = Field(min_length=1)
    """Addresses of the care side's clients: PrivateLink enforcement checks these."""
    allowed_principals: tuple[Arn, ...] = Field(min_length=1)
    """Principals that may request a connection to the endpoint service."""
    client_certificates: str | None = Field(default=None, pattern=r"^s3://\S+\.pem$")
    """CA bundle with which the ALB verifies client certificates; none are required when absent."""
    service_private_dns: bool = False
    """Whether the endpoint service has the host name as private DNS, which needs a public TXT record. By
    default the care side creates a private zone, without anybody's approval (docs/private-link.md)."""
    frame_ancestors: tuple[SecureOrigin, ...] = Field(default=(), max_length=20)
    """Origins whose pages may hold the console in a frame, as the care application's. None by default."""
    cors_origins: tuple[SecureOrigin, ...] = Field(default=(), max_length=20)
    """Origins whose pages may call the API from a browser, with a bearer token. None by default."""


class ModelsSection(StrictModel):
    """``[models]``: hardware and artifacts of the two endpoints, and what is captured of their calls."""

    accelerator: Accelerator = "inf2"
    """Kind of the instances of the LLM endpoint: the one that the artifact ``llm`` is made for."""
    llm: ArtifactName | None = None
    """Folder under ``model_artifacts/llm/`` with its manifest. Absent only where no LLM endpoint is made."""
    embedding: ArtifactName
    """Folder under ``model_artifacts/embedding/``."""
    embedding_next: ArtifactName | None = None
    """Another folder there: the model of ``[embedding_next]``, which has an endpoint of its own."""
    llm_instance: str | None = Field(default=None, pattern=r"^ml\.[a-z0-9]+\.[a-z0-9]+$")
    """The accelerator's default when absent; an instance that the artifact does not fit is refused."""
    embedding_instance: str | None = Field(default=None, pattern=r"^ml\.[a-z0-9]+\.[a-z0-9]+$")
    """Instance type of the embedding endpoint; the default of its artifact's accelerator when absent."""
    embedding_next_instance: str | None = Field(default=None, pattern=r"^ml\.[a-z0-9]+\.[a-z0-9]+$")
    """Instance type of the endpoint of ``embedding_next``; its artifact's default when absent."""
    min_instances: int = Field(default=1, ge=1, le=50)
    """Fewest instances of each endpoint."""
    max_instances: int = Field(default=2, ge=1, le=50)
    """Most instances of each endpoint."""
    capture: Literal["quarantine", "direct", "off"] = "quarantine"
    """Whether SageMaker captures calls of the endpoints, with their texts. ``quarantine``: only the redactor,
    a function that removes texts, reads what was captured, which is deleted within the hour. ``direct``: it
    is kept as it was captured. ``off``: no capture; only the service's redacted record exists."""
    capture_percent: int = Field(default=100, ge=1, le=100)
    """Percentage of the calls of each endpoint."""
    capture_passages_percent: int = Field(default=0, ge=0, le=100)
    """Percentage that the redactor keeps of captured calls for passages of the corpus. With ``direct``
    nothing drops any, so the embedding endpoint is captured with 100 only."""
    capture_texts: Literal["none", "redacted"] = "none"
    """``redacted``: the redactor keeps what was asked and answered, with patients' data replaced as far as
    they are found, and without documents; clean copies then expire after 7 days."""

    @model_validator(mode="after")
    def _texts_need_the_redactor(self) -> Self:
        if self.capture_texts == "redacted" and self.capture != "quarantine":
            raise ValueError(
                f'capture_texts = "redacted" is the work of the redactor, and capture = "{self.capture}" has '
                'none. Write capture = "quarantine", or delete capture_texts'
            )
        return self

    @property
    def embeddings(self) -> tuple[str, ...]:
        """The folders of all embedding models, that of ``[embedding]`` first."""
        return (self.embedding,) if self.embedding_next is None else (self.embedding, self.embedding_next)

    @property
    def keeps_captured_texts(self) -> bool:
        return self.capture_texts == "redacted"


class PowerSection(StrictModel):
    """``[power]``: when the endpoints run. Absent: they run until somebody pauses them."""

    pause_at: ClockTime
    """Time of day at which the endpoints stop, ``HH:MM``."""
    resume_at: ClockTime
    """Time of day at which they start again, ``HH:MM``."""
    time_zone: str = "UTC"
    """IANA name."""
    weekdays_only: bool = True
    """Resume on Monday to Friday only."""

    @property
    def hours_share(self) -> float:
        """Share of all hours in which the endpoints run."""
        paused, resumed = (
            int(text[:2]) * 60 + int(text[3:]) for text in (self.pause_at, self.resume_at)
        )  # minutes of the day
        return (paused - resumed) % 1440 / 1440 * (5 / 7 if self.weekdays_only else 1)


class SearchSection(StrictModel):
    """``[search]``: the OpenSearch domain; absent sizes follow the profile."""

    engine_version: str = Field(default="OpenSearch_3.5", pattern=r"^OpenSearch_(2\.19|3\.\d)$")
    """Version of OpenSearch: 2.19, or 3 and later."""
    data_instance: str | None = Field(default=None, pattern=r"^[a-z0-9]+\.[a-z0-9]+\.search$")
    """Instance type of the data nodes."""
    data_nodes: int | None = Field(default=None, ge=1, le=60)
    """Number of data nodes."""
    volume_gib: int | None = Field(default=None, ge=10, le=3000)
    """Volume of each data node, in GiB."""


class TasksSection(StrictModel):
    """``[tasks]``: the orchestrator on Fargate."""

    min_tasks: int = Field(default=2, ge=2, le=100)
    """Fewest tasks."""
    max_tasks: int = Field(default=6, ge=2, le=100)
    """Most tasks."""
    cpu_units: Literal[512, 1024, 2048, 4096] | None = None
    """CPU of a task: 1024 are one vCPU. Absent: 512 with the profile ``dev``, else 1024."""
    memory_mib: int = Field(default=2048, ge=1024, le=30720)
    """Memory of a task, in MiB."""
    architecture: Literal["X86_64", "ARM64"] | None = None
    """Processor of the tasks. Absent: ``ARM64`` with the profile ``dev``, else ``X86_64``."""
    exec_enabled: bool = False
    """Allows ECS Exec, a shell in a task through ``ssmmessages``."""


class ObservabilitySection(StrictModel):
    """``[observability]``: receivers of alarms, and the budget."""

    budget_usd_per_month: int = Field(default=5000, ge=1)
    """Monthly budget in USD, on the tenant's tag; alerts go to ``alarm_email`` and the budget topic."""
    alarm_email: str | None = Field(default=None, pattern=r"^[^\s@]+@[^\s@]+$")
    """Receiver of alarms that may wait for a working day, and of the budget's."""
    page_email: str | None = Field(default=None, pattern=r"^[^\s@]+@[^\s@]+$")
    """Receiver of alarms that wake somebody."""
    runbook_url: str | None = Field(default=None, pattern=r"^https://[^\s#]{1,200}$")
    """Where the company shows docs/runbook.md; alarms link to its headings. Without it they link to the
    tenant's dashboard, which has the entries."""
    budget_topic: Arn | None = None
    """SNS topic of budget alerts; the account stage's topic when absent."""
    declared_principals: tuple[Arn, ...] = ()
    """Principals that may read PHI stores without an alarm, beside the tenant's roles."""


class CareContextSection(StrictModel):
    """``[care_context]``: the care application that signs whose conversation a question belongs to."""

    issuer: str = Field(pattern=r"^https?://\S+$")
    """``iss`` of its tokens."""
    audience: str = "assistant-context"
    """``aud`` of its tokens."""
    jwks_parameter: ParameterName | None = None
    """SSM parameter with its public keys; ``/<name_prefix>/<tenant>/care-jwks`` when absent."""
    plain_ids: bool = False
    """Whether ids without a signature are accepted: for a tenant without ``[deployment]``, or with the
    profile ``dev``."""


class ReachTable(OptionTable):
    """A table of an option in a ``[[reach]]`` entry, which says what the service calls the entry for."""

    @property
    def is_live(self) -> bool:
        """Whether the entry is asked for live data."""
        return False

    @property
    def elements(self) -> Mapping[str, ElementKind]:
        """Names of the live elements that it gives, each with its kind."""
        return {}

    @property
    def files(self) -> tuple[str, ...]:
        """Other files that the table names, relative to the tenant file."""
        return ()

    def with_files(self, entry: ReachEntry, folder: Path) -> Self:
        """Return the table with what its files say. Raises ConfigurationError."""
        del entry, folder
        return self

    def shaping(self) -> Mapping[str, Any]:
        """Return what of a live table shapes answers, as JSON values."""
        return {}


class ReachEntry(OpenSection):
    """``[[reach]]``: one internal system that the assistant calls through PrivateLink.

    The table of an option in it says what it is called for: live data, replies. Without one the service does
    not call it.
    """

    name: str = Field(pattern=r"^[a-z][a-z0-9-]{1,30}$")
    """Name of the system, by which sources, records and commands know it."""
    port: int = Field(ge=1, le=65535)
    """TCP port of the system."""
    service_name: str | None = Field(default=None, pattern=r"^com\.amazonaws\.vpce\.\S+$")
    """Name of the system's endpoint service."""
    resource_configuration_arn: Arn | None = None
    """ARN of a VPC Lattice resource. Give exactly one of the two."""
    caller: Literal["orchestrator", "connectors"] = "orchestrator"
    """The only workload that may call it; ``connectors``: runs of sources with a connector."""
    auth: Literal["none", "token", "oauth", "sigv4"] = "none"
    """How requests prove who calls: a bearer token, OAuth client credentials, or AWS Signature Version 4."""
    secret: str | None = Field(default=None, pattern=r"^(state|file|secretsmanager):\S{1,256}$")
    """Where the secret is kept that ``token`` and ``connectors`` (the token or password) and ``oauth`` (JSON
    with client_id and client_secret) need: ``state:NAME``, ``file:PATH``, or ``secretsmanager:NAME`` on AWS.
    By default ``state:reach-<name>`` locally, and ``secretsmanager:<name_prefix>/<tenant>/reach/<name>`` on
    AWS."""
    token_path: str = Field(default="/oauth/token", pattern=r"^/[A-Za-z0-9/._~-]{0,200}$")
    """With ``oauth``: where the system gives tokens."""
    sigv4_service: Literal["execute-api", "vpc-lattice-svcs"] = "execute-api"
    """With ``sigv4``: the service that requests are signed for."""
    invoke_arn: Arn | None = None
    """With ``sigv4``: the API or service that the task's role may invoke, GET alone for an API:
    ``arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/GET/*``."""
    host_name: HostName | None = None
    """Name in the system's certificate; that of its address when absent. With ``connectors`` it is the host
    of the connector's URL, and leads to the system in the VPC."""
    ca_file: Annotated[str | None, KeyMark.NAMES_A_FILE] = None
    """PEM of the authorities that sign its certificate, relative to the tenant file; the machine's when
    absent."""
    deadline_s: float = Field(default=2.0, gt=0.0, le=10.0)
    """Longest time of a request, with its retry."""
    ca_pem: Annotated[str | None, KeyMark.IN_A_FILE] = Field(default=None, max_length=200_000)
    """What ``ca_file`` holds. Filled in when the tenant file is read."""

    @property
    def is_called(self) -> bool:
        """Whether the service calls it."""
        return any(self.option_tables(ReachTable))

    @property
    def is_live(self) -> bool:
        """Whether it is asked for live data."""
        return any(table.is_live for table in self.option_tables(ReachTable))

    @property
    def files(self) -> tuple[str, ...]:
        """Other files that it names, relative to the tenant file; those of options first."""
        of_options = (file for table in self.option_tables(ReachTable) for file in table.files)
        return (*of_options, *([] if self.ca_file is None else [self.ca_file]))

    @property
    def secret_name(self) -> str:
        return self.secret or f"state:reach-{self.name}"

    def with_files(self, folder: Path) -> Self:
        """Return the entry with what its files say. Raises ConfigurationError."""
        update: dict[str, object] = {
            name: table.with_files(self, folder)
            for name, table in self.__dict__.items()
            if isinstance(table, ReachTable)
        }
        if self.ca_file is not None:
            try:
                update["ca_pem"] = (folder / self.ca_file).read_text(encoding="ascii")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigurationError(
                    f"{folder / self.ca_file}: cannot be read as PEM: {error}."
                ) from None
        return self.model_copy(update=update)


Making = Literal["create", "existing"]
"""Whether the account stage creates a resource, or finds it there."""
ACCOUNT_TRAIL = "assistant-account"
"""Name of the account's trail in CloudTrail."""


class AccountConfig(StrictModel):
    """The account file, ``accounts/<account>-<region>.toml``: resources that exist once in an account and
    region.

    Without a file all of them are created. ``existing`` means that a resource of that name exists already:
    created by another region of the account (IAM is global), by the company, or by a deleted stack, for no
    stack deletes them.
    """

    search_service_role: Making = "create"
    """OpenSearch's service-linked role; the first domain created in the account's console creates it."""
    ecs_service_role: Making = "create"
    """ECS's service-linked role; the first cluster of an account fails while it is being created."""
    ecs_scaling_role: Making = "create"
    """Application Auto Scaling's service-linked role for ECS services."""
    sagemaker_scaling_role: Making = "create"
    """Application Auto Scaling's service-linked role for SageMaker endpoints."""
    log_policy: Making = "create"
    """One CloudWatch Logs resource policy for the log groups of all search domains and of all audit rules; a
    region allows ten."""
    repositories: Making = "create"
    """ECR repositories of our own images."""
    boundary: Making = "create"
    """Managed policy ``<name_prefix>-boundary``, the permissions boundary of every role of a tenant."""
    trail: Making = "create"
    """The account's one trail of CloudTrail. Its home region is that of the only file that says ``create``.
    An existing one covers all regions, and has the data events of stores whose names begin with a
    ``name_prefix``."""
    budget_topic: Making = "create"
    """SNS topic ``<name_prefix>-budget`` of every tenant's budget alerts."""
    budget_email: str | None = Field(default=None, pattern=r"^[^\s@]+@[^\s@]+$")
    """Receiver of every tenant's budget alerts, beside the tenant's own."""
    regions: tuple[Region, ...] = ()
    """Other regions of the account with tenants under the same boundary, in which roles may act too."""
    cost_center: TagValue = Field(default="shared", min_length=1)


def load_account(folder: Path, *, account: str, region: str) -> AccountConfig:
    """Return the file of an account and region; the defaults without a file.

    Raises ConfigurationError naming file, line, key and what is allowed.
    """
    path = folder / f"{account}-{region}.toml"
    return read_strict(path, AccountConfig) if path.exists() else AccountConfig()


RECOVERY_DAYS = 35
"""DynamoDB's point-in-time recovery, at most; nobody can delete from it."""
SNAPSHOT_DAYS = 14
"""OpenSearch Service's automated snapshots; nobody can delete one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long a deployment of one profile keeps what it stores, in days. Objects expire by their age, then
    stay as replaced versions.

    The stacks take the lifecycles of their buckets and logs from here, a withdrawal's receipt its dates.
    """

    replaced: int
    """Overwritten and deleted versions. A mistake can be undone for so long; a withdrawal is complete only
    after it."""
    capture: int
    capture_texts: int = 7
    """Days that clean copies with words are kept. Neither a withdrawal nor an erasure reaches a captured
    word, so its time is short: long enough to look into what an agent complained of. On one machine all clean
    copies stay as long."""
    feedback: int
    """Thirteen months, so that a month can be compared with that of the year before. Nothing that learns
    needs more, and agents are workers (docs/decisions/0050-feedback-on-aws.md)."""
    inbox: int
    """A pushed file is read within minutes; until then it may be pushed again."""
    inbox_replaced: int = 1
    quarantine: int = 1
    """The redactor deletes within the hour; this is the safety net, and one day is S3's minimum."""
    training: int
    """Training sets and checkpoints: withdrawn documents and captures must leave these too."""
    corpus: int
    """A corpus is made again from the documents, so withdrawn ones leave it within this time."""
    jobs_replaced: int = 7
    """Replaced versions in the buckets of jobs, whose content can be made again."""
    logs: int
    """Six years in a HIPAA programme."""
    backup: int = 0
    """Days that a recovery point of AWS Backup lasts, from the start of its copy; 0: there are none."""


RETENTION: Mapping[Profile, Retention] = {
    "dev": Retention(replaced=1, capture=7, feedback=30, inbox=7, training=7, corpus=7, logs=30),
    "standard": Retention(replaced=14, capture=90, feedback=400, inbox=30, training=180, corpus=90, logs=365),
    "hipaa": Retention(
        replaced=35, capture=365, feedback=400, inbox=30, training=365, corpus=90, logs=2192, backup=35
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """What is lost at most, and for how long, when a profile's stores are lost (docs/decisions/0131)."""

    rpo_hours: int
    """Age of the documents that come back. That of records is five minutes: DynamoDB's own recovery."""
    rto_hours: int
    """Until they are back and the index is made again: a target, which only a rehearsal measures."""
    documents_every_hours: int
    tables_every_hours: int
    """As a second line to DynamoDB's own recovery: each copy is a whole one, and is paid as such."""
    start_hours: int = 1
    """AWS starts a copy within so many."""
    run_hours: int = 8
    """A copy that takes longer is stopped."""


RECOVERY: Mapping[Profile, Recovery] = {
    "hipaa": Recovery(rpo_hours=24, rto_hours=8, documents_every_hours=12, tables_every_hours=24),
}
"""Profiles without an entry have DynamoDB's own recovery and versions of documents alone."""
