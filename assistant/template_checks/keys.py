"""KMS keys, as references in templates lead to them, and what their policies say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant.template_checks.policies import plain, statements
from assistant.template_checks.values import Target, Value, text

if TYPE_CHECKING:
    from assistant.template_checks.mistakes.mistake import Deployment
    from assistant.template_checks.templates import Resource, Templates


def key_named(templates: Templates, value: Value) -> Resource | None:
    """Return the key that a value names, itself or by an alias; None where it is not in the templates."""
    if isinstance(value, Target):
        if value.resource.type == "AWS::KMS::Alias":
            return key_named(templates, value.resource.properties.get("TargetKeyId"))
        return value.resource if value.resource.type == "AWS::KMS::Key" else None
    for alias in templates.of("AWS::KMS::Alias"):
        name = text(alias.properties.get("AliasName"))
        if name and text(value).endswith(name):
            return key_named(templates, alias.properties.get("TargetKeyId"))
    return None


def key_policy_lets(deployment: Deployment, value: Value, role: Resource, action: str) -> bool:
    """Return whether a key's own policy names a role for an action."""
    key = key_named(deployment.templates, value)
    names = {plain(Target(role, "Arn")), plain(role.properties.get("RoleName")) or "\0"}
    return key is not None and any(
        statement.allows
        and statement.names_action(action)
        and any(
            name in names or name.rpartition("/")[2] in names for name in statement.principals.get("AWS", ())
        )
        for statement in statements(key.properties.get("KeyPolicy"))
    )


def key_policy_lets_service(key: Resource, service: str, action: str) -> bool:
    """Return whether a key's policy lets a service principal call an action."""
    return any(
        statement.allows
        and statement.names_action(action)
        and any(name in (service, "*") for name in statement.principals.get("Service", ()))
        for statement in statements(key.properties.get("KeyPolicy"))
    )
