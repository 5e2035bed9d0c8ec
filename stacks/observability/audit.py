"""The audit of a tenant's stores, keys and policies: CloudTrail, and the metric filters over its events.

Syntax of patterns: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html.
``*`` matches any end of a term. No pattern relies on a comparison with a field that an event lacks: each
clause tests the type of identity that has the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from stacks.data.buckets import TRAILS
from stacks.observability.alarms import (
    BREAK_GLASS,
    DATA_COPIED,
    KEY_REFUSED,
    POLICY_CHANGED,
    STRANGER_READ,
    TRUST_CHANGED,
)
from stacks.outputs import DataOutputs, KeysOutputs
from stacks.roles import execution_role_arn
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import tenant_log_group

LONGEST = 1024
"""Characters of a pattern, CloudWatch Logs quotas."""

IAM_CHANGES = (
    "AttachRolePolicy",
    "CreatePolicyVersion",
    "DeleteRolePermissionsBoundary",
    "DeleteRolePolicy",
    "DetachRolePolicy",
    "PutRolePermissionsBoundary",
    "PutRolePolicy",
    "SetDefaultPolicyVersion",
    "UpdateAssumeRolePolicy",
)
BUCKET_CHANGES = (
    "DeleteBucketPolicy",
    "DeletePublicAccessBlock",
    "PutBucketAcl",
    "PutBucketLifecycle",
    "PutBucketLogging",
    "PutBucketObjectLockConfiguration",
    "PutBucketPolicy",
    "PutBucketPublicAccessBlock",
    "PutBucketVersioning",
)
KEY_CHANGES = ("DisableKey", "PutKeyPolicy", "ScheduleKeyDeletion")
QUEUE_CHANGES = ("AddPermission", "RemovePermission", "SetQueueAttributes")
SEARCH_CHANGES = ("AuthorizeVpcEndpointAccess", "UpdateDomainConfig")
TRACE_CHANGES = ("DeleteFlowLogs", "DeleteTrail", "PutEventSelectors", "StopLogging", "UpdateTrail")
IDENTITY_TAGS = ("TagRole", "TagUser", "UntagRole", "UntagUser")
"""By anybody in the account: every policy takes another team's role with this tenant's tag for this
tenant's."""
TAGGED_FROM_THE_START = (
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "CreateRole",
    "CreateUser",
)
RESOURCE_TAGS = (
    "AddTags",
    "DeleteBucketTagging",
    "PutBucketTagging",
    "RemoveTags",
    "TagQueue",
    "TagResource",
    "UntagQueue",
    "UntagResource",
)
KEY_TAGS = ("TagResource", "UntagResource")
TABLE_EXPORTS = (
    "ExportTableToPointInTime",
    "PutResourcePolicy",
    "RestoreTableFromBackup",
    "RestoreTableToPointInTime",
)
TABLE_COPIES = (
    "CreateBackup",
    "CreateGlobalTable",
    "CreateTableReplica",
    "EnableKinesisStreamingDestination",
    "UpdateTable",
)
"""``UpdateTable`` adds a replica or a stream; only the deployment updates these tables."""
BUCKET_COPIES = ("PutBucketInventoryConfiguration", "PutBucketNotification", "PutBucketReplication")
SEARCH_COPIES = ("AcceptInboundConnection", "CreateOutboundConnection")
_LOOKED_AT = 5
"""Number of a request's tags that are searched for the tenant's: a pattern refers to list elements by
number."""
_KEY_USES = ("Decrypt", "Encrypt", "GenerateDataKey*", "ReEncrypt*", "CreateGrant")
_ISSUER = "$.userIdentity.sessionContext.sessionIssuer.arn"
_TYPE = "$.userIdentity.type"


def key_refused() -> str:
    return _whole(
        '($.eventSource = "kms.amazonaws.com")',
        '($.errorCode = "AccessDenied*")',
        _any("$.eventName", _KEY_USES),
    )


