"""The audit of a tenant's stores, keys and policies: the events of CloudTrail that concern the tenant, in a
log group of its own, and the metric filters over them.

The account's trail (``stacks.trail``) records the events. Rules of EventBridge in the tenant's region send
those of its own stores, keys and roles to the group (``_rules``), so no filter has to know other tenants
(docs/decisions/0162-one-trail-an-account.md).

Syntax of patterns: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html.
``*`` at the end of a term matches any rest. No pattern relies on a comparison with a field that an event
lacks: each clause first tests for the type of identity that has the field. The filter ``KeysChanged``,
shortened:

    { (($.detail.eventName = "DisableKey") || ($.detail.eventName = "PutKeyPolicy")) &&
      ($.detail.eventSource = "kms.amazonaws.com") &&
      (($.detail.userIdentity.type != "AssumedRole") ||
       (($.detail.userIdentity.sessionContext.sessionIssuer.arn != "<deployment role>"))) }

Each filter adds 1 to a metric, and ``stacks.observability.alarms`` has an alarm on each metric.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple
from typing import Any

import aws_cdk as cdk
from aws_cdk import aws_events as events
from aws_cdk import aws_logs as logs
from constructs import Construct

from assistant.domain.errors import ConfigurationError
from assistant.tenant.deployed_names import ACCOUNT_STACK
from stacks.observability.alarms import (
    BREAK_GLASS,
    DATA_COPIED,
    KEY_REFUSED,
    POLICY_CHANGED,
    STRANGER_READ,
    TRUST_CHANGED,
)
from stacks.outputs import DataOutputs, KeysOutputs
from stacks.roles import bucket_arn, execution_role_arn, log_group_arn, resource_arn
from stacks.tenant import DeployedTenant
from stacks.tenant_stack import tenant_log_group, tenant_of
from template_checks.policies import generated_prefix

LONGEST = 1024
"""Characters of a pattern: a quota of CloudWatch Logs."""
_TOKEN = re.compile(r"\$\{Token\[(?P<name>[\w.]*?)\.\d+\]\}")
"""What stands in a pattern for a value that CDK knows later; its own length says nothing."""
_LENGTHS = {"AWS.Partition": len("aws-us-gov")}
_LONGEST_ARN = 100
"""Characters of the ARN of a store: names have at most 28 in a domain, 63 in a bucket."""

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
IDENTITY_TAGS = ("TagRole", "TagUser", "UntagRole", "UntagUser")
IDENTITIES_MADE = ("CreateRole", "CreateUser")
SESSIONS_MADE = ("AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity")
"""Calls that may set the tag ``tenant`` when they create a session: by its value every policy would treat
another team's role as the tenant's."""
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
_KEY_USES = ("Decrypt", "Encrypt", "GenerateDataKey*", "ReEncrypt*", "CreateGrant")
_NAME = "$.detail.eventName"
_ISSUER = "$.detail.userIdentity.sessionContext.sessionIssuer.arn"
_TYPE = "$.detail.userIdentity.type"


def key_refused() -> str:
    """Return the pattern of refused uses of a KMS key."""
    return _whole(
        '($.detail.eventSource = "kms.amazonaws.com")',
        '($.detail.errorCode = "AccessDenied*")',
        _any(_NAME, _KEY_USES),
    )


def changed_by_others(events: Sequence[str], *, roles: Sequence[str], where: str | None) -> str:
    """Return the pattern of these events by anyone but these roles (their ARNs). ``where``: a further clause,
    such as the resources; None: any."""
    other_role = _all(*(f'{_ISSUER} != "{arn}"' for arn in roles))
    by_others = f'(({_TYPE} != "AssumedRole") || {other_role})'
    return _whole(_any(_NAME, events), *([where] if where else []), by_others)


def _named(parameters: Mapping[str, Sequence[str]]) -> str:
    """Return the clause of requests that name one of these values in one of these parameters."""
    return _or(
        f'$.detail.requestParameters.{name} = "{value}"'
        for name, values in parameters.items()
        for value in values
    )


def read_by_strangers(*, roles: str, declared: Sequence[str]) -> str:
    """Return the pattern of reads of stores by strangers: identities neither of the path ``roles`` (an ARN
    that ends with ``*``) nor among ``declared`` (ARNs of roles and users).

    Types of identity: roles and users are compared by ARN; ``AWSService`` (a service on its own behalf) is no
    stranger; any other type, such as the account's root, always is.
    """
    known_roles = [roles, *(arn for arn in declared if ":role/" in arn)]
    known_users = [arn for arn in declared if ":user/" in arn]
    strange_role = _all(f'{_TYPE} = "AssumedRole"', *(f'{_ISSUER} != "{arn}"' for arn in known_roles))
    strange_user = _all(
        f'{_TYPE} = "IAMUser"', *(f'$.detail.userIdentity.arn != "{arn}"' for arn in known_users)
    )
    others = _all(*(f'{_TYPE} != "{kind}"' for kind in ("AssumedRole", "IAMUser", "AWSService")))
    return _whole(*_READS, f"({strange_role} || {strange_user} || {others})")


def read_by(arns: Sequence[str]) -> str:
    """Return the pattern of reads by roles of these ARNs."""
    return _whole(*_READS, _any(_ISSUER, arns))


_READS = ('($.detail.eventCategory = "Data")', "($.detail.readOnly IS TRUE)")
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
    length = len(_TOKEN.sub(lambda token: "x" * _LENGTHS.get(token["name"], _LONGEST_ARN), pattern))
    if length > LONGEST:
        raise ConfigurationError(
            f"[observability] declared_principals or [deployment] break_glass: the filter over them has "
            f"{length} characters, CloudWatch takes {LONGEST}; name several at once by an ARN that "
            "ends with *."
        )
    return pattern


class AuditLog(Construct):
    """The log group of the tenant's events, the rules that fill it, and the filters that count them.

    ``job_buckets``: those of training and corpora. ``namespace``: of the filters' metrics. A store that can
    contain a patient's text and whose reads do not come here has a reason in docs/hipaa.md, "Whose reads are
    recorded" (tested).
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
        group = tenant_log_group(self, "Events", logs_key_arn=keys.logs_key_arn)
        self.log_group_name = group.log_group_name
        for name, detail in _rules(self, keys=keys, data=data, job_buckets=job_buckets).items():
            add_rule(self, name, {"detail": detail}, arn=log_group_arn(self, self.log_group_name))
        for name, (metric, pattern) in _filters(self, data).items():
            counted = logs.CfnMetricFilter.MetricTransformationProperty(
                metric_namespace=namespace, metric_name=metric, metric_value="1"
            )
            logs.CfnMetricFilter(
                self,
                name,
                log_group_name=self.log_group_name,
                filter_pattern=pattern,
                metric_transformations=[counted],
            )


