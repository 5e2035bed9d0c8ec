"""KMS keys, as references in templates lead to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from template_checks.policies import plain
from template_checks.values import Target, Value, text

if TYPE_CHECKING:
    from template_checks.templates import Resource, Templates


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
