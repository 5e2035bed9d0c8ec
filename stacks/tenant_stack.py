"""What every stack of a tenant uses: the stack class, log groups, removal policies, pinned ids, the role
path.

Alarms are described from their entries in docs/runbook.md (what happened, where to look, how to fix it), and
link to them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cache
from typing import Literal

import aws_cdk as cdk
import jsii
from aws_cdk import RemovalPolicy
from aws_cdk import aws_ec2 as ec2
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_logs as logs
from aws_cdk.region_info import RegionInfo
from constructs import Construct, IConstruct

from assistant.process.settings import ProcessSettings, StoreSettings
from assistant.tenant.manifests import CALLERS_PREFIX
from stacks.outputs import DataOutputs, KeysOutputs, NetworkOutputs
from stacks.tenant import ROOT, DeployedTenant

DataClass = Literal["phi", "internal", "public"]
"""What the resources of a stack hold or carry: patients' data; the company's own; nothing of either."""
OUTLIVES = RemovalPolicy.RETAIN_ON_UPDATE_OR_DELETE
"""The resource outlives its stack, unless its first creation is rolled back: then it is empty, would cost
money, and its name would block the next attempt (``DeletionPolicy: RetainExceptOnCreate``,
https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html)."""
NEVER_DELETED = RemovalPolicy.RETAIN
"""For what a rollback could not delete, and would fail on: a protected table, a bucket that AWS has already
written to. What stays is empty or nearly so, and its name is generated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """A role whose holder reaches AWS only through the VPC's endpoints, and what it calls.

    ``WorkloadRole`` adds it to its stack; ``stacks.vpc.called_services`` reads all of them.
    """

    path: str
    """Path of the role's construct, for errors."""
    platform: str
    """The service that runs the holder (``lambda.amazonaws.com``): calls that it makes itself with the role
    do not come from the VPC."""
    through: tuple[str, ...]
    """Endpoints that the platform uses for the holder and that no statement shows (``ecr.dkr``, to pull
    images)."""
    statements: list[iam.PolicyStatement] = field(default_factory=list[iam.PolicyStatement])


class TenantStack(cdk.Stack):
    """A stack of one tenant, tagged with its data class.

    ``stateful`` protects it from deletion, and its logical ids are pinned (``tests/stacks/pins``).
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        data_class: DataClass,
        description: str | None = None,
        stateful: bool = False,
    ) -> None:
        """``description``: what the stack holds (``care side``); its construct id in lower case unless
        given."""
        description = f"{tenant.config.display_name}: {description or construct_id.lower()}"
        super().__init__(scope, construct_id, description=description, termination_protection=stateful)
        self.tenant = tenant
        self.callers: list[Caller] = []
        """What the roles of the stack call through the VPC's endpoints; each role adds its own."""
        cdk.Tags.of(self).add("data-class", data_class)

    def import_vpc(self, network: NetworkOutputs) -> ec2.IVpc:
        """Return the network stack's VPC for CDK's constructs. A company's VPC may have fewer route tables
        than subnets; CDK wants one for each."""
        tables = network.route_table_ids
        return ec2.Vpc.from_vpc_attributes(
            self,
            "Vpc",
            vpc_id=network.vpc_id,
            availability_zones=list(self.tenant.place.zones),
            isolated_subnet_ids=list(network.subnet_ids),
            isolated_subnet_route_table_ids=[
                tables[number % len(tables)] for number, _ in enumerate(network.subnet_ids)
            ],
        )


