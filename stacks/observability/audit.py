"""The audit of a tenant's stores, keys and policies: CloudTrail, and the metric filters over its events.

Syntax of patterns: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html.
``*`` at the end of a term matches any rest. No pattern relies on a comparison with a field that an event
lacks: each clause first tests for the type of identity that has the field. The filter ``KeysChanged``,
shortened:

    { (($.eventName = "DisableKey") || ($.eventName = "PutKeyPolicy")) &&
      (($.resources[0].ARN = "arn:…:key/1")) &&
      (($.userIdentity.type != "AssumedRole") ||
       (($.userIdentity.sessionContext.sessionIssuer.arn != "<deployment role>"))) }

Each filter adds 1 to a metric, and ``stacks.observability.alarms`` has an alarm on each metric.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple
from typing import cast

import aws_cdk as cdk
from aws_cdk import aws_cloudtrail as cloudtrail
from aws_cdk import aws_iam as iam
from aws_cdk import aws_logs as logs
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from stacks.buckets import TRAILS
from stacks.observability.alarms import (
    BREAK_GLASS,
    DATA_COPIED,
    KEY_REFUSED,
    POLICY_CHANGED,
    STRANGER_READ,
    TRUST_CHANGED,
)
from stacks.outputs import DataOutputs, KeysOutputs
from stacks.roles import allow, execution_role_arn, resource_arn
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import tenant_log_group, tenant_of
from template_checks.policies import generated_prefix

LONGEST = 1024
"""Characters of a pattern: a quota of CloudWatch Logs."""

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
# Changes of what records traces of calls: trails and flow logs.
TRACE_CHANGES = ("DeleteFlowLogs", "DeleteTrail", "PutEventSelectors", "StopLogging", "UpdateTrail")
_TRUSTED_TAG = "tenant"
IDENTITY_TAGS = ("TagRole", "TagUser", "UntagRole", "UntagUser")
"""Changes of tags that raise an alarm for any identity of the account: every policy would treat another
team's role with this tenant's tag as the tenant's."""
TAGGED_FROM_THE_START = (
    "AssumeRole",
    "AssumeRoleWithSAML",
    "AssumeRoleWithWebIdentity",
    "CreateRole",
    "CreateUser",
)
"""Calls that may set the tag when they create an identity or a session."""
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
    "CreateGlobalTable",
    "CreateTableReplica",
    "EnableKinesisStreamingDestination",
    "UpdateTable",
)
"""``UpdateTable`` adds a replica or a stream; only the deployment updates these tables."""
BUCKET_COPIES = ("PutBucketInventoryConfiguration", "PutBucketNotification", "PutBucketReplication")
SEARCH_COPIES = ("AcceptInboundConnection", "CreateOutboundConnection")
_TAGS_SEARCHED = 5
"""How many of a request's tags are searched for the tenant's: a pattern refers to list elements by number, so
it must name each (``tags[0].key`` to ``tags[4].key``)."""
_KEY_USES = ("Decrypt", "Encrypt", "GenerateDataKey*", "ReEncrypt*", "CreateGrant")
_ISSUER = "$.userIdentity.sessionContext.sessionIssuer.arn"
_TYPE = "$.userIdentity.type"


def key_refused() -> str:
    """Return the pattern of refused uses of any KMS key."""
    return _whole(
        '($.eventSource = "kms.amazonaws.com")',
        '($.errorCode = "AccessDenied*")',
        _any("$.eventName", _KEY_USES),
    )


def changed_by_others(events: Sequence[str], *, roles: Sequence[str], where: str | None) -> str:
    """Return the pattern of these events by anyone but these roles (their ARNs). ``where``: a further clause,
    such as the resources; None: any."""
    other_role = _all(*(f'{_ISSUER} != "{arn}"' for arn in roles))
    by_others = f'(({_TYPE} != "AssumedRole") || {other_role})'
    return _whole(_any("$.eventName", events), *([where] if where else []), by_others)


def _named(parameters: Mapping[str, Sequence[str]]) -> str:
    """Return the clause of requests that name one of these values in one of these parameters."""
    return _or(
        f'$.requestParameters.{name} = "{value}"' for name, values in parameters.items() for value in values
    )


def _tagged(tag: str) -> str:
    """Return the clause of requests that create a role, user or session with the tag of this key."""
    places = [f"tags[{number}].key" for number in range(_TAGS_SEARCHED)]
    return _named({**{place: [tag] for place in places}, f"principalTags.{tag}": ["*"]})