def changed_by_others(
    events: Sequence[str], *, deployment: str, of: Mapping[str, Sequence[str]] | None = None
) -> str:
    """Return the pattern of these events by anyone but the deployment's role (its ARN), on resources that one
    of the fields in ``of`` names; on all resources without ``of``."""
    named = [f'({field} = "{value}")' for field, values in (of or {}).items() for value in values]
    return _whole(
        _any("$.eventName", events), *([f"({' || '.join(named)})"] if named else []), _by_others(deployment)
    )


def tagged_from_the_start(*, tag: str, deployment: str) -> str:
    """Return the pattern of a role, user or session that anyone but the deployment creates with a tag."""
    places = [f"$.requestParameters.tags[{number}].key" for number in range(_LOOKED_AT)]
    tagged = [f'({place} = "{tag}")' for place in places]
    tagged.append(f'($.requestParameters.principalTags.{tag} = "*")')
    return _whole(
        _any("$.eventName", TAGGED_FROM_THE_START), f"({' || '.join(tagged)})", _by_others(deployment)
    )


def read_by_strangers(*, roles: str, declared: Sequence[str]) -> str:
    """Return the pattern of reads of stores by identities that are neither among ``roles`` (an ARN that ends
    with ``*``) nor declared. AWS services that read for nobody have a type of their own."""
    known_roles = [roles, *(arn for arn in declared if ":role/" in arn)]
    known_users = [arn for arn in declared if ":user/" in arn]
    strange_role = _all(f'{_TYPE} = "AssumedRole"', *(f'{_ISSUER} != "{arn}"' for arn in known_roles))
    strange_user = _all(f'{_TYPE} = "IAMUser"', *(f'$.userIdentity.arn != "{arn}"' for arn in known_users))
    others = _all(*(f'{_TYPE} != "{kind}"' for kind in ("AssumedRole", "IAMUser", "AWSService")))
    return _whole(*_READS, f"({strange_role} || {strange_user} || {others})")


def read_by(arns: Sequence[str]) -> str:
    """Return the pattern of reads by roles of these ARNs."""
    return _whole(*_READS, _any(_ISSUER, arns))


_READS = ('($.eventCategory = "Data")', "($.readOnly IS TRUE)")


def _by_others(deployment: str) -> str:
    return f'(({_TYPE} != "AssumedRole") || ({_ISSUER} != "{deployment}"))'


def _any(field: str, values: Iterable[str]) -> str:
    return "(" + " || ".join(f'({field} = "{value}")' for value in values) + ")"


def _all(*clauses: str) -> str:
    return "(" + " && ".join(f"({clause})" for clause in clauses) + ")"


def _whole(*clauses: str) -> str:
    pattern = "{ " + " && ".join(clauses) + " }"
    if len(pattern) > LONGEST:
        raise ConfigurationError(
            f"[observability] declared_principals or [deployment] break_glass: the filter over them has "
            f"{len(pattern)} characters, CloudWatch takes {LONGEST}; name several at once by an ARN that "
            "ends with *."
        )
    return pattern


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditedStores:
    """Names of the stores whose reads and writes are recorded, and the bucket of the record.

    A store that can contain a patient's text and is not listed here has a reason in ``UNRECORDED``.
    """

    buckets: tuple[str, ...]
    tables: tuple[str, ...]
    domain_name: str
    domain_arn: str
    trail_bucket: str

    @classmethod
    def of(cls, data: DataOutputs, *, of_jobs: Iterable[str | None]) -> AuditedStores:
        """``of_jobs``: buckets of training and corpora, None where the tenant has none."""
        return cls(
            buckets=(
                data.documents_bucket,
                data.inbox_bucket,
                data.quarantine_bucket,
                data.capture_bucket,
                data.labels_bucket,
                data.texts_bucket,
                *(bucket for bucket in of_jobs if bucket is not None),
            ),
            tables=(data.records_table, data.events_table, data.states_table, data.desk_table),
            domain_name=data.domain_name,
            domain_arn=data.domain_arn,
            trail_bucket=data.trail_bucket,
        )