def tenant_of(scope: Construct) -> DeployedTenant:
    """Return the tenant of a construct's stack. Raises TypeError in a stack of no tenant."""
    stack = cdk.Stack.of(scope)
    if not isinstance(stack, TenantStack):
        raise TypeError(f"{scope.node.path} is in no stack of a tenant: create it in a TenantStack.")
    return stack.tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Foundation:
    """What every stack of a tenant's workloads stands on: the outputs of the stacks below them."""

    tenant: DeployedTenant
    keys: KeysOutputs
    network: NetworkOutputs
    data: DataOutputs

    def environment(self, settings: type[ProcessSettings], **values: object) -> dict[str, str]:
        """Return the environment variables of a process: ``values``, and each further field that it must have
        on AWS, taken from what has the same name: an output of the data stack (``records_table``),
        ``region``, ``tenant``, ``metrics_service``."""
        tenant = self.tenant
        available: dict[str, object] = {
            **asdict(self.data),
            "region": tenant.place.region,
            "tenant": tenant.name,
            "metrics_service": tenant.full_name,
        }
        needed = {name for name, field in settings.model_fields.items() if field.is_required()}
        if issubclass(settings, StoreSettings):
            needed.update(settings.on_aws, ("region",))
        values = {name: available[name] for name in available.keys() & needed} | values
        return settings.variables(values, known_later=cdk.Token.is_unresolved)

    def index(self) -> dict[str, object]:
        """Return the fields of StoreSettings by which a process finds the index of passages and the files of
        its model."""
        return {
            "search": "opensearch",
            "opensearch_url": f"https://{self.data.domain_endpoint}",
            "opensearch_index": self.tenant.search_alias,
            "model_artifacts_s3": f"s3://{self.data.models_bucket}/{CALLERS_PREFIX}",
        }


def prepare_stage(stage: cdk.Stage, tenant: DeployedTenant, *, role_path: str) -> None:
    """Give a tenant's stage its zones, bootstrap qualifier, tags and role path. Call it before its stacks are
    made."""
    place = tenant.place
    # Otherwise CDK looks the zones up in the account, or assumes some without credentials.
    stage.node.set_context(
        f"availability-zones:account={place.account}:region={place.region}", list(place.zones)
    )
    # Read by each stack's synthesizer: which bootstrap's roles and bucket deploy the stack.
    stage.node.set_context("@aws-cdk/core:bootstrapQualifier", place.bootstrap_qualifier)
    for key, value in tenant.tags().items():
        cdk.Tags.of(stage).add(key, value)
    cdk.Aspects.of(stage).add(_RolePath(role_path))


@jsii.implements(cdk.IAspect)
class _RolePath:
    """Puts every role and managed policy under the company's path (``/assistant/``)."""

    def __init__(self, path: str) -> None:
        self._path = path

    def visit(self, node: IConstruct) -> None:
        if isinstance(node, iam.CfnRole | iam.CfnManagedPolicy):
            node.path = self._path


def removal_of(tenant: DeployedTenant, *, otherwise: RemovalPolicy = OUTLIVES) -> RemovalPolicy:
    """Return the removal policy: deleted with a ``dev`` tenant, else ``otherwise``."""
    return RemovalPolicy.DESTROY if tenant.is_dev else otherwise


def pin(construct: Construct, logical_id: str) -> None:
    """Fix the logical id of a construct's one resource (or of the resource itself), so that moving the
    construct never replaces the resource."""
    resource = construct if isinstance(construct, cdk.CfnElement) else construct.node.default_child
    if not isinstance(resource, cdk.CfnElement):
        raise TypeError(f"{construct.node.path} has no single resource; pin the resource itself.")
    resource.override_logical_id(logical_id)


def pascal_case(name: str) -> str:
    """Return ``sagemaker.runtime`` as ``SagemakerRuntime``, ``record-store`` as ``RecordStore``."""
    return "".join(part.capitalize() for part in name.replace(".", "-").split("-"))


_RETENTION = {  # by days
    30: logs.RetentionDays.ONE_MONTH,
    365: logs.RetentionDays.ONE_YEAR,
    2192: logs.RetentionDays.SIX_YEARS,
}


def tenant_log_group(
    scope: Construct, construct_id: str, *, logs_key_arn: str, name: str | None = None
) -> logs.LogGroup:
    """Create a log group under the tenant's key. It is deleted with a ``dev`` tenant, and outlives any other.

    ``name`` is only for a group whose name a service chooses, which would create it without key or retention,
    or by whose name a service decides how it writes there.
    """
    tenant = tenant_of(scope)
    return logs.LogGroup(
        scope,
        construct_id,
        log_group_name=name,
        retention=_RETENTION[tenant.log_retention_days],
        encryption_key=kms.Key.from_key_arn(scope, f"{construct_id}Key", logs_key_arn),
        removal_policy=removal_of(tenant),
    )


def endpoint_log_group(endpoint: str) -> str:
    """Return the name of an endpoint's log group, which SageMaker chooses."""
    return f"/aws/sagemaker/Endpoints/{endpoint}"


