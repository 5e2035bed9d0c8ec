"""ARNs of resources, as far as templates tell them."""

from __future__ import annotations

from template_checks.patterns import MADE_UP
from template_checks.policies import plain
from template_checks.templates import Resource
from template_checks.values import Target

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