def add_rule(
    scope: Construct, name: str, pattern: Mapping[str, Any], *, arn: str, role_arn: str | None = None
) -> events.CfnRule:
    """Add a rule over CloudTrail's events, read-only ones too: AssumeRole and refused uses of keys are.
    ``arn``: of its target; ``role_arn``: only for a bus."""
    return events.CfnRule(
        scope,
        name,
        state="ENABLED_WITH_ALL_CLOUDTRAIL_MANAGEMENT_EVENTS",
        event_pattern={"detail-type": [{"suffix": " via CloudTrail"}], **pattern},
        targets=[events.CfnRule.TargetProperty(id="Target", arn=arn, role_arn=role_arn)],
    )


def _rules(
    scope: Construct, *, keys: KeysOutputs, data: DataOutputs, job_buckets: Sequence[str]
) -> Mapping[str, Mapping[str, Any]]:
    """Return the tenant's rules as patterns of CloudTrail's record, by construct id: changes (of any tenant's
    stores: the filters select), keys, and calls on the content of stores."""
    tenant = tenant_of(scope)
    named = {name: value for name, value in asdict(data).items() if name not in _NOT_WATCHED}
    buckets = [*(value for name, value in named.items() if name.endswith("_bucket")), *job_buckets]
    tables = [value for name, value in named.items() if name.endswith("_table")]
    stores: list[Any] = [bucket_arn(scope, name) for name in buckets]
    stores += [{"prefix": resource_arn(scope, "dynamodb", "table", name)} for name in tables]
    tag, role = {"key": _TAG, "value": [tenant.name]}, {"prefix": generated_prefix(tenant.full_name)}
    made = [*IDENTITY_TAGS, *IDENTITIES_MADE, *SESSIONS_MADE]
    changes = [
        {"eventName": list(_CHANGES), "eventSource": [{"anything-but": "kms.amazonaws.com"}]},
        {"eventSource": ["backup.amazonaws.com"]},
        {"eventName": list(IDENTITY_TAGS), "requestParameters": {"roleName": [role]}},
        {"eventName": made, "requestParameters": {"tags": tag}},
        {"eventName": made, "requestParameters": {"principalTags": {"tenant": [tenant.name]}}},
    ]
    used = [{"errorCode": [{"prefix": "AccessDenied"}]}, {"readOnly": [False]}]
    of_keys = {"eventSource": ["kms.amazonaws.com"], "resources": {"ARN": list(astuple(keys))}, "$or": used}
    return {
        "Changes": {"eventCategory": ["Management"], "$or": changes},
        "Keys": of_keys,
        "Reads": {"eventCategory": ["Data"], "resources": {"ARN": stores}},
    }


