"""Policies in templates: their statements, the roles that have them, and the names of resources in them.

``permissions`` decides what statements mean for a request.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from template_checks.conditions import MADE_UP, any_of, covers, matches, negated
from template_checks.templates import Resource, Templates
from template_checks.values import Joined, Target, Value, at, is_known, items, mapping, text

BUCKET = "AWS::S3::Bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement of a policy; resources as ``plain`` writes them."""

    effect: str
    actions: tuple[str, ...]
    not_actions: tuple[str, ...]
    resources: tuple[str, ...]
    not_resources: tuple[str, ...]
    principals: Mapping[str, tuple[str, ...]]
    """By kind (``AWS``, ``Service``); the kind ``*`` is everybody."""
    not_principals: Mapping[str, tuple[str, ...]]
    conditions: Mapping[str, Mapping[str, tuple[str, ...]]]
    """By operator and key."""

    @property
    def allows(self) -> bool:
        return self.effect == "Allow"

    def names_action(self, action: str) -> bool:
        """Return whether the statement surely is about an action."""
        patterns = self.not_actions or self.actions
        found = any(matches(pattern.lower(), action.lower()) for pattern in patterns)
        return not found if self.not_actions else found

    def may_name_action(self, action: str) -> bool | None:
        """Return whether the statement is about an action; None if unknown names decide."""
        patterns = self.not_actions or self.actions
        found = any_of(covers(pattern.lower(), action.lower()) for pattern in patterns)
        return negated(found) if self.not_actions else found


def statements(document: Value) -> list[Statement]:
    """Return the statements of a policy document, written as an object or as JSON text."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except json.JSONDecodeError:
            return []
    return [_statement(mapping(entry)) for entry in items(mapping(document).get("Statement"))]


def _statement(entry: Mapping[str, Value]) -> Statement:
    def principals(name: str) -> dict[str, tuple[str, ...]]:
        principal = entry.get(name)
        found = mapping(principal) or ({"*": principal} if principal is not None else {})
        return {kind: _texts(names) for kind, names in found.items()}

    return Statement(
        effect=text(entry.get("Effect")),
        actions=_texts(entry.get("Action")),
        not_actions=_texts(entry.get("NotAction")),
        resources=_texts(entry.get("Resource")),
        not_resources=_texts(entry.get("NotResource")),
        principals=principals("Principal"),
        not_principals=principals("NotPrincipal"),
        conditions={
            operator: {key: _texts(values) for key, values in mapping(keys).items()}
            for operator, keys in mapping(entry.get("Condition")).items()
        },
    )


def _texts(value: Value) -> tuple[str, ...]:
    return tuple(map(plain, items(value)))


class Policies:
    """The roles in the templates, with their policies."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._roles = templates.of("AWS::IAM::Role")
        self._statements: dict[Resource, list[Statement]] = {}

    def role(self, value: Value) -> Resource | None:
        """Return the role that a value names (reference, ARN or name); None if not in the templates."""
        if isinstance(value, Target):
            return value.resource if value.resource in self._roles else None
        name = text(value).rpartition("/")[2]
        return next((role for role in self._roles if name and _has_name(role, name)), None)

    def of_role(self, role: Resource) -> list[Statement]:
        """Return the statements of every policy of a role that the templates contain."""
        if role not in self._statements:
            documents = [at(entry, "PolicyDocument") for entry in items(role.properties.get("Policies"))]
            documents += [policy.properties.get("PolicyDocument") for policy in self._attached(role)]
            self._statements[role] = [one for document in documents for one in statements(document)]
        return self._statements[role]

    def managed(self, role: Resource) -> list[str]:
        """Return the ARNs of a role's managed policies that are not in the templates."""
        arns = items(role.properties.get("ManagedPolicyArns"))
        return [plain(arn) for arn in arns if not isinstance(arn, Target)]

    def _attached(self, role: Resource) -> Iterator[Resource]:
        for policy in self._templates.of(
            "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy", "AWS::IAM::RolePolicy"
        ):
            holders = items(policy.properties.get("Roles")) or items(policy.properties.get("RoleName"))
            if any(self.role(holder) is role for holder in holders):
                yield policy
        for arn in items(role.properties.get("ManagedPolicyArns")):
            if isinstance(arn, Target):
                yield arn.resource


def _has_name(role: Resource, name: str) -> bool:
    own = role.properties.get("RoleName")
    return own is not None and is_known(own) and text(own) == name


def trusted_services(role: Resource) -> list[str]:
    """Return the services that may use a role."""
    trust = role.properties.get("AssumeRolePolicyDocument")
    return [
        text(service)
        for statement in items(at(trust, "Statement"))
        for service in items(at(statement, "Principal", "Service"))
    ]