_NO_TEXT = "Lines of ids, codes, sizes and times, never a text (`tests/unit/test_telemetry.py`)."
UNRECORDED: Mapping[str, str] = {
    "Data/LogsBucket": "Addresses, paths and names of objects. Logs of it would be logs of logs, without an "
    "end.",
    "Data/TrailBucket": "The trail itself: recording its delivery would write it without an end. It is "
    "locked; S3's access logs have its readers.",
    "Data/ModelsBucket": "Weights and tokenizers, put by publishers alone.",
    "Data/Search": "CloudTrail does not see requests to a domain. The domain's audit log does: who, and "
    "which index.",
    "Data/SearchAuditLogs": "Who asked which index, without the request's body.",
    "Data/SearchErrorLogs": "Warnings and errors of the nodes. A fragment of what a node failed on may stand "
    "in one; CloudTrail has no data events of log lines.",
    "Data/SearchSlow*Logs": "Empty: OpenSearch writes here for an index with a threshold, and the schema "
    "sets none.",
    "Models/EmbeddingLog": "Lines of the container, which logs no request unless configured to.",
    "Models/LlmLog": "Lines of the container, which logs no request unless configured to.",
    "Models/PowerLog": "Words like `paused`, and what CloudFormation says.",
    "Ingestion/*Logs": _NO_TEXT,
    "Ingestion/*Queue": "Ids of documents and names of objects, whose texts stand in stores that are "
    "recorded.",
    "Ingestion/*DeadLetters": "As the queue that they come from.",
    "Learning/*Logs": _NO_TEXT,
    "Orchestrator/Logs": _NO_TEXT,
    "Orchestrator/Insights": "Numbers of tasks, CPU and memory.",
    "Network/FlowLogsGroup": "Addresses, ports and bytes.",
    "Observability/AuditEvents": "The trail's lines: names of objects and who touched them.",
}
"""Stores whose reads no trail records, by stack and logical id, with the reason; the first match counts. A
test finds a store that is in neither list, and a row without a store."""


class AuditTrail(Construct):
    """A trail of all regions (IAM reports its changes in one), with management events and each access to
    patients' data."""

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        tenant: DeployedTenant,
        keys: KeysOutputs,
        stores: AuditedStores,
        namespace: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self._namespace = namespace
        self._group = tenant_log_group(self, "Events", tenant=tenant, logs_key_arn=keys.logs_key_arn)
        role, writes = self._writer()
        trail = cloudtrail.CfnTrail(
            self,
            "Trail",
            is_logging=True,
            s3_bucket_name=stores.trail_bucket,
            s3_key_prefix=TRAILS,
            kms_key_id=keys.logs_key_arn,
            cloud_watch_logs_log_group_arn=self._group.log_group_arn,
            cloud_watch_logs_role_arn=role.role_arn,
            enable_log_file_validation=True,
            include_global_service_events=True,
            is_multi_region_trail=True,
            advanced_event_selectors=_selectors(self, stores),
        )
        trail.node.add_dependency(writes)
        for name, (metric_name, pattern) in _counted(self, tenant=tenant, keys=keys, stores=stores).items():
            self._count(name, metric_name=metric_name, pattern=pattern)

    def _count(self, name: str, *, metric_name: str, pattern: str) -> None:
        logs.CfnMetricFilter(
            self,
            name,
            log_group_name=self._group.log_group_name,
            filter_pattern=pattern,
            metric_transformations=[
                logs.CfnMetricFilter.MetricTransformationProperty(
                    metric_namespace=self._namespace, metric_name=metric_name, metric_value="1"
                )
            ],
        )

    def _writer(self) -> tuple[iam.Role, iam.ManagedPolicy]:
        role = iam.Role(
            self,
            "Writer",
            assumed_by=cast("iam.IPrincipal", iam.ServicePrincipal("cloudtrail.amazonaws.com")),
            description="Writes the tenant's trail into its log group",
        )
        writes = iam.ManagedPolicy(
            self,
            "Writes",
            roles=[cast("iam.IRole", role)],
            statements=[
                iam.PolicyStatement(
                    actions=["logs:CreateLogStream", "logs:PutLogEvents"],
                    resources=[self._group.log_group_arn],
                )
            ],
        )
        return role, writes


