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


def spellings(role: Resource) -> tuple[str, str]:
    """Return every way in which policies may name a role: by reference, and by its ARN."""
    path = plain(role.properties.get("Path")) or "/"
    name = plain(role.properties.get("RoleName"))
    name = name or f"{role.template.name[:_SHORTENED]}{MADE_UP}{role.logical_id}}}"
    return plain(Target(role, "Arn")), f"arn:aws:iam::{role.account}:role{path}{name}"
