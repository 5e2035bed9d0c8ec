"""The policies in templates: their statements, and which of them a role has.

What statements come to for a request is decided in ``permissions``."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from template_checks.conditions import MADE_UP, any_of, covers, matches, negated
from template_checks.templates import Resource, Templates
from template_checks.values import Joined, Target, Value, is_known, items, mapping, text

if TYPE_CHECKING:
    from template_checks.templates import Resource, Templates


BUCKET = "AWS::S3::Bucket"


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """One statement; resources as ``plain`` writes them."""

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
        """Return whether the statement is about an action."""
        if self.not_actions:
            return not any(matches(pattern.lower(), action.lower()) for pattern in self.not_actions)
        return any(matches(pattern.lower(), action.lower()) for pattern in self.actions)

    def may_name_action(self, action: str) -> bool | None:
        """Return whether the statement is about an action; None where names that are not known decide."""
        if self.not_actions:
            return negated(any_of(covers(pattern.lower(), action.lower()) for pattern in self.not_actions))
        return any_of(covers(pattern.lower(), action.lower()) for pattern in self.actions)

    def names_resource(self, resource: str) -> bool | None:
        """Return whether the statement is about a resource; None where names that are not known decide."""
        if self.not_resources:
            return negated(any_of(covers(pattern, resource) for pattern in self.not_resources))
        return any_of(covers(pattern, resource) for pattern in self.resources or ("*",))


def statements(document: Value) -> list[Statement]:
    """Return the statements of a policy document, written as an object or as JSON text."""
    if isinstance(document, str):
        try:
            document = json.loads(document)
        except json.JSONDecodeError:
            return []
    return [_statement(mapping(entry)) for entry in items(mapping(document).get("Statement"))]


def _statement(entry: Mapping[str, Value]) -> Statement:
    def texts(name: str) -> tuple[str, ...]:
        return tuple(plain(item) for item in items(entry.get(name)))

    def kinds(name: str) -> dict[str, tuple[str, ...]]:
        principal = entry.get(name)
        found = mapping(principal) or ({"*": principal} if principal is not None else {})
        return {kind: tuple(map(plain, items(names))) for kind, names in found.items()}

    return Statement(
        effect=text(entry.get("Effect")),
        actions=texts("Action"),
        not_actions=texts("NotAction"),
        resources=texts("Resource"),
        not_resources=texts("NotResource"),
        principals=kinds("Principal"),
        not_principals=kinds("NotPrincipal"),
        conditions={
            operator: {key: tuple(map(plain, items(values))) for key, values in mapping(keys).items()}
            for operator, keys in mapping(entry.get("Condition")).items()
        },
    )


class Policies:
    """Who may do what, by the policies in the templates."""

    def __init__(self, templates: Templates) -> None:
        self._templates = templates
        self._roles = templates.of("AWS::IAM::Role")
        self._statements: dict[Resource, list[Statement]] = {}

    def role(self, value: Value) -> Resource | None:
        """Return the role that a value names, by reference, ARN or name."""
        if isinstance(value, Target):
            return value.resource if value.resource in self._roles else None
        name = text(value).rpartition("/")[2]
        return next((role for role in self._roles if name and _named(role, "RoleName", name)), None)

    def of_role(self, role: Resource) -> list[Statement]:
        """Return the statements of every policy of a role that the templates hold."""
        if role not in self._statements:
            self._statements[role] = self._read(role)
        return self._statements[role]

    def _read(self, role: Resource) -> list[Statement]:
        documents = [mapping(entry).get("PolicyDocument") for entry in items(role.properties.get("Policies"))]
        for policy in self._attached(role):
            documents.append(policy.properties.get("PolicyDocument"))
        return [statement for document in documents for statement in statements(document)]

    def managed(self, role: Resource) -> list[str]:
        """Return the ARNs of managed policies that the templates do not hold."""
        return [
            plain(arn)
            for arn in items(role.properties.get("ManagedPolicyArns"))
            if not isinstance(arn, Target)
        ]

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


def _named(resource: Resource, property_: str, name: str) -> bool:
    own = resource.properties.get(property_)
    return own is not None and is_known(own) and text(own) == name


def plain(value: Value) -> str:
    """Return a value as text in which one bucket has one name however it is referred to.

    A resource's generated name stands as ``<stack.logical id>``, what is unknown as ``${…}``.
    """
    if isinstance(value, Joined):
        return "".join(map(plain, value.parts))
    if isinstance(value, Target):
        return _plain_target(value)
    return text(value)


def _plain_target(target: Target) -> str:
    resource = target.resource
    label = f"<{resource.template.name}.{resource.logical_id}>"
    if resource.type != BUCKET:
        return label if target.attribute in ("Ref", "Arn") else f"{label}.{target.attribute}"
    name = resource.properties.get("BucketName")
    own = plain(name) if name is not None else label
    return f"arn:aws:s3:::{own}" if target.attribute == "Arn" else own


def bucket_and_key(uri: Value) -> tuple[str, str]:
    """Return bucket and key of ``s3://bucket/key`` (or an HTTPS address of S3), as ``plain`` writes them."""
    address = plain(uri).removeprefix("s3://")
    if address.startswith("https://"):
        host, _, path = address.removeprefix("https://").partition("/")
        address = path if host.startswith("s3") else f"{host.split('.s3')[0]}/{path}"
    bucket, _, key = address.partition("/")
    return bucket, key


