"""The requests of a role to a store, with every context that the role's policies may require."""

from __future__ import annotations

import atexit
import fnmatch
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from cfnlint.schema import PROVIDER_SCHEMA_MANAGER

from tests.stacks.rights.model import Account, Policy, Role, Store, listed

HERE = Path(__file__).parent
NODE = Path(sys.executable).parent / "node"
_ENCRYPTION_CONTEXT = '"kms:EncryptionContext:'
_STAND_IN = '"aws:PrincipalTag/kms:EncryptionContext:'
"""The evaluator passes over keys with a part of the caller's choice after a colon, and takes them after a
slash. Put for it in policies and requests alike, so that nothing else changes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """``boundary`` and ``endpoint`` are None where there is no boundary or no endpoint policy."""

    principal: str
    action: str
    resource: str
    account: str
    context: Mapping[str, str]
    identity: Sequence[Policy] = ()
    resource_policy: Policy | None = None
    boundary: Policy | None = None
    endpoint: Policy | None = None
    s3_tags: bool = False
    """Whether the bucket tells its tags to policies (attribute-based access, off unless asked for)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    request: Request
    result: str
    """``Allowed``, ``ImplicitlyDenied`` or ``ExplicitlyDenied``; ``Error`` for an action that takes no such
    resource."""
    blocked_by: tuple[str, ...]

    @property
    def is_allowed(self) -> bool:
        return self.result == "Allowed"

    def __str__(self) -> str:
        asked = self.request
        return f"{asked.principal} {asked.action} {asked.resource}: {self.result} {self.blocked_by}"


def judge(requests: Iterable[Request], *, knows_all: bool = True) -> list[Judgement]:
    """Return a judgement on each request, in order. Raises where the evaluator refuses one; with
    ``knows_all=False`` its judgement is then an error."""
    book = _PolicyBook()
    asked = list(requests)
    sent = {"requests": [book.written(request) for request in asked], "policies": book.policies}
    evaluator = _evaluator()
    assert evaluator.stdin is not None
    assert evaluator.stdout is not None
    try:
        evaluator.stdin.write(json.dumps(sent).replace(_ENCRYPTION_CONTEXT, _STAND_IN) + "\n")
        evaluator.stdin.flush()
        told = evaluator.stdout.readline()
    except BrokenPipeError:
        told = ""
    if not told:
        _evaluator.cache_clear()
        raise RuntimeError(
            f"the evaluator failed (npm ci --prefix {HERE} installs it): status {evaluator.wait()}"
        )
    judged = [
        Judgement(request=request, result=result, blocked_by=tuple(blocked_by))
        for request, (result, blocked_by) in zip(asked, json.loads(told), strict=True)
    ]
    if knows_all and (unknown := [str(one) for one in judged if one.result == "Error"]):
        raise RuntimeError(f"the evaluator refused {unknown[:10]}")
    return judged


@cache
def _evaluator() -> subprocess.Popen[str]:
    """Start the evaluator, which takes a line of requests at a time, once for this process: it reads AWS's
    actions for a second."""
    command = [str(NODE), str(HERE / "evaluate.mjs")]
    started = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(started.communicate)
    return started


@dataclass(slots=True)
class _PolicyBook:
    """Each policy once, because many requests share it."""

    policies: dict[str, Policy] = field(default_factory=dict[str, Policy])
    _names: dict[int, str] = field(default_factory=dict[int, str])

    def written(self, request: Request) -> dict[str, Any]:
        return {
            "principal": request.principal,
            "action": request.action,
            "resource": request.resource,
            "account": request.account,
            "context": request.context,
            "identity": [self._name(policy) for policy in request.identity],
            "resource_policy": self._name_or_none(request.resource_policy),
            "boundary": None if request.boundary is None else [self._name(request.boundary)],
            "endpoint": None if request.endpoint is None else [self._name(request.endpoint)],
            "s3_tags": request.s3_tags,
        }

    def _name_or_none(self, policy: Policy | None) -> str | None:
        return None if policy is None else self._name(policy)

    def _name(self, policy: Policy) -> str:
        name = self._names.get(id(policy))
        if name is None:
            name = self._names[id(policy)] = f"policy-{len(self.policies)}"
            self.policies[name] = policy
        return name


ACCOUNT = "111122223333"
REGION = "us-east-1"
_ROWS = "GetItem BatchGetItem Query Scan PutItem UpdateItem DeleteItem BatchWriteItem"


def _named(service: str, names: str, inside: str = "") -> dict[str, str]:
    return {f"{service}:{name}": inside for name in names.split()}


ACTIONS: Mapping[str, Mapping[str, str]] = {
    "bucket": _named("s3", "GetObject GetObjectVersion PutObject DeleteObject DeleteObjectVersion", "/{key}")
    | _named("s3", "ListBucket ListBucketVersions PutBucketPolicy"),
    "key": _named(
        "kms",
        """Decrypt Encrypt GenerateDataKey GenerateDataKeyWithoutPlaintext ReEncryptFrom CreateGrant Sign
        PutKeyPolicy ScheduleKeyDeletion""",
    ),
    "queue": _named("sqs", "SendMessage ReceiveMessage DeleteMessage PurgeQueue SetQueueAttributes"),
    "topic": _named("sns", "Publish Subscribe SetTopicAttributes"),
    "table": _named("dynamodb", f"{_ROWS} DeleteTable"),
    "domain": _named("es", "ESHttpGet ESHttpHead ESHttpPost ESHttpPut ESHttpPatch ESHttpDelete", "/{key}")
    | _named("es", "UpdateDomainConfig"),
    "endpoint": _named(
        "sagemaker", "InvokeEndpoint InvokeEndpointWithResponseStream UpdateEndpoint DeleteEndpoint"
    ),
    "log group": _named("logs", "CreateLogStream PutLogEvents GetLogEvents", ":log-stream:x")
    # AWS takes a group's ARN with and without ":*" for these; policies say either.
    | _named("logs", "FilterLogEvents DeleteLogGroup", "|:x"),
    "parameter": _named("ssm", "GetParameter PutParameter DeleteParameter"),
    "secret": _named(
        "secretsmanager", "GetSecretValue PutSecretValue UpdateSecret DeleteSecret PutResourcePolicy"
    ),
    "function": _named("lambda", "InvokeFunction UpdateFunctionCode"),
    "state machine": _named("states", "StartExecution"),
    "stack": _named("cloudformation", "UpdateStack DeleteStack"),
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
    **{f"dynamodb:{name}": ("kms:Decrypt", "dynamodb") for name in _ROWS.split()},
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


def schema_actions(kind: str) -> list[str]:
    """Return the actions by which CloudFormation makes, changes, reads and deletes a resource of a type."""
    handlers = PROVIDER_SCHEMA_MANAGER.get_resource_schema(REGION, kind).schema["handlers"]
    return sorted(
        {action for name, each in handlers.items() if name != "list" for action in each["permissions"]}
    )


EXECUTION_ROLE = f"arn:aws:iam::{ACCOUNT}:role/cdk-hnb659fds-cfn-exec-role-{ACCOUNT}-{REGION}"