# --- names of resources -----------------------------------------------------------------------------------
_SHORTENED = 24
"""Characters of a stack's name that CloudFormation surely keeps in a generated name."""
_ARNS = {
    "AWS::CloudTrail::Trail": ("TrailName", "cloudtrail", "trail/{name}"),
    "AWS::DynamoDB::Table": ("TableName", "dynamodb", "table/{name}"),
    "AWS::ECR::Repository": ("RepositoryName", "ecr", "repository/{name}"),
    "AWS::KMS::Key": ("", "kms", "key/{name}"),
    "AWS::Lambda::Function": ("FunctionName", "lambda", "function:{name}"),
    "AWS::Logs::LogGroup": ("LogGroupName", "logs", "log-group:{name}"),
    "AWS::SNS::Topic": ("TopicName", "sns", "{name}"),
    "AWS::SQS::Queue": ("QueueName", "sqs", "{name}"),
    "AWS::SageMaker::Endpoint": ("EndpointName", "sagemaker", "endpoint/{name}"),
    "AWS::SecretsManager::Secret": ("Name", "secretsmanager", "secret:{name}-${{six signs}}"),
}
"""Type = the property with its name, its service, and the last part of its ARN."""


def plain(value: Value) -> str:
    """Return a value as text in which one resource has one name, however it is referred to.

    A resource's generated name is written ``<stack.logical id>``, an unknown part ``${…}``.
    """
    if isinstance(value, Joined):
        return "".join(map(plain, value.parts))
    if not isinstance(value, Target):
        return text(value)
    resource = value.resource
    label = f"<{resource.template.name}.{resource.logical_id}>"
    if resource.type != BUCKET:
        return label if value.attribute in ("Ref", "Arn") else f"{label}.{value.attribute}"
    name = resource.properties.get("BucketName")
    own = plain(name) if name is not None else label
    return f"arn:aws:s3:::{own}" if value.attribute == "Arn" else own


def spellings(resource: Resource) -> tuple[str, ...]:
    """Return every way in which policies may name a resource: by reference, and by its ARN."""
    return plain(Target(resource, "Arn")), _arn(resource) or f"arn:${{ARN of {resource.logical_id}}}"


def _arn(resource: Resource) -> str | None:
    """Return a resource's ARN with ``${…}`` for generated parts; None for an unknown type."""
    if resource.type == "AWS::IAM::Role":
        path = plain(resource.properties.get("Path")) or "/"
        return f"arn:aws:iam::{resource.account}:role{path}{_name(resource, 'RoleName')}"
    if resource.type not in _ARNS:
        return None
    property_, service, form = _ARNS[resource.type]
    name = form.format(name=_name(resource, property_))
    return f"arn:aws:{service}:{resource.region}:{resource.account}:{name}"


def _name(resource: Resource, property_: str) -> str:
    own = resource.properties.get(property_)
    if own is not None:
        return plain(own)
    stack = resource.template.name if resource.template.is_named else ""
    if resource.type == "AWS::Logs::LogGroup" and stack:  # up to 512 characters: nothing is cut
        return f"{stack}-{resource.logical_id}-${{made up}}"
    return f"{stack[:_SHORTENED]}{MADE_UP}{resource.logical_id}}}"


def bucket_and_key(uri: Value) -> tuple[str, str]:
    """Return bucket and key of ``s3://bucket/key``, an HTTPS address of S3, or an ARN, as ``plain`` writes
    them."""
    address = plain(uri).removeprefix("arn:aws:s3:::").removeprefix("s3://")
    if address.startswith("https://"):
        host, _, path = address.removeprefix("https://").partition("/")
        address = path if host.startswith("s3") else f"{host.split('.s3')[0]}/{path}"
    bucket, _, key = address.partition("/")
    return bucket, key


def objects_in(bucket: str, prefix: str) -> str:
    """Return the ARN of all objects under a prefix of a bucket."""
    return f"arn:aws:s3:::{bucket}/{prefix.rstrip('/') + '/' if prefix else ''}*"


def key_named(templates: Templates, value: Value) -> Resource | None:
    """Return the KMS key that a value names, itself or by an alias; None if it is not in the templates."""
    if isinstance(value, Target):
        if value.resource.type == "AWS::KMS::Alias":
            return key_named(templates, value.resource.properties.get("TargetKeyId"))
        return value.resource if value.resource.type == "AWS::KMS::Key" else None
    for key in templates.of("AWS::KMS::Key"):  # an ARN made of parts
        if text(value) and plain(value).endswith(f":key/{plain(Target(key))}"):
            return key
    for alias in templates.of("AWS::KMS::Alias"):
        name = text(alias.properties.get("AliasName"))
        if name and text(value).endswith(name):
            return key_named(templates, alias.properties.get("TargetKeyId"))
    return None


def is_aws_managed_key(value: Value) -> bool:
    """Return whether a value names a key that AWS manages (``alias/aws/s3``)."""
    return "alias/aws/" in text(value)