# ARNs of resources, as far as templates tell them.


_SHORTENED = 24
"""Signs of a stack's name that CloudFormation surely keeps in a name it makes up."""
_FORMS = {
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


def spellings(resource: Resource) -> tuple[str, ...]:
    """Return every way in which policies may name a resource: by reference, and by its ARN."""
    return plain(Target(resource, "Arn")), arn_of(resource) or f"arn:${{ARN of {resource.logical_id}}}"


def arn_of(resource: Resource) -> str | None:
    """Return a resource's ARN with ``${…}`` for what AWS makes up; None for a type that is not known here."""
    if resource.type == "AWS::IAM::Role":
        path = plain(resource.properties.get("Path")) or "/"
        return f"arn:aws:iam::{resource.account}:role{path}{_name(resource, 'RoleName')}"
    if resource.type not in _FORMS:
        return None
    property_, service, form = _FORMS[resource.type]
    name = form.format(name=_name(resource, property_))
    return f"arn:aws:{service}:{resource.region}:{resource.account}:{name}"


def _name(resource: Resource, property_: str) -> str:
    own = resource.properties.get(property_)
    if own is not None:
        return plain(own)
    stack = resource.template.name if resource.template.is_named else ""
    if resource.type == "AWS::Logs::LogGroup" and stack:  # up to 512 signs: nothing is cut
        return f"{stack}-{resource.logical_id}-${{made up}}"
    return f"{stack[:_SHORTENED]}{MADE_UP}{resource.logical_id}}}"


# KMS keys, as references in templates lead to them.


def key_named(templates: Templates, value: Value) -> Resource | None:
    """Return the key that a value names, itself or by an alias; None where it is not in the templates."""
    if isinstance(value, Target):
        if value.resource.type == "AWS::KMS::Alias":
            return key_named(templates, value.resource.properties.get("TargetKeyId"))
        return value.resource if value.resource.type == "AWS::KMS::Key" else None
    for key in templates.of("AWS::KMS::Key"):  # an ARN that is put together
        label = plain(Target(key, "Ref"))
        if text(value) and plain(value).endswith(f":key/{label}"):
            return key
    for alias in templates.of("AWS::KMS::Alias"):
        name = text(alias.properties.get("AliasName"))
        if name and text(value).endswith(name):
            return key_named(templates, alias.properties.get("TargetKeyId"))
    return None


def is_of_aws(value: Value) -> bool:
    """Return whether a value names a key that AWS manages (``alias/aws/s3``), which its account may use."""
    return "alias/aws/" in text(value)
