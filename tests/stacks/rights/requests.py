"""The requests of a role to a store, with every context that the role's policies may require."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tests.stacks.rights.evaluator import Request
from tests.stacks.rights.model import Account, Policy, Role, Store

ACCOUNT = "111122223333"
REGION = "us-east-1"
ACTIONS: Mapping[str, Mapping[str, str]] = {
    "bucket": {
        "s3:GetObject": "/{key}",
        "s3:GetObjectVersion": "/{key}",
        "s3:PutObject": "/{key}",
        "s3:DeleteObject": "/{key}",
        "s3:DeleteObjectVersion": "/{key}",
        "s3:ListBucket": "",
        "s3:ListBucketVersions": "",
        "s3:PutBucketPolicy": "",
    },
    "key": {
        "kms:Decrypt": "",
        "kms:Encrypt": "",
        "kms:GenerateDataKey": "",
        "kms:GenerateDataKeyWithoutPlaintext": "",
        "kms:ReEncryptFrom": "",
        "kms:CreateGrant": "",
        "kms:Sign": "",
        "kms:PutKeyPolicy": "",
        "kms:ScheduleKeyDeletion": "",
    },
    "queue": {
        "sqs:SendMessage": "",
        "sqs:ReceiveMessage": "",
        "sqs:DeleteMessage": "",
        "sqs:PurgeQueue": "",
        "sqs:SetQueueAttributes": "",
    },
    "topic": {"sns:Publish": "", "sns:Subscribe": "", "sns:SetTopicAttributes": ""},
    "table": {
        "dynamodb:GetItem": "",
        "dynamodb:BatchGetItem": "",
        "dynamodb:Query": "",
        "dynamodb:Scan": "",
        "dynamodb:PutItem": "",
        "dynamodb:UpdateItem": "",
        "dynamodb:DeleteItem": "",
        "dynamodb:BatchWriteItem": "",
        "dynamodb:DeleteTable": "",
    },
    "domain": {
        "es:ESHttpGet": "/{key}",
        "es:ESHttpHead": "/{key}",
        "es:ESHttpPost": "/{key}",
        "es:ESHttpPut": "/{key}",
        "es:ESHttpPatch": "/{key}",
        "es:ESHttpDelete": "/{key}",
        "es:UpdateDomainConfig": "",
    },
    "endpoint": {
        "sagemaker:InvokeEndpoint": "",
        "sagemaker:InvokeEndpointWithResponseStream": "",
        "sagemaker:UpdateEndpoint": "",
        "sagemaker:DeleteEndpoint": "",
    },
    "log group": {
        "logs:CreateLogStream": ":log-stream:x",
        "logs:PutLogEvents": ":log-stream:x",
        "logs:GetLogEvents": ":log-stream:x",
        # AWS takes a group's ARN with and without ":*" for these; policies say either.
        "logs:FilterLogEvents": "|:x",
        "logs:DeleteLogGroup": "|:x",
    },
    "parameter": {"ssm:GetParameter": "", "ssm:PutParameter": "", "ssm:DeleteParameter": ""},
    "secret": {
        "secretsmanager:GetSecretValue": "",
        "secretsmanager:PutSecretValue": "",
        "secretsmanager:UpdateSecret": "",
        "secretsmanager:DeleteSecret": "",
        "secretsmanager:PutResourcePolicy": "",
    },
    "function": {"lambda:InvokeFunction": "", "lambda:UpdateFunctionCode": ""},
    "state machine": {"states:StartExecution": ""},
    "stack": {"cloudformation:UpdateStack": "", "cloudformation:DeleteStack": ""},
    "role": {"iam:PassRole": "", "sts:AssumeRole": ""},
}
"""What reads, decrypts, writes or takes away, by kind of store, and where on it."""

KEY_USE = {
    "s3:GetObject": ("kms:Decrypt", "s3"),
    "s3:GetObjectVersion": ("kms:Decrypt", "s3"),
    "s3:PutObject": ("kms:GenerateDataKey", "s3"),
    "sqs:SendMessage": ("kms:GenerateDataKey", "sqs"),
    "sqs:ReceiveMessage": ("kms:Decrypt", "sqs"),
    "secretsmanager:GetSecretValue": ("kms:Decrypt", "secretsmanager"),
    "secretsmanager:PutSecretValue": ("kms:GenerateDataKey", "secretsmanager"),
    "secretsmanager:UpdateSecret": ("kms:GenerateDataKey", "secretsmanager"),
    **{
        f"dynamodb:{name}": ("kms:Decrypt", "dynamodb")
        for name in (
            "GetItem",
            "BatchGetItem",
            "Query",
            "Scan",
            "PutItem",
            "UpdateItem",
            "DeleteItem",
            "BatchWriteItem",
        )
    },
}
"""What the service asks of the store's key in the caller's name."""

_IN_VPC = ("lambda.amazonaws.com", "ecs-tasks.amazonaws.com")
_ENDPOINTS = {
    "dynamodb": "dynamodb",
    "kms": "kms",
    "s3": "s3",
    "sagemaker": "sagemaker.runtime",
    "secretsmanager": "secretsmanager",
    "sqs": "sqs",
    "ssm": "ssm",
}
_WITHIN = re.compile(r"arn:aws:(?:s3:::[^/]+|es:[^/]+/[^/]+)/(.+)")
_TAG = re.compile(r"\$\{aws:PrincipalTag/(\w+)\}")
_SAID_BY_AWS = ("aws:principal", "aws:source", "aws:resource", "aws:requested", "aws:called", "lambda:source")


def context_of(role: Role, **more: str) -> dict[str, str]:
    """Return the condition keys of the caller and the call, without tags of the resource."""
    return {
        **{f"aws:PrincipalTag/{key}": value for key, value in role.tags.items()},
        "aws:PrincipalArn": role.arn,
        "aws:PrincipalAccount": ACCOUNT,
        "aws:PrincipalIsAWSService": "false",
        "aws:RequestedRegion": REGION,
        "aws:ResourceAccount": ACCOUNT,
        "aws:SecureTransport": "true",
        "s3:TlsVersion": "1.3",
        **more,
    }


def asked(role: Role, action: str, store: Store) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield (resource, context) of all the ways in which the role's policies might let it: the keys of
    objects and the conditions that they name."""
    suffixes = ACTIONS[store.kind][action].split("|")
    resources = {store.arn + suffix.format(key=key) for suffix in suffixes for key in _keys(role, action)}
    for resource in sorted(resources):
        for obliging in _obliging(role, action):
            yield resource, context_of(role, **obliging)


