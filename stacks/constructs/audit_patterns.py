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
    "PutBucketPolicy",
    "PutBucketPublicAccessBlock",
)
KEY_CHANGES = ("DisableKey", "PutKeyPolicy", "ScheduleKeyDeletion")
TRACE_CHANGES = ("DeleteFlowLogs", "DeleteTrail", "PutEventSelectors", "StopLogging", "UpdateTrail")
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
        f'(({_TYPE} != "AssumedRole") || ({_ISSUER} != "{deployment}"))',
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