def read_by_strangers(*, roles: str, declared: Sequence[str]) -> str:
    """Return the pattern of reads of stores by strangers: identities neither of the path ``roles`` (an ARN
    that ends with ``*``) nor among ``declared`` (ARNs of roles and users).

    Types of identity: roles and users are compared by ARN; ``AWSService`` (a service on its own behalf) is no
    stranger; any other type, such as the account's root, always is.
    """
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
"""Clauses of a read of content: an object or an item."""


def _any(field: str, values: Iterable[str]) -> str:
    return _or(f'{field} = "{value}"' for value in values)


def _or(clauses: Iterable[str]) -> str:
    return "(" + " || ".join(f"({clause})" for clause in clauses) + ")"


def _all(*clauses: str) -> str:
    return "(" + " && ".join(f"({clause})" for clause in clauses) + ")"


def _whole(*clauses: str) -> str:
    """Return the pattern of events for which all clauses hold. Raises ConfigurationError if it is too
    long."""
    pattern = "{ " + " && ".join(clauses) + " }"
    if len(pattern) > LONGEST:
        raise ConfigurationError(
            f"[observability] declared_principals or [deployment] break_glass: the filter over them has "
            f"{len(pattern)} characters, CloudWatch takes {LONGEST}; name several at once by an ARN that "
            "ends with *."
        )
    return pattern


class AuditTrail(Construct):
    """A trail of management events and each access to patients' data. It covers all regions, because IAM
    reports its changes in one of them.

    ``job_buckets``: those of training and corpora. ``namespace``: of the filters' metrics. A store that can
    contain a patient's text and is not recorded has a reason in docs/hipaa.md, "Whose reads are recorded"
    (tested).
    """

    def __init__(
        self,
        scope: Construct,
        construct_id: str,
        *,
        keys: KeysOutputs,
        data: DataOutputs,
        job_buckets: Sequence[str],
        namespace: str,
    ) -> None:
        super().__init__(scope, construct_id)
        self._group = tenant_log_group(self, "Events", logs_key_arn=keys.logs_key_arn)
        self.log_group_name = self._group.log_group_name
        role, writes = self._writer()
        trail = cloudtrail.CfnTrail(
            self,
            "Trail",
            is_logging=True,
            s3_bucket_name=data.trail_bucket,
            s3_key_prefix=TRAILS,
            kms_key_id=keys.logs_key_arn,
            cloud_watch_logs_log_group_arn=self._group.log_group_arn,
            cloud_watch_logs_role_arn=role.role_arn,
            enable_log_file_validation=True,
            include_global_service_events=True,
            is_multi_region_trail=True,
            advanced_event_selectors=_selectors(self, data, job_buckets),
        )
        trail.node.add_dependency(writes)
        for name, (metric, pattern) in _filters(self, keys=keys, data=data).items():
            counted = logs.CfnMetricFilter.MetricTransformationProperty(
                metric_namespace=namespace, metric_name=metric, metric_value="1"
            )
            logs.CfnMetricFilter(
                self,
                name,
                log_group_name=self._group.log_group_name,
                filter_pattern=pattern,
                metric_transformations=[counted],
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
            statements=[allow(("logs:CreateLogStream", "logs:PutLogEvents"), self._group.log_group_arn)],
        )
        return role, writes


def _selectors(
    scope: Construct, data: DataOutputs, job_buckets: Sequence[str]
) -> list[cloudtrail.CfnTrail.AdvancedEventSelectorProperty]:
    """Return what the trail records: all management events, and calls on objects and items of these
    stores."""
    names = (
        data.documents_bucket,
        data.inbox_bucket,
        data.quarantine_bucket,
        data.capture_bucket,
        data.labels_bucket,
        data.texts_bucket,
        *job_buckets,
    )
    buckets = [f"arn:{cdk.Aws.PARTITION}:s3:::{bucket}/" for bucket in names]
    tables = [
        resource_arn(scope, "dynamodb", "table", name)
        for name in (data.records_table, data.events_table, data.states_table, data.desk_table)
    ]
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