_NOT_WATCHED = ("models_bucket", "logs_bucket", "trail_bucket")
"""Outputs of the data stack that name stores without a patient's text."""
_TAG = [{"equals-ignore-case": "tenant"}]
"""Key of the tag that policies trust: IAM does not distinguish its case."""
_CHANGES = (
    *(*IAM_CHANGES, *BUCKET_CHANGES, *QUEUE_CHANGES, *SEARCH_CHANGES, *TRACE_CHANGES, *RESOURCE_TAGS),
    *(*TABLE_EXPORTS, *TABLE_COPIES, "CreateBackup", *BUCKET_COPIES, *SEARCH_COPIES),
    "PutSecretValue",  # for a query of the runbook, as AWS Backup's events are
)


def identity_events(region: str) -> Mapping[str, Any]:
    """Return the event pattern of changes of identities in ``region``, which concern tenants of others."""
    made, tenant = {"eventName": list(SESSIONS_MADE)}, {"tenant": [{"exists": True}]}
    changes = [
        {"eventName": [*IAM_CHANGES, *IDENTITY_TAGS, *IDENTITIES_MADE, *TRACE_CHANGES]},
        {**made, "requestParameters": {"tags": {"key": _TAG}}},
        {**made, "requestParameters": {"principalTags": tenant}},
    ]
    # By its region an event is not sent on from where it was sent to.
    return {"region": [region], "detail": {"$or": changes}}


def _filters(scope: Construct, data: DataOutputs) -> Mapping[str, tuple[str, str]]:
    """Return metric and pattern by the construct id of the filter, over the events that ``_rules`` let in.

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
    # The name of the account's trail bucket begins with that of its stack.
    or_trail = {"bucketName": [prefix, f"{ACCOUNT_STACK.lower()}*"]}
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
    on_keys = '($.detail.eventSource = "kms.amazonaws.com")'
    # By the filter's id: its metric, the events, and the clause that selects the tenant's resources (None:
    # any).
    changes = {
        "RolesChanged": (POLICY_CHANGED, IAM_CHANGES, _named(roles)),
        "BucketsChanged": (POLICY_CHANGED, BUCKET_CHANGES, _named(or_trail)),
        "KeysChanged": (POLICY_CHANGED, KEY_CHANGES, on_keys),
        "QueuesChanged": (POLICY_CHANGED, QUEUE_CHANGES, _named(queues)),
        "SearchChanged": (POLICY_CHANGED, SEARCH_CHANGES, _named({"domainName": [data.domain_name]})),
        "TracesChanged": (POLICY_CHANGED, TRACE_CHANGES, None),
        # Every policy tests the tag `tenant`: the caller's (`aws:PrincipalTag`) and, in the boundary, the
        # resource's (`aws:ResourceTag`). The rule selects identities of this tenant's name or tag.
        "IdentitiesTagged": (TRUST_CHANGED, (*IDENTITY_TAGS, *IDENTITIES_MADE, *SESSIONS_MADE), None),
        "StoresTagged": (TRUST_CHANGED, RESOURCE_TAGS, _named({**buckets, **queues, **by_arn})),
        "KeysTagged": (TRUST_CHANGED, RESOURCE_TAGS, on_keys),
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