def _selectors(
    scope: Construct, stores: AuditedStores
) -> list[cloudtrail.CfnTrail.AdvancedEventSelectorProperty]:
    buckets = [f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}/" for bucket in stores.buckets]
    tables = [_arn(scope, "dynamodb", "table", name) for name in stores.tables]
    fields = cloudtrail.CfnTrail.AdvancedFieldSelectorProperty
    return [
        _selector("Management", _equals("eventCategory", "Management")),
        _selector(
            "Objects that hold patients' data",
            _equals("eventCategory", "Data"),
            _equals("resources.type", "AWS::S3::Object"),
            fields(field="resources.ARN", starts_with=buckets),
        ),
        _selector(
            "Records, events and states of answers and documents",
            _equals("eventCategory", "Data"),
            _equals("resources.type", "AWS::DynamoDB::Table"),
            fields(field="resources.ARN", equal_to=tables),
        ),
    ]


def _selector(
    name: str, *fields: cloudtrail.CfnTrail.AdvancedFieldSelectorProperty
) -> cloudtrail.CfnTrail.AdvancedEventSelectorProperty:
    return cloudtrail.CfnTrail.AdvancedEventSelectorProperty(name=name, field_selectors=list(fields))


def _equals(field: str, value: str) -> cloudtrail.CfnTrail.AdvancedFieldSelectorProperty:
    return cloudtrail.CfnTrail.AdvancedFieldSelectorProperty(field=field, equal_to=[value])


def _counted(
    scope: Construct, *, tenant: DeployedTenant, keys: KeysOutputs, stores: AuditedStores
) -> Mapping[str, tuple[str, str]]:
    """Return metric and pattern by the id of the filter."""
    glass = tenant.place.break_glass
    declared = [*tenant.config.observability.declared_principals, *glass]
    strangers = read_by_strangers(roles=_of_path(scope, "role", tenant), declared=declared)
    changes = _Changes(scope, tenant=tenant, keys=keys, stores=stores)
    return {
        "KeysRefused": (KEY_REFUSED, key_refused()),
        **{name: (POLICY_CHANGED, pattern) for name, pattern in changes.of_policies().items()},
        **{name: (TRUST_CHANGED, pattern) for name, pattern in changes.of_trust().items()},
        **{name: (DATA_COPIED, pattern) for name, pattern in changes.of_copies().items()},
        "StrangersRead": (STRANGER_READ, strangers),
        **({"GlassBroken": (BREAK_GLASS, read_by(glass))} if glass else {}),
    }