def _filters(scope: Construct, *, keys: KeysOutputs, data: DataOutputs) -> Mapping[str, tuple[str, str]]:
    """Return metric and pattern by the construct id of the filter.

    Resources are selected by the beginning of their generated names, which CloudFormation may cut. So a
    pattern may also match another tenant whose name begins alike; then both have an alarm.
    """
    tenant = tenant_of(scope)
    place, break_glass = tenant.place, tenant.place.break_glass
    deployment = execution_role_arn(scope, tenant=tenant)
    prefix = f"{generated_prefix(tenant.full_name)}*"
    table_arn = resource_arn(scope, "dynamodb", "table", prefix)
    roles = {"roleName": [prefix], "policyArn": [_of_path(scope, "policy", tenant)]}
    buckets = {"bucketName": [prefix]}
    queues = {"queueUrl": [f"https://sqs.{place.region}.amazonaws.com/{place.account}/{prefix}"]}
    by_arn = {"aRN": [data.domain_arn], "resourceArn": [table_arn]}
    # A table is named by its name or its ARN, as the caller likes.
    tables = {"tableName": [prefix, table_arn], "globalTableName": [prefix]}
    table_sources = {
        "resourceArn": [table_arn],
        "tableArn": [table_arn],
        "sourceTableName": [prefix],
        "sourceTableArn": [table_arn],
        "backupArn": [table_arn],
    }
    is_our_key = _any("$.resources[0].ARN", astuple(keys))
    # By the filter's id: its metric, the events, and the clause that selects the tenant's resources (None:
    # any).
    changes = {
        "RolesChanged": (POLICY_CHANGED, IAM_CHANGES, _named(roles)),
        "BucketsChanged": (POLICY_CHANGED, BUCKET_CHANGES, _named(buckets)),
        "KeysChanged": (POLICY_CHANGED, KEY_CHANGES, is_our_key),
        "QueuesChanged": (POLICY_CHANGED, QUEUE_CHANGES, _named(queues)),
        "SearchChanged": (POLICY_CHANGED, SEARCH_CHANGES, _named({"domainName": [data.domain_name]})),
        "TracesChanged": (POLICY_CHANGED, TRACE_CHANGES, None),
        # Every policy tests the tag `tenant`: the caller's (`aws:PrincipalTag`) and, in the boundary, the
        # resource's (`aws:ResourceTag`).
        "IdentitiesTagged": (TRUST_CHANGED, IDENTITY_TAGS, None),
        "IdentitiesMadeWithTag": (TRUST_CHANGED, TAGGED_FROM_THE_START, _tagged(_TRUSTED_TAG)),
        "StoresTagged": (TRUST_CHANGED, RESOURCE_TAGS, _named({**buckets, **queues, **by_arn})),
        "KeysTagged": (TRUST_CHANGED, KEY_TAGS, is_our_key),
        "TablesExported": (DATA_COPIED, TABLE_EXPORTS, _named(table_sources)),
        "TablesCopied": (DATA_COPIED, TABLE_COPIES, _named(tables)),
        "TablesBackedUp": (DATA_COPIED, ("CreateBackup",), _named(tables)),
        "BucketsCopied": (DATA_COPIED, BUCKET_COPIES, _named(buckets)),
        "SearchConnected": (DATA_COPIED, SEARCH_COPIES, None),
    }
    # AWS Backup, by a role that does nothing else, changes a bucket's notifications and copies tables.
    may_copy = [deployment, *([data.backup_role_arn] if data.backup_role_arn else [])]
    others_allowed = {"TablesBackedUp": may_copy, "BucketsCopied": may_copy}
    filters = {
        name: (metric, changed_by_others(events, roles=others_allowed.get(name, [deployment]), where=where))
        for name, (metric, events, where) in changes.items()
    }
    filters["KeysRefused"] = (KEY_REFUSED, key_refused())
    declared = [*tenant.config.observability.declared_principals, *break_glass]
    strangers = read_by_strangers(roles=_of_path(scope, "role", tenant), declared=declared)
    filters["StrangersRead"] = (STRANGER_READ, strangers)
    if break_glass:
        filters["GlassBroken"] = (BREAK_GLASS, read_by(break_glass))
    return filters


def _of_path(scope: Construct, kind: str, tenant: DeployedTenant) -> str:
    """Return the pattern of the ARNs of the tenant's roles or policies, which are below its path
    (``arn:aws:iam::<account>:role/assistant/pharmacy/*``)."""
    return cdk.Stack.of(scope).format_arn(
        service="iam",
        region="",
        resource=f"{kind}{tenant.role_path}*",
        arn_format=cdk.ArnFormat.NO_RESOURCE_NAME,
    )