def request(
    account: Account, role: Role, action: str, store: Store, *, resource: str, context: Mapping[str, str]
) -> Request:
    """Return the request with the policies of a deployed account."""
    return Request(
        principal=role.arn,
        action=action,
        resource=resource,
        account=ACCOUNT,
        context=context,
        identity=tuple(role.policies.values()),
        resource_policy=store.policy,
        boundary=None if role.boundary is None else account.policies[role.boundary],
        endpoint=_endpoint(account, role, action, context),
    )


def _endpoint(account: Account, role: Role, action: str, context: Mapping[str, str]) -> Policy | None:
    """What a service asks of KMS goes through no endpoint, nor does what Lambda and ECS do themselves."""
    if not set(role.assumed_by) & set(_IN_VPC) or "kms:ViaService" in context:
        return None
    return account.endpoints.get(role.tenant, {}).get(_ENDPOINTS.get(action.partition(":")[0], ""))


def allow_statements(role: Role) -> Iterator[Mapping[str, Any]]:
    for policy in role.policies.values():
        for statement in listed(policy["Statement"]):
            if statement["Effect"] == "Allow":
                yield statement


def covers(statement: Mapping[str, Any], action: str) -> bool:
    patterns = listed(statement.get("Action", statement.get("NotAction")))
    named = any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)
    return named == ("Action" in statement)


def listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _keys(role: Role, action: str) -> set[str]:
    """Return keys of objects, and paths of a domain, that the role's policies speak of for this action, and
    one that none does."""
    keys = {"any/thing"}
    for statement in allow_statements(role):
        for resource in listed(statement.get("Resource", [])) if covers(statement, action) else []:
            inner = _WITHIN.match(resource)
            if inner:
                keys.add(own(role, inner[1]).replace("*", "x"))
    return keys


def own(role: Role, text: str) -> str:
    """Put the role's tags in place of a policy's variables."""
    return _TAG.sub(lambda tag: role.tags.get(tag[1], tag[0]), text)


def _obliging(role: Role, action: str) -> list[dict[str, str]]:
    """Return contexts that fulfil the conditions of the role's statements on the request."""
    contexts: list[dict[str, str]] = [{}]
    for statement in allow_statements(role):
        if covers(statement, action):
            for context in fulfilled(statement.get("Condition", {})):
                contexts.append({key: own(role, value) for key, value in context.items()})
    return [context for number, context in enumerate(contexts) if context not in contexts[:number]]


def fulfilled(condition: Mapping[str, Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return contexts under which a condition holds; what AWS itself says of a request is not chosen."""
    wanted: dict[str, list[str]] = {}
    for operator, keys in condition.items():
        kind = operator.rpartition(":")[2].removesuffix("IfExists")
        if kind in ("StringEquals", "StringLike", "ArnEquals", "ArnLike", "Bool"):
            for key, values in keys.items():
                if not key.lower().startswith(_SAID_BY_AWS):
                    wanted[key] = [str(value).replace("*", "x") for value in listed(values)]
    ways = max((len(values) for values in wanted.values()), default=0)
    return [{key: values[way % len(values)] for key, values in wanted.items()} for way in range(ways)]