class _Changes:
    """Patterns of actions that only the deployment takes on the tenant's resources, by the id of the filter.

    Generated names begin with that of their stack. A pattern with a cut name also matches tenants whose names
    begin alike: two alarms are better than none.
    """

    def __init__(
        self, scope: Construct, *, tenant: DeployedTenant, keys: KeysOutputs, stores: AuditedStores
    ) -> None:
        place = tenant.place
        prefix = f"{f'{tenant.full_name}-'[:_LEFT_OF_STACK_NAME]}*"
        self._deployment = execution_role_arn(scope, tenant=tenant)
        self._roles = {
            "$.requestParameters.roleName": [prefix],
            "$.requestParameters.policyArn": [_of_path(scope, "policy", tenant)],
        }
        self._buckets = {"$.requestParameters.bucketName": [prefix]}
        own_keys = (
            keys.data_key_arn,
            keys.capture_key_arn,
            keys.feedback_key_arn,
            keys.models_key_arn,
            keys.logs_key_arn,
        )
        self._keys = {"$.resources[0].ARN": own_keys}
        queues = f"https://sqs.{place.region}.amazonaws.com/{place.account}/{prefix}"
        self._queues = {"$.requestParameters.queueUrl": [queues]}
        self._domain = {"$.requestParameters.domainName": [stores.domain_name]}
        self._domain_arn = {"$.requestParameters.aRN": [stores.domain_arn]}
        table_arn = _arn(scope, "dynamodb", "table", prefix)
        self._table_arn = {"$.requestParameters.resourceArn": [table_arn]}
        # A table is named by its name or its ARN, as the caller likes.
        self._tables = {
            "$.requestParameters.tableName": [prefix, table_arn],
            "$.requestParameters.globalTableName": [prefix],
        }
        self._table_sources = {
            **self._table_arn,
            "$.requestParameters.tableArn": [table_arn],
            "$.requestParameters.sourceTableName": [prefix],
            "$.requestParameters.sourceTableArn": [table_arn],
            "$.requestParameters.backupArn": [table_arn],
        }

    def of_policies(self) -> Mapping[str, str]:
        return {
            "RolesChanged": self._by_others(IAM_CHANGES, self._roles),
            "BucketsChanged": self._by_others(BUCKET_CHANGES, self._buckets),
            "KeysChanged": self._by_others(KEY_CHANGES, self._keys),
            "QueuesChanged": self._by_others(QUEUE_CHANGES, self._queues),
            "SearchChanged": self._by_others(SEARCH_CHANGES, self._domain),
            "TracesChanged": self._by_others(TRACE_CHANGES),
        }

    def of_trust(self) -> Mapping[str, str]:
        """Every policy tests the tag ``tenant``: the caller's (``aws:PrincipalTag``) and, in the boundary,
        the resource's (``aws:ResourceTag``)."""
        stores = {**self._buckets, **self._queues, **self._domain_arn, **self._table_arn}
        tagged = tagged_from_the_start(tag=_TRUSTED_TAG, deployment=self._deployment)
        return {
            "IdentitiesTagged": self._by_others(IDENTITY_TAGS),
            "IdentitiesMadeWithTag": tagged,
            "StoresTagged": self._by_others(RESOURCE_TAGS, stores),
            "KeysTagged": self._by_others(KEY_TAGS, self._keys),
        }

    def of_copies(self) -> Mapping[str, str]:
        return {
            "TablesExported": self._by_others(TABLE_EXPORTS, self._table_sources),
            "TablesCopied": self._by_others(TABLE_COPIES, self._tables),
            "BucketsCopied": self._by_others(BUCKET_COPIES, self._buckets),
            "SearchConnected": self._by_others(SEARCH_COPIES),
        }

    def _by_others(self, events: Sequence[str], of: Mapping[str, Sequence[str]] | None = None) -> str:
        return changed_by_others(events, deployment=self._deployment, of=of)


_TRUSTED_TAG = "tenant"

_LEFT_OF_STACK_NAME = 25
"""Characters that CloudFormation leaves of a stack's name in the name of a role (64) or bucket (63) that
would be too long. AWS does not document it; read off names in an account:
https://github.com/KensioSoftware/yulin/issues/1113."""


def _arn(scope: Construct, service: str, resource: str, name: str) -> str:
    return cdk.Stack.of(scope).format_arn(service=service, resource=resource, resource_name=name)


def _of_path(scope: Construct, kind: str, tenant: DeployedTenant) -> str:
    """Return the ARN of all roles or policies of the tenant: they have a path of their own."""
    return cdk.Stack.of(scope).format_arn(
        service="iam",
        region="",
        resource=f"{kind}{tenant.role_path}*",
        arn_format=cdk.ArnFormat.NO_RESOURCE_NAME,
    )