PAGE = ROOT / "docs" / "runbook.md"
_ALARMS = re.compile(r"<!-- alarms:.*?-->\n(.*)<!-- end of alarms -->", re.DOTALL)
# An entry of the runbook, in four paragraphs:
#     #### Search red
#     A primary shard is missing…
#     **Severity.** page · **Owner.** platform · **Query of `search`.** `fields @timestamp…`
#     **Look.** …  (a blank line)  **Fix.** …
_ENTRY = re.compile(
    r"^#### (.+)\n\n(.+)\n\n"
    r"\*\*Severity\.\*\* (page|ticket) · \*\*Owner\.\*\* (platform|knowledge|models|security)"
    r" · \*\*Query of `(\w+)`\.\*\* `(.+)`\n\n"
    r"(\*\*Look\.\*\* .+\n\n\*\*Fix\.\*\* .+)$",
    re.MULTILINE,
)


@dataclass(frozen=True, slots=True)
class RunbookEntry:
    """An entry of the runbook's alarms."""

    title: str
    happened: str
    severity: str
    """``page`` or ``ticket``."""
    owner: str
    log_group: str
    """By its name in ``TenantMetrics.log_groups``."""
    query: str
    """Query of CloudWatch Logs Insights."""
    what_to_do: str


@cache
def entries() -> Mapping[str, RunbookEntry]:
    """Return the entries by anchor, the heading's address as GitHub and GitLab make it. An entry without its
    four paragraphs is not among them."""
    alarms = _ALARMS.search(PAGE.read_text(encoding="utf-8"))
    all_entries = [RunbookEntry(*parts) for parts in _ENTRY.findall(alarms[1])] if alarms else []
    return {entry.title.lower().replace(" ", "-"): entry for entry in all_entries}


def described(scope: Construct, anchor: str, *, log_group: str, happened: str | None = None) -> str:
    """Return the description of an alarm: what happened, severity, owner, a query for ``log_group`` (its
    name) and a link to the runbook.

    ``happened`` replaces the entry's own text. Raises KeyError without an entry.
    """
    entry = entries()[anchor]
    return (
        f"{happened or entry.happened} Severity: {entry.severity}. Owner: {entry.owner}. "
        f"Logs Insights, {log_group}: {entry.query} "
        f"What to do, {entry.title}: {runbook_link(scope, anchor)}"
    )


WITH_BUDGETS = frozenset(
    {
        *("us-east-1", "us-east-2", "us-west-1", "us-west-2", "ca-central-1", "sa-east-1"),
        *("eu-central-1", "eu-west-1", "eu-west-2", "eu-west-3", "eusc-de-east-1", "me-south-1"),
        *("ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2"),
        *("cn-north-1", "cn-northwest-1", "eu-isoe-west-1", "us-iso-east-1", "us-iso-west-1"),
        *("us-isob-east-1", "us-isob-west-1", "us-isof-east-1", "us-isof-south-1"),
    }
)
"""Regions in which CloudFormation has ``AWS::Budgets::Budget``. A test compares them with cfn-lint's."""


def has_budgets(tenant: DeployedTenant) -> bool:
    """Return whether the region's stacks may have a budget."""
    return tenant.place.region in WITH_BUDGETS


_CONSOLES = {
    "aws": "console.aws.amazon.com",
    "aws-us-gov": "console.amazonaws-us-gov.com",
    "aws-cn": "console.amazonaws.cn",
}
"""Hosts of AWS's console by partition; neither the CDK nor botocore has them."""


def runbook_link(scope: Construct, anchor: str) -> str:
    """Return the address of a runbook entry: on the company's page, or else the dashboard that has it."""
    tenant = tenant_of(scope)
    page, region = tenant.config.observability.runbook_url, tenant.place.region
    if page is not None:
        return f"{page}#{anchor}"
    # A stack's own partition is a token without cdk.json's flags. A region that CDK does not know yet is a
    # commercial one.
    console = _CONSOLES[RegionInfo.get(region).partition or "aws"]
    home = f"https://{region}.{console}/cloudwatch/home?region={region}"
    return f"{home}#dashboards/dashboard/{tenant.full_name}"
