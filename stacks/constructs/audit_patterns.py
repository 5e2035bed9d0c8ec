"""Filter patterns over CloudTrail's events in CloudWatch Logs.

Syntax: https://docs.aws.amazon.com/AmazonCloudWatch/latest/logs/FilterAndPatternSyntax.html. ``*`` ends a
term that may go on. A comparison with a field that an event lacks is not relied upon: each clause asks for
the type of identity that has the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from assistant.domain.errors import ConfigurationError

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
"""Of anybody in the account: a role of another team with this tenant's tag is this tenant's to every wall."""
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
"""``UpdateTable`` adds a replica or a stream; nobody but the deployment updates these tables at all."""
BUCKET_COPIES = ("PutBucketInventoryConfiguration", "PutBucketNotification", "PutBucketReplication")
SEARCH_COPIES = ("AcceptInboundConnection", "CreateOutboundConnection")
_LOOKED_AT = 5
"""Tags of a request in which the tenant's is looked for: a pattern names elements of a list by number."""
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
    """Return the pattern of these events by anyone but the deployment's role (its ARN), on what one of the
    fields in ``of`` names; on anything when it is absent."""
    named = [f'({field} = "{value}")' for field, values in (of or {}).items() for value in values]
    return _whole(
        _any("$.eventName", events),
        *([f"({' || '.join(named)})"] if named else []),
        _by_others(deployment),
    )


def tagged_from_the_start(*, tag: str, deployment: str) -> str:
    """Return the pattern of a role, user or session that anyone but the deployment makes with a tag."""
    places = [f"$.requestParameters.tags[{number}].key" for number in range(_LOOKED_AT)]
    tagged = [f'({place} = "{tag}")' for place in places]
    tagged.append(f'($.requestParameters.principalTags.{tag} = "*")')
    return _whole(
        _any("$.eventName", TAGGED_FROM_THE_START), f"({' || '.join(tagged)})", _by_others(deployment)
    )


def read_by_strangers(*, roles: str, declared: Sequence[str]) -> str:
    """Return the pattern of reads of stores by whoever is neither one of ``roles`` (an ARN that ends with
    ``*``) nor declared. AWS services read on nobody's behalf under their own type."""
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
