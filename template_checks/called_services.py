"""The AWS services that actions go to, and their endpoints."""

from __future__ import annotations

from collections.abc import Mapping

from template_checks.policies import Statement

_ENDPOINTS: Mapping[str, tuple[str, ...]] = {
    "cloudwatch": ("monitoring",),
    "ecr": ("ecr.api", "ecr.dkr"),
    "firehose": ("kinesis-firehose",),
    "kinesis": ("kinesis-streams",),
}
"""Prefix of an action = services of the endpoints ("AWS services that integrate with AWS PrivateLink")."""
_SAME_NAME = frozenset(
    {
        *("dynamodb", "s3", "sns", "sqs", "events", "scheduler", "states"),
        *("kms", "secretsmanager", "ssm", "ssmmessages", "sts", "cognito-idp"),
        *("ecs", "lambda", "logs", "xray", "execute-api", "athena", "glue"),
        *("comprehend", "polly", "textract", "transcribe", "translate"),
    }
)
"""Prefixes of actions whose endpoint's service has the same name."""


def services_of(action: str) -> tuple[str, ...]:
    """Return the services whose endpoints an action goes through; none for an unknown prefix."""
    prefix, _, name = action.lower().partition(":")
    if prefix == "sagemaker":
        return ("sagemaker.runtime",) if name.startswith(("invokeendpoint", "*")) else ("sagemaker.api",)
    if prefix == "bedrock":
        return ("bedrock-runtime",) if name.startswith(("invoke", "converse")) else ("bedrock",)
    return (prefix,) if prefix in _SAME_NAME else _ENDPOINTS.get(prefix, ())


def is_for_kms_through_service(statement: Statement, action: str) -> bool:
    """Return whether a statement lets another service call KMS for the role, from its own network."""
    keys = {key.lower() for keys in statement.conditions.values() for key in keys}
    return action.lower().startswith("kms:") and "kms:viaservice" in keys


def is_private_registry(image: str) -> bool:
    """Return whether an image is in a private ECR registry."""
    return ".dkr.ecr." in image
